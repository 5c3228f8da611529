//! Who comes back after thousands of entries, or comes for the first time, takes the state of the others, while they go
//! on, and not their log.

use crate::{
    failover::{Log, write},
    harness::{Dice, eventually, run},
    person::{Person, token},
};
use codec::DecodeAll;
use phala_client::{Account, Call};
use phala_devnet::{Config, Devnet};
use phala_primitives::{AccountId, ClusterPolicy};
use std::time::{Duration, Instant};

/// Entries after which a newcomer takes the state.
const FAR: u64 = 2048;

/// Whether a worker's log holds the first entry of its cluster.
async fn holds_the_first_entry(url: &str) -> bool {
    let answer = reqwest::get(format!("{url}/v1/entries?from=1&to=2")).await.unwrap();
    let entries = Vec::<Vec<u8>>::decode_all(&mut &*answer.bytes().await.unwrap()).unwrap();
    !entries.is_empty()
}

#[test]
fn newcomers_take_the_state_and_not_the_log() {
    run(Duration::from_secs(240), async {
        let mut dice = Dice::new();
        let mut net = Devnet::start(Config { spare: 1, ..Config::default() }, |_| ()).await.unwrap();
        let alice = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let chain = alice.cluster.chain().clone();
        let token = alice.deploy_token(1_000_000).await;
        let away = net.kill_worker(1).unwrap();
        let writers: Vec<(AccountId, Log)> = (0..6).map(|_| (AccountId(dice.bytes()), Log::default())).collect();
        let mut tasks = vec![];
        for (to, log) in &writers {
            let person = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
            tasks.push(tokio::spawn(write(person.cluster.contract(token.address()), *to, log.clone())));
        }
        eventually("the chain to have seen thousands of entries", Duration::from_secs(120), || async {
            let record = chain.cluster(0).await.unwrap().unwrap();
            (record.checkpoint.anchor.height > FAR + 200).then_some(())
        })
        .await;

        // It was away for so long; its disk holds an older state.
        let begin = Instant::now();
        assert_eq!(net.restart_worker(1).await.unwrap(), away);
        println!("back {:.1} s after its start", begin.elapsed().as_secs_f64());
        let urls = net.worker_urls();
        assert!(!holds_the_first_entry(&urls[1]).await, "it executed the whole log");
        assert!(holds_the_first_entry(&urls[0]).await);

        // It has nothing.
        let policy = ClusterPolicy { replace_ms: 5_000, ..ClusterPolicy::DEFAULT };
        let creator = Account::from_suri("//Worker//0").unwrap();
        chain.submit(&creator, &Call::set_policy(0, &policy)).await.unwrap();
        let dead = net.kill_worker(2).unwrap();
        let killed = Instant::now();
        eventually("another in its place", Duration::from_secs(90), || async {
            let record = chain.cluster(0).await.unwrap().unwrap();
            record.members.iter().all(|member| member.worker != dead).then_some(())
        })
        .await;
        println!("replaced {:.1} s after its death", killed.elapsed().as_secs_f64());
        eventually("it serves", Duration::from_secs(30), || async {
            reqwest::get(format!("{}/readyz", urls[4])).await.ok().filter(|answer| answer.status().is_success())
        })
        .await;
        assert!(!holds_the_first_entry(&urls[4]).await, "it executed the whole log");

        // Both are needed now, and right.
        net.kill_worker(0).unwrap();
        let before: Vec<usize> = writers.iter().map(|(_, log)| log.lock().unwrap().len()).collect();
        eventually("more writes by all", Duration::from_secs(40), || async {
            let mut pairs = writers.iter().zip(&before);
            pairs.all(|((_, log), before)| log.lock().unwrap().len() >= before + 20).then_some(())
        })
        .await;
        for task in tasks {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled(), "a writer failed");
        }
        for (to, log) in &writers {
            let (balance, acknowledged) = (token::balance(&token, to).await, log.lock().unwrap().len() as u128);
            // One may have been under way when its writer was stopped.
            assert!(
                (acknowledged..=acknowledged + 1).contains(&balance),
                "{acknowledged} acknowledged, {balance} there"
            );
        }
        net.stop().await;
    });
}

//! Each worker in turn dies and starts anew, while people write and read: the others finish the epoch without it, and it
//! votes again in the next one.

use crate::{
    failover::{Log, longest_gap, write},
    harness::{Dice, eventually, run},
    person::{Person, token},
};
use phala_devnet::{Config, Devnet};
use phala_primitives::AccountId;
use std::time::{Duration, Instant};

/// Longest time without a write while an epoch ends and the next begins, on a machine that is busy with other things.
const PAUSE: Duration = Duration::from_secs(15);

#[test]
fn workers_start_anew_one_after_the_other_and_nothing_is_lost() {
    run(Duration::from_secs(240), async {
        let mut dice = Dice::new();
        let mut net = Devnet::start(Config::default(), |_| ()).await.unwrap();
        let alice = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let token = alice.deploy_token(1_000_000).await;
        let writers: Vec<(AccountId, Log)> = (0..4).map(|_| (AccountId(dice.bytes()), Log::default())).collect();
        let mut tasks = vec![];
        for (index, (to, log)) in writers.iter().enumerate() {
            let person = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
            person.cluster.prefer(index);
            tasks.push(tokio::spawn(write(person.cluster.contract(token.address()), *to, log.clone())));
        }
        let count = |log: &Log| log.lock().unwrap().len();
        let more = |by: usize| {
            let before: Vec<usize> = writers.iter().map(|(_, log)| count(log)).collect();
            let writers = &writers;
            async move {
                eventually("more writes by all", Duration::from_secs(40), || async {
                    let mut pairs = writers.iter().zip(&before);
                    pairs.all(|((_, log), before)| count(log) >= before + by).then_some(())
                })
                .await;
            }
        };
        more(10).await;
        let early = alice.cluster.query(token.address(), token::balance_of(&writers[0].0)).await.unwrap().receipt;
        let begin = Instant::now();
        for index in 0..4 {
            net.kill_worker(index).unwrap();
            more(10).await;
            let started = Instant::now();
            net.restart_worker(index).await.unwrap();
            println!("worker {index} serves {:.2} s after its start", started.elapsed().as_secs_f64());
            more(10).await;
        }
        // Twice in a row: the second start waits for an epoch that is planned while the first one's begins.
        net.restart_worker(1).await.unwrap();
        net.restart_worker(1).await.unwrap();
        more(10).await;
        // Without the last one that restarted, and with all that did before: they vote.
        net.kill_worker(3).unwrap();
        more(10).await;
        // What was answered six epochs ago is in the history that the chain was shown.
        let anchored = alice.cluster.anchor(&early).await.unwrap();
        println!("entry {} is below {:?}", early.claim.height, anchored.checkpoint);
        assert!(anchored.checkpoint.epoch >= early.claim.epoch + 5);
        for task in tasks {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled(), "a writer failed");
        }
        let gap = writers.iter().map(|(_, log)| longest_gap(&log.lock().unwrap(), begin)).max().unwrap();
        println!("no writer waited longer than {:.2} s", gap.as_secs_f64());
        assert!(gap < PAUSE);
        for (to, log) in &writers {
            let balance = token::balance(&token, to).await;
            let acknowledged = count(log) as u128;
            // One may have been under way when its writer was stopped.
            assert!(
                (acknowledged..=acknowledged + 1).contains(&balance),
                "{acknowledged} acknowledged, {balance} there"
            );
        }
        net.stop().await;
    });
}

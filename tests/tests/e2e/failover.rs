//! One of four workers dies: everyone goes on writing, also whoever was talking to it. A worker that is there but says
//! nothing is passed over. A second one dies: nothing is acknowledged that the cluster cannot decide.

use crate::{
    harness::{Dice, eventually, run},
    person::{GAS, Person, outcome, token},
};
use phala_client::{Action, Contract};
use phala_devnet::{Config, Devnet};
use phala_primitives::AccountId;
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::net::TcpListener;

const WRITERS: usize = 8;
/// What a writer may lose on a machine that is busy with other things. Waiting for an answer that never comes would
/// take ten seconds.
const PAUSE: Duration = Duration::from_secs(5);

/// When writes were acknowledged, and by whom.
pub(crate) type Log = Arc<Mutex<Vec<(Instant, AccountId)>>>;

pub(crate) async fn write(token: Contract, to: AccountId, log: Log) {
    let cluster = token.cluster().clone();
    loop {
        let command = cluster.sign(Action::Call { contract: token.address(), data: token::transfer(&to, 1) }, GAS);
        let executed = cluster.send(&command).await.unwrap();
        let worker = executed.worker;
        assert!(token::transferred(&outcome(executed).unwrap()));
        log.lock().unwrap().push((Instant::now(), worker));
    }
}

/// Longest time without an acknowledgement, from `begin` on.
pub(crate) fn longest_gap(log: &[(Instant, AccountId)], begin: Instant) -> Duration {
    let mut last = begin;
    let mut longest = Duration::ZERO;
    for (time, _) in log.iter().filter(|(time, _)| *time > begin) {
        longest = longest.max(*time - last);
        last = *time;
    }
    longest.max(last.elapsed())
}

#[test]
fn a_killed_worker_stops_nobody() {
    run(Duration::from_secs(120), async {
        let mut dice = Dice::new();
        let mut net = Devnet::start(Config::default(), |_| ()).await.unwrap();
        let alice = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let token = alice.deploy_token(1_000_000).await;
        let writers: Vec<(AccountId, Log)> = (0..WRITERS).map(|_| (AccountId(dice.bytes()), Log::default())).collect();
        let mut tasks = vec![];
        for (index, (to, log)) in writers.iter().enumerate() {
            // Two at each worker.
            let person = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
            person.cluster.prefer(index);
            tasks.push(tokio::spawn(write(person.cluster.contract(token.address()), *to, log.clone())));
        }
        let count = |log: &Log| log.lock().unwrap().len();
        eventually("writes by all", Duration::from_secs(20), || async {
            writers.iter().all(|(_, log)| count(log) >= 20).then_some(())
        })
        .await;
        // The leader, which somebody is talking to.
        let (victim, account) = net.leader().unwrap();
        let there = |log: &Log| log.lock().unwrap().last().unwrap().1 == account;
        assert!(writers.iter().any(|(_, log)| there(log)), "nobody writes through the leader");
        let address = net.worker_urls()[victim].strip_prefix("http://").unwrap().to_owned();
        let killed = Instant::now();
        net.kill_worker(victim).unwrap();
        let before: Vec<usize> = writers.iter().map(|(_, log)| count(log)).collect();
        eventually("20 more writes by each", Duration::from_secs(20), || async {
            writers.iter().zip(&before).all(|((_, log), before)| count(log) >= before + 20).then_some(())
        })
        .await;
        let gaps: Vec<Duration> = writers.iter().map(|(_, log)| longest_gap(&log.lock().unwrap(), killed)).collect();
        let mut all: Vec<_> = writers.iter().flat_map(|(_, log)| log.lock().unwrap().clone()).collect();
        all.sort();
        let gap = longest_gap(&all, killed);
        let slowest = gaps.iter().max().unwrap();
        println!("leader {victim} killed: the cluster paused {gap:?}, the slowest writer {slowest:?}");
        for task in &tasks {
            task.abort();
        }
        for task in tasks {
            assert!(task.await.unwrap_err().is_cancelled(), "a writer failed");
        }
        assert!(*slowest < PAUSE, "{gaps:?}");
        for (to, log) in &writers {
            let (there, acknowledged) = (token::balance(&token, to).await, count(log) as u128);
            // One more may be under way.
            assert!((acknowledged..=acknowledged + 1).contains(&there), "{acknowledged} acknowledged, {there} there");
        }

        // Something answers at its address, but never says a word.
        let silent = TcpListener::bind(&address).await.unwrap();
        let silence = tokio::spawn(async move {
            let mut held = vec![];
            while let Ok((stream, _)) = silent.accept().await {
                held.push(stream);
            }
        });
        let late = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let token = late.cluster.contract(token.address());
        late.cluster.prefer(late.cluster.replicas().iter().position(|replica| replica.worker == account).unwrap());
        let asked = Instant::now();
        token::balance(&token, &writers[0].0).await;
        let waited = asked.elapsed();
        println!("a query passed the silent worker over after {waited:?}");
        assert!(waited < PAUSE);
        silence.abort();

        // Two of four cannot decide anything. Whatever they say, they do not say that it is done.
        net.kill_worker((victim + 1) % 4).unwrap();
        let call = token.call(token::transfer(&AccountId(dice.bytes()), 1), GAS);
        let answer = tokio::time::timeout(Duration::from_secs(4), call).await;
        assert!(!matches!(answer, Ok(Ok(_))), "acknowledged without a quorum");
        tokio::time::timeout(Duration::from_secs(30), net.stop()).await.expect("the rest stops in order");
    });
}

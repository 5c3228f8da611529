//! One of four workers dies: writes go on. A second dies: nothing is acknowledged that the cluster cannot decide.

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

const WRITERS: usize = 4;

/// When writes were acknowledged.
type Log = Arc<Mutex<Vec<Instant>>>;

async fn write(token: Contract, to: AccountId, log: Log) {
    let cluster = token.cluster().clone();
    loop {
        let command = cluster.sign(Action::Call { contract: token.address(), data: token::transfer(&to, 1) }, GAS);
        let executed = cluster.send(&command).await.unwrap();
        assert!(token::transferred(&outcome(executed).unwrap()));
        log.lock().unwrap().push(Instant::now());
    }
}

/// Longest time without an acknowledgement, from `begin` on.
fn longest_gap(log: &[Instant], begin: Instant) -> Duration {
    let mut last = begin;
    let mut longest = Duration::ZERO;
    for time in log.iter().filter(|time| **time > begin) {
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
        for (to, log) in &writers {
            // Each with its own idea of which replica to ask.
            let person = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
            tasks.push(tokio::spawn(write(person.cluster.contract(token.address()), *to, log.clone())));
        }
        let count = |log: &Log| log.lock().unwrap().len();
        eventually("writes by all", Duration::from_secs(20), || async {
            writers.iter().all(|(_, log)| count(log) >= 20).then_some(())
        })
        .await;
        let victim = dice.below(4) as usize;
        let killed = Instant::now();
        net.kill_worker(victim).unwrap();
        let before: Vec<usize> = writers.iter().map(|(_, log)| count(log)).collect();
        eventually("20 more writes by each", Duration::from_secs(20), || async {
            writers.iter().zip(&before).all(|((_, log), before)| count(log) >= before + 20).then_some(())
        })
        .await;
        let gaps: Vec<Duration> = writers.iter().map(|(_, log)| longest_gap(&log.lock().unwrap(), killed)).collect();
        let mut all: Vec<Instant> = writers.iter().flat_map(|(_, log)| log.lock().unwrap().clone()).collect();
        all.sort();
        let gap = longest_gap(&all, killed);
        let verdict = if gap < Duration::from_secs(1) { "within" } else { "NOT within" };
        println!("worker {victim} killed: the cluster paused {gap:?}, {verdict} 1 s; each writer at most {gaps:?}");
        for task in &tasks {
            task.abort();
        }
        for task in tasks {
            assert!(task.await.unwrap_err().is_cancelled(), "a writer failed");
        }
        assert!(gap < Duration::from_secs(5), "{gap:?}");
        for (to, log) in &writers {
            let (there, acknowledged) = (token::balance(&token, to).await, count(log) as u128);
            // One more may be under way.
            assert!((acknowledged..=acknowledged + 1).contains(&there), "{acknowledged} acknowledged, {there} there");
        }

        // Two of four cannot decide anything. Whatever they say, they do not say that it is done.
        net.kill_worker((victim + 1) % 4).unwrap();
        let call = token.call(token::transfer(&AccountId(dice.bytes()), 1), GAS);
        let answer = tokio::time::timeout(Duration::from_secs(4), call).await;
        assert!(!matches!(answer, Ok(Ok(_))), "acknowledged without a quorum");
        tokio::time::timeout(Duration::from_secs(30), net.stop()).await.expect("the rest stops in order");
    });
}

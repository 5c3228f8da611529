//! Modules that are no contracts, and contracts that misbehave: each is told apart, and the network lives on.

use crate::{
    contracts::{self, input, probe},
    harness::{LOG, Net, run},
    person::{GAS, Person, code_of, flipper, outcome},
};
use futures::future::join_all;
use phala_client::{Contract, Session};
use phala_primitives::{Code, limits::MAX_CODE};
use std::time::{Duration, Instant};

#[test]
fn bad_contracts_harm_only_themselves() {
    run(Duration::from_secs(180), async {
        let base = tempfile::tempdir().unwrap();
        let mut net = Net::start(&base.path().join("net"), LOG);
        let alice = Person::at("Alice", &net).await;
        let good = alice.deploy_flipper().await;
        modules(&alice).await;
        let bad = alice.deploy(probe(), b"begin".to_vec()).await.unwrap();
        commands(&bad).await;
        queries(&bad).await;
        endless_queries(&alice, &good, &bad).await;
        // Every replica still executes, and comes to the same.
        assert!(net.lives());
        outcome(good.call(flipper::FLIP.to_vec(), GAS).await.unwrap()).unwrap();
        assert!(!flipper::bit(&good.query(flipper::GET.to_vec()).await.unwrap().output.data));
        for replica in alice.cluster.replicas() {
            let session = Session::open_at(&alice.cluster, &replica.worker).await.unwrap();
            let answer = session.query(good.address(), flipper::GET.to_vec()).await.unwrap();
            assert!(!flipper::bit(&answer.output.data), "{}", replica.worker);
        }
    });
}

async fn modules(alice: &Person) {
    let memory = r#"(import "env" "memory" (memory 2))"#;
    let exports = r#"(func (export "deploy")) (func (export "call"))"#;
    let wat = |text: String| wat::parse_str(text).unwrap();
    let whole = probe();
    let cases = [
        (
            "a bad import",
            wat(format!(r#"(module (import "seal9" "magic" (func)) {memory} {exports})"#)),
            Code::BadModule,
        ),
        ("a start function", wat(format!("(module {memory} {exports} (func $s) (start $s))")), Code::BadModule),
        ("no constructor", wat(format!(r#"(module {memory} (func (export "call")))"#)), Code::BadModule),
        (
            "too much memory for the cluster",
            wat(format!(r#"(module (import "env" "memory" (memory 1025)) {exports})"#)),
            Code::MemoryLimit,
        ),
        (
            "too much memory for any",
            wat(format!(r#"(module (import "env" "memory" (memory 16385)) {exports})"#)),
            Code::BadModule,
        ),
        ("half a module", whole[..whole.len() / 2].to_vec(), Code::BadModule),
        ("text", b"hello".to_vec(), Code::BadModule),
        ("a PolkaVM blob", b"PVM\0\x01\x02\x03\x04 of ink! 6".to_vec(), Code::Ink6),
        ("an ELF file", b"\x7fELF\x02\x01\x01 of ink! 6".to_vec(), Code::Ink6),
        ("too large", vec![0; MAX_CODE + 1], Code::CodeTooLarge),
    ];
    for (what, code, expected) in cases {
        assert_eq!(code_of(alice.deploy(code, vec![]).await), expected, "{what}");
    }
}

async fn send(contract: &Contract, data: Vec<u8>, gas: u64) -> Result<Vec<u8>, phala_primitives::Coded> {
    outcome(contract.call(data, gas).await?)
}

/// Failed commands have their own codes and leave nothing behind.
async fn commands(bad: &Contract) {
    send(bad, input(contracts::WRITE, b"kept"), GAS).await.unwrap();
    let cases = [
        ("a loop", input(contracts::LOOP, b""), 50_000_000, Code::OutOfGas),
        ("hardly any gas", input(contracts::WRITE, b"lost"), 10, Code::OutOfGas),
        ("a trap", input(contracts::TRAP, b""), GAS, Code::Trapped),
        ("recursion", input(contracts::RECURSE, b""), GAS, Code::Trapped),
        ("a panic after a message", input(contracts::SHOUT, b"help"), GAS, Code::Trapped),
        ("a revert after a write", input(contracts::REVERT, b"lost"), GAS, Code::Reverted),
        ("memory", input(contracts::GROW, b""), GAS, Code::MemoryLimit),
        ("a large value", input(contracts::STORE_TOO_MUCH, b""), GAS, Code::StorageLimit),
        ("a large answer", input(contracts::RETURN_TOO_MUCH, b""), 30_000_000, Code::OutOfGas),
    ];
    for (what, data, gas, expected) in cases {
        assert_eq!(code_of(send(bad, data, gas).await), expected, "{what} in a command");
        assert_eq!(bad.query(input(contracts::READ, b"")).await.unwrap().output.data, b"kept", "after {what}");
    }
    // Many at once: each executed once, whatever fails in between.
    let commands = (0..40u64).map(|i| async move {
        let what = if i % 2 == 0 { contracts::COUNT } else { contracts::TRAP };
        send(bad, input(what, b""), GAS).await.is_ok()
    });
    assert_eq!(join_all(commands).await.into_iter().filter(|done| *done).count(), 20);
    assert_eq!(bad.query(input(contracts::COUNTER, b"")).await.unwrap().output.data, 20u64.to_le_bytes());
}

async fn queries(bad: &Contract) {
    let cases = [
        ("a loop", input(contracts::LOOP, b""), Code::TimeLimit),
        ("a trap", input(contracts::TRAP, b""), Code::Trapped),
        ("recursion", input(contracts::RECURSE, b""), Code::Trapped),
        ("memory", input(contracts::GROW, b""), Code::MemoryLimit),
        ("a large value", input(contracts::STORE_TOO_MUCH, b""), Code::StorageLimit),
    ];
    for (what, data, expected) in cases {
        assert_eq!(code_of(bad.query(data).await), expected, "{what} in a query");
    }
    // A large answer costs a query nothing.
    let large = bad.query(input(contracts::RETURN_TOO_MUCH, b"")).await.unwrap();
    assert_eq!(large.output.data.len(), (1 << 20) + 1);
    // A query may pretend to write, and changes nothing.
    bad.query(input(contracts::WRITE, b"lost")).await.unwrap();
    assert_eq!(bad.query(input(contracts::READ, b"")).await.unwrap().output.data, b"kept");
}

/// While queries run without end on a replica, it goes on answering others.
async fn endless_queries(alice: &Person, good: &Contract, bad: &Contract) {
    let worker = alice.cluster.replicas()[0].worker;
    let session = std::sync::Arc::new(Session::open_at(&alice.cluster, &worker).await.unwrap());
    let endless: Vec<_> = (0..2)
        .map(|_| {
            let (session, contract) = (session.clone(), bad.address());
            tokio::spawn(async move { session.query(contract, input(contracts::LOOP, b"")).await })
        })
        .collect();
    let mut times = vec![];
    while !endless.iter().all(tokio::task::JoinHandle::is_finished) {
        let started = Instant::now();
        session.query(good.address(), flipper::GET.to_vec()).await.unwrap();
        times.push(started.elapsed());
    }
    for task in endless {
        assert_eq!(code_of(task.await.unwrap()), Code::TimeLimit);
    }
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{} queries beside two endless ones: median {median:?}, worst {worst:?}", times.len());
    assert!(times.len() >= 5, "the endless queries held up the others");
    assert!(median < Duration::from_millis(250) && worst < Duration::from_secs(2), "{median:?}, {worst:?}");
}

//! A contract that goes to another cluster while it is read and called, and while members of both die.

use crate::{
    harness::{LOG, Net, Shell, eventually, fixture, run},
    person::{GAS, Person, outcome},
};
use phala_client::Call;
use phala_devnet::{Config, Devnet};
use phala_primitives::{Code, PHA};
use serde_json::json;
use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

const MOVER: &str = include_str!("../../../contracts/fixtures/mover.wat");
/// What it keeps, and how much of it: some parts.
const VALUES: u32 = 20;
const LONG: usize = 48 << 10;
/// What adds one, and returns the sum.
const COUNT: [u8; 4] = [1, 2, 3, 4];
/// How long it may be on its way: some turns of members, two of whom are dead.
const UNDER_WAY: Duration = Duration::from_secs(120);
/// Longest time in which nobody could read it.
const BLIND: Duration = Duration::from_secs(4);

fn value(key: u32) -> Vec<u8> {
    (0..LONG).map(|at| (at as u32).wrapping_mul(key + 3) as u8).collect()
}

fn get(key: u32) -> Vec<u8> {
    [&[0xfc][..], &key.to_be_bytes()].concat()
}

#[test]
fn a_contract_moves_while_it_is_read_and_called_and_members_of_both_clusters_die() {
    run(Duration::from_secs(300), async {
        let mut net = Devnet::start(Config { clusters: 2, ..Config::default() }, |_| ()).await.unwrap();
        let alice = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let there = Person::with_cluster("Alice", &net.rpc_url(), net.genesis(), 1).await;
        let contract = alice.deploy(wat::parse_str(MOVER).unwrap(), vec![]).await.unwrap();
        for key in 0..VALUES {
            let set = [&[0xfd][..], &key.to_be_bytes(), &value(key)].concat();
            outcome(contract.call(set, GAS).await.unwrap()).unwrap();
        }
        let (chain, address) = (alice.cluster.chain().clone(), contract.address());
        chain.submit(&alice.account, &Call::deposit(0, &address, 5 * PHA)).await.unwrap();
        let owned = async |person: &Person| person.cluster.balance(address).await;
        eventually("money in the cluster", UNDER_WAY, || async { (owned(&alice).await == Ok(5 * PHA)).then_some(()) })
            .await;
        eventually("the mailbox", UNDER_WAY, || async { chain.mailbox(1).await.unwrap().map(drop) }).await;

        let (over, counted) = (AtomicBool::new(false), AtomicU64::new(0));
        let reader = contract.clone();
        let reading = async {
            let (mut last, mut blind, mut key) = (Instant::now(), Duration::ZERO, 0);
            while !over.load(Ordering::SeqCst) {
                let answered = reader.query(get(key)).await.unwrap();
                assert!(answered.output.data == value(key), "value {key} is another");
                blind = blind.max(last.elapsed());
                (last, key) = (Instant::now(), (key + 1) % VALUES);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            blind
        };
        let calling = async {
            let (mut last, mut waited) = (Instant::now(), Duration::ZERO);
            while !over.load(Ordering::SeqCst) {
                let output = outcome(contract.call(COUNT.to_vec(), GAS).await.unwrap()).unwrap();
                let sum = counted.fetch_add(1, Ordering::SeqCst) + 1;
                assert_eq!(output, sum.to_le_bytes(), "each call counts once");
                waited = waited.max(last.elapsed());
                last = Instant::now();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            waited
        };
        let moving = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            chain.submit(&alice.account, &Call::move_contract(&address, Some(1))).await.unwrap();
            [1, 5].map(|index| net.kill_worker(index).unwrap()).iter().for_each(drop);
            let begun = Instant::now();
            eventually("the contract in its new place", UNDER_WAY, || async {
                let there = chain.placed(&address).await.unwrap().cluster == 1;
                (there && chain.leaving(&address).await.unwrap().is_none()).then_some(())
            })
            .await;
            let before = counted.load(Ordering::SeqCst);
            eventually("calls there", UNDER_WAY, || async {
                (counted.load(Ordering::SeqCst) > before + 5).then_some(())
            })
            .await;
            over.store(true, Ordering::SeqCst);
            begun.elapsed()
        };
        let (blind, waited, took) = futures::join!(reading, calling, moving);
        eprintln!("moved in {took:?}; not read for {blind:?} at most, and not called for {waited:?}");
        assert!(blind < BLIND, "it could not be read for {blind:?}");
        assert_eq!(contract.home().id(), 1);
        assert_eq!(owned(&there).await, Ok(5 * PHA));
        let gone = alice.cluster.query(address, get(0)).await.map(drop);
        assert_eq!(gone.unwrap_err().known(), Some(Code::ContractMoved));
        net.stop().await;
    });
}

#[test]
fn a_person_moves_a_contract_and_finds_it_there() {
    run(Duration::from_secs(180), async {
        let base = tempfile::tempdir().unwrap();
        let net = Net::start_with(&base.path().join("net"), LOG, &["--clusters", "2", "--workers", "1"]);
        let shell = Shell::new(net.rpc());
        let bundle = fixture("flipper.contract");
        let deployed = shell.json(&["deploy", bundle.to_str().unwrap(), "new", "true", "--cluster", "0"]).await.done();
        let address = deployed["address"].as_str().unwrap().to_owned();
        let refused = shell.json(&["move", &address, "--to", "1", "--suri", "//Bob"]).await;
        assert_eq!(refused.code, 1, "{refused:?}");
        for (to, value) in [(1, false), (0, true)] {
            let moved = shell.json(&["move", &address, "--to", &to.to_string()]).await.done();
            assert_eq!(moved["cluster"], json!(to));
            let shown = shell.json(&["contract", &address]).await.done();
            assert_eq!((&shown["cluster"], &shown["moving_to"]), (&json!(to), &json!(null)));
            shell.json(&["send", &address, "flip"]).await.done();
            assert_eq!(shell.json(&["query", &address, "get"]).await.done()["result"], json!(value));
        }
    });
}

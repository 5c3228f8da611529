//! A log that is followed while workers die: every record comes, in order, once.

use crate::{
    harness::{eventually, run},
    later::{SOURCE, door},
    person::{GAS, Person, code_of, outcome},
};
use phala_client::Said;
use phala_devnet::{Config, Devnet};
use phala_primitives::Code;
use std::time::Duration;

const LINES: u64 = 120;

#[test]
fn a_follower_misses_nothing_when_its_worker_dies() {
    run(Duration::from_secs(180), async {
        let mut net = Devnet::start(Config::default(), |_| ()).await.unwrap();
        let alice = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let contract = alice.deploy(wat::parse_str(SOURCE).unwrap(), vec![]).await.unwrap();
        let mut follow = alice.cluster.follow(contract.address(), 0);
        let said = {
            let contract = contract.clone();
            tokio::spawn(async move {
                for number in 0..LINES {
                    let line = door(10, (3u8, format!("line {number}")));
                    outcome(contract.call(line, GAS).await.unwrap()).unwrap();
                }
            })
        };
        for number in 0..LINES {
            let record = follow.next().await.unwrap();
            let text = format!("line {number}");
            assert!(matches!(&record.said, Said::Line { text: found, .. } if *found == text), "{record:?}, not {text}");
            assert_eq!(record.number, number);
            if number == LINES / 3 {
                let worker = follow.worker().unwrap();
                let index = alice.cluster.replicas().iter().position(|replica| replica.worker == worker).unwrap();
                assert_eq!(net.kill_worker(index), Some(worker));
            }
        }
        said.await.unwrap();
        assert_eq!(follow.position(), LINES);

        // From the middle, as one who comes back; a stranger may not.
        let mut late = alice.cluster.follow(contract.address(), LINES - 5);
        assert_eq!(late.next().await.unwrap().number, LINES - 5);
        let eve = Person::new("Eve", &net.rpc_url(), net.genesis()).await;
        assert_eq!(code_of(eve.cluster.follow(contract.address(), 0).next().await), Code::LogDenied);

        // What queries say is with the replica that ran them, and one asks them all.
        let mut queries = alice.cluster.follow_queries(contract.address());
        let line = door(10, (3u8, "asked"));
        for _ in 0..8 {
            contract.query(line.clone()).await.unwrap();
        }
        for _ in 0..8 {
            let (_, record) = queries.next().await.unwrap();
            assert!(matches!(&record.said, Said::Line { text, .. } if text == "asked"), "{record:?}");
        }
        eventually("every line is also found by asking", Duration::from_secs(10), || async {
            let mut found = 0;
            for replica in alice.cluster.replicas() {
                let query = phala_client::LogQuery {
                    contract: contract.address(),
                    queries: true,
                    from: 0,
                    limit: 100,
                    wait_ms: 0,
                    min_height: 0,
                };
                found += alice.cluster.log_of(&replica.worker, &query).await.map_or(0, |page| page.records.len());
            }
            (found == 8).then_some(())
        })
        .await;
        net.stop().await;
    });
}

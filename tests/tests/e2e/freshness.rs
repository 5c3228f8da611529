//! How new an answer is: what was acknowledged to one person is in what another reads who insists, whichever replica is
//! asked; replicas that are asked to agree do, as long as there are enough.

use crate::{
    harness::{Dice, run},
    person::{GAS, Person, code_of, outcome, token},
};
use phala_client::{Cluster, Contract, Freshness};
use phala_devnet::{Config, Devnet};
use phala_primitives::{AccountId, Code, Hash, misbehaviour::QueryClaim};
use phala_session::QueryReceipt;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

const WRITES: u128 = 40;

#[test]
fn who_insists_reads_what_was_acknowledged_to_anyone() {
    run(Duration::from_secs(180), async {
        let mut dice = Dice::new();
        let mut net = Devnet::start(Config::default(), |_| ()).await.unwrap();
        let alice = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let token = alice.deploy_token(1_000_000).await;
        let to = AccountId(dice.bytes());
        let mut readers = vec![];
        for worker in 0..4 {
            let reader = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
            reader.cluster.prefer(worker);
            readers.push(reader);
        }
        let ask = async |reader: usize, freshness| {
            let cluster = &readers[reader].cluster;
            let answered = cluster.query_fresh(token.address(), token::balance_of(&to), 0, freshness).await?;
            Ok::<_, phala_primitives::Coded>(token::amount(&answered.output.data))
        };
        let (mut behind, mut took) = (0, Duration::ZERO);
        for write in 1..=WRITES {
            let executed = token.call(token::transfer(&to, 1), GAS).await.unwrap();
            assert!(token::transferred(&outcome(executed).unwrap()));
            // The readers know nothing of the writer.
            behind += u32::from(ask(write as usize % 4, Freshness::Any).await.unwrap() < write);
            let asked = Instant::now();
            assert_eq!(ask((write as usize + 1) % 4, Freshness::Linearizable).await.unwrap(), write);
            took += asked.elapsed();
        }
        println!(
            "{behind} of {WRITES} plain reads were behind; one that was not to be took {:?}",
            took / WRITES as u32
        );
        assert_eq!(ask(2, Freshness::Bounded(2_000)).await.unwrap(), WRITES);

        ties(&alice.cluster, &token, &to).await;

        let agree = async |members| {
            let answers = readers[0].cluster.query_quorum(token.address(), token::balance_of(&to), 0, members).await?;
            let mut workers: Vec<_> = answers.iter().map(|answered| answered.worker).collect();
            workers.sort();
            workers.dedup();
            assert!(answers.iter().all(|answered| token::amount(&answered.output.data) == WRITES));
            Ok::<_, phala_primitives::Coded>(workers.len())
        };
        let refused = async |members| agree(members).await.unwrap_err().known();
        assert_eq!(agree(4).await.unwrap(), 4);
        assert_eq!((refused(0).await, refused(5).await), (Some(Code::BadArgument), Some(Code::BadArgument)));
        net.kill_worker(3).unwrap();
        assert_eq!(agree(3).await.unwrap(), 3);
        assert_eq!(refused(4).await, Some(Code::NoReplica));

        // Two of four order nothing. They answer, but not to who insists.
        net.kill_worker(2).unwrap();
        assert_eq!(ask(0, Freshness::Any).await.unwrap(), WRITES);
        assert_eq!(ask(0, Freshness::Bounded(600_000)).await.unwrap(), WRITES);
        let (linear, bounded) = tokio::join!(ask(0, Freshness::Linearizable), ask(1, Freshness::Bounded(1)));
        assert!(linear.is_err() && bounded.is_err(), "{linear:?} {bounded:?}");
        net.stop().await;
    });
}

/// What is answered is in the history that the chain was shown, with the state that a quorum has; nothing else is.
async fn ties(cluster: &Arc<Cluster>, token: &Contract, to: &AccountId) {
    for _ in 0..10 {
        let receipt = cluster.query(token.address(), token::balance_of(to)).await.unwrap().receipt;
        let anchored = cluster.anchor(&receipt).await.unwrap();
        assert!(anchored.checkpoint.anchor.height >= receipt.claim.height, "{anchored:?}");
        let forged = [
            QueryClaim { entry: Hash([1; 32]), ..receipt.claim.clone() },
            QueryClaim { epoch: 1, ..receipt.claim.clone() },
            QueryClaim { height: receipt.claim.height + 1, ..receipt.claim.clone() },
        ];
        for claim in forged {
            assert_eq!(code_of(cluster.anchor(&QueryReceipt { claim, ..receipt }).await), Code::BadReceipt);
        }
        if anchored.confirmed.is_some() {
            let claim = QueryClaim { state_root: Hash([1; 32]), ..receipt.claim };
            assert_eq!(code_of(cluster.anchor(&QueryReceipt { claim, ..receipt }).await), Code::BadReceipt);
            return;
        }
    }
    panic!("no entry confirms a state");
}

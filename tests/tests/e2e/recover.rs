//! More members are gone than a cluster can do without: those left go on, with others in the free places.

use crate::{
    harness::{Dice, eventually, run},
    limits::set_policy,
    person::{GAS, Person, outcome, token},
};
use phala_devnet::{Config, Devnet};
use phala_primitives::{AccountId, ClusterPolicy};
use std::time::{Duration, Instant};

#[test]
fn those_left_recover_what_was_acknowledged() {
    run(Duration::from_secs(300), async {
        let mut dice = Dice::new();
        let mut net = Devnet::start(Config { spare: 2, ..Config::default() }, |_| ()).await.unwrap();
        let alice = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let chain = alice.cluster.chain().clone();
        // As short as they may be.
        let policy = ClusterPolicy { replace_ms: 5_000, recover_ms: 60_000, ..ClusterPolicy::DEFAULT };
        set_policy(&net, &alice, &policy).await;
        let token = alice.deploy_token(1_000_000).await;
        let to = AccountId(dice.bytes());
        for _ in 0..20 {
            let executed = token.call(token::transfer(&to, 1), GAS).await.unwrap();
            assert!(token::transferred(&outcome(executed).unwrap()));
        }
        // All have it: what one member alone holds goes with it.
        for worker in 0..4 {
            alice.cluster.prefer(worker);
            assert_eq!(token::balance(&token, &to).await, 20);
        }
        let gone = [net.kill_worker(1).unwrap(), net.kill_worker(2).unwrap()];
        let killed = Instant::now();
        // Two of four order nothing.
        assert!(token.call(token::transfer(&to, 1), GAS).await.is_err());
        let record = eventually("a new epoch", Duration::from_secs(200), || async {
            chain.cluster(0).await.unwrap().filter(|record| record.epoch > 0)
        })
        .await;
        println!("recovered {:.1} s after they were gone", killed.elapsed().as_secs_f64());
        assert_eq!(record.members.len(), 4);
        assert!(record.members.iter().all(|member| !gone.contains(&member.worker)));
        assert!(killed.elapsed() > Duration::from_secs(50), "the others may only have been slow");
        let bob = Person::new("Bob", &net.rpc_url(), net.genesis()).await;
        let seen = eventually("an answer", Duration::from_secs(30), || async {
            let asked = bob.cluster.query(token.address(), token::balance_of(&to)).await.ok()?;
            Some(token::amount(&asked.output.data))
        })
        .await;
        // The one that was refused may have been ordered after all.
        assert!((20..=21).contains(&seen), "{seen}");
        eventually("a write", Duration::from_secs(30), || async {
            token.call(token::transfer(&to, 1), GAS).await.ok()
        })
        .await;
        assert!((seen + 1..=22).contains(&token::balance(&token, &to).await));
        net.stop().await;
    });
}

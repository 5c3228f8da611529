//! Workers without a vote follow a cluster and answer queries, while members and they themselves die.

use crate::{
    failover::{Log, write},
    harness::{Dice, eventually, run},
    person::{Person, code_of, token},
};
use phala_client::{Account, Action, Call, Freshness, Session};
use phala_devnet::{Config, Devnet};
use phala_primitives::{AccountId, ClusterPolicy, Code, limits::MAX_COMMAND_GAS};
use std::time::{Duration, Instant};

const SERVES: Duration = Duration::from_secs(60);

async fn serves(url: &str) {
    let what = format!("{url} serves");
    eventually(&what, SERVES, || async {
        reqwest::get(format!("{url}/readyz")).await.ok().filter(|answer| answer.status().is_success())
    })
    .await;
}

/// Size of the beginning of a worker's log.
async fn entries(url: &str) -> usize {
    reqwest::get(format!("{url}/v1/entries?from=1&to=9")).await.unwrap().bytes().await.unwrap().len()
}

#[test]
fn readers_answer_without_a_vote() {
    run(Duration::from_secs(240), async {
        let mut dice = Dice::new();
        let mut net = Devnet::start(Config { spare: 2, ..Config::default() }, |_| ()).await.unwrap();
        let alice = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let chain = alice.cluster.chain().clone();
        let token = alice.deploy_token(1_000_000).await;
        let to = AccountId(dice.bytes());
        let log = Log::default();
        let writer = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let writing = tokio::spawn(write(writer.cluster.contract(token.address()), to, log.clone()));
        let written = || log.lock().unwrap().len();
        let more = async |what: &str| {
            let before = written();
            eventually(what, Duration::from_secs(30), || async { (written() >= before + 20).then_some(()) }).await;
        };

        let creator = Account::from_suri("//Worker//0").unwrap();
        eventually("workers that wait for a place", SERVES, || async {
            chain.submit(&creator, &Call::set_readers(0, 2)).await.ok()
        })
        .await;
        let begin = Instant::now();
        let urls = net.worker_urls();
        serves(&urls[4]).await;
        serves(&urls[5]).await;
        println!("two readers serve {:.1} s after the chain has named them", begin.elapsed().as_secs_f64());
        more("writes while readers follow").await;

        // A client that connects now knows them.
        let reader = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let names: Vec<AccountId> = reader.cluster.readers().iter().map(|reader| reader.worker).collect();
        assert_eq!(names.len(), 2);
        let balance = |output: &[u8]| token::amount(output);
        let ask = token::balance_of(&to);
        for name in &names {
            let session = Session::open_at(&reader.cluster, name).await.unwrap();
            let mut seen = 0;
            for _ in 0..20 {
                // What was acknowledged before is there, as soon as the reader knows of that entry.
                let least = written() as u128;
                let sent = writer.cluster.query(token.address(), ask.clone()).await.unwrap();
                reader.cluster.observe(sent.receipt.claim.height);
                let answered = session.query(token.address(), ask.clone()).await.unwrap();
                assert_eq!(answered.worker, *name);
                assert!(answered.receipt.claim.height >= sent.receipt.claim.height.max(seen));
                assert!(balance(&answered.output.data) >= least);
                seen = answered.receipt.claim.height;
            }
            // It says what it does not do.
            let command =
                reader.cluster.sign(Action::Call { contract: token.address(), data: vec![] }, MAX_COMMAND_GAS);
            assert_eq!(code_of(session.send(&command).await), Code::OnlyReads);
        }
        for at in [4, 5] {
            assert!(entries(&urls[at]).await <= 1, "a reader keeps no log");
        }
        // Whoever asks the cluster is answered by one or the other, and by a member if only one of those can.
        reader.cluster.prefer(4);
        let answered = reader.cluster.query(token.address(), ask.clone()).await.unwrap();
        assert!(names.contains(&answered.worker));
        let exact = reader.cluster.query_fresh(token.address(), ask.clone(), 0, Freshness::Linearizable).await.unwrap();
        assert!(!names.contains(&exact.worker));

        // The member that a reader asks dies, and comes back: the epochs change.
        let session = Session::open_at(&reader.cluster, &names[0]).await.unwrap();
        let mut epoch = 0;
        for member in 0..2 {
            net.kill_worker(member).unwrap();
            more("writes without a member").await;
            reader.cluster.observe(0);
            let before = session.query(token.address(), ask.clone()).await.unwrap();
            net.restart_worker(member).await.unwrap();
            serves(&net.worker_urls()[member]).await;
            more("writes with it").await;
            let after = eventually("an answer of the next epoch", SERVES, || async {
                session.query(token.address(), ask.clone()).await.ok().filter(|after| after.receipt.claim.epoch > epoch)
            })
            .await;
            epoch = after.receipt.claim.epoch;
            assert!(balance(&after.output.data) > balance(&before.output.data));
        }

        // A reader that died starts anew, with another identity, and is behind.
        let dead = net.kill_worker(4).unwrap();
        more("writes without a reader").await;
        let answered = reader.cluster.query(token.address(), ask.clone()).await.unwrap();
        assert_ne!(answered.worker, dead);
        let begin = Instant::now();
        assert_eq!(net.restart_worker(4).await.unwrap(), dead);
        let urls = net.worker_urls();
        serves(&urls[4]).await;
        println!("a reader serves {:.1} s after its start", begin.elapsed().as_secs_f64());
        let again = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let session = Session::open_at(&again.cluster, &dead).await.unwrap();
        let least = written() as u128;
        let newest = writer.cluster.query(token.address(), ask.clone()).await.unwrap();
        again.cluster.observe(newest.receipt.claim.height);
        let answered = session.query(token.address(), ask.clone()).await.unwrap();
        assert!(balance(&answered.output.data) >= least);

        // Another takes the place of one that dies for good, once it has offered itself.
        let policy = ClusterPolicy { replace_ms: 5_000, ..ClusterPolicy::DEFAULT };
        chain.submit(&creator, &Call::set_policy(0, &policy)).await.unwrap();
        chain.submit(&creator, &Call::set_readers(0, 1)).await.unwrap();
        let readers = async || chain.cluster(0).await.unwrap().unwrap().readers;
        let (stays, waits) = if readers().await == [dead] { (4, 5) } else { (5, 4) };
        let gone = net.kill_worker(stays).unwrap();
        let begin = Instant::now();
        eventually("another reader", SERVES, || async { (readers().await != [gone]).then_some(()) }).await;
        println!("a reader is replaced {:.1} s after its death", begin.elapsed().as_secs_f64());
        serves(&urls[waits]).await;
        net.start_worker(stays).await.unwrap();
        let urls = net.worker_urls();

        // One whose place is gone answers no more, and waits for another.
        chain.submit(&creator, &Call::set_readers(0, 0)).await.unwrap();
        for at in [4, 5] {
            eventually("it has stopped", SERVES, || async {
                let answer = reqwest::get(format!("{}/readyz", urls[at])).await.ok()?;
                answer.text().await.ok().filter(|text| text.contains("a cluster that needs it"))
            })
            .await;
        }
        writing.abort();
        assert!(writing.await.unwrap_err().is_cancelled(), "the writer failed");
        assert!((written() as u128..=written() as u128 + 1).contains(&token::balance(&token, &to).await));
        net.stop().await;
    });
}

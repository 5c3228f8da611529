//! SIGKILL at random moments under writes. An acknowledged write is never lost, no write happens twice, and the
//! network goes on from the same folder, ten times over.

use crate::{
    harness::{Dice, LOG, Net, eventually, run},
    person::{GAS, Person, outcome, token},
};
use phala_client::{Action, Contract, SignedCommand};
use phala_primitives::AccountId;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const ROUNDS: usize = 10;
const WRITERS: usize = 8;
const SUPPLY: u128 = 1_000_000_000;

/// Sends one token after the other to an account of its own.
struct Writer {
    to: AccountId,
    acknowledged: AtomicU64,
    /// What was sent and not answered yet.
    under_way: Mutex<Option<SignedCommand>>,
}

impl Writer {
    /// Writes until it is aborted or the network ends. It reads what it wrote now and then.
    async fn write(self: Arc<Self>, token: Contract, all: Arc<AtomicU64>) {
        let cluster = token.cluster().clone();
        loop {
            let data = token::transfer(&self.to, 1);
            let command = cluster.sign(Action::Call { contract: token.address(), data }, GAS);
            *self.under_way.lock().unwrap() = Some(command.clone());
            let Ok(executed) = cluster.send(&command).await else { return };
            assert!(token::transferred(&outcome(executed).unwrap()));
            let count = self.acknowledged.fetch_add(1, Ordering::SeqCst) + 1;
            *self.under_way.lock().unwrap() = None;
            all.fetch_add(1, Ordering::SeqCst);
            if count.is_multiple_of(7) {
                let Ok(read) = token.query(token::balance_of(&self.to)).await else { return };
                assert_eq!(token::amount(&read.output.data), u128::from(count), "a writer reads what it wrote");
            }
        }
    }

    /// Compares the balance with what was acknowledged, and settles what was under way.
    async fn check(&self, token: &Contract) {
        let acknowledged = u128::from(self.acknowledged.load(Ordering::SeqCst));
        let there = token::balance(token, &self.to).await;
        let under_way = self.under_way.lock().unwrap().take();
        let most = acknowledged + u128::from(under_way.is_some());
        assert!((acknowledged..=most).contains(&there), "{acknowledged} to {most} acknowledged, {there} there");
        if let Some(command) = under_way {
            // Whether it was executed or not: sent again, it is executed once.
            assert!(token::transferred(&outcome(token.cluster().send(&command).await.unwrap()).unwrap()));
            assert_eq!(token::balance(token, &self.to).await, acknowledged + 1);
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[test]
fn sigkill_loses_no_acknowledged_write() {
    run(Duration::from_secs(240), async {
        let mut dice = Dice::new();
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("net");
        let mut net = Net::start(&folder, LOG);
        let address = Person::at("Alice", &net).await.deploy_token(SUPPLY).await.address();
        let new = |to| Arc::new(Writer { to, acknowledged: AtomicU64::new(0), under_way: Mutex::new(None) });
        let writers: Vec<Arc<Writer>> = (0..WRITERS).map(|_| new(AccountId(dice.bytes()))).collect();
        let (mut height, mut slowest) = (0, Duration::ZERO);
        for round in 0..=ROUNDS {
            let alice = Person::at("Alice", &net).await;
            let token = alice.cluster.contract(address);
            let chain = alice.cluster.chain().clone();
            let now = chain.refresh().await.unwrap().0;
            assert!(now >= height, "the chain went back from {height} to {now}");
            let mut sum = 0;
            for writer in &writers {
                writer.check(&token).await;
                sum += token::balance(&token, &writer.to).await;
            }
            assert_eq!(sum + token::balance(&token, &alice.account.id()).await, SUPPLY);
            if round == ROUNDS {
                // It is alive in every sense: the chain grows, and was never set back.
                eventually("a new block", Duration::from_secs(10), || async {
                    (chain.refresh().await.unwrap().0 > now).then_some(())
                })
                .await;
                break;
            }
            let all = Arc::new(AtomicU64::new(0));
            let tasks: Vec<_> =
                writers.iter().map(|writer| tokio::spawn(writer.clone().write(token.clone(), all.clone()))).collect();
            eventually("a first write", Duration::from_secs(20), || async {
                (all.load(Ordering::SeqCst) > 0).then_some(())
            })
            .await;
            // The moment is random; the wait is no wait for anything.
            tokio::time::sleep(Duration::from_millis(dice.below(1500))).await;
            height = chain.refresh().await.unwrap().0;
            let memory = net.memory_folders();
            net.kill();
            for task in tasks {
                task.abort();
                if let Err(error) = task.await {
                    assert!(error.is_cancelled(), "{error}");
                }
            }
            assert!(!memory.is_empty() && memory.iter().all(|folder| folder.exists()));
            let started = Instant::now();
            net = Net::start(&folder, LOG);
            assert!(!memory.iter().any(|folder| folder.exists()), "what the killed process left in memory is there");
            slowest = slowest.max(started.elapsed());
            println!("round {round}: killed at chain height {height} after {} writes", all.load(Ordering::SeqCst));
        }
        let total: u64 = writers.iter().map(|writer| writer.acknowledged.load(Ordering::SeqCst)).sum();
        println!("{total} acknowledged writes are there after {ROUNDS} kills; slowest restart {slowest:?}");
    });
}

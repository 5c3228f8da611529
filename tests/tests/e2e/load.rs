//! People who write and read all the time, whatever happens, and keep book of it: each command is sent, as it was
//! signed, until it is acknowledged; each read that is answered holds at least what was acknowledged before it was asked.

use crate::person::{GAS, Person, outcome, token};
use phala_client::{Action, Contract, Freshness};
use phala_primitives::{AccountId, Hash};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedRwLockWriteGuard, RwLock},
    task::JoinHandle,
};

/// Pause after an error.
const PAUSE: Duration = Duration::from_millis(100);

/// What one of them does, and what came of it.
#[derive(Default)]
struct Book {
    signed: AtomicU64,
    acknowledged: AtomicU64,
    read: AtomicU64,
    /// When something was acknowledged.
    times: Mutex<Vec<Instant>>,
    /// Calls that failed, by what was said.
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Book {
    fn failed(&self, what: &str, error: &phala_primitives::Coded) {
        let what = format!("{what} P{}", error.code);
        *self.errors.lock().unwrap().entry(what).or_default() += 1;
    }
}

/// Pairs of a writer and a reader, each for an account of its own.
pub(crate) struct Load {
    contract: AccountId,
    pairs: Vec<(AccountId, Arc<Book>)>,
    tasks: Vec<JoinHandle<()>>,
    /// Held by each that has a command under way.
    gate: Arc<RwLock<()>>,
    begun: Instant,
}

/// What a load came to.
#[derive(Debug)]
pub(crate) struct Sum {
    pub(crate) acknowledged: u64,
    pub(crate) reads: u64,
    pub(crate) errors: u64,
    /// Longest time in which nobody's command was acknowledged, and in which one writer's was not.
    pub(crate) silence: Duration,
    pub(crate) longest: Duration,
}

impl Load {
    /// Starts as many pairs as there are nodes to follow the chain at, each with its account.
    pub(crate) async fn start(nodes: &[String], genesis: Hash, contract: AccountId, accounts: &[AccountId]) -> Self {
        let (mut pairs, mut tasks, gate) = (vec![], vec![], Arc::<RwLock<()>>::default());
        for (index, account) in accounts.iter().enumerate() {
            let (book, node) = (Arc::new(Book::default()), &nodes[index % nodes.len()]);
            let writer = Person::new("Alice", node, genesis).await;
            let reader = Person::new("Alice", node, genesis).await;
            writer.cluster.prefer(index);
            reader.cluster.prefer(index + 1);
            tasks.push(tokio::spawn(write(writer.cluster.contract(contract), *account, book.clone(), gate.clone())));
            tasks.push(tokio::spawn(read(reader.cluster.contract(contract), *account, book.clone())));
            pairs.push((*account, book));
        }
        Self { contract, pairs, tasks, gate, begun: Instant::now() }
    }

    /// Commands that were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.pairs.iter().map(|(_, book)| book.acknowledged.load(Ordering::SeqCst)).sum()
    }

    /// Waits until no command is under way; none is sent as long as what is returned is kept.
    pub(crate) async fn pause(&self) -> OwnedRwLockWriteGuard<()> {
        self.gate.clone().write_owned().await
    }

    /// Waits until each writer has got so many more acknowledged.
    pub(crate) async fn more(&self, by: u64, limit: Duration) {
        let count = |book: &Book| book.acknowledged.load(Ordering::SeqCst);
        let before: Vec<u64> = self.pairs.iter().map(|(_, book)| count(book)).collect();
        crate::harness::eventually("more acknowledged commands of all", limit, || async {
            assert!(self.tasks.iter().all(|task| !task.is_finished()), "somebody found something wrong");
            let mut pairs = self.pairs.iter().zip(&before);
            pairs.all(|((_, book), before)| count(book) >= before + by).then_some(())
        })
        .await;
    }

    /// Has all of them stop, and compares their books with what the contract says.
    pub(crate) async fn end(self, person: &Person) -> Sum {
        for task in self.tasks {
            task.abort();
            if let Err(error) = task.await {
                assert!(error.is_cancelled(), "{error}");
            }
        }
        let token = person.cluster.contract(self.contract);
        let mut sum = Sum { acknowledged: 0, reads: 0, errors: 0, silence: Duration::ZERO, longest: Duration::ZERO };
        let (mut all, mut errors) = (vec![], BTreeMap::new());
        for (account, book) in &self.pairs {
            let (signed, acknowledged) = (book.signed.load(Ordering::SeqCst), book.acknowledged.load(Ordering::SeqCst));
            let there = balance(&token, account).await.unwrap();
            // One may have been under way: it is there once, or not.
            assert!(
                (acknowledged..=signed).contains(&there) && signed <= acknowledged + 1,
                "{acknowledged} acknowledged, {signed} signed, {there} there"
            );
            sum.acknowledged += acknowledged;
            sum.reads += book.read.load(Ordering::SeqCst);
            let times = book.times.lock().unwrap().clone();
            sum.longest = sum.longest.max(gap(&times, self.begun));
            all.extend(times);
            for (what, count) in &*book.errors.lock().unwrap() {
                *errors.entry(what.clone()).or_insert(0) += count;
            }
        }
        all.sort();
        sum.silence = gap(&all, self.begun);
        sum.errors = errors.values().sum();
        println!(
            "{} commands acknowledged, {} reads answered, {} calls failed ({:.2} %), {errors:?}; nothing was \
             acknowledged for {:.2} s at most, nothing of one writer for {:.2} s",
            sum.acknowledged,
            sum.reads,
            sum.errors,
            sum.errors as f64 * 100.0 / (sum.acknowledged + sum.reads + sum.errors).max(1) as f64,
            sum.silence.as_secs_f64(),
            sum.longest.as_secs_f64()
        );
        sum
    }
}

fn gap(times: &[Instant], begun: Instant) -> Duration {
    let starts = std::iter::once(&begun).chain(times);
    starts.zip(times).map(|(before, after)| *after - *before).max().unwrap_or_default()
}

/// What an account owns: no state will do that lacks something which was acknowledged to anyone.
async fn balance(token: &Contract, account: &AccountId) -> Result<u64, phala_primitives::Coded> {
    let asked = token.cluster().query_fresh(token.address(), token::balance_of(account), 0, Freshness::Linearizable);
    Ok(token::amount(&asked.await?.output.data) as u64)
}

async fn write(token: Contract, to: AccountId, book: Arc<Book>, gate: Arc<RwLock<()>>) {
    let cluster = token.cluster().clone();
    loop {
        let _under_way = gate.read().await;
        let command = cluster.sign(Action::Call { contract: token.address(), data: token::transfer(&to, 1) }, GAS);
        book.signed.fetch_add(1, Ordering::SeqCst);
        let executed = loop {
            match cluster.send(&command).await {
                Ok(executed) => break executed,
                Err(error) => book.failed("write", &error),
            }
            tokio::time::sleep(PAUSE).await;
        };
        assert!(token::transferred(&outcome(executed).unwrap()));
        book.times.lock().unwrap().push(Instant::now());
        book.acknowledged.fetch_add(1, Ordering::SeqCst);
    }
}

async fn read(token: Contract, of: AccountId, book: Arc<Book>) {
    loop {
        let before = book.acknowledged.load(Ordering::SeqCst);
        match balance(&token, &of).await {
            Ok(there) => {
                let signed = book.signed.load(Ordering::SeqCst);
                assert!((before..=signed).contains(&there), "{before} acknowledged, {signed} signed, {there} read");
                book.read.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => book.failed("read", &error),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

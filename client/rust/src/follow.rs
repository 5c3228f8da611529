//! Following a contract's log across replicas.
//!
//! What commands of a contract say is part of the cluster's state, numbered, and the same at every replica. So a
//! follower that loses one goes on at another from the number that it expects next, and misses nothing and gets nothing
//! twice; a replica that is behind tells it when it has caught up. Numbers jump only where the contract said more than
//! its log keeps before the follower came back.
//!
//! What queries say stays with the replica that ran them, and is followed at each of them.

use crate::{
    Cluster,
    cluster::{may_be_behind, try_elsewhere},
    connection::{Connection, Subscription},
    session::connect,
};
use futures::{Stream, stream};
use phala_primitives::{AccountId, Code, Coded};
use phala_session::{EventChain, LogQuery, LogRecord};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

/// Records of one page.
const PAGE: u32 = 256;
/// Pause before another replica is tried, and how long that goes on without success before it is an error.
const PAUSE: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a contract may be unknown to the replicas, since it may be new.
const CATCH_UP: Duration = Duration::from_secs(2);
/// Records of queries that wait to be taken.
const QUEUE: usize = 256;

/// A contract's log as it grows.
pub struct Follow {
    cluster: Arc<Cluster>,
    contract: AccountId,
    /// Number of the record expected next.
    next: u64,
    ready: VecDeque<LogRecord>,
    /// Number of the record that the last page ended before, and the contract's events up to there.
    known: Option<(u64, EventChain)>,
    subscription: Option<(AccountId, Subscription)>,
}

impl Follow {
    /// The next record, as soon as there is one. It may be called again after an error, and goes on where it was.
    ///
    /// Errors: those of the right to read, `NoContract`, and `NoReplica` and its like after a minute without a replica.
    /// Cancelling loses nothing.
    pub async fn next(&mut self) -> Result<LogRecord, Coded> {
        let mut since = Instant::now();
        let mut last = None;
        loop {
            while let Some(record) = self.ready.pop_front() {
                // A replica repeats nothing; this makes sure.
                if record.number >= self.next {
                    self.next = record.number.saturating_add(1);
                    return Ok(record);
                }
            }
            match self.page(last).await {
                Ok(()) => since = Instant::now(),
                Err(error) if since.elapsed() < patience(&error) => {
                    tracing::debug!(%error, next = self.next, "a subscription goes on elsewhere");
                    last = self.subscription.take().map(|(worker, _)| worker).or(last);
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    self.subscription = None;
                    return Err(error);
                }
            }
        }
    }

    /// Number of the record that is expected next; to be given to [`Cluster::follow`] to go on later.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The contract's events up to the end of what was received, whichever replicas told them. A contract tells by
    /// `pink::event_chain` what it is to be; a receipt vouches for that.
    pub fn events(&self) -> Option<EventChain> {
        self.known.map(|(_, events)| events)
    }

    /// The worker that is asked now.
    pub fn worker(&self) -> Option<AccountId> {
        self.subscription.as_ref().map(|(worker, _)| *worker)
    }

    /// The same as a stream, which ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<LogRecord, Coded>> {
        stream::unfold(Some(self), async |follow| {
            let mut follow = follow?;
            match follow.next().await {
                Ok(record) => Some((Ok(record), Some(follow))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// Takes one page, of a new subscription if there is none, not at the replica that is `last` if there is another.
    async fn page(&mut self, last: Option<AccountId>) -> Result<(), Coded> {
        let (_, subscription) = match &mut self.subscription {
            Some(known) => known,
            None => {
                let connection = connect(&self.cluster, last).await?;
                let query = query(self.contract, false, self.next);
                let worker = connection.replica().worker;
                self.subscription.insert((worker, connection.follow(&query).await?))
            }
        };
        let page = subscription.next().await?;
        let first = page.records.first().map_or(page.next, |record| record.number);
        let known = self.known.filter(|(next, _)| *next == first);
        if known.is_some_and(|(_, events)| events != page.events) {
            self.subscription = None;
            return Err(Coded::new(Code::BadReceipt, "events of the log are missing or are not those told before"));
        }
        let events = page.records.iter().fold(page.events, |chain, record| chain.with(&self.contract, &record.said));
        self.known = Some((page.next, events));
        self.ready.extend(page.records);
        Ok(())
    }
}

fn query(contract: AccountId, queries: bool, from: u64) -> LogQuery {
    LogQuery { contract, queries, from, limit: PAGE, wait_ms: 0, min_height: 0 }
}

/// Whether a subscription that ended so should go on at another replica, or the same one.
fn goes_on(error: &Coded) -> bool {
    try_elsewhere(error) || matches!(error.known(), Some(Code::SlowReader | Code::SessionLimit))
}

/// How long a subscription tries again after this error.
fn patience(error: &Coded) -> Duration {
    match error {
        error if may_be_behind(error) => CATCH_UP,
        error if goes_on(error) => PATIENCE,
        _ => Duration::ZERO,
    }
}

/// What queries of a contract say at every replica, as they say it.
pub struct FollowQueries {
    records: mpsc::Receiver<Result<(AccountId, LogRecord), Coded>>,
    _tasks: JoinSet<()>,
}

impl FollowQueries {
    /// The next line, and the worker whose replica said it. Lines of one worker are in order. What was said at a
    /// replica while there was no connection to it comes later, as far as it was kept.
    ///
    /// Errors: those of the right to read; there is no more after one.
    pub async fn next(&mut self) -> Result<(AccountId, LogRecord), Coded> {
        self.records.recv().await.unwrap_or_else(|| Err(Code::NoReplica.into()))
    }
}

/// Follows one worker's replica until it may not.
async fn one(
    cluster: Arc<Cluster>,
    worker: AccountId,
    contract: AccountId,
    records: mpsc::Sender<Result<(AccountId, LogRecord), Coded>>,
) {
    let mut from = 0;
    let error = loop {
        let followed = async {
            let connection = Arc::new(Connection::open(&cluster, cluster.replica(&worker).await?).await?);
            let mut subscription = connection.follow(&query(contract, true, from)).await?;
            loop {
                for record in subscription.next().await?.records {
                    from = record.number.saturating_add(1);
                    if records.send(Ok((worker, record))).await.is_err() {
                        return Ok(());
                    }
                }
            }
        };
        match followed.await {
            Ok(()) => return,
            Err(error) if goes_on(&error) => tokio::time::sleep(PAUSE).await,
            Err(error) => break error,
        }
    };
    // Whoever followed may be gone.
    let _ = records.send(Err(error)).await;
}

impl Cluster {
    /// Follows what commands of a contract say, from a number on. Whoever may read its log may follow it.
    pub fn follow(self: &Arc<Self>, contract: AccountId, from: u64) -> Follow {
        Follow { cluster: self.clone(), contract, next: from, ready: VecDeque::new(), known: None, subscription: None }
    }

    /// Follows what queries of a contract say, at all replicas that can be asked now.
    pub fn follow_queries(self: &Arc<Self>, contract: AccountId) -> FollowQueries {
        let (sender, records) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        for replica in self.replicas() {
            tasks.spawn(one(self.clone(), replica.worker, contract, sender.clone()));
        }
        FollowQueries { records, _tasks: tasks }
    }
}

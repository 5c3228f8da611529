//! Answers requests that were opened: queries on all cores, commands through the log.

use crate::{barrier::Barrier, budget::Budget, hooks, metrics::Metrics, sayings::Sayings};
use parking_lot::RwLock;
use phala_consensus::LogHandle;
use phala_primitives::{AccountId, ClusterId, Code, Coded, Hash, PublicKey, RequestId};
use phala_replica::Replica;
use phala_session::{
    Acceptor, Answer, BalanceQuery, Call, Freshness, Incoming, LogPage, LogQuery, PartQuery, Query, Rehearsal,
    ServerSession, SystemRng,
};
use phala_vm::Caller;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{Semaphore, oneshot};

/// Threads that parts of other members' queries hold at once. More are refused with `Busy` instead of growing a queue.
const MAX_PARTS: usize = 320;
/// Data of a query that is hashed and copied on a thread for work, in bytes.
const LARGE_QUERY: usize = 64 << 10;
/// Bytes that requests and replies under way hold, as they are on the wire.
const MAX_REQUEST_BYTES: usize = 256 << 20;
/// Queries that wait at once for the state that they ask for.
const MAX_CATCHING_UP: usize = 1024;
/// How long a client waits for its command before it is told that the cluster did not decide.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a query waits for the state that it asks for.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for a part of another member's query, which can compute it itself.
const PART_CATCH_UP: Duration = Duration::from_millis(200);
/// How long a rehearsal waits for the one before it.
const REHEARSAL_WAIT: Duration = Duration::from_secs(2);
/// Longest time that a reader of a log waits for news.
const MAX_LOG_WAIT: Duration = Duration::from_secs(20);
/// Age of a reader's state above which it stops answering: it has lost its cluster.
const MAX_READER_AGE_MS: u64 = 10_000;
/// Age of the newest verified head of the chain above which the replica stops answering.
const MAX_HEAD_AGE_MS: u64 = 30_000;

/// Milliseconds since 1970 by the host's clock.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// Newest head of the chain that the worker's light client verified.
#[derive(Debug, Default)]
pub(crate) struct ChainHead {
    number: AtomicU32,
    time_ms: AtomicU64,
}

impl ChainHead {
    /// Takes note of a verified head and the time that it carries. When it came counts for nothing: a node may have kept
    /// it back, or show it again and again.
    pub(crate) fn set(&self, number: u32, time_ms: u64) {
        self.number.fetch_max(number, Ordering::Relaxed);
        self.time_ms.fetch_max(time_ms, Ordering::Relaxed);
    }

    /// Height of the head, or an error if it is too old to judge requests by.
    pub(crate) fn fresh(&self) -> Result<u32, Coded> {
        let age = now_ms().saturating_sub(self.time_ms.load(Ordering::Relaxed));
        if age > MAX_HEAD_AGE_MS {
            return Err(Coded::new(Code::StaleHead, format!("no new block for {} s", age / 1000)));
        }
        Ok(self.number.load(Ordering::Relaxed))
    }
}

/// What a service is made of.
pub(crate) struct ServiceParts {
    pub(crate) replica: Arc<Replica>,
    pub(crate) acceptor: Acceptor,
    pub(crate) identity: PublicKey,
    pub(crate) worker: AccountId,
    pub(crate) genesis: Hash,
    pub(crate) cluster: ClusterId,
    pub(crate) head: Arc<ChainHead>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) said: Arc<Sayings>,
}

/// What clients reach through the worker's sockets.
pub(crate) struct Service {
    parts: ServiceParts,
    /// The log of the epoch that the replica is in; `None`: it is a reader, and in none.
    log: RwLock<Option<LogHandle>>,
    parts_here: Arc<Semaphore>,
    catching_up: Semaphore,
    budget: Arc<Budget>,
    hooks: Arc<hooks::Load>,
    rehearsals: Arc<Semaphore>,
    barrier: Arc<Barrier>,
}

/// Leaves when whoever waits for an answer is dropped.
struct Waiting(Caller);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// What to do after an envelope was opened.
pub(crate) enum Reception {
    /// Send these bytes: it is done.
    Response(Vec<u8>),
    /// Send these bytes, then serve the session.
    Session(Vec<u8>, Box<ServerSession>),
}

impl Service {
    /// A service for a replica that is ready.
    pub(crate) fn new(parts: ServiceParts, log: Option<LogHandle>) -> Self {
        let parts_here = Arc::new(Semaphore::new(MAX_PARTS));
        let (budget, rehearsals) = (Budget::new(MAX_REQUEST_BYTES), Arc::new(Semaphore::new(1)));
        let catching_up = Semaphore::new(MAX_CATCHING_UP);
        Self {
            parts,
            log: RwLock::new(log),
            parts_here,
            catching_up,
            budget,
            hooks: Arc::default(),
            rehearsals,
            barrier: Arc::default(),
        }
    }

    /// Who serves, and where.
    pub(crate) fn parts(&self) -> &ServiceParts {
        &self.parts
    }

    /// The log of the epoch that the replica is in.
    ///
    /// Errors: `OnlyReads` of a reader, which is in none.
    pub(crate) fn log(&self) -> Result<LogHandle, Coded> {
        self.log.read().clone().ok_or_else(|| Code::OnlyReads.into())
    }

    /// Whether the replica has no vote.
    pub(crate) fn only_reads(&self) -> bool {
        self.log.read().is_none()
    }

    /// Goes on in another epoch's log.
    pub(crate) fn enter(&self, log: LogHandle) {
        *self.log.write() = Some(log);
    }

    /// Checks that what this replica knows is no older than it may be: of the chain, and of its cluster.
    pub(crate) fn fresh(&self) -> Result<u32, Coded> {
        let head = self.parts.head.fresh()?;
        if self.only_reads() {
            let age = now_ms().saturating_sub(self.parts.replica.entry_time()?);
            if age > MAX_READER_AGE_MS {
                return Err(Coded::new(Code::StaleState, format!("no member was heard for {} s", age / 1000)));
            }
        }
        Ok(head)
    }

    /// What requests under way may hold.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// The replica.
    pub(crate) fn replica(&self) -> &Arc<Replica> {
        &self.parts.replica
    }

    /// HTTP requests for contracts that are under way.
    pub(crate) fn hooks(&self) -> &Arc<hooks::Load> {
        &self.hooks
    }

    /// Whether this replica leads its cluster, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.log().is_ok_and(|log| log.leader() == Some(self.parts.identity))
    }

    /// Opens and signs session keys.
    pub(crate) fn acceptor(&self) -> &Acceptor {
        &self.parts.acceptor
    }

    /// Opens an envelope and answers what is in it.
    pub(crate) async fn receive(&self, envelope: &[u8]) -> Reception {
        let started = Instant::now();
        let opened =
            self.fresh().map_err(Into::into).and_then(|head| self.parts.acceptor.open(envelope, now_ms(), head));
        let opened = match opened {
            Ok(opened) => opened,
            Err(refusal) => {
                self.parts.metrics.answered("refused", refusal.error.known(), started.elapsed());
                return Reception::Response(refusal.into_response(&mut SystemRng));
            }
        };
        match opened.incoming {
            Incoming::Open(session) => {
                let answer = Answer::Opened(session.opening);
                self.parts.metrics.answered("open", None, started.elapsed());
                Reception::Session(opened.reply.seal(&Ok(answer), &mut SystemRng), Box::new(session))
            }
            Incoming::Call(call) => {
                let answer = self.answer(opened.account, opened.request_id, call).await;
                Reception::Response(opened.reply.seal(&answer, &mut SystemRng))
            }
        }
    }

    /// Answers one call of an account that may make it.
    pub(crate) async fn answer(&self, account: AccountId, request_id: RequestId, call: Call) -> Result<Answer, Coded> {
        let started = Instant::now();
        // Sessions that were opened before the chain was lost end their use with it.
        if let Err(error) = self.fresh().and_then(|_| self.takes(&call)) {
            self.parts.metrics.answered("stale", error.known(), started.elapsed());
            return Err(error);
        }
        let (kind, answer) = match call {
            Call::Query(query) => ("query", self.query(account, request_id, query).await),
            Call::Command(command) => ("command", self.command(command).await),
            Call::Outcome(id) => ("outcome", self.parts.replica.outcome(&account, &id)),
            Call::Balance(query) => ("balance", self.balance(&account, &query).await),
            Call::History(from) => ("history", self.parts.replica.history(from).map(Answer::History)),
            Call::Final(height) => ("entry", self.parts.replica.entry(height)),
            Call::Logs(query) => ("logs", self.logs(&account, &query).await),
            Call::Part(query) => ("part", self.part(account, query).await),
            // Sessions handle them; nothing else carries them.
            Call::Follow(_) | Call::Unfollow(_) => ("follow", Err(Code::Malformed.into())),
            Call::Rehearse(rehearsal) => ("rehearsal", self.rehearse(account, rehearsal).await),
        };
        let error = answer.as_ref().err().map(|error| error.known().unwrap_or(Code::Internal));
        self.parts.metrics.answered(kind, error, started.elapsed());
        if let Ok(Answer::Command { outcome, .. }) = &answer
            && let Some(code) = outcome.result.as_ref().err().and_then(Coded::known)
        {
            self.parts.metrics.reached(code);
        }
        answer
    }

    /// Whether this replica takes such calls. A reader has no part in the log.
    fn takes(&self, call: &Call) -> Result<(), Coded> {
        let needs_log = match call {
            Call::Query(query) => query.freshness == Freshness::Linearizable,
            Call::Command(_) | Call::Outcome(_) | Call::History(_) | Call::Final(_) | Call::Rehearse(_) => true,
            Call::Balance(_) | Call::Logs(_) | Call::Part(_) | Call::Follow(_) | Call::Unfollow(_) => false,
        };
        if needs_log { self.log().map(drop) } else { Ok(()) }
    }

    /// Waits for the state that a caller asks for: it wrote through another replica, and this one is a moment behind.
    /// No thread waits with it.
    async fn catch_up(&self, height: u64) -> Result<(), Coded> {
        if self.parts.replica.applied().height < height {
            let _permit = self.catching_up.try_acquire().map_err(|_| Code::Busy)?;
            let reached = self.parts.replica.reached(height)?;
            let _ = tokio::time::timeout(CATCH_UP_TIMEOUT, reached).await;
        }
        Ok(())
    }

    /// The same, but it is an error if that state does not come.
    async fn caught_up(&self, height: u64) -> Result<(), Coded> {
        self.catch_up(height).await?;
        match self.parts.replica.applied().height {
            applied if applied < height => Err(Coded::new(Code::NotReady, format!("it is at height {applied}"))),
            _ => Ok(()),
        }
    }

    async fn balance(&self, account: &AccountId, query: &BalanceQuery) -> Result<Answer, Coded> {
        self.caught_up(query.min_height).await?;
        // Whoever was paid a moment ago, as another replica has it, looks for it here. A reader is behind in any case.
        let _ = self.keep_up().await;
        self.parts.replica.balance(account, &query.account)
    }

    /// Waits for a state that is at most so many milliseconds old. If none comes, the replica will say so.
    async fn freshen(&self, most_ms: u64) -> Result<(), Coded> {
        let replica = &self.parts.replica;
        if now_ms().saturating_sub(replica.entry_time()?) <= most_ms {
            return Ok(());
        }
        self.catch_up(replica.applied().height.saturating_add(1)).await
    }

    /// Waits until this replica is as far as it knows the log to be, and an entry further.
    pub(crate) async fn keep_up(&self) -> Result<(), Coded> {
        let known = self.log()?.tip().max(self.parts.replica.applied().height);
        self.catch_up(known.saturating_add(1)).await
    }

    /// Tries a command on a state that has all that was acknowledged anywhere. One at a time: it computes as a command does,
    /// without turns, beside those of the log.
    async fn rehearse(&self, account: AccountId, rehearsal: Rehearsal) -> Result<Answer, Coded> {
        self.barrier.pass(&self.parts.replica).await?;
        let permit = tokio::time::timeout(REHEARSAL_WAIT, self.rehearsals.clone().acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or(Code::Busy)?;
        let replica = self.parts.replica.clone();
        let work = move || {
            let _permit = permit;
            replica.rehearse(account, &rehearsal, now_ms())
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Code::Internal.into()))
    }

    async fn query(&self, account: AccountId, request_id: RequestId, query: Query) -> Result<Answer, Coded> {
        let replica = self.parts.replica.clone();
        self.catch_up(query.min_height).await?;
        match query.freshness {
            Freshness::Any => {}
            Freshness::Bounded(most) => self.freshen(most).await?,
            Freshness::Linearizable => self.barrier.pass(&replica).await?,
        }
        // It ends when this future is dropped.
        let waiting = Waiting(Caller::default());
        let (told, answer) = oneshot::channel();
        let tell = move |answer| drop(told.send(answer));
        let caller = waiting.0.clone();
        let large = query.data.len() > LARGE_QUERY;
        let submit = move || replica.submit_query(account, request_id, &query, now_ms(), &caller, tell);
        match large {
            true => drop(tokio::task::spawn_blocking(submit).await),
            false => submit(),
        }
        answer.await.unwrap_or_else(|_| Err(Code::Internal.into()))
    }

    async fn part(&self, account: AccountId, query: PartQuery) -> Result<Answer, Coded> {
        let replica = self.parts.replica.clone();
        if replica.applied().height < query.height {
            // The member that asks is a moment ahead.
            let _permit = self.catching_up.try_acquire().map_err(|_| Code::Busy)?;
            let _ = tokio::time::timeout(PART_CATCH_UP, replica.reached(query.height)?).await;
        }
        let permit = self.parts_here.clone().try_acquire_owned().map_err(|_| Code::Busy)?;
        let waiting = Waiting(Caller::default());
        let caller = waiting.0.clone();
        let work = move || {
            let _permit = permit;
            replica.part(&account, query, now_ms(), &caller)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Code::Internal.into()))
    }

    /// Records of a contract's log; waits for one if there is none and the caller wants to.
    async fn logs(&self, account: &AccountId, query: &LogQuery) -> Result<Answer, Coded> {
        let patience = Duration::from_millis(query.wait_ms.into()).min(MAX_LOG_WAIT);
        self.log_page(account, query, patience).await.map(Answer::Logs)
    }

    /// The next page of a contract's log; an empty one if nothing is said for so long.
    pub(crate) async fn log_page(
        &self,
        account: &AccountId,
        query: &LogQuery,
        patience: Duration,
    ) -> Result<LogPage, Coded> {
        let replica = &self.parts.replica;
        // A replica that is cut off has no news, and must not keep its readers from others that have.
        self.fresh()?;
        self.caught_up(query.min_height).await?;
        replica.may_read_log(account, &query.contract)?;
        let until = tokio::time::Instant::now() + patience;
        loop {
            let said = self.parts.said.changed();
            let height = replica.applied().height;
            let page = if query.queries { self.parts.said.page(query) } else { replica.log(query)? };
            if !page.records.is_empty() || tokio::time::Instant::now() >= until {
                return Ok(page);
            }
            let news = async {
                match query.queries {
                    true => said.await,
                    // An entry without commands says nothing, but there are few of them.
                    false => drop(replica.reached(height + 1)?.await),
                }
                Ok::<_, Coded>(())
            };
            match tokio::time::timeout_at(until, news).await {
                Ok(news) => news?,
                Err(_) => return Ok(page),
            }
        }
    }

    async fn command(&self, command: phala_session::SignedCommand) -> Result<Answer, Coded> {
        let ticket = self.parts.replica.submit(command, now_ms())?;
        match tokio::time::timeout(COMMAND_TIMEOUT, ticket).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Coded::new(Code::NoQuorum, "the replica stops")),
            Err(_) => Err(Coded::new(Code::NoQuorum, format!("within {} s", COMMAND_TIMEOUT.as_secs()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_as_old_as_it_says_however_often_it_is_shown() {
        let head = ChainHead::default();
        let stale = |head: &ChainHead| head.fresh().err().and_then(|error| error.known());
        assert_eq!(stale(&head), Some(Code::StaleHead));
        head.set(7, now_ms());
        assert_eq!(head.fresh(), Ok(7));
        // An older one takes nothing back.
        head.set(6, 1);
        assert_eq!(head.fresh(), Ok(7));
        let fed = ChainHead::default();
        for number in 0..3 {
            fed.set(number, now_ms() - MAX_HEAD_AGE_MS - 1000 + u64::from(number));
            assert_eq!(stale(&fed), Some(Code::StaleHead), "fed slowly");
        }
    }
}

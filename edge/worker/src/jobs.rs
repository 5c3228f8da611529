//! What the replica leaves to its host: performing contracts' requests, and waking a leader when a timer is due.
//!
//! Both sleep until there is something to do: an entry, which may bring something, the next turn of this member, or the
//! time of the next timer. They ask to be woken by an entry before they look, so that none comes in between.

use crate::{egress::Egress, service::now_ms};
use codec::Encode;
use futures::{StreamExt, channel::oneshot, stream::FuturesUnordered};
use phala_pink::{HttpError, HttpResult};
use phala_primitives::AccountId;
use phala_replica::{Replica, jobs::Wanted};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// How long the replica is left alone when too many wait for it.
const BUSY: Duration = Duration::from_millis(250);
/// Longest time between two looks: the clock may have been set.
const LOOK: Duration = Duration::from_secs(1);
/// Requests that this worker performs at once, and of one contract: one with slow servers must not hold up the others.
const AT_ONCE: usize = 64;
const AT_ONCE_OF_CONTRACT: usize = 16;
/// How often a request is tried again while the contract's queries take all connections that it may have.
const CROWDED: Duration = Duration::from_millis(50);
/// Largest response that comes back to a command, in its encoding, in bytes: it becomes an entry of the log.
const MAX_RESPONSE: usize = 256 << 10;

/// Completes with the next entry.
async fn entry(replica: &Replica) -> oneshot::Receiver<()> {
    loop {
        match replica.reached(replica.applied().height + 1) {
            Ok(news) => return news,
            Err(_) => tokio::time::sleep(BUSY).await,
        }
    }
}

/// Time until then, at most [`LOOK`].
fn until(then_ms: Option<u64>) -> Duration {
    then_ms.map_or(LOOK, |then_ms| Duration::from_millis(then_ms.saturating_sub(now_ms())).min(LOOK))
}

/// Requests whose turn has come and that wait for room, by contract, and how many of each are under way.
#[derive(Default)]
struct Queue {
    waiting: BTreeMap<AccountId, VecDeque<Arc<Wanted>>>,
    under_way: BTreeMap<AccountId, usize>,
}

impl Queue {
    fn push(&mut self, wanted: Arc<Wanted>) {
        self.waiting.entry(wanted.contract).or_default().push_back(wanted);
    }

    /// The next request of a contract that has room: of the one with the fewest under way.
    fn pop(&mut self) -> Option<Arc<Wanted>> {
        let load = |contract: &AccountId| self.under_way.get(contract).copied().unwrap_or(0);
        let least = self.waiting.keys().copied().min_by_key(load).filter(|c| load(c) < AT_ONCE_OF_CONTRACT)?;
        let queue = self.waiting.get_mut(&least)?;
        let wanted = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&least);
        }
        *self.under_way.entry(least).or_default() += 1;
        wanted
    }

    fn done(&mut self, contract: &AccountId) {
        if let Some(count) = self.under_way.get_mut(contract) {
            *count -= 1;
            if *count == 0 {
                self.under_way.remove(contract);
            }
        }
    }
}

/// Performs requests when it is this member's turn. Ends with the task.
pub(crate) async fn perform(replica: Arc<Replica>, egress: Arc<Egress>) {
    let mut queue = Queue::default();
    let mut running = FuturesUnordered::new();
    loop {
        let news = entry(&replica).await;
        replica.take_turns(now_ms()).into_iter().for_each(|wanted| queue.push(wanted));
        while running.len() < AT_ONCE
            && let Some(wanted) = queue.pop()
        {
            // Answered by another, or another's turn by now: the next own turn comes.
            if replica.is_mine(wanted.id, now_ms()) {
                running.push(one(replica.clone(), egress.clone(), wanted));
            } else {
                queue.done(&wanted.contract);
            }
        }
        tokio::select! {
            Some(contract) = running.next() => queue.done(&contract),
            _ = news => {}
            () = tokio::time::sleep(until(replica.next_turn())) => {}
        }
    }
}

/// Performs one request and brings what came of it to the contract.
async fn one(replica: Arc<Replica>, egress: Arc<Egress>, wanted: Arc<Wanted>) -> AccountId {
    let time = Duration::from_millis(wanted.timeout_ms);
    let result = loop {
        let mut results = egress.all(&wanted.contract, vec![wanted.request.clone()], time).await;
        match results.pop() {
            Some(Err(HttpError::TooManyRequests)) => tokio::time::sleep(CROWDED).await,
            result => break result.unwrap_or(Err(HttpError::NetworkError)),
        }
    };
    let mut response = result.encode();
    if response.len() > MAX_RESPONSE {
        response = HttpResult::Err(HttpError::ResponseTooLarge).encode();
    }
    // A queue that is full, or a cluster that does not decide: somebody's next turn comes.
    match replica.deliver(wanted.id, response, now_ms()) {
        Ok(ticket) => drop(ticket.await),
        Err(error) => tracing::debug!(%error, "a response waits for another turn"),
    }
    wanted.contract
}

/// Wakes the leader when a timer is due. Ends with the task.
pub(crate) async fn keep_time(replica: Arc<Replica>) {
    loop {
        let news = entry(&replica).await;
        let due = replica.next_due();
        let called = due.filter(|due_ms| *due_ms <= now_ms());
        if called.is_some() {
            replica.urge();
        }
        // What is due already is called by the next entry.
        let wait = if called.is_some() { LOOK } else { until(due) };
        tokio::select! {
            _ = news => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

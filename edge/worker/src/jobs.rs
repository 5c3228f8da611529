//! What the replica leaves to its host: performing contracts' requests, and waking a leader when a timer is due.

use crate::{egress::Egress, service::now_ms};
use codec::Encode;
use futures::{StreamExt, stream::FuturesUnordered};
use phala_pink::{HttpError, HttpResult};
use phala_primitives::AccountId;
use phala_replica::{Replica, jobs::Wanted};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Longest time between two looks at what waits: another member's turn may have passed.
const LOOK: Duration = Duration::from_millis(250);
/// Requests that this worker performs at once, and of one contract: one with slow servers must not hold up the others.
const AT_ONCE: usize = 64;
const AT_ONCE_OF_CONTRACT: usize = 16;
/// How often a request is tried again while the contract's queries take all connections that it may have.
const CROWDED: Duration = Duration::from_millis(50);
/// Largest response that comes back to a command, in its encoding, in bytes: it becomes an entry of the log.
const MAX_RESPONSE: usize = 256 << 10;

/// Performs requests when it is this member's turn. Ends with the task.
pub(crate) async fn perform(replica: Arc<Replica>, egress: Arc<Egress>) {
    let mut under_way: BTreeMap<u64, AccountId> = BTreeMap::new();
    let mut running = FuturesUnordered::new();
    loop {
        let now = now_ms();
        for wanted in replica.requests() {
            if running.len() >= AT_ONCE {
                break;
            }
            let of_contract = || under_way.values().filter(|contract| **contract == wanted.contract).count();
            if !under_way.contains_key(&wanted.id)
                && replica.is_mine(&wanted, now)
                && of_contract() < AT_ONCE_OF_CONTRACT
            {
                under_way.insert(wanted.id, wanted.contract);
                running.push(one(replica.clone(), egress.clone(), wanted));
            }
        }
        let Ok(news) = replica.reached(replica.applied().height + 1) else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        tokio::select! {
            Some(id) = running.next() => drop(under_way.remove(&id)),
            _ = news => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Performs one request and brings what came of it to the contract.
async fn one(replica: Arc<Replica>, egress: Arc<Egress>, wanted: Arc<Wanted>) -> u64 {
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
    wanted.id
}

/// Wakes the leader when a timer is due. Ends with the task.
pub(crate) async fn keep_time(replica: Arc<Replica>) {
    loop {
        let now = now_ms();
        replica.tick(now);
        let wait = match replica.next_due() {
            Some(due) if due > now => Duration::from_millis(due - now).min(LOOK),
            // Due already: the next entry will tell.
            _ => LOOK,
        };
        let Ok(news) = replica.reached(replica.applied().height + 1) else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        tokio::select! {
            _ = news => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

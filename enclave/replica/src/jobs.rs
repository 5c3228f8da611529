//! Work that contracts asked for and that comes back to them later: requests to the outside, and timers.
//!
//! A **request** is written into the state by the command that asks for it. One member performs it; who, follows from
//! its id and from how long it has been waiting, so that another takes over if nothing comes of it. The member sends
//! what came of it as a command of its own ([`Action::Deliver`]), which only members may send. The first that is
//! executed takes the request out of the state and calls the contract back, in one commit: whatever happens to
//! members, a request may be performed more than once, but its callback runs exactly once.
//!
//! A **timer** is due at a time. The first entry of that time or later calls the contract back, before its commands.
//!
//! The table here holds what the state holds, so that finding what is due costs nothing; it is filled from the state
//! when a replica opens, and changes with it.
//!
//! [`Action::Deliver`]: phala_session::Action::Deliver

use crate::{
    layout::{REQUESTS, TIMERS, decode, state_error},
    world::Layer,
};
use codec::{Decode, Encode};
use phala_pink::{Callback, Effect, HttpRequest};
use phala_primitives::{AccountId, Code, Coded};
use phala_state::Snapshot;
use std::{collections::BTreeMap, sync::Arc};

/// Most requests and timers of all contracts that wait. How many a contract may have, the cluster's policy says.
pub const MAX_JOBS: usize = 16_384;
/// Shortest time between two calls of one timer, in milliseconds.
pub const MIN_PERIOD_MS: u64 = 10;

/// A request that waits for somebody to perform it.
#[derive(Clone, Encode, Decode)]
pub struct Wanted {
    /// Its name in this cluster.
    pub id: u64,
    /// Whose it is.
    pub contract: AccountId,
    /// The request.
    pub request: HttpRequest,
    /// Longest time for an answer, in milliseconds.
    pub timeout_ms: u64,
    /// Time of the entry that asked for it.
    pub asked_ms: u64,
    /// What to call then.
    pub(crate) callback: Callback,
}

/// A timer that waits.
#[derive(Clone, Encode, Decode)]
pub(crate) struct Timer {
    pub(crate) id: u64,
    pub(crate) contract: AccountId,
    pub(crate) due_ms: u64,
    /// Time between calls; 0 for a timer that calls once.
    pub(crate) period_ms: u64,
    pub(crate) callback: Callback,
}

/// What waits.
#[derive(Default)]
pub(crate) struct Jobs {
    requests: BTreeMap<u64, Arc<Wanted>>,
    timers: BTreeMap<u64, Timer>,
    /// Timers by when they are due.
    due: BTreeMap<(u64, u64), ()>,
    contracts: BTreeMap<AccountId, usize>,
}

impl Jobs {
    /// What the state holds.
    pub(crate) fn load(snapshot: &Snapshot) -> Result<Self, Coded> {
        let mut jobs = Self::default();
        for bytes in snapshot.values(&REQUESTS, MAX_JOBS).map_err(|error| state_error(&error))? {
            jobs.keep_request(decode(&bytes)?);
        }
        for bytes in snapshot.values(&TIMERS, MAX_JOBS).map_err(|error| state_error(&error))? {
            jobs.keep_timer(decode(&bytes)?);
        }
        Ok(jobs)
    }

    fn keep_request(&mut self, wanted: Wanted) {
        *self.contracts.entry(wanted.contract).or_default() += 1;
        self.requests.insert(wanted.id, Arc::new(wanted));
    }

    fn keep_timer(&mut self, timer: Timer) {
        *self.contracts.entry(timer.contract).or_default() += 1;
        self.due.insert((timer.due_ms, timer.id), ());
        self.timers.insert(timer.id, timer);
    }

    fn leave(&mut self, contract: &AccountId) {
        if let Some(count) = self.contracts.get_mut(contract) {
            *count -= 1;
            if *count == 0 {
                self.contracts.remove(contract);
            }
        }
    }

    /// All requests.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &Arc<Wanted>> {
        self.requests.values()
    }

    /// When the next timer is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.due.first_key_value().map(|((due_ms, _), ())| *due_ms)
    }

    /// Whether what an execution asks for fits; a contract may have `most`.
    pub(crate) fn has_room<'a>(
        &self,
        effects: impl Iterator<Item = (&'a AccountId, &'a Effect)>,
        most: usize,
    ) -> Result<(), Coded> {
        let mut more: BTreeMap<&AccountId, usize> = BTreeMap::new();
        for (contract, effect) in effects {
            if matches!(effect, Effect::Request { .. } | Effect::Timer { .. }) {
                *more.entry(contract).or_default() += 1;
            }
        }
        let all = self.requests.len() + self.timers.len() + more.values().sum::<usize>();
        let full =
            |(contract, more): (&&AccountId, &usize)| self.contracts.get(*contract).copied().unwrap_or(0) + more > most;
        if !more.is_empty() && (all > MAX_JOBS || more.iter().any(full)) {
            return Err(Coded::new(Code::QueueFull, "of requests and timers that wait"));
        }
        Ok(())
    }

    /// Takes over what an execution asked for, at the time of its entry.
    pub(crate) fn take(&mut self, layer: &Layer, contract: AccountId, effect: Effect, now_ms: u64) {
        match effect {
            Effect::Request { id, request, timeout_ms, callback } => {
                let wanted = Wanted { id, contract, request, timeout_ms, asked_ms: now_ms, callback };
                layer.write(&REQUESTS, &id.to_be_bytes(), &wanted);
                self.keep_request(wanted);
            }
            Effect::Timer { id, delay_ms, period_ms, callback } => {
                let period_ms = if period_ms == 0 { 0 } else { period_ms.max(MIN_PERIOD_MS) };
                let due_ms = now_ms.saturating_add(delay_ms.max(1));
                let timer = Timer { id, contract, due_ms, period_ms, callback };
                layer.write(&TIMERS, &id.to_be_bytes(), &timer);
                self.keep_timer(timer);
            }
            Effect::CancelTimer { id } => {
                // A contract cancels its own only.
                if self.timers.get(&id).is_some_and(|timer| timer.contract == contract) {
                    self.remove_timer(layer, id);
                }
            }
            Effect::Log { .. }
            | Effect::Cache(_)
            | Effect::LogReader { .. }
            | Effect::Withdraw { .. }
            | Effect::ChainCall { .. } => {}
        }
    }

    fn remove_timer(&mut self, layer: &Layer, id: u64) -> Option<Timer> {
        let timer = self.timers.remove(&id)?;
        self.due.remove(&(timer.due_ms, id));
        self.leave(&timer.contract);
        layer.set(&TIMERS, id.to_be_bytes().to_vec(), None);
        Some(timer)
    }

    /// Takes a request out, to call back.
    pub(crate) fn answered(&mut self, layer: &Layer, id: u64) -> Option<Arc<Wanted>> {
        let wanted = self.requests.remove(&id)?;
        self.leave(&wanted.contract);
        layer.set(&REQUESTS, id.to_be_bytes().to_vec(), None);
        Some(wanted)
    }

    /// Takes the first timer that is due, to call back, and sets it anew if it has a period. Calls that were missed
    /// are left out.
    pub(crate) fn fire(&mut self, layer: &Layer, now_ms: u64) -> Option<Timer> {
        let ((due_ms, id), ()) = self.due.first_key_value()?;
        let (due_ms, id) = (*due_ms, *id);
        if due_ms > now_ms {
            return None;
        }
        let timer = self.remove_timer(layer, id)?;
        // A timer that calls once has no period.
        if let Some(late) = now_ms.saturating_sub(due_ms).checked_div(timer.period_ms) {
            let next = due_ms.saturating_add(timer.period_ms.saturating_mul(late.saturating_add(1)));
            let again = Timer { due_ms: next, ..timer.clone() };
            layer.write(&TIMERS, &id.to_be_bytes(), &again);
            self.keep_timer(again);
        }
        Some(timer)
    }

    /// Forgets all of a contract that has ended.
    pub(crate) fn end(&mut self, layer: &Layer, contract: &AccountId) {
        if !self.contracts.contains_key(contract) {
            return;
        }
        let requests = self.requests.values().filter(|wanted| wanted.contract == *contract);
        let requests: Vec<u64> = requests.map(|wanted| wanted.id).collect();
        let timers: Vec<u64> =
            self.timers.values().filter(|timer| timer.contract == *contract).map(|timer| timer.id).collect();
        for id in requests {
            self.answered(layer, id);
        }
        for id in timers {
            self.remove_timer(layer, id);
        }
    }
}

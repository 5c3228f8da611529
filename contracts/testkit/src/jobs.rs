//! Requests and timers that commands asked for: performed, fired, and called back, as a replica does it.
//!
//! - A **timer** fires in the first entry of its time or later, before the entry's command, and is set anew if it has a
//!   period; calls that were missed are left out.
//! - A **request** is performed against the test's canned responses, and its callback runs in an entry of its own.
//!
//! The caller of a callback is the contract itself, its gas is what the contract offered, and one that fails is a line in
//! the contract's log: nobody is there to tell.

use crate::{CLUSTER, Chain, Said};
use codec::Encode;
use phala_pink::{Callback, Effect, Outside};
use phala_primitives::AccountId;
use phala_vm::{Entry, Invocation, Mode};
use std::sync::Arc;

/// Shortest time between two calls of one timer, in milliseconds, as on the network.
const MIN_PERIOD_MS: u64 = 10;
/// Level of a failed callback in a log.
const ERROR: u8 = 1;
/// Callbacks may ask for more: after so many something goes round in circles.
const MOST: u64 = 100_000;

/// Something that waits.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) contract: AccountId,
    pub(crate) effect: Effect,
    /// When a timer is due; zero for requests.
    due_ms: u64,
}

impl Job {
    pub(crate) fn new(contract: AccountId, effect: Effect, now_ms: u64) -> Self {
        let due_ms = match effect {
            Effect::Timer { delay_ms, .. } => now_ms.saturating_add(delay_ms.max(1)),
            _ => 0,
        };
        Self { contract, effect, due_ms }
    }

    /// When it is due and its name, if it is a timer.
    fn due(&self) -> Option<(u64, u64)> {
        match self.effect {
            Effect::Timer { id, .. } => Some((self.due_ms, id)),
            _ => None,
        }
    }
}

impl Chain {
    /// Lets time pass as on the network: requests are performed and timers fire, each in an entry of its time.
    pub fn pass(&self, milliseconds: u64) {
        let until = self.block().time_ms.saturating_add(milliseconds);
        for _ in 0..MOST {
            self.settle();
            let next = self.inner.state.lock().jobs.iter().filter_map(Job::due).min();
            let Some((due_ms, _)) = next.filter(|(due_ms, _)| *due_ms <= until) else { break };
            self.step(1, due_ms);
        }
        self.step(1, until);
    }

    /// Performs requests and calls back until none is left, without that time passes for others. Returns how many.
    pub fn settle(&self) -> u64 {
        let mut performed = 0;
        while performed < MOST {
            let request = {
                let mut state = self.inner.state.lock();
                let jobs = &mut Arc::make_mut(&mut state).jobs;
                let found = jobs.iter().position(|job| matches!(job.effect, Effect::Request { .. }));
                found.map(|index| jobs.remove(index))
            };
            let Some(Job { contract, effect: Effect::Request { id, request, timeout_ms, callback }, .. }) = request
            else {
                break;
            };
            let result = self.inner.town.http(&contract, vec![request], timeout_ms).pop();
            let result = result.unwrap_or(Err(phala_pink::HttpError::NetworkError));
            self.next_height();
            self.call_back(contract, &callback, &(id, &callback.tag, result).encode());
            performed += 1;
        }
        performed
    }

    /// So many entries, the last of this time: timers that are due fire.
    pub(crate) fn step(&self, entries: u64, time_ms: u64) {
        {
            let mut state = self.inner.state.lock();
            let block = &mut Arc::make_mut(&mut state).block;
            block.height = block.height.saturating_add(entries);
            block.time_ms = block.time_ms.max(time_ms);
            self.inner.town.set_time(block.time_ms);
        }
        for _ in 0..MOST {
            let Some((contract, id, callback)) = self.fire() else { break };
            self.call_back(contract, &callback, &(id, &callback.tag).encode());
        }
    }

    /// Takes the first timer that is due, and sets it anew if it has a period.
    fn fire(&self) -> Option<(AccountId, u64, Callback)> {
        let mut state = self.inner.state.lock();
        let state = Arc::make_mut(&mut state);
        let now_ms = state.block.time_ms;
        let due = state.jobs.iter().enumerate().filter_map(|(index, job)| Some((job.due()?, index)));
        let ((due_ms, _), index) = due.min().filter(|((due_ms, _), _)| *due_ms <= now_ms)?;
        let job = state.jobs.remove(index);
        let Effect::Timer { id, period_ms, callback, .. } = &job.effect else { return None };
        let (id, callback, contract) = (*id, callback.clone(), job.contract);
        if *period_ms > 0 {
            let period = (*period_ms).max(MIN_PERIOD_MS);
            let late = now_ms.saturating_sub(due_ms) / period;
            let next = due_ms.saturating_add(period.saturating_mul(late.saturating_add(1)));
            state.jobs.push(Job { due_ms: next, ..job });
        }
        Some((contract, id, callback))
    }

    fn next_height(&self) {
        let mut state = self.inner.state.lock();
        let block = &mut Arc::make_mut(&mut state).block;
        block.height = block.height.saturating_add(1);
    }

    /// Calls a contract on behalf of itself.
    fn call_back(&self, contract: AccountId, callback: &Callback, arguments: &[u8]) {
        let (world, owner, block) = {
            let state = self.inner.state.lock();
            let Some(owner) = state.owners.get(&contract).copied() else { return };
            (state.world.clone(), owner, state.block)
        };
        let invocation = Invocation {
            mode: Mode::Command { gas_limit: callback.gas },
            entry: Entry::Call,
            contract,
            caller: contract,
            origin: owner,
            value: 0,
            data: [&callback.selector[..], arguments].concat(),
            block,
            cluster: CLUSTER,
        };
        let label = self.inner.interfaces.lock().get(&contract).map(|interface| interface.label(&callback.selector));
        let (name, message) = label.unwrap_or_else(|| ("code".into(), "callback".into()));
        let failed = match self.inner.engine.execute(world, invocation) {
            Ok(execution) => {
                self.inner.gas.lock().add((&name, &message), execution.gas_used);
                match self.apply(contract, &execution) {
                    Ok(()) if execution.reverted() => Some("the contract reverted".to_owned()),
                    Ok(()) => None,
                    Err(error) => Some(error.to_string()),
                }
            }
            Err(failure) => {
                self.inner.gas.lock().add((&name, &message), failure.gas_used);
                Some(failure.coded().to_string())
            }
        };
        if let Some(why) = failed {
            let text = format!("the callback {message} failed: {why}");
            Arc::make_mut(&mut self.inner.state.lock()).say(contract, Said::Line { level: ERROR, text });
        }
    }
}

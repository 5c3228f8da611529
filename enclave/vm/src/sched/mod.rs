//! The CPU, shared by weight between contracts that are queried.
//!
//! A query's thread needs a *slot* to run, of which there are as many as cores. Upon a query: let it in or refuse it;
//! wait for a slot; run. Upon a tick, and whenever someone arrives who has precedence: each running query counts the
//! ticks that it had its slot, ends if its time is over, and gives the slot away if another contract has used less (see
//! [`fair`]); then it waits for its next turn. Upon its end, or a panic, what it holds goes back.
//!
//! - The account is that of the contract that was asked. Its callees run on it.
//! - Time is counted in whole ticks as they fall. A query that ends between two ticks is free, one in which a tick falls
//!   pays for all of it; over many queries this comes to the time that they used.
//! - A query's deadline is wall time from its arrival, waiting included: that is what its caller sees.
//! - While a host function waits for something outside, it gives the slot away with [`Turn::pause`].
//! - What is compiled, and what host functions do, cannot be pre-empted. It is counted afterwards.
//!
//! Threads are woken when the lock is free again: whoever is woken may take the core of who wakes, and would keep it from
//! letting go of the lock. And the lock is one that does not yield the core while it waits, which is to the system as if
//! the thread's time were over: both held up short queries for as long as a thread may run, some milliseconds.

mod fair;
#[cfg(test)]
mod tests;

use crate::{Caller, Capacity, error::Reason};
use fair::{Bounds, Fair, Refused, Scarce, Ticket, Wait};
use phala_primitives::{AccountId, Code};
use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// What queries do at one moment, as an operator sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryLoad {
    /// Queries that were let in and have not ended.
    pub under_way: usize,
    /// Those that hold a slot.
    pub running: usize,
    /// Those that wait for one. The rest waits for something outside.
    pub waiting: usize,
    /// How often a query had to give its slot away since the engine was made.
    pub preemptions: u64,
    /// Linear memory that counts, in bytes.
    pub memory: usize,
}

pub(crate) struct Scheduler {
    ticks: AtomicU64,
    /// No query that waits has an earlier deadline.
    earliest: AtomicU64,
    state: Mutex<State>,
    /// Makes all running queries look whether they have to give their slots away.
    kick: Box<dyn Fn() + Send + Sync>,
}

struct State {
    fair: Fair,
    parked: BTreeMap<Ticket, Parked>,
    preemptions: u64,
}

/// A thread that waits.
struct Parked {
    contract: AccountId,
    deadline: u64,
    verdict: Option<Verdict>,
    wake: Arc<Condvar>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Granted,
    Expired,
}

/// Threads to wake when the lock is free.
#[must_use]
#[derive(Default)]
struct Woken(Vec<Arc<Condvar>>);

impl Woken {
    fn wake(self) {
        self.0.iter().for_each(|thread| thread.notify_one());
    }
}

impl State {
    /// Gives free slots to those who wait for them.
    fn hand_out(&mut self) -> Woken {
        let mut woken = Woken::default();
        while let Some(ticket) = self.fair.grant() {
            if let Some(parked) = self.parked.get_mut(&ticket) {
                parked.verdict = Some(Verdict::Granted);
                woken.0.push(Arc::clone(&parked.wake));
            }
        }
        woken
    }
}

impl Scheduler {
    pub(crate) fn new(capacity: &Capacity, nested: usize, kick: impl Fn() + Send + Sync + 'static) -> Self {
        let bounds = Bounds {
            slots: capacity.query_slots.max(1),
            seats: capacity.concurrent_queries.max(1),
            nested,
            queries: capacity.queries,
            memory: capacity.query_memory,
        };
        Self {
            ticks: AtomicU64::new(0),
            earliest: AtomicU64::new(u64::MAX),
            state: Mutex::new(State { fair: Fair::new(bounds), parked: BTreeMap::new(), preemptions: 0 }),
            kick: Box::new(kick),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ticks so far.
    pub(crate) fn now(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// Counts a tick, and ends the waiting of those whose time is over.
    pub(crate) fn tick(&self) {
        let now = self.ticks.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if now >= self.earliest.load(Ordering::Relaxed) {
            self.expire(now);
        }
    }

    fn expire(&self, now: u64) {
        let mut state = self.state();
        let State { fair, parked, .. } = &mut *state;
        let (mut earliest, mut woken) = (u64::MAX, Woken::default());
        for (ticket, parked) in parked.iter_mut().filter(|(_, parked)| parked.verdict.is_none()) {
            if parked.deadline > now {
                earliest = earliest.min(parked.deadline);
                continue;
            }
            fair.withdraw(&parked.contract, *ticket);
            parked.verdict = Some(Verdict::Expired);
            woken.0.push(Arc::clone(&parked.wake));
        }
        self.earliest.store(earliest, Ordering::Relaxed);
        drop(state);
        woken.wake();
    }

    pub(crate) fn load(&self) -> QueryLoad {
        let state = self.state();
        let State { fair, preemptions, .. } = &*state;
        QueryLoad {
            under_way: fair.under_way(),
            running: fair.running(),
            waiting: fair.waiting(),
            preemptions: *preemptions,
            memory: fair.memory(),
        }
    }

    pub(crate) fn set_weight(&self, contract: AccountId, weight: NonZeroU32) {
        self.state().fair.set_weight(contract, weight.get());
    }

    /// Lets a query in, of which its contract may have `most`, and waits until it may run. It ends `ticks` from now.
    ///
    /// Errors: `Busy` or `ContractBusy` if too many are under way, `TimeLimit` if it waited all its time.
    pub(crate) fn enter(
        self: &Arc<Self>,
        contract: AccountId,
        most: usize,
        ticks: u64,
        caller: &Caller,
    ) -> Result<Turn, Reason> {
        let mut turn = self.admit(contract, most, ticks, caller)?;
        turn.obtain(Wait::Start)?;
        Ok(turn)
    }

    /// The same for a part of a query, which takes the instance of a callee instead of a seat.
    ///
    /// Errors: as above, `Busy` also if there is no such instance.
    pub(crate) fn enter_part(
        self: &Arc<Self>,
        contract: AccountId,
        most: usize,
        ticks: u64,
        caller: &Caller,
    ) -> Result<Turn, Reason> {
        let mut turn = self.admit(contract, most, ticks, caller)?;
        turn.nest()?;
        turn.obtain(Wait::Resume)?;
        Ok(turn)
    }

    fn admit(self: &Arc<Self>, contract: AccountId, most: usize, ticks: u64, caller: &Caller) -> Result<Turn, Reason> {
        let deadline = self.now().saturating_add(ticks.max(1));
        self.state().fair.admit(contract, most).map_err(|refused| match refused {
            Refused::Queries(limit) => Reason::fault(Code::Busy, format!("{limit} queries are under way")),
            Refused::ContractQueries(limit) => {
                Reason::fault(Code::ContractBusy, format!("{limit} queries of {contract} are under way"))
            }
        })?;
        let (scheduler, caller) = (Arc::clone(self), caller.clone());
        let (since, seated, nested, memory) = (None, false, 0, 0);
        Ok(Turn { scheduler, contract, deadline, caller, since, seated, nested, memory })
    }

    /// Waits for a slot; the one that `turn` has, if it is pre-empted, goes to another.
    fn wait(&self, mut state: MutexGuard<'_, State>, turn: &Turn, why: Wait) -> Result<(), Reason> {
        let ticket = state.fair.enqueue(&turn.contract, why);
        if why == Wait::Turn {
            // Not before it waits: a contract that does neither for a moment would lose what it is owed.
            state.fair.release(&turn.contract);
        }
        let wake = Arc::new(Condvar::new());
        let (contract, deadline) = (turn.contract, turn.deadline);
        state.parked.insert(ticket, Parked { contract, deadline, verdict: None, wake: Arc::clone(&wake) });
        let woken = state.hand_out();
        let verdict = |state: &State| state.parked.get(&ticket).map_or(Some(Verdict::Expired), |parked| parked.verdict);
        let waits = verdict(&state).is_none();
        if waits {
            self.earliest.fetch_min(deadline, Ordering::Relaxed);
        }
        let outranks = waits && why != Wait::Turn && state.fair.anyone_outranked();
        drop(state);
        woken.wake();
        if outranks {
            (self.kick)();
        }
        let mut state = self.state();
        let verdict = loop {
            match verdict(&state) {
                Some(verdict) => break verdict,
                None => state = wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        state.parked.remove(&ticket);
        match verdict {
            Verdict::Granted => Ok(()),
            Verdict::Expired => Err(too_long()),
        }
    }
}

/// A query that was let in. When dropped, all that it holds goes back.
pub(crate) struct Turn {
    scheduler: Arc<Scheduler>,
    /// Whose account it is.
    contract: AccountId,
    deadline: u64,
    caller: Caller,
    /// The tick up to which the time on the slot was counted, if there is a slot.
    since: Option<u64>,
    /// Whether it was ever started.
    seated: bool,
    /// Instances of callees.
    nested: usize,
    /// Linear memory that counts, in bytes.
    memory: usize,
}

impl Turn {
    /// Whose account it is.
    pub(crate) fn account(&self) -> AccountId {
        self.contract
    }

    /// The tick at which the query's time is over.
    pub(crate) fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Who waits for the answer.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Errors: `TimeLimit` if the query's time is over, `Abandoned` if nobody waits for it.
    fn may_go_on(&self) -> Result<(), Reason> {
        if self.caller.has_left() {
            return Err(Reason::fault(Code::Abandoned, "nobody waits for the query's answer"));
        }
        if self.scheduler.now() >= self.deadline {
            return Err(too_long());
        }
        Ok(())
    }

    fn obtain(&mut self, why: Wait) -> Result<(), Reason> {
        let scheduler = Arc::clone(&self.scheduler);
        scheduler.wait(scheduler.state(), self, why)?;
        self.since = Some(scheduler.now());
        self.seated |= why == Wait::Start;
        Ok(())
    }

    /// Ticks until the query's time is over.
    pub(crate) fn ticks_left(&self) -> u64 {
        self.deadline.saturating_sub(self.scheduler.now())
    }

    /// Counts the time on the slot, and returns whether there was any.
    fn settle(&mut self, state: &mut State) -> bool {
        let now = self.scheduler.now();
        let Some(since) = self.since.as_mut() else { return false };
        let used = now.saturating_sub(std::mem::replace(since, now));
        state.fair.charge(&self.contract, used);
        used > 0
    }

    /// To be called as often as the clock ticks: gives the slot away if it is another's turn, and waits for the next.
    ///
    /// Errors: `TimeLimit` if the query's time is over, `Abandoned` if nobody waits for it.
    pub(crate) fn check(&mut self) -> Result<(), Reason> {
        self.may_go_on()?;
        let scheduler = Arc::clone(&self.scheduler);
        let mut state = scheduler.state();
        let used = self.settle(&mut state);
        if !state.fair.outranked(&self.contract, used) {
            return Ok(());
        }
        state.preemptions = state.preemptions.saturating_add(1);
        self.since = None;
        scheduler.wait(state, self, Wait::Turn)?;
        self.since = Some(scheduler.now());
        Ok(())
    }

    /// Waits for something outside without a slot, and then for a slot. Others run meanwhile; the query's time goes on.
    ///
    /// Errors: `TimeLimit` if the query's time is over.
    pub(crate) fn pause<T>(&mut self, outside: impl FnOnce() -> T) -> Result<T, Reason> {
        self.give_back();
        let outcome = outside();
        self.may_go_on()?;
        self.obtain(Wait::Resume)?;
        Ok(outcome)
    }

    fn give_back(&mut self) {
        let scheduler = Arc::clone(&self.scheduler);
        let mut state = scheduler.state();
        self.settle(&mut state);
        if self.since.take().is_some() {
            state.fair.release(&self.contract);
            let woken = state.hand_out();
            drop(state);
            woken.wake();
        }
    }

    /// Takes linear memory, of which the contract may have `most` bytes.
    ///
    /// Errors: `ContractMemoryLimit`, and `MemoryBusy` if others hold it.
    pub(crate) fn grow(&mut self, bytes: usize, most: usize) -> Result<(), Reason> {
        if bytes == 0 {
            return Ok(());
        }
        let taken = self.scheduler.state().fair.grow(&self.contract, bytes, most);
        taken.map_err(|scarce| match scarce {
            Scarce::Contract => {
                let detail = format!("more than {most} bytes of memory wanted by all queries of {}", self.contract);
                Reason::fault(Code::ContractMemoryLimit, detail)
            }
            Scarce::All => Reason::fault(Code::MemoryBusy, "the memory for queries is in use"),
        })?;
        self.memory = self.memory.saturating_add(bytes);
        Ok(())
    }

    /// Gives linear memory back.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.memory);
        if bytes > 0 {
            self.memory = self.memory.saturating_sub(bytes);
            self.scheduler.state().fair.shrink(&self.contract, bytes);
        }
    }

    /// Takes an instance for a callee.
    ///
    /// Errors: `Busy` if there is none to be had.
    pub(crate) fn nest(&mut self) -> Result<(), Reason> {
        if !self.scheduler.state().fair.nest(&self.contract) {
            return Err(Reason::fault(Code::Busy, "all instances are in use"));
        }
        self.nested = self.nested.saturating_add(1);
        Ok(())
    }

    /// Gives a callee's instance back.
    pub(crate) fn unnest(&mut self) {
        if let Some(nested) = self.nested.checked_sub(1) {
            self.nested = nested;
            self.scheduler.state().fair.unnest(&self.contract);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let scheduler = Arc::clone(&self.scheduler);
        let mut state = scheduler.state();
        self.settle(&mut state);
        if self.since.take().is_some() {
            state.fair.release(&self.contract);
        }
        state.fair.shrink(&self.contract, self.memory);
        state.fair.leave(&self.contract, self.seated, self.nested);
        let woken = state.hand_out();
        drop(state);
        woken.wake();
    }
}

fn too_long() -> Reason {
    Reason::fault(Code::TimeLimit, "the query's time is over")
}

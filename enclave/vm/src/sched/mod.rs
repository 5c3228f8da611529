//! The CPU, shared by weight between contracts that are queried.
//!
//! A query needs a *slot* to run, of which there are as many as cores. Upon a query: let it in or refuse it;
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
//! - A query that has not begun belongs to no thread. It is run by a *runner*, which takes the next one along when it
//!   ends one (see [`runners`]), or by the thread that asks it if there is a slot at once.
//!
//! Threads are woken when the lock is free again: whoever is woken may take the core of who wakes, and would keep it from
//! letting go of the lock. And the lock is one that does not yield the core while it waits, which is to the system as if
//! the thread's time were over: both held up short queries for as long as a thread may run, some milliseconds.

mod fair;
mod runners;
#[cfg(test)]
mod tests;

use crate::{Caller, Capacity, error::Reason};
use fair::{Bounds, Fair, Ran, Refused, Scarce, Ticket, Wait};
use phala_primitives::{AccountId, Code};
pub(crate) use runners::Lend;
use runners::{Fresh, Hand, Runners, Work};
use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::channel,
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
    /// For runners that have nothing to do.
    work_there: Condvar,
    /// Where runners come from.
    lend: OnceLock<Lend>,
    /// Makes all running queries look whether they have to give their slots away.
    kick: Box<dyn Fn() + Send + Sync>,
}

struct State {
    fair: Fair,
    parked: BTreeMap<Ticket, Parked>,
    runners: Runners,
    preemptions: u64,
}

/// A query that waits for a slot.
struct Parked {
    contract: AccountId,
    deadline: u64,
    who: Who,
}

enum Who {
    /// One that has not begun.
    Fresh(Fresh),
    /// One that goes on, on this thread.
    Thread(Arc<Waiter>),
}

/// What became of a thread that waits.
enum Verdict {
    Granted,
    Expired,
}

#[derive(Default)]
struct Waiter {
    verdict: Mutex<Option<Verdict>>,
    reached: Condvar,
}

impl Waiter {
    /// To be followed by [`Waiter::wake`] when no lock is held.
    fn decide(&self, verdict: Verdict) {
        *locked(&self.verdict) = Some(verdict);
    }

    fn wake(&self) {
        self.reached.notify_one();
    }

    fn wait(&self) -> Verdict {
        let mut verdict = locked(&self.verdict);
        loop {
            match verdict.take() {
                Some(verdict) => return verdict,
                None => verdict = self.reached.wait(verdict).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// What a thread that asks is told.
enum Told<T> {
    Outcome(Result<T, Reason>),
    /// It is its turn, and there is no other thread.
    Run(Turn, Work),
}

/// A thread that can run a query which has not begun, and does so right after it let go of the lock.
enum Taker<'a> {
    Nobody,
    /// A runner whose query has just ended takes any.
    Runner(&'a Hand),
    /// Who asks takes its own.
    Asker(Ticket, &'a Hand),
}

/// Whom to wake when the lock is free.
#[must_use]
#[derive(Default)]
struct Woken {
    waiters: Vec<Arc<Waiter>>,
    /// Runners that wait for work, of which there is some.
    runners: usize,
    /// Work for runners that there are not yet.
    jobs: Vec<Fresh>,
}

impl Woken {
    fn append(&mut self, other: Self) {
        self.waiters.extend(other.waiters);
        self.runners = self.runners.saturating_add(other.runners);
        self.jobs.extend(other.jobs);
    }
}

impl State {
    /// Gives free slots to those who wait for them.
    fn hand_out(&mut self, now: u64, taker: &Taker<'_>) -> Woken {
        let mut woken = Woken::default();
        while let Some(ticket) = self.fair.grant() {
            match self.parked.remove(&ticket).map(|parked| parked.who) {
                Some(Who::Thread(waiter)) => {
                    waiter.decide(Verdict::Granted);
                    woken.waiters.push(waiter);
                }
                Some(Who::Fresh(mut fresh)) => {
                    fresh.turn.start(now);
                    match taker {
                        Taker::Runner(hand) if hand.is_empty() => hand.put(fresh),
                        Taker::Asker(own, hand) if *own == ticket => hand.put(fresh),
                        _ => match self.runners.assign(fresh) {
                            None => woken.runners = woken.runners.saturating_add(1),
                            Some(fresh) => woken.jobs.push(fresh),
                        },
                    }
                }
                None => {}
            }
        }
        woken
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
            state: Mutex::new(State {
                fair: Fair::new(bounds),
                parked: BTreeMap::new(),
                runners: Runners::new(bounds.slots),
                preemptions: 0,
            }),
            work_there: Condvar::new(),
            lend: OnceLock::new(),
            kick: Box::new(kick),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    fn wake(self: &Arc<Self>, mut woken: Woken) {
        loop {
            let Woken { waiters, runners, jobs } = std::mem::take(&mut woken);
            waiters.iter().for_each(|waiter| waiter.wake());
            (0..runners).for_each(|_| self.work_there.notify_one());
            if jobs.is_empty() {
                return;
            }
            // Of each for which there is no thread another gets the slot.
            jobs.into_iter().for_each(|job| woken.append(runners::start(self, job)));
        }
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
        let expired: Vec<_> = parked.extract_if(.., |_, parked| parked.deadline <= now).collect();
        let earliest = parked.values().map(|parked| parked.deadline).min().unwrap_or(u64::MAX);
        for (ticket, parked) in &expired {
            fair.withdraw(&parked.contract, *ticket);
        }
        self.earliest.store(earliest, Ordering::Relaxed);
        drop(state);
        for (_, parked) in expired {
            match parked.who {
                Who::Thread(waiter) => {
                    waiter.decide(Verdict::Expired);
                    waiter.wake();
                }
                Who::Fresh(Fresh { turn, work, .. }) => {
                    drop(turn);
                    runners::conclude(work, Err(too_long()));
                }
            }
        }
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

    /// Lets a query in, of which its contract may have `most`, and does its work on a thread of the scheduler when it is
    /// its turn. It ends `ticks` from now.
    ///
    /// Errors, to `work`: `Busy` or `ContractBusy` if too many are under way, `TimeLimit` if it waited all its time,
    /// `Abandoned` if the caller left before it began.
    pub(crate) fn submit(
        self: &Arc<Self>,
        (contract, most): (AccountId, usize),
        ticks: u64,
        caller: &Caller,
        work: impl FnOnce(Result<Turn, Reason>) + Send + 'static,
    ) {
        match self.admit(contract, most, ticks, caller) {
            Ok(turn) => self.begin(Fresh { turn, work: Box::new(work), asker: None }, None),
            Err(refused) => work(Err(refused)),
        }
    }

    /// The same, on this thread if there is a slot at once. Returns what the work comes to.
    ///
    /// Errors: as above, and `Internal` if the work panicked elsewhere.
    pub(crate) fn run<T: Send + 'static>(
        self: &Arc<Self>,
        (contract, most): (AccountId, usize),
        ticks: u64,
        caller: &Caller,
        work: impl FnOnce(Turn) -> T + Send + 'static,
    ) -> Result<T, Reason> {
        let turn = self.admit(contract, most, ticks, caller)?;
        let (tell, told) = channel();
        let back = tell.clone();
        let work: Work = Box::new(move |turn| drop(tell.send(Told::Outcome(turn.map(work)))));
        let asker = Box::new(move |turn, work| drop(back.send(Told::Run(turn, work))));
        let hand = Hand::default();
        self.begin(Fresh { turn, work, asker: Some(asker) }, Some(&hand));
        if let Some(Fresh { turn, work, .. }) = hand.take() {
            work(Ok(turn));
        }
        loop {
            match told.recv() {
                Ok(Told::Run(turn, work)) => work(Ok(turn)),
                Ok(Told::Outcome(outcome)) => return outcome,
                Err(_) => return Err(Reason::fault(Code::Internal, "the query panicked")),
            }
        }
    }

    /// Gives a query to a runner, or to who asks if there is a slot at once, or puts it into the queue.
    fn begin(self: &Arc<Self>, fresh: Fresh, asker: Option<&Hand>) {
        let (contract, deadline) = (fresh.turn.contract, fresh.turn.deadline);
        let mut state = self.state();
        let ticket = state.fair.enqueue(&contract, Wait::Start);
        let taker = asker.map_or(Taker::Nobody, |hand| Taker::Asker(ticket, hand));
        self.park(state, ticket, Parked { contract, deadline, who: Who::Fresh(fresh) }, &taker, true);
    }

    /// Lets a part of a query in and waits until it may run, on this thread. It takes the instance of a callee instead of
    /// a seat.
    ///
    /// Errors: those of [`Scheduler::run`], `Busy` also if there is no such instance.
    pub(crate) fn enter_part(
        self: &Arc<Self>,
        contract: AccountId,
        most: usize,
        ticks: u64,
        caller: &Caller,
    ) -> Result<Turn, Reason> {
        let mut turn = self.admit(contract, most, ticks, caller)?;
        turn.nest()?;
        turn.obtain(self.state(), Wait::Resume)?;
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
        let (since, granted, seated, nested, memory, runner) = (None, 0, false, 0, 0, None);
        Ok(Turn { scheduler, contract, deadline, caller, since, granted, seated, nested, memory, runner })
    }

    /// Gives a slot away, or lets one who is in the queue have one, and sees to the rest. `arrives` if it may outrank who
    /// runs.
    fn park(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        ticket: Ticket,
        parked: Parked,
        taker: &Taker<'_>,
        arrives: bool,
    ) {
        let deadline = parked.deadline;
        state.parked.insert(ticket, parked);
        let woken = state.hand_out(self.now(), taker);
        let waits = state.parked.contains_key(&ticket);
        if waits {
            self.earliest.fetch_min(deadline, Ordering::Relaxed);
        }
        let outranks = waits && arrives && state.fair.anyone_outranked();
        drop(state);
        self.wake(woken);
        if outranks {
            (self.kick)();
        }
    }

    /// Takes runners from the host from now on.
    pub(crate) fn borrow_threads(&self, lend: Lend) {
        let _ = self.lend.set(lend);
    }

    /// Ends all runners that have nothing to do. To be called when there are no more queries.
    pub(crate) fn close(&self) {
        self.state().runners.close();
        self.work_there.notify_all();
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
    /// The tick at which it got that slot.
    granted: u64,
    /// Whether it was ever started.
    seated: bool,
    /// Of the runner that runs it, if one does.
    runner: Option<Arc<Hand>>,
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

    /// Takes note that it begins.
    fn start(&mut self, now: u64) {
        self.seated = true;
        self.take_slot(now);
    }

    fn take_slot(&mut self, now: u64) {
        (self.since, self.granted) = (Some(now), now);
    }

    /// Waits for a slot on this thread; the one that it had, if it is pre-empted, goes to another.
    fn obtain(&mut self, mut state: MutexGuard<'_, State>, why: Wait) -> Result<(), Reason> {
        let ticket = state.fair.enqueue(&self.contract, why);
        if why == Wait::Turn {
            // Not before it waits: a contract that does neither for a moment would lose what it is owed.
            state.fair.release(&self.contract);
        }
        let waiter = Arc::new(Waiter::default());
        let who = Who::Thread(Arc::clone(&waiter));
        let parked = Parked { contract: self.contract, deadline: self.deadline, who };
        self.scheduler.park(state, ticket, parked, &Taker::Nobody, why != Wait::Turn);
        match waiter.wait() {
            Verdict::Granted => {
                self.take_slot(self.scheduler.now());
                Ok(())
            }
            Verdict::Expired => Err(too_long()),
        }
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
        let ran = match self.settle(&mut state) {
            false => Ran::Nothing,
            true if scheduler.now().saturating_sub(self.granted) < 2 => Ran::Part,
            true => Ran::Whole,
        };
        if !state.fair.outranked(&self.contract, ran) {
            return Ok(());
        }
        state.preemptions = state.preemptions.saturating_add(1);
        self.since = None;
        self.obtain(state, Wait::Turn)
    }

    /// Waits for something outside without a slot, and then for a slot. Others run meanwhile; the query's time goes on.
    ///
    /// Errors: `TimeLimit` if the query's time is over.
    pub(crate) fn pause<T>(&mut self, outside: impl FnOnce() -> T) -> Result<T, Reason> {
        self.give_back();
        let outcome = outside();
        self.may_go_on()?;
        let scheduler = Arc::clone(&self.scheduler);
        self.obtain(scheduler.state(), Wait::Resume)?;
        Ok(outcome)
    }

    fn give_back(&mut self) {
        let scheduler = Arc::clone(&self.scheduler);
        let mut state = scheduler.state();
        self.settle(&mut state);
        if self.since.take().is_some() {
            state.fair.release(&self.contract);
            let woken = state.hand_out(scheduler.now(), &Taker::Nobody);
            drop(state);
            scheduler.wake(woken);
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
        let taker = self.runner.as_deref().map_or(Taker::Nobody, Taker::Runner);
        let woken = state.hand_out(scheduler.now(), &taker);
        drop(state);
        match &self.runner {
            Some(runner) => runner.wake_later(woken),
            None => scheduler.wake(woken),
        }
    }
}

fn too_long() -> Reason {
    Reason::fault(Code::TimeLimit, "the query's time is over")
}

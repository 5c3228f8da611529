//! The queue alone, without threads: a model of slots that all tick at once. In the end, what only threads show.

use super::{
    QueryLoad, Scheduler, Turn,
    fair::{Bounds, Fair, Ran, Refused, Ticket, Wait},
};
use crate::{Caller, Capacity, error::Reason};
use phala_primitives::{AccountId, Code};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

const BOUNDS: Bounds = Bounds { slots: 2, seats: 32, nested: 64, queries: 256, memory: 64 << 20 };
/// Queries that one contract may have.
const MOST: usize = 64;

fn id(number: u8) -> AccountId {
    AccountId([number; 32])
}

/// A query of the model: whose it is, and the ticks that it still needs.
#[derive(Clone, Copy)]
struct Job {
    contract: u8,
    left: u64,
    seated: bool,
    used: bool,
}

struct Model {
    fair: Fair,
    bounds: Bounds,
    most: usize,
    waiting: BTreeMap<Ticket, Job>,
    running: Vec<Job>,
    /// Ticks that each contract had.
    had: BTreeMap<u8, u64>,
    ended: BTreeMap<u8, u64>,
    started: Vec<u8>,
}

impl Model {
    fn new(bounds: Bounds) -> Self {
        let (fair, had, ended) = (Fair::new(bounds), BTreeMap::new(), BTreeMap::new());
        Self { fair, bounds, most: MOST, waiting: BTreeMap::new(), running: vec![], had, ended, started: vec![] }
    }

    fn arrive(&mut self, contract: u8, left: u64) -> Result<(), Refused> {
        self.fair.admit(id(contract), self.most)?;
        self.wait(Job { contract, left, seated: false, used: false }, Wait::Start);
        self.look(false);
        Ok(())
    }

    fn wait(&mut self, job: Job, why: Wait) {
        let ticket = self.fair.enqueue(&id(job.contract), why);
        self.waiting.insert(ticket, job);
        if why == Wait::Turn {
            self.fair.release(&id(job.contract));
        }
        self.grant();
    }

    fn grant(&mut self) {
        while let Some(ticket) = self.fair.grant() {
            let job = self.waiting.remove(&ticket).unwrap();
            self.started.push(job.contract);
            self.running.push(Job { seated: true, used: false, ..job });
        }
        assert!(self.running.len() <= self.bounds.slots);
        assert_eq!(self.running.len(), self.fair.running());
        assert_eq!(self.waiting.len(), self.fair.waiting());
    }

    /// All that run give their slots away where they have to.
    fn look(&mut self, used: bool) {
        let mut index = 0;
        while let Some(job) = self.running.get(index).copied() {
            let ran = if used && job.used { Ran::Whole } else { Ran::Nothing };
            if self.fair.outranked(&id(job.contract), ran) {
                self.running.remove(index);
                self.wait(job, Wait::Turn);
            } else {
                index += 1;
            }
        }
    }

    fn tick(&mut self) {
        for mut job in std::mem::take(&mut self.running) {
            self.fair.charge(&id(job.contract), 1);
            *self.had.entry(job.contract).or_default() += 1;
            job.left -= 1;
            job.used = true;
            if job.left > 0 {
                self.running.push(job);
                continue;
            }
            *self.ended.entry(job.contract).or_default() += 1;
            self.fair.release(&id(job.contract));
            self.fair.leave(&id(job.contract), job.seated, 0);
        }
        self.grant();
        self.look(true);
    }

    fn had(&self, contract: u8) -> u64 {
        self.had.get(&contract).copied().unwrap_or(0)
    }
}

const ENDLESS: u64 = u64::MAX;

fn about(found: u64, expected: u64, ticks: u64) {
    assert!(found.abs_diff(expected) * 50 <= ticks, "{found} of {ticks} ticks where {expected} are fair");
}

#[test]
fn contracts_share_equally_however_many_queries_they_have() {
    let mut model = Model::new(BOUNDS);
    for _ in 0..40 {
        model.arrive(1, ENDLESS).unwrap();
    }
    (0..3).for_each(|_| model.arrive(2, ENDLESS).unwrap());
    (0..1000).for_each(|_| model.tick());
    about(model.had(1), 1000, 2000);
    about(model.had(2), 1000, 2000);
}

#[test]
fn weights_are_shares() {
    let mut model = Model::new(Bounds { slots: 3, ..BOUNDS });
    for (contract, weight) in [(1, 1), (2, 3), (3, 8)] {
        model.fair.set_weight(id(contract), weight);
        (0..4).for_each(|_| model.arrive(contract, ENDLESS).unwrap());
    }
    (0..4000).for_each(|_| model.tick());
    for (contract, share) in [(1, 1), (2, 3), (3, 8)] {
        about(model.had(contract), share * 1000, 12_000);
    }
}

#[test]
fn queries_of_one_contract_take_turns_in_the_order_of_their_arrival() {
    let mut model = Model::new(Bounds { slots: 1, ..BOUNDS });
    (0..3).for_each(|_| model.arrive(1, 2).unwrap());
    let mut left = vec![];
    for _ in 0..6 {
        left.push(model.running[0].left);
        model.tick();
    }
    assert_eq!(left, [2, 2, 2, 1, 1, 1]);
}

#[test]
fn whoever_arrives_runs_at_once_while_others_use_all_slots() {
    let mut model = Model::new(BOUNDS);
    (0..20).for_each(|_| model.arrive(1, ENDLESS).unwrap());
    (0..100).for_each(|_| model.tick());
    model.arrive(2, 1).unwrap();
    assert!(model.running.iter().any(|job| job.contract == 2));
}

#[test]
fn idleness_is_no_credit() {
    let mut model = Model::new(Bounds { slots: 1, ..BOUNDS });
    model.arrive(1, 1).unwrap();
    model.tick();
    model.arrive(2, ENDLESS).unwrap();
    (0..10_000).for_each(|_| model.tick());
    model.arrive(1, ENDLESS).unwrap();
    let before = model.had(1);
    (0..100).for_each(|_| model.tick());
    about(model.had(1) - before, 50, 100);
}

#[test]
fn one_query_at_a_time_is_no_way_around_the_queue() {
    let mut model = Model::new(Bounds { slots: 1, ..BOUNDS });
    model.arrive(1, ENDLESS).unwrap();
    for _ in 0..1000 {
        if model.running.iter().chain(model.waiting.values()).all(|job| job.contract != 2) {
            model.arrive(2, 1).unwrap();
        }
        model.tick();
    }
    about(model.had(1), 500, 1000);
}

#[test]
fn a_contract_that_wants_less_than_its_share_holds_nobody_up() {
    // The first runs one query and falls far behind the second; a third that comes must not wait for that.
    let mut model = Model::new(Bounds { slots: 4, ..BOUNDS });
    model.arrive(1, ENDLESS).unwrap();
    (0..10).for_each(|_| model.arrive(2, ENDLESS).unwrap());
    (0..10_000).for_each(|_| model.tick());
    (0..10).for_each(|_| model.arrive(3, ENDLESS).unwrap());
    let before = model.had(2);
    (0..100).for_each(|_| model.tick());
    assert!(model.had(2) - before > 100, "{}", model.had(2) - before);
    assert_eq!(model.had(1), 10_100);
}

#[test]
fn limits_are_told_apart() {
    let mut model = Model::new(Bounds { queries: 5, ..BOUNDS });
    model.most = 3;
    (0..3).for_each(|_| model.arrive(1, 1).unwrap());
    assert_eq!(model.arrive(1, 1), Err(Refused::ContractQueries(3)));
    (0..2).for_each(|_| model.arrive(2, 1).unwrap());
    assert_eq!(model.arrive(2, 1), Err(Refused::Queries(5)));
    (0..10).for_each(|_| model.tick());
    assert_eq!(model.fair.under_way(), 0);
    model.arrive(1, 1).unwrap();
}

#[test]
fn no_contract_takes_the_last_seat_of_others() {
    let mut model = Model::new(Bounds { seats: 8, ..BOUNDS });
    for contract in 1..4 {
        (0..20).for_each(|_| model.arrive(contract, ENDLESS).unwrap());
        (0..200).for_each(|_| model.tick());
    }
    model.arrive(9, 1).unwrap();
    (0..4).for_each(|_| model.tick());
    assert_eq!(model.ended.get(&9), Some(&1));
    let mut fair = Fair::new(Bounds { nested: 3, ..BOUNDS });
    fair.admit(id(1), MOST).unwrap();
    fair.admit(id(2), MOST).unwrap();
    assert_eq!([1, 1, 1, 2, 2].map(|contract| fair.nest(&id(contract))), [true, true, false, true, false]);
    fair.unnest(&id(1));
    fair.leave(&id(1), true, 1);
    assert!(fair.nest(&id(2)));
}

#[test]
fn those_who_give_up_are_gone() {
    let mut fair = Fair::new(Bounds { slots: 1, ..BOUNDS });
    let tickets = [1, 2, 3].map(|contract| {
        fair.admit(id(contract), MOST).unwrap();
        fair.enqueue(&id(contract), Wait::Start)
    });
    fair.withdraw(&id(1), tickets[0]);
    fair.leave(&id(1), false, 0);
    assert_eq!(fair.grant(), Some(tickets[1]));
    assert_eq!((fair.running(), fair.waiting(), fair.under_way()), (1, 1, 2));
}

/// Numbers by chance, the same from the same seed: xorshift.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn whatever_comes_slots_are_used_and_nobody_starves() {
    for seed in 1..60 {
        let mut chance = Chance(seed * 0x9e37_79b9);
        let slots = 1 + chance.below(4) as usize;
        let mut model = Model::new(Bounds { slots, seats: slots * 4, ..BOUNDS });
        model.fair.set_weight(id(1), 1 + chance.below(4) as u32);
        // The first contract always has endless work; the others come and go.
        (0..slots + 1).for_each(|_| model.arrive(0, ENDLESS).unwrap());
        let (mut last, mut longest) = (0, 0);
        for round in 0..2000 {
            if chance.below(3) == 0 {
                let left = 1 + chance.below(20);
                let _ = model.arrive(1 + chance.below(6) as u8, left);
            }
            let before = model.had(0);
            model.tick();
            if model.had(0) > before {
                (longest, last) = (longest.max(round - last), round);
            }
            assert_eq!(model.running.len(), slots, "seed {seed}: a slot is idle while queries wait");
        }
        assert!(longest < 120, "seed {seed}: {longest} ticks without a turn");
        // The others' weights are nine at most.
        assert!(model.had(0) * 10 >= 2000, "seed {seed}: {} ticks", model.had(0));
    }
}

#[test]
fn shares_of_many_contracts_with_random_weights_converge() {
    for seed in 1..20 {
        let mut chance = Chance(seed * 0x51_7cc1);
        let mut model = Model::new(Bounds { slots: 1 + chance.below(2) as usize, ..BOUNDS });
        let weights: Vec<u64> = (0..5).map(|_| 2 + chance.below(4)).collect();
        let sum: u64 = weights.iter().sum();
        for (contract, weight) in weights.iter().enumerate() {
            model.fair.set_weight(id(contract as u8), *weight as u32);
            (0..2).for_each(|_| model.arrive(contract as u8, ENDLESS).unwrap());
        }
        let ticks = 20_000;
        (0..ticks).for_each(|_| model.tick());
        let all = ticks * model.bounds.slots as u64;
        for (contract, weight) in weights.iter().enumerate() {
            about(model.had(contract as u8), all * weight / sum, all);
        }
    }
}

#[test]
fn others_run_while_a_query_waits_for_something_outside() {
    let scheduler = Arc::new(Scheduler::new(&Capacity { query_slots: 1, ..Capacity::default() }, 1, || {}));
    let (asked, other) = ((id(1), MOST), (id(2), MOST));
    let beside = Arc::clone(&scheduler);
    let work = move |mut first: Turn| {
        let answer = first.pause(|| {
            assert_eq!(beside.load(), QueryLoad { under_way: 1, ..QueryLoad::default() });
            let inner = Arc::clone(&beside);
            let second = move |mut second: Turn| {
                second.check().unwrap();
                inner.load().running
            };
            beside.run(other, 100, &Caller::default(), second).unwrap()
        });
        assert_eq!((answer.unwrap(), beside.load().running), (1, 1));
        let late = first.pause(|| (0..100).for_each(|_| beside.tick())).unwrap_err();
        assert_eq!((late.code(), beside.load().running), (Code::TimeLimit, 0));
    };
    scheduler.run(asked, 100, &Caller::default(), work).unwrap();
    assert_eq!(scheduler.load(), QueryLoad::default());
}

/// A scheduler of one slot, which a query holds until `end` is dropped. Its answer comes through the handle.
fn occupied() -> (Arc<Scheduler>, Sender<()>, JoinHandle<Result<(), Reason>>) {
    occupied_with(|work| std::thread::Builder::new().spawn(work).is_ok())
}

fn occupied_with(
    lend: impl Fn(Box<dyn FnOnce() + Send>) -> bool + Send + Sync + 'static,
) -> (Arc<Scheduler>, Sender<()>, JoinHandle<Result<(), Reason>>) {
    let scheduler = Arc::new(Scheduler::new(&Capacity { query_slots: 1, ..Capacity::default() }, 1, || {}));
    scheduler.borrow_threads(Box::new(lend));
    let ((end, ended), (begin, begun)) = (channel::<()>(), channel());
    let own = Arc::clone(&scheduler);
    let work = move |_: Turn| {
        begin.send(()).unwrap();
        ended.recv().unwrap_err();
    };
    let thread = std::thread::spawn(move || own.run((id(1), MOST), 100, &Caller::default(), work));
    begun.recv().unwrap();
    (scheduler, end, thread)
}

/// Asks `query` of a scheduler whose slots are all taken, on a thread of its own, and returns when it waits.
fn queued<T: Send + 'static>(
    scheduler: &Arc<Scheduler>,
    query: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<Result<T, Reason>> {
    let (own, before) = (Arc::clone(scheduler), scheduler.load().waiting);
    let thread = std::thread::spawn(move || {
        own.run((id(2), MOST), 100, &Caller::default(), |turn| {
            let outcome = query();
            drop(turn);
            outcome
        })
    });
    while scheduler.load().waiting == before {
        std::thread::yield_now();
    }
    thread
}

#[test]
fn queries_that_waited_run_one_after_the_other_on_one_thread() {
    let (scheduler, end, first) = occupied();
    let asked: Vec<_> = (0..20).map(|_| queued(&scheduler, || std::thread::current().id())).collect();
    drop(end);
    first.join().unwrap().unwrap();
    let ran: Vec<_> = asked.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect();
    assert!(ran.iter().all(|thread| Some(thread) == ran.first()), "{ran:?}");
    assert_eq!(scheduler.load(), QueryLoad::default());
}

#[test]
fn no_query_is_lost_however_long_a_thread_takes_to_start() {
    for (before, after) in [(30, 0), (0, 30)] {
        let pause = |ms| std::thread::sleep(std::time::Duration::from_millis(ms));
        let (scheduler, end, first) = occupied_with(move |work| {
            let thread = std::thread::Builder::new().spawn(move || {
                pause(before);
                work();
            });
            pause(after);
            thread.is_ok()
        });
        let asked: Vec<_> = (0..3).map(|_| queued(&scheduler, || 7)).collect();
        drop(end);
        first.join().unwrap().unwrap();
        asked.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap().unwrap(), 7));
    }
}

#[test]
fn where_the_host_has_no_threads_whoever_asks_runs_its_own_query() {
    let (scheduler, end, first) = occupied_with(|_| false);
    let asked: Vec<_> = (0..5).map(|_| queued(&scheduler, || std::thread::current().id())).collect();
    let refused = submitted(&scheduler, &Caller::default());
    drop(end);
    first.join().unwrap().unwrap();
    for thread in asked {
        let own = thread.thread().id();
        assert_eq!(thread.join().unwrap().unwrap(), own);
    }
    assert_eq!(refused.recv().unwrap().unwrap_err().code(), Code::Busy);
    assert_eq!(scheduler.load(), QueryLoad::default());
}

/// Submits a query which does nothing, and returns what it comes to.
fn submitted(scheduler: &Arc<Scheduler>, caller: &Caller) -> Receiver<Result<(), Reason>> {
    let (tell, told) = channel();
    let work = move |turn: Result<Turn, Reason>| tell.send(turn.map(drop)).unwrap();
    scheduler.submit((id(3), MOST), 100, caller, work);
    told
}

#[test]
fn without_a_thread_those_who_wait_are_refused_in_their_order_and_not_one_within_the_other() {
    for panics in [false, true] {
        let lend = move |_| if panics { panic!("as it was told to") } else { false };
        let (scheduler, end, first) = occupied_with(lend);
        let (tell, told) = channel();
        for number in 0..200_u8 {
            let tell = tell.clone();
            let work = move |turn: Result<Turn, Reason>| tell.send((number, turn.map(drop))).unwrap();
            scheduler.submit((id(number), MOST), 100, &Caller::default(), work);
        }
        drop((end, tell));
        first.join().unwrap().unwrap();
        let refused: Vec<_> = told.iter().map(|(number, outcome)| (number, outcome.unwrap_err().code())).collect();
        assert_eq!(refused, (0..200).map(|number| (number, Code::Busy)).collect::<Vec<_>>());
        assert_eq!(scheduler.load(), QueryLoad::default());
    }
}

#[test]
fn a_query_whose_caller_left_while_it_waited_is_never_run() {
    let (scheduler, end, first) = occupied();
    let caller = Caller::default();
    let (left, stays) = (submitted(&scheduler, &caller), submitted(&scheduler, &Caller::default()));
    caller.leave();
    drop(end);
    first.join().unwrap().unwrap();
    assert_eq!(left.recv().unwrap().unwrap_err().code(), Code::Abandoned);
    stays.recv().unwrap().unwrap();
    assert_eq!(scheduler.load(), QueryLoad::default());
}

#[test]
fn another_runner_is_there_for_those_who_wait_while_one_waits_for_something_outside() {
    let alive = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&alive);
    let (scheduler, end, first) = occupied_with(move |work| {
        counted.fetch_add(1, Ordering::SeqCst);
        let counted = Arc::clone(&counted);
        let served = move || {
            work();
            counted.fetch_sub(1, Ordering::SeqCst);
        };
        std::thread::Builder::new().spawn(served).is_ok()
    });
    let (outside, (tell, told)) = (Arc::new(Barrier::new(5)), channel());
    for _ in 0..4 {
        let (outside, tell) = (Arc::clone(&outside), tell.clone());
        let work = move |turn: Result<Turn, Reason>| {
            let mut turn = turn.unwrap();
            turn.pause(|| outside.wait()).unwrap();
            drop(turn);
            tell.send(()).unwrap();
        };
        scheduler.submit((id(2), MOST), 100, &Caller::default(), work);
    }
    drop((end, tell));
    first.join().unwrap().unwrap();
    while scheduler.load() != (QueryLoad { under_way: 4, ..QueryLoad::default() }) {
        std::thread::yield_now();
    }
    assert_eq!(alive.load(Ordering::SeqCst), 4);
    outside.wait();
    assert_eq!(told.iter().count(), 4);
    // One runner stays for the one slot, the others end.
    while alive.load(Ordering::SeqCst) > 1 {
        std::thread::yield_now();
    }
    submitted(&scheduler, &Caller::default()).recv().unwrap().unwrap();
    assert_eq!((alive.load(Ordering::SeqCst), scheduler.load()), (1, QueryLoad::default()));
}

#[test]
fn a_query_gives_way_to_its_own_contract_after_a_whole_tick_only() {
    let (scheduler, end, first) = occupied();
    let (inner, (tell, told)) = (Arc::clone(&scheduler), channel());
    let long = move |turn: Result<Turn, Reason>| {
        let mut turn = turn.unwrap();
        let short = submitted(&inner, &Caller::default());
        let mut preempted = vec![];
        for _ in 0..3 {
            turn.check().unwrap();
            preempted.push((inner.load().preemptions, short.try_recv().is_ok()));
            inner.tick();
        }
        tell.send(preempted).unwrap();
    };
    scheduler.submit((id(3), MOST), 100, &Caller::default(), long);
    drop(end);
    first.join().unwrap().unwrap();
    // It began within the first tick, had a part of it, and then a whole one.
    assert_eq!(told.recv().unwrap(), [(0, false), (0, false), (1, true)]);
}

#[test]
fn a_panic_is_one_querys_and_the_next_one_runs() {
    let (scheduler, end, first) = occupied();
    let panics = queued(&scheduler, || -> u8 { panic!("as it was told to") });
    let follows = queued(&scheduler, || 7);
    drop(end);
    first.join().unwrap().unwrap();
    assert_eq!(panics.join().unwrap().unwrap_err().code(), Code::Internal);
    assert_eq!(follows.join().unwrap().unwrap(), 7);
    assert_eq!(scheduler.load(), QueryLoad::default());
}

#[test]
fn a_query_that_waited_all_its_time_is_never_run() {
    let (scheduler, end, first) = occupied();
    let late = queued(&scheduler, || unreachable!());
    (0..100).for_each(|_| scheduler.tick());
    assert_eq!(late.join().unwrap().unwrap_err().code(), Code::TimeLimit);
    assert_eq!(scheduler.load(), QueryLoad { under_way: 1, running: 1, ..QueryLoad::default() });
    drop(end);
    first.join().unwrap().unwrap();
    assert_eq!(scheduler.load(), QueryLoad::default());
}

#[test]
fn runners_end_with_the_scheduler() {
    let (scheduler, end, first) = occupied();
    let query = queued(&scheduler, || ());
    drop(end);
    first.join().unwrap().unwrap();
    query.join().unwrap().unwrap();
    scheduler.close();
    // A runner holds the scheduler for as long as it is there.
    while Arc::strong_count(&scheduler) > 1 {
        std::thread::yield_now();
    }
}

//! Queries of several contracts that want more CPU than there is.

use crate::support::*;
use phala_primitives::{AccountId, Code, Hash};
use phala_vm::{Capacity, Engine, Execution, Failure, Invocation, Limits, Mode, QueryLoad, World, WorldError};
use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::Scope,
    time::{Duration, Instant},
};

const TICK: Duration = Duration::from_millis(1);
const ENDLESS: &str = "(loop br 0)";
/// Ticks that no test reaches.
const LONG: u64 = 1_000_000;

/// An engine with a clock. When dropped, the clock runs on so fast that all queries end.
struct Host<'a> {
    engine: &'a Engine,
    chain: &'a Chain,
    hurry: &'a AtomicBool,
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        self.hurry.store(true, Ordering::Relaxed);
    }
}

impl<'a> Host<'a> {
    fn start<'s>(scope: &'s Scope<'s, 'a>, engine: &'a Engine, chain: &'a Chain, hurry: &'a AtomicBool) -> Host<'a> {
        let host = Host { engine, chain, hurry };
        scope.spawn(move || {
            while !hurry.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                engine.tick();
            }
            while engine.query_load().under_way > 0 {
                (0..LONG / 10).for_each(|_| engine.tick());
            }
        });
        host
    }

    fn query(&self, contract: AccountId, ticks: u64) -> Result<Execution, Failure> {
        query(self.engine, self.chain, contract, ticks)
    }

    fn wait_for(&self, what: impl Fn(&QueryLoad) -> bool) {
        let start = Instant::now();
        while !what(&self.engine.query_load()) {
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", self.engine.query_load());
            std::thread::sleep(TICK);
        }
    }
}

fn query(engine: &Engine, chain: &Chain, contract: AccountId, ticks: u64) -> Result<Execution, Failure> {
    let mode = Mode::Query { ticks };
    engine.execute(chain.0.clone(), Invocation { mode, ..Chain::invocation(contract, b"") })
}

fn capacity() -> Capacity {
    Capacity { query_slots: 2, ..Capacity::default() }
}

#[test]
fn a_light_query_passes_hostile_ones() {
    let (engine, chain, hurry) = (Engine::new(capacity()).unwrap(), Chain::default(), AtomicBool::new(false));
    let hogs: Vec<_> = (1..4).map(|number| chain.place(number, &contract("", ENDLESS, ""))).collect();
    let light = chain.place(9, &contract("", "", ""));
    std::thread::scope(|scope| {
        let host = Host::start(scope, &engine, &chain, &hurry);
        let (engine, chain) = (&engine, &chain);
        for hog in hogs {
            for _ in 0..20 {
                scope.spawn(move || query(engine, chain, hog, LONG).unwrap_err());
            }
        }
        host.wait_for(|load| load.running == 2 && load.waiting == 58);
        let start = Instant::now();
        for _ in 0..50 {
            host.query(light, LONG).unwrap();
        }
        // In its turn among its own contract's sixty alone, each would have waited for a second or more.
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(engine.query_load().preemptions > 0);
        assert_eq!(engine.query_load().under_way, 60);
    });
    assert_eq!((engine.query_load().under_way, engine.query_load().running), (0, 0));
}

#[test]
fn hostile_contracts_share_by_weight() {
    let (engine, chain, hurry) = (Engine::new(capacity()).unwrap(), Chain::default(), AtomicBool::new(false));
    let work = "(local $i i32) (loop
        (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 5000000))))";
    let contracts = [1, 2].map(|number| chain.place(number, &contract("", work, "")));
    engine.set_weight(contracts[1], NonZeroU32::new(3).unwrap());
    let done = [AtomicU64::new(0), AtomicU64::new(0)];
    std::thread::scope(|scope| {
        let host = Host::start(scope, &engine, &chain, &hurry);
        let (engine, chain, hurry) = (&engine, &chain, &hurry);
        for (contract, done) in contracts.iter().zip(&done) {
            for _ in 0..4 {
                scope.spawn(move || {
                    while !hurry.load(Ordering::Relaxed) && query(engine, chain, *contract, LONG).is_ok() {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
        host.wait_for(|load| load.under_way == 8);
        let counts = || [&done[0], &done[1]].map(|done| done.load(Ordering::Relaxed));
        let before = counts();
        std::thread::sleep(Duration::from_secs(3));
        let after = counts();
        drop(host);
        let ratio = (after[1] - before[1]) as f64 / (after[0] - before[0]) as f64;
        // Ticks are shared one to three, work as the operating system will have it: on a busy machine it favours threads
        // that slept.
        assert!((1.6..4.5).contains(&ratio), "{ratio}: {before:?} {after:?}");
    });
}

#[test]
fn time_runs_also_for_those_who_wait() {
    let (engine, chain) = (Engine::new(Capacity { query_slots: 1, ..capacity() }).unwrap(), Chain::default());
    let contracts = [1, 2].map(|number| chain.place(number, &contract("", ENDLESS, "")));
    std::thread::scope(|scope| {
        let (engine, chain) = (&engine, &chain);
        // The clock stands still but for the ticks below: each of them ends within its time.
        let runs: Vec<_> = (0..6)
            .map(|number| scope.spawn(move || query(engine, chain, contracts[number % 2], 20).unwrap_err().code()))
            .collect();
        while engine.query_load().under_way < 6 {
            std::thread::sleep(TICK);
        }
        for _ in 0..20 {
            engine.tick();
        }
        for run in runs {
            assert_eq!(run.join().unwrap(), Code::TimeLimit);
        }
    });
    assert_eq!(engine.query_load().under_way, 0);
}

#[test]
fn one_contract_cannot_use_up_what_all_may_have() {
    let limits = Limits { contract_queries: 3, ..Limits::default() };
    let (engine, chain, hurry) = (Engine::new(capacity()).unwrap(), Chain::with(limits), AtomicBool::new(false));
    let hog = chain.place(1, &contract("", ENDLESS, ""));
    let light = chain.place(2, &contract("", "", ""));
    std::thread::scope(|scope| {
        let host = Host::start(scope, &engine, &chain, &hurry);
        let (engine, chain) = (&engine, &chain);
        for _ in 0..3 {
            scope.spawn(move || query(engine, chain, hog, LONG).unwrap_err());
        }
        host.wait_for(|load| load.under_way == 3);
        let failure = host.query(hog, LONG).unwrap_err();
        assert_eq!((failure.code(), failure.is_fault()), (Code::ContractBusy, true));
        assert!(failure.to_string().starts_with("3 queries of "), "{failure}");
        host.query(light, LONG).unwrap();
    });
}

/// A world that breaks in the way that code does.
struct Broken(Chain);

impl World for Broken {
    #[expect(clippy::panic, reason = "what the test is about")]
    fn storage(&self, _: &AccountId, _: &[u8]) -> Result<Option<Vec<u8>>, WorldError> {
        panic!("a fault of the world")
    }
    fn code_hash(&self, contract: &AccountId) -> Result<Option<Hash>, WorldError> {
        self.0.0.code_hash(contract)
    }
    fn code(&self, hash: &Hash) -> Result<Option<Vec<u8>>, WorldError> {
        self.0.0.code(hash)
    }
}

#[test]
fn whatever_ends_a_query_gives_its_slot_back() {
    let engine = Engine::new(Capacity { query_slots: 1, ..capacity() }).unwrap();
    let chain = Chain::default();
    let trap = chain.place(1, &contract("", "unreachable", ""));
    for _ in 0..100 {
        assert_eq!(query(&engine, &chain, trap, 1).unwrap_err().code(), Code::Trapped);
        assert_eq!(query(&engine, &chain, AccountId([7; 32]), 1).unwrap_err().code(), Code::NoContract);
    }
    let get = "(drop (call $get (i32.const 0) (i32.const 4) (i32.const 8) (i32.const 4)))";
    let reader = chain.place(3, &contract(GET, get, ""));
    for _ in 0..200 {
        let query = Invocation { mode: Mode::Query { ticks: 1 }, ..Chain::invocation(reader, b"") };
        let world = Arc::new(Broken(chain.clone()));
        std::thread::scope(|scope| drop(scope.spawn(|| engine.execute(world, query)).join().unwrap_err()));
    }
    assert_eq!(engine.query_load(), QueryLoad::default());
    query(&engine, &chain, chain.place(2, &contract("", "", "")), 1).unwrap();
}

#[test]
fn callees_run_on_the_account_of_the_contract_that_was_asked() {
    // Both hogs burn the same callee's code; the light contract, which is that callee, is not held to account for it.
    let (engine, chain, hurry) = (Engine::new(capacity()).unwrap(), Chain::default(), AtomicBool::new(false));
    let burner = chain.place(1, &contract("", ENDLESS, ""));
    let body = "(i32.store (i32.const 0) (i32.const 32)) (call $input (i32.const 64) (i32.const 0))
        (drop (call $call (i32.const 0) (i32.const 64) (i64.const 0) (i32.const 128) (i32.const 0) (i32.const 0)
            (i32.const -1) (i32.const -1)))";
    let caller = chain.place(2, &contract(&[CALL, INPUT].concat(), body, ""));
    std::thread::scope(|scope| {
        let host = Host::start(scope, &engine, &chain, &hurry);
        let (engine, chain) = (&engine, &chain);
        for _ in 0..6 {
            let mode = Mode::Query { ticks: LONG };
            let query = Invocation { mode, ..Chain::invocation(caller, &burner.0) };
            scope.spawn(move || engine.execute(chain.0.clone(), query).unwrap_err());
        }
        host.wait_for(|load| load.running == 2 && load.waiting == 4);
        // Were it the callee's account, these would be refused, or end late.
        for _ in 0..20 {
            assert_eq!(host.query(burner, 30).unwrap_err().code(), Code::TimeLimit);
        }
        assert_eq!(engine.query_load().under_way, 6);
    });
}

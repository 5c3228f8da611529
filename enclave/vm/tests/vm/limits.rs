//! Limits of one execution, of all of a contract, and of the engine: what reaches one, and whom it harms.

use crate::support::*;
use parking_lot::Mutex;
use phala_primitives::{AccountId, Code};
use phala_vm::{
    Caller, Capacity, Engine, Execution, Extension, Failure, Invocation, Limits, Mode, QueryLoad, Refusal, Reply, Scope,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::channel,
    },
    time::{Duration, Instant},
};

/// Grows by so many pages, and does what follows; traps if it gets none.
fn grow(pages: u32, then: &str) -> String {
    let body = format!("(if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then unreachable)) {then}");
    contract("", &body, "")
}

fn query(engine: &Engine, chain: &Chain, contract: AccountId, ticks: u64) -> Result<Execution, Failure> {
    let mode = Mode::Query { ticks };
    engine.execute(chain.0.clone(), Invocation { mode, ..Chain::invocation(contract, b"") })
}

#[test]
fn memory_of_a_call_is_what_its_state_allows() {
    for (limit, expected) in [(64 << 20, Some(Code::MemoryLimit)), (256 << 20, None), (1 << 30, None)] {
        let chain = Chain::with(Limits { memory_bytes: limit, ..Limits::default() });
        let grows = chain.place(1, &grow(2000, ""));
        let starts = chain.place(2, &contract("", "", "").replace("(memory 2)", "(memory 2000)"));
        for contract in [grows, starts] {
            for outcome in [chain.call(contract, b""), chain.query(contract, ALICE, b"")] {
                assert_eq!(outcome.err().map(|failure| failure.code()), expected, "{limit}");
            }
        }
    }
    let chain = Chain::with(Limits { memory_bytes: 1 << 30, total_memory_bytes: 2 << 30, ..Limits::default() });
    chain.query(chain.place(1, &grow((1 << 14) - 2, "")), ALICE, b"").unwrap();
    assert_eq!(chain.query(chain.place(2, &grow(1 << 14, "")), ALICE, b"").unwrap_err().code(), Code::MemoryLimit);
}

#[test]
fn frames_of_one_command_share_the_sum() {
    // Each calls itself with what it was given, after it has taken 2 MiB.
    let body = "(if (i32.eq (memory.grow (i32.const 32)) (i32.const -1)) (then unreachable))
        (i32.store (i32.const 0) (i32.const 32)) (call $input (i32.const 64) (i32.const 0))
        (if (call $call (i32.const 8) (i32.const 64) (i64.const 0) (i32.const 128) (i32.const 64) (i32.const 32)
            (i32.const -1) (i32.const -1)) (then unreachable))";
    let run = |total, depth| {
        let chain = Chain::with(Limits { total_memory_bytes: total, call_depth: depth, ..Limits::default() });
        let contract = chain.place(1, &contract(&[CALL, INPUT].concat(), body, ""));
        let failures = [chain.call(contract, &contract.0), chain.query(contract, ALICE, &contract.0)];
        failures.map(|failure| failure.unwrap_err())
    };
    for failure in run(1 << 30, 4) {
        assert!(failure.to_string().contains("P2011"), "{failure}");
    }
    for failure in run(5 << 20, 4) {
        assert!(failure.to_string().contains("P2040"), "{failure}");
    }
    let chain = Chain::with(Limits { total_memory_bytes: 1 << 20, ..Limits::default() });
    let contract = chain.place(1, &grow(32, ""));
    let failure = chain.call(contract, b"").unwrap_err();
    assert_eq!((failure.code(), failure.is_fault(), failure.gas_used), (Code::ContractMemoryLimit, false, GAS));
}

/// Runs `test` beside queries that, once they hold so many bytes together, keep them until it ends.
fn beside(engine: &Engine, chain: &Chain, hogs: &[AccountId], held: usize, test: impl FnOnce()) -> Vec<Code> {
    let (caller, over) = (Caller::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let run = |contract: AccountId| {
            let query = Invocation { mode: Mode::Query { ticks: u64::MAX / 2 }, ..Chain::invocation(contract, b"") };
            engine.execute_for(chain.0.clone(), query, &caller).unwrap_err().code()
        };
        let hogs: Vec<_> = hogs.iter().map(|hog| scope.spawn(move || run(*hog))).collect();
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                engine.tick();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let start = Instant::now();
        while engine.query_load().memory < held {
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", engine.query_load());
            std::thread::sleep(Duration::from_millis(1));
        }
        test();
        caller.leave();
        let codes = hogs.into_iter().map(|hog| hog.join().unwrap()).collect();
        over.store(true, Ordering::Relaxed);
        codes
    })
}

#[test]
fn a_contract_that_hoards_memory_harms_only_itself() {
    let engine = Engine::new(Capacity { query_memory: 32 << 20, ..Capacity::default() }).unwrap();
    let chain = Chain::with(Limits { total_memory_bytes: 17 << 20, ..Limits::default() });
    let hog = chain.place(1, &grow(160, "(loop br 0)"));
    let (other, light) = (chain.place(2, &grow(160, "")), chain.place(3, &grow(20, "")));
    // Each holds 10 MiB, of which 8 count: two are within the contract's limit.
    let codes = beside(&engine, &chain, &[hog, hog, hog], 16 << 20, || {
        let refused = query(&engine, &chain, hog, 1000).unwrap_err();
        assert_eq!((refused.code(), refused.is_fault()), (Code::ContractMemoryLimit, true));
        query(&engine, &chain, other, 1000).unwrap();
        query(&engine, &chain, light, 1000).unwrap();
    });
    let count = |code| codes.iter().filter(|other| **other == code).count();
    assert_eq!((count(Code::Abandoned), count(Code::ContractMemoryLimit)), (2, 1), "{codes:?}");
    assert_eq!(engine.query_load().memory, 0);
}

#[test]
fn small_contracts_do_not_need_the_memory_that_others_hold() {
    let engine = Engine::new(Capacity { query_memory: 10 << 20, ..Capacity::default() }).unwrap();
    let chain = Chain::default();
    let (hog, light) = (chain.place(1, &grow(160, "(loop br 0)")), chain.place(3, &grow(20, "")));
    beside(&engine, &chain, &[hog], 8 << 20, || {
        query(&engine, &chain, light, 1000).unwrap();
        let large = chain.place(4, &grow(160, ""));
        let refused = query(&engine, &chain, large, 1000).unwrap_err();
        assert_eq!((refused.code(), refused.is_fault()), (Code::MemoryBusy, true));
    });
    assert_eq!(engine.query_load().memory, 0);
}

#[test]
fn a_query_ends_when_nobody_waits_for_it() {
    let (engine, chain, caller) = (Engine::new(Capacity::default()).unwrap(), Chain::default(), Caller::default());
    let endless = chain.place(1, &contract("", "(loop br 0)", ""));
    let on_behalf = Caller::on_behalf_of(&caller);
    std::thread::scope(|scope| {
        let query = Invocation { mode: Mode::Query { ticks: u64::MAX / 2 }, ..Chain::invocation(endless, b"") };
        let run = scope.spawn(|| engine.execute_for(chain.0.clone(), query, &on_behalf).unwrap_err());
        while engine.query_load().running == 0 {
            std::thread::yield_now();
        }
        caller.leave();
        while !run.is_finished() {
            engine.tick();
        }
        assert_eq!(run.join().unwrap().code(), Code::Abandoned);
    });
}

/// Splits the input of a query into parts of one byte each, and returns what they return, one after the other.
#[derive(Clone, Default)]
struct Splitter(Arc<Seen>);

#[derive(Default)]
struct Seen {
    refusals: Mutex<Vec<Refusal>>,
}

impl Extension for Splitter {
    fn call(&self, _: u32, input: &[u8], scope: &mut dyn Scope) -> Result<Reply, Refusal> {
        let fork = scope.fork().inspect_err(|refusal| self.0.refusals.lock().push(refusal.clone()))?;
        let input = input.to_vec();
        Ok(Reply::Wait(Box::new(move || {
            let run = |byte: u8| {
                let execution = fork.run(fork.part(vec![byte]));
                execution.map_or_else(|failure| failure.code().to_string().into_bytes(), |execution| execution.data)
            };
            std::thread::scope(|scope| {
                let runs: Vec<_> = input.iter().map(|byte| scope.spawn(move || run(*byte))).collect();
                runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
            })
        })))
    }
}

#[test]
fn a_query_splits_its_work_and_its_parts_do_not() {
    let splitter = Splitter::default();
    // One seat, which the query itself has.
    let capacity = Capacity { concurrent_queries: 1, ..Capacity::default() };
    let engine = Engine::with_extension(capacity, Arc::new(splitter.clone())).unwrap();
    let chain = Chain::default();
    // `m…` splits the rest; `x` writes; `s` splits itself; anything else comes back as it was.
    let body = "(i32.store (i32.const 0) (i32.const 1024)) (call $input (i32.const 8) (i32.const 0))
        (i32.store (i32.const 4) (i32.const 4096))
        (if (i32.or (i32.eq (i32.load8_u (i32.const 8)) (i32.const 109)) (i32.eq (i32.load8_u (i32.const 8)) (i32.const 115)))
            (then (drop (call $ext (i32.const 1) (i32.const 9) (i32.sub (i32.load (i32.const 0)) (i32.const 1))
                (i32.const 2000) (i32.const 4))) (call $return (i32.const 0) (i32.const 2000) (i32.load (i32.const 4)))))
        (if (i32.eq (i32.load8_u (i32.const 8)) (i32.const 120))
            (then (drop (call $set (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 4)))))
        (call $return (i32.const 0) (i32.const 8) (i32.load (i32.const 0)))";
    let ext = r#"(import "seal0" "call_chain_extension" (func $ext (param i32 i32 i32 i32 i32) (result i32)))"#;
    let contract = chain.place(1, &contract(&[INPUT, RETURN, SET, ext].concat(), body, ""));
    let run =
        |mode, data: &[u8]| engine.execute(chain.0.clone(), Invocation { mode, ..Chain::invocation(contract, data) });
    let query = |data: &[u8]| run(Mode::Query { ticks: 100 }, data).unwrap().data;
    assert_eq!(query(b"mabcdefgh"), b"abcdefgh");
    assert_eq!(query(b"m"), b"");
    // A part that writes or splits fails alone.
    assert_eq!(query(b"maxbsc"), b"aP2006bP2006c");
    let refused = run(Mode::Command { gas_limit: GAS }, b"mab").unwrap_err();
    assert_eq!(refused.code(), Code::Trapped);
    let refusals = splitter.0.refusals.lock().len();
    assert_eq!(refusals, 2, "of the part and of the command");
    assert_eq!(engine.query_load().under_way, 0);
}

#[test]
fn what_is_submitted_is_told_once_or_not_at_all() {
    let (engine, chain) = (Engine::new(Capacity::default()).unwrap(), Chain::default());
    let asked = chain.place(1, &contract("", "", ""));
    let submit = |mode, conclude: fn(Result<Execution, Failure>) -> Option<Code>| {
        let (tell, told) = channel();
        let invocation = Invocation { mode, ..Chain::invocation(asked, b"") };
        let tell = move |outcome| {
            // Whoever asked may be gone.
            let _ = tell.send(outcome);
        };
        engine.submit(chain.0.clone(), invocation, &Caller::default(), conclude, tell);
        told
    };
    engine.borrow_threads(|work| std::thread::Builder::new().spawn(work).is_ok());
    let code = |result: Result<Execution, Failure>| result.err().map(|failure| failure.code());
    let query = Mode::Query { ticks: 100 };
    assert_eq!(submit(query, code).recv(), Ok(None));
    assert_eq!(submit(Mode::Command { gas_limit: 1 << 30 }, code).recv(), Ok(Some(Code::Internal)));
    assert!(submit(query, |_| panic!("as it was told to")).recv().is_err());
    // Nobody listens, and the next one runs.
    drop(submit(query, code));
    assert_eq!(submit(query, code).recv(), Ok(None));
    while engine.query_load() != QueryLoad::default() {
        std::thread::yield_now();
    }
}

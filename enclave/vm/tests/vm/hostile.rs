//! Modules and programs that nobody means well by.

use crate::support::*;
use phala_primitives::Code;
use phala_vm::{Capacity, Engine, Failure, Invocation, Limits, Mode};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

fn refused(wat: &str) -> (Code, String) {
    let error = engine().validate(&wat::parse_str(wat).unwrap()).unwrap_err();
    (error.code(), error.to_string())
}

fn fails(call: &str, rest: &str) -> Failure {
    let chain = Chain::default();
    let contract = chain.place(1, &contract("", call, rest));
    chain.call(contract, b"").unwrap_err()
}

#[test]
fn modules_that_are_no_contracts_are_refused_by_name() {
    let memory = r#"(import "env" "memory" (memory 2))"#;
    let exports = r#"(func (export "deploy")) (func (export "call"))"#;
    let cases = [
        (format!(r#"(module (import "seal9" "magic" (func)) {memory} {exports})"#), "seal9.magic"),
        (format!(r#"(module (import "seal0" "input" (func (param i64))) {memory} {exports})"#), "another type"),
        (format!(r#"(module (import "env" "g" (global i32)) {memory} {exports})"#), "env.g"),
        (format!(r#"(module {memory} (func (export "call")))"#), "`deploy`"),
        (format!(r#"(module {memory} (func (export "deploy")) (func (export "call") (param i32)))"#), "`call`"),
        (format!("(module {memory} {exports} (func $s) (start $s))"), "start function"),
        (format!("(module {exports})"), "no memory"),
        (format!(r#"(module (import "env" "memory" (memory 16385)) {exports})"#), "16384 are allowed"),
        (format!("(module {memory} {exports} (table 70000 funcref))"), "elements of a table"),
        (
            format!(
                "(module {memory} {exports} (func (param v128) (result v128)
                (f32x4.relaxed_madd (local.get 0) (local.get 0) (local.get 0))))"
            ),
            "relaxed SIMD",
        ),
        (
            format!(
                r#"(module {memory} {exports} (data "abc") (func (memory.init 0 (i32.const 0) (i32.const 0) (i32.const 3))))"#
            ),
            "bulk-memory",
        ),
        (format!("(module {memory} {exports} (func (return_call 0)))"), "tail calls"),
        (format!("(module {memory} {exports} (func {}))", "(local i32)".repeat(5000)), "locals"),
        (format!(r#"(module {memory} {exports} (export "phala:memory" (memory 0)))"#), "reserved"),
    ];
    for (wat, expected) in cases {
        let (code, text) = refused(&wat);
        assert_eq!(code, Code::BadModule);
        assert!(text.contains(expected), "{text} should name {expected}");
    }
}

#[test]
fn other_formats_and_too_much_code_have_their_own_errors() {
    let code = |bytes: &[u8]| engine().validate(bytes).unwrap_err().code();
    assert_eq!(code(b"PVM\0whatever"), Code::Ink6);
    assert_eq!(code(b"\x7fELFwhatever"), Code::Ink6);
    assert_eq!(code(b""), Code::BadModule);
    assert_eq!(code(&vec![0; phala_primitives::limits::MAX_CODE + 1]), Code::CodeTooLarge);
}

#[test]
fn endless_loops_use_all_gas_and_no_more() {
    let failure = fails("(loop br 0)", "");
    assert_eq!((failure.code(), failure.gas_used, failure.is_fault()), (Code::OutOfGas, GAS, false));
}

#[test]
fn long_work_that_ends_in_a_trap_is_not_free() {
    let work = "(local $i i32) (loop (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if 0 (i32.lt_u (local.get $i) (i32.const 1000000))))";
    let failure = fails(&format!("{work} (drop (i32.load (i32.const 0x7fffffff)))"), "");
    assert_eq!((failure.code(), failure.gas_used), (Code::Trapped, GAS));
    let failure = fails(&format!("{work} unreachable"), "");
    assert_eq!(failure.code(), Code::Trapped);
    assert!((5_000_000..20_000_000).contains(&failure.gas_used), "{}", failure.gas_used);
}

#[test]
fn deep_recursion_traps_even_on_a_thread_with_little_stack() {
    let run = || fails("(call $deeper)", "(func $deeper (call $deeper) (call $deeper))");
    let failure = std::thread::Builder::new().stack_size(256 << 10).spawn(run).unwrap().join().unwrap();
    assert_eq!(failure.code(), Code::Trapped);
    assert_eq!(failure.gas_used, run().gas_used);
    let out_of_bounds = || fails("(drop (i32.load (i32.const 0x7fffffff)))", "");
    let failure = std::thread::Builder::new().stack_size(256 << 10).spawn(out_of_bounds).unwrap().join().unwrap();
    assert_eq!(failure.code(), Code::Trapped);
}

#[test]
fn memory_ends_at_the_limit() {
    // Growth up to the limit succeeds and is paid for; beyond, it is refused, and a panic after that names memory.
    let chain = Chain::default();
    let grow =
        |pages: u32| format!("(if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then unreachable))");
    let within = chain.place(1, &contract("", &grow(1022), ""));
    assert!(chain.call(within, b"").unwrap().gas_used > 1022 * 8_000);
    let beyond = chain.place(2, &contract("", &grow(1023), ""));
    assert_eq!(chain.call(beyond, b"").unwrap_err().code(), Code::MemoryLimit);
    assert_eq!(chain.query(beyond, ALICE, b"").unwrap_err().code(), Code::MemoryLimit);
    // A module's own maximum is kept.
    let own = r#"(module (import "env" "memory" (memory 1 4)) (func (export "deploy")) (func (export "call")
        (if (i32.ne (memory.grow (i32.const 4)) (i32.const -1)) (then unreachable))))"#;
    chain.call(chain.place(3, own), b"").unwrap();
}

#[test]
fn memory_is_fresh_in_each_call() {
    let chain = Chain::default();
    let dirty = "(if (i32.load (i32.const 70000)) (then unreachable)) (i32.store (i32.const 70000) (i32.const 7))
        (if (i32.ne (i32.load8_u (i32.const 8)) (i32.const 65)) (then unreachable)) (i32.store (i32.const 8) (i32.const 0))";
    let contract = chain.place(1, &contract("", dirty, r#"(data (i32.const 8) "A")"#));
    for _ in 0..50 {
        chain.call(contract, b"").unwrap();
        chain.query(contract, ALICE, b"").unwrap();
    }
}

#[test]
fn much_memory_is_as_fresh_as_little() {
    let chain = Chain::default();
    // Each page of 4 KiB must be zero, and is written; beyond what the module began with, too.
    let dirty = "(local $at i32) (drop (memory.grow (i32.const 20))) (loop
        (if (i32.load (local.get $at)) (then unreachable)) (i64.store (local.get $at) (i64.const -1))
        (br_if 0 (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4096))) (i32.const 1441792))))";
    let contract = chain.place(1, &contract("", dirty, ""));
    for _ in 0..50 {
        chain.call(contract, b"").unwrap();
        chain.query(contract, ALICE, b"").unwrap();
    }
}

#[test]
fn pointers_and_lengths_out_of_bounds_trap() {
    let (max, far) = ("i32.const -1", "i32.const 0x7fffffff");
    let cases = [
        format!("(call $set (i32.const 0) (i32.const 4) ({far}) (i32.const 4)) drop"),
        format!("(call $set ({far}) (i32.const 4) (i32.const 0) (i32.const 4)) drop"),
        format!("(call $return (i32.const 0) ({far}) (i32.const 4))"),
        format!("(call $return (i32.const 0) (i32.const 0) ({far}))"),
        "(call $return (i32.const 2) (i32.const 0) (i32.const 0))".to_owned(),
        format!("(call $input ({far}) (i32.const 0))"),
        format!("(call $input (i32.const 0) ({far}))"),
        format!("(call $input (i32.const 0) ({max}))"),
        // Room for three bytes where four wait.
        "(i32.store (i32.const 0) (i32.const 3)) (call $input (i32.const 8) (i32.const 0))".to_owned(),
        format!("(call $hash ({far}) (i32.const 4) (i32.const 0))"),
        format!("(call $hash (i32.const 0) ({max}) (i32.const 0))"),
        format!("(call $event (i32.const 0) (i32.const 1) (i32.const 0) ({far}))"),
        // One topic announced, none there.
        "(i32.store8 (i32.const 0) (i32.const 4)) (call $event (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0))"
            .to_owned(),
        "(call $extension (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)) drop".to_owned(),
    ];
    let imports = [
        RETURN,
        INPUT,
        SET,
        r#"(import "seal0" "hash_sha2_256" (func $hash (param i32 i32 i32)))"#,
        r#"(import "seal0" "deposit_event" (func $event (param i32 i32 i32 i32)))"#,
        r#"(import "seal0" "call_chain_extension" (func $extension (param i32 i32 i32 i32 i32) (result i32)))"#,
    ]
    .concat();
    let chain = Chain::default();
    for (number, case) in cases.iter().enumerate() {
        let contract = chain.place(number as u8 + 1, &contract(&imports, case, ""));
        for result in [chain.call(contract, b"four"), chain.query(contract, ALICE, b"four")] {
            let failure = result.unwrap_err();
            let expected = [Code::Trapped, Code::StorageLimit, Code::ReplyTooLarge, Code::OutOfGas];
            assert!(expected.contains(&failure.code()) && !failure.is_fault(), "{case}: {failure}");
        }
    }
}

#[test]
fn sizes_of_storage_are_limited() {
    let chain = Chain::default();
    let set = |key: u32, value: u32| {
        contract(
            SET,
            &format!("(drop (call $set (i32.const 0) (i32.const {key}) (i32.const 0) (i32.const {value})))"),
            "",
        )
    };
    chain.call(chain.place(1, &set(128, 65536)), b"").unwrap();
    for (number, wat) in [set(129, 1), set(1, 65537)].iter().enumerate() {
        let failure = chain.call(chain.place(number as u8 + 2, wat), b"").unwrap_err();
        assert_eq!(failure.code(), Code::StorageLimit);
    }
    // Many large values under different keys, in a query that pays no gas.
    let many = "(loop (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
        (drop (call $set (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 65536))) br 0)";
    let failure = chain.query(chain.place(9, &contract(SET, many, "")), ALICE, b"").unwrap_err();
    assert_eq!(failure.code(), Code::StorageLimit);
}

#[test]
fn queries_are_stopped_by_the_clock() {
    let chain = Chain::default();
    let contract = chain.place(1, &contract("", "(loop br 0)", ""));
    let engine = Engine::new(Capacity::default()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
                engine.tick();
            }
        });
        let start = Instant::now();
        let query = Invocation { mode: Mode::Query { ticks: 10 }, ..Chain::invocation(contract, b"") };
        let failure = engine.execute(chain.0.clone(), query).unwrap_err();
        done.store(true, Ordering::Relaxed);
        assert_eq!((failure.code(), failure.is_fault()), (Code::TimeLimit, true));
        assert!(start.elapsed() >= Duration::from_millis(80) && start.elapsed() < Duration::from_secs(20));
    });
}

#[test]
fn a_broken_disk_is_no_outcome() {
    let chain = Chain::default();
    let get = "(drop (call $get (i32.const 0) (i32.const 4) (i32.const 8) (i32.const 4)))";
    let contract = chain.place(1, &contract(GET, get, ""));
    chain.set_broken(true);
    let failure = chain.call(contract, b"").unwrap_err();
    assert_eq!((failure.code(), failure.is_fault()), (Code::StorageFailed, true));
}

#[test]
fn too_many_queries_are_refused_and_commands_wait() {
    let engine = Engine::new(Capacity { queries: 1, concurrent_commands: 1, ..Capacity::default() }).unwrap();
    let chain = Chain::default();
    let endless = chain.place(1, &contract("", "(loop br 0)", ""));
    let run =
        |mode| engine.execute(chain.0.clone(), Invocation { mode, ..Chain::invocation(endless, b"") }).unwrap_err();
    let (ended, ends) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for ended in [ended.clone(), ended] {
            scope.spawn(move || ended.send(run(Mode::Query { ticks: 1 }).code()).unwrap());
        }
        // The clock stands still, so only a refusal can come first.
        assert_eq!(ends.recv().unwrap(), Code::Busy);
        let last = loop {
            engine.tick();
            if let Ok(code) = ends.recv_timeout(Duration::from_millis(10)) {
                break code;
            }
        };
        assert_eq!(last, Code::TimeLimit);
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(run(Mode::Command { gas_limit: 10_000_000 }).code(), Code::OutOfGas));
        }
    });
}

#[test]
fn a_query_that_finds_no_free_instance_is_refused_as_a_whole() {
    let engine = Engine::new(Capacity { concurrent_queries: 1, ..Capacity::default() }).unwrap();
    let chain = Chain::with(Limits { call_depth: 100, ..Limits::default() });
    let body = "(i32.store (i32.const 0) (i32.const 32)) (call $input (i32.const 64) (i32.const 0))
        (drop (call $call (i32.const 10) (i32.const 64) (i64.const 0) (i32.const 128) (i32.const 0) (i32.const 0)
            (i32.const -1) (i32.const -1)))";
    let contract = chain.place(1, &contract(&[CALL, INPUT].concat(), body, ""));
    let query = Invocation { mode: Mode::Query { ticks: 1 }, ..Chain::invocation(contract, &contract.0) };
    let failure = engine.execute(chain.0.clone(), query).unwrap_err();
    assert_eq!((failure.code(), failure.is_fault()), (Code::Busy, true));
}

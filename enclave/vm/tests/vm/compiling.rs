//! Modules that are made to keep the compiler busy. Each is as large as the limits allow, and must be refused, or be
//! compiled: how long that takes is printed.

use crate::support::*;
use phala_vm::{Capacity, Engine, Invocation, Mode};
use std::{fmt::Write, time::Instant};

/// Functions that repeat `body` with so many locals.
fn functions(count: usize, signature: &str, body: &str) -> String {
    (0..count).map(|_| format!("(func {signature} {body})")).collect()
}

fn locals(count: usize) -> String {
    format!("(local{})", " i64".repeat(count))
}

/// Blocks inside each other, which a choice at the innermost leaves, twice, with all locals set in between and read
/// behind: each block's end must join two values of each local.
fn joins(kind: &str, depth: usize, count: usize) -> String {
    let mut text = locals(count) + "(local $choice i32)";
    let labels: String = (0..depth).map(|label| format!(" {label}")).collect();
    text += &format!("({kind} ").repeat(depth);
    let choose = |value: i64| {
        let mut part = String::new();
        for local in 0..count {
            let _ = write!(part, "(local.set {local} (i64.const {value}))");
        }
        part + &format!("(br_table{labels} (local.get $choice))")
    };
    let _ = write!(text, "(if (local.get $choice) (then {}))", choose(1));
    text += &choose(2);
    text += &")".repeat(depth);
    for local in 0..count {
        let _ = write!(text, "(global.set 0 (local.get {local}))");
    }
    text
}

/// Loops inside each other that change all locals.
fn loops(depth: usize, count: usize) -> String {
    let mut text = locals(count);
    text += &"(loop ".repeat(depth);
    for local in 0..count {
        let _ = write!(text, "(local.set {local} (i64.add (local.get {local}) (i64.const 1)))");
    }
    text += &"(br_if 0 (i32.wrap_i64 (local.get 0))))".repeat(depth);
    text
}

/// Many values alive at once.
fn pressure(count: usize) -> String {
    let mut text = locals(count);
    for local in 0..count {
        let _ = write!(text, "(local.set {local} (i64.load (i32.const {local})))");
    }
    let mut sum = "(i64.const 0)".to_owned();
    for local in 0..count {
        sum = format!("(i64.rotl {sum} (local.get {local}))");
    }
    let _ = write!(text, "(global.set 0 {sum})");
    text
}

/// Names, what refuses them if anything does, and functions.
fn cases() -> Vec<(&'static str, &'static str, String)> {
    let many = |count, body: &str| functions(count, "", body);
    let table: String = (0..4000).map(|_| " 0").collect();
    let wide = "(param i64) (result i64 i64 i64 i64 i64 i64 i64 i64)";
    let wide_table: String = (0..2000).map(|target| format!(" {}", target % 500)).collect();
    let values = "(local.get 0)".repeat(8);
    let wide_blocks = format!(
        "{}{values}(br_table{wide_table} (i32.const 1)){}",
        "(block (result i64 i64 i64 i64 i64 i64 i64 i64) ".repeat(500),
        ")".repeat(500),
    );
    let deep = format!("{}{}", "(block ".repeat(20_000), ")".repeat(20_000));
    let branched = |count| format!("(block {})", "(br_if 0 (i32.const 1))".repeat(count));
    let sum = format!("(global.set 0 {}(i64.const 1){})", "(i64.add (global.get 0) ".repeat(8_000), ")".repeat(8_000));
    let roots = format!("(local f64){}", "(local.set 0 (f64.sqrt (local.get 0)))".repeat(20_000));
    let quotients = "(local.set 0 (f64x2.div (local.get 0) (local.get 0)))".repeat(14_000);
    vec![
        ("many functions", "functions", many(40_000, "")),
        ("empty functions", "", many(39_900, "")),
        ("idle locals", "its size", many(5_000, &locals(4_000))),
        ("fewer idle locals", "", many(9_900, &locals(60))),
        ("deep blocks", "inside each other", many(6, &deep)),
        ("less deep blocks", "", many(40, &format!("{}{}", "(block ".repeat(2_000), ")".repeat(2_000)))),
        ("branches", "to one label", many(4, &branched(20_000))),
        ("fewer branches", "", many(2, &branched(2_000).repeat(8))),
        ("branch tables", "", many(50, &format!("(block (br_table{table} (i32.const 0)))"))),
        ("wide branch tables", "", functions(60, wide, &wide_blocks)),
        ("joins", "times locals", many(4, &joins("block", 1_000, 3_000))),
        ("joins of few locals", "", many(1, &joins("block", 480, 80))),
        ("joins of many locals", "", many(1, &joins("block", 15, 2_400))),
        ("joins of loops", "", many(1, &joins("loop", 200, 190))),
        ("joins again and again", "", many(5, &joins("block", 12, 600))),
        ("loops in loops", "times locals", many(4, &loops(1_000, 3_000))),
        ("fewer loops in loops", "", many(5, &loops(8, 600))),
        ("values alive", "", many(12, &pressure(4_000))),
        ("long sums", "", many(4, &sum)),
        ("calls", "", many(1, &"(call 1)".repeat(40_000))),
        ("indirect calls", "indirect", many(4, &"(call_indirect (i32.const 0))".repeat(20_000))),
        ("fewer indirect calls", "", many(16, &"(call_indirect (i32.const 0))".repeat(500))),
        ("memory accesses", "", many(4, &"(i32.store (i32.const 0) (i32.load (i32.const 70000)))".repeat(8_000))),
        ("floats", "", many(4, &roots)),
        ("vectors", "", many(4, &format!("(local v128){quotients}"))),
        ("fills", "", many(4, &"(memory.fill (i32.const 0) (i32.const 0) (i32.const 9))".repeat(8_000))),
    ]
}

#[test]
fn modules_that_would_keep_the_compiler_busy_are_refused() {
    for (name, refused, functions) in cases() {
        let rest = format!("(global (mut i64) (i64.const 0)) (table 8 funcref) {functions}");
        let code = wat::parse_str(contract("", "", &rest)).unwrap();
        let engine = Engine::new(Capacity::default()).unwrap();
        let begin = Instant::now();
        let checked = engine.validate(&code);
        let check = begin.elapsed();
        let result = match checked {
            Ok(_) => {
                assert_eq!(refused, "", "{name}");
                let chain = Chain::default();
                chain.0.state.lock().place(ALICE, &code);
                for mode in [Mode::Command { gas_limit: GAS }, Mode::Query { ticks: 9 }] {
                    engine.execute(chain.0.clone(), Invocation { mode, ..Chain::invocation(ALICE, b"") }).unwrap();
                }
                "compiled".to_owned()
            }
            Err(error) => error.to_string(),
        };
        assert!(refused.is_empty() || result.contains(refused), "{name}: {result}");
        let (bytes, took) = (code.len(), begin.elapsed());
        println!("{name:20} {bytes:7} bytes, checked in {check:8.1?}, {took:9.1?}: {result}");
    }
}

//! The same programs as a command, as a query and on an interpreter: the same output, state, events, revert and failure.

use super::{Random, engine, for_seeds, programs, programs::UNIT_GAS};
use crate::support::{Chain, RETURN, contract};
use phala_interpreter::{Interpreter, Outcome};
use phala_vm::{Execution, Failure, Invocation, MemoryWorld, Mode};
use std::sync::Arc;

/// Contracts in a world.
const CONTRACTS: usize = 3;

#[test]
fn engine_and_interpreter_agree() {
    let (mut ended, mut failed, mut skipped) = (0_u64, 0_u64, 0_u64);
    for_seeds(400, |seed| {
        let (agreed, compared) = compare(&mut Random::new(seed));
        if agreed.is_some() {
            ended += 1
        } else {
            failed += 1
        };
        skipped += u64::from(!compared);
    });
    println!("{ended} ended, {failed} failed, {skipped} commands ran out of gas that queries did not need");
    // Else the generator makes nothing worth comparing.
    assert!(ended > failed && failed > 0 && ended > 8 * skipped, "the programs come to too few ends");
}

/// A world of contracts that know each other, and their text.
fn world(random: &mut Random) -> (MemoryWorld, String) {
    let (mut world, mut codes, mut texts) = (MemoryWorld::default(), Vec::new(), String::new());
    for number in 0..CONTRACTS {
        let text = programs::contract(random, &codes, CONTRACTS);
        let account = programs::account(number);
        codes.push(world.place(account, &wat::parse_str(&text).unwrap()));
        world.storage.insert((account, programs::KEY.to_vec()), b"old value".to_vec());
        texts += &text;
    }
    (world, texts)
}

/// What the programs came to, if they came to an end of their own, and whether the command could be compared.
fn compare(random: &mut Random) -> (Option<Outcome>, bool) {
    let (world, text) = world(random);
    let input = [programs::KEY, &random.bytes(16)].concat();
    let invocation = Chain::invocation(programs::account(0), &input);
    let (mut asked, mut commanded, mut interpreted) = (world.clone(), world.clone(), world);

    let query = run(&asked, Mode::Query { ticks: 1_000 }, &invocation);
    let query = returned(&mut asked, query);
    let expected = Interpreter::new().unwrap().call(&mut interpreted, &invocation).ok();
    assert_eq!((&query, &asked), (&expected, &interpreted), "query and interpreter differ\n{text}");

    let mode = Mode::Command { gas_limit: UNIT_GAS << 16 };
    let (first, again) = (run(&commanded, mode, &invocation), run(&commanded, mode, &invocation));
    assert_eq!(first, again, "a command came to two ends\n{text}");
    let gas = first.as_ref().map_or_else(|failure| failure.gas_used, |execution| execution.gas_used);
    let command = returned(&mut commanded, first);
    let same = (&command, &commanded) == (&query, &asked);
    // Delegated code that fails may take all gas with it, which is known. Other callees have gas of their own.
    assert!(same || (gas >= UNIT_GAS && text.contains("call $delegate")), "command and query differ\n{text}");
    (query, same)
}

fn run(world: &MemoryWorld, mode: Mode, invocation: &Invocation) -> Result<Execution, Failure> {
    engine().execute(Arc::new(world.clone()), Invocation { mode, ..invocation.clone() })
}

/// Keeps what an execution changed.
fn returned(world: &mut MemoryWorld, result: Result<Execution, Failure>) -> Option<Outcome> {
    let execution = match result {
        Ok(execution) => execution,
        Err(failure) if failure.is_fault() => panic!("a fault: {failure}"),
        Err(_) => return None,
    };
    world.apply(&execution);
    let Execution { flags, data, events, .. } = execution;
    Some(Outcome { flags, data, events })
}

#[test]
fn nans_of_commands_have_one_form() {
    let cases = [
        ("(f64.div (f64.const 0) (f64.const 0))", 0x7ff8_0000_0000_0000_u64),
        ("(f64.add (f64.const -nan:0x8000000000123) (f64.const 1))", 0x7ff8_0000_0000_0000),
        ("(f64.promote_f32 (f32.sqrt (f32.const -1)))", 0x7ff8_0000_0000_0000),
        ("(f64.max (f64.const 1) (f64.const nan:0x1))", 0x7ff8_0000_0000_0000),
        // Only bits are moved.
        ("(f64.neg (f64.const nan:0x123))", 0xfff0_0000_0000_0123),
        ("(f64.min (f64.const 0) (f64.const -0))", 0x8000_0000_0000_0000),
        ("(f64x2.extract_lane 1 (f64x2.div (v128.const f64x2 1 0) (v128.const f64x2 1 0)))", 0x7ff8_0000_0000_0000),
        (
            "(f64x2.extract_lane 0 (f32x4.add (v128.const f32x4 nan:0x123 1 2 3) (v128.const f32x4 1 1 1 1)))",
            0x4000_0000_7fc0_0000,
        ),
        ("(f64x2.extract_lane 0 (f32x4.neg (v128.const f32x4 nan:0x123 1 2 3)))", 0xbf80_0000_ff80_0123),
    ];
    let chain = Chain::default();
    for (number, (value, bits)) in cases.iter().enumerate() {
        let body =
            format!("(f64.store (i32.const 0) {value}) (call $return (i32.const 0) (i32.const 0) (i32.const 8))");
        let contract = chain.place(number as u8 + 1, &contract(RETURN, &body, ""));
        assert_eq!(chain.call(contract, b"").unwrap().data, bits.to_le_bytes(), "{value}");
    }
}

//! The same program as a command, as a query and on an interpreter: the same output, storage, revert and failure.

use super::{Counted, Random, for_seeds, interpreter, interpreter::Returned, programs, run};
use crate::support::{Chain, RETURN, contract};
use phala_primitives::{AccountId, Code};
use phala_vm::{Execution, Failure, Mode};
use std::sync::Arc;

const CONTRACT: AccountId = AccountId([0x0c; 32]);
const GAS: u64 = 20_000_000;

#[test]
fn engine_and_interpreter_agree() {
    let (mut ended, mut failed, mut skipped) = (0_u64, 0_u64, 0_u64);
    for_seeds(400, |seed| match compare(&mut Random::new(seed)) {
        None => skipped += 1,
        Some(true) => ended += 1,
        Some(false) => failed += 1,
    });
    println!("{ended} ended, {failed} failed, {skipped} took too long");
    // Else the generator makes nothing worth comparing.
    assert!(ended > skipped && ended > failed && failed > 0, "the programs come to too few ends");
}

/// Whether the program came to an end of its own; nothing if it takes too long to be compared.
fn compare(random: &mut Random) -> Option<bool> {
    let text = programs::contract(random);
    let wasm = wat::parse_str(&text).unwrap();
    let world = Counted::with(CONTRACT, &wasm);
    let mut world = Arc::into_inner(world).unwrap();
    world.state.storage.insert((CONTRACT, programs::KEY.to_vec()), b"old value".to_vec());
    let world = Arc::new(world);
    let input = [programs::KEY, &random.bytes(16)].concat();

    let invocation = Chain::invocation(CONTRACT, &input);
    let command = run(&world, Mode::Command { gas_limit: GAS }, invocation.clone());
    if command.as_ref().is_err_and(|failure| failure.code() == Code::OutOfGas) {
        return None;
    }
    let again = run(&world, Mode::Command { gas_limit: GAS }, invocation.clone());
    assert_eq!(command, again, "a command came to two ends\n{text}");
    let query = returned(run(&world, Mode::Query { ticks: 1_000 }, invocation));
    let command = returned(command);
    assert_eq!(command, query, "command and query differ\n{text}");
    let interpreted = interpreter::run(CONTRACT, &wasm, &input);
    assert_eq!(command, interpreted, "command and interpreter differ\n{text}");
    Some(command.is_some())
}

fn returned(result: Result<Execution, Failure>) -> Option<Returned> {
    let Execution { flags, data, changes, .. } = match result {
        Ok(execution) => execution,
        Err(failure) if failure.is_fault() => panic!("a fault: {failure}"),
        Err(_) => return None,
    };
    Some(Returned { flags, data, changes: changes.into_iter().map(|((_, key), value)| (key, value)).collect() })
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
    ];
    let chain = Chain::default();
    for (number, (value, bits)) in cases.iter().enumerate() {
        let body =
            format!("(f64.store (i32.const 0) {value}) (call $return (i32.const 0) (i32.const 0) (i32.const 8))");
        let contract = chain.place(number as u8 + 1, &contract(RETURN, &body, ""));
        assert_eq!(chain.call(contract, b"").unwrap().data, bits.to_le_bytes(), "{value}");
    }
}

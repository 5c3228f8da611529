//! Modules that nobody meant to be contracts: preparing them neither panics nor takes long, and what passes can run.

use super::{Counted, Random, engine, for_seeds, run};
use crate::support::Chain;
use arbitrary::Unstructured;
use phala_primitives::{AccountId, Code};
use phala_vm::{Invocation, Mode};
use std::time::{Duration, Instant};
use wasm_smith::{Config, Module};

const CONTRACT: AccountId = AccountId([0x0c; 32]);
/// Longest that checking a module may take, on a busy machine.
const PREPARE: Duration = Duration::from_secs(1);

const FLIPPER: &str = include_str!("../../../../../contracts/fixtures/flipper.contract");
const PSP22: &str = include_str!("../../../../../contracts/fixtures/psp22.contract");
const VAULT: &[u8] = include_bytes!("../../fixtures/vault.wasm");

/// Some of the host's functions, for the generator to choose from.
const IMPORTS: &str = r#"(module
    (import "seal0" "input" (func (param i32 i32))) (import "seal0" "seal_return" (func (param i32 i32 i32)))
    (import "seal2" "set_storage" (func (param i32 i32 i32 i32) (result i32)))
    (import "seal1" "get_storage" (func (param i32 i32 i32 i32) (result i32)))
    (import "seal0" "caller" (func (param i32 i32))) (import "seal0" "instantiation_nonce" (func (result i64)))
    (import "seal0" "debug_message" (func (param i32 i32) (result i32)))
    (import "seal0" "hash_blake2_256" (func (param i32 i32 i32))))"#;
const EXPORTS: &str = r#"(module (func (export "deploy")) (func (export "call")))"#;

fn module_of(bundle: &str) -> Vec<u8> {
    let (_, rest) = bundle.split_once(r#""wasm":"#).unwrap();
    let digits = rest.trim_start().trim_start_matches("\"0x").split('"').next().unwrap();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// What the generator may use: what contracts may, or, if `wild`, all that it knows.
fn config(random: &mut Random, wild: bool) -> Config {
    let mut config = Config {
        available_imports: Some(wat::parse_str(IMPORTS).unwrap()),
        exports: Some(wat::parse_str(EXPORTS).unwrap()),
        allow_start_export: wild,
        max_memories: 1,
        min_memories: 1,
        max_tables: 1,
        max_funcs: 1 + random.below(60),
        max_instructions: 10 + random.below(4_000),
        max_memory32_bytes: 64 << 20,
        max_table_elements: 16 << 10,
        memory_max_size_required: random.one_in(2),
        ..Config::default()
    };
    if !wild {
        // Of which contracts may copy and fill, and the generator does more.
        config.bulk_memory_enabled = false;
        config.exceptions_enabled = false;
        config.gc_enabled = false;
        config.memory64_enabled = false;
        config.reference_types_enabled = false;
        config.relaxed_simd_enabled = false;
        config.tail_call_enabled = false;
        config.threads_enabled = false;
        config.wide_arithmetic_enabled = false;
        config.extended_const_enabled = false;
    }
    config
}

fn generated(random: &mut Random, wild: bool) -> Option<Vec<u8>> {
    let length = 2_000 + random.below(30_000);
    let bytes = random.bytes(length);
    let config = config(random, wild);
    Module::new(config, &mut Unstructured::new(&bytes)).ok().map(|module| module.to_bytes())
}

/// Changes some bytes, drops some, doubles some.
fn mutated(random: &mut Random, mut code: Vec<u8>) -> Vec<u8> {
    for _ in 0..1 + random.below(6) {
        let (at, length) = (random.below(code.len()), 1 + random.below(8));
        let end = (at + length).min(code.len());
        match random.below(8) {
            0..=2 => code[at] = random.next() as u8,
            3..=5 => code[at] ^= 1 << random.below(8),
            6 => drop(code.drain(at..end)),
            _ => {
                let copy = code[at..end].to_vec();
                code.splice(at..at, copy);
            }
        }
        if code.is_empty() {
            break;
        }
    }
    code
}

fn candidate(random: &mut Random) -> Option<Vec<u8>> {
    let length = random.below(300);
    match random.below(8) {
        0 => Some([&b"\0asm\x01\0\0\0"[..], &random.bytes(length)].concat()),
        1 => Some(mutated(random, module_of(FLIPPER))),
        2 => Some(mutated(random, module_of(PSP22))),
        3 => Some(mutated(random, VAULT.to_vec())),
        4 => generated(random, true),
        5 => generated(random, false).map(|code| mutated(random, code)),
        _ => generated(random, false),
    }
}

#[test]
fn preparing_any_module_is_safe_and_quick() {
    let (mut passed, mut refused, mut slowest) = (0_u64, 0_u64, Duration::ZERO);
    for_seeds(250, |seed| {
        let mut random = Random::new(seed);
        let Some(code) = candidate(&mut random) else { return };
        let begin = Instant::now();
        let result = engine().validate(&code);
        assert!(begin.elapsed() < PREPARE, "checking {} bytes took {:?}", code.len(), begin.elapsed());
        match result {
            Ok(_) => passed += 1,
            Err(error) => {
                assert_ne!(error.code(), Code::Internal, "{error}");
                refused += 1;
                return;
            }
        }
        let begin = Instant::now();
        execute(&code);
        slowest = slowest.max(begin.elapsed());
    });
    println!("{passed} passed, {refused} were refused, compiling and running took {slowest:?} at most");
    assert!(passed > refused / 8, "the generator makes too few contracts: {passed} of {refused}");
}

/// Whatever passed is a contract: it compiles for both modes, and ends in some way that is its own.
fn execute(code: &[u8]) {
    let world = Counted::with(CONTRACT, code);
    for mode in [Mode::Command { gas_limit: 3_000_000 }, Mode::Query { ticks: 1 }] {
        let invocation = Invocation { mode, ..Chain::invocation(CONTRACT, b"input") };
        if let Err(failure) = run(&world, mode, invocation) {
            let own = [Code::OutOfGas, Code::Trapped, Code::MemoryLimit, Code::StorageLimit, Code::ReplyTooLarge];
            let late = failure.code() == Code::TimeLimit && mode != (Mode::Command { gas_limit: 3_000_000 });
            assert!(own.contains(&failure.code()) || late, "{}: {failure}", failure.code());
        }
    }
}

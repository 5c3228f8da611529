//! Contracts that call the host with whatever they like.

use super::{Counted, Random, engine, for_seeds, interface::Function, interface::functions, run};
use crate::support::Chain;
use phala_primitives::{AccountId, Code, blake2_256};
use phala_vm::{Failure, Invocation, Mode};
use std::{fmt::Write, sync::Arc, sync::atomic::Ordering};

const CONTRACT: AccountId = AccountId([0x0c; 32]);
/// Gas for looking up one thing in the state.
const LOOKUP: u64 = 10_000;

/// Where a contract's memory holds what arguments point to: see [`world`].
const ZEROS: u32 = 512;
const ACCOUNT: u32 = 1024;
const SELF: u32 = 1056;
const CODE: u32 = 1088;
const ROOM: u32 = 1152;
/// One that both kinds of signatures can be read from, so that it is checked to the end.
const SIGNATURE: u32 = 1216;
pub(crate) const ECDSA_KEY: u32 = 1312;
const OUT: u32 = 4096;

/// Another contract, which does nothing.
const CALLEE: AccountId = AccountId([0x0d; 32]);
const IDLE: &str = r#"(module (memory 1) (func (export "deploy")) (func (export "call")))"#;

/// The generator of secp256k1, its x coordinate.
const POINT: [u8; 32] = [
    0x79, 0xbe, 0x66, 0x7e, 0xf9, 0xdc, 0xbb, 0xac, 0x55, 0xa0, 0x62, 0x95, 0xce, 0x87, 0x0b, 0x07, 0x02, 0x9b, 0xfc,
    0xdb, 0x2d, 0xce, 0x28, 0xd9, 0x59, 0xf2, 0x81, 0x5b, 0x16, 0xf8, 0x17, 0x98,
];

/// A state with a contract that does this, and one that does nothing.
pub(crate) fn world(functions: &[Function], body: &str) -> Arc<Counted> {
    let imports: String = functions.iter().enumerate().map(|(number, function)| function.import(number)).collect();
    let idle = wat::parse_str(IDLE).unwrap();
    let text = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\{byte:02x}")).collect::<String>();
    let code = format!(
        r#"(module {imports} (import "env" "memory" (memory 4 16)) (data (i32.const {CODE}) "{}")
        (data (i32.const {ACCOUNT}) "{}") (data (i32.const {SELF}) "{}")
        (data (i32.const {SIGNATURE}) "{}") (data (i32.const {ECDSA_KEY}) "{}") (func (export "deploy")) (func (export "call")
        (local $n i32) (i32.store (i32.const {ROOM}) (i32.const 65536)) {body}))"#,
        text(blake2_256(&idle).as_ref()),
        text(&CALLEE.0),
        text(&CONTRACT.0),
        text(&[&POINT[..], &[0; 31], &[0x80, 0]].concat()),
        text(&[&[2][..], &POINT].concat()),
    );
    let mut world = Arc::into_inner(Counted::with(CONTRACT, &wat::parse_str(code).unwrap())).unwrap();
    world.state.place(CALLEE, &idle);
    Arc::new(world)
}

/// An argument that makes sense, with `length` for what has a length of its own.
pub(crate) fn sane(name: &str, length: u32) -> u32 {
    match name {
        "out_len" | "address_len" => ROOM,
        "out" | "address" => OUT,
        "account" | "callee" | "beneficiary" => ACCOUNT,
        "code_hash" => CODE,
        "signature" => SIGNATURE,
        "value" | "deposit" => ZEROS,
        "flags" | "gas" | "ref_time" | "proof_size" | "topics_len" => 0,
        "key_len" => length.min(128),
        "salt_len" => length.min(1024),
        name if name.ends_with("_len") => length,
        _ => 8192,
    }
}

fn hostile(random: &mut Random) -> u32 {
    let odd = [0, 1, 3, 31, 32, 33, 129, 65_535, 65_536, 65_537, 262_112, 262_143, 262_144, 1 << 20, 0x7fff_ffff];
    match random.below(4) {
        0 => random.next() as u32,
        1 => u32::MAX - random.below(40) as u32,
        _ => *random.pick(&odd),
    }
}

/// One call as text; `argument` says what to pass for a name.
pub(crate) fn call(number: usize, function: &Function, mut argument: impl FnMut(&str) -> u32) -> String {
    let mut text = format!("(call $h{number}");
    for (name, wide) in &function.arguments {
        let ty = if *wide { "i64" } else { "i32" };
        let _ = write!(text, " ({ty}.const {})", argument(name));
    }
    match function.result {
        Some(_) => format!("(drop {text}))"),
        None => format!("{text})"),
    }
}

#[test]
fn calls_with_hostile_arguments_do_no_harm() {
    let functions = functions();
    let ends: Vec<bool> = functions.iter().map(Function::ends).collect();
    let mut codes = std::collections::BTreeMap::<String, u64>::new();
    for_seeds(150, |seed| {
        let mut random = Random::new(seed);
        let chosen: Vec<usize> = (0..1 + random.below(24)).map(|_| random.below(functions.len())).collect();
        let mut body = String::new();
        for (place, number) in chosen.iter().enumerate() {
            if ends[*number] && place + 1 < chosen.len() {
                continue;
            }
            let spoil = random.one_in(6);
            body += &call(*number, &functions[*number], |name| {
                let length = [0, 4, 32, 33, 300][random.below(5)];
                match name {
                    _ if spoil && random.one_in(3) => hostile(&mut random),
                    "callee" | "account" if random.one_in(4) => SELF,
                    _ => sane(name, length),
                }
            });
        }
        let world = world(&functions, &body);
        for result in outcomes(&world, &body) {
            *codes
                .entry(result.map_or_else(|failure| format!("{:?}", failure.code()), |()| "ended".into()))
                .or_default() += 1;
        }
    });
    assert!(codes.len() > 2, "all calls came to the same: {codes:?}");
    still_works();
}

/// Runs as a command, twice, and as a query.
fn outcomes(world: &Arc<Counted>, body: &str) -> Vec<Result<(), Failure>> {
    let command = Mode::Command { gas_limit: 50_000_000 };
    let invocation = |data: &[u8]| Chain::invocation(CONTRACT, data);
    let mut results = Vec::new();
    for data in [&b""[..], &[7; 100]] {
        let asked = world.asked.load(Ordering::Relaxed);
        let first = run(world, command, invocation(data));
        let asked = world.asked.load(Ordering::Relaxed) - asked;
        let gas = first.as_ref().map_or_else(|failure| failure.gas_used, |execution| execution.gas_used);
        // The contract's own record is paid with the frame, and contracts that ended are looked at once more.
        assert!(asked * LOOKUP <= gas + 4 * LOOKUP, "{asked} look-ups for {gas} gas\n{body}");
        assert_eq!(first, run(world, command, invocation(data)), "a command came to two ends\n{body}");
        results.push(first.map(drop));
        results.push(run(world, Mode::Query { ticks: 20 }, invocation(data)).map(drop));
    }
    for failure in results.iter().filter_map(|result| result.as_ref().err()) {
        assert_ne!(failure.code(), Code::Internal, "{failure}\n{body}");
    }
    results
}

fn still_works() {
    let world = world(&[], "");
    for mode in [Mode::Command { gas_limit: 1_000_000 }, Mode::Query { ticks: 100 }] {
        let invocation = Invocation { mode, ..Chain::invocation(CONTRACT, b"") };
        engine().execute(world.clone(), invocation).unwrap();
    }
}

#[test]
fn every_function_is_charged_for() {
    let functions = functions();
    for (number, function) in functions.iter().enumerate() {
        let body = call(number, function, |name| sane(name, 32));
        let world = world(&functions, &body);
        let gas = |gas_limit| run(&world, Mode::Command { gas_limit }, Chain::invocation(CONTRACT, b""));
        let used = gas(50_000_000).map_or_else(|failure| failure.gas_used, |execution| execution.gas_used);
        // The call itself costs 400 at least. If it has a callee, that one may be who has too little.
        let nested = ["call", "delegate_call", "instantiate"].contains(&function.name);
        match gas(used - 300) {
            Ok(execution) => assert!(nested && execution.gas_used <= used - 300, "{function:?} was not charged for"),
            Err(failure) => assert_eq!(failure.code(), Code::OutOfGas, "{function:?}: {failure}"),
        }
    }
}

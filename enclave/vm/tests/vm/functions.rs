//! Each function of the host, called once: none may be without such a call.

pub(crate) mod table;

use crate::{
    random::interface::{Function, functions},
    support::*,
};
use phala_primitives::{AccountId, Code, SIGNING_CONTEXT, blake2_256};
use phala_vm::{Execution, Failure};
use std::collections::BTreeSet;
use table::{CASES, Case, Outcome, input};

const CONTRACT: u8 = 0x0c;
const CALLEE: u8 = 0x0d;
const ABC: &[u8] = b"abc";

/// Answers `called`.
fn callee() -> Vec<u8> {
    let body = "(call $return (i32.const 0) (i32.const 8) (i32.const 6))";
    wat::parse_str(contract(RETURN, body, r#"(data (i32.const 8) "called")"#)).unwrap()
}

/// What [`input`] says.
fn input() -> Vec<u8> {
    let mut bytes = vec![0; input::ECDSA_KEY.end];
    let mut put = |range: std::ops::Range<usize>, part: &[u8]| bytes[range].copy_from_slice(part);
    put(input::CALLEE, &[CALLEE; 32]);
    put(input::CODE, &blake2_256(&callee()).0);
    let pair = schnorrkel::MiniSecretKey::from_bytes(&[7; 32]).unwrap();
    let pair = pair.expand_to_keypair(schnorrkel::ExpansionMode::Ed25519);
    put(input::SIGNATURE, &pair.sign_simple(SIGNING_CONTEXT, ABC).to_bytes());
    put(input::KEY, &pair.public.to_bytes());
    let mut one = [0; 32];
    one[31] = 1;
    let key = k256::ecdsa::SigningKey::from_slice(&one).unwrap();
    let (signature, id) = key.sign_prehash_recoverable(&[5; 32]).unwrap();
    put(input::ECDSA_SIGNATURE, &[&signature.to_bytes()[..], &[id.to_byte()]].concat());
    put(input::ECDSA_HASH, &[5; 32]);
    put(input::ECDSA_KEY, key.verifying_key().to_encoded_point(true).as_bytes());
    bytes
}

fn module(case: &Case, function: &Function) -> String {
    let keep = r#"(import "seal0" "set_transient_storage" (func $keep (param i32 i32 i32 i32) (result i32)))"#;
    let imports = [RETURN, INPUT, SET, keep, &function.import_as("$f")].concat();
    let body = format!(
        "(i32.store (i32.const 0) (i32.const 65536)) (call $input (i32.const 4096) (i32.const 0))
        (i32.store (i32.const 1020) (i32.const 64)) (i32.store (i32.const 1024) (i32.const 64)) {}
        (call $return (i32.const 0) (i32.const 1024) (i32.const 512))",
        case.body
    );
    let own: String = (0..32).map(|_| format!("\\{CONTRACT:02x}")).collect();
    contract(&imports, &body, &format!(r#"(data (i32.const 64) "abc") (data (i32.const 128) "{own}")"#))
}

fn judge(case: &Case, result: Result<Execution, Failure>, input: &[u8]) {
    let name = case.function;
    let run = match result {
        Ok(run) => run,
        Err(failure) => {
            assert!(matches!(case.result, Outcome::Traps), "{name}: {failure}");
            return assert_eq!(failure.code(), Code::Trapped);
        }
    };
    match &case.result {
        Outcome::Bytes(bytes) => assert_eq!(&run.data[..bytes.len()], *bytes, "{name}"),
        Outcome::Input(range) => {
            assert_eq!(&run.data[4..4 + range.len()], &input[range.clone()], "{name}");
        }
        Outcome::Returned => assert_eq!(run.data, ABC),
        Outcome::Message => assert_eq!(run.debug, ABC),
        Outcome::Event => {
            let event = &run.events[0];
            assert_eq!((event.contract.0[0], event.topics.len(), &*event.data), (CONTRACT, 1, ABC));
        }
        Outcome::Code => assert_eq!((&run.data[..4], run.instantiated.len()), (&[0; 4][..], 1), "{name}"),
        Outcome::Ended => assert!(run.terminated.contains(&AccountId([CONTRACT; 32])), "{name}"),
        Outcome::Traps => panic!("{name} did not trap"),
    }
}

#[test]
fn every_function_is_called_and_answers() {
    let named: BTreeSet<String> = CASES.iter().map(|case| case.function.to_owned()).collect();
    let functions = engine().functions().filter(|(_, name)| !name.starts_with("seal_"));
    let there: BTreeSet<String> = functions.map(|(module, name)| format!("{module}::{name}")).collect();
    assert_eq!(named, there, "functions without a call, or calls without a function");

    let (functions, input) = (self::functions(), input());
    for case in CASES {
        let (module, name) = case.function.split_once("::").unwrap();
        let function = functions.iter().find(|function| (function.module, function.name) == (module, name)).unwrap();
        let chain = Chain::default();
        let hash = chain.upload(&callee());
        chain.0.state.lock().contracts.insert(AccountId([CALLEE; 32]), hash);
        let contract = chain.place(CONTRACT, &self::module(case, function));
        let command = chain.call(contract, &input);
        assert!(command.as_ref().map_or(0, |run| run.gas_used) < GAS / 2);
        judge(case, command, &input);
        judge(case, chain.query(contract, ALICE, &input), &input);
    }
}

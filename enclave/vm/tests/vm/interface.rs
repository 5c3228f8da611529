//! Answers of the host's functions, byte by byte.

use crate::support::*;
use phala_primitives::{AccountId, SIGNING_CONTEXT, blake2_256};
use phala_vm::Event;

/// Runs `body` and returns `length` bytes of its memory from 1024 on. The input lies at 4096, its length at 0.
fn probe(imports: &str, body: &str, length: u32, input: &[u8]) -> Vec<u8> {
    let chain = Chain::default();
    let body = format!(
        "(i32.store (i32.const 0) (i32.const 65536)) (call $input (i32.const 4096) (i32.const 0)) {body}
        (call $return (i32.const 0) (i32.const 1024) (i32.const {length}))"
    );
    let contract = chain.place(0x0c, &contract(&[RETURN, INPUT, imports].concat(), &body, ""));
    let run = chain.call(contract, input).unwrap();
    assert_eq!(chain.query(contract, ALICE, input).unwrap().changes, run.changes);
    run.data
}

/// What a function answers that writes to an output of variable length: the output and its length.
fn output(module: &str, name: &str) -> Vec<u8> {
    let import = format!(r#"(import "{module}" "{name}" (func $f (param i32 i32)))"#);
    let body = "(i32.store (i32.const 1024) (i32.const 64)) (call $f (i32.const 1028) (i32.const 1024))";
    let answer = probe(&import, body, 68, b"");
    let length = u32::from_le_bytes(answer[..4].try_into().unwrap()) as usize;
    answer[4..4 + length].to_vec()
}

#[test]
fn a_contract_learns_who_and_when() {
    assert_eq!(output("seal0", "caller"), ALICE.0);
    assert_eq!(output("seal0", "address"), [0x0c; 32]);
    assert_eq!(output("seal0", "now"), 1_700_000_000_123_u64.to_le_bytes());
    assert_eq!(output("seal0", "block_number"), 7_u32.to_le_bytes());
    for amount in ["balance", "value_transferred"] {
        assert_eq!(output("seal0", amount), [0; 16]);
    }
    assert_eq!(output("seal0", "minimum_balance"), phala_primitives::limits::MIN_BALANCE.to_le_bytes());
    assert_eq!(output("seal0", "seal_caller"), ALICE.0);
    assert_eq!(output("seal0", "own_code_hash").len(), 32);
    let gas = u64::from_le_bytes(output("seal0", "gas_left").try_into().unwrap());
    assert!(gas == u64::MAX || (GAS / 2..GAS).contains(&gas));
}

#[test]
fn a_contract_learns_of_others() {
    let imports = r#"(import "seal0" "is_contract" (func $is (param i32) (result i32)))
        (import "seal0" "code_hash" (func $hash (param i32 i32 i32) (result i32)))
        (import "seal0" "caller_is_origin" (func $origin (result i32)))
        (import "seal0" "caller_is_root" (func $root (result i32)))
        (import "seal0" "reentrance_count" (func $count (result i32)))
        (import "seal0" "account_reentrance_count" (func $account (param i32) (result i32)))
        (import "seal0" "instantiation_nonce" (func $nonce (result i64)))"#;
    let body = "(i32.store (i32.const 1024) (call $is (i32.const 4096)))
        (i32.store (i32.const 1028) (call $is (i32.const 4128)))
        (i32.store (i32.const 1032) (call $hash (i32.const 4128) (i32.const 2048) (i32.const 0)))
        (i32.store (i32.const 1036) (call $hash (i32.const 4096) (i32.const 2048) (i32.const 0)))
        (i32.store (i32.const 1040) (call $origin)) (i32.store (i32.const 1044) (call $root))
        (i32.store (i32.const 1048) (call $count)) (i32.store (i32.const 1052) (call $account (i32.const 4096)))
        (i64.store (i32.const 1056) (call $nonce))";
    let words = probe(imports, body, 40, &[[0x0c; 32], [0x0d; 32]].concat());
    let words: Vec<_> = words.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!(words, [1, 0, 3, 0, 1, 0, 0, 1, (7 << 24) + (2 << 16), 0]);
}

#[test]
fn no_two_executions_of_an_entry_have_the_same_nonce() {
    let imports = [RETURN, r#"(import "seal0" "instantiation_nonce" (func $nonce (result i64)))"#].concat();
    let call = "(i64.store (i32.const 64) (call $nonce)) (call $return (i32.const 0) (i32.const 64) (i32.const 8))";
    let chain = Chain::default();
    let door = chain.place(1, &contract(&imports, call, ""));
    let nonce = |index| {
        let mut invocation = Chain::invocation(door, &[]);
        invocation.block.index = index;
        chain.run(invocation).unwrap().data
    };
    // 256 commands and as many timers.
    let nonces: std::collections::BTreeSet<Vec<u8>> = (0..512).map(nonce).collect();
    assert_eq!(nonces.len(), 512);
}

#[test]
fn storage_answers_with_old_lengths() {
    let imports = [
        SET,
        GET,
        r#"(import "seal1" "clear_storage" (func $clear (param i32 i32) (result i32)))
        (import "seal1" "contains_storage" (func $has (param i32 i32) (result i32)))
        (import "seal0" "take_storage" (func $take (param i32 i32 i32 i32) (result i32)))
        (import "seal1" "set_storage" (func $set1 (param i32 i32 i32) (result i32)))
        (import "seal0" "set_storage" (func $set0 (param i32 i32 i32)))
        (import "seal0" "get_storage" (func $get0 (param i32 i32 i32) (result i32)))"#,
    ]
    .concat();
    let put = |at: u32, call: &str| format!("(i32.store (i32.const {at}) {call})");
    let key = "(i32.const 4096) (i32.const 3)";
    let out = "(i32.const 2048) (i32.const 2044)";
    let room = "(i32.store (i32.const 2044) (i32.const 8))";
    let body = [
        put(1024, &format!("(call $set {key} (i32.const 4096) (i32.const 5))")),
        put(1028, &format!("(call $set {key} (i32.const 4096) (i32.const 0))")),
        put(1032, &format!("(call $has {key})")),
        put(1036, &format!("(call $clear {key})")),
        put(1040, &format!("(call $clear {key})")),
        put(1044, &format!("(call $has {key})")),
        put(1048, &format!("(call $get {key} {out})")),
        format!("(drop (call $set {key} (i32.const 4096) (i32.const 4))) {room}"),
        put(1052, &format!("(call $take {key} {out})")),
        put(1056, "(i32.load (i32.const 2044))"),
        put(1060, &format!("(call $take {key} {out})")),
        put(1064, "(call $set1 (i32.const 4096) (i32.const 4096) (i32.const 6))"),
        "(call $set0 (i32.const 4096) (i32.const 4096) (i32.const 7))".to_owned(),
        room.to_owned(),
        put(1068, &format!("(call $get0 (i32.const 4096) {out})")),
        put(1072, "(i32.load (i32.const 2044))"),
        put(1076, "(i32.load (i32.const 2048))"),
    ]
    .concat();
    let words = probe(&imports, &body, 56, b"abcdefghijklmnopqrstuvwxyz0123456789");
    let words: Vec<_> = words.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
    let (none, text) = (u32::MAX, u32::from_le_bytes(*b"abcd"));
    assert_eq!(words, [none, 5, 0, 0, none, none, 3, 0, 4, 3, none, 0, 7, text]);
}

#[test]
fn hashes_are_the_usual_ones() {
    let hash = |name: &str, length| {
        let import = format!(r#"(import "seal0" "{name}" (func $h (param i32 i32 i32)))"#);
        probe(&import, "(call $h (i32.const 4096) (i32.load (i32.const 0)) (i32.const 1024))", length, b"abc")
    };
    assert_eq!(hash("hash_blake2_256", 32), blake2_256(b"abc").0);
    assert_eq!(hash("hash_sha2_256", 32)[..4], [0xba, 0x78, 0x16, 0xbf]);
    assert_eq!(hash("hash_keccak_256", 32)[..4], [0x4e, 0x03, 0x65, 0x7a]);
    assert_eq!(hash("hash_blake2_128", 16)[..4], [0xcf, 0x4a, 0xb7, 0x91]);
}

#[test]
fn signatures_are_checked() {
    let pair = schnorrkel::MiniSecretKey::from_bytes(&[7; 32]).unwrap();
    let pair = pair.expand_to_keypair(schnorrkel::ExpansionMode::Ed25519);
    let signature = pair.sign_simple(SIGNING_CONTEXT, b"hello").to_bytes();
    let import = r#"(import "seal0" "sr25519_verify" (func $v (param i32 i32 i32 i32) (result i32)))"#;
    let body =
        "(i32.store (i32.const 1024) (call $v (i32.const 4096) (i32.const 4160) (i32.const 5) (i32.const 4192)))";
    let verify = |message: &[u8]| probe(import, body, 4, &[&signature[..], &pair.public.to_bytes(), message].concat());
    assert_eq!((verify(b"hello"), verify(b"hallo")), (vec![0, 0, 0, 0], vec![12, 0, 0, 0]));

    let key = k256::ecdsa::SigningKey::from_slice(&[9; 32]).unwrap();
    let (body, id) = key.sign_prehash_recoverable(&[5; 32]).unwrap();
    let import = r#"(import "seal0" "ecdsa_recover" (func $r (param i32 i32 i32) (result i32)))
        (import "seal0" "ecdsa_to_eth_address" (func $e (param i32 i32) (result i32)))"#;
    let code = "(i32.store (i32.const 1024) (call $r (i32.const 4096) (i32.const 4161) (i32.const 1032)))
        (i32.store (i32.const 1028) (call $e (i32.const 1032) (i32.const 1065)))";
    let input = [&body.to_bytes()[..], &[id.to_byte()], &[5; 32]].concat();
    let answer = probe(import, code, 61, &input);
    assert_eq!(answer[..8], [0; 8]);
    assert_eq!(answer[8..41], *key.verifying_key().to_encoded_point(true).as_bytes());
    assert_ne!(answer[41..61], [0; 20]);
    assert_eq!(probe(import, code, 8, &[255; 97]), [11, 0, 0, 0, 11, 0, 0, 0]);
}

#[test]
fn events_and_debug_messages_come_out() {
    let chain = Chain::default();
    let imports = r#"(import "seal0" "deposit_event" (func $event (param i32 i32 i32 i32)))
        (import "seal0" "debug_message" (func $debug (param i32 i32) (result i32)))"#;
    let body = "(call $event (i32.const 8) (i32.const 33) (i32.const 64) (i32.const 3))
        (call $event (i32.const 0) (i32.const 0) (i32.const 64) (i32.const 1))
        (drop (call $debug (i32.const 64) (i32.const 3)))";
    let data = r#"(data (i32.const 8) "\04") (data (i32.const 64) "abc")"#;
    let contract = chain.place(3, &contract(imports, body, data));
    let run = chain.call(contract, b"").unwrap();
    let event = |topics: usize, data: &[u8]| Event {
        contract: AccountId([3; 32]),
        topics: vec![[0; 32].into(); topics],
        data: data.to_vec(),
    };
    assert_eq!(run.events.len(), 2);
    assert_eq!((run.events[1].clone(), run.debug), (event(0, b"a"), b"abc".to_vec()));
    assert_eq!((run.events[0].topics.len(), run.events[0].data.clone()), (1, b"abc".to_vec()));
}

#[test]
fn money_that_is_not_there_and_the_runtime_are_refused_politely() {
    let imports = r#"(import "seal0" "transfer" (func $t (param i32 i32 i32 i32) (result i32)))
        (import "seal0" "call_runtime" (func $r (param i32 i32) (result i32)))"#;
    let body = "(i32.store (i32.const 1024) (call $t (i32.const 64) (i32.const 32) (i32.const 64) (i32.const 16)))
        (i32.store (i32.const 1028) (call $t (i32.const 64) (i32.const 32) (i32.const 4096) (i32.const 16)))
        (i32.store (i32.const 1032) (call $r (i32.const 0) (i32.const 4)))";
    assert_eq!(probe(imports, body, 12, &[1; 16]), [0, 0, 0, 0, 5, 0, 0, 0, 10, 0, 0, 0]);
}

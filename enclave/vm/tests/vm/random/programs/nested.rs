//! Contracts that call each other, run each other's code, and replace their own.

use super::{INPUT_AT, LOCALS, Writer};
use phala_primitives::{AccountId, Hash};
use std::fmt::Write;

/// Where a contract's memory holds accounts and hashes of code, one more of each than there are.
const ACCOUNTS: usize = 16384;
const CODES: usize = 20480;
/// Where an amount of zero is.
const ZEROS: usize = 24576;
/// Gas that a contract passes on is a multiple of this, so large that no callee needs it up.
pub(crate) const UNIT_GAS: u64 = 100_000_000;

pub(super) const IMPORTS: &str = r#"
    (import "seal0" "delegate_call" (func $delegate (param i32 i32 i32 i32 i32 i32) (result i32)))
    (import "seal0" "set_code_hash" (func $replace (param i32) (result i32)))
    (import "seal0" "own_code_hash" (func $own (param i32 i32)))
    (import "seal0" "is_contract" (func $is (param i32) (result i32)))
    (import "seal0" "reentrance_count" (func $count (result i32)))
    (import "seal1" "terminate" (func $end (param i32)))"#;

/// A contract that was entered again calls no other.
pub(super) const PROLOGUE: &str = "(if (call $count) (then (global.set $calls (i32.const 0))))";

/// Account of the contract with this number.
pub(crate) fn account(number: usize) -> AccountId {
    AccountId([0x10 + number as u8; 32])
}

/// Segments with the accounts of all contracts and the codes of those before; how many calls are left.
pub(super) fn data(codes: &[Hash], count: usize) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\{byte:02x}")).collect::<String>();
    let mut text = String::from("(global $calls (mut i32) (i32.const 2))\n");
    for number in 0..=count {
        let _ = writeln!(text, r#"(data (i32.const {}) "{}")"#, ACCOUNTS + 32 * number, hex(&account(number).0));
    }
    for (number, code) in codes.iter().enumerate() {
        let _ = writeln!(text, r#"(data (i32.const {}) "{}")"#, CODES + 32 * number, hex(&code.0));
    }
    text
}

impl Writer<'_> {
    /// Something that concerns other contracts or the contract's own code.
    pub(super) fn nested(&mut self) -> String {
        let local = self.random.below(LOCALS);
        match self.random.below(12) {
            0..6 => self.calling(local),
            6 | 7 => self.delegating(local),
            8 => format!("(local.set $i32_{local} (call $replace (i32.const {})))", self.code()),
            9 => format!("(i32.store (i32.const 512) (i32.const 64)) (call $own {} (i32.const 512))", self.place()),
            10 => format!("(local.set $i32_{local} (call $is (i32.const {})))", self.account()),
            _ if self.random.one_in(10) => format!("(call $end (i32.const {ACCOUNTS}))"),
            _ => format!("(local.set $i32_{local} (call $count))"),
        }
    }

    /// Mostly of a contract with a higher number.
    fn account(&mut self) -> usize {
        let number = if self.random.one_in(5) { self.random.below(4) } else { self.number + 1 };
        ACCOUNTS + 32 * number
    }

    /// Of a contract with a lower number, or of none.
    fn code(&mut self) -> usize {
        CODES + 32 * self.random.below(self.number + 1)
    }

    /// Only twice in each call of the contract.
    fn once(&mut self, call: &str) -> String {
        let room = [4096, 4096, 4096, 64][self.random.below(4)];
        format!(
            "(if (global.get $calls) (then (global.set $calls (i32.sub (global.get $calls) (i32.const 1)))
            (i32.store (i32.const 512) (i32.const {room})) {call}))"
        )
    }

    fn calling(&mut self, local: usize) -> String {
        let flags = *self.random.pick(&[0, 0, 0, 8, 8, 1, 2, 4, 16, 10, 24, 32]);
        let (callee, out) = (self.account(), self.output());
        let gas = UNIT_GAS << (4 * (3 - self.number.min(3)));
        self.once(&format!(
            "(local.set $i32_{local} (call $call (i32.const {flags}) (i32.const {callee}) (i64.const {gas})
            (i32.const {ZEROS}) (i32.const {INPUT_AT}) (i32.const 20) {out}))"
        ))
    }

    fn delegating(&mut self, local: usize) -> String {
        let flags = *self.random.pick(&[0, 0, 0, 0, 1, 2, 4, 8]);
        let (code, out) = (self.code(), self.output());
        self.once(&format!(
            "(local.set $i32_{local} (call $delegate (i32.const {flags}) (i32.const {code}) (i32.const {INPUT_AT})
            (i32.const 20) {out}))"
        ))
    }

    fn output(&mut self) -> String {
        match self.random.below(3) {
            0 => "(i32.const -1) (i32.const 512)".into(),
            _ => "(i32.const 8192) (i32.const 512)".into(),
        }
    }
}

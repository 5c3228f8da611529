//! Contracts that compute, branch, loop, call and use the host, made from a number, in the text format.
//!
//! Every loop counts down, no function calls one before it, and a contract that was entered again calls no other, so all
//! of them end. NaNs are made canonical before their bits are looked at: which bits they have is what engines may differ
//! in.

mod nested;
mod vectors;

use super::Random;
use crate::support::{CALL, GET};
use phala_primitives::Hash;
use std::fmt::Write;

pub(crate) use nested::{UNIT_GAS, account};

const TYPES: [&str; 5] = ["i32", "i64", "f32", "f64", "v128"];
const V128: usize = 4;
/// Locals of each type in each function, counted from the first.
const LOCALS: usize = 3;
/// The key that a contract's state begins with, and the place of the input.
pub(crate) const KEY: &[u8] = b"\x07key";
pub(crate) const INPUT_AT: usize = 2048;

const IMPORTS: &str = r#"
    (import "seal0" "seal_return" (func $return (param i32 i32 i32)))
    (import "seal0" "input" (func $input (param i32 i32)))
    (import "seal0" "caller" (func $caller (param i32 i32)))
    (import "seal0" "address" (func $address (param i32 i32)))
    (import "seal2" "set_storage" (func $set (param i32 i32 i32 i32) (result i32)))
    (import "seal1" "clear_storage" (func $clear (param i32 i32) (result i32)))
    (import "seal1" "contains_storage" (func $contains (param i32 i32) (result i32)))
    (import "seal0" "take_storage" (func $take (param i32 i32 i32 i32) (result i32)))
    (import "seal0" "set_transient_storage" (func $tset (param i32 i32 i32 i32) (result i32)))
    (import "seal0" "get_transient_storage" (func $tget (param i32 i32 i32 i32) (result i32)))
    (import "seal0" "clear_transient_storage" (func $tclear (param i32 i32) (result i32)))
    (import "seal0" "contains_transient_storage" (func $tcontains (param i32 i32) (result i32)))
    (import "seal0" "take_transient_storage" (func $ttake (param i32 i32 i32 i32) (result i32)))
    (import "seal0" "deposit_event" (func $event (param i32 i32 i32 i32)))
    (import "seal0" "caller_is_origin" (func $origin (result i32)))
    (import "seal0" "hash_sha2_256" (func $sha (param i32 i32 i32)))"#;

const CANONICAL: &str = "
    (func $c32 (param f32) (result f32) (select (f32.const nan) (local.get 0) (f32.ne (local.get 0) (local.get 0))))
    (func $c64 (param f64) (result f64) (select (f64.const nan) (local.get 0) (f64.ne (local.get 0) (local.get 0))))";

/// Writes one module.
struct Writer<'a> {
    random: &'a mut Random,
    /// Number of the contract.
    number: usize,
    /// Functions that may be called from the one that is being written: those with a higher number.
    callees: std::ops::Range<usize>,
    loops: usize,
    labels: usize,
}

/// A contract as text: the one that comes after those with these codes, among `count`.
pub(crate) fn contract(random: &mut Random, codes: &[Hash], count: usize) -> String {
    let number = codes.len();
    let functions = random.below(4);
    let data: String = random.bytes(64).iter().map(|byte| format!("\\{byte:02x}")).collect();
    let mut text = format!("(module {IMPORTS} {GET} {CALL} {}", nested::IMPORTS);
    let _ = writeln!(text, "(import \"env\" \"memory\" (memory 2 4)) {CANONICAL} {}", vectors::CANONICAL);
    text += &nested::data(codes, count);
    let _ =
        writeln!(text, "(global $g (mut i64) (i64.const {})) (data (i32.const 256) \"{data}\")", random.next() as i64);
    let _ =
        writeln!(text, "(table 4 funcref) (elem (i32.const 0) $c32 $c64 {})", if functions > 0 { "$f0" } else { "" });
    for function in 0..functions {
        let mut writer = Writer { random, number, callees: function + 1..functions, loops: 0, labels: 0 };
        let body = writer.block(4, 3);
        let result = writer.value(1, 3);
        let _ = writeln!(text, "(func $f{function} (param i64) (result i64) {} {body} {result})", locals());
    }
    let mut writer = Writer { random, number, callees: 0..functions, loops: 0, labels: 0 };
    let body = writer.block(8, 4);
    // What the contract came to is in its locals and its memory; both go into the output.
    let mut show = String::new();
    for local in 0..LOCALS {
        let _ = write!(show, "(i32.store (i32.const {}) (local.get $i32_{local}))", 1024 + 32 * local);
        let _ = write!(show, "(i64.store (i32.const {}) (local.get $i64_{local}))", 1032 + 32 * local);
        let _ = write!(show, "(f32.store (i32.const {}) (call $c32 (local.get $f32_{local})))", 1040 + 32 * local);
        let _ = write!(show, "(f64.store (i32.const {}) (call $c64 (local.get $f64_{local})))", 1048 + 32 * local);
        let _ = write!(show, "(v128.store (i32.const {}) (local.get $v128_{local}))", 1152 + 16 * local);
    }
    let flags = usize::from(writer.random.one_in(8));
    let _ = write!(
        text,
        r#"(func (export "deploy")) (func (export "call") {} {} (i32.store (i32.const 0) (i32.const 64))
        (call $input (i32.const {INPUT_AT}) (i32.const 0)) (local.set $i64_0 (i64.load (i32.const {INPUT_AT})))
        {body} {show} (i64.store (i32.const 1136) (global.get $g))
        (call $return (i32.const {flags}) (i32.const 0) (i32.const 4096))))"#,
        locals(),
        nested::PROLOGUE
    );
    text
}

fn locals() -> String {
    let mut text = String::new();
    for (ty, local) in TYPES.iter().flat_map(|ty| (0..LOCALS).map(move |local| (ty, local))) {
        let _ = write!(text, "(local ${ty}_{local} {ty})");
    }
    (0..8).fold(text, |text, local| text + &format!("(local $n{local} i32)"))
}

impl Writer<'_> {
    fn block(&mut self, most: usize, depth: usize) -> String {
        (0..=self.random.below(most)).map(|_| self.statement(depth)).collect::<Vec<_>>().join("\n")
    }

    fn statement(&mut self, depth: usize) -> String {
        let random = self.random.below(if depth == 0 { 10 } else { 18 });
        match random {
            0..=4 => {
                let ty = self.random.below(TYPES.len());
                let local = self.random.below(LOCALS);
                format!("(local.set ${}_{local} {})", TYPES[ty], self.value(ty, 4))
            }
            5 => format!("(global.set $g {})", self.value(1, 3)),
            6 => {
                let (ty, name) = *self.random.pick(&[
                    (0, "i32.store"),
                    (0, "i32.store8"),
                    (0, "i32.store16"),
                    (1, "i64.store"),
                    (1, "i64.store32"),
                    (1, "i64.store8"),
                ]);
                format!("({name} {} {})", self.place(), self.value(ty, 3))
            }
            7 => {
                let (ty, name) = *self.random.pick(&[(2, "f32.store"), (3, "f64.store")]);
                let canonical = ["c32", "c64"][ty - 2];
                format!("({name} {} (call ${canonical} {}))", self.place(), self.value(ty, 3))
            }
            8 => self.host(),
            9 => self.bulk(),
            10 | 11 => format!(
                "(if {} (then {}) (else {}))",
                self.value(0, 3),
                self.block(3, depth - 1),
                self.block(3, depth - 1)
            ),
            12 | 13 if self.loops < 3 => self.counted(depth),
            14 => {
                let label = self.labels;
                self.labels += 1;
                let (first, leave, second) = (self.block(2, depth - 1), self.value(0, 2), self.block(2, depth - 1));
                format!("(block $b{label} {first} (br_if $b{label} {leave}) {second})")
            }
            15 => {
                let label = self.labels;
                self.labels += 2;
                let (inner, outer) = (format!("$b{label}"), format!("$b{}", label + 1));
                let (choice, first, second) = (self.value(0, 2), self.block(2, depth - 1), self.block(1, depth - 1));
                format!("(block {outer} (block {inner} {first} (br_table {inner} {outer} {inner} {choice})) {second})")
            }
            16 => self.nested(),
            _ if self.random.one_in(40) => "unreachable".into(),
            _ => self.host(),
        }
    }

    /// A loop of at most 8 rounds.
    fn counted(&mut self, depth: usize) -> String {
        let (counter, label) = (self.loops, self.labels);
        self.loops += 1;
        self.labels += 1;
        let body = self.block(3, depth - 1);
        self.loops -= 1;
        let rounds = 1 + self.random.below(8);
        format!(
            "(local.set $n{counter} (i32.const {rounds})) (loop $b{label} {body}
            (br_if $b{label} (local.tee $n{counter} (i32.sub (local.get $n{counter}) (i32.const 1)))))"
        )
    }

    /// Where memory is used: mostly the same few kilobytes, seldom anywhere.
    fn place(&mut self) -> String {
        match self.random.below(60) {
            0 => self.value(0, 2),
            1 => "(i32.const 262140)".into(),
            2..20 => format!("(i32.and {} (i32.const 1023))", self.value(0, 2)),
            _ => format!("(i32.const {})", self.random.below(1024)),
        }
    }

    /// A length that fits, or seldom one that does not.
    fn length(&mut self) -> String {
        match self.random.below(40) {
            0 => self.value(0, 1),
            1 => format!("(i32.const {})", self.random.below(200)),
            _ => format!("(i32.const {})", self.random.below(64)),
        }
    }

    /// Copies or fills memory.
    fn bulk(&mut self) -> String {
        let (to, length) = (self.place(), self.length());
        match self.random.below(3) {
            0 => format!("(memory.fill {to} {} {length})", self.value(0, 2)),
            1 => format!("(memory.copy {to} {} {length})", self.place()),
            _ => {
                let store = *self.random.pick(&["v128.store", "v128.store align=1", "v128.store64_lane 1"]);
                format!("({store} {to} {})", self.value(V128, 3))
            }
        }
    }

    fn host(&mut self) -> String {
        let key = match self.random.below(3) {
            0 => format!("(i32.const {}) (i32.const {})", INPUT_AT, KEY.len()),
            1 => format!("(i32.const {}) (i32.const 2)", self.random.below(64)),
            _ => format!("{} {}", self.place(), self.length()),
        };
        let room = format!("(i32.store (i32.const 512) (i32.const {}))", [64, 64, 64, 8][self.random.below(4)]);
        let (out, local) = (self.place(), self.random.below(LOCALS));
        let transient = if self.random.one_in(3) { "t" } else { "" };
        match self.random.below(10) {
            0 | 1 => format!("(local.set $i32_{local} (call ${transient}set {key} {out} {}))", self.length()),
            2 | 3 => format!("{room} (local.set $i32_{local} (call ${transient}get {key} {out} (i32.const 512)))"),
            4 => {
                let name = *self.random.pick(&["clear", "contains"]);
                format!("(local.set $i32_{local} (call ${transient}{name} {key}))")
            }
            5 => format!("{room} (local.set $i32_{local} (call ${transient}take {key} {out} (i32.const 512)))"),
            6 if self.random.one_in(3) => format!("(local.set $i32_{local} (call $origin))"),
            7 => format!("(call $event (i32.const 0) (i32.const 0) {out} {})", self.length()),
            8 => self.nested(),
            6 => {
                format!("{room} (call {} {out} (i32.const 512))", self.random.pick(&["$caller", "$address", "$input"]))
            }
            _ => format!("(call $sha {out} {} {})", self.length(), self.place()),
        }
    }

    fn value(&mut self, ty: usize, depth: usize) -> String {
        let name = TYPES[ty];
        if depth == 0 || self.random.one_in(5) {
            return match self.random.below(2) {
                0 => format!("(local.get ${name}_{})", self.random.below(LOCALS)),
                _ => self.constant(ty),
            };
        }
        if self.random.below(8) < 5 {
            return self.operation(ty, depth - 1);
        }
        match (ty, self.random.below(4)) {
            (0, 0) => "(memory.size)".into(),
            (0, 1) if self.random.one_in(10) => format!("(memory.grow (i32.const {}))", self.random.below(3)),
            (0, _) => format!("({} {})", self.random.pick(&["i32.load", "i32.load8_s", "i32.load16_u"]), self.place()),
            (1, 0) => "(global.get $g)".into(),
            (1, 1) if !self.callees.is_empty() => {
                let callee = self.callees.start + self.random.below(self.callees.len());
                format!("(call $f{callee} {})", self.value(1, depth - 1))
            }
            (1, 2) if self.callees.start == 0 && !self.callees.is_empty() && self.random.one_in(3) => {
                let place = [2, 2, 2, 2, 2, 0, 3, 9][self.random.below(8)];
                format!("(call_indirect (param i64) (result i64) {} (i32.const {place}))", self.value(1, depth - 1))
            }
            (1, _) => format!("({} {})", self.random.pick(&["i64.load", "i64.load32_s", "i64.load8_u"]), self.place()),
            (2, 0) => format!("(f32x4.extract_lane {} {})", self.random.below(4), self.value(V128, depth - 1)),
            (3, 0) => format!("(f64x2.extract_lane {} {})", self.random.below(2), self.value(V128, depth - 1)),
            (2, _) => format!("(f32.load {})", self.place()),
            (V128, _) => self.loaded_vector(),
            _ => format!("(f64.load {})", self.place()),
        }
    }

    fn constant(&mut self, ty: usize) -> String {
        if ty == V128 {
            return self.vector_constant();
        }
        let odd = [0, 1, -1, i64::MIN, i64::MAX, i64::from(i32::MIN), i64::from(i32::MAX), 255, 65536];
        let number = if self.random.one_in(2) { *self.random.pick(&odd) } else { self.random.next() as i64 };
        match ty {
            0 => format!("(i32.const {})", number as i32),
            1 => format!("(i64.const {number})"),
            _ if self.random.one_in(8) => {
                format!("({}.const {})", TYPES[ty], self.random.pick(&["inf", "-inf", "nan", "-0"]))
            }
            2 => format!("(f32.const {})", (number % 1000) as f32 / 8.0),
            _ => format!("(f64.const {:e})", number as f64 / 3.0),
        }
    }

    fn operation(&mut self, ty: usize, depth: usize) -> String {
        if ty == V128 {
            return self.vector_operation(depth);
        }
        let integers =
            ["add", "sub", "mul", "and", "or", "xor", "shl", "shr_s", "shr_u", "rotl", "rotr", "add", "sub", "xor"];
        let division = ["div_s", "div_u", "rem_s", "rem_u"];
        let compare = ["eq", "ne", "lt_s", "lt_u", "gt_s", "gt_u", "le_s", "le_u", "ge_s", "ge_u"];
        let name = TYPES[ty];
        match (ty, self.random.below(12)) {
            (0 | 1, 0..6) => self.two(name, &integers, ty, depth),
            // Most divisors are not zero.
            (0 | 1, 6) => format!(
                "({name}.{} {} ({name}.or {} ({name}.const {})))",
                self.random.pick(&division),
                self.value(ty, depth),
                self.value(ty, depth),
                usize::from(!self.random.one_in(10))
            ),
            (0 | 1, 7) => format!(
                "({name}.{} {})",
                self.random.pick(&["clz", "ctz", "popcnt", "extend8_s", "extend16_s"]),
                self.value(ty, depth)
            ),
            (0, 8) => self.two("i32", &compare, 0, depth),
            (0, 9) => self.two("i64", &compare, 1, depth),
            (0, 10) => {
                let float = 2 + self.random.below(2);
                self.two(TYPES[float], &["eq", "ne", "lt", "gt", "le", "ge"], float, depth)
            }
            (0, _) if self.random.one_in(3) => self.of_vector(depth),
            (0, _) => match self.random.below(3) {
                0 => format!("(i32.wrap_i64 {})", self.value(1, depth)),
                1 => format!("(i32.reinterpret_f32 (call $c32 {}))", self.value(2, depth)),
                _ => self.truncation(0, depth),
            },
            (1, 8) => format!("(i64.extend_i32_{} {})", self.random.pick(&["s", "u"]), self.value(0, depth)),
            (1, 9) => format!("(i64.reinterpret_f64 (call $c64 {}))", self.value(3, depth)),
            (1, 10) => self.truncation(1, depth),
            (_, 11) => format!("(select {} {} {})", self.value(ty, depth), self.value(ty, depth), self.value(0, depth)),
            (1, _) if self.random.one_in(2) => format!("(i64x2.extract_lane 1 {})", self.value(V128, depth)),
            (1, _) => format!("(i64.extend_i32_u (i64.eqz {}))", self.value(1, depth)),
            (_, 0..6) => self.two(name, &["add", "sub", "mul", "div", "min", "max"], ty, depth),
            (_, 6 | 7) => format!(
                "({name}.{} {})",
                self.random.pick(&["abs", "neg", "ceil", "floor", "trunc", "nearest", "sqrt"]),
                self.value(ty, depth)
            ),
            // The sign of a NaN can be seen through this one.
            (_, 8) => format!(
                "({name}.copysign {} (call $c{} {}))",
                self.value(ty, depth),
                32 * (ty - 1),
                self.value(ty, depth)
            ),
            (2, 9) => format!("(f32.demote_f64 {})", self.value(3, depth)),
            (_, 9) => format!("(f64.promote_f32 {})", self.value(2, depth)),
            _ => {
                let from = self.random.below(2);
                format!(
                    "({name}.convert_i{}_{} {})",
                    [32, 64][from],
                    self.random.pick(&["s", "u"]),
                    self.value(from, depth)
                )
            }
        }
    }

    /// One of these operations on two values of a type.
    fn two(&mut self, name: &str, operations: &[&str], ty: usize, depth: usize) -> String {
        let operation = self.random.pick(operations);
        format!("({name}.{operation} {} {})", self.value(ty, depth), self.value(ty, depth))
    }

    /// From a float; mostly of the kind that does not trap.
    fn truncation(&mut self, ty: usize, depth: usize) -> String {
        let (float, saturating) = (2 + self.random.below(2), if self.random.one_in(12) { "" } else { "_sat" });
        let sign = *self.random.pick(&["s", "u"]);
        format!("({}.trunc{saturating}_{}_{sign} {})", TYPES[ty], TYPES[float], self.value(float, depth))
    }
}

//! A contract written by hand, which does on request what contracts must not do.
//!
//! The first byte of the input says what; the rest is its argument.

/// Reads the value.
pub(crate) const READ: u8 = 0;
/// Sets the value to the argument.
pub(crate) const WRITE: u8 = 1;
/// Adds one to the counter and returns it (u64).
pub(crate) const COUNT: u8 = 2;
/// Returns the counter.
pub(crate) const COUNTER: u8 = 9;
/// Traps.
pub(crate) const TRAP: u8 = 3;
/// Never ends.
pub(crate) const LOOP: u8 = 4;
/// Wants all memory that there is and then some.
pub(crate) const GROW: u8 = 5;
/// Calls itself within the module without end.
pub(crate) const RECURSE: u8 = 6;
/// Says the argument as a debug message, then traps.
pub(crate) const SHOUT: u8 = 7;
/// Writes the argument to the value, then reverts and returns it.
pub(crate) const REVERT: u8 = 8;
/// Stores under the first 16 bytes of the argument the rest of it.
pub(crate) const STORE: u8 = 10;
/// Writes a value of 65,537 bytes.
pub(crate) const STORE_TOO_MUCH: u8 = 11;
/// Returns a megabyte and a byte.
pub(crate) const RETURN_TOO_MUCH: u8 = 12;

const SOURCE: &str = r#"(module
  (import "seal0" "seal_return" (func $return (param i32 i32 i32)))
  (import "seal0" "input" (func $input (param i32 i32)))
  (import "seal2" "set_storage" (func $set (param i32 i32 i32 i32) (result i32)))
  (import "seal1" "get_storage" (func $get (param i32 i32 i32 i32) (result i32)))
  (import "seal0" "debug_message" (func $debug (param i32 i32) (result i32)))
  (import "env" "memory" (memory 20))
  (data (i32.const 16) "value")
  (data (i32.const 32) "count")
  (func $read (result i32)
    (i32.store (i32.const 0) (i32.const 196608))
    (call $input (i32.const 4096) (i32.const 0))
    (i32.load (i32.const 0)))
  (func $counter
    (i64.store (i32.const 64) (i64.const 0))
    (i32.store (i32.const 0) (i32.const 8))
    (drop (call $get (i32.const 32) (i32.const 5) (i32.const 64) (i32.const 0))))
  (func $deeper (call $deeper) (call $deeper))
  (func $write (param $len i32)
    (drop (call $set (i32.const 16) (i32.const 5) (i32.const 4097) (i32.sub (local.get $len) (i32.const 1)))))
  (func (export "deploy")
    (drop (call $set (i32.const 16) (i32.const 5) (i32.const 4096) (call $read))))
  (func (export "call") (local $len i32) (local $op i32)
    (local.set $len (call $read))
    (local.set $op (i32.load8_u (i32.const 4096)))
    (if (i32.eq (local.get $op) (i32.const 0)) (then
      (i32.store (i32.const 0) (i32.const 65536))
      (drop (call $get (i32.const 16) (i32.const 5) (i32.const 4096) (i32.const 0)))
      (call $return (i32.const 0) (i32.const 4096) (i32.load (i32.const 0)))))
    (if (i32.eq (local.get $op) (i32.const 1)) (then (call $write (local.get $len))))
    (if (i32.eq (local.get $op) (i32.const 2)) (then
      (call $counter)
      (i64.store (i32.const 64) (i64.add (i64.load (i32.const 64)) (i64.const 1)))
      (drop (call $set (i32.const 32) (i32.const 5) (i32.const 64) (i32.const 8)))
      (call $return (i32.const 0) (i32.const 64) (i32.const 8))))
    (if (i32.eq (local.get $op) (i32.const 3)) (then unreachable))
    (if (i32.eq (local.get $op) (i32.const 4)) (then (loop br 0)))
    (if (i32.eq (local.get $op) (i32.const 5)) (then
      (if (i32.eq (memory.grow (i32.const 1020)) (i32.const -1)) (then unreachable))))
    (if (i32.eq (local.get $op) (i32.const 6)) (then (call $deeper)))
    (if (i32.eq (local.get $op) (i32.const 7)) (then
      (drop (call $debug (i32.const 4097) (i32.sub (local.get $len) (i32.const 1))))
      unreachable))
    (if (i32.eq (local.get $op) (i32.const 8)) (then
      (call $write (local.get $len))
      (call $return (i32.const 1) (i32.const 4097) (i32.sub (local.get $len) (i32.const 1)))))
    (if (i32.eq (local.get $op) (i32.const 9)) (then
      (call $counter)
      (call $return (i32.const 0) (i32.const 64) (i32.const 8))))
    (if (i32.eq (local.get $op) (i32.const 10)) (then
      (drop (call $set (i32.const 4097) (i32.const 16) (i32.const 4113) (i32.sub (local.get $len) (i32.const 17))))))
    (if (i32.eq (local.get $op) (i32.const 11)) (then
      (drop (call $set (i32.const 16) (i32.const 5) (i32.const 4096) (i32.const 65537)))))
    (if (i32.eq (local.get $op) (i32.const 12)) (then
      (call $return (i32.const 0) (i32.const 0) (i32.const 1048577))))))"#;

/// Its code.
pub(crate) fn probe() -> Vec<u8> {
    wat::parse_str(SOURCE).unwrap()
}

/// An input.
pub(crate) fn input(what: u8, argument: &[u8]) -> Vec<u8> {
    [&[what], argument].concat()
}

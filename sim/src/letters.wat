;; A contract that writes to another one like it, and sees whether what it gets comes once and in order. Input:
;; - `[0xfe, contract: 32 bytes]` sends the next letter there; the letter holds its number, from 1 on;
;; - under the selector 0x01020304 comes a letter: `[number: u64]`;
;; - anything else reads three numbers: of the last letter sent, of the last that came, and how many did not follow upon
;;   the one before.
(module
  (import "seal0" "seal_return" (func $return (param i32 i32 i32)))
  (import "seal0" "input" (func $input (param i32 i32)))
  (import "seal0" "call_chain_extension" (func $ext (param i32 i32 i32 i32 i32) (result i32)))
  (import "seal2" "set_storage" (func $set (param i32 i32 i32 i32) (result i32)))
  (import "seal1" "get_storage" (func $get (param i32 i32 i32 i32) (result i32)))
  (import "env" "memory" (memory 2))
  (func $save (drop (call $set (i32.const 16) (i32.const 4) (i32.const 64) (i32.const 24))))
  (func (export "deploy"))
  (func (export "call")
    (i32.store (i32.const 0) (i32.const 24))
    (drop (call $get (i32.const 16) (i32.const 4) (i32.const 64) (i32.const 0)))
    (i32.store (i32.const 0) (i32.const 4096))
    (call $input (i32.const 4096) (i32.const 0))
    (if (i32.eq (i32.load (i32.const 4096)) (i32.const 0x04030201)) (then
      (if (i64.ne (i64.load (i32.const 4100)) (i64.add (i64.load (i32.const 72)) (i64.const 1))) (then
        (i64.store (i32.const 80) (i64.add (i64.load (i32.const 80)) (i64.const 1)))))
      (i64.store (i32.const 72) (i64.load (i32.const 4100)))
      (call $save)
      return))
    (if (i32.eq (i32.load8_u (i32.const 4096)) (i32.const 0xfe)) (then
      (i64.store (i32.const 64) (i64.add (i64.load (i32.const 64)) (i64.const 1)))
      ;; The receiver; twelve bytes, whose length is compact; no money.
      (memory.copy (i32.const 1024) (i32.const 4097) (i32.const 32))
      (i32.store8 (i32.const 1056) (i32.const 48))
      (i32.store (i32.const 1057) (i32.const 0x04030201))
      (i64.store (i32.const 1061) (i64.load (i32.const 64)))
      (i32.store (i32.const 0) (i32.const 64))
      (drop (call $ext (i32.const 106) (i32.const 1024) (i32.const 61) (i32.const 2048) (i32.const 0)))
      (if (i32.load8_u (i32.const 2048)) (then unreachable))
      (call $save)
      return))
    (call $return (i32.const 0) (i32.const 64) (i32.const 24))))

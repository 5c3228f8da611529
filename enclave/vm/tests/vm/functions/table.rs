//! One call of each function of the host, and what comes of it. The table of functions in the documents is made of this.
//!
//! `$f` is the function. Where the body begins, memory holds `abc` at 64, the contract's own account at 128, zeros at
//! 160, 64 at 1020 and 1024, and the contract's input at 4096: see [`input`].

/// A call and its result, in a query and a command alike.
pub(crate) struct Case {
    /// Module and name.
    pub(crate) function: &'static str,
    /// Instructions.
    pub(crate) body: &'static str,
    /// What they come to.
    pub(crate) result: Outcome,
}

/// What a call comes to.
pub(crate) enum Outcome {
    /// These bytes from 1024 on.
    Bytes(&'static [u8]),
    /// The contract's input in this range, from 1028 on.
    Input(std::ops::Range<usize>),
    /// Its own answer, `abc`.
    Returned,
    /// A debug message, `abc`.
    Message,
    /// An event with one topic and the data `abc`.
    Event,
    /// Status 0, and another contract or another code.
    Code,
    /// The contract's end.
    Ended,
    /// A trap, as this engine has no extension.
    Traps,
}

/// Where the input holds what: an account that is a contract, the hash of its code, an sr25519 signature of `abc` and
/// its key, an ecdsa signature of 32 bytes of 5, those bytes, and its key.
pub(crate) mod input {
    use std::ops::Range;

    pub(crate) const CALLEE: Range<usize> = 0..32;
    pub(crate) const CODE: Range<usize> = 32..64;
    pub(crate) const SIGNATURE: Range<usize> = 64..128;
    pub(crate) const KEY: Range<usize> = 128..160;
    pub(crate) const ECDSA_SIGNATURE: Range<usize> = 160..225;
    pub(crate) const ECDSA_HASH: Range<usize> = 225..257;
    pub(crate) const ECDSA_KEY: Range<usize> = 257..290;
}

use Outcome::*;

const fn case(function: &'static str, body: &'static str, result: Outcome) -> Case {
    Case { function, body, result }
}

const OUTPUT: &str = "(call $f (i32.const 1028) (i32.const 1024))";
const WORD: &str = "(i32.store (i32.const 1024) (call $f))";
const ABC_WORD: &str = "(i32.store (i32.const 1024) (call $f (i32.const 64) (i32.const 3)))";
const HASH: &str = "(call $f (i32.const 64) (i32.const 3) (i32.const 1024))";
const CODE_HASH: &str = "(call $f (i32.const 4128))";
const LENGTH: &str = "(call $f (i32.const 2048) (i32.const 1024))";
/// Status, length and output of a callee.
const CALLED: &[u8] = b"\0\0\0\0\x06\0\0\0called";
const ZERO: &[u8] = &[0; 4];
/// 0.0001 PHA.
const LEAST_MONEY: &[u8] = b"\x10\0\0\0\0\xe1\xf5\x05\0\0\0\0\0\0\0\0\0\0\0\0";
const NO_MONEY: &[u8] = b"\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// No value before.
const NONE: &[u8] = &[0xff; 4];
/// An old value of three bytes.
const THREE: &[u8] = &[3, 0, 0, 0];
/// Status, length and value.
const FOUND: &[u8] = b"\0\0\0\0\x03\0\0\0abc";

/// Writes `abc` under the 32 bytes at 160, then calls.
macro_rules! stored {
    ($body:literal) => {
        concat!("(drop (call $set (i32.const 160) (i32.const 32) (i32.const 64) (i32.const 3)))", $body)
    };
}

/// The same in transient storage.
macro_rules! kept {
    ($body:literal) => {
        concat!("(drop (call $keep (i32.const 160) (i32.const 32) (i32.const 64) (i32.const 3)))", $body)
    };
}

/// All functions, in the order of their names.
pub(crate) const CASES: &[Case] = &[
    case("seal0::account_reentrance_count", "(i32.store (i32.const 1024) (call $f (i32.const 128)))", Bytes(&[1, 0, 0, 0])),
    case("seal0::address", OUTPUT, Bytes(b"\x20\0\0\0\x0c\x0c\x0c\x0c\x0c\x0c\x0c\x0c")),
    case("seal0::balance", OUTPUT, Bytes(NO_MONEY)),
    case("seal0::block_number", OUTPUT, Bytes(&[4, 0, 0, 0, 7, 0, 0, 0])),
    case(
        "seal0::call",
        "(i32.store (i32.const 1028) (i32.const 64)) (i32.store (i32.const 1024) (call $f (i32.const 4096) (i32.const 32)
            (i64.const 0) (i32.const 160) (i32.const 16) (i32.const 64) (i32.const 3) (i32.const 1032) (i32.const 1028)))",
        Bytes(CALLED),
    ),
    case(
        "seal0::call_chain_extension",
        "(drop (call $f (i32.const 1) (i32.const 64) (i32.const 3) (i32.const 1028) (i32.const 1024)))",
        Traps,
    ),
    case("seal0::call_runtime", ABC_WORD, Bytes(&[10, 0, 0, 0])),
    case("seal0::caller", OUTPUT, Bytes(b"\x20\0\0\0\xa1\xa1\xa1\xa1\xa1\xa1\xa1\xa1")),
    case("seal0::caller_is_origin", WORD, Bytes(&[1, 0, 0, 0])),
    case("seal0::caller_is_root", WORD, Bytes(ZERO)),
    case(
        "seal0::clear_storage",
        stored!(
            "(call $f (i32.const 160))
            (i32.store (i32.const 1024) (call $set (i32.const 160) (i32.const 32) (i32.const 64) (i32.const 1)))"
        ),
        Bytes(NONE),
    ),
    case("seal0::clear_transient_storage", kept!("(i32.store (i32.const 1024) (call $f (i32.const 160) (i32.const 32)))"), Bytes(THREE)),
    case(
        "seal0::code_hash",
        "(drop (call $f (i32.const 4096) (i32.const 1028) (i32.const 1024)))",
        Input(input::CODE),
    ),
    case("seal0::contains_storage", stored!("(i32.store (i32.const 1024) (call $f (i32.const 160)))"), Bytes(THREE)),
    case("seal0::contains_transient_storage", kept!("(i32.store (i32.const 1024) (call $f (i32.const 160) (i32.const 32)))"), Bytes(THREE)),
    case("seal0::debug_message", ABC_WORD, Message),
    case(
        "seal0::delegate_call",
        "(i32.store (i32.const 1028) (i32.const 64)) (i32.store (i32.const 1024) (call $f (i32.const 0) (i32.const 4128)
            (i32.const 64) (i32.const 3) (i32.const 1032) (i32.const 1028)))",
        Bytes(CALLED),
    ),
    case(
        "seal0::deposit_event",
        "(i32.store8 (i32.const 2048) (i32.const 4))
            (call $f (i32.const 2048) (i32.const 33) (i32.const 64) (i32.const 3))",
        Event,
    ),
    case(
        "seal0::ecdsa_recover",
        "(drop (call $f (i32.const 4256) (i32.const 4321) (i32.const 1028)))",
        Input(input::ECDSA_KEY),
    ),
    case(
        "seal0::ecdsa_to_eth_address",
        "(drop (call $f (i32.const 4353) (i32.const 1024)))",
        Bytes(b"\x7e\x5f\x45\x52\x09\x1a\x69\x12\x5d\x5d\xfc\xb7\xb8\xc2\x65\x90\x29\x39\x5b\xdf"),
    ),
    case("seal0::gas_left", LENGTH, Bytes(&[8, 0, 0, 0])),
    case(
        "seal0::get_storage",
        stored!(
            "(i32.store (i32.const 1028) (i32.const 64))
            (i32.store (i32.const 1024) (call $f (i32.const 160) (i32.const 1032) (i32.const 1028)))"
        ),
        Bytes(FOUND),
    ),
    case(
        "seal0::get_transient_storage",
        kept!(
            "(i32.store (i32.const 1028) (i32.const 64)) (i32.store (i32.const 1024)
            (call $f (i32.const 160) (i32.const 32) (i32.const 1032) (i32.const 1028)))"
        ),
        Bytes(FOUND),
    ),
    case("seal0::hash_blake2_128", HASH, Bytes(b"\xcf\x4a\xb7\x91\xc6\x2b\x8d\x2b\x21\x09\xc9\x02\x75\x28\x78\x16")),
    case(
        "seal0::hash_blake2_256",
        HASH,
        Bytes(
            b"\xbd\xdd\x81\x3c\x63\x42\x39\x72\x31\x71\xef\x3f\xee\x98\x57\x9b\
              \x94\x96\x4e\x3b\xb1\xcb\x3e\x42\x72\x62\xc8\xc0\x68\xd5\x23\x19",
        ),
    ),
    case(
        "seal0::hash_keccak_256",
        HASH,
        Bytes(
            b"\x4e\x03\x65\x7a\xea\x45\xa9\x4f\xc7\xd4\x7b\xa8\x26\xc8\xd6\x67\
              \xc0\xd1\xe6\xe3\x3a\x64\xa0\x36\xec\x44\xf5\x8f\xa1\x2d\x6c\x45",
        ),
    ),
    case(
        "seal0::hash_sha2_256",
        HASH,
        Bytes(
            b"\xba\x78\x16\xbf\x8f\x01\xcf\xea\x41\x41\x40\xde\x5d\xae\x22\x23\
              \xb0\x03\x61\xa3\x96\x17\x7a\x9c\xb4\x10\xff\x61\xf2\x00\x15\xad",
        ),
    ),
    case("seal0::input", "(i32.store (i32.const 1024) (i32.const 4096)) (call $f (i32.const 1028) (i32.const 1024))", Input(input::CALLEE)),
    case(
        "seal0::instantiate",
        "(i32.store (i32.const 1024) (call $f (i32.const 4128) (i32.const 32) (i64.const 0) (i32.const 160)
            (i32.const 16) (i32.const 64) (i32.const 3) (i32.const -1) (i32.const 0) (i32.const -1) (i32.const 0)
            (i32.const 64) (i32.const 3)))",
        Code,
    ),
    case("seal0::instantiation_nonce", "(i64.store (i32.const 1024) (call $f))", Bytes(&[0, 0, 2, 7, 0, 0, 0, 0])),
    case("seal0::is_contract", "(i32.store (i32.const 1024) (call $f (i32.const 4096)))", Bytes(&[1, 0, 0, 0])),
    case("seal0::lock_delegate_dependency", CODE_HASH, Bytes(&[64, 0, 0, 0])),
    case("seal0::minimum_balance", OUTPUT, Bytes(LEAST_MONEY)),
    case("seal0::now", OUTPUT, Bytes(b"\x08\0\0\0\x7b\x68\xe5\xcf\x8b\x01\0\0")),
    case("seal0::own_code_hash", LENGTH, Bytes(&[32, 0, 0, 0])),
    case("seal0::reentrance_count", WORD, Bytes(ZERO)),
    case("seal0::return", "(call $f (i32.const 0) (i32.const 64) (i32.const 3))", Returned),
    case("seal0::set_code_hash", "(i32.store (i32.const 1024) (call $f (i32.const 4128)))", Code),
    case(
        "seal0::set_storage",
        "(call $f (i32.const 160) (i32.const 64) (i32.const 3))
            (i32.store (i32.const 1024) (call $set (i32.const 160) (i32.const 32) (i32.const 64) (i32.const 1)))",
        Bytes(THREE),
    ),
    case(
        "seal0::set_transient_storage",
        kept!("(i32.store (i32.const 1024) (call $f (i32.const 160) (i32.const 32) (i32.const 64) (i32.const 1)))"),
        Bytes(THREE),
    ),
    case(
        "seal0::sr25519_verify",
        "(i32.store (i32.const 1024) (call $f (i32.const 4160) (i32.const 4224) (i32.const 3) (i32.const 64)))",
        Bytes(ZERO),
    ),
    case(
        "seal0::take_storage",
        stored!(
            "(i32.store (i32.const 1028) (i32.const 64)) (i32.store (i32.const 1024)
            (call $f (i32.const 160) (i32.const 32) (i32.const 1032) (i32.const 1028)))"
        ),
        Bytes(FOUND),
    ),
    case(
        "seal0::take_transient_storage",
        kept!(
            "(i32.store (i32.const 1028) (i32.const 64)) (i32.store (i32.const 1024)
            (call $f (i32.const 160) (i32.const 32) (i32.const 1032) (i32.const 1028)))"
        ),
        Bytes(FOUND),
    ),
    case("seal0::terminate", "(call $f (i32.const 4096) (i32.const 32))", Ended),
    case(
        "seal0::transfer",
        "(i32.store (i32.const 1024) (call $f (i32.const 4096) (i32.const 32) (i32.const 160) (i32.const 16)))",
        Bytes(ZERO),
    ),
    case("seal0::unlock_delegate_dependency", CODE_HASH, Bytes(&[64, 0, 0, 0])),
    case("seal0::value_transferred", OUTPUT, Bytes(NO_MONEY)),
    case("seal0::weight_to_fee", "(call $f (i64.const 9) (i32.const 1028) (i32.const 1024))", Bytes(NO_MONEY)),
    case("seal0::xcm_execute", ABC_WORD, Bytes(&[13, 0, 0, 0])),
    case(
        "seal0::xcm_send",
        "(i32.store (i32.const 1024) (call $f (i32.const 64) (i32.const 64) (i32.const 3) (i32.const 2048)))",
        Bytes(&[14, 0, 0, 0]),
    ),
    case(
        "seal1::call",
        "(i32.store (i32.const 1028) (i32.const 64)) (i32.store (i32.const 1024) (call $f (i32.const 0) (i32.const 4096)
            (i64.const 0) (i32.const 160) (i32.const 64) (i32.const 3) (i32.const 1032) (i32.const 1028)))",
        Bytes(CALLED),
    ),
    case("seal1::clear_storage", stored!("(i32.store (i32.const 1024) (call $f (i32.const 160) (i32.const 32)))"), Bytes(THREE)),
    case("seal1::contains_storage", stored!("(i32.store (i32.const 1024) (call $f (i32.const 160) (i32.const 32)))"), Bytes(THREE)),
    case(
        "seal1::gas_left",
        "(call $f (i32.const 2048) (i32.const 1024))
            (i32.store (i32.const 1024) (i32.gt_u (i32.load (i32.const 1024)) (i32.const 9)))",
        Bytes(&[1, 0, 0, 0]),
    ),
    case(
        "seal1::get_storage",
        stored!(
            "(i32.store (i32.const 1028) (i32.const 64)) (i32.store (i32.const 1024)
            (call $f (i32.const 160) (i32.const 32) (i32.const 1032) (i32.const 1028)))"
        ),
        Bytes(FOUND),
    ),
    case(
        "seal1::instantiate",
        "(i32.store (i32.const 1024) (call $f (i32.const 4128) (i64.const 0) (i32.const 160) (i32.const 64) (i32.const 3)
            (i32.const -1) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 64) (i32.const 3)))",
        Code,
    ),
    case(
        "seal1::set_storage",
        stored!("(i32.store (i32.const 1024) (call $f (i32.const 160) (i32.const 64) (i32.const 1)))"),
        Bytes(THREE),
    ),
    case("seal1::terminate", "(call $f (i32.const 4096))", Ended),
    case("seal1::weight_to_fee", "(call $f (i64.const 9) (i64.const 9) (i32.const 1028) (i32.const 1024))", Bytes(NO_MONEY)),
    case(
        "seal2::call",
        "(i32.store (i32.const 1028) (i32.const 64)) (i32.store (i32.const 1024) (call $f (i32.const 0) (i32.const 4096)
            (i64.const 0) (i64.const 0) (i32.const -1) (i32.const 160) (i32.const 64) (i32.const 3) (i32.const 1032)
            (i32.const 1028)))",
        Bytes(CALLED),
    ),
    case(
        "seal2::instantiate",
        "(i32.store (i32.const 1024) (call $f (i32.const 4128) (i64.const 0) (i64.const 0) (i32.const -1) (i32.const 160)
            (i32.const 64) (i32.const 3) (i32.const -1) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 64)
            (i32.const 3)))",
        Code,
    ),
    case(
        "seal2::set_storage",
        stored!("(i32.store (i32.const 1024) (call $f (i32.const 160) (i32.const 32) (i32.const 64) (i32.const 1)))"),
        Bytes(THREE),
    ),
];

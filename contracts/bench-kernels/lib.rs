//! The kernels of `benches/kernels` as a contract, and small messages that show what the host's functions cost.
//!
//! A message is a SCALE tuple of fixed size, 44 bytes: operation, argument, rounds (each `u32`), an account (32 bytes).
//! The answer is a `u64`. It has neither selectors nor metadata.

#![no_std]

extern crate alloc;

mod memory;

use phala_kernels::KERNELS;

/// Runs the kernel whose number is the argument.
const COMPUTE: u32 = 0;
/// Reads a value of 32 bytes in each round.
const READ: u32 = 1;
/// Writes a value of 32 bytes in each round.
const WRITE: u32 = 2;
/// Calls the account's contract, with a message that does nothing, in each round.
const CALL: u32 = 3;

const MESSAGE: usize = 44;

mod host {
    #[link(wasm_import_module = "seal0")]
    unsafe extern "C" {
        pub fn input(out: *mut u8, out_len: *mut u32);
        pub fn seal_return(flags: u32, data: *const u8, data_len: u32) -> !;
    }
    #[link(wasm_import_module = "seal1")]
    unsafe extern "C" {
        pub fn get_storage(key: *const u8, key_len: u32, out: *mut u8, out_len: *mut u32) -> u32;
        pub fn call(
            flags: u32,
            callee: *const u8,
            gas: u64,
            value: *const u8,
            input: *const u8,
            input_len: u32,
            out: *mut u8,
            out_len: *mut u32,
        ) -> u32;
    }
    #[link(wasm_import_module = "seal2")]
    unsafe extern "C" {
        pub fn set_storage(key: *const u8, key_len: u32, value: *const u8, value_len: u32) -> u32;
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

/// The constructor: there is nothing to construct.
#[unsafe(no_mangle)]
pub extern "C" fn deploy() {}

/// Does what the message says.
#[unsafe(no_mangle)]
pub extern "C" fn call() {
    let mut message = [0; MESSAGE];
    let mut length = MESSAGE as u32;
    // SAFETY: the host writes at most `length` bytes to the message, and traps if there are more.
    unsafe { host::input(message.as_mut_ptr(), &mut length) };
    if length == 0 {
        return;
    }
    let word = |at: usize| u32::from_le_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]]);
    let (operation, argument, rounds) = (word(0), word(4), word(8));
    let answer = match operation {
        COMPUTE => KERNELS.get(argument as usize).map_or(0, |(_, kernel, _)| kernel(rounds)),
        READ => (0..rounds).map(|_| u64::from(read(argument))).sum(),
        WRITE => (0..rounds).map(|round| u64::from(write(argument, round))).sum(),
        CALL => (0..rounds).map(|_| u64::from(nested(&message[12..]))).sum(),
        _ => u64::MAX,
    };
    // SAFETY: the pointer and length are those of an array.
    unsafe { host::seal_return(0, answer.to_le_bytes().as_ptr(), 8) }
}

fn read(key: u32) -> u32 {
    let (key, mut value, mut length) = (key.to_le_bytes(), [0_u8; 32], 32);
    // SAFETY: pointers and lengths are those of arrays.
    unsafe { host::get_storage(key.as_ptr(), 4, value.as_mut_ptr(), &mut length) }
}

fn write(key: u32, value: u32) -> u32 {
    let (key, value) = (key.to_le_bytes(), [value.to_le_bytes(); 8]);
    // SAFETY: pointers and lengths are those of arrays.
    unsafe { host::set_storage(key.as_ptr(), 4, value.as_ptr().cast(), 32) }
}

fn nested(account: &[u8]) -> u32 {
    let (value, none) = ([0_u8; 16], u32::MAX as *mut u8);
    // SAFETY: the account's 32 bytes are the end of the message; there is no input, and no output is wanted.
    unsafe { host::call(0, account.as_ptr(), 0, value.as_ptr(), value.as_ptr(), 0, none, none.cast()) }
}

//! What things cost. One gas is one unit of wasmtime's fuel, which is about one WebAssembly instruction; 2,000 gas are
//! about one microsecond on one core.
//!
//! Rules that keep the meter honest:
//! - Every host function charges before it works, by the bytes that it is asked to handle.
//! - Growing memory is charged by the page, at the next host call or at the end of the frame, whichever comes first.
//! - wasmtime writes its fuel counter back before calls, returns and `unreachable`, but not before other traps, such as
//!   an access out of bounds. A frame that ends in such a trap therefore pays all the gas that it was given, else a
//!   loop of long work that ends in a trap would be free.
//! - Only commands are metered: queries are bounded by time.

/// Any host function.
pub(crate) const HOST_CALL: u64 = 400;
/// Copying a byte between contract and host.
pub(crate) const COPY_BYTE: u64 = 1;
/// Looking for a key in storage.
pub(crate) const STORAGE_READ: u64 = 10_000;
/// A byte that storage returns.
pub(crate) const STORAGE_READ_BYTE: u64 = 10;
/// Writing or removing a key, the later work of the authenticated tree included.
pub(crate) const STORAGE_WRITE: u64 = 60_000;
/// A byte of key or value that is written.
pub(crate) const STORAGE_WRITE_BYTE: u64 = 40;
/// Looking for a key in transient storage, or writing it: it never leaves this machine's memory.
pub(crate) const TRANSIENT: u64 = 1_500;
/// A byte of key or value in transient storage.
pub(crate) const TRANSIENT_BYTE: u64 = 2;
/// Moving money: two balances are read and written.
pub(crate) const TRANSFER: u64 = 2 * (STORAGE_READ + STORAGE_WRITE);
/// Starting a contract: instance, checkpoint, lookups.
pub(crate) const FRAME: u64 = 40_000;
/// A byte of the code that a frame runs.
pub(crate) const CODE_BYTE: u64 = 1;
/// A page of 64 KiB of memory, from the start or by growth.
pub(crate) const MEMORY_PAGE: u64 = 8_000;
/// An event, which becomes a value of the state, and a byte of it.
pub(crate) const EVENT: u64 = 60_000;
/// A byte of an event.
pub(crate) const EVENT_BYTE: u64 = 40;
/// Any hash: the last block takes as long as a full one, however few bytes are in it.
pub(crate) const HASH: u64 = 1_500;
/// A byte that is hashed by BLAKE2b.
pub(crate) const BLAKE2_BYTE: u64 = 4;
/// A byte that is hashed by SHA-256.
pub(crate) const SHA256_BYTE: u64 = 8;
/// A byte that is hashed by Keccak-256.
pub(crate) const KECCAK_BYTE: u64 = 10;
/// Checking an sr25519 signature.
pub(crate) const SR25519_VERIFY: u64 = 160_000;
/// Recovering an ecdsa key.
pub(crate) const ECDSA_RECOVER: u64 = 500_000;
/// Decompressing an ecdsa key.
pub(crate) const ECDSA_ADDRESS: u64 = 60_000;

/// `per_byte` for each of `bytes`.
pub(crate) fn bytes(per_byte: u64, bytes: usize) -> u64 {
    per_byte.saturating_mul(bytes as u64)
}

/// What a frame pays at its start.
pub(crate) fn frame(code_bytes: usize, memory_pages: u64) -> u64 {
    FRAME.saturating_add(bytes(CODE_BYTE, code_bytes)).saturating_add(MEMORY_PAGE.saturating_mul(memory_pages))
}

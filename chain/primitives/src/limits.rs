//! Limits that more than one part has to agree on. Each has an error for reaching it.

use crate::{Balance, PHA};

/// Largest sealed request or reply on the wire, in bytes: 16 MiB of content, and what encoding, padding and sealing add.
pub const MAX_MESSAGE: usize = (16 << 20) + (64 << 10);
/// Largest message that a client sends within a session, in bytes; larger requests go by themselves, so that how much
/// a replica holds for them is known before it is read.
pub const MAX_SESSION_REQUEST: usize = 1 << 20;
/// Largest contract code, in bytes.
pub const MAX_CODE: usize = 16 << 20;
/// Largest code that goes to a cluster in one command, and length of all parts but the last of a larger one, or of an
/// input that is too large for one command, in bytes.
pub const PART: usize = 512 << 10;
/// Largest command with its signatures, in bytes: it must fit into an entry.
pub const MAX_COMMAND: usize = MAX_ENTRY - (1 << 10);
/// Largest body of a log entry, in bytes.
pub const MAX_ENTRY: usize = 1 << 20;
/// Most commands in one log entry.
pub const MAX_ENTRY_COMMANDS: usize = 256;
/// Most gas that one command may ask for, about half a second of computing. While a command runs, those behind it wait.
pub const MAX_COMMAND_GAS: u64 = 1_000_000_000;
/// Gas after which an entry of the log executes no further command; those left are ordered again.
pub const MAX_ENTRY_GAS: u64 = 500_000_000;
/// Longest life of a command from its making to its deadline, in milliseconds. Ids are remembered as long.
pub const MAX_COMMAND_LIFE_MS: u64 = 10 * 60 * 1000;
/// Longest life of a session certificate, in milliseconds (30 days).
pub const MAX_CERTIFICATE_LIFE_MS: u64 = 30 * 24 * 3600 * 1000;
/// How many blocks ahead of the replica's head a request's highest block may lie.
pub const MAX_HEIGHT_AHEAD: u32 = 1200;
/// Least that an account of a cluster owns, if it owns anything: less is dust that no transfer leaves behind.
pub const MIN_BALANCE: Balance = PHA / 10_000;
/// Least that is paid out of a cluster at once. Accounts of the chain do not live with less.
pub const MIN_WITHDRAWAL: Balance = PHA / 100;
/// Most messages into a cluster that it has not taken yet.
pub const MAX_INBOX: u64 = 1024;
/// Most messages out of a cluster that the chain has not delivered yet.
pub const MAX_OUTBOX: u64 = 1024;
/// The same for the messages of one account or contract.
pub const MAX_OUTBOX_OF_SENDER: u64 = 128;
/// Most of them that are delivered at once.
pub const MAX_DELIVERED: usize = 64;
/// Most hashes of messages behind those that are delivered: what contracts may send, and parcels that go back unasked.
pub const MAX_REST: u64 = MAX_OUTBOX + MAX_INBOX;
/// Longest data of a call of a contract from the chain, in bytes.
pub const MAX_CALL_DATA: usize = 16 << 10;
/// Most contracts that are on their way out of, or into, one cluster. For each, at most one message that nobody asked for
/// waits in the outbox.
pub const MAX_MOVES: u32 = 32;
/// Longest input of a message between contracts, in bytes, and what it becomes at most: padded, with key and tag.
pub const MAX_PARCEL: usize = 16 << 10;
/// See [`MAX_PARCEL`].
pub const MAX_SEALED: usize = MAX_PARCEL + 512;
/// Gas for such a call.
pub const CALL_GAS: u64 = MAX_COMMAND_GAS / 4;
/// Longest encoded call that a contract has dispatched on the chain, in bytes.
pub const MAX_DISPATCH: usize = 4 << 10;
/// Greatest weight of a contract: how many times the processor time of one of weight 1 its queries get.
pub const MAX_WEIGHT: u32 = 100;
/// Most contracts of a cluster that have another weight than 1.
pub const MAX_WEIGHTS: usize = 256;
/// Most replicas that may have to agree on the answers of a contract.
pub const MAX_AUDIT: u32 = 7;
/// Most readers of a cluster.
pub const MAX_READERS: usize = 32;
/// Most members of a cluster or validators that a record holds.
pub const MAX_MEMBERS: u32 = 64;

//! Encrypted, authenticated, versioned state of a cluster.
//!
//! # What is stored
//! A map from (space, key) to a value; a space is 32 bytes, such as a contract's address. Three layers, bottom up:
//!
//! 1. **Sealed storage** ([`sealed`]): the host lends a flat file. Every block of 4 KiB that is written to it is
//!    encrypted with AES-256-GCM-SIV; the block's number is authenticated with it. While the store is open, the tag
//!    of every block is kept in memory, so that an older version of a block is refused as well as an altered one. The key
//!    is that of the newest key epoch; blocks from earlier ones are sealed anew, a few at a time ([`reseal`]).
//! 2. **redb** on top: transactions, and snapshots that readers hold while the next commit is made. Its pages carry
//!    checksums up to the header; all of them are checked when a store is opened, and since the file's content is
//!    authenticated, blocks of different ages cannot be mixed. What remains possible is to roll the whole file back
//!    to an earlier commit: whoever opens a store compares [`State::applied`] with the cluster's certificates.
//! 3. **Authenticated tree** ([`tree`]): a Jellyfish Merkle tree (BLAKE3) over `path → commitment`, where the path is
//!    a keyed hash of (space, key) and the commitment a keyed hash of the value. Equal content has an equal root,
//!    whatever the history; root and proofs say nothing about keys and values to those without the store's keys.
//!
//! # Copies
//! A replica that has nothing, or fell far behind, takes the state from others in pieces, each checked against the root:
//! [`outline`], [`restore`].
//!
//! One that follows others without executing anything takes what each commit changed: [`State::changes`],
//! [`State::advance`].
//!
//! # Commits
//! One commit is one log entry: height, digest, changes. It is atomic and visible at once, but lies in memory only
//! ([`recent`]): it is lost when the process dies before the next [`State::settle`], which is why the caller must be able
//! to repeat it (from the cluster's log, above [`State::durable_height`]). Settling writes what many commits changed, in
//! the order in which it lies on the disk ([`disk`]), so that each page is written once, while readers and further
//! commits go on.
//!
//! Invariant: a read returns what was committed at the snapshot's height, or an error; never anything else.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod disk;
mod keys;
mod outline;
mod place;
mod recent;
mod reseal;
mod restore;
mod ring;
mod row;
mod sealed;
mod snapshot;
mod store;
mod superblock;
mod tree;

pub use keys::StateKeys;
pub use outline::{Item, Outline, PIECES, Subtree};
pub use redb::StorageBackend;
pub use redb::backends::{FileBackend, InMemoryBackend};
pub use restore::Restore;
pub use snapshot::Snapshot;
pub use store::{Applied, Change, Changes, Commit, Durability, Path, Space, State, StateError};
pub use superblock::oldest_epoch;
pub use tree::{EMPTY_ROOT, Proof};

#[cfg(test)]
mod tests;

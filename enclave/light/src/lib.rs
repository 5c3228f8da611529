//! Light client of the chain: believes finality certificates and storage proofs, and no server.
//!
//! Trust starts from the genesis hash alone:
//! 1. [`LightClient::bootstrap`] is shown the genesis header, whose hash must be that hash, and a proof of
//!    `Registry::Validators` under its state root;
//! 2. upon [`LightClient::update`], the certificate must hold a quorum of those validators' signatures over the
//!    header's hash, or over that of a descendant whose ancestry is shown down to it; the number does not go back;
//! 3. upon [`LightClient::check`], the head of a [`Fact`](phala_primitives::Fact) must be final in the same way, and its
//!    trie nodes must lead from the header's state root to the value, or to its absence.
//!
//! The validators are those of the genesis block for the life of the chain. Nothing here knows the present: a
//! caller that must not be shown an old state gives [`LightClient::check`] the oldest block that it accepts, and holds
//! [`LightClient::time_ms`] against its clock. The time is the validators', so a node that shows an old chain, or feeds a
//! new one slowly, is seen through, however often it repeats itself.
//!
//! Everything that is checked is hostile input: sizes are limited before any work is done.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod client;
mod proof;
#[cfg(test)]
mod tests;

pub use client::{Header, LightClient};
pub use proof::{MAX_PROOF_BYTES, MAX_PROOF_NODES, extrinsics_root, read};

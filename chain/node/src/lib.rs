//! A chain node: executes the runtime, keeps its trie, pools extrinsics, builds and verifies blocks.
//!
//! A [`Node`] is a state machine between two interfaces. Towards the log that orders the chain's blocks it is a
//! [`phala_consensus::Application`]:
//!
//! - *propose*: on the state of the parent, apply a timestamp and the best extrinsics of the pool; the header names
//!   the state root that comes out, and the view in its digest.
//! - *verify*: run the block on the state of its parent and compare the whole header. The changes are kept in memory
//!   until a block of that height is final.
//! - *finalized*: write block, certificate and changed trie nodes in one transaction; then tell the pool and everyone
//!   who listens. Invariant: what was announced is on disk.
//!
//! Towards clients it is a [`phala_rpc::Backend`], and offers the same as methods to programs in this process.
//!
//! The chain's log finalises at once and there are no forks, so the newest finalised block is the best one. The
//! header of a block is a FRAME header; its BLAKE2b-256 hash is at once the log's digest, so that certificates sign
//! what Substrate's tools call the block hash. The body is a SCALE list of opaque extrinsics.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod application;
mod block;
mod error;
mod execute;
mod network;
mod node;
mod pool;
mod rpc;
mod store;
#[cfg(test)]
mod tests;
mod trie;

pub use error::NodeError;
pub use network::Network;
pub use node::{Node, NodeConfig};
pub use phala_rpc::{Backend, BlockId, ExtrinsicStatus, NodeInfo};
pub use phala_runtime::GenesisSpec;
pub use pool::PoolLimits;

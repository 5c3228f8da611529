//! JSON-RPC with Substrate's method names.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backend;

pub use backend::{Backend, BlockId, ExtrinsicStatus, Health, NodeInfo, Peer};

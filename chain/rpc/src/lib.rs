//! JSON-RPC with Substrate's method names, over HTTP and WebSocket on one port, so that polkadot.js, subxt and wallets
//! connect as they do to any Substrate node.
//!
//! - `system_*`, `chain_*`, `state_*`, `author_*`, `payment_*` answer in Substrate's shapes. Every block is final at
//!   once: the subscriptions to all, best and finalised heads report the same blocks.
//! - `chainHead_v1_*`, `chainSpec_v1_*`, `transaction_v1_*` and `transactionWatch_v1_*` are the new JSON-RPC interface.
//! - `phala_*` serves light clients: heads with finality certificates, and single storage entries with proofs, both
//!   as hex of their SCALE encoding (see `phala_primitives::{FinalizedHead, Fact}`).
//!
//! An error carries `data: { "code": …, "detail": … }` with the number of a [`phala_primitives::Code`].
//! The server knows the node only as a [`Backend`]; methods that touch it run on threads for blocking work.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod author;
mod backend;
mod chain;
mod error;
mod head;
mod payment;
mod phala;
mod server;
mod shared;
mod spec;
mod state;
mod system;
#[cfg(test)]
mod tests;
mod types;

pub use backend::{Backend, BlockId, ExtrinsicStatus, Health, NodeInfo, Peer};
pub use server::{Limits, Server, serve};

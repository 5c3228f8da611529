//! Ordered logs on commonware Simplex, on real sockets and in deterministic simulation.
//!
//! This is the only crate that names commonware's generic types; what it exports is plain.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod api;
mod block;
mod caller;
mod certify;
mod check;
mod config;
mod eager;
mod error;
mod glue;
mod handle;
mod liar;
mod log;
mod real;
mod report;
mod sim;
mod store;
mod witness;

#[cfg(test)]
mod tests;

pub use api::Application;
pub use config::{LogConfig, Pacing, Peer, Secret, Timeouts};
pub use error::StartError;
pub use handle::{LogHandle, Recipient};
pub use liar::Lie;
pub use real::Runtime;
pub use sim::{Link, START_MS, Sim, simulate};

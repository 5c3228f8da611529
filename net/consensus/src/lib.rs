//! Ordered logs on commonware Simplex, on real sockets and in deterministic simulation.
//!
//! This is the only crate that names commonware's generic types; what it exports is plain.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod api;
mod config;
mod error;
mod handle;
mod real;

pub use api::{Application, Block, Position, Shape, Verdict};
pub use config::{LogConfig, Pacing, Peer, Secret, Timeouts};
pub use error::StartError;
pub use handle::{LogHandle, Recipient};
pub use real::Runtime;

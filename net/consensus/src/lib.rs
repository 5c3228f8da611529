//! Ordered logs on commonware Simplex, on real sockets and in deterministic simulation.
//!
//! This is the only crate that names commonware's generic types; what it exports is plain.

mod api;

pub use api::{Application, Block, Position, Shape, Verdict};

//! A worker process: sockets, disk and clock around a replica.
//!
//! The replica itself is pure and lives in the enclave's crates; here is what the host does for it. Nothing here sees
//! plaintext of requests but on the way from the session's decryption to the replica and back, inside the process.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod app;
mod arrivals;
mod barrier;
mod blame;
mod bridge;
mod budget;
mod copies;
mod door;
mod egress;
mod entries;
mod epochs;
mod fanout;
mod follow;
mod hooks;
mod http;
mod jobs;
mod life;
mod metrics;
mod outside;
mod reading;
mod sayings;
mod service;
mod start;
mod vigil;
mod weights;
mod worker;

pub use egress::EgressPolicy;
pub use service::now_ms;
pub use worker::{KeyDelivery, Worker, WorkerConfig};

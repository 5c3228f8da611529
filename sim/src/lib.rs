//! Chain and cluster in deterministic simulation: one seed gives one history.
//!
//! A run is a whole small network in one thread and in virtual time: four validators (real nodes, the real runtime,
//! real extrinsics), four workers that the chain makes a cluster (simulated evidence, real appraisal; real key release,
//! replicas, encrypted state and entry logs; the real VM with a real token contract), in some runs a second cluster of
//! four, with which contracts exchange messages, clients that move money on the chain and tokens in the cluster, and a
//! reader that follows it. A [`Plan`] says what goes wrong: messages are lost throughout, the network falls in two and
//! heals, a validator dies and comes back with its disk, a worker dies and comes back with what it had synced, a worker
//! turns hostile and signs what no honest one does.
//!
//! Everything that is seen goes into a list of [`Event`]s; [`check`] holds that list, and nothing else, against the
//! invariants of [`InvariantId`]. A run's digest covers the list and every step of the runtime.
//!
//! # What no seed governs
//! Keys come from the seed, and accounts are ed25519 because signatures of sr25519 are randomised. What a replica draws
//! from the machine, nonces, reaches others only in the bodies of entries, which are sealed again with nonces that
//! follow from their content.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod account;
mod app;
mod audit;
mod chain;
mod check;
mod clients;
mod cluster;
mod copies;
mod disk;
mod errands;
mod history;
mod lies;
mod plan;
mod post;
mod rng;
mod run;
mod served;
#[cfg(test)]
mod tests;

pub use check::{BOUND_MS, InvariantId, Violation, check};
pub use history::{Event, Seen};
pub use plan::{Crash, Jump, Log, MEMBERS, Mistake, Partition, Plan, Return, Trouble, Villain, Villainy, Way};
pub use run::{Report, run, shrink};

//! Runs ink! 5 contracts on wasmtime.
//!
//! An [`Engine`] is made once. Upon a command or query the host gives it a [`World`], which is the state before, and an
//! [`Invocation`]; the engine makes a fresh instance of the contract, runs it, and returns an [`Execution`]: output and
//! effects, which the host applies or discards. Nothing survives in the engine but compiled code.
//!
//! - **Commands** are metered by fuel. With the same world, invocation and limits, the execution is the same to the last
//!   byte and unit of gas on every replica: no clock, no randomness, no threads, canonical NaNs.
//! - **Queries** run to a deadline in ticks, which the host's clock gives by [`Engine::tick`]. They may write, and see
//!   what they wrote; the host discards it. Their code carries no meter, so it is faster. Contracts share the CPU by
//!   weight: with each tick, a query may have to make room for one of another contract. Their code leaves NaNs as the
//!   processor makes them: their bits are the one thing in which a query may differ from the same command.
//!
//! The interface of contracts is that of `pallet-contracts-uapi` 9 (`seal0`, `seal1`, `seal2`), so unmodified ink! 5
//! contracts run. Money is what the [`World`] says that accounts own, contracts or not; nothing has a price yet.
//!
//! An [`Extension`] adds functions of its own, behind `call_chain_extension`.
//!
//! What an execution may use are its [`Limits`], which its world names; what the engine has to give is its [`Capacity`].
//!
//! Deliberately absent: files, sockets, threads, the time of day.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod caller;
mod engine;
mod error;
mod extension;
mod fork;
mod frame;
mod gas;
mod guest;
mod host;
mod lane;
mod limits;
mod memory;
mod module;
mod nan;
mod overlay;
mod sched;
mod world;

pub use caller::Caller;
pub use engine::Engine;
pub use error::{Failure, VmError, WorldError};
pub use extension::{Effect, Extension, Refusal, Reply, Scope};
pub use fork::{Fork, Part};
pub use limits::{Capacity, Limits};
pub use memory::MemoryWorld;
pub use sched::QueryLoad;
pub use world::{BlockInfo, Entry, Event, Execution, Invocation, Mode, World, child_address};

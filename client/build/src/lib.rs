//! From the source of an ink! contract to a bundle that the network takes.
//!
//! # What a build does
//! 1. **Inspect**: `cargo metadata` finds the package; it must depend on ink! 5. ink! 6 compiles to RISC-V, which the
//!    network does not run, and is refused with [`Code::Ink6`].
//! 2. **Target**: the standard library for `wasm32v1-none` is looked for, or fetched by `deploy/wasm-target.sh`, which
//!    says which way it took; if there is none, [`Code::NoWasmTarget`].
//! 3. **Compile**: `cargo rustc --release --no-default-features` with the flags of [`compile`]. The profile is given
//!    from outside, so that a contract's `Cargo.toml` needs none, and so that everyone's builds are alike.
//! 4. **Optimise**: `wasm-opt -Oz`, if binaryen is installed. It is no need, and the bundle records whether it ran.
//! 5. **Clean**: sections and exports that nobody reads are dropped, as are zeros that fresh memory holds anyway, and
//!    the module is checked ([`module`]).
//! 6. **Metadata**: ink! describes a contract in code that runs on the host. A program of three lines is generated,
//!    linked with the contract, and run ([`metadata`]).
//! 7. **Write**: `NAME.contract` (all in one), `NAME.wasm` and `NAME.json`.
//!
//! Contracts are compiled into a target folder of their own, shared by all, so that ink! is compiled once. Cargo is
//! first run without the network when the lock file names everything.
//!
//! Every failure is an [`Error`]: a code, a detail, and what the compiler said.
//!
//! [`Code::Ink6`]: phala_primitives::Code::Ink6
//! [`Code::NoWasmTarget`]: phala_primitives::Code::NoWasmTarget

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod build;
mod bundle;
mod command;
mod compile;
mod error;
mod metadata;
mod module;
mod progress;
mod project;
mod target;
mod template;
mod test;

pub use build::{Built, Options, build};
pub use bundle::{Argument, Bundle, Entry, MAX_BUNDLE};
pub use error::Error;
pub use module::{clean, inspect};
pub use progress::{Event, Stage};
pub use target::Toolchain;
pub use template::{TEMPLATES, Template, new_project};
pub use test::test;

//! Contracts on the engine: real ones of ink! 5.1.1, and hand-written ones that do what no compiler would.
#![allow(clippy::unwrap_used, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "the tests are the host, whose clock it is")]

mod calls;
mod compiling;
mod fairness;
mod functions;
mod hostile;
mod ink;
mod interface;
mod limits;
mod money;
mod random;
mod support;

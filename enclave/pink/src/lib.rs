//! The functions that Phala adds to ink! contracts (`pink`), as an extension of the engine.
//!
//! A contract calls them by `call_chain_extension` with the number of the function, and arguments and result in SCALE,
//! as Phala's contracts of 2022 and later do; they run unchanged. [`FUNCTIONS`] lists all of them. Numbers from 100 on
//! are ours.
//!
//! - In a **query** they may touch the outside world, which is the host's ([`Outside`]): HTTP, its clock, its random
//!   numbers, its cache. A query may split its work over the cores and replicas of its cluster: [`Parts`].
//! - In a **command** everything must be the same on every replica: signatures have no chance in them, random numbers
//!   follow from the contract's secret and the place in the log, logs and changes of the cache become [`Effect`]s that
//!   the replica carries out when the entry is executed. What cannot be the same is refused in the way that the table
//!   names.
//!
//! # Keys
//! Each contract has a secret, `HKDF-SHA256(ikm = the cluster's key for contracts, salt = "phala/pink/v1", info =
//! SCALE("phala/contract-secret/v1", address))`. [`derive`](keys) makes the keys that a contract asks for from it and
//! the contract's salt, so that a contract gets the same keys on every replica and after every move of its state.
//!
//! # Limits
//! Every function charges gas before it works, and every input has a largest size. Trapping is for what a contract
//! must not do; whatever the outside world does is a value that the contract can look at.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod cache;
mod effect;
mod functions;
mod keys;
mod map;
mod outside;
mod table;
#[cfg(test)]
mod tests;
mod types;

pub use cache::{Cache, CacheLimits};
pub use effect::{CacheOp, Callback, Effect, Hook};
pub use functions::Pink;
pub use keys::Secrets;
pub use map::{MapError, MapResult, Parts, Results, outcome, returned};
pub use outside::Outside;
pub use table::{Answer, FUNCTIONS, Function};
pub use types::{
    HookRequest, HookResponse, HttpError, HttpRequest, HttpResponse, HttpResult, MAX_HOOK_GAS, MAX_HOOK_PATH,
    MAX_HTTP_HEADERS, MAX_HTTP_REQUESTS, MAX_HTTP_RESPONSE, MAX_HTTP_TIMEOUT_MS, MAX_LOG, MAX_REQUEST, MAX_TAG,
};

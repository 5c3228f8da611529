//! What Phala adds to ink! contracts: HTTP out and in, timers, money, events of the chain, messages to other clusters,
//! keys, signatures, a cache, a log, randomness, queries on many cores.
//!
//! ```ignore
//! #[ink::contract(env = pink::PinkEnvironment)]
//! mod weather {
//!     #[ink(storage)]
//!     pub struct Weather {}
//!
//!     impl Weather {
//!         #[ink(constructor)]
//!         pub fn new() -> Self {
//!             Self {}
//!         }
//!
//!         #[ink(message)]
//!         pub fn report(&self, url: String) -> Option<Vec<u8>> {
//!             let response = pink::http_get!(url);
//!             pink::info!("the server says {}", response.status_code);
//!             response.is_success().then_some(response.body)
//!         }
//!     }
//! }
//! ```
//!
//! # Queries and commands
//! A *query* runs on one replica and may touch the outside world: HTTP, the machine's clock, its random numbers, its
//! cache. A *command* runs on every replica and must come to the same everywhere, so what would differ is refused
//! there, in the way that each function says; [`is_command`] tells the two apart. A command that needs something
//! from outside asks for it and is called back ([`request_later`]); or a query fetches and signs it, and the command
//! checks the signature: the `oracle` example does so.
//!
//! # Size of what crosses
//! Arguments and answers of a call go through ink!'s static buffer, of which they may fill all together what the
//! contract was compiled with. `phala build` gives a contract that depends on this crate 256 KiB instead of 16 KiB;
//! the environment variable `INK_STATIC_BUFFER_SIZE`, in bytes, sets another size. A response that does not fit traps.
//!
//! # Tests
//! Off any chain, [`mock::install`] stands in for the network.

#![cfg_attr(not(feature = "std"), no_std)]
#![warn(missing_docs)]

pub mod cache;
mod ext;
mod hook;
mod http;
mod keys;
mod later;
mod log;
mod map;
mod message;
#[cfg(feature = "std")]
pub mod mock;
mod money;
mod system;
mod types;
mod watch;

pub use ext::{NoStatus, PinkEnvironment, PinkExt};
pub use hook::{close_hook, hmac_sha256, open_hook, same, Hook, HookRequest, HookResponse};
pub use http::{batch_http_request, http_request};
pub use keys::{
    derive_sr25519_key, ecdsa_sign_prehashed, ecdsa_verify_prehashed, public_key, sign, verify, Sr25519Key,
};
pub use later::{call_after, call_each, cancel, request_later, Callback};
pub use log::{allow_log, allow_log_to_all, deny_log, deny_log_to_all, log, Level};
pub use map::{map, PartError};
pub use message::{send_message, MessageError};
pub use money::{chain_call, withdraw, WithdrawError};
pub use system::{code_exists, event_chain, is_command, random, runtime_version, untrusted_time_ms, worker_key};
pub use types::{
    HttpError, HttpRequest, HttpResponse, HttpResult, Kept, MapError, MapResult, SigType, StorageQuotaExceeded,
};
pub use watch::{unwatch, watch, ChainEvent, Events};

/// Not for contracts: what the macros expand to.
#[doc(hidden)]
pub mod private {
    pub use ink::prelude::format;
}

/// The functions as they cross to the network, for what the rest of the crate does not wrap.
pub(crate) fn ext() -> <PinkExt as ink::ChainExtensionInstance>::Instance {
    <PinkExt as ink::ChainExtensionInstance>::instantiate()
}

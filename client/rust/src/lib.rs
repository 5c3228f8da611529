//! Client of the network.
//!
//! - [`Account`]: a key, read from what people write.
//! - [`Chain`]: a node of the chain. Heads are believed by their finality certificate, storage by proof, so the node
//!   is trusted for nothing but being there. Extrinsics are followed until they are final.
//! - [`Cluster`] and [`Contract`]: sealed queries and commands to whichever replica answers; receipts are verified
//!   against the chain before an answer is returned.
//! - [`Session`]: the same over a WebSocket, with many requests in flight; when its replica fails, another takes over.
//! - [`Follow`], by [`Cluster::follow`]: what a contract says, as it says it, without gap whichever replica fails.
//!
//! ```no_run
//! # async fn example() -> Result<(), phala_primitives::Coded> {
//! use phala_client::{Account, Chain, Contract, Scope};
//! use std::{sync::Arc, time::Duration};
//!
//! let chain = Arc::new(Chain::connect("ws://127.0.0.1:9944", None).await?);
//! let alice = Account::from_suri("//Alice")?;
//! let credentials = alice.certify(&chain, Scope::All, Duration::from_secs(3600));
//! let address = "0x…".parse().map_err(|_| phala_primitives::Code::BadArgument)?;
//! let contract = Contract::find(chain, address, credentials).await?;
//! let answer = contract.query(vec![0x2f, 0x86, 0x5b, 0xd9]).await?;
//! println!("{:?} at height {}", answer.output.data, answer.receipt.claim.height);
//! # Ok(()) }
//! ```
//!
//! All errors are [`phala_primitives::Coded`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod account;
mod anchored;
mod blame;
mod call;
mod chain;
mod cluster;
mod commands;
mod connection;
mod contract;
mod events;
mod extrinsic;
mod follow;
mod hedging;
mod keys;
mod link;
mod node;
mod placement;
mod roster;
#[cfg(test)]
mod runtime_tests;
mod session;
#[cfg(test)]
mod tests;

pub use account::Account;
pub use anchored::Anchored;
pub use call::Call;
pub use chain::{AccountInfo, Chain, Heads, Included};
pub use cluster::{Answered, Cluster, Executed};
pub use contract::{Contract, Terms};
pub use events::Event;
pub use follow::{Follow, FollowQueries};
pub use link::session_key;
pub use phala_session::{
    Action, Credentials, EventChain, Freshness, LogPage, LogQuery, LogRecord, Outcome, Output, Rehearsed, Said, Scope,
    SignedCommand,
};
pub use roster::Replica;
pub use session::Session;

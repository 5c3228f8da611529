//! One member of a cluster, as a pure state machine: no clock, no socket, no file. Time, storage and the ordered log
//! are the host's.
//!
//! # The life of a command
//! 1. A client's command reaches one replica ([`Replica::submit`]), which checks its signatures, keeps it in its pool
//!    and hands it to all members through the host. They check it again ([`Replica::received`]).
//! 2. The leader puts waiting commands into an entry ([`Replica::propose`]): a header that everyone may see, and a
//!    body encrypted under the cluster's key of the epoch.
//! 3. Every member judges the entry ([`Replica::verify`]): place, time, every command's signature chain, deadline and
//!    size, and the state root that the leader names against the own root of that height. One broken enclave can
//!    therefore neither forge a command nor go on with a wrong state.
//! 4. When the entry is final ([`Replica::finalized`]): append it to the entry log, execute it, commit the state, then
//!    answer those who wait. An entry that was acknowledged is in the log before.
//!
//! # Execution
//! A command is executed if no command of that account and id is in the state; its outcome is put there, where any
//! replica finds it for at least ten minutes, which is longer than the deadline of a command may lie ahead. What
//! fails leaves nothing but its outcome. All of an entry is one commit; see [`execute`] for the rules.
//!
//! # Epochs and recovery
//! A replica opens with whatever state and log it finds ([`Replica::open`]): the log is replayed above the last
//! durable commit, each entry held against the digest of the one before. [`Replica::anchor`] names the highest entry
//! that it holds, for the chain. When the chain has fixed an epoch and its floor, [`Replica::catch_up`] takes what is
//! missing from peers' logs, believed because their digests lead to the floor that the chain names, and
//! [`Replica::enter`] makes the replica a member of the epoch. The epoch's first entry builds on a block that names
//! floor and epoch ([`Replica::genesis`]).
//!
//! A replica to which that is too far takes the state of others instead, and the log from there on: [`copies`]. A reader,
//! which has no vote, takes nothing but what each entry changed: [`trail`].
//!
//! # Invariants
//! - Entries are executed in order of height without gaps; each names the digest of the one before or, the first of an
//!   epoch, of the epoch's genesis block.
//! - A fault of this replica's own (its disk, its engine) never becomes an outcome: the replica stops instead, and the
//!   others go on.
//! - Nothing of a request, an outcome or the state is in any log line, error or metric.
//! - Pool, tickets, caches and what one entry may hold are bounded.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod arrivals;
mod block;
pub mod bridge;
mod check;
mod cipher;
mod copies;
mod crossing;
mod departures;
mod entry;
pub mod execute;
pub mod hooks;
pub mod jobs;
mod journal;
mod layout;
mod logs;
mod money;
mod parcels;
mod part;
mod policy;
mod pool;
mod query;
mod recover;
mod rehearse;
mod rekey;
mod replica;
mod settle;
mod trail;
mod upload;
mod world;

pub use arrivals::Coming;
pub use copies::{Answer, LONGEST_MS, Newcomer, Offer};
pub use journal::{EntryLog, MemoryLog};
pub use pool::{MAX_POOL_BYTES, MAX_POOL_COMMANDS, MAX_POOL_PER_ACCOUNT, MAX_POOL_PER_HOOK};
pub use recover::Held;
pub use rekey::oldest_epoch;
pub use replica::{Config, Replica, Ticket};
pub use trail::Steps;
pub use upload::{ABANDONED_MS, MAX_INPUTS_OF_ACCOUNT, MAX_UPLOADS};

#[cfg(test)]
mod tests;

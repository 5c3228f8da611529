//! Keys of clusters: how they are derived, and to whom they are released.
//!
//! # Protocol
//!
//! 1. A worker makes at each start an identity and a [`RecipientKey`], and registers both with its evidence.
//! 2. When the chain gives it a seat in a cluster, it signs a [`KeyRequest`] with its identity and sends it to a
//!    [`KeyService`].
//! 3. The service looks at the chain through a [`ChainView`], never at what the worker says of itself: the worker is
//!    registered with this identity and recipient, its appraisal has not expired, and it holds a seat in the
//!    cluster's present epoch. Anything else is refused with its own code. The seat may still name the identity of an
//!    earlier start: a worker that restarted needs the keys to find out how far its own log goes, before the chain
//!    gives its new identity a vote.
//! 4. The service derives the cluster's [`ClusterKeys`] and seals them with HPKE (RFC 9180: base mode, DHKEM(X25519,
//!    HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, `info = "phala/keys/v1"`, the request as AAD) to the recipient
//!    that the chain names. So a request may be replayed and an answer intercepted without harm.
//!
//! A restart makes a new recipient, so keys that were sealed before it are lost with the old one.
//!
//! # Key epochs
//!
//! Each epoch of a cluster has keys of its own for what is written in it: the blocks of the state's file, and the log. They
//! do not follow from those of earlier epochs. A member asks for them when the chain has begun the epoch, and whoever is
//! no member any more gets none: what it took with it opens what was written up to then, and nothing later. State from
//! earlier epochs is sealed anew in time, so the disk of a member that stays is of no use to it either. A member that comes
//! back asks for the epochs since the oldest from which its disk holds anything.
//!
//! The names of stored keys, the state root's commitments, the mailbox, and the secrets of contracts stay the same: who
//! knew them can recognise a value that it guesses in a proof, open later parcels, and act in a contract's name.
//!
//! # Derivation
//!
//! `HKDF-SHA256(ikm = master, salt = "phala/keys/v1", info = SCALE("phala/cluster-key/v1", genesis, cluster, label,
//! number))`, domain and label as SCALE strings, number a u64. Labels: `state-value` and `log` with the number of the
//! epoch; and with 0: `state-path`, `state-commit`, `contracts`, from which each contract gets its secret, and `mailbox`,
//! which opens [parcels](Mailbox) of other clusters.
//!
//! # The service of a development network
//!
//! [`DevKeyService`] holds the master secret in one process and is therefore SIMULATED. The trait is shaped so that a
//! client of several gatekeepers, each with a share, takes its place without a change to workers.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cluster;
mod mailbox;
mod release;
mod seal;
mod service;
#[cfg(test)]
mod tests;

pub use cluster::{ClusterKeys, Key};
pub use mailbox::Mailbox;
pub use release::{ChainView, KeyRequest, KeyService, MAX_EPOCHS, RecipientKey, SealedKeys, check};
pub use seal::{seal, unseal};
pub use service::DevKeyService;

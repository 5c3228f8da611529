//! The words of the network as types: accounts and addresses, hashes, finality certificates, the records that the
//! chain keeps and light clients read, blocks of ordered logs, Merkle inclusion, and the table of error codes.
//!
//! Everything here is pure and small, so that the chain, the enclaves and the clients share one definition.

mod account;
pub mod bridge;
mod certificate;
pub mod codes;
mod entry;
mod facts;
mod hash;
pub mod limits;
mod log;
pub mod merkle;
pub mod misbehaviour;
pub mod policy;
pub mod records;
mod signature;
pub mod storage;

pub use account::{AccountId, AddressError, SS58_PREFIX};
pub use certificate::{Certificate, CertificateError, Finality, MAX_DESCENDANTS, quorum};
pub use codes::{Code, Coded};
pub use entry::{EntryHeader, Executed};
pub use facts::{ENGINE, Fact, FinalizedHead, Proposed};
pub use hash::{Hash, blake2_256};
pub use log::{Block, Position, Shape, Verdict};
pub use policy::ClusterPolicy;
pub use signature::{AccountSignature, SIGNING_CONTEXT, unwrap_bytes, wrap_bytes};

/// Number of a cluster, given by the chain in order of creation.
pub type ClusterId = u32;
/// Public half of an ed25519 key: a validator, or the identity that a worker makes afresh at every start.
pub type PublicKey = [u8; 32];
/// Amount of the smallest unit. One PHA is 10^12 units.
pub type Balance = u128;
/// Name that a client draws at random for one request; it is never used twice.
pub type RequestId = [u8; 16];

/// One PHA in its smallest unit.
pub const PHA: Balance = 1_000_000_000_000;
/// Decimals of PHA.
pub const DECIMALS: u8 = 12;

//! What a command asks for that is done when its entry is executed.

use codec::{Decode, Encode};
use phala_primitives::AccountId;

/// One such thing. The bytes of a `phala_vm::Effect` are the SCALE encoding.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum Effect {
    /// A line for the contract's log.
    Log {
        /// 1 (error) to 5 (trace).
        level: u8,
        /// At most [`MAX_LOG`](crate::MAX_LOG) bytes.
        text: String,
    },
    /// A change of the cache of every worker of the cluster.
    Cache(CacheOp),
    /// Who besides the owner may read what the contract says.
    LogReader {
        /// An account, or everyone.
        who: Option<AccountId>,
        /// Whether it may.
        allowed: bool,
    },
}

/// A change of a contract's cache.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum CacheOp {
    /// Keeps a value.
    Set {
        /// Its name.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// Forgets a value after some seconds from now.
    Expire {
        /// Its name.
        key: Vec<u8>,
        /// From now.
        seconds: u64,
    },
    /// Forgets a value.
    Remove {
        /// Its name.
        key: Vec<u8>,
    },
}

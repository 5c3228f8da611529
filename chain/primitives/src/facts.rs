//! What a light client is shown: a finalised head of the chain, and single storage entries proven under it.

use crate::{Finality, Hash, blake2_256};
use codec::{Decode, Encode};

/// A header of the chain and the proof that it is final.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct FinalizedHead {
    /// SCALE encoding of the FRAME header. Its BLAKE2b-256 hash is the block's hash and what validators sign.
    pub header: Vec<u8>,
    /// Why the block is final; without votes for the genesis block, which needs none.
    pub finality: Finality,
}

impl FinalizedHead {
    /// Hash of the block.
    pub fn hash(&self) -> Hash {
        blake2_256(&self.header)
    }
}

/// Names our item in the digest of a header of the chain.
pub const ENGINE: [u8; 4] = *b"phal";

/// What that item holds: where and when a block was proposed. Validators vote for no block whose time is not the one
/// that it sets on the chain, nor far from their own.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Proposed {
    /// View of the chain's log.
    pub view: u64,
    /// The block's time, in milliseconds since 1970.
    pub time_ms: u64,
}

/// One entry of the chain's storage, provable to anyone who knows the validators.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Fact {
    /// The head under whose state root the entry is proven.
    pub head: FinalizedHead,
    /// Storage key.
    pub key: Vec<u8>,
    /// Nodes of the state trie from its root to the entry.
    pub proof: Vec<Vec<u8>>,
}

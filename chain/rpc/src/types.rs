//! Shapes of Substrate's JSON that no dependency of ours defines.

use phala_primitives::Hash;
use serde::{Deserialize, Serialize};
use sp_core::{Bytes, H256};
use sp_runtime::{generic, traits::BlakeTwo256};

/// The chain's header.
pub(crate) type Header = generic::Header<u32, BlakeTwo256>;

/// Our hash as one that serde writes in hex.
pub(crate) fn h256(hash: Hash) -> H256 {
    H256(hash.0)
}

/// A block number as JavaScript sends it: a number, or hex in a string.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Number {
    Plain(u64),
    Hex(String),
}

impl Number {
    /// The number, unless it is none or lies beyond any block.
    pub(crate) fn get(&self) -> Option<u32> {
        match self {
            Self::Plain(number) => u32::try_from(*number).ok(),
            Self::Hex(text) => match text.strip_prefix("0x") {
                Some(digits) => u32::from_str_radix(digits, 16).ok(),
                None => text.parse().ok(),
            },
        }
    }
}

/// One or many.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

/// `chain_getBlock`.
#[derive(Clone, Serialize)]
pub(crate) struct SignedBlock {
    pub(crate) block: Block,
    /// Finality is shown by `phala_finalizedHead`; what Substrate calls justifications are GRANDPA's.
    pub(crate) justifications: Option<()>,
}

#[derive(Clone, Serialize)]
pub(crate) struct Block {
    pub(crate) header: Header,
    pub(crate) extrinsics: Vec<Bytes>,
}

/// `state_queryStorageAt` and `state_subscribeStorage`.
#[derive(Clone, Serialize)]
pub(crate) struct ChangeSet {
    pub(crate) block: H256,
    pub(crate) changes: Vec<(Bytes, Option<Bytes>)>,
}

/// `state_getReadProof`.
#[derive(Clone, Serialize)]
pub(crate) struct ReadProof {
    pub(crate) at: H256,
    pub(crate) proof: Vec<Bytes>,
}

/// `system_health`.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HealthJson {
    pub(crate) peers: usize,
    pub(crate) is_syncing: bool,
    pub(crate) should_have_peers: bool,
}

/// An entry of `system_peers`.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PeerJson {
    pub(crate) peer_id: String,
    pub(crate) roles: &'static str,
    pub(crate) best_hash: H256,
    pub(crate) best_number: u32,
}

/// Items of `author_submitAndWatchExtrinsic`.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Status {
    Future,
    Ready,
    InBlock(H256),
    Finalized(H256),
    Dropped,
    Invalid,
}

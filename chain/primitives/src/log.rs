//! Blocks of an ordered log, as consensus and the programs whose blocks it orders see them. Consensus reads neither
//! header nor body; a program knows nothing of votes and networks.

use crate::{Hash, PublicKey, blake2_256};
use bytes::Bytes;

/// What a log orders: a header, whose BLAKE2b-256 hash is the block's digest, and a body that the header binds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// Encoded header: of a block of the chain, or of an entry of a cluster's log.
    pub header: Bytes,
    /// Encoded body: extrinsics, or encrypted commands.
    pub body: Bytes,
}

impl Block {
    /// The digest that is voted on.
    pub fn digest(&self) -> Hash {
        blake2_256(&self.header)
    }
}

/// What consensus has to know of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Height; the genesis of a log has its own, each child one more.
    pub height: u64,
    /// Digest of the parent.
    pub parent: Hash,
}

/// Where a proposal stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// Epoch of the log.
    pub epoch: u64,
    /// View of the proposal.
    pub view: u64,
    /// Who leads the view.
    pub leader: PublicKey,
    /// The clock of the member that is asked, in milliseconds since 1970.
    pub now_ms: u64,
}

/// A judgement on a proposal. It is final: what may still become valid is `Later`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Vote for it.
    Accept,
    /// Never vote for it.
    Reject,
    /// Ask again after the next block was taken here, or a moment later.
    Later,
}

//! What a log asks of the program that it orders blocks for, in plain types.
//!
//! The engine calls an [`Application`] from one task of its own, one call at a time, so an implementation may take
//! its time without stopping the network, and needs no locks against itself. Only `genesis`, `inspect` and `ready` are
//! called from elsewhere too, at any time.

use bytes::Bytes;
use futures::future::BoxFuture;
use phala_primitives::{Finality, Hash, PublicKey, blake2_256};

/// What a log orders: a header, whose BLAKE2b-256 hash is the block's digest, and a body that the header binds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// Encoded header, opaque here.
    pub header: Bytes,
    /// Encoded body, opaque here.
    pub body: Bytes,
}

impl Block {
    /// The digest that is voted on.
    pub fn digest(&self) -> Hash {
        blake2_256(&self.header)
    }
}

/// What the engine has to know of a block.
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
    /// The runtime's clock, in milliseconds since 1970.
    pub now_ms: u64,
}

/// A judgement on a proposal. It is final: what may still become valid is `Later`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Vote for it.
    Accept,
    /// Never vote for it.
    Reject,
    /// Ask again after the next block was finalised here, or a moment later.
    Later,
}

/// A program whose blocks are ordered. See each method for when it is called.
pub trait Application: Send + Sync + 'static {
    /// The block that the log starts from, the same at all members and at every call. `inspect` must accept it.
    fn genesis(&self) -> Block;

    /// Reads height and parent from the header and checks that the header binds the body. Pure, and called on
    /// hostile input. `None` refuses the block.
    fn inspect(&self, block: &Block) -> Option<Shape>;

    /// Completes when there is something worth proposing; at once, if there is already. A leader waits for it until
    /// `Pacing::heartbeat` has passed since the last proposal. Dropped when the wait is over.
    fn ready(&self) -> BoxFuture<'static, ()>;

    /// Makes a block on top of the last of `ancestry`, which runs from the child of the last finalised block (or is
    /// only that block itself when nothing is in between) to the parent. `None` gives up the view.
    fn propose(&self, at: Position, ancestry: &[Block]) -> Option<Block>;

    /// Judges another member's block; `ancestry` as in `propose`.
    fn verify(&self, at: Position, ancestry: &[Block], block: &Block) -> Verdict;

    /// A block is final. Called in order of height from the child of the genesis, at least once each; after a restart,
    /// again from the first one whose call had not returned or was not noted on disk as such.
    ///
    /// The certificate proves this block when `certificate.digest` is its digest, which is the rule. A block may become
    /// final only by a descendant, when its own view timed out between two votes: then the certificate is that of
    /// the nearest descendant that has one, and the headers in between prove the rest.
    ///
    /// A panic ends the log, and counts as a failure: see `LogHandle::failed`.
    fn finalized(&self, block: Block, finality: Finality);

    /// A message that another member sent with `LogHandle::send`. Hostile input; must return quickly.
    fn received(&self, from: PublicKey, message: Bytes) {
        let _ = (from, message);
    }
}

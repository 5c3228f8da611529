//! What a log asks of the program that it orders blocks for, in plain types.
//!
//! The engine calls an [`Application`] from one task of its own, one call at a time, so an implementation may take
//! its time without stopping the network, and needs no locks against itself. Only `genesis`, `inspect` and `ready` are
//! called from elsewhere too, at any time.

use bytes::Bytes;
use futures::future::BoxFuture;
use phala_primitives::{Block, Finality, Position, PublicKey, Shape, Verdict, misbehaviour::DoubleVote};

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

    /// A member voted against itself, which this proves. At most once for each member.
    fn misbehaved(&self, proof: DoubleVote) {
        let _ = proof;
    }

    /// A message that another member sent with `LogHandle::send`. Hostile input; must return quickly.
    fn received(&self, from: PublicKey, message: Bytes) {
        let _ = (from, message);
    }
}

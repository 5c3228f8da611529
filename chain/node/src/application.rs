//! The node as the application of the chain's log.

use crate::{
    block::{self, Parsed},
    execute::{self, BuildError, Plan, Refusal},
    node::Node,
};
use bytes::Bytes;
use codec::Encode;
use futures::future::BoxFuture;
use phala_consensus::Application;
use phala_primitives::{Block, Finality, Hash, Position, PublicKey, Shape, Verdict};

/// How far a block's time may lie ahead of our clock, in milliseconds.
const AHEAD_MS: u64 = 2_000;
/// A block whose time lies further ahead than [`AHEAD_MS`], but not than this, is waited for.
const PATIENCE_MS: u64 = 5_000;
/// How far a block's time may lie behind our clock, in milliseconds.
const BEHIND_MS: u64 = 10_000;
/// How often a block is built anew without an extrinsic that the runtime panics on.
const ATTEMPTS: u32 = 4;

impl Node {
    /// Executes what lies between the finalised head and a new block, as far as that was not done.
    fn follow(&self, ancestry: &[Block]) -> Result<(), Refusal> {
        for ancestor in ancestry {
            if !self.knows(&ancestor.digest())? {
                let parsed = block::parse(ancestor).ok_or(Refusal::Header)?;
                self.execute(&parsed)?;
            }
        }
        Ok(())
    }

    fn build(&self, at: Position, parent: Hash) -> Result<Block, BuildError> {
        let number = self.header_of(&parent)?.number.saturating_add(1);
        let plan = Plan { number, parent, view: at.view, now_ms: at.now_ms, time: self.build_time };
        for _ in 1..ATTEMPTS {
            let queues = self.pool.lock().queues();
            match execute::build(&self.state_at(&parent)?, &plan, queues) {
                Err(BuildError::Culprit(hash, reason)) => {
                    tracing::error!(%hash, reason, "the runtime panicked on an extrinsic");
                    self.pool.lock().invalid(&hash, "the runtime panicked", number);
                }
                built => return Ok(self.finish(built?)),
            }
        }
        // An empty block is better than none.
        Ok(self.finish(execute::build(&self.state_at(&parent)?, &plan, vec![])?))
    }

    fn finish(&self, built: execute::Built) -> Block {
        let mut pool = self.pool.lock();
        for (hash, reason) in &built.invalid {
            pool.invalid(hash, reason, built.header.number);
        }
        drop(pool);
        let block = Block { header: built.header.encode().into(), body: block::join(&built.extrinsics) };
        let parsed = Parsed { hash: block.digest(), header: built.header, extrinsics: built.extrinsics };
        self.remember(&parsed, built.delta);
        block
    }

    fn judge(&self, at: Position, ancestry: &[Block], block: &Block) -> Result<(), Refusal> {
        let parsed = block::parse(block).ok_or(Refusal::Header)?;
        let parent = ancestry.last().map(Block::digest);
        if parent != Some(Hash(parsed.header.parent_hash.0)) {
            return Err(Refusal::Header);
        }
        let first = parsed.extrinsics.first().and_then(|bytes| block::Extrinsic::decode(bytes).ok());
        let time = first.and_then(|first| first.timestamp()).ok_or(Refusal::Unsigned)?;
        if time > at.now_ms.saturating_add(AHEAD_MS) || time < at.now_ms.saturating_sub(BEHIND_MS) {
            return Err(Refusal::Time { time, now: at.now_ms });
        }
        if block::proposed(&parsed.header).is_none_or(|proposed| proposed.time_ms != time) {
            return Err(Refusal::Header);
        }
        self.follow(ancestry)?;
        if self.header_of(&Hash(parsed.header.parent_hash.0))?.number.checked_add(1) != Some(parsed.header.number) {
            return Err(Refusal::Header);
        }
        self.execute(&parsed)
    }
}

impl Application for Node {
    fn genesis(&self) -> Block {
        self.genesis.clone()
    }

    fn inspect(&self, block: &Block) -> Option<Shape> {
        // The genesis, which was proposed in no view, is known by itself.
        if *block == self.genesis {
            return Some(Shape { height: 0, parent: Hash::ZERO });
        }
        let parsed = block::parse(block)?;
        Some(Shape { height: parsed.header.number.into(), parent: Hash(parsed.header.parent_hash.0) })
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        let mut ready = self.ready.subscribe();
        Box::pin(async move {
            // An error means that the node is gone: then nothing matters.
            let _ = ready.wait_for(|ready| *ready).await;
        })
    }

    fn propose(&self, at: Position, ancestry: &[Block]) -> Option<Block> {
        self.check_inbox();
        let parent = ancestry.last()?.digest();
        let followed = self.follow(ancestry).map_err(|error| error.to_string());
        match followed.and_then(|()| self.build(at, parent).map_err(|error| error.to_string())) {
            Ok(block) => Some(block),
            Err(error) => {
                tracing::error!(error, view = at.view, "no block could be made");
                None
            }
        }
    }

    fn verify(&self, at: Position, ancestry: &[Block], block: &Block) -> Verdict {
        match self.judge(at, ancestry, block) {
            Ok(()) => Verdict::Accept,
            Err(Refusal::Time { time, now }) if (now..now.saturating_add(PATIENCE_MS)).contains(&time) => {
                Verdict::Later
            }
            // Our store's fault, not the block's.
            Err(Refusal::Failed(error)) if !matches!(error, crate::NodeError::Panicked(_)) => {
                tracing::error!(%error, "a block cannot be checked now");
                Verdict::Later
            }
            Err(refusal) => {
                tracing::warn!(%refusal, view = at.view, leader = hex::encode(at.leader), "a block is refused");
                Verdict::Reject
            }
        }
    }

    /// # Panics
    /// If the block cannot be kept: the disk fails, or a third of the validators are faulty. Returning would tell the
    /// log that the block is done, and it would be lost; so the process has to stop, and takes up here again.
    fn finalized(&self, block: Block, finality: Finality) {
        if let Err(error) = self.finalize(&block, &finality) {
            tracing::error!(%error, hash = %block.digest(), "a finalised block cannot be kept");
            panic!("a finalised block cannot be kept: {error}");
        }
    }

    fn received(&self, _from: PublicKey, message: Bytes) {
        self.take_in(message);
    }
}

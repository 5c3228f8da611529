//! The one task that calls the application, so that an application needs no locks against itself, and may take its
//! time: on real sockets the task has a thread of its own.

use crate::{
    Application,
    block::{Digest, Item, hash},
    handle::Shared,
};
use bytes::Bytes;
use commonware_consensus::{Block as _, Heightable as _};
use commonware_cryptography::{Digested, Digestible as _};
use commonware_macros::select;
use commonware_runtime::Clock;
use phala_primitives::{Block, Finality, Position, PublicKey, Verdict, misbehaviour::DoubleVote};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::{mpsc, oneshot, watch};

/// Messages of other members that may wait for the application.
pub(crate) const MESSAGES: usize = 1024;

/// What the application is asked.
pub(crate) enum Call {
    Propose { at: Position, ancestry: Vec<Digested<Item>>, reply: oneshot::Sender<Option<Block>> },
    Verify { at: Position, ancestry: Vec<Digested<Item>>, block: Digested<Item>, reply: oneshot::Sender<Verdict> },
    Finalized { block: Digested<Item>, finality: Finality, reply: oneshot::Sender<()> },
    Misbehaved(DoubleVote),
}

/// Milliseconds since 1970.
pub(crate) fn millis(time: SystemTime) -> u64 {
    let elapsed = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) struct Caller<E> {
    pub(crate) context: E,
    pub(crate) app: Arc<dyn Application>,
    pub(crate) shared: Arc<Shared>,
    /// Height of the genesis.
    pub(crate) genesis: u64,
    /// Height, counted from the genesis, of the last block that the application has taken.
    pub(crate) taken: watch::Sender<u64>,
    /// Digest of that block, once known.
    pub(crate) head: Option<Digest>,
    pub(crate) calls: mpsc::UnboundedReceiver<Call>,
    pub(crate) messages: mpsc::Receiver<(PublicKey, Bytes)>,
}

impl<E: Clock> Caller<E> {
    /// Runs until the log stops.
    pub(crate) async fn run(mut self) {
        loop {
            select! {
                call = self.calls.recv() => match call {
                    Some(call) if !self.shared.stopping.load(Ordering::SeqCst) => self.call(call),
                    _ => return,
                },
                message = self.messages.recv() => match message {
                    Some((from, message)) if !self.shared.stopping.load(Ordering::SeqCst) => {
                        self.app.received(from, message);
                    }
                    _ => return,
                },
            }
        }
    }

    fn call(&mut self, call: Call) {
        match call {
            Call::Propose { at, ancestry, reply } => {
                tracing::trace!(view = at.view, "propose");
                if reply.is_closed() {
                    return;
                }
                let block = self.above(&ancestry).and_then(|ancestry| self.app.propose(self.at(at), &ancestry));
                let _ = reply.send(block);
            }
            Call::Verify { at, ancestry, block, reply } => {
                tracing::trace!(view = at.view, "verify");
                if reply.is_closed() {
                    return;
                }
                // A parent below what is final here belongs to a branch that is dead: no vote, neither way.
                let verdict = self
                    .above(&ancestry)
                    .map_or(Verdict::Later, |ancestry| self.app.verify(self.at(at), &ancestry, &block.inner().block));
                let _ = reply.send(verdict);
            }
            Call::Finalized { block, finality, reply } => {
                let height = block.height().get();
                tracing::trace!(height, "deliver");
                self.app.finalized(block.inner().block.clone(), finality);
                self.head = Some(block.digest());
                self.shared.height.store(self.genesis.saturating_add(height), Ordering::SeqCst);
                self.taken.send_replace(height);
                let _ = reply.send(());
            }
            Call::Misbehaved(proof) => self.app.misbehaved(proof),
        }
    }

    fn at(&self, at: Position) -> Position {
        Position { now_ms: millis(self.context.current()), ..at }
    }

    /// Of a chain of blocks, those that the application has not taken, or the last if it has taken just that.
    /// `None` if they do not extend what it has taken.
    fn above(&self, ancestry: &[Digested<Item>]) -> Option<Vec<Block>> {
        let taken = *self.taken.borrow();
        let parent = ancestry.last()?;
        let above: Vec<_> = ancestry.iter().filter(|block| block.height().get() > taken).collect();
        let extends = match above.first() {
            Some(first) => {
                first.height().get() == taken.saturating_add(1) && self.head.is_none_or(|head| first.parent() == head)
            }
            None => parent.height().get() == taken && self.head.is_none_or(|head| parent.digest() == head),
        };
        if !extends {
            tracing::debug!(parent = %hash(&parent.digest()), taken, "a proposal does not extend what is final");
            return None;
        }
        if above.is_empty() {
            return Some(vec![parent.inner().block.clone()]);
        }
        Some(above.into_iter().map(|block| block.inner().block.clone()).collect())
    }
}

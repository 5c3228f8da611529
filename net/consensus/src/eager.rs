//! The short way for logs whose storage nobody needs after a restart: a block that is here is certified without waiting
//! for the disk.

use crate::block::{Digest, Item};
use commonware_actor::Feedback;
use commonware_consensus::{Automaton, CertifiableAutomaton, Handoff, Relay, Reporter, types::Round};
use commonware_cryptography::{Digested, Digestible as _};
use commonware_utils::channel::oneshot;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    sync::Arc,
};

/// Blocks kept.
const SEEN: usize = 32;

/// Blocks that were proposed or judged here lately.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Blocks>>);

/// Blocks by digest, and their digests from the oldest on.
type Blocks = (BTreeMap<Digest, Digested<Item>>, VecDeque<Digest>);

impl Seen {
    pub(crate) fn insert(&self, block: &Digested<Item>) {
        let mut seen = self.0.lock();
        let (blocks, order) = &mut *seen;
        if blocks.insert(block.digest(), block.clone()).is_none() {
            order.push_back(block.digest());
        }
        while order.len() > SEEN {
            if let Some(oldest) = order.pop_front() {
                blocks.remove(&oldest);
            }
        }
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<Digested<Item>> {
        self.0.lock().0.get(digest).cloned()
    }
}

/// Marshal's automaton, hurried.
#[derive(Clone)]
pub(crate) struct Eager<A> {
    pub(crate) inner: A,
    /// `None` to be as patient as marshal.
    pub(crate) seen: Option<Seen>,
}

impl<A: Automaton<Digest = Digest>> Automaton for Eager<A> {
    type Context = A::Context;
    type Digest = Digest;

    fn propose(&mut self, context: A::Context) -> impl Future<Output = oneshot::Receiver<Digest>> + Send {
        self.inner.propose(context)
    }

    fn verify(&mut self, context: A::Context, payload: Digest) -> impl Future<Output = oneshot::Receiver<bool>> + Send {
        self.inner.verify(context, payload)
    }
}

impl<A: CertifiableAutomaton<Digest = Digest>> CertifiableAutomaton for Eager<A> {
    fn prepare(&mut self, context: A::Context) -> impl Future<Output = oneshot::Receiver<Handoff<Digest>>> + Send {
        self.inner.prepare(context)
    }

    async fn certify(&mut self, round: Round, payload: Digest) -> oneshot::Receiver<bool> {
        // Marshal stores what was proposed or judged here whether or not its answer is awaited.
        let certified = self.inner.certify(round, payload).await;
        if self.seen.as_ref().is_none_or(|seen| seen.get(&payload).is_none()) {
            return certified;
        }
        let (answer, at_once) = oneshot::channel();
        let _ = answer.send(true);
        at_once
    }
}

impl<A: Relay> Relay for Eager<A> {
    type Digest = A::Digest;
    type PublicKey = A::PublicKey;
    type Plan = A::Plan;

    fn broadcast(&mut self, payload: Self::Digest, plan: Self::Plan) -> Feedback {
        self.inner.broadcast(payload, plan)
    }
}

impl<A: Reporter> Reporter for Eager<A> {
    type Activity = A::Activity;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        self.inner.report(activity)
    }
}

//! What the engine tells: who leads, who votes, what is certified; and the ordered delivery to the application.

use crate::{
    block::{Digest, Item},
    caller::Call,
    certify::plain,
    check::plain_key,
    eager::Seen,
    handle::Shared,
    witness::Witness,
};
use commonware_actor::Feedback;
use commonware_consensus::{
    Block as _, Heightable as _, Reporter, Viewable as _,
    marshal::{Update, core::Mailbox, standard::Standard},
    simplex::{
        elector::{Elector as _, RoundRobinElector},
        scheme::ed25519::Scheme,
        types::Activity,
    },
    types::{Epoch, Height, Round, View},
};
use commonware_cryptography::{Digested, Digestible as _, ed25519};
use commonware_macros::select;
use commonware_runtime::Clock;
use commonware_utils::{Acknowledgement as _, Participant, acknowledgement::Exact, ordered::Set};
use parking_lot::Mutex;
use phala_primitives::{Certificate, Finality, MAX_DESCENDANTS};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// Certificates kept in memory until their blocks are delivered.
const RECENT: usize = 64;
/// A member counts as present while its last vote is at most this many views old.
const PRESENT: u64 = 8;

/// Certificates of late, by view.
pub(crate) type Recent = Arc<Mutex<BTreeMap<u64, (Digest, Certificate)>>>;

/// Listens to consensus, and passes everything on.
#[derive(Clone)]
pub(crate) struct Listener<R> {
    pub(crate) next: R,
    pub(crate) shared: Arc<Shared>,
    pub(crate) recent: Recent,
    /// Digests that became final, for eager delivery.
    pub(crate) finals: Option<mpsc::UnboundedSender<Digest>>,
    pub(crate) elector: RoundRobinElector<Scheme>,
    pub(crate) members: Set<ed25519::PublicKey>,
    pub(crate) epoch: Epoch,
    pub(crate) me: Participant,
    /// Last view in which each member was heard, and the view that goes on.
    pub(crate) heard: Arc<Mutex<(Vec<u64>, View)>>,
    pub(crate) witness: Arc<Mutex<Witness>>,
    pub(crate) calls: mpsc::UnboundedSender<Call>,
}

impl<R> Listener<R> {
    /// The view that the members are in at the start.
    pub(crate) fn begin(&self) {
        self.enter(View::new(1));
    }

    fn enter(&self, view: View) {
        let mut heard = self.heard.lock();
        if view <= heard.1 {
            return;
        }
        heard.1 = view;
        let leader = self.elector.elect(Round::new(self.epoch, view), ());
        *self.shared.leader.lock() = self.members.get(usize::from(leader)).map(plain_key);
        let present = heard.0.iter().enumerate().filter(|(index, last)| {
            *index != usize::from(self.me) && **last > 0 && last.saturating_add(PRESENT) >= view.get()
        });
        self.shared.peers.store(present.count() as u64, Ordering::Relaxed);
    }

    fn hear(&self, signer: Participant, view: View) {
        let mut heard = self.heard.lock();
        if let Some(last) = heard.0.get_mut(usize::from(signer)) {
            *last = view.get().max(*last);
        }
    }
}

impl<R: Reporter<Activity = Activity<Scheme, Digest>>> Reporter for Listener<R> {
    type Activity = Activity<Scheme, Digest>;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        for proof in self.witness.lock().see(&activity) {
            tracing::warn!(view = proof.view, epoch = proof.epoch, "a member voted against itself");
            let _ = self.calls.send(Call::Misbehaved(proof));
        }
        match &activity {
            Activity::Notarize(vote) => self.hear(vote.attestation.signer, vote.view()),
            Activity::Nullify(vote) => self.hear(vote.attestation.signer, vote.view()),
            Activity::Finalize(vote) => self.hear(vote.attestation.signer, vote.view()),
            Activity::Notarization(certificate) => {
                tracing::trace!(view = %certificate.view(), me = usize::from(self.me), "notarized");
                self.enter(certificate.view().next());
            }
            Activity::Nullification(certificate) => {
                self.enter(certificate.view().next_term_start(self.elector.terms().length()));
            }
            Activity::Finalization(certificate) => {
                tracing::trace!(view = %certificate.view(), me = usize::from(self.me), "finalized");
                self.enter(certificate.view().next());
                if let Some(plain) = plain(certificate) {
                    let mut recent = self.recent.lock();
                    recent.insert(plain.view, (certificate.proposal.payload, plain));
                    while recent.len() > RECENT {
                        recent.pop_first();
                    }
                    if let Some(finals) = &self.finals {
                        let _ = finals.send(certificate.proposal.payload);
                    }
                }
            }
            Activity::ConflictingNotarize(_) | Activity::ConflictingFinalize(_) | Activity::NullifyFinalize(_) => {}
            Activity::Certification(certificate) => {
                tracing::trace!(view = %certificate.view(), me = usize::from(self.me), "certified");
            }
        }
        self.next.report(activity)
    }
}

/// Takes what marshal has put in order.
#[derive(Clone)]
pub(crate) struct Tail {
    pub(crate) shared: Arc<Shared>,
    pub(crate) genesis: u64,
    pub(crate) blocks: mpsc::UnboundedSender<(Digested<Item>, Exact)>,
}

impl Reporter for Tail {
    type Activity = Update<Item>;

    fn report(&mut self, update: Self::Activity) -> Feedback {
        match update {
            Update::Tip(_, height, _) => {
                self.shared.tip.fetch_max(self.genesis.saturating_add(height.get()), Ordering::SeqCst);
                Feedback::Ok
            }
            Update::Block(block, ack) => match self.blocks.send((block, ack)) {
                Ok(()) => Feedback::Ok,
                Err(_) => Feedback::Closed,
            },
        }
    }
}

/// Delivers blocks with what makes them final, one by one: as marshal puts them in order, or before, when it is to be
/// eager and holds all that is missing.
pub(crate) struct Delivery<E> {
    pub(crate) clock: E,
    pub(crate) marshal: Mailbox<Scheme, Standard<Item>>,
    pub(crate) recent: Recent,
    pub(crate) seen: Seen,
    pub(crate) blocks: mpsc::UnboundedReceiver<(Digested<Item>, Exact)>,
    pub(crate) finals: mpsc::UnboundedReceiver<Digest>,
    pub(crate) calls: mpsc::UnboundedSender<Call>,
    /// Height of the last block that the application has taken.
    pub(crate) taken: Height,
    /// Digest of that block, once known.
    pub(crate) head: Option<Digest>,
}

impl<E: Clock> Delivery<E> {
    /// Runs until the log stops.
    pub(crate) async fn run(mut self) {
        loop {
            select! {
                digest = self.finals.recv() => match digest {
                    Some(digest) => self.hurry(digest).await,
                    None => return,
                },
                update = self.blocks.recv() => match update {
                    Some((block, ack)) => {
                        if block.height() > self.taken {
                            let finality = self.finality(&block).await;
                            self.deliver(block, finality).await;
                        }
                        ack.acknowledge();
                    }
                    None => return,
                },
            }
        }
    }

    /// Delivers what leads from the last block taken to one that is final, if all of it was seen.
    async fn hurry(&mut self, digest: Digest) {
        let mut path = Vec::new();
        let mut next = digest;
        while self.head != Some(next) {
            let Some(block) = self.seen.get(&next).filter(|block| block.height() > self.taken) else { return };
            next = block.parent();
            path.push(block);
        }
        let Some(certificate) = self.own(&digest) else { return };
        while let Some(block) = path.pop() {
            let finality = self.own(&block.digest()).map(Finality::from).unwrap_or_else(|| Finality {
                descendants: path.iter().rev().map(|block| block.inner().block.header.to_vec()).collect(),
                certificate: certificate.clone(),
            });
            self.deliver(block, finality).await;
        }
    }

    /// Returns when the application has taken the block; never, if the log stops before.
    async fn deliver(&mut self, block: Digested<Item>, finality: Finality) {
        let (height, digest) = (block.height(), block.digest());
        let (reply, done) = oneshot::channel();
        let _ = self.calls.send(Call::Finalized { block, finality, reply });
        if done.await.is_err() {
            // Returning would acknowledge the block. Dropping the acknowledgement would be an error, keeping it is none.
            return std::future::pending().await;
        }
        (self.taken, self.head) = (height, Some(digest));
    }

    fn own(&self, digest: &Digest) -> Option<Certificate> {
        self.recent.lock().values().rev().find(|(of, _)| of == digest).map(|(_, own)| own.clone())
    }

    /// The block's own certificate, or that of the nearest descendant that has one, with the headers in between.
    async fn finality(&self, block: &Digested<Item>) -> Finality {
        if let Some(own) = self.own(&block.digest()) {
            return own.into();
        }
        loop {
            if let Some(finality) = self.search(block.height()).await {
                return finality;
            }
            self.clock.sleep(Duration::from_millis(5)).await;
        }
    }

    /// Walks up from a height to the first that has a certificate.
    async fn search(&self, mut height: Height) -> Option<Finality> {
        let mut descendants = vec![];
        while descendants.len() <= MAX_DESCENDANTS {
            if let Some(found) = self.marshal.get_finalization(height).await
                && let Some(certificate) = plain(&found)
            {
                return Some(Finality { descendants, certificate });
            }
            height = Height::new(height.get().saturating_add(1));
            descendants.push(self.marshal.get_block(height).await?.inner().block.header.to_vec());
        }
        None
    }
}

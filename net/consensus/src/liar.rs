//! Members that are not honest, for simulations. All engines are honest ones; the lies happen on the way to the network.
//!
//! - One that votes against itself: a second vote, signed with its own key, goes along with each that it lies about.
//! - One that was cloned while it ran: two engines with one key. The clone hears everything and says nothing until it
//!   wakes; then it speaks with some members and the original with the others, as the host arranges it.

use crate::block::Digest;
use commonware_actor::{Feedback, Unreliable};
use commonware_codec::{DecodeExt as _, Encode as _};
use commonware_consensus::{
    Viewable as _,
    simplex::{
        scheme::ed25519::Scheme,
        types::{Finalize, Notarize, Nullify, Proposal, Vote},
    },
};
use commonware_cryptography::{Hasher as _, Sha256, ed25519};
use commonware_p2p::{CheckedSender, LimitedSender, Recipients, Sender};
use commonware_runtime::{IoBuf, IoBufs};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

/// Which votes a member lies about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// It notarizes a second proposal, that nobody ever made.
    Notarize,
    /// It finalizes a second proposal.
    Finalize,
    /// It nullifies the view that it finalizes.
    Nullify,
    /// It notarizes and finalizes one proposal towards some members, and another towards the others.
    TwoFaced,
}

/// Who lies, by host. Clones are the same.
pub(crate) type Lies = Arc<Mutex<BTreeMap<usize, Lie>>>;

/// What a lying member needs.
#[derive(Clone)]
pub(crate) struct Liar {
    pub(crate) host: usize,
    pub(crate) lies: Lies,
    pub(crate) scheme: Scheme,
    /// Those who are told something else by a member with two faces.
    pub(crate) others: Vec<ed25519::PublicKey>,
}

impl std::fmt::Debug for Liar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Liar").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Liar {
    fn lie(&self) -> Option<Lie> {
        self.lies.lock().get(&self.host).copied()
    }

    /// The second vote that goes with this one.
    fn second(&self, lie: Lie, bytes: &IoBuf) -> Option<Vote<Scheme, Digest>> {
        let vote = Vote::<Scheme, Digest>::decode(bytes.clone()).ok()?;
        let other = |proposal: &Proposal<Digest>| Proposal {
            payload: Sha256::hash(&[b"another", proposal.payload.as_ref()]),
            ..proposal.clone()
        };
        match (lie, vote) {
            (Lie::Notarize | Lie::TwoFaced, Vote::Notarize(vote)) => {
                Notarize::sign(&self.scheme, other(&vote.proposal)).map(Vote::Notarize)
            }
            (Lie::Finalize | Lie::TwoFaced, Vote::Finalize(vote)) => {
                Finalize::sign(&self.scheme, other(&vote.proposal)).map(Vote::Finalize)
            }
            (Lie::Nullify, Vote::Finalize(vote)) => {
                Nullify::sign::<Digest>(&self.scheme, vote.proposal.round).map(Vote::Nullify)
            }
            _ => None,
        }
    }
}

/// Whom a clone speaks with once it is awake. The original speaks with the others.
pub(crate) type Split = Arc<Mutex<Option<Vec<ed25519::PublicKey>>>>;

/// One of two that have one key.
#[derive(Clone, Debug)]
pub(crate) struct Twin {
    pub(crate) is_clone: bool,
    pub(crate) split: Split,
}

impl Twin {
    fn speaks_with(&self, peer: &ed25519::PublicKey) -> bool {
        match &*self.split.lock() {
            None => !self.is_clone,
            Some(peers) => peers.contains(peer) == self.is_clone,
        }
    }
}

/// The sending end of a channel of a member that may not be honest.
#[derive(Clone, Debug)]
pub(crate) struct Mouth<S> {
    pub(crate) inner: S,
    /// `None` on channels that carry no votes.
    pub(crate) liar: Option<Liar>,
    pub(crate) twin: Option<Twin>,
}

impl<S: LimitedSender<PublicKey = ed25519::PublicKey>> LimitedSender for Mouth<S> {
    type PublicKey = ed25519::PublicKey;
    type Checked<'a>
        = Checked<'a, S>
    where
        Self: 'a;

    fn check(&mut self, recipients: Recipients<ed25519::PublicKey>) -> Result<Checked<'_, S>, SystemTime> {
        let lying = self.liar.as_ref().and_then(|liar| Some((liar.clone(), liar.lie()?)));
        let lying = lying.map(|(liar, lie)| (self.inner.clone(), recipients.clone(), liar, lie));
        let twin = self.twin.clone().map(|twin| (self.inner.clone(), twin));
        Ok(Checked { honest: self.inner.check(recipients)?, lying, twin })
    }
}

/// The same, once the network has agreed to take a message.
pub(crate) struct Checked<'a, S: LimitedSender + 'a> {
    honest: S::Checked<'a>,
    lying: Option<(S, Recipients<ed25519::PublicKey>, Liar, Lie)>,
    twin: Option<(S, Twin)>,
}

impl<S: LimitedSender<PublicKey = ed25519::PublicKey>> CheckedSender for Checked<'_, S> {
    type PublicKey = ed25519::PublicKey;

    fn recipients(&self) -> Vec<ed25519::PublicKey> {
        self.honest.recipients()
    }

    fn send(self, message: impl Into<IoBufs> + Send, priority: bool) -> Unreliable<Feedback> {
        let message = message.into().coalesce();
        if let Some((mut sender, twin)) = self.twin {
            let mut to = self.honest.recipients();
            to.retain(|peer| twin.speaks_with(peer));
            if !to.is_empty() {
                Sender::send(&mut sender, Recipients::Some(to), message, priority);
            }
            return Unreliable::new(Feedback::Ok);
        }
        let Some((mut sender, to, liar, lie)) = self.lying else { return self.honest.send(message, priority) };
        let Some(second) = liar.second(lie, &message) else { return self.honest.send(message, priority) };
        if lie == Lie::TwoFaced {
            let told: Vec<_> = self.honest.recipients();
            let (others, some): (Vec<_>, Vec<_>) = told.into_iter().partition(|peer| liar.others.contains(peer));
            Sender::send(&mut sender, Recipients::Some(some), message, priority);
            Sender::send(&mut sender, Recipients::Some(others), second.encode(), priority);
            return Unreliable::new(Feedback::Ok);
        }
        // Now the lie is heard first, now the truth.
        if second.view().get() % 2 == 0 {
            Sender::send(&mut sender, to, second.encode(), priority);
            self.honest.send(message, priority)
        } else {
            let sent = self.honest.send(message, priority);
            Sender::send(&mut sender, to, second.encode(), priority);
            sent
        }
    }
}

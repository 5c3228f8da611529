//! Watches how members vote, and keeps what convicts one that votes against itself.
//!
//! The engine compares the votes that it gets from a member itself. One that tells some members this and others that
//! is seen through only by comparing them with certificates, which carry the votes that others got. So each vote of the
//! newest views is kept here, wherever it came from. Upon one that excludes another: if the member gave both, that is a
//! proof, of which one for each member is enough.
//!
//! What the engine reports may be forged: nothing counts before its signature was verified, and no signature is
//! verified before there is something to compare.

use crate::block::{Digest, hash};
use commonware_codec::{Encode, ReadExt as _};
use commonware_consensus::{
    Viewable as _,
    simplex::{
        scheme::ed25519::Scheme,
        types::{self, Activity, Finalize, Notarize, Nullify},
    },
};
use commonware_cryptography::ed25519::certificate::Certificate;
use phala_primitives::{
    PublicKey,
    misbehaviour::{Ballot, DoubleVote, Proposal, Vote},
};
use std::collections::{BTreeMap, BTreeSet};

/// Most members and views of which votes are kept; the oldest views go first.
const KEPT: usize = 2048;

/// What one member of a log has seen of all votes.
pub(crate) struct Witness {
    namespace: Vec<u8>,
    epoch: u64,
    /// By their index in the engine.
    members: Vec<PublicKey>,
    /// By view and member.
    votes: BTreeMap<(u64, usize), Vec<Vote>>,
    guilty: BTreeSet<usize>,
}

fn plain(proposal: &types::Proposal<Digest>) -> Proposal {
    Proposal { parent_view: proposal.parent.get(), digest: hash(&proposal.payload) }
}

impl Witness {
    /// `members` in the order of the engine.
    pub(crate) fn new(namespace: Vec<u8>, epoch: u64, members: Vec<PublicKey>) -> Self {
        Self { namespace, epoch, members, votes: BTreeMap::new(), guilty: BTreeSet::new() }
    }

    /// Compares what the engine reports with what is known. Returns what is proven by it.
    pub(crate) fn see(&mut self, activity: &Activity<Scheme, Digest>) -> Vec<DoubleVote> {
        let mut proofs = vec![];
        let view = activity.view().get();
        for (signer, ballot, signature) in votes(activity) {
            if let Ok(signature) = signature.as_slice().try_into() {
                proofs.extend(self.compare(view, signer, Vote { ballot, signature }));
            }
        }
        while self.votes.len() > KEPT {
            self.votes.pop_first();
        }
        proofs
    }

    pub(crate) fn compare(&mut self, view: u64, signer: usize, vote: Vote) -> Option<DoubleVote> {
        let identity = *self.members.get(signer)?;
        let known = self.votes.entry((view, signer)).or_default();
        let Some(other) = known.iter_mut().find(|other| other.ballot.excludes(&vote.ballot)) else {
            match known.iter_mut().find(|other| other.ballot == vote.ballot) {
                None => known.push(vote),
                // A forged vote must not stand in for the genuine one.
                Some(other) if other.signature != vote.signature => {
                    if vote.is_by(&identity, &self.namespace, self.epoch, view) {
                        *other = vote;
                    }
                }
                Some(_) => {}
            }
            return None;
        };
        if self.guilty.contains(&signer) {
            return None;
        }
        let proof = DoubleVote { identity, epoch: self.epoch, view, first: *other, second: vote };
        if proof.verify(&self.namespace).is_ok() {
            self.guilty.insert(signer);
            return Some(proof);
        }
        // One of the two is forged; the genuine one is worth keeping.
        if vote.is_by(&identity, &self.namespace, self.epoch, view) {
            *other = vote;
        }
        None
    }
}

type Seen = (usize, Ballot, Vec<u8>);

/// All votes in a report: the member's index, what it says, and the signature.
fn votes(activity: &Activity<Scheme, Digest>) -> Vec<Seen> {
    match activity {
        Activity::Notarize(vote) => vec![notarize(vote)],
        Activity::Nullify(vote) => vec![nullify(vote)],
        Activity::Finalize(vote) => vec![finalize(vote)],
        Activity::Notarization(of) | Activity::Certification(of) => {
            all(&of.certificate, Ballot::Notarize(plain(&of.proposal)))
        }
        Activity::Nullification(of) => all(&of.certificate, Ballot::Nullify),
        Activity::Finalization(of) => all(&of.certificate, Ballot::Finalize(plain(&of.proposal))),
        // The two votes are private, but not their encodings.
        Activity::ConflictingNotarize(both) => {
            let mut bytes = both.encode();
            std::iter::from_fn(|| Notarize::read(&mut bytes).ok()).take(2).map(|vote| notarize(&vote)).collect()
        }
        Activity::ConflictingFinalize(both) => {
            let mut bytes = both.encode();
            std::iter::from_fn(|| Finalize::read(&mut bytes).ok()).take(2).map(|vote| finalize(&vote)).collect()
        }
        Activity::NullifyFinalize(both) => {
            let mut bytes = both.encode();
            let first = Nullify::read(&mut bytes).ok().map(|vote| nullify(&vote));
            let second = Finalize::read(&mut bytes).ok().map(|vote| finalize(&vote));
            first.into_iter().chain(second).collect()
        }
    }
}

fn notarize(vote: &Notarize<Scheme, Digest>) -> Seen {
    let Notarize { proposal, attestation } = vote;
    (attestation.signer.into(), Ballot::Notarize(plain(proposal)), attestation.signature.encode().into())
}

fn nullify(vote: &Nullify<Scheme>) -> Seen {
    (vote.attestation.signer.into(), Ballot::Nullify, vote.attestation.signature.encode().into())
}

fn finalize(vote: &Finalize<Scheme, Digest>) -> Seen {
    let Finalize { proposal, attestation } = vote;
    (attestation.signer.into(), Ballot::Finalize(plain(proposal)), attestation.signature.encode().into())
}

fn all(certificate: &Certificate, ballot: Ballot) -> Vec<Seen> {
    let votes = certificate.signers.iter().zip(&certificate.signatures);
    votes.map(|(signer, signature)| (signer.into(), ballot, signature.encode().into())).collect()
}

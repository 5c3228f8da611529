//! Proofs that a member of a cluster did what no honest one does, in a form that the chain verifies by itself.
//!
//! Upon two votes of one member in one view that exclude each other: a [`DoubleVote`]. An honest member notarizes one
//! proposal of a view, and finalizes one or nullifies the view. A test of `phala-consensus` holds the form of votes
//! against what its engine signs.
//!
//! Upon a receipt that names another state than a quorum has certified for the same height: a [`WrongResult`]. Both must
//! be of one epoch. An epoch's log is one history up to whatever its quorum finalised, so that two roots at one height
//! exclude each other; across epochs they need not, because a cluster may have been recovered below what it had reached.
//!
//! Deliberately absent: silence and slowness, which nobody can prove.

use crate::{
    AccountId, CertificateError, ClusterId, EntryHeader, Finality, Hash, PublicKey, RequestId,
    certificate::vote_message,
    records::{Offence, OffenceKind, cluster_namespace},
};
use codec::{Decode, DecodeAll, Encode};

/// Longest encoded [`Misbehaviour`], in bytes.
pub const MAX_MISBEHAVIOUR: usize = 16 << 10;

/// What a vote is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Proposal {
    /// View of the proposal's parent.
    pub parent_view: u64,
    /// Digest of the block or entry.
    pub digest: Hash,
}

/// What a member says in a view.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Ballot {
    /// The proposal is good.
    Notarize(Proposal),
    /// Nothing of this view is to be final.
    Nullify,
    /// The proposal is final.
    Finalize(Proposal),
}

impl Ballot {
    /// Whether no honest member says both in one view.
    pub fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Notarize(one), Self::Notarize(two)) | (Self::Finalize(one), Self::Finalize(two)) => one != two,
            (Self::Nullify, Self::Finalize(_)) | (Self::Finalize(_), Self::Nullify) => true,
            _ => false,
        }
    }
}

/// A ballot and the signature under it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Vote {
    /// What it says.
    pub ballot: Ballot,
    /// ed25519, see [`Vote::message`].
    pub signature: [u8; 64],
}

impl Vote {
    /// The bytes that the member signed, laid out as in [`crate::Certificate::message`].
    pub fn message(&self, namespace: &[u8], epoch: u64, view: u64) -> Vec<u8> {
        let (kind, proposal): (&[u8], _) = match &self.ballot {
            Ballot::Notarize(proposal) => (b"_NOTARIZE", Some(proposal)),
            Ballot::Nullify => (b"_NULLIFY", None),
            Ballot::Finalize(proposal) => (b"_FINALIZE", Some(proposal)),
        };
        vote_message(namespace, kind, (epoch, view), proposal.map(|proposal| (proposal.parent_view, &proposal.digest)))
    }

    /// Whether this identity gave it, by the rules by which its peers count votes.
    pub fn is_by(&self, identity: &PublicKey, namespace: &[u8], epoch: u64, view: u64) -> bool {
        ed25519_zebra::VerificationKey::try_from(*identity)
            .and_then(|key| key.verify(&self.signature.into(), &self.message(namespace, epoch, view)))
            .is_ok()
    }
}

/// Two votes of one member in one view that exclude each other.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct DoubleVote {
    /// Who gave both.
    pub identity: PublicKey,
    /// Epoch of the log.
    pub epoch: u64,
    /// The view.
    pub view: u64,
    /// One of them.
    pub first: Vote,
    /// The other.
    pub second: Vote,
}

impl DoubleVote {
    /// Whether the identity gave both votes in a log with this namespace, and they exclude each other. That it was a
    /// member in that epoch is for the caller to know.
    pub fn verify(&self, namespace: &[u8]) -> Result<(), MisbehaviourError> {
        if !self.first.ballot.excludes(&self.second.ballot) {
            return Err(MisbehaviourError::NoConflict);
        }
        let given = |vote: &Vote| vote.is_by(&self.identity, namespace, self.epoch, self.view);
        if given(&self.first) && given(&self.second) { Ok(()) } else { Err(MisbehaviourError::Signature) }
    }
}

/// What the receipt of a query says.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct QueryClaim {
    /// Contract that answered.
    pub contract: AccountId,
    /// The client's name for the request.
    pub request_id: RequestId,
    /// Hash of the query.
    pub query_hash: Hash,
    /// Cluster of the contract.
    pub cluster: ClusterId,
    /// Its epoch.
    pub epoch: u64,
    /// Height of the last entry in the state that was read.
    pub height: u64,
    /// Digest of that entry.
    pub entry: Hash,
    /// Time of that entry, in milliseconds since 1970.
    pub entry_time_ms: u64,
    /// Root of that state.
    pub state_root: Hash,
    /// The replica's clock, in milliseconds since 1970.
    pub time_ms: u64,
    /// Hash of the output.
    pub reply_hash: Hash,
}

/// What the receipt of a command says.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct CommandClaim {
    /// Entry that holds the command.
    pub entry: EntryHeader,
    /// Place of the command in it.
    pub index: u32,
    /// Hash of the command.
    pub command: Hash,
    /// Root of the state after the entry.
    pub state_root: Hash,
    /// Hash of the outcome.
    pub outcome_hash: Hash,
}

/// What a worker's identity has signed about a state.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[allow(clippy::large_enum_variant, reason = "there are never many of it")]
pub enum Claim {
    /// In the receipt of a query.
    Query(QueryClaim),
    /// In the receipt of a command.
    Command(Box<CommandClaim>),
}

impl QueryClaim {
    /// The bytes that the replica signs.
    pub fn message(&self, genesis: &Hash) -> Vec<u8> {
        let state = (self.height, self.entry, self.entry_time_ms, self.state_root);
        let place = (self.cluster, self.epoch, state, self.time_ms);
        let question = (self.contract, self.request_id, self.query_hash);
        ("phala/receipt/query/v2", genesis, question, place, self.reply_hash).encode()
    }
}

impl CommandClaim {
    /// The bytes that the replica signs.
    pub fn message(&self, genesis: &Hash) -> Vec<u8> {
        let place = (self.entry.digest(), self.index);
        ("phala/receipt/command/v1", genesis, place, self.command, self.state_root, self.outcome_hash).encode()
    }
}

impl Claim {
    /// The bytes that the replica signs.
    pub fn message(&self, genesis: &Hash) -> Vec<u8> {
        match self {
            Self::Query(claim) => claim.message(genesis),
            Self::Command(claim) => claim.message(genesis),
        }
    }

    /// Cluster, epoch and height that it is about.
    pub fn place(&self) -> (ClusterId, u64, u64) {
        match self {
            Self::Query(claim) => (claim.cluster, claim.epoch, claim.height),
            Self::Command(claim) => (claim.entry.cluster, claim.entry.epoch, claim.entry.height),
        }
    }

    /// Root of the state at that height, by this claim.
    pub fn state_root(&self) -> Hash {
        match self {
            Self::Query(claim) => claim.state_root,
            Self::Command(claim) => claim.state_root,
        }
    }
}

/// A receipt, and a later entry with which a quorum says otherwise.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct WrongResult {
    /// Who signed the receipt.
    pub identity: PublicKey,
    /// What the receipt says.
    pub claim: Claim,
    /// ed25519 by the identity.
    pub signature: [u8; 64],
    /// Header of an entry that names the state at the receipt's height.
    pub header: EntryHeader,
    /// Why that entry is final.
    pub finality: Finality,
}

impl WrongResult {
    fn verify(&self, genesis: &Hash, cluster: ClusterId, members: &[PublicKey]) -> Result<(), MisbehaviourError> {
        let (of, epoch, height) = self.claim.place();
        if of != cluster || self.header.cluster != cluster || self.header.epoch != epoch {
            return Err(MisbehaviourError::Elsewhere);
        }
        let executed = &self.header.executed;
        if height == 0 || executed.height != height || executed.state_root == self.claim.state_root() {
            return Err(MisbehaviourError::NoConflict);
        }
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.identity);
        key.and_then(|key| key.verify_strict(&self.claim.message(genesis), &self.signature.into()))
            .map_err(|_| MisbehaviourError::Signature)?;
        if !self.header.is_subject_of(&self.finality) {
            return Err(MisbehaviourError::Elsewhere);
        }
        Ok(self.finality.certificate.verify(&cluster_namespace(genesis, cluster), members)?)
    }
}

/// Proof that a member of a cluster is faulty or hostile.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[allow(clippy::large_enum_variant, reason = "there are never many of it")]
pub enum Misbehaviour {
    /// It voted against itself.
    Votes(DoubleVote),
    /// It vouched for a state that the cluster does not have.
    Result(Box<WrongResult>),
}

impl Misbehaviour {
    /// Reads an encoded proof. For hostile input.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_MISBEHAVIOUR {
            return None;
        }
        Self::decode_all(&mut &*bytes).ok()
    }

    /// Who did it.
    pub fn identity(&self) -> PublicKey {
        match self {
            Self::Votes(votes) => votes.identity,
            Self::Result(result) => result.identity,
        }
    }

    /// The epoch in which it did.
    pub fn epoch(&self) -> u64 {
        match self {
            Self::Votes(votes) => votes.epoch,
            Self::Result(result) => result.header.epoch,
        }
    }

    /// The offence as the chain records it.
    pub fn offence(&self, cluster: ClusterId) -> Offence {
        let kind = match self {
            Self::Votes(_) => OffenceKind::DoubleVote,
            Self::Result(_) => OffenceKind::WrongResult,
        };
        Offence { cluster, epoch: self.epoch(), identity: self.identity(), kind }
    }

    /// Whether it proves that one of `members`, the identities of the epoch, is guilty.
    pub fn verify(&self, genesis: &Hash, cluster: ClusterId, members: &[PublicKey]) -> Result<(), MisbehaviourError> {
        if !members.contains(&self.identity()) {
            return Err(MisbehaviourError::NotMember);
        }
        match self {
            Self::Votes(votes) => votes.verify(&cluster_namespace(genesis, cluster)),
            Self::Result(result) => result.verify(genesis, cluster, members),
        }
    }
}

/// Why a proof of misbehaviour proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MisbehaviourError {
    /// The accused was no member of that epoch.
    #[error("the accused was no member of that epoch")]
    NotMember,
    /// An honest member may have signed both.
    #[error("an honest member may have signed both")]
    NoConflict,
    /// The parts are of different clusters, epochs or entries.
    #[error("the parts are of different clusters, epochs or entries")]
    Elsewhere,
    /// The accused did not sign it.
    #[error("the accused did not sign it, or not on this network")]
    Signature,
    /// The entry that contradicts is not final.
    #[error("the entry that contradicts is not final: {0}")]
    Finality(#[from] CertificateError),
}

#[cfg(test)]
mod tests;

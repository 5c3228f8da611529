//! Log entries as clients see them, outcomes, and receipts that prove answers.

use crate::{Query, wire::signed};
use codec::{Decode, Encode};
use ed25519_dalek::{Signer, SigningKey};
use phala_primitives::{
    Certificate, CertificateError, ClusterId, Code, Coded, EntryHeader, Hash, MAX_DESCENDANTS, PublicKey, RequestId,
    blake2_256, merkle,
    misbehaviour::{CommandClaim, QueryClaim},
    records::cluster_namespace,
};
use std::fmt;

/// What a contract returned.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Output {
    /// Return flags of the contract; bit 0 says that it reverted, and its changes were undone.
    pub flags: u32,
    /// Return value, encoded by the contract.
    pub data: Vec<u8>,
}

impl Output {
    /// Whether the contract reverted.
    pub fn reverted(&self) -> bool {
        self.flags & 1 == 1
    }

    /// What a receipt names as the answer.
    pub fn hash(&self) -> Hash {
        blake2_256(&self.encode())
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Output {{ flags: {}, {} bytes }}", self.flags, self.data.len())
    }
}

/// What came of a command. Equal on every replica.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Outcome {
    /// What the contract returned, or why it did not.
    pub result: Result<Output, Coded>,
    /// Gas used.
    pub gas_used: u64,
}

impl Outcome {
    /// What a receipt names as the outcome.
    pub fn hash(&self) -> Hash {
        blake2_256(&self.encode())
    }
}

/// Why a receipt proves nothing. All of these mean: do not trust the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// It is about another question or answer.
    #[error("the receipt is about another question or answer")]
    Mismatch,
    /// It names a state older than asked for.
    #[error("the receipt names height {have}, asked for was {need}")]
    Stale {
        /// Height in the receipt.
        have: u64,
        /// Height asked for.
        need: u64,
    },
    /// The signer is no member of the cluster.
    #[error("the receipt's signer is no member of the cluster")]
    NotMember,
    /// The replica's signature is wrong.
    #[error("the replica's signature is wrong")]
    Signature,
    /// The command is not in the entry.
    #[error("the command is not in the entry")]
    NotIncluded,
    /// The entry is not final.
    #[error("the entry is not final: {0}")]
    Finality(#[from] CertificateError),
}

impl From<ReceiptError> for Coded {
    fn from(error: ReceiptError) -> Self {
        Coded::new(Code::BadReceipt, error.to_string())
    }
}

/// A replica's word for the answer to a query.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct QueryReceipt {
    /// What was answered, and from which state. The chain can judge it.
    pub claim: QueryClaim,
    /// ed25519 by the replica's identity over [`QueryClaim::message`].
    pub signature: [u8; 64],
}

impl QueryReceipt {
    /// Signs with the replica's identity.
    pub fn sign(claim: QueryClaim, genesis: &Hash, identity: &SigningKey) -> Self {
        let signature = identity.sign(&claim.message(genesis)).to_bytes();
        Self { claim, signature }
    }

    /// Whether `identity` stands for `output` being the answer to `query`, sent as `request_id`, from a state not
    /// older than the query asks for. That `identity` is a member of the cluster is for the caller to know.
    pub fn verify(
        &self,
        identity: &PublicKey,
        genesis: &Hash,
        request_id: &RequestId,
        query: &Query,
        output: &Output,
    ) -> Result<(), ReceiptError> {
        let claim = &self.claim;
        if claim.contract != query.contract
            || claim.request_id != *request_id
            || claim.query_hash != query.hash()
            || claim.reply_hash != output.hash()
        {
            return Err(ReceiptError::Mismatch);
        }
        if claim.height < query.min_height {
            return Err(ReceiptError::Stale { have: claim.height, need: query.min_height });
        }
        if !signed(identity, &claim.message(genesis), &self.signature) {
            return Err(ReceiptError::Signature);
        }
        Ok(())
    }
}

/// Proof that a command is final, and a replica's word for its outcome.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct CommandReceipt {
    /// Entry that holds the command.
    pub header: EntryHeader,
    /// Headers of the entries above it up to the certified one; mostly empty, because most entries have their own
    /// certificate.
    pub descendants: Vec<EntryHeader>,
    /// By which the cluster finalised the entry, itself or with a descendant.
    pub certificate: Certificate,
    /// Place of the command in the entry.
    pub index: u32,
    /// Merkle path of the command's hash to `header.commands_root`.
    pub path: Vec<Hash>,
    /// Root of the state after the entry.
    pub state_root: Hash,
    /// Hash of the [`Outcome`].
    pub outcome_hash: Hash,
    /// Identity that signs for the outcome.
    pub identity: PublicKey,
    /// ed25519 by `identity` over `("phala/receipt/command/v1", genesis, entry digest, index, command hash, state
    /// root, outcome hash)`.
    pub signature: [u8; 64],
}

impl CommandReceipt {
    fn message(&self, genesis: &Hash, command: &Hash) -> Vec<u8> {
        self.claim(command).message(genesis)
    }

    /// What the replica signs of a command of this hash, as the chain can judge it.
    pub fn claim(&self, command: &Hash) -> CommandClaim {
        CommandClaim {
            entry: self.header.clone(),
            index: self.index,
            command: *command,
            state_root: self.state_root,
            outcome_hash: self.outcome_hash,
        }
    }

    /// Follows the descendants, each of which must build on the one before.
    fn certified_digest(&self, mut digest: Hash) -> Option<Hash> {
        for header in self.descendants.get(..self.descendants.len().min(MAX_DESCENDANTS + 1))? {
            if header.parent != digest || header.epoch != self.header.epoch {
                return None;
            }
            digest = header.digest();
        }
        (self.descendants.len() <= MAX_DESCENDANTS).then_some(digest)
    }

    /// Signs with the replica's identity and names it; what `identity` and `signature` held before does not matter.
    pub fn sign(mut self, genesis: &Hash, command: &Hash, identity: &SigningKey) -> Self {
        self.identity = identity.verifying_key().to_bytes();
        self.signature = identity.sign(&self.message(genesis, command)).to_bytes();
        self
    }

    /// Whether the command is in a final entry of `cluster`, decided by `members` (the identities of the epoch
    /// `header.epoch`, which the caller took from the chain), and `signer` stands for the outcome: the replica that
    /// answers, which the caller knows to be a member now. It need not have been one when the entry was decided.
    pub fn verify(
        &self,
        genesis: &Hash,
        cluster: ClusterId,
        members: &[PublicKey],
        signer: &PublicKey,
        command: &Hash,
        outcome: &Outcome,
    ) -> Result<(), ReceiptError> {
        let (header, digest) = (&self.header, self.header.digest());
        if self.outcome_hash != outcome.hash()
            || header.cluster != cluster
            || self.certified_digest(digest) != Some(self.certificate.digest)
            || self.certificate.epoch != header.epoch
        {
            return Err(ReceiptError::Mismatch);
        }
        let (count, index) = (header.count as usize, self.index as usize);
        if !merkle::verify(&header.commands_root, count, index, command, &self.path) {
            return Err(ReceiptError::NotIncluded);
        }
        if self.identity != *signer {
            return Err(ReceiptError::NotMember);
        }
        if !signed(&self.identity, &self.message(genesis, command), &self.signature) {
            return Err(ReceiptError::Signature);
        }
        Ok(self.certificate.verify(&cluster_namespace(genesis, cluster), members)?)
    }
}

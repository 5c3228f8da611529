//! What crosses the wire.

use crate::{CommandId, CommandReceipt, Outcome, Output, QueryReceipt, SignedCertificate, SignedCommand};
use codec::{Decode, Encode};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use phala_primitives::{
    AccountId, Balance, Code, Coded, EntryHeader, Finality, Hash, PublicKey, RequestId, blake2_256, limits::MAX_MESSAGE,
};
use std::fmt;

/// Version of the protocol, first byte of every envelope.
pub const VERSION: u8 = 1;
/// The largest padded plaintext, in bytes: what is left of a message beside header, key share and tag.
pub const MAX_PADDED: usize = MAX_MESSAGE - 1024;

/// Name of a session key: the first 8 bytes of its hash.
pub type KeyId = [u8; 8];

/// A replica's key for requests.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct SessionKey {
    /// X25519 public key.
    pub key: [u8; 32],
    /// Genesis hash of the network.
    pub genesis: Hash,
    /// Account of the worker.
    pub worker: AccountId,
    /// When the key was made, in milliseconds since 1970.
    pub not_before_ms: u64,
    /// When the replica wipes it. A client should ask for the next key well before.
    pub not_after_ms: u64,
}

/// A session key that a worker's identity stands for. Published in `/v1/info`.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct SignedSessionKey {
    /// The key.
    pub body: SessionKey,
    /// ed25519 by the identity over `("phala/session-key/v1", body)`.
    pub signature: [u8; 64],
}

impl SessionKey {
    /// How envelopes name the key.
    pub fn id(&self) -> KeyId {
        let [a, b, c, d, e, f, g, h, ..] = blake2_256(&self.key).0;
        [a, b, c, d, e, f, g, h]
    }

    fn message(&self) -> Vec<u8> {
        ("phala/session-key/v1", self).encode()
    }

    /// Signs the key with the worker's identity.
    pub fn sign(self, identity: &SigningKey) -> SignedSessionKey {
        let signature = identity.sign(&self.message()).to_bytes();
        SignedSessionKey { body: self, signature }
    }
}

impl SignedSessionKey {
    /// The key, if it is this worker's, of this network, valid now, and signed by `identity`, which the caller took
    /// from the chain.
    pub fn verify(
        &self,
        identity: &PublicKey,
        genesis: &Hash,
        worker: &AccountId,
        now_ms: u64,
    ) -> Result<&SessionKey, Coded> {
        if self.body.genesis != *genesis {
            return Err(Code::WrongNetwork.into());
        }
        if self.body.worker != *worker {
            return Err(Code::WrongAddress.into());
        }
        if !signed(identity, &self.body.message(), &self.signature) {
            return Err(Coded::new(Code::BadSignature, "of the session key, by the worker's identity"));
        }
        if now_ms >= self.body.not_after_ms {
            return Err(Coded::new(Code::UnknownKey, "the session key has ended"));
        }
        Ok(&self.body)
    }
}

/// Whether `key` signed `message`.
pub(crate) fn signed(key: &PublicKey, message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

/// Whom a request is for, in the clear, so that it can be routed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Target {
    /// A contract: queries and calls.
    Contract(AccountId),
    /// The worker itself: uploads, instantiations, outcomes and the opening of sessions.
    Worker(AccountId),
}

/// The part of an envelope that is in the clear, but authentic.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Header {
    /// Genesis hash of the network.
    pub genesis: Hash,
    /// Whom it is for.
    pub target: Target,
    /// Session key that it is sealed to.
    pub key_id: KeyId,
    /// Drawn at random by the client, never used twice.
    pub request_id: RequestId,
    /// The request dies when the chain is higher than this.
    pub max_height: u32,
}

impl Header {
    /// What the encryption authenticates besides the plaintext.
    pub fn aad(&self) -> Vec<u8> {
        (VERSION, self).encode()
    }
}

/// A sealed request.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Envelope {
    /// [`VERSION`].
    pub version: u8,
    /// Routing and freshness.
    pub header: Header,
    /// HPKE's encapsulated key.
    pub enc: [u8; 32],
    /// Padded [`Request`] and tag.
    pub ciphertext: Vec<u8>,
}

/// What a client asks, and with what right.
#[allow(clippy::large_enum_variant, reason = "moved once, never stored in numbers")]
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Request {
    /// Anything that changes no state.
    Signed {
        /// Who asks.
        certificate: SignedCertificate,
        /// What.
        operation: Operation,
        /// By the certificate's key over [`Operation::message`].
        signature: [u8; 64],
    },
    /// A change of state.
    Command(SignedCommand),
}

/// What a client may ask without changing state.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Operation {
    /// A read-only call.
    Query(Query),
    /// A session of many requests.
    Open,
    /// What became of a command of this account.
    Outcome(CommandId),
    /// Records of a contract's log.
    Logs(LogQuery),
    /// What the account owns in the cluster, or a contract of which it is the owner.
    #[codec(index = 4)]
    Balance(BalanceQuery),
    /// A part of a query that another member of the cluster answers. Only members may ask: their identity is the account.
    #[codec(index = 7)]
    Part(PartQuery),
    /// What a command would come to.
    #[codec(index = 8)]
    Rehearse(Rehearsal),
    /// Headers of the cluster's entries from this height on, by which a client ties a receipt to what the chain knows.
    #[codec(index = 9)]
    History(u64),
    /// Header of the entry of this height, and why it is final.
    #[codec(index = 10)]
    Final(u64),
}

impl Operation {
    /// What the certificate's key signs for a request under a header with this `aad`.
    pub fn message(&self, aad: &[u8]) -> Vec<u8> {
        ("phala/request/v2", blake2_256(aad), blake2_256(&self.encode())).encode()
    }
}

/// A read-only call.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Query {
    /// The contract.
    pub contract: AccountId,
    /// Selector and arguments.
    pub data: Vec<u8>,
    /// Money of the account that goes to the contract. It is there for the query's own time only.
    pub value: Balance,
    /// Height of the command log below which the state would be too old; 0 if any will do. A client puts here the
    /// height of its last command's receipt to read what it wrote.
    pub min_height: u64,
    /// How new the state has to be besides.
    pub freshness: Freshness,
}

/// How new the state is that answers a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub enum Freshness {
    /// As new as the replica has it.
    #[default]
    Any,
    /// The result of an entry that is at most so many milliseconds old. The receipt tells.
    Bounded(u64),
    /// With everything that was acknowledged to anyone before the query was sent. The replica orders an entry in the
    /// cluster's log for it; that it did is its enclave's word.
    Linearizable,
}

impl Query {
    /// What a receipt names as the question.
    pub fn hash(&self) -> Hash {
        blake2_256(&self.encode())
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Query {{ {}, {} bytes }}", self.contract, self.data.len())
    }
}

/// A part of a query, on the state that the query sees.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct PartQuery {
    /// Root of that state. A replica that does not hold it refuses.
    pub root: Hash,
    /// Height of the log's entry that it is the result of.
    pub height: u64,
    /// Time of that entry, in milliseconds since 1970.
    pub time_ms: u64,
    /// The contract that was asked.
    pub account: AccountId,
    /// The contract that is called, by itself.
    pub contract: AccountId,
    /// Who signed the query.
    pub origin: AccountId,
    /// Selector and arguments.
    pub data: Vec<u8>,
    /// After how long it is of no use any more, in milliseconds.
    pub patience_ms: u64,
}

impl fmt::Debug for PartQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartQuery {{ {}, {} bytes }}", self.contract, self.data.len())
    }
}

/// A command that is tried on one replica, with the meter on, and leaves nothing.
///
/// It is executed as if it stood in the next entry, but at a place in it that no command has: random numbers of
/// commands are others than those to come.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Rehearsal {
    /// The contract.
    pub contract: AccountId,
    /// Code of a contract that is to be created there; without it, a message is called of the one that is there.
    pub code: Option<Vec<u8>>,
    /// Selector and arguments.
    pub data: Vec<u8>,
    /// Money of the account that goes along.
    pub value: Balance,
    /// Most gas that it may use.
    pub gas_limit: u64,
}

impl fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rehearsal {{ {}, {} bytes }}", self.contract, self.data.len())
    }
}

/// What a command would have come to: the replica's word, without a receipt.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Rehearsed {
    /// The outcome.
    pub outcome: Outcome,
    /// What the contract would have said, to those who may read its log. That includes what it printed before it failed.
    pub said: Vec<Said>,
    /// Height of the state on which it was tried.
    pub height: u64,
}

/// Which records of a contract's log are wanted. The owner of the contract may read it, and whom the contract allows.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct LogQuery {
    /// The contract.
    pub contract: AccountId,
    /// What queries said to this replica, instead of what commands said to all.
    pub queries: bool,
    /// Number of the first record.
    pub from: u64,
    /// Most records.
    pub limit: u32,
    /// How long to wait for one if there is none, in milliseconds.
    pub wait_ms: u32,
    /// Height of the command log below which the records of commands would be too old, as in a [`Query`].
    pub min_height: u64,
}

/// Whose money is asked after.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct BalanceQuery {
    /// The account that asks, or a contract of which it is the owner.
    pub account: AccountId,
    /// Height of the command log below which the state would be too old, as in a [`Query`].
    pub min_height: u64,
}

/// Records of a contract's log.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct LogPage {
    /// In order of their numbers, which may have gaps where old ones were forgotten.
    pub records: Vec<LogRecord>,
    /// What to ask from next.
    pub next: u64,
    /// The contract's events before these records. With the events among them, it gives what the next page begins with;
    /// what it comes to at the end, the contract itself can tell, so that nobody can withhold one unnoticed.
    pub events: EventChain,
}

/// All events that a contract has emitted, as a number and a hash that depends on each of them and their order.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Encode, Decode)]
pub struct EventChain {
    /// How many.
    pub count: u64,
    /// BLAKE2b-256 over `("phala/event/v1", head before, contract, topics, data)` of the last one; zero before the first.
    pub head: Hash,
}

impl EventChain {
    /// With what a contract said after them; lines of text are no events.
    pub fn with(self, contract: &AccountId, said: &Said) -> Self {
        let Said::Event { topics, data } = said else { return self };
        let head = blake2_256(&("phala/event/v1", self.head, contract, topics, data).encode());
        Self { count: self.count.saturating_add(1), head }
    }
}

/// Something that a contract said.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct LogRecord {
    /// Its number in the contract's log.
    pub number: u64,
    /// Height of the entry whose command said it; of the state, for a query.
    pub height: u64,
    /// Time of that entry, in milliseconds since 1970.
    pub time_ms: u64,
    /// What it said.
    pub said: Said,
}

/// What a contract said.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum Said {
    /// An event, as its metadata describes.
    Event {
        /// What it may be searched by.
        topics: Vec<Hash>,
        /// SCALE-encoded content.
        data: Vec<u8>,
    },
    /// A line of text.
    Line {
        /// 1 (error) to 5 (trace).
        level: u8,
        /// The text.
        text: String,
    },
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event { data, .. } => write!(f, "Event {{ {} bytes }}", data.len()),
            Self::Line { level, text } => write!(f, "Line {{ level {level}, {} bytes }}", text.len()),
        }
    }
}

impl fmt::Debug for LogRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogRecord {{ {}, entry {} }}", self.number, self.height)
    }
}

/// One request inside a session.
#[allow(clippy::large_enum_variant, reason = "moved once, never stored in numbers")]
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Call {
    /// A read-only call.
    Query(Query),
    /// A change of state. Its certificate may differ from the session's.
    Command(SignedCommand),
    /// What became of a command of this account.
    Outcome(CommandId),
    /// Records of a contract's log.
    Logs(LogQuery),
    /// What the account owns in the cluster, or a contract of which it is the owner.
    #[codec(index = 4)]
    Balance(BalanceQuery),
    /// A part of a query that another member answers.
    #[codec(index = 7)]
    Part(PartQuery),
    /// Records of a contract's log from a number on, as they come: each reply with this request's id is a page that
    /// goes on where the last one ended, until one is an error. `wait_ms` means nothing here.
    #[codec(index = 5)]
    Follow(LogQuery),
    /// The end of what this request asked to follow. It has no reply.
    #[codec(index = 6)]
    Unfollow(RequestId),
    /// What a command would come to.
    #[codec(index = 8)]
    Rehearse(Rehearsal),
    /// Headers of the cluster's entries from this height on.
    #[codec(index = 9)]
    History(u64),
    /// Header of the entry of this height, and why it is final.
    #[codec(index = 10)]
    Final(u64),
}

/// Plaintext of a frame from the client.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct FrameRequest {
    /// Drawn at random; the reply carries it and receipts name it.
    pub request_id: RequestId,
    /// What is asked.
    pub call: Call,
}

/// Plaintext of a frame from the replica.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct FrameReply {
    /// Which request it answers.
    pub request_id: RequestId,
    /// The answer.
    pub reply: Result<Answer, Coded>,
}

/// An answer.
#[allow(clippy::large_enum_variant, reason = "moved once, never stored in numbers")]
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Answer {
    /// To a query.
    Query {
        /// What the contract returned.
        output: Output,
        /// The replica's word for it.
        receipt: QueryReceipt,
    },
    /// To a command, or to a question after its outcome.
    Command {
        /// What came of it.
        outcome: Outcome,
        /// Proof of its place in the log.
        receipt: Box<CommandReceipt>,
    },
    /// To the opening of a session.
    Opened(Opening),
    /// To a question after a contract's log.
    Logs(LogPage),
    /// To a question after a balance.
    Balance(Balance),
    /// To a part of a query: what the contract returned.
    #[codec(index = 7)]
    Part(Output),
    /// To a rehearsal.
    #[codec(index = 8)]
    Rehearsed(Rehearsed),
    /// To a question after headers: the first ones, up to [`MAX_HEADERS`].
    #[codec(index = 9)]
    History(Vec<EntryHeader>),
    /// To a question after an entry.
    #[codec(index = 10)]
    Final(Box<(EntryHeader, Finality)>),
}

/// Most headers in an answer.
pub const MAX_HEADERS: usize = 512;

/// Terms of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Opening {
    /// When the session ends, in milliseconds since 1970.
    pub expires_ms: u64,
}

/// What comes back for an envelope.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Response {
    /// 12 bytes of nonce, then padded `Result<Answer, Coded>` and tag.
    Sealed(Vec<u8>),
    /// The envelope could not be opened. Not authentic: anyone on the way may have written it.
    Refused(Coded),
}

//! What the chain stores about workers, clusters, code and contracts. Light clients read these through proofs, so
//! the encodings are frozen by tests.

use crate::{AccountId, Balance, ClusterId, Hash, PublicKey};
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// How much an appraisal of evidence is worth, best first.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub enum Tier {
    /// Hardware, up to date, listed.
    A,
    /// Hardware, up to date.
    B,
    /// Hardware that needs configuration or software hardening.
    C,
    /// Hardware out of date, within its grace period.
    D,
    /// Measured by a TPM only: not confidential.
    T,
    /// SIMULATED: never to be trusted with secrets.
    S,
}

/// The chain's judgement of a worker's evidence.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo)]
pub struct Appraisal {
    /// What the evidence is worth.
    pub tier: Tier,
    /// Measurement of the program that runs in the enclave.
    pub measurement: Hash,
    /// When the appraisal ends, in milliseconds since 1970.
    pub expires: u64,
}

/// One worker. The identity is that of its present start; a restart replaces it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct WorkerRecord {
    /// Who runs the machine.
    pub operator: AccountId,
    /// ed25519 key made at the present start: signs votes, receipts and session keys, and names the peer.
    pub identity: PublicKey,
    /// X25519 key made at the present start, to which the cluster's keys are sealed.
    pub recipient: [u8; 32],
    /// Base URL for clients, UTF-8, at most 256 bytes.
    pub endpoint: Vec<u8>,
    /// Socket address for members of its cluster, UTF-8, at most 128 bytes.
    pub peer: Vec<u8>,
    /// Judgement of the evidence that came with the registration.
    pub appraisal: Appraisal,
}

/// A seat in a cluster.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo)]
pub struct Member {
    /// The worker's account.
    pub worker: AccountId,
    /// The identity that votes in this epoch.
    pub identity: PublicKey,
}

/// A place in a command log: nothing below it is open to question.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Anchor {
    /// Height of the entry; 0 before the first.
    pub height: u64,
    /// Digest of the entry; zero before the first.
    pub digest: Hash,
}

/// A cluster in its present epoch.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct ClusterRecord {
    /// Number of the epoch; grows by one with each change of members or identities.
    pub epoch: u64,
    /// Members of the epoch, at most `MAX_MEMBERS`.
    pub members: Vec<Member>,
    /// Where the epoch's log starts.
    pub floor: Anchor,
    /// The newest entry of the log that the chain was shown.
    pub checkpoint: Checkpoint,
    /// Workers that are to be the members, once those that are new hold the log; empty if there is no change to come.
    pub wanted: Vec<AccountId>,
    /// Workers that follow the log without a vote and answer queries, at most [`MAX_READERS`](crate::limits::MAX_READERS).
    pub readers: Vec<AccountId>,
}

/// An entry of a cluster's log that the chain was shown to be final: the cluster never goes back behind it.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Checkpoint {
    /// The entry.
    pub anchor: Anchor,
    /// Epoch of the entry.
    pub epoch: u64,
    /// Number of the block in which the chain was shown it.
    pub block: u32,
    /// When the cluster last gave a sign of life, in milliseconds since 1970: it showed a new entry, or began an epoch.
    pub alive_ms: u64,
}

/// How a cluster gets from its present epoch to the next.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub enum Plan {
    /// The members finish the epoch's log with an entry that names these members of the next.
    Seal {
        /// Members of the next epoch.
        members: Vec<Member>,
    },
    /// Too many members have started anew for the epoch's log to go on. Each, restarted or not, reports how far it got.
    Report,
}

/// Whether an entry is the last of its epoch's log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub enum Seal {
    /// The log goes on.
    #[default]
    Open,
    /// It is the last one, and names the members of the next epoch, see [`seal`].
    Last(Hash),
    /// It lies behind the last one, makes that final, and is nothing besides.
    Behind,
}

/// What the last entry of an epoch names: the members of the next, in the cluster's `epoch`.
pub fn seal(cluster: ClusterId, epoch: u64, members: &[Member]) -> Hash {
    crate::blake2_256(&(b"phala/seal/v1", cluster, epoch, members).encode())
}

/// A worker that was convicted of misbehaviour. Until the block named it gets no seat.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo)]
pub struct ConvictionRecord {
    /// How often it was convicted, each time for another offence.
    pub count: u32,
    /// Number of the block from which on it may offer itself again.
    pub barred_until: u32,
    /// The offence that it was convicted of last.
    pub latest: Offence,
}

/// What one identity did wrong in one epoch. It counts once, however often it did it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo)]
pub struct Offence {
    /// The cluster.
    pub cluster: ClusterId,
    /// Epoch of the cluster.
    pub epoch: u64,
    /// The identity that signed.
    pub identity: PublicKey,
    /// What it did.
    pub kind: OffenceKind,
}

/// What no honest member does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo)]
pub enum OffenceKind {
    /// It gave two votes that exclude each other.
    DoubleVote,
    /// It vouched for a state other than the one that a quorum has.
    WrongResult,
}

/// Code of contracts. The bytes themselves are with the clusters.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo)]
pub struct CodeRecord {
    /// Who uploaded it and gets the deposit back.
    pub owner: AccountId,
    /// Length in bytes.
    pub size: u32,
    /// Held while the code is stored.
    pub deposit: Balance,
}

/// A contract's place.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo)]
pub struct ContractRecord {
    /// Cluster that runs it.
    pub cluster: ClusterId,
    /// Hash of the code that it was created with, of which its address is made.
    pub code_hash: Hash,
    /// Who created it and may instantiate it.
    pub deployer: AccountId,
    /// Hash of the code that it is to run now.
    pub present_code: Hash,
    /// How often the deployer replaced its code. The cluster takes a version only above the one that it runs.
    pub version: u32,
    /// Whether the deployer may replace its code. Once it is false it stays so.
    pub upgradable: bool,
    /// How many replicas have to agree on the answer to a query before clients believe it; 1: no other is asked.
    pub audit: u32,
    /// How often it was to move to another cluster.
    pub moves: u32,
    /// The cluster that it is moving to, if it is.
    pub moving: Option<ClusterId>,
}

impl ContractRecord {
    /// A contract with the code that it is created with.
    pub fn new(cluster: ClusterId, code_hash: Hash, deployer: AccountId, upgradable: bool) -> Self {
        Self {
            cluster,
            code_hash,
            deployer,
            present_code: code_hash,
            version: 0,
            upgradable,
            audit: 1,
            moves: 0,
            moving: None,
        }
    }
}

/// Address of a contract: BLAKE2b-256 of the domain and of deployer, cluster, code hash and salt in SCALE.
pub fn contract_address(deployer: &AccountId, cluster: ClusterId, code_hash: &Hash, salt: &[u8]) -> AccountId {
    AccountId(crate::blake2_256(&(b"phala/contract/v1", deployer, cluster, code_hash, salt).encode()).0)
}

/// Namespace of the chain's votes.
pub fn chain_namespace(genesis: &Hash) -> Vec<u8> {
    [b"phala/chain/v1/".as_slice(), genesis.as_ref()].concat()
}

/// Namespace of a cluster's votes. The epoch is part of what is signed, so it need not be named here.
pub fn cluster_namespace(genesis: &Hash, cluster: ClusterId) -> Vec<u8> {
    [b"phala/cluster/v2/".as_slice(), genesis.as_ref(), &cluster.to_le_bytes()].concat()
}

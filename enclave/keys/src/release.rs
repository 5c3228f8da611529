//! Requests for keys, the checks before a release, and sealing to a worker.

use crate::ClusterKeys;
use codec::{Decode, Encode};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hpke::{
    Deserializable, Kem as _, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256,
    kem::X25519HkdfSha256,
};
use phala_primitives::{
    AccountId, ClusterId, Code, Coded, Hash,
    records::{ClusterRecord, WorkerRecord},
};
use rand_core::CryptoRng;
use std::ops::RangeInclusive;
use zeroize::Zeroizing;

/// `info` of the HPKE context.
const INFO: &[u8] = b"phala/keys/v1";

/// Epochs whose keys are released at once.
pub const MAX_EPOCHS: u64 = 1024;

pub(crate) type Kem = X25519HkdfSha256;

/// A worker's wish for the keys of its cluster.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct KeyRequest {
    /// Genesis hash of the network.
    pub genesis: Hash,
    /// The cluster.
    pub cluster: ClusterId,
    /// Oldest epoch whose keys it needs.
    pub since: u64,
    /// Epoch in which the worker has its seat, or is to follow into the next.
    pub epoch: u64,
    /// Account of the worker.
    pub worker: AccountId,
    /// X25519 key that the worker registered.
    pub recipient: [u8; 32],
    /// ed25519 by the worker's identity over `("phala/key-request/v2", fields above)`.
    pub signature: [u8; 64],
}

impl KeyRequest {
    /// A request signed by the worker's identity, for the keys of these epochs: the last is the present one.
    pub fn sign(
        genesis: Hash,
        cluster: ClusterId,
        epochs: RangeInclusive<u64>,
        worker: AccountId,
        recipient: [u8; 32],
        identity: &SigningKey,
    ) -> Self {
        let (since, epoch) = epochs.into_inner();
        let mut request = Self { genesis, cluster, since, epoch, worker, recipient, signature: [0; 64] };
        request.signature = identity.sign(&request.message()).to_bytes();
        request
    }

    fn message(&self) -> Vec<u8> {
        let (since, epoch) = (self.since, self.epoch);
        ("phala/key-request/v2", self.genesis, self.cluster, since, epoch, self.worker, self.recipient).encode()
    }

    /// The epochs whose keys answer it: from the oldest on, at most [`MAX_EPOCHS`]. For the others it is asked again.
    pub fn answered(&self) -> RangeInclusive<u64> {
        self.since..=self.epoch.min(self.since.saturating_add(MAX_EPOCHS - 1))
    }
}

/// What a key service knows of the chain: finalised state, verified by its own light client.
pub trait ChainView {
    /// Genesis hash of the network.
    fn genesis(&self) -> Hash;
    /// The present time, in milliseconds since 1970, not less than that of the newest final block.
    fn now_ms(&self) -> u64;
    /// Record of a worker.
    fn worker(&self, worker: &AccountId) -> Option<WorkerRecord>;
    /// Record of a cluster.
    fn cluster(&self, cluster: ClusterId) -> Option<ClusterRecord>;
}

/// Who releases keys to workers.
pub trait KeyService: Send + Sync {
    /// Releases the keys of a cluster to a member, to a worker that the chain wants as one, or to a reader: those of
    /// [`KeyRequest::answered`]. Fails with [`Code::WrongNetwork`], [`Code::NoSuchCluster`], [`Code::NotMember`],
    /// [`Code::AppraisalExpired`], [`Code::BadSignature`], or [`Code::Malformed`] if it asks for no epoch.
    fn release(
        &self,
        request: &KeyRequest,
        chain: &dyn ChainView,
        rng: &mut dyn CryptoRng,
    ) -> Result<SealedKeys, Coded>;

    /// What kind of service it is, for people. Contains the word SIMULATED if one machine holds the master secret.
    fn name(&self) -> &'static str;
}

/// What every service checks before it releases keys or a share of them.
pub fn check(request: &KeyRequest, chain: &dyn ChainView) -> Result<(), Coded> {
    if request.genesis != chain.genesis() {
        return Err(Code::WrongNetwork.into());
    }
    let cluster = chain.cluster(request.cluster).ok_or(Code::NoSuchCluster)?;
    if cluster.epoch != request.epoch {
        return Err(Coded::new(Code::NotMember, format!("the cluster is in epoch {}", cluster.epoch)));
    }
    if request.since > request.epoch {
        return Err(Coded::new(Code::Malformed, "a key request for no epoch"));
    }
    let seat = cluster.members.iter().any(|member| member.worker == request.worker);
    if !seat && !cluster.wanted.contains(&request.worker) && !cluster.readers.contains(&request.worker) {
        return Err(Code::NotMember.into());
    }
    let record = chain.worker(&request.worker).ok_or(Code::NotMember)?;
    if record.recipient != request.recipient {
        return Err(Coded::new(Code::AppraisalExpired, "the worker has started anew since"));
    }
    if chain.now_ms() >= record.appraisal.expires {
        return Err(Coded::new(Code::AppraisalExpired, format!("at {} ms", record.appraisal.expires)));
    }
    VerifyingKey::from_bytes(&record.identity)
        .and_then(|key| key.verify_strict(&request.message(), &Signature::from_bytes(&request.signature)))
        .map_err(|_| Coded::new(Code::BadSignature, "of the key request, by the worker's identity"))
}

/// The X25519 key that a worker makes at each start, to which cluster keys are sealed. It does not print, is not
/// copied, and is wiped when dropped.
pub struct RecipientKey {
    secret: <Kem as hpke::Kem>::PrivateKey,
    public: [u8; 32],
}

impl RecipientKey {
    /// Makes a key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let (secret, public) = Kem::gen_keypair_with_rng(rng);
        Self { secret, public: public.to_bytes().into() }
    }

    /// What is bound into evidence and registered.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }
}

/// Cluster keys that only one worker, in one life, can open.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct SealedKeys {
    /// HPKE's encapsulated key.
    pub enc: [u8; 32],
    /// The keys and a tag.
    pub ciphertext: Vec<u8>,
}

impl SealedKeys {
    /// Seals keys to the recipient of a request that was checked.
    pub(crate) fn seal(keys: &ClusterKeys, request: &KeyRequest, mut rng: &mut dyn CryptoRng) -> Result<Self, Coded> {
        let recipient = <Kem as hpke::Kem>::PublicKey::from_bytes(&request.recipient).map_err(|_| Code::Malformed)?;
        let (enc, mut context) = hpke::setup_sender_with_rng::<ChaCha20Poly1305, HkdfSha256, Kem>(
            &OpModeS::Base,
            &recipient,
            INFO,
            &mut rng,
        )
        .map_err(|_| Coded::new(Code::Malformed, "the recipient is no valid point"))?;
        let ciphertext = context.seal(&keys.to_bytes(), &request.message()).map_err(|_| Code::Internal)?;
        Ok(Self { enc: enc.to_bytes().into(), ciphertext })
    }

    /// Opens the answer to `request`. Fails with [`Code::NotAuthentic`] if it answers another request or was sealed to
    /// another key.
    pub fn open(&self, request: &KeyRequest, recipient: &RecipientKey) -> Result<ClusterKeys, Coded> {
        let enc = <Kem as hpke::Kem>::EncappedKey::from_bytes(&self.enc).map_err(|_| Code::Malformed)?;
        let mut context =
            hpke::setup_receiver::<ChaCha20Poly1305, HkdfSha256, Kem>(&OpModeR::Base, &recipient.secret, &enc, INFO)
                .map_err(|_| Code::NotAuthentic)?;
        let bytes = context.open(&self.ciphertext, &request.message()).map_err(|_| Code::NotAuthentic)?;
        ClusterKeys::from_bytes(&Zeroizing::new(bytes)).ok_or_else(|| Code::Malformed.into())
    }
}

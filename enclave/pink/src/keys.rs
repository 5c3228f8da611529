//! Keys of contracts, and signatures that are the same on every replica.

use crate::types::SigType;
use blake2::{Blake2b, Digest, digest::consts::U32};
use codec::Encode;
use ed25519_dalek::Signer as _;
use hkdf::Hkdf;
use k256::{
    ecdsa::{self, RecoveryId, signature::hazmat::PrehashVerifier as _},
    elliptic_curve::rand_core::{CryptoRng, Error, RngCore},
};
use phala_primitives::{AccountId, SIGNING_CONTEXT};
use schnorrkel::{ExpansionMode, MINI_SECRET_KEY_LENGTH, MiniSecretKey, SECRET_KEY_LENGTH, SecretKey};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Salt of every derivation.
const SALT: &[u8] = b"phala/pink/v1";

/// Key material that is wiped when dropped.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

fn derive(from: &[u8; 32], info: &[u8]) -> Secret {
    let mut key = Zeroizing::new([0; 32]);
    // 32 bytes are one block of the hash: that many can always be had.
    let _ = Hkdf::<Sha256>::new(Some(SALT), from).expand(info, key.as_mut_slice());
    key
}

/// Secrets of the contracts that began in a cluster.
#[derive(Clone)]
pub struct Secrets(Secret);

impl Secrets {
    /// From the cluster's key for contracts.
    pub fn new(root: [u8; 32]) -> Self {
        Self(Zeroizing::new(root))
    }

    /// The secret of a contract.
    pub fn of(&self, contract: &AccountId) -> Zeroizing<[u8; 32]> {
        derive(&self.0, &("phala/contract-secret/v1", contract).encode())
    }
}

/// The sr25519 key of a contract and salt, as its 64 bytes.
pub(crate) fn sr25519_key(secret: &Secret, salt: &[u8]) -> Zeroizing<Vec<u8>> {
    let seed = derive(secret, &("phala/sr25519-key/v1", salt).encode());
    let key = MiniSecretKey::from_bytes(seed.as_slice()).map(|key| key.expand(ExpansionMode::Ed25519).to_bytes());
    Zeroizing::new(key.map_or_else(|_| vec![], |bytes| bytes.to_vec()))
}

/// Bytes that nobody foresees who does not have the secret, and that are the same wherever `place` is.
pub(crate) fn random(secret: &Secret, place: (u64, u32, u64), length: u8) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(length)];
    // At most 255 bytes: fewer than the hash gives.
    let info = ("phala/contract-random/v1", place).encode();
    let _ = Hkdf::<Sha256>::new(Some(SALT), secret.as_slice()).expand(&info, &mut bytes);
    bytes
}

/// No chance: the nonce of a signature then follows from key and message, as in Ed25519.
struct NoChance;

impl RngCore for NoChance {
    fn next_u32(&mut self) -> u32 {
        0
    }

    fn next_u64(&mut self) -> u64 {
        0
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        bytes.fill(0);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for NoChance {}

fn sr25519(key: &[u8]) -> Option<schnorrkel::Keypair> {
    match key.len() {
        MINI_SECRET_KEY_LENGTH => Some(MiniSecretKey::from_bytes(key).ok()?.expand_to_keypair(ExpansionMode::Ed25519)),
        SECRET_KEY_LENGTH => Some(SecretKey::from_bytes(key).ok()?.to_keypair()),
        _ => None,
    }
}

fn ed25519(key: &[u8]) -> Option<ed25519_dalek::SigningKey> {
    Some(ed25519_dalek::SigningKey::from_bytes(key.try_into().ok()?))
}

fn ecdsa(key: &[u8]) -> Option<ecdsa::SigningKey> {
    (key.len() == 32).then(|| ecdsa::SigningKey::from_slice(key).ok()).flatten()
}

fn blake2_256(message: &[u8]) -> [u8; 32] {
    Blake2b::<U32>::digest(message).into()
}

/// Signs as Substrate's accounts do; 64 bytes, for ecdsa 65. `None`: that is no key of this kind.
pub(crate) fn sign(kind: SigType, key: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    match kind {
        SigType::Sr25519 => {
            let transcript = schnorrkel::signing_context(SIGNING_CONTEXT).bytes(message);
            let signature = sr25519(key)?.sign(schnorrkel::context::attach_rng(transcript, NoChance));
            Some(signature.to_bytes().to_vec())
        }
        SigType::Ed25519 => Some(ed25519(key)?.sign(message).to_bytes().to_vec()),
        SigType::Ecdsa => Some(sign_prehashed(key, &blake2_256(message))?.to_vec()),
    }
}

/// Signs a hash by ecdsa: `r`, `s`, and which of the possible keys it is.
pub(crate) fn sign_prehashed(key: &[u8], hash: &[u8; 32]) -> Option<[u8; 65]> {
    let (signature, id) = ecdsa(key)?.sign_prehash_recoverable(hash).ok()?;
    let mut bytes = [0; 65];
    let (body, last) = bytes.split_first_chunk_mut::<64>()?;
    body.copy_from_slice(&signature.to_bytes());
    last.copy_from_slice(&[id.to_byte()]);
    Some(bytes)
}

/// Whether a signature is good. Whatever is malformed is not.
pub(crate) fn verify(kind: SigType, public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    match kind {
        SigType::Sr25519 => {
            match (schnorrkel::PublicKey::from_bytes(public), schnorrkel::Signature::from_bytes(signature)) {
                (Ok(key), Ok(signature)) => key.verify_simple(SIGNING_CONTEXT, message, &signature).is_ok(),
                _ => false,
            }
        }
        SigType::Ed25519 => {
            let key = public.try_into().ok().and_then(|key| ed25519_dalek::VerifyingKey::from_bytes(key).ok());
            let signature = ed25519_dalek::Signature::from_slice(signature);
            matches!((key, signature), (Some(key), Ok(signature)) if key.verify_strict(message, &signature).is_ok())
        }
        SigType::Ecdsa => {
            let signature = signature.try_into().ok();
            signature.is_some_and(|signature| verify_prehashed(&signature, &blake2_256(message), public))
        }
    }
}

/// Whether an ecdsa signature of a hash is good and names this key, compressed.
pub(crate) fn verify_prehashed(signature: &[u8; 65], hash: &[u8; 32], public: &[u8]) -> bool {
    let Some((body, &[id])) = signature.split_first_chunk::<64>() else { return false };
    let (Ok(body), Some(id), Ok(key)) = (
        ecdsa::Signature::from_slice(body),
        RecoveryId::from_byte(if id > 26 { id - 27 } else { id }),
        ecdsa::VerifyingKey::from_sec1_bytes(public),
    ) else {
        return false;
    };
    let recovered = ecdsa::VerifyingKey::recover_from_prehash(hash, &body, id);
    recovered.is_ok_and(|recovered| recovered == key) && key.verify_prehash(hash, &body).is_ok()
}

/// The public half of a key: 32 bytes, for ecdsa 33.
pub(crate) fn public(kind: SigType, key: &[u8]) -> Option<Vec<u8>> {
    match kind {
        SigType::Sr25519 => Some(sr25519(key)?.public.to_bytes().to_vec()),
        SigType::Ed25519 => Some(ed25519(key)?.verifying_key().to_bytes().to_vec()),
        SigType::Ecdsa => Some(ecdsa(key)?.verifying_key().to_encoded_point(true).as_bytes().to_vec()),
    }
}

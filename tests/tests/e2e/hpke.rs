//! A sender of RFC 9180 (base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM), written from the standard
//! and independent of the code under test, so that anything at all can be put into an envelope.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use hkdf::Hkdf;
use sha2::Sha256;

const INFO: &[u8] = b"phala/session/v1";
const KEM: &[u8] = b"KEM\x00\x20";
const SUITE: &[u8] = b"HPKE\x00\x20\x00\x01\x00\x02";

fn extract(suite: &[u8], salt: &[u8], label: &str, secret: &[u8]) -> [u8; 32] {
    let labelled = [b"HPKE-v1", suite, label.as_bytes(), secret].concat();
    Hkdf::<Sha256>::extract(Some(salt), &labelled).0.into()
}

fn expand<const N: usize>(suite: &[u8], key: &[u8; 32], label: &str, info: &[u8]) -> [u8; N] {
    let labelled = [&(N as u16).to_be_bytes(), b"HPKE-v1".as_slice(), suite, label.as_bytes(), info].concat();
    let mut out = [0; N];
    Hkdf::<Sha256>::from_prk(key).unwrap().expand(&labelled, &mut out).unwrap();
    out
}

/// A context towards one recipient.
pub(crate) struct Context {
    /// What the recipient needs to follow.
    pub(crate) enc: [u8; 32],
    key: [u8; 32],
    nonce: [u8; 12],
    exporter: [u8; 32],
}

impl Context {
    /// Starts one with a fresh key.
    pub(crate) fn new(recipient: &[u8; 32]) -> Self {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).unwrap();
        let enc = x25519_dalek::x25519(secret, x25519_dalek::X25519_BASEPOINT_BYTES);
        let shared = x25519_dalek::x25519(secret, *recipient);
        let prk = extract(KEM, b"", "eae_prk", &shared);
        let shared: [u8; 32] = expand(KEM, &prk, "shared_secret", &[enc, *recipient].concat());
        let schedule =
            [&[0][..], &extract(SUITE, b"", "psk_id_hash", b""), &extract(SUITE, b"", "info_hash", INFO)].concat();
        let secret = extract(SUITE, &shared, "secret", b"");
        Self {
            enc,
            key: expand(SUITE, &secret, "key", &schedule),
            nonce: expand(SUITE, &secret, "base_nonce", &schedule),
            exporter: expand(SUITE, &secret, "exp", &schedule),
        }
    }

    /// Seals the first message.
    pub(crate) fn seal(&self, text: &[u8], aad: &[u8]) -> Vec<u8> {
        seal(&self.key, self.nonce, text, aad)
    }

    /// A key for another purpose.
    pub(crate) fn export(&self, purpose: &[u8]) -> [u8; 32] {
        expand(SUITE, &self.exporter, "sec", purpose)
    }
}

fn aes(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap())
}

/// AES-256-GCM.
pub(crate) fn seal(key: &[u8; 32], nonce: [u8; 12], text: &[u8], aad: &[u8]) -> Vec<u8> {
    let mut sealed = text.to_vec();
    aes(key).seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut sealed).unwrap();
    sealed
}

/// The reverse; `None` if it is not authentic.
pub(crate) fn open(key: &[u8; 32], nonce: [u8; 12], sealed: &[u8], aad: &[u8]) -> Option<Vec<u8>> {
    let mut text = sealed.to_vec();
    Some(aes(key).open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut text).ok()?.to_vec())
}

//! The HPKE suite and AES-256-GCM, both over aws-lc.

use aead::{
    AeadCore, AeadInOut, KeyInit, KeySizeUser, TagPosition,
    consts::{U12, U16, U32},
    inout::InOutBuf,
};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use hpke::{
    Deserializable, HpkeError, Kem as _, OpModeR, OpModeS, Serializable,
    aead::{AeadCtxR, AeadCtxS},
    kdf::HkdfSha256,
    kem::X25519HkdfSha256,
};
use phala_primitives::{Code, Coded};
use rand_core::CryptoRng;
use std::sync::Arc;
use zeroize::Zeroizing;

/// `info` of every HPKE context of the protocol.
const INFO: &[u8] = b"phala/session/v1";
/// Exporter context of the key of a single reply.
pub(crate) const REPLY: &[u8] = b"phala/reply/v1";
/// Exporter context of the key of frames from client to replica.
pub(crate) const CLIENT_TO_SERVER: &[u8] = b"phala/c2s/v1";
/// Exporter context of the key of frames from replica to client.
pub(crate) const SERVER_TO_CLIENT: &[u8] = b"phala/s2c/v1";

type Kem = X25519HkdfSha256;
/// Secret half of a session key; wiped when dropped.
pub(crate) type Secret = <Kem as hpke::Kem>::PrivateKey;
/// Public half of a session key.
pub(crate) type Public = <Kem as hpke::Kem>::PublicKey;
/// What the client keeps of a request.
pub(crate) type SenderContext = AeadCtxS<Aes256Gcm, HkdfSha256, Kem>;
/// What the replica keeps of a request.
pub(crate) type ReceiverContext = AeadCtxR<Aes256Gcm, HkdfSha256, Kem>;

/// AES-256-GCM as RFC 9180 numbers it. The `hpke` crate brings a slower one in pure Rust; this is aws-lc's.
pub(crate) struct Aes256Gcm;

impl hpke::aead::Aead for Aes256Gcm {
    type AeadImpl = AwsLc;
    const AEAD_ID: u16 = 2;
}

/// aws-lc's key behind the traits that `hpke` wants. `None` would be a key of the wrong length, which the type of
/// `KeyInit::new` rules out; it fails closed.
#[derive(Clone)]
pub(crate) struct AwsLc(Option<Arc<LessSafeKey>>);

impl KeySizeUser for AwsLc {
    type KeySize = U32;
}

impl KeyInit for AwsLc {
    fn new(key: &aead::Key<Self>) -> Self {
        Self(UnboundKey::new(&AES_256_GCM, key).ok().map(|key| Arc::new(LessSafeKey::new(key))))
    }
}

impl AeadCore for AwsLc {
    type NonceSize = U12;
    type TagSize = U16;
    const TAG_POSITION: TagPosition = TagPosition::Postfix;
}

impl AeadInOut for AwsLc {
    fn encrypt_inout_detached(
        &self,
        nonce: &aead::Nonce<Self>,
        aad: &[u8],
        buffer: InOutBuf<'_, '_, u8>,
    ) -> aead::Result<aead::Tag<Self>> {
        let key = self.0.as_ref().ok_or(aead::Error)?;
        let nonce = Nonce::assume_unique_for_key((*nonce).into());
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(aad), buffer.into_out_with_copied_in())
            .map_err(|_| aead::Error)?;
        aead::Tag::<Self>::try_from(tag.as_ref()).map_err(|_| aead::Error)
    }

    fn decrypt_inout_detached(
        &self,
        nonce: &aead::Nonce<Self>,
        aad: &[u8],
        buffer: InOutBuf<'_, '_, u8>,
        tag: &aead::Tag<Self>,
    ) -> aead::Result<()> {
        let key = self.0.as_ref().ok_or(aead::Error)?;
        let nonce = Nonce::assume_unique_for_key((*nonce).into());
        key.open_in_place_separate_tag(nonce, Aad::from(aad), tag, buffer.into_out_with_copied_in())
            .map(|_| ())
            .map_err(|_| aead::Error)
    }
}

/// Makes a session key pair.
pub(crate) fn generate(rng: &mut impl CryptoRng) -> (Secret, [u8; 32]) {
    let (secret, public) = Kem::gen_keypair_with_rng(rng);
    (secret, public.to_bytes().into())
}

/// Reads a public key.
pub(crate) fn public(bytes: &[u8; 32]) -> Result<Public, Coded> {
    Public::from_bytes(bytes).map_err(|_| Code::UnknownKey.into())
}

/// Starts a context towards `recipient`; fails if its key is degenerate.
pub(crate) fn sender(recipient: &Public, rng: &mut impl CryptoRng) -> Result<([u8; 32], SenderContext), Coded> {
    let (enc, context) =
        hpke::setup_sender_with_rng::<Aes256Gcm, HkdfSha256, Kem>(&OpModeS::Base, recipient, INFO, rng)
            .map_err(|_| Coded::new(Code::UnknownKey, "the session key is no valid point"))?;
    Ok((enc.to_bytes().into(), context))
}

/// Starts the context that a client began with `enc`.
pub(crate) fn receiver(secret: &Secret, enc: &[u8; 32]) -> Result<ReceiverContext, HpkeError> {
    let enc = <Kem as hpke::Kem>::EncappedKey::from_bytes(enc)?;
    hpke::setup_receiver(&OpModeR::Base, secret, &enc, INFO)
}

/// A key for AES-256-GCM; aws-lc wipes it when dropped.
pub(crate) struct Key(LessSafeKey);

/// Length of a tag.
pub(crate) const TAG: usize = 16;

impl Key {
    /// Takes a key out of an HPKE context by its exporter.
    pub(crate) fn export(export: impl FnOnce(&mut [u8]) -> Result<(), HpkeError>) -> Result<Self, Coded> {
        let mut bytes = Zeroizing::new([0; 32]);
        export(bytes.as_mut_slice()).map_err(|_| Coded::from(Code::Internal))?;
        let key = UnboundKey::new(&AES_256_GCM, bytes.as_slice()).map_err(|_| Coded::from(Code::Internal))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Encrypts `buffer` from `start` on and appends the tag. Each nonce may be used once.
    pub(crate) fn seal(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        buffer: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), Coded> {
        let text = buffer.get_mut(start..).ok_or(Code::Internal)?;
        let tag = self
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), text)
            .map_err(|_| Code::Internal)?;
        buffer.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Decrypts into a new buffer.
    pub(crate) fn open(&self, nonce: [u8; NONCE_LEN], aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Coded> {
        let length = sealed.len().checked_sub(TAG).ok_or(Code::NotAuthentic)?;
        let (text, tag) = sealed.split_at(length);
        let mut out = vec![0; length];
        self.0
            .open_separate_gather(Nonce::assume_unique_for_key(nonce), Aad::from(aad), text, tag, &mut out)
            .map_err(|_| Code::NotAuthentic)?;
        Ok(out)
    }
}

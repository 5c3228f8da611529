//! Session certificates: an account's word for a key that acts for it.

use codec::{Decode, Encode};
use lru::LruCache;
use phala_primitives::{
    AccountId, AccountSignature, Code, Coded, Hash, PublicKey, blake2_256, limits::MAX_CERTIFICATE_LIFE_MS,
};
use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
};

/// Most contracts that a scope names.
pub const MAX_SCOPE: usize = 64;

/// What a certificate is good for.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Scope {
    /// Everything that the account may do.
    All,
    /// Queries, calls and the instantiation of these contracts, at most [`MAX_SCOPE`].
    Contracts(Vec<AccountId>),
}

impl Scope {
    /// Whether the scope covers a contract.
    pub fn covers(&self, contract: &AccountId) -> bool {
        match self {
            Self::All => true,
            Self::Contracts(contracts) => contracts.contains(contract),
        }
    }
}

/// An account's word that a key acts for it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct SessionCertificate {
    /// Genesis hash of the network.
    pub genesis: Hash,
    /// Who speaks.
    pub account: AccountId,
    /// ed25519 key that acts for the account.
    pub session_key: PublicKey,
    /// What it may do.
    pub scope: Scope,
    /// From when, in milliseconds since 1970.
    pub not_before_ms: u64,
    /// Until when, exclusive; at most `MAX_CERTIFICATE_LIFE_MS` later.
    pub not_after_ms: u64,
    /// Drawn at random, so that no two certificates are alike.
    pub nonce: [u8; 16],
}

impl SessionCertificate {
    /// What the account signs, plain or wrapped in `<Bytes>`: `phala session v1 0x…` with the hash of the
    /// certificate in lower-case hex.
    pub fn text(&self) -> String {
        format!("phala session v1 {}", blake2_256(&self.encode()))
    }
}

/// A certificate and its account's signature.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct SignedCertificate {
    /// What is signed.
    pub body: SessionCertificate,
    /// By `body.account` over [`SessionCertificate::text`].
    pub signature: AccountSignature,
}

impl SignedCertificate {
    /// Checks network, time and form, but not the signature.
    fn check(&self, genesis: &Hash, now_ms: u64) -> Result<(), Coded> {
        let body = &self.body;
        if body.genesis != *genesis {
            return Err(Coded::new(Code::WrongNetwork, "in the session certificate"));
        }
        if matches!(&body.scope, Scope::Contracts(contracts) if contracts.len() > MAX_SCOPE) {
            return Err(Coded::new(Code::Malformed, "the certificate's scope names too many contracts"));
        }
        if now_ms < body.not_before_ms {
            return Err(Coded::new(Code::CertificateTime, "it begins later"));
        }
        if now_ms >= body.not_after_ms {
            return Err(Coded::new(Code::CertificateTime, "it has ended"));
        }
        if body.not_after_ms.saturating_sub(body.not_before_ms) > MAX_CERTIFICATE_LIFE_MS {
            return Err(Coded::new(Code::CertificateTime, "it would live longer than 30 days"));
        }
        Ok(())
    }
}

/// Remembers which certificates were found to be signed, because that check costs more than all others together.
/// Bounded: the least recently used is forgotten first. May be shared by threads.
pub struct CertificateCache(Mutex<LruCache<Hash, ()>>);

impl CertificateCache {
    /// A cache for at most `capacity` certificates, at least one.
    pub fn new(capacity: usize) -> Self {
        Self(Mutex::new(LruCache::new(NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN))))
    }

    /// Checks a certificate: network, form, time and signature. The same inputs always give the same answer.
    pub fn verify(&self, certificate: &SignedCertificate, genesis: &Hash, now_ms: u64) -> Result<(), Coded> {
        certificate.check(genesis, now_ms)?;
        let hash = blake2_256(&certificate.encode());
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).is_some() {
            return Ok(());
        }
        let body = &certificate.body;
        if !certificate.signature.verify(body.text().as_bytes(), &body.account) {
            return Err(Coded::new(Code::BadSignature, "of the session certificate, by its account"));
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(hash, ());
        Ok(())
    }
}

//! What hides the log: bodies of entries on the wire, and whole entries in the entry log on disk. Both are under the
//! cluster's log key of their epoch, told apart by what is authenticated beside them.
//!
//! A key is known from the beginning of its epoch until nothing in the entry log is under it.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use codec::Encode;
use parking_lot::RwLock;
use phala_keys::ClusterKeys;
use phala_primitives::{ClusterId, Code, Coded};
use std::{collections::BTreeMap, sync::Arc};

/// What a ciphertext is, so that one cannot be taken for another.
#[derive(Clone, Copy)]
pub(crate) enum What {
    /// Body of an entry.
    Body,
    /// Entry in the entry log.
    Record,
    /// Question of a newcomer, in place of the height its time.
    Ask,
    /// Answer to it, likewise.
    Copy,
}

/// Seals and opens under the cluster's log keys.
pub(crate) struct LogCipher {
    cluster: ClusterId,
    keys: RwLock<BTreeMap<u64, Arc<LessSafeKey>>>,
}

impl LogCipher {
    pub(crate) fn new(cluster: ClusterId, keys: &ClusterKeys) -> Result<Self, Coded> {
        let cipher = Self { cluster, keys: RwLock::default() };
        cipher.learn(keys)?;
        Ok(cipher)
    }

    /// Knows these keys as well from now on.
    pub(crate) fn learn(&self, keys: &ClusterKeys) -> Result<(), Coded> {
        let mut known = self.keys.write();
        for epoch in keys.epochs() {
            let key = keys.log(epoch).ok_or(Code::Internal)?;
            let key = UnboundKey::new(&AES_256_GCM_SIV, key.expose()).map_err(|_| Code::Internal)?;
            known.insert(epoch, Arc::new(LessSafeKey::new(key)));
        }
        Ok(())
    }

    /// Forgets the keys of epochs below this one.
    pub(crate) fn forget(&self, below: u64) {
        self.keys.write().retain(|epoch, _| *epoch >= below);
    }

    pub(crate) fn knows(&self, epoch: u64) -> bool {
        self.keys.read().contains_key(&epoch)
    }

    /// The newest epoch whose key is known.
    pub(crate) fn newest(&self) -> u64 {
        self.keys.read().last_key_value().map_or(0, |(epoch, _)| *epoch)
    }

    fn key(&self, epoch: u64) -> Option<Arc<LessSafeKey>> {
        self.keys.read().get(&epoch).cloned()
    }

    fn aad(&self, what: What, epoch: u64, height: u64) -> Aad<Vec<u8>> {
        let domain = match what {
            What::Body => "phala/entry/v1",
            What::Record => "phala/record/v1",
            What::Ask => "phala/copy/ask/v1",
            What::Copy => "phala/copy/v1",
        };
        Aad::from((domain, self.cluster, epoch, height).encode())
    }

    /// Encrypts: nonce, ciphertext, tag.
    pub(crate) fn seal(&self, what: What, epoch: u64, height: u64, text: &[u8]) -> Result<Vec<u8>, Coded> {
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| Code::Internal)?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + text.len() + 16);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(text);
        let (_, inner) = sealed.split_at_mut(NONCE_LEN);
        let tag = self
            .key(epoch)
            .ok_or_else(|| Coded::new(Code::Internal, format!("no key of epoch {epoch}")))?
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), self.aad(what, epoch, height), inner)
            .map_err(|_| Code::Internal)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Decrypts; `None` if it was not sealed as this, here, under a key that is known.
    pub(crate) fn open(&self, what: What, epoch: u64, height: u64, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut text = text.to_vec();
        let length = self
            .key(epoch)?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), self.aad(what, epoch, height), &mut text)
            .ok()?
            .len();
        text.truncate(length);
        Some(text)
    }
}

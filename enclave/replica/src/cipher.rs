//! What hides the log: bodies of entries on the wire, and whole entries in the entry log on disk. Both are under the
//! cluster's log key of their epoch, told apart by what is authenticated beside them.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use codec::Encode;
use parking_lot::Mutex;
use phala_keys::ClusterKeys;
use phala_primitives::{ClusterId, Code, Coded};
use std::{collections::BTreeMap, sync::Arc};

/// Epochs whose key is kept ready.
const KEPT: usize = 4;

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
    keys: ClusterKeys,
    ready: Mutex<BTreeMap<u64, Arc<LessSafeKey>>>,
}

impl LogCipher {
    pub(crate) fn new(cluster: ClusterId, keys: ClusterKeys) -> Self {
        Self { cluster, keys, ready: Mutex::default() }
    }

    fn key(&self, epoch: u64) -> Result<Arc<LessSafeKey>, Coded> {
        let mut ready = self.ready.lock();
        if let Some(key) = ready.get(&epoch) {
            return Ok(key.clone());
        }
        let key = UnboundKey::new(&AES_256_GCM_SIV, self.keys.log(epoch)?.expose()).map_err(|_| Code::Internal)?;
        let key = Arc::new(LessSafeKey::new(key));
        if ready.len() >= KEPT {
            ready.pop_first();
        }
        ready.insert(epoch, key.clone());
        Ok(key)
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
            .key(epoch)?
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), self.aad(what, epoch, height), inner)
            .map_err(|_| Code::Internal)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Decrypts; `None` if it was not sealed as this, here.
    pub(crate) fn open(&self, what: What, epoch: u64, height: u64, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut text = text.to_vec();
        let length = self
            .key(epoch)
            .ok()?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), self.aad(what, epoch, height), &mut text)
            .ok()?
            .len();
        text.truncate(length);
        Some(text)
    }
}

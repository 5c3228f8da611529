//! The keys of a store.

use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// Keys of a cluster's state, the same at all replicas. Wiped on drop, never printed. Clones know, and forget, the keys of
/// epochs together.
#[derive(Clone, ZeroizeOnDrop)]
pub struct StateKeys {
    path: [u8; 32],
    commit: [u8; 32],
    #[zeroize(skip)]
    values: Arc<Mutex<BTreeMap<u64, Zeroizing<[u8; 32]>>>>,
}

impl StateKeys {
    /// `path` places keys in the tree, `commit` blinds the tree's leaves, and `values` encrypt what is stored: one key for
    /// each key epoch from which something may be. What is written is so under the newest.
    pub fn new(path: [u8; 32], commit: [u8; 32], values: impl IntoIterator<Item = (u64, [u8; 32])>) -> Self {
        let values = values.into_iter().map(|(epoch, key)| (epoch, Zeroizing::new(key))).collect();
        Self { path, commit, values: Arc::new(Mutex::new(values)) }
    }

    /// Knows the key of a further epoch as well.
    pub fn learn(&self, epoch: u64, value: &[u8; 32]) {
        self.values.lock().insert(epoch, Zeroizing::new(*value));
    }

    /// Forgets the keys of epochs below this one.
    pub(crate) fn forget(&self, below: u64) {
        self.values.lock().retain(|epoch, _| *epoch >= below);
    }

    /// Where the value of (space, key) lies.
    pub(crate) fn path(&self, space: &[u8; 32], key: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.path);
        hasher.update(space);
        hasher.update(key);
        hasher.finalize().into()
    }

    /// What the leaf of a value says about it. Space and path are part of it: equal values at two places differ, and
    /// whoever gets values from another knows where they belong.
    pub(crate) fn commitment(&self, space: &[u8; 32], path: &[u8; 32], value: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.commit);
        hasher.update(space);
        hasher.update(path);
        hasher.update(value);
        hasher.finalize().into()
    }

    /// The oldest key epoch of which there is a key.
    pub(crate) fn oldest(&self) -> u64 {
        self.values.lock().first_key_value().map_or(0, |(epoch, _)| *epoch)
    }

    /// Key of the superblock, which is the same in all key epochs.
    pub(crate) fn superblock(&self) -> [u8; 32] {
        blake3::keyed_hash(&self.commit, b"phala/state/superblock/v1").into()
    }

    /// Keys of the blocks of the file with this salt, by key epoch.
    pub(crate) fn blocks(&self, salt: &[u8; 32]) -> BTreeMap<u64, Zeroizing<[u8; 32]>> {
        let values = self.values.lock();
        values.iter().map(|(epoch, value)| (*epoch, block_key(value, salt))).collect()
    }
}

/// Key of the blocks of the file with this salt, in the key epoch of `value`.
pub(crate) fn block_key(value: &[u8; 32], salt: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_keyed(value);
    hasher.update(b"phala/state/blocks/v1");
    hasher.update(salt);
    Zeroizing::new(hasher.finalize().into())
}

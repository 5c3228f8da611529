//! The keys of a store.

use zeroize::ZeroizeOnDrop;

/// Keys of a cluster's state, the same at all replicas. Wiped on drop, never printed.
#[derive(Clone, ZeroizeOnDrop)]
pub struct StateKeys {
    path: [u8; 32],
    value: [u8; 32],
    commit: [u8; 32],
}

impl StateKeys {
    /// `path` places keys in the tree, `value` encrypts what is stored, `commit` blinds the tree's leaves.
    pub fn new(path: [u8; 32], value: [u8; 32], commit: [u8; 32]) -> Self {
        Self { path, value, commit }
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

    /// Key of the blocks of the file with this salt.
    pub(crate) fn blocks(&self, salt: &[u8; 32]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.value);
        hasher.update(b"phala/state/blocks/v1");
        hasher.update(salt);
        hasher.finalize().into()
    }
}

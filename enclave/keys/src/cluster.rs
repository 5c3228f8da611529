//! The keys of one cluster.

use crate::Mailbox;
use codec::Encode;
use hkdf::Hkdf;
use phala_primitives::{ClusterId, Code, Coded, Hash};
use sha2::Sha256;
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// Salt of every derivation.
const SALT: &[u8] = b"phala/keys/v1";
/// Number of the keys under which state is stored. State outlives the epochs of its cluster.
const STATE_KEY_EPOCH: u64 = 0;

/// A 32-byte key. It does not print, is not copied, and is wiped when dropped.
#[derive(ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl Key {
    /// Wraps key material.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key, for use in a primitive.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key, to be filled in place.
    pub(crate) fn expose_mut(&mut self) -> &mut [u8; 32] {
        &mut self.0
    }

    /// Derives a key for one purpose, which `info` names unambiguously.
    pub(crate) fn derive(&self, info: &[u8]) -> Result<Self, Coded> {
        let mut out = Self([0; 32]);
        Hkdf::<Sha256>::new(Some(SALT), &self.0).expand(info, &mut out.0).map_err(|_| Code::Internal)?;
        Ok(out)
    }
}

/// What a member of a cluster needs to read and write its state and log.
pub struct ClusterKeys {
    state_path: Key,
    state_value: Key,
    state_commit: Key,
    log: Key,
    contracts: Key,
    mailbox: Key,
}

impl ClusterKeys {
    /// Derives the keys of a cluster from the network's master secret.
    pub(crate) fn derive(master: &Key, genesis: &Hash, cluster: ClusterId) -> Result<Self, Coded> {
        let key = |label: &str, number: u64| {
            master.derive(&("phala/cluster-key/v1", genesis, cluster, label, number).encode())
        };
        Ok(Self {
            state_path: key("state-path", STATE_KEY_EPOCH)?,
            state_value: key("state-value", STATE_KEY_EPOCH)?,
            state_commit: key("state-commit", STATE_KEY_EPOCH)?,
            log: key("log", 0)?,
            contracts: key("contracts", 0)?,
            mailbox: key("mailbox", 0)?,
        })
    }

    /// Hides the names of stored keys (a pseudorandom function).
    pub fn state_path(&self) -> &Key {
        &self.state_path
    }

    /// Encrypts stored values.
    pub fn state_value(&self) -> &Key {
        &self.state_value
    }

    /// Hides the values under the state root (a keyed hash).
    pub fn state_commit(&self) -> &Key {
        &self.state_commit
    }

    /// Encrypts the bodies of the command log's entries of one epoch.
    pub fn log(&self, epoch: u64) -> Result<Key, Coded> {
        self.log.derive(&("phala/log-key/v1", epoch).encode())
    }

    /// From which the secrets of contracts are made.
    pub fn contracts(&self) -> &Key {
        &self.contracts
    }

    /// What opens parcels for this cluster and seals those to others.
    pub fn mailbox(&self) -> Mailbox {
        Mailbox::new(Key(self.mailbox.0))
    }

    /// The six keys in a row, for sealing.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let keys = [&self.state_path, &self.state_value, &self.state_commit, &self.log, &self.contracts, &self.mailbox];
        Zeroizing::new(keys.iter().flat_map(|key| key.0).collect())
    }

    /// Reads what [`ClusterKeys::to_bytes`] wrote.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut keys = bytes.chunks_exact(32).map(|chunk| chunk.try_into().map(Key));
        let mut next = || keys.next()?.ok();
        let (state_path, state_value, state_commit) = (next()?, next()?, next()?);
        let (log, contracts, mailbox) = (next()?, next()?, next()?);
        let found = Self { state_path, state_value, state_commit, log, contracts, mailbox };
        (bytes.len() == 192).then_some(found)
    }
}

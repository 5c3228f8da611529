//! The keys of one cluster.

use crate::Mailbox;
use codec::Encode;
use hkdf::Hkdf;
use phala_primitives::{ClusterId, Code, Coded, Hash};
use sha2::Sha256;
use std::{collections::BTreeMap, ops::RangeInclusive};
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// Salt of every derivation.
const SALT: &[u8] = b"phala/keys/v1";

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
    state_commit: Key,
    contracts: Key,
    mailbox: Key,
    epochs: BTreeMap<u64, EpochKeys>,
}

/// Keys that change with the cluster's epoch.
struct EpochKeys {
    state_value: Key,
    log: Key,
}

/// Bytes of an epoch's keys, with its number.
const EPOCH_BYTES: usize = 8 + 2 * 32;

impl ClusterKeys {
    /// Derives the keys of a cluster from the network's master secret: those of these epochs.
    pub(crate) fn derive(
        master: &Key,
        genesis: &Hash,
        cluster: ClusterId,
        epochs: RangeInclusive<u64>,
    ) -> Result<Self, Coded> {
        let key = |label: &str, number: u64| {
            master.derive(&("phala/cluster-key/v1", genesis, cluster, label, number).encode())
        };
        let of_epoch = |epoch| {
            Ok::<_, Coded>((epoch, EpochKeys { state_value: key("state-value", epoch)?, log: key("log", epoch)? }))
        };
        Ok(Self {
            state_path: key("state-path", 0)?,
            state_commit: key("state-commit", 0)?,
            contracts: key("contracts", 0)?,
            mailbox: key("mailbox", 0)?,
            epochs: epochs.map(of_epoch).collect::<Result<_, _>>()?,
        })
    }

    /// Hides the names of stored keys (a pseudorandom function).
    pub fn state_path(&self) -> &Key {
        &self.state_path
    }

    /// Hides the values under the state root (a keyed hash).
    pub fn state_commit(&self) -> &Key {
        &self.state_commit
    }

    /// Epochs of which there are keys, in ascending order.
    pub fn epochs(&self) -> impl Iterator<Item = u64> {
        self.epochs.keys().copied()
    }

    /// Encrypts stored values, in an epoch.
    pub fn state_value(&self, epoch: u64) -> Option<&Key> {
        self.epochs.get(&epoch).map(|keys| &keys.state_value)
    }

    /// Encrypts the command log's entries of an epoch.
    pub fn log(&self, epoch: u64) -> Option<&Key> {
        self.epochs.get(&epoch).map(|keys| &keys.log)
    }

    /// From which the secrets of contracts are made.
    pub fn contracts(&self) -> &Key {
        &self.contracts
    }

    /// What opens parcels for this cluster and seals those to others.
    pub fn mailbox(&self) -> Mailbox {
        Mailbox::new(Key(self.mailbox.0))
    }

    /// Adds the keys of the epochs of others of the same cluster.
    pub fn add(&mut self, others: Self) {
        self.epochs.extend(others.epochs);
    }

    /// For sealing: the four keys that stay, then each epoch (u64, little endian) with its two.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let stay = [&self.state_path, &self.state_commit, &self.contracts, &self.mailbox];
        // Reserved at once: what grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(4 * 32 + self.epochs.len().saturating_mul(EPOCH_BYTES)));
        stay.iter().for_each(|key| bytes.extend_from_slice(&key.0));
        for (epoch, EpochKeys { state_value, log }) in &self.epochs {
            bytes.extend_from_slice(&epoch.to_le_bytes());
            bytes.extend_from_slice(&state_value.0);
            bytes.extend_from_slice(&log.0);
        }
        bytes
    }

    /// Reads what [`ClusterKeys::to_bytes`] wrote.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        fn key(bytes: &mut &[u8]) -> Option<Key> {
            bytes.split_off(..32)?.try_into().ok().map(Key)
        }
        let mut rest = bytes;
        let (state_path, state_commit) = (key(&mut rest)?, key(&mut rest)?);
        let (contracts, mailbox) = (key(&mut rest)?, key(&mut rest)?);
        let mut epochs = BTreeMap::new();
        while !rest.is_empty() {
            let epoch = u64::from_le_bytes(rest.split_off(..8)?.try_into().ok()?);
            epochs.insert(epoch, EpochKeys { state_value: key(&mut rest)?, log: key(&mut rest)? });
        }
        Some(Self { state_path, state_commit, contracts, mailbox, epochs })
    }
}

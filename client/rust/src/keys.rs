//! Storage keys that only clients read; the others are in `phala_primitives::storage`.

use codec::Encode;
use phala_primitives::{AccountId, ClusterId};
use sp_crypto_hashing::{blake2_128, twox_128};

fn value(pallet: &str, item: &str) -> Vec<u8> {
    [twox_128(pallet.as_bytes()), twox_128(item.as_bytes())].concat()
}

fn hashed(key: impl Encode) -> Vec<u8> {
    let key = key.encode();
    [blake2_128(&key).as_slice(), &key].concat()
}

/// `System::Account`.
pub(crate) fn account(account: &AccountId) -> Vec<u8> {
    [value("System", "Account"), hashed(account)].concat()
}

/// `System::Events`.
pub(crate) fn events() -> Vec<u8> {
    value("System", "Events")
}

/// `Clusters::Epochs`: the members of an epoch of a cluster.
pub(crate) fn epoch(cluster: ClusterId, epoch: u64) -> Vec<u8> {
    [value("Clusters", "Epochs"), hashed(cluster), hashed(epoch)].concat()
}

/// `Clusters::NextCluster`.
pub(crate) fn next_cluster() -> Vec<u8> {
    value("Clusters", "NextCluster")
}

/// `Clusters::Population`: how many contracts are placed in a cluster.
pub(crate) fn population(cluster: ClusterId) -> Vec<u8> {
    [value("Clusters", "Population"), hashed(cluster)].concat()
}

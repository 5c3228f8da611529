//! Keys of the chain's storage that light clients read, laid out as FRAME does: `twox128(pallet) ++ twox128(item)`,
//! then for maps `blake2_128(key) ++ key` with the key in SCALE. A test of the runtime compares them with FRAME's.

use crate::{AccountId, ClusterId, Hash, records::Offence};
use codec::Encode;
use sp_crypto_hashing::{blake2_128, twox_128};

fn value(pallet: &str, item: &str) -> Vec<u8> {
    [twox_128(pallet.as_bytes()), twox_128(item.as_bytes())].concat()
}

fn map(pallet: &str, item: &str, key: &impl Encode) -> Vec<u8> {
    let key = key.encode();
    [value(pallet, item), blake2_128(&key).to_vec(), key].concat()
}

/// `Registry::Validators`: `Vec<PublicKey>`.
pub fn validators() -> Vec<u8> {
    value("Registry", "Validators")
}

/// `Registry::Workers`: a [`crate::records::WorkerRecord`].
pub fn worker(worker: &AccountId) -> Vec<u8> {
    map("Registry", "Workers", worker)
}

/// `Clusters::Clusters`: a [`crate::records::ClusterRecord`].
pub fn cluster(cluster: ClusterId) -> Vec<u8> {
    map("Clusters", "Clusters", &cluster)
}

/// `Clusters::Placement`: the [`ClusterId`] of the cluster in which a worker has, or is to have, a seat.
pub fn placement(worker: &AccountId) -> Vec<u8> {
    map("Clusters", "Placement", worker)
}

/// `Clusters::Pool`: number of the block (`u32`) in which a worker last said that it waits for a seat.
pub fn pool(worker: &AccountId) -> Vec<u8> {
    map("Clusters", "Pool", worker)
}

/// `Clusters::Plans`: a [`crate::records::Plan`].
pub fn plan(cluster: ClusterId) -> Vec<u8> {
    map("Clusters", "Plans", &cluster)
}

/// `Clusters::Convictions`: a [`crate::records::ConvictionRecord`].
pub fn conviction(worker: &AccountId) -> Vec<u8> {
    map("Clusters", "Convictions", worker)
}

/// `Clusters::Offences`: number of the block (`u32`) in which an offence became known.
pub fn offence(offence: &Offence) -> Vec<u8> {
    map("Clusters", "Offences", offence)
}

/// `Clusters::Code`: a [`crate::records::CodeRecord`].
pub fn code(hash: &Hash) -> Vec<u8> {
    map("Clusters", "Code", hash)
}

/// `Clusters::Bridges`: a [`crate::bridge::BridgeRecord`].
pub fn bridge(cluster: ClusterId) -> Vec<u8> {
    map("Clusters", "Bridges", &cluster)
}

/// `Clusters::Inbox`: a [`crate::bridge::Letter`] by its number in a cluster's inbox.
pub fn letter(cluster: ClusterId, number: u64) -> Vec<u8> {
    let number = number.encode();
    [map("Clusters", "Inbox", &cluster), blake2_128(&number).to_vec(), number].concat()
}

/// `Clusters::Mailboxes`: the X25519 key (`[u8; 32]`) to which parcels for a cluster are sealed.
pub fn mailbox(cluster: ClusterId) -> Vec<u8> {
    map("Clusters", "Mailboxes", &cluster)
}

/// `Clusters::Weights`: contracts of a cluster that have another weight than 1, as `Vec<(AccountId, u32)>`.
pub fn weights(cluster: ClusterId) -> Vec<u8> {
    map("Clusters", "Weights", &cluster)
}

/// `Clusters::Contracts`: a [`crate::records::ContractRecord`].
pub fn contract(address: &AccountId) -> Vec<u8> {
    map("Clusters", "Contracts", address)
}

/// `Clusters::Leaving`: of a contract that has a new place, the cluster that has not let go of it yet, and the number of
/// the move, as `(ClusterId, u32)`.
pub fn leaving(address: &AccountId) -> Vec<u8> {
    map("Clusters", "Leaving", address)
}

/// `Clusters::Policies`: a [`crate::policy::ClusterPolicy`].
pub fn policy(cluster: ClusterId) -> Vec<u8> {
    map("Clusters", "Policies", &cluster)
}

//! Calls of the chain, encoded.
//!
//! The numbers of pallets and calls are written here and nowhere else. They are not read from the metadata that a
//! node shows, because what one signs must not depend on whom one asks. A test holds them against the runtime.

use codec::{Compact, Encode};
use phala_primitives::{
    AccountId, Balance, ClusterId, ClusterPolicy, Hash, PublicKey, bridge::Outbound, records::Anchor,
};

const BALANCES: u8 = 2;
const UTILITY: u8 = 4;
const REGISTRY: u8 = 10;
const CLUSTERS: u8 = 11;

/// `MultiAddress::Id`.
const ADDRESS_ID: u8 = 0;

/// A call of the chain, ready to be signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call(Vec<u8>);

impl Call {
    fn new(pallet: u8, call: u8, arguments: impl Encode) -> Self {
        Self((pallet, call, arguments).encode())
    }

    /// Sends PHA, in the smallest unit, but not so much that the sender's account would die.
    pub fn transfer_keep_alive(to: &AccountId, value: Balance) -> Self {
        Self::new(BALANCES, 3, (ADDRESS_ID, to, Compact(value)))
    }

    /// Does all of it or nothing.
    pub fn batch_all(calls: &[Self]) -> Self {
        let mut encoded = (UTILITY, 2u8, Compact(calls.len() as u64)).encode();
        calls.iter().for_each(|call| encoded.extend_from_slice(&call.0));
        Self(encoded)
    }

    /// Registers the keys of a worker's present start. The caller is the worker.
    pub fn register_worker(
        identity: &PublicKey,
        recipient: &[u8; 32],
        endpoint: &str,
        peer: &str,
        evidence: &[u8],
    ) -> Self {
        Self::new(REGISTRY, 0, (identity, recipient, endpoint.as_bytes(), peer.as_bytes(), evidence))
    }

    /// Changes the addresses of a worker. The caller is the worker.
    pub fn update_endpoint(endpoint: &str, peer: &str) -> Self {
        Self::new(REGISTRY, 1, (endpoint.as_bytes(), peer.as_bytes()))
    }

    /// Makes a cluster of registered workers.
    pub fn create_cluster(workers: &[AccountId]) -> Self {
        Self::new(CLUSTERS, 0, workers)
    }

    /// Reports the highest entry that a member holds, with its encoded proof. The caller is the worker.
    pub fn rejoin(cluster: ClusterId, anchor: &Anchor, proof: Option<&[u8]>) -> Self {
        Self::new(CLUSTERS, 1, (cluster, anchor, proof))
    }

    /// Starts the epoch that is planned, above the entry that finished the one before.
    pub fn close(cluster: ClusterId, proof: &[u8]) -> Self {
        Self::new(CLUSTERS, 5, (cluster, proof))
    }

    /// Shows the chain a newer entry of a cluster's log.
    pub fn checkpoint(cluster: ClusterId, proof: &[u8]) -> Self {
        Self::new(CLUSTERS, 6, (cluster, proof))
    }

    /// Puts a worker without a seat into the pool. The caller is the worker.
    pub fn offer() -> Self {
        Self::new(CLUSTERS, 40, ())
    }

    /// Takes a worker out of the pool. The caller is the worker.
    pub fn retire() -> Self {
        Self::new(CLUSTERS, 41, ())
    }

    /// Says that a member does not answer. The caller is another member.
    pub fn accuse(cluster: ClusterId, worker: &AccountId) -> Self {
        Self::new(CLUSTERS, 42, (cluster, worker))
    }

    /// Has another worker take a member's place. The caller is the member, or who created the cluster.
    pub fn drain(cluster: ClusterId, worker: &AccountId) -> Self {
        Self::new(CLUSTERS, 43, (cluster, worker))
    }

    /// Gives a cluster another number of members. The caller is who created it.
    pub fn resize(cluster: ClusterId, size: u32) -> Self {
        Self::new(CLUSTERS, 44, (cluster, size))
    }

    /// Gives a cluster so many readers, workers without a vote that answer queries. The caller is who created it.
    pub fn set_readers(cluster: ClusterId, count: u32) -> Self {
        Self::new(CLUSTERS, 46, (cluster, count))
    }

    /// Shows that a member of a cluster is faulty or hostile, by an encoded proof.
    pub fn convict(cluster: ClusterId, proof: &[u8]) -> Self {
        Self::new(CLUSTERS, 45, (cluster, proof))
    }

    /// Pays the deposit for code of this BLAKE2b-256 hash and size.
    pub fn upload_code(code_hash: &Hash, size: u32) -> Self {
        Self::new(CLUSTERS, 2, (code_hash, size))
    }

    /// Gives up code that no contract was created with.
    pub fn remove_code(code_hash: &Hash) -> Self {
        Self::new(CLUSTERS, 3, code_hash)
    }

    /// Gives a contract its cluster and address. Only if it is `upgradable` can its code be replaced.
    pub fn create_contract(cluster: ClusterId, code_hash: &Hash, salt: &[u8], upgradable: bool) -> Self {
        Self::new(CLUSTERS, 4, (cluster, code_hash, salt, upgradable))
    }

    /// Replaces the code of a contract that the caller deployed as upgradable.
    pub fn upgrade_contract(address: &AccountId, code_hash: &Hash) -> Self {
        Self::new(CLUSTERS, 30, (address, code_hash))
    }

    /// Fixes the code of a contract for ever.
    pub fn freeze_contract(address: &AccountId) -> Self {
        Self::new(CLUSTERS, 31, address)
    }

    /// Has a contract that the caller deployed go to another cluster, or, with none, stay where it is after all.
    pub fn move_contract(address: &AccountId, to: Option<ClusterId>) -> Self {
        Self::new(CLUSTERS, 33, (address, to))
    }

    /// Moves money into a cluster, to an account or contract there.
    pub fn deposit(cluster: ClusterId, to: &AccountId, amount: Balance) -> Self {
        Self::new(CLUSTERS, 10, (cluster, to, amount))
    }

    /// Calls a contract from the chain, for everyone to see. `data` is selector and arguments, `value` money that goes
    /// along.
    pub fn send_message(contract: &AccountId, data: &[u8], value: Balance) -> Self {
        Self::new(CLUSTERS, 11, (contract, data, value))
    }

    /// Brings messages of a cluster to the chain: the encoded proof of the entry that vouches for them, the messages,
    /// and the hashes of those behind them.
    pub fn deliver(cluster: ClusterId, proof: &[u8], messages: &[Outbound], rest: &[Hash]) -> Self {
        Self::new(CLUSTERS, 12, (cluster, proof, messages, rest))
    }

    /// Sets what contracts of a cluster may use. The caller created the cluster. The policy's version is not looked at.
    pub fn set_policy(cluster: ClusterId, policy: &ClusterPolicy) -> Self {
        Self::new(CLUSTERS, 20, (cluster, policy))
    }

    /// Gives the queries of a contract so many times the processor time of one of weight 1. The caller created the
    /// cluster.
    pub fn set_weight(cluster: ClusterId, contract: &AccountId, weight: u32) -> Self {
        Self::new(CLUSTERS, 21, (cluster, contract, weight))
    }

    /// Has clients believe what a contract answers only if so many replicas agree. The caller deployed it.
    pub fn set_audit(address: &AccountId, replicas: u32) -> Self {
        Self::new(CLUSTERS, 32, (address, replicas))
    }

    /// The encoding.
    pub fn encoded(&self) -> &[u8] {
        &self.0
    }
}

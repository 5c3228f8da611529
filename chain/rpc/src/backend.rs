//! What the JSON-RPC server asks of the node, in plain types.
//!
//! Methods may block on the disk or run runtime code: the server calls them on threads for blocking work, many at a
//! time, so an implementation needs its own locks. Every block is final at once: there are no forks, the newest block
//! is the best and the finalised one.

use phala_primitives::{AccountId, Coded, Finality, Hash};
use sp_version::RuntimeVersion;
use tokio::sync::{broadcast, mpsc};

/// What never changes while the node runs.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Name of the program, as in `system_name`.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Name of the chain, as in `system_chain`.
    pub chain: String,
    /// Whether this is a chain for development: `system_chainType` answers `Development`, else `Live`.
    pub development: bool,
    /// Hash of the genesis block.
    pub genesis: Hash,
    /// This node's peer id, in any form that names it.
    pub peer_id: String,
    /// Addresses at which other nodes reach it.
    pub listen: Vec<String>,
    /// Whether the node is a validator.
    pub validator: bool,
}

/// A finalised block by number and hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockId {
    /// Height; genesis is 0.
    pub number: u32,
    /// Hash of the header.
    pub hash: Hash,
}

/// Whether the node keeps up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Health {
    /// Peers connected.
    pub peers: usize,
    /// Whether the node is still catching up.
    pub syncing: bool,
    /// Whether the node needs peers to make progress.
    pub needs_peers: bool,
}

/// A connected peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its id, in the same form as [`NodeInfo::peer_id`].
    pub id: String,
    /// Newest block that it is known to have.
    pub best: BlockId,
}

/// What became of an extrinsic. `Finalized`, `Invalid` and `Dropped` are the last word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExtrinsicStatus {
    /// It may be put into the next block.
    Ready,
    /// It waits for an earlier nonce.
    Future,
    /// This finalised block holds it, at this index of its body.
    Finalized {
        /// The block.
        block: Hash,
        /// Index among the extrinsics of the block.
        index: u32,
    },
    /// It can never be included, and why.
    Invalid(Coded),
    /// The pool let it go: it was full, or the extrinsic waited too long.
    Dropped(Coded),
}

/// The node behind the server.
///
/// Errors: `UnknownBlock` where block or state is not there (any more), `BadExtrinsic` and `PoolFull` from
/// submission, `Malformed` for a runtime method that does not exist or refuses its input, `StorageFailed` if the disk
/// fails.
pub trait Backend: Send + Sync + 'static {
    /// What never changes.
    fn info(&self) -> &NodeInfo;

    /// The newest finalised block whose state can be read.
    fn finalized(&self) -> BlockId;

    /// Announces each finalised block in order of height, once its header, body and state can be read.
    fn subscribe(&self) -> broadcast::Receiver<BlockId>;

    /// Hash of the finalised block at this height.
    fn block_hash(&self, number: u32) -> Result<Option<Hash>, Coded>;

    /// SCALE encoding of the FRAME header.
    fn header(&self, hash: &Hash) -> Result<Option<Vec<u8>>, Coded>;

    /// Extrinsics of the block, each in its opaque encoding: the bytes with their compact length in front, as they
    /// are submitted.
    fn body(&self, hash: &Hash) -> Result<Option<Vec<Vec<u8>>>, Coded>;

    /// Why the block is final; for the genesis block a certificate without votes and with the genesis hash as digest.
    fn finality(&self, hash: &Hash) -> Result<Option<Finality>, Coded>;

    /// Value of a storage key after the block.
    fn storage(&self, at: &Hash, key: &[u8]) -> Result<Option<Vec<u8>>, Coded>;

    /// Up to `count` keys with this prefix after the block, in ascending order, strictly after `start` if given.
    fn storage_keys(&self, at: &Hash, prefix: &[u8], count: usize, start: Option<&[u8]>)
    -> Result<Vec<Vec<u8>>, Coded>;

    /// Trie nodes that prove values or absence of these keys under the block's state root (state version 1).
    fn read_proof(&self, at: &Hash, keys: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Coded>;

    /// Calls a runtime API such as `Metadata_metadata_at_version` with SCALE input on the block's state.
    fn call(&self, at: &Hash, method: &str, data: &[u8]) -> Result<Vec<u8>, Coded>;

    /// Version of the runtime, the same for all blocks while the node runs.
    fn runtime_version(&self) -> RuntimeVersion;

    /// Next nonce of an account, after those of its extrinsics in the pool.
    fn next_index(&self, account: &AccountId) -> Result<u32, Coded>;

    /// Checks an extrinsic (opaque encoding) and puts it into the pool. Returns the BLAKE2b-256 hash of the bytes.
    fn submit(&self, extrinsic: &[u8]) -> Result<Hash, Coded>;

    /// Like `submit`, and reports what becomes of it. The channel ends after the last word.
    fn submit_and_watch(&self, extrinsic: &[u8]) -> Result<(Hash, mpsc::Receiver<ExtrinsicStatus>), Coded>;

    /// The extrinsics in the pool, in opaque encoding.
    fn pending(&self) -> Vec<Vec<u8>>;

    /// Whether the node keeps up.
    fn health(&self) -> Health;

    /// Connected peers.
    fn peers(&self) -> Vec<Peer>;
}

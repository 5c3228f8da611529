//! The node as what stands behind the JSON-RPC server.

use crate::{NodeError, block, execute, node::Node, trie};
use phala_primitives::{AccountId as Plain, Code, Coded, Finality, Hash};
use phala_rpc::{Backend, BlockId, ExtrinsicStatus, Health, NodeInfo, Peer};
use phala_runtime::{AccountId, System, VERSION};
use sp_version::RuntimeVersion;
use tokio::sync::{broadcast, mpsc};

/// A node this many blocks behind is catching up.
const BEHIND: u64 = 3;

impl Backend for Node {
    fn info(&self) -> &NodeInfo {
        &self.info
    }

    fn finalized(&self) -> BlockId {
        self.head()
    }

    fn subscribe(&self) -> broadcast::Receiver<BlockId> {
        self.finalized_blocks()
    }

    fn block_hash(&self, number: u32) -> Result<Option<Hash>, Coded> {
        Ok(self.store().hash(number)?)
    }

    fn header(&self, hash: &Hash) -> Result<Option<Vec<u8>>, Coded> {
        Ok(self.store().header(hash)?)
    }

    fn body(&self, hash: &Hash) -> Result<Option<Vec<Vec<u8>>>, Coded> {
        let Some(body) = self.store().body(hash)? else { return Ok(None) };
        Ok(Some(block::split(&body).ok_or(NodeError::Damaged("body"))?))
    }

    fn finality(&self, hash: &Hash) -> Result<Option<Finality>, Coded> {
        Ok(self.store().finality(hash)?)
    }

    fn storage(&self, at: &Hash, key: &[u8]) -> Result<Option<Vec<u8>>, Coded> {
        Node::storage(self, at, key)
    }

    fn storage_keys(
        &self,
        at: &Hash,
        prefix: &[u8],
        count: usize,
        start: Option<&[u8]>,
    ) -> Result<Vec<Vec<u8>>, Coded> {
        Ok(trie::keys(&self.finalized_state(at)?, prefix, count, start)?)
    }

    fn read_proof(&self, at: &Hash, keys: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Coded> {
        Ok(trie::prove(&self.finalized_state(at)?, keys)?)
    }

    fn call(&self, at: &Hash, method: &str, data: &[u8]) -> Result<Vec<u8>, Coded> {
        let answer = execute::read(&self.finalized_state(at)?, || phala_runtime::call(method, data))?;
        answer.ok_or_else(|| Coded::new(Code::Malformed, "the runtime has no such method"))
    }

    fn runtime_version(&self) -> RuntimeVersion {
        VERSION
    }

    fn next_index(&self, account: &Plain) -> Result<u32, Coded> {
        let account = AccountId::new(account.0);
        let nonce = execute::read(&self.state_at(&self.head().hash)?, || System::account_nonce(&account))?;
        Ok(self.pool.lock().next_nonce(&account, nonce))
    }

    fn submit(&self, extrinsic: &[u8]) -> Result<Hash, Coded> {
        Node::submit(self, extrinsic)
    }

    fn submit_and_watch(&self, extrinsic: &[u8]) -> Result<(Hash, mpsc::Receiver<ExtrinsicStatus>), Coded> {
        let hash = Node::submit(self, extrinsic)?;
        Ok((hash, self.pool.lock().watch(&hash)))
    }

    fn pending(&self) -> Vec<Vec<u8>> {
        self.pool.lock().pending().into_iter().map(Vec::from).collect()
    }

    fn health(&self) -> Health {
        let height = u64::from(self.head().number);
        let (peers, tip) = self.network.read().as_ref().map_or((0, height), |network| (network.peers(), network.tip()));
        Health { peers, syncing: height.saturating_add(BEHIND) < tip, needs_peers: self.info.validator }
    }

    fn peers(&self) -> Vec<Peer> {
        // The log knows how many of the others it hears, not who they are.
        vec![]
    }
}

//! The node: what is final, what is not final yet, and the pool, behind one door.

use crate::{
    block::{self, Extrinsic, Parsed},
    error::NodeError,
    execute,
    network::Network,
    pool::{Candidate, Pool, PoolLimits},
    store::{Commit, Store},
    trie::{self, Delta, Nodes, State},
};
use bytes::Bytes;
use codec::Encode;
use parking_lot::{Mutex, RwLock};
use phala_primitives::{Block, Certificate, Code, Coded, Fact, Finality, FinalizedHead, Hash, blake2_256};
use phala_rpc::{BlockId, NodeInfo};
use phala_runtime::{AccountId, GenesisSpec, Header, MAX_BLOCK_LENGTH};
use sp_core::H256;
use sp_runtime::traits::Header as _;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::{broadcast, watch};

/// Blocks that are not final yet and whose changes are held in memory, at most.
const MAX_PENDING: usize = 256;
/// Announcements of finalised blocks that a slow listener may lag behind.
const ANNOUNCEMENTS: usize = 1024;
/// Bytes of other nodes' extrinsics that wait to be checked.
const MAX_INBOX: usize = 4 << 20;
/// How many of them are checked between two blocks.
const INBOX_BATCH: usize = 2048;

/// How to open a node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The network. A folder of another network is refused.
    pub spec: GenesisSpec,
    /// Folder of the database; in memory if `None`.
    pub folder: Option<PathBuf>,
    /// How many finalised states can be read, besides that of the genesis; all if `None` (an archive).
    pub keep_states: Option<u32>,
    /// Bytes of the database that are cached in memory.
    pub cache: usize,
    /// How much the pool holds.
    pub pool: PoolLimits,
    /// Longest time that this node applies extrinsics to a block of its own. The block's weight is limited anyway; in
    /// a simulation use `Duration::MAX`, so that the machine's speed does not decide what a block holds.
    pub build_time: Duration,
    /// How the node names itself, in any form.
    pub peer_id: String,
    /// Addresses at which other nodes reach it, for people.
    pub listen: Vec<String>,
    /// Whether the node is a validator.
    pub validator: bool,
}

impl NodeConfig {
    /// A node of this network in memory, with defaults for the rest.
    pub fn new(spec: GenesisSpec) -> Self {
        Self {
            spec,
            folder: None,
            keep_states: Some(4096),
            cache: 64 << 20,
            pool: PoolLimits::default(),
            build_time: Duration::from_millis(200),
            peer_id: String::new(),
            listen: vec![],
            validator: false,
        }
    }
}

/// A block that was executed and is not final yet.
pub(crate) struct Pending {
    number: u32,
    parent: Hash,
    header: Header,
    delta: Arc<Delta>,
    /// Index, hash, signer and nonce of its signed extrinsics.
    signed: Vec<(u32, Hash, AccountId, u32)>,
}

#[derive(Default)]
struct Inbox {
    messages: std::collections::VecDeque<Bytes>,
    bytes: usize,
}

/// A node of the chain. It orders nothing itself: it is the [`phala_consensus::Application`] of the chain's log, and
/// the [`phala_rpc::Backend`] of the RPC server.
pub struct Node {
    pub(crate) info: NodeInfo,
    pub(crate) genesis: Block,
    pub(crate) build_time: Duration,
    store: Store,
    pending: Mutex<BTreeMap<Hash, Arc<Pending>>>,
    pub(crate) pool: Mutex<Pool>,
    inbox: Mutex<Inbox>,
    pub(crate) network: RwLock<Option<Arc<dyn Network>>>,
    announce: broadcast::Sender<BlockId>,
    newest: watch::Sender<BlockId>,
    pub(crate) ready: watch::Sender<bool>,
}

impl Node {
    /// Opens the node's store, or makes it with the genesis of the spec.
    pub fn open(config: NodeConfig) -> Result<Arc<Self>, NodeError> {
        let store = Store::open(config.folder.as_deref(), config.keep_states, config.cache)?;
        let (root, delta) = trie::genesis(&phala_runtime::genesis(&config.spec)?);
        let header = Header::new(0, block::root(&[]), root, H256::zero(), Default::default());
        let genesis = Block { header: header.encode().into(), body: block::join(&[]) };
        let hash = genesis.digest();
        match store.genesis()? {
            None => store.commit(&Commit {
                number: 0,
                hash,
                header: &genesis.header,
                body: &genesis.body,
                finality: &Certificate { epoch: 0, view: 0, parent_view: 0, digest: hash, votes: vec![] }.into(),
                delta: &delta,
            })?,
            Some(found) if found == hash => {}
            Some(found) => return Err(NodeError::OtherChain { found, expected: hash }),
        }
        let head = store.head()?;
        Ok(Arc::new(Self {
            info: NodeInfo {
                name: "phala".into(),
                version: env!("CARGO_PKG_VERSION").into(),
                chain: config.spec.name.clone(),
                development: !config.spec.production,
                genesis: hash,
                peer_id: config.peer_id,
                listen: config.listen,
                validator: config.validator,
            },
            genesis,
            build_time: config.build_time,
            store,
            pending: Mutex::default(),
            pool: Mutex::new(Pool::new(config.pool)),
            inbox: Mutex::default(),
            network: RwLock::new(None),
            announce: broadcast::Sender::new(ANNOUNCEMENTS),
            newest: watch::Sender::new(head),
            ready: watch::Sender::new(false),
        }))
    }

    /// Hash of the genesis block, which names the network.
    pub fn genesis_hash(&self) -> Hash {
        self.info.genesis
    }

    /// The newest finalised block.
    pub fn head(&self) -> BlockId {
        *self.newest.borrow()
    }

    /// The newest finalised block, and each that follows; in-between ones may be skipped. Works in any async runtime.
    pub fn watch_head(&self) -> watch::Receiver<BlockId> {
        self.newest.subscribe()
    }

    /// Each finalised block from now on.
    pub fn finalized_blocks(&self) -> broadcast::Receiver<BlockId> {
        self.announce.subscribe()
    }

    /// Lets the node pass extrinsics on to other nodes, and know how many there are. For a log this is its
    /// `LogHandle`.
    pub fn set_gossip(&self, network: Arc<dyn Network>) {
        *self.network.write() = Some(network);
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// State after a block that is final, or was executed here.
    pub(crate) fn state_at(&self, hash: &Hash) -> Result<State, NodeError> {
        let pending = self.pending.lock();
        let (mut deltas, mut at, mut root) = (vec![], *hash, None);
        while let Some(block) = pending.get(&at) {
            root = root.or(Some(block.header.state_root));
            deltas.push(block.delta.clone());
            at = block.parent;
        }
        drop(pending);
        // The order matters: what became final after the lock was released is in the store by now.
        let header = self.finalized_header(&at)?;
        if !self.store.keeps(header.number, self.head().number) {
            return Err(NodeError::UnknownBlock(at));
        }
        let nodes = Nodes { pending: deltas, table: Some(self.store.nodes()?) };
        Ok(trie::state(nodes, root.unwrap_or(header.state_root)))
    }

    fn finalized_header(&self, hash: &Hash) -> Result<Header, NodeError> {
        let bytes = self.store.header(hash)?.ok_or(NodeError::UnknownBlock(*hash))?;
        codec::DecodeAll::decode_all(&mut bytes.as_slice()).map_err(|_| NodeError::Damaged("header"))
    }

    /// Header of a block that is final, or was executed here.
    pub(crate) fn header_of(&self, hash: &Hash) -> Result<Header, NodeError> {
        let pending = self.pending.lock().get(hash).map(|block| block.header.clone());
        pending.map_or_else(|| self.finalized_header(hash), Ok)
    }

    /// Whether a block is final, or was executed here.
    pub(crate) fn knows(&self, hash: &Hash) -> Result<bool, NodeError> {
        Ok(self.pending.lock().contains_key(hash) || self.store.header(hash)?.is_some())
    }

    /// Remembers a block that was executed.
    pub(crate) fn remember(&self, block: &Parsed, delta: Delta) -> Arc<Pending> {
        let signed: Vec<_> = block
            .extrinsics
            .iter()
            .enumerate()
            .filter_map(|(index, bytes)| {
                let extrinsic = Extrinsic::decode(bytes).ok()?;
                let (signer, nonce) = extrinsic.signer()?;
                Some((index as u32, extrinsic.hash, signer, nonce))
            })
            .collect();
        let executed = Arc::new(Pending {
            number: block.header.number,
            parent: Hash(block.header.parent_hash.0),
            header: block.header.clone(),
            delta: Arc::new(delta),
            signed,
        });
        let mut pool = self.pool.lock();
        pool.in_block(executed.number, executed.signed.iter().map(|(_, hash, ..)| *hash));
        self.tell_ready(&pool);
        drop(pool);
        let mut pending = self.pending.lock();
        pending.insert(block.hash, executed.clone());
        while pending.len() > MAX_PENDING {
            let Some(lowest) = pending.iter().min_by_key(|(_, block)| block.number).map(|(hash, _)| *hash) else {
                break;
            };
            pending.remove(&lowest);
        }
        executed
    }

    /// Executes a block whose parent is known, unless that was done before.
    pub(crate) fn execute(&self, block: &Parsed) -> Result<(), execute::Refusal> {
        if !self.knows(&block.hash)? {
            let parent = self.state_at(&Hash(block.header.parent_hash.0))?;
            let delta = execute::verify(&parent, block)?;
            self.remember(block, delta);
        }
        Ok(())
    }

    /// Makes a block final: the store first, then everybody hears of it. Repeats are ignored.
    pub(crate) fn finalize(&self, block: &Block, finality: &Finality) -> Result<(), FinalizeError> {
        let parsed = block::parse(block).ok_or(FinalizeError::Unreadable)?;
        let (number, hash) = (parsed.header.number, parsed.hash);
        let head = self.head();
        if number <= head.number {
            let ours = self.store.hash(number)?;
            return if ours == Some(hash) { Ok(()) } else { Err(FinalizeError::Fork { number, hash }) };
        }
        if Hash(parsed.header.parent_hash.0) != head.hash {
            return Err(FinalizeError::Gap { number, head: head.number });
        }
        self.execute(&parsed)?;
        let executed = self.pending.lock().get(&hash).cloned().ok_or(FinalizeError::Unreadable)?;
        self.store.commit(&Commit {
            number,
            hash,
            header: &block.header,
            body: &block.body,
            finality,
            delta: &executed.delta,
        })?;
        let id = BlockId { number, hash };
        self.newest.send_replace(id);
        self.pending.lock().retain(|_, block| block.number > number);
        self.pool.lock().finalized(number, hash, &executed.signed);
        self.check_inbox();
        // Nobody may be listening.
        let _ = self.announce.send(id);
        Ok(())
    }

    /// The entry of the finalised state under `key`, or its absence, with what proves it to a light client.
    pub fn fact(&self, key: &[u8]) -> Result<Fact, Coded> {
        self.fact_at(&self.head().hash, key)
    }

    /// As [`Node::fact`], under a given block. `UnknownBlock` if there is no such block.
    pub fn fact_at(&self, at: &Hash, key: &[u8]) -> Result<Fact, Coded> {
        let head = self.finalized_head(at)?;
        let proof = trie::prove(&self.state_at(at)?, &[key.to_vec()])?;
        Ok(Fact { head, key: key.to_vec(), proof })
    }

    fn finalized_head(&self, at: &Hash) -> Result<FinalizedHead, Coded> {
        match (self.store.header(at)?, self.store.finality(at)?) {
            (Some(header), Some(finality)) => Ok(FinalizedHead { header, finality }),
            _ => Err(NodeError::UnknownBlock(*at).into()),
        }
    }

    /// Value under `key` in the state after a finalised block.
    pub fn storage(&self, at: &Hash, key: &[u8]) -> Result<Option<Vec<u8>>, Coded> {
        Ok(trie::value(&self.finalized_state(at)?, key)?)
    }

    /// State after a finalised block, if it is kept.
    pub(crate) fn finalized_state(&self, at: &Hash) -> Result<State, NodeError> {
        self.finalized_header(at)?;
        self.state_at(at)
    }

    /// Checks an extrinsic in opaque encoding, puts it into the pool and passes it on. Returns the BLAKE2b-256 hash of
    /// the bytes. One that is in the pool already is fine.
    pub fn submit(&self, extrinsic: &[u8]) -> Result<Hash, Coded> {
        let hash = blake2_256(extrinsic);
        if self.pool.lock().contains(&hash) {
            return Ok(hash);
        }
        self.admit(extrinsic)?;
        if let Some(network) = &*self.network.read() {
            network.broadcast(vec![extrinsic.to_vec()].encode().into());
        }
        Ok(hash)
    }

    /// Checks an extrinsic on the newest finalised state and puts it into the pool.
    pub(crate) fn admit(&self, bytes: &[u8]) -> Result<(), Coded> {
        let refuse = |detail: &str| Coded::new(Code::BadExtrinsic, detail);
        if bytes.len() > MAX_BLOCK_LENGTH as usize / 2 {
            return Err(Coded::new(Code::TooLarge, "an extrinsic has at most 512 KiB"));
        }
        let extrinsic = Extrinsic::decode(bytes).map_err(|error| refuse(&format!("it does not decode: {error}")))?;
        let (account, nonce) = extrinsic.signer().ok_or_else(|| refuse("it is not signed by an account"))?;
        if self.pool.lock().banned(&extrinsic.hash) {
            return Err(refuse("it was found invalid a moment ago"));
        }
        let head = self.head();
        let state = self.state_at(&head.hash)?;
        let (valid, next) =
            execute::validate(&state, &head.hash, &extrinsic, &account)?.map_err(|error| refuse(error.into()))?;
        let until = u64::from(head.number).saturating_add(valid.longevity).min(u32::MAX.into()) as u32;
        let entry = Candidate {
            hash: extrinsic.hash,
            bytes: Bytes::copy_from_slice(bytes),
            account,
            nonce,
            priority: valid.priority,
            until,
            arrival: 0,
        };
        let mut pool = self.pool.lock();
        pool.insert(entry, next)?;
        self.tell_ready(&pool);
        Ok(())
    }

    /// Keeps a message of another node until there is time for it.
    pub(crate) fn take_in(&self, message: Bytes) {
        let mut inbox = self.inbox.lock();
        if inbox.bytes.saturating_add(message.len()) > MAX_INBOX {
            return;
        }
        inbox.bytes = inbox.bytes.saturating_add(message.len());
        inbox.messages.push_back(message);
        drop(inbox);
        self.ready.send_replace(true);
    }

    /// Checks what other nodes sent, oldest first.
    pub(crate) fn check_inbox(&self) {
        let mut left = INBOX_BATCH;
        while left > 0 {
            let mut inbox = self.inbox.lock();
            let Some(message) = inbox.messages.pop_front() else { break };
            inbox.bytes = inbox.bytes.saturating_sub(message.len());
            drop(inbox);
            let extrinsics: Vec<Vec<u8>> = codec::DecodeAll::decode_all(&mut &*message).unwrap_or_default();
            for extrinsic in extrinsics.iter().take(left) {
                left = left.saturating_sub(1);
                // Whoever sent what is invalid is not told, and an honest node's view may merely be older.
                if !self.pool.lock().contains(&blake2_256(extrinsic))
                    && let Err(error) = self.admit(extrinsic)
                {
                    tracing::debug!(%error, "an extrinsic of another node is refused");
                }
            }
        }
        let pool = self.pool.lock();
        self.tell_ready(&pool);
    }

    fn tell_ready(&self, pool: &Pool) {
        let ready = pool.has_ready() || !self.inbox.lock().messages.is_empty();
        self.ready.send_if_modified(|old| std::mem::replace(old, ready) != ready);
    }
}

/// Why a finalised block was not taken. None of these can be mended while the node runs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FinalizeError {
    #[error("the block is not readable")]
    Unreadable,
    #[error("another block is final at height {number} than {hash}: more than a third of the validators are faulty")]
    Fork { number: u32, hash: Hash },
    #[error("block {number} does not follow the head at {head}: the folders of node and log do not belong together")]
    Gap { number: u32, head: u32 },
    #[error("the block cannot be executed: {0}")]
    Execution(#[from] execute::Refusal),
    #[error(transparent)]
    Node(#[from] NodeError),
}

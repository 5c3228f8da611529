//! The chain: four validators, and what others ask of them.

use crate::{
    account::Account,
    history::{Event, History},
    plan::{Log, MEMBERS},
    rng::Seeded,
};
use bytes::Bytes;
use codec::DecodeAll;
use ed25519_dalek::SigningKey;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use phala_consensus::{Application, LogConfig, Peer, Secret, Sim};
use phala_node::{GenesisSpec, Node, NodeConfig};
use phala_primitives::{
    Block, ClusterId, Fact, Finality, Hash, Position, PublicKey, Shape, Verdict,
    records::{ClusterRecord, chain_namespace},
    storage,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

/// Hosts of the validators are numbered from here.
const HOSTS: usize = 0;
/// How often someone looks whether something has become final, in milliseconds.
const LOOK_MS: u64 = 250;
/// How long anything on the chain may take, in milliseconds.
const PATIENCE_MS: u64 = 120_000;
/// How often an extrinsic that is not in a block yet is submitted again, in milliseconds.
const AGAIN_MS: u64 = 4_000;

/// Something that had to happen in a run did not.
#[derive(Debug)]
pub(crate) struct Stuck(pub(crate) String);

pub(crate) fn stuck(what: impl std::fmt::Display) -> Stuck {
    Stuck(what.to_string())
}

/// A node that tells the history what it takes as final.
struct Watched {
    node: Arc<Node>,
    member: u32,
    sim: Sim,
    history: History,
}

impl Application for Watched {
    fn genesis(&self) -> Block {
        self.node.genesis()
    }

    fn inspect(&self, block: &Block) -> Option<Shape> {
        self.node.inspect(block)
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        Application::ready(&*self.node)
    }

    fn propose(&self, at: Position, ancestry: &[Block]) -> Option<Block> {
        self.node.propose(at, ancestry)
    }

    fn verify(&self, at: Position, ancestry: &[Block], block: &Block) -> Verdict {
        self.node.verify(at, ancestry, block)
    }

    fn finalized(&self, block: Block, finality: Finality) {
        let now = self.sim.now_ms();
        if let Ok(header) = phala_runtime::Header::decode_all(&mut &*block.header) {
            let (height, root) = (header.number.into(), Some(Hash(header.state_root.0)));
            let digest = block.digest();
            self.history.add(now, Event::Final { log: Log::Chain, member: self.member, height, digest, root });
        }
        Application::finalized(&*self.node, block, finality);
        let height = self.node.head().number.into();
        self.history.add(now, Event::Height { log: Log::Chain, member: self.member, height });
    }

    fn received(&self, from: PublicKey, message: Bytes) {
        self.node.received(from, message);
    }
}

/// The validators, as everyone outside of them sees them.
pub(crate) struct Chain {
    pub(crate) sim: Sim,
    pub(crate) genesis: Hash,
    history: History,
    spec: GenesisSpec,
    keys: Vec<SigningKey>,
    nodes: Mutex<Vec<Option<Arc<Node>>>>,
    /// Folders of those that will be started again from their disk; the others keep all in memory.
    folders: Vec<Option<PathBuf>>,
}

/// ed25519 keys of the validators.
fn keys(seed: u64) -> Vec<SigningKey> {
    let mut rng = Seeded::new(seed, "validators");
    (0..MEMBERS).map(|_| SigningKey::from_bytes(&rng.bytes())).collect()
}

/// A member of a simulated log. Its address means nothing.
pub(crate) fn peer(key: PublicKey) -> Peer {
    Peer { key, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)) }
}

/// The key that stands for a host in a simulated log.
pub(crate) fn public(key: &SigningKey) -> PublicKey {
    key.verifying_key().to_bytes()
}

impl Chain {
    /// Starts all validators of a network. Those with a folder keep their disk there.
    pub(crate) async fn start(
        sim: &Sim,
        seed: u64,
        history: &History,
        spec: impl FnOnce(Vec<PublicKey>) -> GenesisSpec,
        folders: Vec<Option<PathBuf>>,
    ) -> Result<Arc<Self>, Stuck> {
        let keys = keys(seed);
        let spec = spec(keys.iter().map(public).collect());
        let genesis = Node::open(NodeConfig::new(spec.clone())).map_err(stuck)?.genesis_hash();
        let nodes = Mutex::new(vec![None; MEMBERS]);
        let (sim, history) = (sim.clone(), history.clone());
        let chain = Arc::new(Self { sim, genesis, history, spec, keys, nodes, folders });
        for member in 0..MEMBERS {
            chain.start_one(member).await?;
        }
        Ok(chain)
    }

    /// Starts a validator from what its disk holds.
    pub(crate) async fn start_one(&self, member: usize) -> Result<(), Stuck> {
        let config = NodeConfig {
            folder: self.folders[member].clone(),
            cache: 8 << 20,
            build_time: Duration::MAX,
            validator: true,
            ..NodeConfig::new(self.spec.clone())
        };
        let node = Node::open(config).map_err(|error| stuck(format!("validator {member}: {error}")))?;
        let height = node.head().number.into();
        self.history.add(self.sim.now_ms(), Event::Height { log: Log::Chain, member: member as u32, height });
        let peers = self.keys.iter().map(|key| peer(public(key))).collect();
        let secret = Secret::new(self.keys[member].to_bytes());
        let config = LogConfig::chain(secret, peers, 0, chain_namespace(&self.genesis), "chain".into());
        let (sim, history) = (self.sim.clone(), self.history.clone());
        let app = Arc::new(Watched { node: node.clone(), member: member as u32, sim, history });
        let log = self.sim.start(HOSTS + member, config, app).await.map_err(stuck)?;
        node.set_gossip(Arc::new(log));
        self.nodes.lock()[member] = Some(node);
        Ok(())
    }

    /// A validator's machine dies.
    pub(crate) async fn crash(&self, member: usize) -> Result<(), Stuck> {
        let node = self.nodes.lock()[member].take();
        self.sim.crash(HOSTS + member).await;
        // The next start opens the same folder: nothing of the dead process may hold it.
        match node.and_then(Arc::into_inner) {
            Some(_dead) => Ok(()),
            None => Err(stuck(format!("validator {member} outlived its crash"))),
        }
    }

    /// The validators that run.
    pub(crate) fn live(&self) -> Vec<Arc<Node>> {
        self.nodes.lock().iter().flatten().cloned().collect()
    }

    /// All validators; fails if one does not run.
    pub(crate) fn all(&self) -> Result<Vec<Arc<Node>>, Stuck> {
        let live = self.live();
        if live.len() == MEMBERS { Ok(live) } else { Err(stuck("a validator does not run")) }
    }

    /// A validator that runs, by chance.
    pub(crate) fn any(&self) -> Option<Arc<Node>> {
        let mut live = self.live();
        let at = usize::try_from(self.sim.random() % live.len().max(1) as u64).unwrap_or(0);
        (at < live.len()).then(|| live.swap_remove(at))
    }

    /// Public keys of the validators.
    pub(crate) fn validators(&self) -> Vec<PublicKey> {
        self.keys.iter().map(public).collect()
    }

    /// Has accounts make calls, and waits until some validator's final state satisfies `done`.
    pub(crate) async fn perform<T>(
        &self,
        what: &str,
        calls: Vec<(&Account, phala_runtime::RuntimeCall)>,
        done: impl Fn(&Node) -> Option<T>,
    ) -> Result<T, Stuck> {
        let extrinsics: Vec<_> =
            calls.into_iter().map(|(account, call)| account.extrinsic(&self.genesis, call).1).collect();
        for round in 0..PATIENCE_MS / LOOK_MS {
            if round % (AGAIN_MS / LOOK_MS) == 0 {
                for node in self.live() {
                    // It is in a block already, perhaps, or the pool has it.
                    extrinsics.iter().for_each(|bytes| drop(node.submit(bytes)));
                }
            }
            self.sim.sleep_ms(LOOK_MS).await;
            if let Some(found) = self.live().iter().find_map(|node| done(node)) {
                return Ok(found);
            }
        }
        Err(stuck(format!("{what} did not become final on the chain")))
    }

    /// Waits until the chain proves an entry of its state that is there.
    pub(crate) async fn fact(&self, what: &str, key: &[u8]) -> Result<Fact, Stuck> {
        let proven = |node: &Node| {
            let fact = node.fact(key).ok()?;
            node.storage(&fact.head.hash(), key).ok().flatten().map(|_| fact)
        };
        self.perform(what, vec![], proven).await
    }

    /// What a node's final state holds under a key.
    pub(crate) fn read<T: DecodeAll>(node: &Node, key: &[u8]) -> Option<T> {
        let bytes = node.storage(&node.head().hash, key).ok().flatten()?;
        T::decode_all(&mut bytes.as_slice()).ok()
    }

    /// A cluster's record, by the validator that is furthest.
    pub(crate) fn cluster(&self, cluster: ClusterId) -> Option<ClusterRecord> {
        let node = self.live().into_iter().max_by_key(|node| node.head().number)?;
        Self::read(&node, &storage::cluster(cluster))
    }
}

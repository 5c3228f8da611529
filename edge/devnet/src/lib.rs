//! A whole network in one process, for development and tests: validators, workers, key service, RPC. Every part is
//! the one that runs on a machine of its own, connected over loopback; attestation is SIMULATED.
//!
//! The folder (see [`folder`]) keeps the chain, the workers' state and what stands for hardware. Started again on the
//! same folder, the chain goes on from its last block, and the workers, whose identities died with the process, rejoin
//! their cluster with a new epoch.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod folder;
mod keys;
mod memory;
pub mod parts;
mod ports;

use crate::{
    folder::{Folder, Secrets},
    keys::KeyHouse,
    memory::Memory,
    ports::{Kept, keep_address, loopback},
};
use codec::{Decode, Encode};
use futures::future::BoxFuture;
use phala_attest::Anchors;
use phala_client::{Account, Call, Chain};
use phala_consensus::{LogConfig, LogHandle, Peer, Runtime, Secret};
use phala_node::{Node, NodeConfig};
use phala_primitives::{AccountId, Code, Coded, Hash, PublicKey, blake2_256, records::chain_namespace};
use phala_rpc::{Limits, Server};
use phala_runtime::GenesisSpec;
use phala_simtee::SimVendor;
pub use phala_worker::EgressPolicy;
use phala_worker::{Worker, WorkerConfig};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

/// What kind of evidence stands behind a development network.
pub const ATTESTATION: &str = "SIMULATED";
/// How long the network may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most clusters.
pub const MAX_CLUSTERS: usize = 8;

/// What a network is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder to keep; a temporary one if `None`.
    pub folder: Option<PathBuf>,
    /// Validators, at least one.
    pub validators: usize,
    /// Clusters, at least one.
    pub clusters: usize,
    /// Workers of each cluster: 1, or 4 to 7.
    pub workers: usize,
    /// Workers that wait in the pool to take the place of one of those, in whichever cluster.
    pub spare: usize,
    /// Port of the JSON-RPC; 0 takes a free one.
    pub rpc_port: u16,
    /// Port of the first worker, the others follow; 0 takes free ones.
    pub worker_port: u16,
    /// What contracts may reach over HTTP.
    pub egress: EgressPolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            folder: None,
            validators: 4,
            clusters: 1,
            workers: 4,
            spare: 0,
            rpc_port: 0,
            worker_port: 0,
            egress: EgressPolicy::default(),
        }
    }
}

/// What the genesis was made of, kept so that a later start gives the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
struct Sizes {
    validators: u32,
    clusters: u32,
    workers: u32,
    spare: u32,
}

impl From<&Config> for Sizes {
    fn from(config: &Config) -> Self {
        let Config { validators, clusters, workers, spare, .. } = config;
        let [validators, clusters, workers, spare] = [validators, clusters, workers, spare].map(|size| *size as u32);
        Self { validators, clusters, workers, spare }
    }
}

impl Config {
    /// All workers.
    fn machines(&self) -> usize {
        self.clusters.saturating_mul(self.workers).saturating_add(self.spare)
    }
}

/// A running network.
pub struct Devnet {
    genesis: Hash,
    rpc: Server,
    nodes: Vec<Arc<Node>>,
    logs: Vec<LogHandle>,
    workers: Vec<Option<Worker>>,
    /// With what each worker starts.
    configs: Vec<WorkerConfig>,
    /// What completes when a worker that was killed has let go of its files.
    killed: BTreeMap<usize, BoxFuture<'static, ()>>,
    /// Dropped last: stops what still runs and waits for it.
    runtimes: Vec<Arc<Runtime>>,
    folder: Folder,
    /// Where validators and workers meet their peers.
    _addresses: Vec<Kept>,
    /// The clusters' consensus syncs often, and its journals are worth nothing after a restart, because every start
    /// has new keys.
    _memory: Memory,
}

impl Devnet {
    /// Starts the network; returns when its clusters answer. `progress` is told of each step.
    pub async fn start(config: Config, progress: impl Fn(&str)) -> Result<Self, Coded> {
        if !matches!(config.workers, 1 | 4..=7)
            || !(1..=MAX_CLUSTERS).contains(&config.clusters)
            || config.validators == 0
        {
            let detail = "a network has at least 1 validator, and 1 to 8 clusters of 1 or 4 to 7 workers";
            return Err(Coded::new(Code::BadArgument, detail));
        }
        let folder = Folder::open(config.folder.as_deref())?;
        let (all, sizes) = (config.machines(), Sizes::from(&config));
        let kept: Sizes = folder.read_or_make("sizes", || Ok(sizes))?;
        if kept != sizes {
            let detail = format!(
                "the folder holds a network of {} validators, {} clusters of {} workers, and {} spare ones",
                kept.validators, kept.clusters, kept.workers, kept.spare
            );
            return Err(Coded::new(Code::BadArgument, detail));
        }
        let secrets: Secrets = folder.read_or_make("secrets", || Secrets::draw(config.validators, all + 1))?;
        let vendor = SimVendor::from_seed(&secrets.vendor);

        progress("starting validators");
        let chain_runtime = Arc::new(Runtime::start(&folder.below("chain/consensus")?, 2)?);
        let validators = start_validators(&config, &folder, &secrets, &vendor, &chain_runtime)?;
        let Validators { nodes, logs, mut addresses } = validators;
        let first = nodes.first().ok_or(Code::Internal)?;
        let genesis = first.genesis_hash();
        let rpc = phala_rpc::serve(loopback(config.rpc_port), Limits::default(), first.clone()).await?;
        let url = format!("ws://{}", rpc.address());
        let chain = Arc::new(Chain::connect(&url, Some(genesis)).await?);

        progress("starting workers");
        let memory = Memory::open()?;
        let cluster_runtime = Arc::new(Runtime::start(memory.path(), 2)?);
        let machine = |index: usize| {
            let seed = secrets.machines.get(index).copied().unwrap_or_default();
            Arc::new(vendor.machine(&seed, measurement()))
        };
        let keys = Arc::new(KeyHouse::open(&folder, machine(all).as_ref(), chain.clone())?);
        let (mut workers, mut configs) = (vec![], vec![]);
        for index in 0..all {
            let peer = keep_address()?;
            let port = if config.worker_port == 0 { 0 } else { config.worker_port + index as u16 };
            configs.push(WorkerConfig {
                account: Arc::new(Account::from_suri(&worker_suri(index))?),
                chain_url: url.clone(),
                genesis,
                listen: loopback(port),
                peer: peer.address,
                folder: folder.below(&format!("workers/{index}"))?,
                provider: machine(index),
                egress: config.egress,
                keys: keys.clone(),
                runtime: cluster_runtime.clone(),
            });
            addresses.push(peer);
        }
        for config in &configs {
            workers.push(Some(Worker::start(config.clone()).await?));
        }
        let net = Self {
            genesis,
            rpc,
            nodes,
            logs,
            workers,
            configs,
            killed: BTreeMap::new(),
            runtimes: vec![cluster_runtime, chain_runtime],
            folder,
            _addresses: addresses,
            _memory: memory,
        };
        net.form_clusters(&chain, &config).await?;
        progress(if config.clusters == 1 { "waiting for the cluster" } else { "waiting for the clusters" });
        tokio::time::timeout(PATIENCE, net.ready(&chain))
            .await
            .map_err(|_| Coded::new(Code::NotReady, format!("after {} s", PATIENCE.as_secs())))??;
        Ok(net)
    }

    /// Makes the clusters that the chain does not have yet, once their workers are registered.
    async fn form_clusters(&self, chain: &Arc<Chain>, config: &Config) -> Result<(), Coded> {
        let there = chain.clusters().await? as usize;
        let workers: Vec<AccountId> = self.workers.iter().flatten().map(Worker::id).collect();
        let mut groups = workers.chunks(config.workers).take(config.clusters).skip(there).peekable();
        if groups.peek().is_none() {
            return Ok(());
        }
        let mut heads = chain.heads().await?;
        let founder = Account::from_suri(&worker_suri(0))?;
        let mut calls = vec![];
        for group in groups {
            for worker in group {
                while chain.worker(worker).await?.is_none() {
                    heads.next().await?;
                }
            }
            calls.push(Call::create_cluster(group));
        }
        chain.submit(&founder, &Call::batch_all(&calls)).await.map(|_| ())
    }

    /// Completes when the members of all clusters serve, whoever they are by now.
    async fn ready(&self, chain: &Chain) -> Result<(), Coded> {
        for cluster in 0..chain.clusters().await? {
            let record = chain.cluster(cluster).await?.ok_or(Code::NoSuchCluster)?;
            for worker in self.workers.iter().flatten() {
                if record.members.iter().any(|member| member.worker == worker.id()) {
                    worker.ready().await?;
                }
            }
        }
        Ok(())
    }

    /// Genesis hash of the chain.
    pub fn genesis(&self) -> Hash {
        self.genesis
    }

    /// Address of the JSON-RPC.
    pub fn rpc_url(&self) -> String {
        format!("ws://{}", self.rpc.address())
    }

    /// Base URLs of the workers that live.
    pub fn worker_urls(&self) -> Vec<String> {
        self.workers.iter().flatten().map(|worker| format!("http://{}", worker.address())).collect()
    }

    /// The folder that holds the network.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Height of the chain's newest final block.
    pub fn height(&self) -> u32 {
        self.nodes.first().map_or(0, |node| node.head().number)
    }

    /// The first worker that leads a cluster, which is cluster 0 as long as that has a leader and the members that it
    /// began with: its place and its account.
    pub fn leader(&self) -> Option<(usize, AccountId)> {
        let led = |(index, worker): (usize, &Option<Worker>)| {
            worker.as_ref().filter(|worker| worker.leads()).map(|worker| (index, worker.id()))
        };
        self.workers.iter().enumerate().find_map(led)
    }

    /// The worker at a place, if it lives.
    fn worker(&self, index: usize) -> Option<&Worker> {
        self.workers.get(index)?.as_ref()
    }

    /// Kills a worker as a crash would. Returns its account.
    pub fn kill_worker(&mut self, index: usize) -> Option<AccountId> {
        let worker = self.workers.get_mut(index)?.take()?;
        let id = worker.id();
        self.killed.insert(index, Box::pin(worker.kill()));
        Some(id)
    }

    /// Starts a worker from what its folder holds, after killing it if it lives. Returns when it serves: the others have
    /// gone on in a new epoch of the cluster then, in which it has a vote.
    pub async fn restart_worker(&mut self, index: usize) -> Result<AccountId, Coded> {
        let id = self.start_worker(index).await?;
        if let Some(worker) = self.worker(index) {
            worker.ready().await?;
        }
        Ok(id)
    }

    /// The same, but does not wait: the worker may have no seat any more.
    pub async fn start_worker(&mut self, index: usize) -> Result<AccountId, Coded> {
        let config = self.configs.get(index).ok_or(Code::BadArgument)?.clone();
        self.kill_worker(index);
        if let Some(ended) = self.killed.remove(&index) {
            ended.await;
        }
        let worker = Worker::start(config).await?;
        let id = worker.id();
        if let Some(seat) = self.workers.get_mut(index) {
            *seat = Some(worker);
        }
        Ok(id)
    }

    /// Stops everything in order; the folder can then be used again.
    pub async fn stop(mut self) {
        for worker in self.workers.drain(..).flatten() {
            worker.stop().await;
        }
        for log in &self.logs {
            log.stop();
            log.stopped().await;
        }
        self.rpc.stop().await;
        let runtimes = std::mem::take(&mut self.runtimes);
        // Dropping a runtime waits for its threads.
        let _ = tokio::task::spawn_blocking(move || drop(runtimes)).await;
    }
}

/// Public half of an ed25519 seed.
fn public_key(seed: &[u8; 32]) -> PublicKey {
    ed25519_dalek::SigningKey::from_bytes(seed).verifying_key().to_bytes()
}

/// Secret of a worker's account on a development network.
fn worker_suri(index: usize) -> String {
    format!("//Worker//{index}")
}

/// Measurement of this program, as far as a SIMULATED machine can have one.
fn measurement() -> Hash {
    blake2_256(concat!("phala-worker ", env!("CARGO_PKG_VERSION")).as_bytes())
}

struct Validators {
    nodes: Vec<Arc<Node>>,
    logs: Vec<LogHandle>,
    addresses: Vec<Kept>,
}

fn start_validators(
    config: &Config,
    folder: &Folder,
    secrets: &Secrets,
    vendor: &SimVendor,
    runtime: &Runtime,
) -> Result<Validators, Coded> {
    let keys: Vec<PublicKey> = secrets.validators.iter().map(public_key).collect();
    let anchors = Anchors { simulated: vec![vendor.anchor()] };
    let spec = GenesisSpec::dev("Phala Devnet", keys.clone(), config.machines() as u32, anchors);
    let addresses: Vec<Kept> = keys.iter().map(|_| keep_address()).collect::<Result<_, _>>()?;
    let peers: Vec<Peer> =
        keys.iter().zip(&addresses).map(|(key, kept)| Peer { key: *key, address: kept.address }).collect();
    let (mut nodes, mut logs) = (vec![], vec![]);
    for (index, (seed, Kept { address: listen, .. })) in secrets.validators.iter().zip(&addresses).enumerate() {
        let node = Node::open(NodeConfig {
            folder: Some(folder.below(&format!("chain/validator-{index}"))?),
            peer_id: keys.get(index).map(|key| Hash(*key).to_string()).unwrap_or_default(),
            listen: vec![listen.to_string()],
            validator: true,
            cache: 16 << 20,
            ..NodeConfig::new(spec.clone())
        })?;
        let namespace = chain_namespace(&node.genesis_hash());
        let log = LogConfig::chain(Secret::new(*seed), peers.clone(), 0, namespace, format!("validator-{index}"));
        let handle = runtime.start_log(*listen, log, node.clone())?;
        node.set_gossip(Arc::new(handle.clone()));
        nodes.push(node);
        logs.push(handle);
    }
    Ok(Validators { nodes, logs, addresses })
}

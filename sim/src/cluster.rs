//! The cluster: four workers, from their registration on the chain to their seats in an epoch, as the product does it.
//!
//! A replica that died has lost its vote with its keys. When it comes back, it registers keys of a new start and asks for
//! a seat; the other three finish the epoch's log with the entry that the chain has planned, and all enter the epoch
//! that the chain then begins, who is behind after catching up from the others' logs.
//!
//! When all four come back at once, nobody can finish the log: they report to the chain how far their logs go, and it
//! goes on from the highest entry.

use crate::{
    account::Account,
    app::ReplicaApp,
    chain::{Chain, Stuck, peer, public, stuck},
    disk::Disk,
    history::{Event, History},
    plan::{Log, MEMBERS},
    rng::Seeded,
};
use codec::Encode;
use ed25519_dalek::SigningKey;
use parking_lot::Mutex;
use phala_attest::{Provider, identity_report_data};
use phala_consensus::{LogConfig, LogHandle, Secret, Sim};
use phala_keys::{ChainView, ClusterKeys, DevKeyService, KeyRequest, KeyService, RecipientKey};
use phala_node::Node;
use phala_pink::{HttpError, HttpRequest, HttpResult, Outside, Pink};
use phala_primitives::{
    AccountId, ClusterId, Hash, PublicKey,
    records::{self, ClusterRecord, Plan, WorkerRecord, cluster_namespace},
    storage,
};
use phala_replica::{Config, EntryLog, MemoryLog, Replica};
use phala_runtime::RuntimeCall;
use phala_session::CertificateCache;
use phala_simtee::{SimTee, SimVendor};
use phala_vm::{Capacity, Engine};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

/// Number of the only cluster.
pub(crate) const CLUSTER: ClusterId = 0;
/// Hosts of the replicas are numbered from here.
const HOSTS: usize = 100;
/// All members.
const ALL: [usize; MEMBERS] = [0, 1, 2, 3];
/// How long three members may take to finish an epoch's log, and how often it is looked whether they have.
const SEALING_MS: u64 = 60_000;
const LOOK_MS: u64 = 20;

/// One for all replicas of all runs: it only caches what it compiled.
static ENGINE: LazyLock<Result<Engine, String>> = LazyLock::new(|| {
    let pink = Pink::new([7; 32], [9; 32], Arc::new(Nowhere), Arc::default());
    Engine::with_extension(Capacity::default(), Arc::new(pink)).map_err(|error| error.to_string())
});

/// No outside world: contracts ask for it in commands only.
struct Nowhere;

impl Outside for Nowhere {
    fn http(&self, _: &AccountId, requests: Vec<HttpRequest>, _: u64) -> Vec<HttpResult> {
        requests.iter().map(|_| Err(HttpError::NetworkError)).collect()
    }
    fn random(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
    fn now_ms(&self) -> u64 {
        0
    }
    fn log(&self, _: &AccountId, _: u8, _: &str) {}
}

/// Keys of one start of a worker.
struct Keys {
    identity: SigningKey,
    recipient: RecipientKey,
}

/// One worker with its disk, and what runs on it.
struct Seat {
    worker: Account,
    machine: SimTee,
    disk: Disk,
    log: Arc<MemoryLog>,
    starts: u32,
    /// Of the present start.
    keys: Option<Keys>,
    running: Option<(Arc<Replica>, LogHandle)>,
}

impl Seat {
    fn keys(&self) -> Result<&Keys, Stuck> {
        self.keys.as_ref().ok_or_else(|| stuck("a worker that never started"))
    }
}

/// What clients see of a cluster.
#[derive(Default)]
pub(crate) struct Served {
    replicas: Mutex<BTreeMap<usize, Arc<Replica>>>,
    members: Mutex<BTreeMap<u64, Vec<PublicKey>>>,
}

impl Served {
    /// A replica that is up, by chance, but not the one named if there is another.
    pub(crate) fn any(&self, sim: &Sim, but: Option<usize>) -> Option<(usize, Arc<Replica>)> {
        let replicas = self.replicas.lock();
        let mut all: Vec<_> = replicas.iter().collect();
        if all.len() > 1 {
            all.retain(|(member, _)| Some(**member) != but);
        }
        let at = usize::try_from(sim.random() % all.len().max(1) as u64).unwrap_or(0);
        all.get(at).map(|(member, replica)| (**member, (*replica).clone()))
    }

    /// This replica, if it is up.
    pub(crate) fn get(&self, member: usize) -> Option<Arc<Replica>> {
        self.replicas.lock().get(&member).cloned()
    }

    /// The identities that vote in an epoch, as the chain has them; in the newest, if none is named.
    pub(crate) fn members(&self, epoch: Option<u64>) -> Vec<PublicKey> {
        let members = self.members.lock();
        let newest = members.last_key_value().map(|(epoch, _)| *epoch);
        epoch.or(newest).and_then(|epoch| members.get(&epoch).cloned()).unwrap_or_default()
    }

    /// All replicas; fails if one is not up.
    pub(crate) fn all(&self) -> Result<Vec<Arc<Replica>>, Stuck> {
        let all: Vec<_> = self.replicas.lock().values().cloned().collect();
        if all.len() == MEMBERS { Ok(all) } else { Err(stuck("a replica does not run")) }
    }
}

/// The workers of the cluster.
pub(crate) struct Cluster {
    seed: u64,
    sim: Sim,
    chain: Arc<Chain>,
    history: History,
    service: DevKeyService,
    seats: Vec<Seat>,
    pub(crate) served: Arc<Served>,
}

/// A validator's final state, as the key service sees it.
struct View<'a>(&'a Chain, Arc<Node>);

impl ChainView for View<'_> {
    fn genesis(&self) -> Hash {
        self.0.genesis
    }
    fn now_ms(&self) -> u64 {
        self.0.sim.now_ms()
    }
    fn worker(&self, worker: &AccountId) -> Option<WorkerRecord> {
        Chain::read(&self.1, &storage::worker(worker))
    }
    fn cluster(&self, cluster: ClusterId) -> Option<ClusterRecord> {
        Chain::read(&self.1, &storage::cluster(cluster))
    }
}

/// The vendor of the workers' machines.
pub(crate) fn vendor(seed: u64) -> SimVendor {
    SimVendor::from_seed(&Seeded::new(seed, "vendor").bytes())
}

fn worker(seed: u64, member: usize) -> Account {
    Account::new(seed, &format!("worker {member}"))
}

/// Ids of the workers' accounts.
pub(crate) fn workers(seed: u64) -> Vec<AccountId> {
    (0..MEMBERS).map(|member| worker(seed, member).id()).collect()
}

fn identities(record: &ClusterRecord) -> Vec<PublicKey> {
    record.members.iter().map(|member| member.identity).collect()
}

impl Cluster {
    /// Starts four workers and has the chain make them a cluster.
    pub(crate) async fn start(
        chain: &Arc<Chain>,
        seed: u64,
        history: &History,
        owner: &Account,
    ) -> Result<Self, Stuck> {
        let mut rng = Seeded::new(seed, "machines");
        let mut seat = |member| Seat {
            worker: worker(seed, member),
            machine: vendor(seed).machine(&rng.bytes(), Hash([1; 32])),
            disk: Disk::default(),
            log: Arc::default(),
            starts: 0,
            keys: None,
            running: None,
        };
        let mut cluster = Self {
            seed,
            sim: chain.sim.clone(),
            chain: chain.clone(),
            history: history.clone(),
            service: DevKeyService::generate(&mut Seeded::new(seed, "master secret")),
            seats: (0..MEMBERS).map(&mut seat).collect(),
            served: Arc::default(),
        };
        cluster.register(&ALL).await?;
        let workers = cluster.seats.iter().map(|seat| seat.worker.frame()).collect();
        let create = RuntimeCall::Clusters(pallet_clusters::Call::create_cluster { workers });
        let exists = |node: &Node| Chain::read::<ClusterRecord>(node, &storage::cluster(CLUSTER));
        let record = chain.perform("the cluster", vec![(owner, create)], exists).await?;
        let opened = ALL.iter().map(|member| cluster.open(*member, &record)).collect::<Result<_, _>>()?;
        cluster.enter(opened, &record).await?;
        Ok(cluster)
    }

    /// A worker's machine dies.
    pub(crate) async fn crash(&mut self, member: usize) {
        self.served.replicas.lock().remove(&member);
        self.seats[member].running = None;
        self.sim.crash(HOSTS + member).await;
        self.seats[member].disk = self.seats[member].disk.crash();
    }

    /// A worker that died starts anew. The others finish the epoch, and all go on in another.
    pub(crate) async fn restart_one(&mut self, member: usize) -> Result<(), Stuck> {
        self.register(&[member]).await?;
        let old = self.chain.cluster(CLUSTER).ok_or_else(|| stuck("the cluster is gone from the chain"))?;
        let fresh = self.open(member, &old)?;
        let planned = |node: &Node| Chain::read::<Plan>(node, &storage::plan(CLUSTER));
        let call = self.rejoin(member, &fresh)?;
        let Plan::Seal { members } = self.chain.perform("the plan of the next epoch", vec![call], planned).await?
        else {
            return Err(stuck("three members are enough to finish an epoch"));
        };
        let others = || self.seats.iter().filter_map(|seat| seat.running.as_ref());
        others().for_each(|(replica, _)| replica.seal(records::seal(CLUSTER, old.epoch + 1, &members)));
        let mut sealed = None;
        for _ in 0..SEALING_MS / LOOK_MS {
            self.sim.sleep_ms(LOOK_MS).await;
            sealed = others().find_map(|(replica, _)| replica.sealed().ok().flatten());
            if sealed.is_some() {
                break;
            }
        }
        let held = sealed.ok_or_else(|| stuck("the epoch's log is not finished"))?;
        let proof = held.proof.ok_or_else(|| stuck("the end of the log is lost"))?.encode();
        let close = pallet_clusters::Call::close { cluster: CLUSTER, proof };
        let calls = vec![(&self.seats[member].worker, RuntimeCall::Clusters(close))];
        let record = self.chain.perform("the next epoch", calls, self.begun(&old)).await?;
        let mut opened = vec![];
        for (at, seat) in self.seats.iter_mut().enumerate() {
            match seat.running.take() {
                Some((replica, log)) => {
                    log.stop();
                    log.stopped().await;
                    opened.push(replica);
                }
                None if at == member => opened.push(fresh.clone()),
                None => return Err(stuck("a second replica does not run")),
            }
        }
        self.enter(opened, &record).await
    }

    /// Whether the chain has begun another epoch.
    fn begun(&self, old: &ClusterRecord) -> impl Fn(&Node) -> Option<ClusterRecord> + use<> {
        let before = old.epoch;
        move |node| {
            Chain::read::<ClusterRecord>(node, &storage::cluster(CLUSTER)).filter(|record| record.epoch > before)
        }
    }

    /// A worker's report to the chain.
    fn rejoin(&self, member: usize, replica: &Replica) -> Result<(&Account, RuntimeCall), Stuck> {
        let held = replica.anchor().map_err(stuck)?;
        let proof = held.proof.map(|proof| proof.encode());
        let call = pallet_clusters::Call::rejoin { cluster: CLUSTER, anchor: held.anchor, proof };
        Ok((&self.seats[member].worker, RuntimeCall::Clusters(call)))
    }

    /// All workers start anew, and go on in another epoch.
    pub(crate) async fn restart_all(&mut self) -> Result<(), Stuck> {
        for member in 0..MEMBERS {
            if let Some((_, log)) = &self.seats[member].running {
                log.stop();
                log.stopped().await;
            }
            self.crash(member).await;
        }
        self.register(&ALL).await?;
        let old = self.chain.cluster(CLUSTER).ok_or_else(|| stuck("the cluster is gone from the chain"))?;
        let opened: Vec<_> = ALL.iter().map(|member| self.open(*member, &old)).collect::<Result<_, _>>()?;
        let calls = ALL.iter().zip(&opened).map(|(member, replica)| self.rejoin(*member, replica));
        let calls = calls.collect::<Result<_, _>>()?;
        let record = self.chain.perform("the next epoch", calls, self.begun(&old)).await?;
        self.enter(opened, &record).await
    }

    /// Makes keys of a new start for some workers and registers them.
    async fn register(&mut self, members: &[usize]) -> Result<(), Stuck> {
        let mut keys = vec![];
        for member in members {
            let seat = &mut self.seats[*member];
            seat.starts += 1;
            let mut rng = Seeded::new(self.seed, &format!("start {} of worker {member}", seat.starts));
            let identity = SigningKey::from_bytes(&rng.bytes());
            let recipient = RecipientKey::generate(&mut rng);
            keys.push(public(&identity));
            seat.keys = Some(Keys { identity, recipient });
        }
        let mut calls = vec![];
        for member in members {
            let seat = &self.seats[*member];
            let Keys { identity, recipient } = seat.keys()?;
            let (own, to) = (public(identity), recipient.public());
            let report = identity_report_data(&self.chain.genesis, &seat.worker.id(), &own, &to);
            let call = pallet_registry::Call::register_worker {
                identity: own,
                recipient: to,
                endpoint: b"http://simulated".to_vec(),
                peer: b"simulated:1".to_vec(),
                evidence: seat.machine.quote(&report).map_err(stuck)?,
            };
            calls.push((&seat.worker, RuntimeCall::Registry(call)));
        }
        let known = |node: &Node| {
            let of = |seat: &Seat| Chain::read::<WorkerRecord>(node, &storage::worker(&seat.worker.id()));
            let mut pairs = members.iter().zip(&keys);
            pairs.all(|(at, own)| of(&self.seats[*at]).is_some_and(|record| record.identity == *own)).then_some(())
        };
        self.chain.perform("the workers' registration", calls, known).await
    }

    /// Opens a replica from its disk.
    fn open(&self, member: usize, record: &ClusterRecord) -> Result<Arc<Replica>, Stuck> {
        let seat = &self.seats[member];
        let own = seat.keys()?;
        let config = Config {
            genesis: self.chain.genesis,
            cluster: CLUSTER,
            identity: Arc::new(own.identity.clone()),
            validators: self.chain.validators(),
            keys: self.keys(seat, own, record)?,
            certificates: Arc::new(CertificateCache::new(256)),
            engine: ENGINE.clone().map_err(stuck)?,
            cache: Arc::default(),
            tick_ms: 100,
        };
        let known = (record.epoch, identities(record));
        let replica = Replica::open(config, seat.disk.clone(), seat.log.clone(), Some(&known)).map_err(stuck)?;
        let height = replica.applied().height;
        self.history.add(self.sim.now_ms(), Event::Height { log: Log::Cluster, member: member as u32, height });
        Ok(Arc::new(replica))
    }

    /// The cluster's keys, released to a worker.
    fn keys(&self, seat: &Seat, own: &Keys, record: &ClusterRecord) -> Result<ClusterKeys, Stuck> {
        let (genesis, to) = (self.chain.genesis, own.recipient.public());
        let request = KeyRequest::sign(genesis, CLUSTER, record.epoch, seat.worker.id(), to, &own.identity);
        let furthest = self.chain.live().into_iter().max_by_key(|node| node.head().number);
        let view = View(&self.chain, furthest.ok_or_else(|| stuck("no validator runs"))?);
        let mut rng = Seeded::new(self.seed, "release");
        let sealed = self.service.release(&request, &view, &mut rng).map_err(stuck)?;
        sealed.open(&request, &own.recipient).map_err(stuck)
    }

    /// Makes the replicas members of an epoch and starts its log.
    async fn enter(&mut self, opened: Vec<Arc<Replica>>, record: &ClusterRecord) -> Result<(), Stuck> {
        let members = identities(record);
        self.served.members.lock().insert(record.epoch, members.clone());
        for (member, replica) in opened.into_iter().enumerate() {
            self.catch_up(member, &replica, record)?;
            replica.enter(record.epoch, &members, &record.floor).map_err(stuck)?;
            let (seat, own) = (&self.seats[member], self.seats[member].keys()?);
            let key = self.keys(seat, own, record)?.log(record.epoch).map_err(stuck)?;
            let app = ReplicaApp::new(replica.clone(), &key, member, &self.sim, &self.history).map_err(stuck)?;
            let peers = members.iter().copied().map(peer).collect();
            let namespace = cluster_namespace(&self.chain.genesis, CLUSTER);
            let secret = Secret::new(own.identity.to_bytes());
            let partition = format!("cluster-{}", record.epoch);
            let config = LogConfig::cluster(secret, peers, record.epoch, namespace, partition);
            let log = self.sim.start(HOSTS + member, config, app.clone()).await.map_err(stuck)?;
            app.attach(log.clone());
            self.seats[member].running = Some((replica.clone(), log));
            self.served.replicas.lock().insert(member, replica);
        }
        Ok(())
    }

    /// Fetches from the others' logs what a replica lacks up to the epoch's floor.
    fn catch_up(&self, member: usize, replica: &Replica, record: &ClusterRecord) -> Result<(), Stuck> {
        for other in (0..MEMBERS).filter(|other| *other != member) {
            let from = replica.applied().height + 1;
            if from > record.floor.height {
                return Ok(());
            }
            let log = &self.seats[other].log;
            let entries: Vec<_> =
                (from..=record.floor.height).map_while(|height| log.read(height).ok().flatten()).collect();
            replica.catch_up(&entries, &record.floor).map_err(stuck)?;
        }
        Ok(())
    }

    /// The workers' accounts.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.seats.iter().map(|seat| &seat.worker)
    }

    /// The host numbers of validator and replica of this number.
    pub(crate) fn hosts(member: usize) -> [usize; 2] {
        [member, HOSTS + member]
    }
}

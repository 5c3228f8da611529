//! The cluster: four workers, from their registration on the chain to their seats in an epoch, as the product does it.
//!
//! A replica that died has lost its vote with its keys. When it comes back, it registers keys of a new start and asks for
//! a seat; the other three finish the epoch's log with the entry that the chain has planned, and all enter the epoch
//! that the chain then begins, who is behind after catching up from the others' logs. When one does not come back, the
//! others accuse it, and a fifth worker takes its place the same way.
//!
//! When two or more come back at once, nobody can finish the log: all members report to the chain how far their logs go,
//! and it goes on from the highest entry.

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
    records::{self, Anchor, ClusterRecord, Plan, WorkerRecord, cluster_namespace},
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
/// Entries that are forgotten when somebody makes the mistake to forget some.
const FORGOTTEN: u64 = 8;

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
    /// Number of its account.
    worker: usize,
    machine: SimTee,
    disk: Disk,
    log: Arc<MemoryLog>,
    /// Disk and log as they were when the load began.
    old: Option<(Disk, Arc<MemoryLog>)>,
    starts: u32,
    /// How often it entered an epoch: each time with a consensus that remembers nothing.
    seats: u32,
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
    /// Accounts of the workers: those of the members, and one more that waits.
    workers: Vec<Account>,
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

/// The workers' accounts: one more than there are members.
pub(crate) fn workers(seed: u64) -> Vec<Account> {
    (0..=MEMBERS).map(|number| Account::new(seed, &format!("worker {number}"))).collect()
}

/// Another log that holds the same.
fn copy(log: &MemoryLog) -> Arc<MemoryLog> {
    let same = MemoryLog::default();
    let (low, high) = log.range().unwrap_or((1, 0));
    for height in low..=high {
        // In memory it does not fail.
        let _ = log.read(height).map(|entry| entry.map(|entry| same.append(height, &entry)));
    }
    Arc::new(same)
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
            worker: member,
            machine: vendor(seed).machine(&rng.bytes(), Hash([1; 32])),
            disk: Disk::default(),
            log: Arc::default(),
            old: None,
            starts: 0,
            seats: 0,
            keys: None,
            running: None,
        };
        let mut cluster = Self {
            seed,
            sim: chain.sim.clone(),
            chain: chain.clone(),
            history: history.clone(),
            service: DevKeyService::generate(&mut Seeded::new(seed, "master secret")),
            workers: workers(seed),
            seats: (0..MEMBERS).map(&mut seat).collect(),
            served: Arc::default(),
        };
        cluster.register(&ALL).await?;
        let workers = ALL.iter().map(|member| cluster.worker(*member).frame()).collect();
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

    /// Keeps what the disks hold now, for hosts that want to go back to it.
    pub(crate) fn remember(&mut self) {
        for seat in &mut self.seats {
            seat.old = Some((seat.disk.copy(), copy(&seat.log)));
        }
    }

    /// Puts a member's disk back to what was remembered.
    pub(crate) fn roll_back(&mut self, member: usize) {
        let seat = &mut self.seats[member];
        if let Some((disk, log)) = &seat.old {
            (seat.disk, seat.log) = (disk.copy(), copy(log));
        }
        self.history.add(self.sim.now_ms(), Event::OtherDisk { member: member as u32 });
    }

    /// Lets all members forget the newest entries of their logs.
    pub(crate) fn forget(&mut self) {
        for seat in &mut self.seats {
            if let Some((low, high)) = seat.log.range() {
                let _ = seat.log.truncate(high.saturating_sub(FORGOTTEN).max(low));
            }
        }
    }

    /// Workers that died come back, and all go on in another epoch.
    pub(crate) async fn restart(&mut self, back: &[usize]) -> Result<(), Stuck> {
        self.register(back).await?;
        let old = self.record()?;
        let mut fresh = BTreeMap::new();
        for member in back {
            let replica = self.open(*member, &old)?;
            self.catch_up(*member, &replica, &old.floor)?;
            fresh.insert(*member, replica);
        }
        self.rejoin_and_go_on(&old, fresh).await
    }

    /// A worker died for good. The others accuse it, and another takes its place, with nothing.
    pub(crate) async fn replace(&mut self, member: usize) -> Result<(), Stuck> {
        let gone = self.worker(member).id();
        let machine = vendor(self.seed).machine(&Seeded::new(self.seed, "spare machine").bytes(), Hash([1; 32]));
        let seat = &mut self.seats[member];
        (seat.worker, seat.machine, seat.starts) = (MEMBERS, machine, 0);
        (seat.disk, seat.log, seat.old) = (Disk::default(), Arc::default(), None);
        self.history.add(self.sim.now_ms(), Event::OtherDisk { member: member as u32 });
        self.register(&[member]).await?;
        let offer = RuntimeCall::Clusters(pallet_clusters::Call::offer {});
        let waits = |node: &Node| Chain::read::<u32>(node, &storage::pool(&self.worker(member).id()));
        self.chain.perform("the pool", vec![(self.worker(member), offer)], waits).await?;
        let accuse = || RuntimeCall::Clusters(pallet_clusters::Call::accuse { cluster: CLUSTER, worker: gone });
        let accusers = ALL.iter().filter(|other| **other != member);
        let calls = accusers.map(|other| (self.worker(*other), accuse())).collect();
        let wanted = |node: &Node| {
            Chain::read::<ClusterRecord>(node, &storage::cluster(CLUSTER)).filter(|record| !record.wanted.is_empty())
        };
        let old = self.chain.perform("another member", calls, wanted).await?;
        let replica = self.open(member, &old)?;
        self.catch_up(member, &replica, &old.checkpoint.anchor)?;
        self.rejoin_and_go_on(&old, BTreeMap::from([(member, replica)])).await
    }

    /// Some members tell the chain how far their logs go. The others finish the epoch, if they can, or tell it, too; and
    /// all go on in the next.
    async fn rejoin_and_go_on(
        &mut self,
        old: &ClusterRecord,
        fresh: BTreeMap<usize, Arc<Replica>>,
    ) -> Result<(), Stuck> {
        let calls = fresh.iter().map(|(member, replica)| self.rejoin(*member, replica)).collect::<Result<_, _>>()?;
        let (several, before) = (fresh.len() > 1, old.epoch);
        let planned = |node: &Node| {
            let record = Chain::read::<ClusterRecord>(node, &storage::cluster(CLUSTER))?;
            let plan = Chain::read::<Plan>(node, &storage::plan(CLUSTER));
            // The first of several that come back may be planned for before the second is there.
            let settled = plan.filter(|plan| !several || *plan == Plan::Report);
            if record.epoch > before { Some(None) } else { settled.map(Some) }
        };
        let plan = self.chain.perform("the plan of the next epoch", calls, planned).await?;
        let others: BTreeMap<usize, _> = self
            .seats
            .iter_mut()
            .enumerate()
            .filter(|(member, _)| !fresh.contains_key(member))
            .filter_map(|(member, seat)| Some((member, seat.running.take()?)))
            .collect();
        if others.len() + fresh.len() != MEMBERS {
            return Err(stuck("one more member does not run"));
        }
        let call = match plan {
            None => None,
            Some(Plan::Seal { members }) => Some(self.seal(old, &members, &others).await?),
            Some(Plan::Report) => None,
        };
        let reports = call.is_none();
        if reports {
            for (_, log) in others.values() {
                log.stop();
                log.stopped().await;
            }
        }
        let mut calls = vec![];
        match call {
            Some(call) => calls.push((self.worker(*fresh.keys().next().unwrap_or(&0)), call)),
            None => {
                for (member, (replica, _)) in &others {
                    calls.push(self.rejoin(*member, replica)?);
                }
            }
        }
        let record = self.chain.perform("the next epoch", calls, self.begun(old)).await?;
        let mut opened: BTreeMap<usize, Arc<Replica>> = fresh;
        for (member, (replica, log)) in others {
            log.stop();
            log.stopped().await;
            opened.insert(member, replica);
        }
        self.enter(opened.into_values().collect(), &record).await
    }

    /// The members that run finish the epoch's log. Returns what tells the chain.
    async fn seal(
        &self,
        old: &ClusterRecord,
        members: &[records::Member],
        running: &BTreeMap<usize, (Arc<Replica>, LogHandle)>,
    ) -> Result<RuntimeCall, Stuck> {
        let replicas = || running.values().map(|(replica, _)| replica);
        replicas().for_each(|replica| replica.seal(records::seal(CLUSTER, old.epoch + 1, members)));
        for _ in 0..SEALING_MS / LOOK_MS {
            self.sim.sleep_ms(LOOK_MS).await;
            if let Some(held) = replicas().find_map(|replica| replica.sealed().ok().flatten()) {
                let proof = held.proof.ok_or_else(|| stuck("the end of the log is lost"))?.encode();
                return Ok(RuntimeCall::Clusters(pallet_clusters::Call::close { cluster: CLUSTER, proof }));
            }
        }
        Err(stuck("the epoch's log is not finished"))
    }

    /// The mistake: members come back with the keys of their last start, on empty disks, and vote in the epoch in which
    /// they voted. A disk that is merely old is refused by the replica itself: it holds more than the epoch's floor.
    pub(crate) async fn vote_again(&mut self, back: &[usize]) -> Result<(), Stuck> {
        let record = self.record()?;
        for member in back {
            let seat = &mut self.seats[*member];
            (seat.disk, seat.log) = (Disk::default(), Arc::default());
            let replica = self.open(*member, &record)?;
            self.take_seat(*member, replica, &record).await?;
        }
        Ok(())
    }

    fn record(&self) -> Result<ClusterRecord, Stuck> {
        self.chain.cluster(CLUSTER).ok_or_else(|| stuck("the cluster is gone from the chain"))
    }

    fn worker(&self, member: usize) -> &Account {
        &self.workers[self.seats[member].worker]
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
        Ok((self.worker(member), RuntimeCall::Clusters(call)))
    }

    /// Makes keys of a new start for some workers and registers them.
    async fn register(&mut self, members: &[usize]) -> Result<(), Stuck> {
        let mut keys = vec![];
        for member in members {
            let seat = &mut self.seats[*member];
            seat.starts += 1;
            let mut rng = Seeded::new(self.seed, &format!("start {} of worker {}", seat.starts, seat.worker));
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
            let worker = self.worker(*member);
            let report = identity_report_data(&self.chain.genesis, &worker.id(), &own, &to);
            let call = pallet_registry::Call::register_worker {
                identity: own,
                recipient: to,
                endpoint: b"http://simulated".to_vec(),
                peer: b"simulated:1".to_vec(),
                evidence: seat.machine.quote(&report).map_err(stuck)?,
            };
            calls.push((worker, RuntimeCall::Registry(call)));
        }
        let known = |node: &Node| {
            let of = |at: usize| Chain::read::<WorkerRecord>(node, &storage::worker(&self.worker(at).id()));
            let mut pairs = members.iter().zip(&keys);
            pairs.all(|(at, own)| of(*at).is_some_and(|record| record.identity == *own)).then_some(())
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
            keys: self.keys(member, record)?,
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
    fn keys(&self, member: usize, record: &ClusterRecord) -> Result<ClusterKeys, Stuck> {
        let own = self.seats[member].keys()?;
        let (genesis, to, worker) = (self.chain.genesis, own.recipient.public(), self.worker(member).id());
        let request = KeyRequest::sign(genesis, CLUSTER, record.epoch, worker, to, &own.identity);
        let furthest = self.chain.live().into_iter().max_by_key(|node| node.head().number);
        let view = View(&self.chain, furthest.ok_or_else(|| stuck("no validator runs"))?);
        let mut rng = Seeded::new(self.seed, "release");
        let sealed = self.service.release(&request, &view, &mut rng).map_err(stuck)?;
        sealed.open(&request, &own.recipient).map_err(stuck)
    }

    /// Makes the replicas members of an epoch and starts its log.
    async fn enter(&mut self, opened: Vec<Arc<Replica>>, record: &ClusterRecord) -> Result<(), Stuck> {
        self.served.members.lock().insert(record.epoch, identities(record));
        for (member, replica) in opened.into_iter().enumerate() {
            self.catch_up(member, &replica, &record.floor)?;
            self.take_seat(member, replica, record).await?;
        }
        Ok(())
    }

    /// Makes a replica that holds the floor a member of the epoch.
    async fn take_seat(&mut self, member: usize, replica: Arc<Replica>, record: &ClusterRecord) -> Result<(), Stuck> {
        let members = identities(record);
        replica.enter(record.epoch, &members, &record.floor).map_err(stuck)?;
        let key = self.keys(member, record)?.log(record.epoch).map_err(stuck)?;
        let app = ReplicaApp::new(replica.clone(), &key, member, &self.sim, &self.history).map_err(stuck)?;
        let peers = members.iter().copied().map(peer).collect();
        let namespace = cluster_namespace(&self.chain.genesis, CLUSTER);
        let seat = &mut self.seats[member];
        let secret = Secret::new(seat.keys()?.identity.to_bytes());
        seat.seats += 1;
        let partition = format!("cluster-{}-{}", record.epoch, seat.seats);
        let config = LogConfig::cluster(secret, peers, record.epoch, namespace, partition);
        let log = self.sim.start(HOSTS + member, config, app.clone()).await.map_err(stuck)?;
        app.attach(log.clone());
        self.seats[member].running = Some((replica.clone(), log));
        self.served.replicas.lock().insert(member, replica);
        Ok(())
    }

    /// Fetches from the others' logs what a replica lacks up to an entry.
    fn catch_up(&self, member: usize, replica: &Replica, to: &Anchor) -> Result<(), Stuck> {
        for other in (0..MEMBERS).filter(|other| *other != member) {
            let from = replica.applied().height + 1;
            if from > to.height {
                return Ok(());
            }
            let log = &self.seats[other].log;
            let entries: Vec<_> = (from..=to.height).map_while(|height| log.read(height).ok().flatten()).collect();
            replica.catch_up(&entries, to).map_err(stuck)?;
        }
        Ok(())
    }

    /// The workers' accounts.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.workers.iter()
    }

    /// The host numbers of validator and replica of this number.
    pub(crate) fn hosts(member: usize) -> [usize; 2] {
        [member, HOSTS + member]
    }
}

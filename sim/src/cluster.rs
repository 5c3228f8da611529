//! A cluster: four workers, from their registration on the chain to their seats in an epoch, as the product does it.
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
    copies::{self, Reader, Released},
    disk::{Disk, Entries},
    history::{Event, History},
    plan::{MEMBERS, Villain, Villainy},
    rng::Seeded,
    served::Served,
};
use codec::Encode;
use ed25519_dalek::{Signer, SigningKey};
use parking_lot::Mutex;
use phala_attest::{Provider, identity_report_data};
use phala_consensus::{Lie, LogConfig, LogHandle, Secret, Sim};
use phala_keys::{ChainView, ClusterKeys, DevKeyService, KeyRequest, KeyService, RecipientKey, SealedKeys};
use phala_node::Node;
use phala_pink::{HttpError, HttpRequest, HttpResult, Outside, Pink};
use phala_primitives::{
    AccountId, ClusterId, Hash, PublicKey,
    misbehaviour::{Ballot, DoubleVote, Misbehaviour, Proposal, Vote},
    records::{self, Anchor, ClusterRecord, ConvictionRecord, Plan, WorkerRecord, cluster_namespace},
    storage,
};
use phala_replica::{Config, EntryLog, Replica, oldest_epoch};
use phala_runtime::RuntimeCall;
use phala_session::CertificateCache;
use phala_simtee::{SimTee, SimVendor};
use phala_vm::{Capacity, Engine};
use rand_core::Rng as _;
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

/// Number of the cluster that clients use, and of the one to which it writes.
pub(crate) const CLUSTER: ClusterId = 0;
pub(crate) const NEIGHBOUR: ClusterId = 1;
/// Accounts of a cluster's workers: one more than there are members.
const WORKERS: usize = MEMBERS + 1;
/// All members.
const ALL: [usize; MEMBERS] = [0, 1, 2, 3];
/// How long three members may take to finish an epoch's log, and how often it is looked whether they have.
const SEALING_MS: u64 = 60_000;
const LOOK_MS: u64 = 20;
/// How long it may take until a hostile worker is proven guilty.
const PROVING_MS: u64 = 5_000;
/// Entries that are forgotten when somebody makes the mistake to forget some.
const FORGOTTEN: u64 = 9;
/// Entries that were not on the disk when power was lost, at most.
const UNWRITTEN: u64 = 4;

/// One for all replicas of all runs: it only caches what it compiled.
pub(crate) static ENGINE: LazyLock<Result<Engine, String>> = LazyLock::new(|| {
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

impl Keys {
    fn of(seed: u64, start: u32, worker: usize) -> Self {
        let mut rng = Seeded::new(seed, &format!("start {start} of worker {worker}"));
        let identity = SigningKey::from_bytes(&rng.bytes());
        Self { identity, recipient: RecipientKey::generate(&mut rng) }
    }
}

/// One worker with its disk, and what runs on it.
struct Seat {
    /// Number of its account among the cluster's.
    worker: usize,
    machine: SimTee,
    disk: Disk,
    log: Entries,
    /// Disk and log as they were when the load began.
    old: Option<(Disk, Entries)>,
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

/// The workers of the cluster.
pub(crate) struct Cluster {
    id: ClusterId,
    seed: u64,
    sim: Sim,
    chain: Arc<Chain>,
    history: History,
    service: DevKeyService,
    /// Accounts of the workers: those of the members, and one more that waits.
    workers: Vec<Account>,
    seats: Vec<Seat>,
    pub(crate) served: Arc<Served>,
    /// The member of which there are two in the first epoch, and the second.
    cloned: Option<(usize, Arc<Replica>)>,
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

/// Number of a cluster's first worker, among those of all clusters.
fn first_worker(cluster: ClusterId) -> usize {
    cluster as usize * WORKERS
}

/// The accounts of a cluster's workers.
pub(crate) fn workers(seed: u64, cluster: ClusterId) -> Vec<Account> {
    let numbers = first_worker(cluster)..first_worker(cluster) + WORKERS;
    numbers.map(|number| Account::new(seed, &format!("worker {number}"))).collect()
}

/// The host of a cluster's member, and that of its clone.
fn host(cluster: ClusterId, member: usize) -> usize {
    100 + 200 * cluster as usize + member
}

fn clone_host(cluster: ClusterId, member: usize) -> usize {
    100 + host(cluster, member)
}

fn identities(record: &ClusterRecord) -> Vec<PublicKey> {
    record.members.iter().map(|member| member.identity).collect()
}

impl Cluster {
    /// Starts four workers and has the chain make them a cluster.
    pub(crate) async fn start(
        chain: &Arc<Chain>,
        id: ClusterId,
        seed: u64,
        history: &History,
        owner: &Account,
        cloned: Option<usize>,
    ) -> Result<Self, Stuck> {
        let mut rng = Seeded::new(seed, &format!("machines of {id}"));
        let mut seat = |member| Seat {
            worker: member,
            machine: vendor(seed).machine(&rng.bytes(), Hash([1; 32])),
            disk: Disk::default(),
            log: Entries::default(),
            old: None,
            starts: 0,
            seats: 0,
            keys: None,
            running: None,
        };
        let mut cluster = Self {
            id,
            seed,
            sim: chain.sim.clone(),
            chain: chain.clone(),
            history: history.clone(),
            service: DevKeyService::generate(&mut Seeded::new(seed, "master secret")),
            workers: workers(seed, id),
            seats: (0..MEMBERS).map(&mut seat).collect(),
            served: Arc::new(Served::of(id)),
            cloned: None,
        };
        cluster.register(&ALL).await?;
        let workers = ALL.iter().map(|member| cluster.worker(*member).frame()).collect();
        let create = RuntimeCall::Clusters(pallet_clusters::Call::create_cluster { workers });
        let exists = |node: &Node| Chain::read::<ClusterRecord>(node, &storage::cluster(id));
        let record = chain.perform("the cluster", vec![(owner, create)], exists).await?;
        if let Some(member) = cloned {
            cluster.sim.clone_member(host(id, member), clone_host(id, member));
            let replica = cluster.open_on(member, &record, Disk::default(), Entries::default())?;
            cluster.cloned = Some((member, replica));
        }
        let opened = ALL.iter().map(|member| cluster.open(*member, &record)).collect::<Result<_, _>>()?;
        cluster.enter(opened, &record).await?;
        Ok(cluster)
    }

    /// A worker's machine dies.
    pub(crate) async fn crash(&mut self, member: usize) {
        self.served.close(member);
        self.seats[member].running = None;
        self.sim.crash(host(self.id, member)).await;
        self.sim.corrupt(host(self.id, member), None);
        if self.cloned.take_if(|(of, _)| *of == member).is_some() {
            self.served.close(MEMBERS);
            self.sim.crash(clone_host(self.id, member)).await;
        }
        self.seats[member].disk = self.seats[member].disk.crash();
    }

    /// A member's disk is full, and it runs on as long as it can.
    pub(crate) fn fill(&self, member: usize) {
        self.served.expect_fault(member);
        self.seats[member].disk.fill(true);
        self.seats[member].log.fill(true);
    }

    /// The machine of a member with a full disk is stopped, and gets a larger one.
    pub(crate) async fn make_room(&mut self, member: usize) {
        self.crash(member).await;
        let seat = &self.seats[member];
        seat.disk.fill(false);
        seat.log.fill(false);
    }

    /// A member's machine loses power in the middle of writing.
    pub(crate) async fn tear(&mut self, member: usize) {
        let mut rng = Seeded::new(self.seed, &format!("torn at {}", self.sim.now_ms()));
        let torn = self.seats[member].disk.tear(&mut rng);
        self.crash(member).await;
        let seat = &mut self.seats[member];
        seat.disk = torn;
        seat.log.tear(rng.next_u64() % UNWRITTEN);
        self.history.add(self.sim.now_ms(), Event::OtherDisk { log: self.served.log(), member: member as u32 });
    }

    /// Keeps what the disks hold now, for hosts that want to go back to it.
    pub(crate) fn remember(&mut self) {
        for seat in &mut self.seats {
            seat.old = Some((seat.disk.copy(), seat.log.copy()));
        }
    }

    /// Puts a member's disk back to what was remembered.
    pub(crate) fn roll_back(&mut self, member: usize) {
        let seat = &mut self.seats[member];
        if let Some((disk, log)) = &seat.old {
            (seat.disk, seat.log) = (disk.copy(), log.copy());
        }
        self.history.add(self.sim.now_ms(), Event::OtherDisk { log: self.served.log(), member: member as u32 });
    }

    /// Lets all members forget the newest entries of their logs.
    pub(crate) fn forget(&mut self) {
        for seat in &mut self.seats {
            seat.log.forget(FORGOTTEN);
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

    /// A worker turns hostile.
    pub(crate) fn turn(&self, Villain { member, villainy, .. }: Villain) -> Result<(), Stuck> {
        let (now, own, worker) = (self.sim.now_ms(), host(self.id, member), self.number(member));
        self.history.add(now, Event::Turned { worker, villainy });
        let lie = match villainy {
            Villainy::Notarizes => Lie::Notarize,
            Villainy::Finalizes => Lie::Finalize,
            Villainy::Nullifies => Lie::Nullify,
            Villainy::TwoFaced => Lie::TwoFaced,
            Villainy::Invents => {
                self.served.invent(member, self.chain.genesis, self.seats[member].keys()?.identity.clone());
                return Ok(());
            }
            Villainy::Cloned => {
                let others = ALL.map(|other| host(self.id, other));
                let with: Vec<_> = others.into_iter().filter(|other| *other != own).step_by(2).collect();
                self.sim.wake(own, &with);
                if let Some((_, replica)) = &self.cloned {
                    self.served.open(MEMBERS, public(&self.seats[member].keys()?.identity), replica.clone());
                }
                return Ok(());
            }
        };
        self.sim.corrupt(own, Some(lie));
        Ok(())
    }

    /// What convicts a worker is brought to the chain, and another takes its place, with nothing. If nothing does, the
    /// others accuse it of silence: its machine is stopped.
    pub(crate) async fn convict(&mut self, member: usize) -> Result<(), Stuck> {
        let guilty = public(&self.seats[member].keys()?.identity);
        let mut proof = None;
        for _ in 0..PROVING_MS / LOOK_MS {
            proof = self.served.proof(&guilty);
            if proof.is_some() {
                break;
            }
            self.sim.sleep_ms(LOOK_MS).await;
        }
        self.crash(member).await;
        self.give_place(member, proof).await
    }

    /// The mistake: somebody has the keys of an honest worker and votes for it.
    pub(crate) async fn slander(&mut self, member: usize) -> Result<(), Stuck> {
        let identity = &self.seats[member].keys()?.identity;
        let (namespace, epoch) = (cluster_namespace(&self.chain.genesis, self.id), self.record()?.epoch);
        let vote = |digest| {
            let mut vote = Vote { ballot: Ballot::Finalize(Proposal { parent_view: 0, digest }), signature: [0; 64] };
            vote.signature = identity.sign(&vote.message(&namespace, epoch, 1)).to_bytes();
            vote
        };
        let (first, second) = (vote(Hash([1; 32])), vote(Hash([2; 32])));
        let proof = DoubleVote { identity: public(identity), epoch, view: 1, first, second };
        self.served.prove(Misbehaviour::Votes(proof));
        self.convict(member).await
    }

    /// A worker died for good. The others accuse it, and another takes its place, with nothing.
    pub(crate) async fn replace(&mut self, member: usize) -> Result<(), Stuck> {
        if self.seats[member].running.is_some() {
            self.crash(member).await;
        }
        self.give_place(member, None).await
    }

    /// Another worker takes a member's place.
    async fn give_place(&mut self, member: usize, proof: Option<Misbehaviour>) -> Result<(), Stuck> {
        let (gone, number) = (self.worker(member).id(), self.number(member));
        let machine = vendor(self.seed)
            .machine(&Seeded::new(self.seed, &format!("spare machine of {}", self.id)).bytes(), Hash([1; 32]));
        let seat = &mut self.seats[member];
        (seat.worker, seat.machine, seat.starts) = (MEMBERS, machine, 0);
        (seat.disk, seat.log, seat.old) = (Disk::default(), Entries::default(), None);
        self.history.add(self.sim.now_ms(), Event::OtherDisk { log: self.served.log(), member: member as u32 });
        self.register(&[member]).await?;
        let offer = RuntimeCall::Clusters(pallet_clusters::Call::offer {});
        let waits = |node: &Node| Chain::read::<u32>(node, &storage::pool(&self.worker(member).id()));
        self.chain.perform("the pool", vec![(self.worker(member), offer)], waits).await?;
        let others = ALL.iter().filter(|other| **other != member).map(|other| self.worker(*other));
        let cluster = self.id;
        let accuse = || RuntimeCall::Clusters(pallet_clusters::Call::accuse { cluster, worker: gone });
        let calls = match &proof {
            Some(proof) => {
                let call = pallet_clusters::Call::convict { cluster, proof: proof.encode() };
                others.take(1).map(|by| (by, RuntimeCall::Clusters(call.clone()))).collect()
            }
            None => others.map(|by| (by, accuse())).collect(),
        };
        let wanted = |node: &Node| {
            let convicted = Chain::read::<ConvictionRecord>(node, &storage::conviction(&gone)).is_some();
            let record = Chain::read::<ClusterRecord>(node, &storage::cluster(self.id))?;
            (convicted == proof.is_some() && !record.wanted.is_empty()).then_some(record)
        };
        let old = self.chain.perform("another member", calls, wanted).await?;
        if proof.is_some() {
            self.history.add(self.sim.now_ms(), Event::Convicted { worker: number });
        }
        let mut replica = self.open(member, &old)?;
        let mut known = old.checkpoint.anchor;
        // As large a part of the runs as not: it does with the state what it could do with the log.
        if Seeded::new(self.seed, &format!("state or log of {member}")).next_u64().is_multiple_of(2) {
            let members = identities(&old);
            let of = (old.epoch, members.as_slice(), &old.checkpoint.anchor);
            if let Some((disk, above)) = copies::take(&self.sim, &self.served, &replica.newcomer(), of).await? {
                self.seats[member].disk = disk;
                replica = self.open(member, &old)?;
                known = above;
            }
        }
        self.catch_up(member, &replica, &known)?;
        self.rejoin_and_go_on(&old, BTreeMap::from([(member, replica)])).await
    }

    /// A reader, to which the key service gives what it gives to a member.
    pub(crate) fn reader(&self) -> Result<Reader, Stuck> {
        let record = self.record()?;
        let Keys { identity, .. } = self.keys_of_first();
        Ok(Reader {
            sim: self.sim.clone(),
            chain: self.chain.clone(),
            history: self.history.clone(),
            served: self.served.clone(),
            identity,
            known: (record.epoch, identities(&record)),
            replica: Mutex::default(),
        })
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
            let record = Chain::read::<ClusterRecord>(node, &storage::cluster(self.id))?;
            let plan = Chain::read::<Plan>(node, &storage::plan(self.id));
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
        replicas().for_each(|replica| replica.seal(records::seal(self.id, old.epoch + 1, members)));
        for _ in 0..SEALING_MS / LOOK_MS {
            self.sim.sleep_ms(LOOK_MS).await;
            if let Some(held) = replicas().find_map(|replica| replica.sealed().ok().flatten()) {
                let proof = held.proof.ok_or_else(|| stuck("the end of the log is lost"))?.encode();
                return Ok(RuntimeCall::Clusters(pallet_clusters::Call::close { cluster: self.id, proof }));
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
            (seat.disk, seat.log) = (Disk::default(), Entries::default());
            let replica = self.open(*member, &record)?;
            self.take_seat(*member, replica, &record).await?;
        }
        Ok(())
    }

    fn record(&self) -> Result<ClusterRecord, Stuck> {
        self.chain.cluster(self.id).ok_or_else(|| stuck("the cluster is gone from the chain"))
    }

    /// A worker's number among those of all clusters.
    fn number(&self, member: usize) -> u32 {
        (first_worker(self.id) + self.seats[member].worker) as u32
    }

    fn keys_of_first(&self) -> Keys {
        Keys::of(self.seed, self.seats[0].starts, self.number(0) as usize)
    }

    fn worker(&self, member: usize) -> &Account {
        &self.workers[self.seats[member].worker]
    }

    /// Whether the chain has begun another epoch.
    fn begun(&self, old: &ClusterRecord) -> impl Fn(&Node) -> Option<ClusterRecord> + use<> {
        let (before, id) = (old.epoch, self.id);
        move |node| Chain::read::<ClusterRecord>(node, &storage::cluster(id)).filter(|record| record.epoch > before)
    }

    /// A worker's report to the chain.
    fn rejoin(&self, member: usize, replica: &Replica) -> Result<(&Account, RuntimeCall), Stuck> {
        let held = replica.anchor().map_err(stuck)?;
        let proof = held.proof.map(|proof| proof.encode());
        let call = pallet_clusters::Call::rejoin { cluster: self.id, anchor: held.anchor, proof };
        Ok((self.worker(member), RuntimeCall::Clusters(call)))
    }

    /// Makes keys of a new start for some workers and registers them.
    async fn register(&mut self, members: &[usize]) -> Result<(), Stuck> {
        let mut keys = vec![];
        for member in members {
            let seat = &mut self.seats[*member];
            seat.starts += 1;
            let own = Keys::of(self.seed, seat.starts, first_worker(self.id) + seat.worker);
            keys.push(public(&own.identity));
            seat.keys = Some(own);
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
        let replica = self.open_on(member, record, seat.disk.clone(), seat.log.clone())?;
        let height = replica.applied().height;
        self.history.add(self.sim.now_ms(), Event::Height { log: self.served.log(), member: member as u32, height });
        Ok(replica)
    }

    /// The same from another disk.
    fn open_on(&self, member: usize, record: &ClusterRecord, disk: Disk, log: Entries) -> Result<Arc<Replica>, Stuck> {
        let own = self.seats[member].keys()?;
        let since = oldest_epoch(&disk, &log).map_err(stuck)?;
        let config = Config {
            genesis: self.chain.genesis,
            cluster: self.id,
            identity: Arc::new(own.identity.clone()),
            validators: self.chain.validators(),
            keys: self.keys(member, record, since)?,
            certificates: Arc::new(CertificateCache::new(256)),
            engine: ENGINE.clone().map_err(stuck)?,
            cache: Arc::default(),
            tick_ms: 100,
        };
        let known = (record.epoch, identities(record));
        Ok(Arc::new(Replica::open(config, disk, Arc::new(log), Some(&known)).map_err(stuck)?))
    }

    /// The cluster's keys since an epoch, released to a worker.
    fn keys(&self, member: usize, record: &ClusterRecord, since: u64) -> Result<ClusterKeys, Stuck> {
        let (sealed, request) = self.released(member, record, since)?;
        sealed.open(&request, &self.seats[member].keys()?.recipient).map_err(stuck)
    }

    fn released(&self, member: usize, record: &ClusterRecord, since: u64) -> Result<(SealedKeys, KeyRequest), Stuck> {
        let own = self.seats[member].keys()?;
        let (genesis, to, worker) = (self.chain.genesis, own.recipient.public(), self.worker(member).id());
        let epochs = since.min(record.epoch)..=record.epoch;
        let request = KeyRequest::sign(genesis, self.id, epochs, worker, to, &own.identity);
        let furthest = self.chain.live().into_iter().max_by_key(|node| node.head().number);
        let view = View(&self.chain, furthest.ok_or_else(|| stuck("no validator runs"))?);
        let mut rng = Seeded::new(self.seed, "release");
        let sealed = self.service.release(&request, &view, &mut rng).map_err(stuck)?;
        Ok((sealed, request))
    }

    /// What the key service gives to the reader: the same as to a member.
    fn released_to_reader(&self, record: &ClusterRecord) -> Result<Released, Stuck> {
        let (sealed, request) = self.released(0, record, 0)?;
        // The member keeps its own.
        let Keys { recipient, .. } = self.keys_of_first();
        Ok(Released { sealed, request, recipient })
    }

    /// Makes the replicas members of an epoch and starts its log.
    async fn enter(&mut self, opened: Vec<Arc<Replica>>, record: &ClusterRecord) -> Result<(), Stuck> {
        self.served.begin(record.epoch, identities(record));
        self.served.release(self.released_to_reader(record)?);
        for (member, replica) in opened.into_iter().enumerate() {
            self.catch_up(member, &replica, &record.floor)?;
            self.take_seat(member, replica, record).await?;
        }
        Ok(())
    }

    /// Makes a replica that holds the floor a member of the epoch.
    async fn take_seat(&mut self, member: usize, replica: Arc<Replica>, record: &ClusterRecord) -> Result<(), Stuck> {
        let seat = &mut self.seats[member];
        seat.seats += 1;
        let identity = public(&seat.keys()?.identity);
        self.served.name(identity, self.number(member));
        let log = self.join(member, member, host(self.id, member), &replica, record).await?;
        self.seats[member].running = Some((replica.clone(), log));
        self.served.open(member, identity, replica);
        if let Some((of, second)) = self.cloned.clone()
            && of == member
        {
            self.join(member, MEMBERS, clone_host(self.id, member), &second, record).await?;
        }
        Ok(())
    }

    /// Starts the epoch's log for a replica with the keys of a member, under a name in the history and on a host.
    async fn join(
        &self,
        member: usize,
        name: usize,
        host: usize,
        replica: &Arc<Replica>,
        record: &ClusterRecord,
    ) -> Result<LogHandle, Stuck> {
        let members = identities(record);
        let keys = self.keys(member, record, replica.newest_keys().saturating_add(1))?;
        replica.learn(&keys).map_err(stuck)?;
        replica.enter(record.epoch, &members, &record.floor).map_err(stuck)?;
        let key = keys.log(record.epoch).ok_or_else(|| stuck("no key of the epoch's log"))?;
        let app = ReplicaApp::new(replica.clone(), key, name, &self.sim, &self.history, &self.served).map_err(stuck)?;
        let peers = members.iter().copied().map(peer).collect();
        let namespace = cluster_namespace(&self.chain.genesis, self.id);
        let seat = &self.seats[member];
        let secret = Secret::new(seat.keys()?.identity.to_bytes());
        let partition = format!("cluster-{}-{}-{}", self.id, record.epoch, seat.seats);
        let config = LogConfig::cluster(secret, peers, record.epoch, namespace, partition);
        let log = self.sim.start(host, config, app.clone()).await.map_err(stuck)?;
        app.attach(log.clone());
        Ok(log)
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

    /// The host numbers of the validator and the replicas of this number.
    pub(crate) fn hosts(member: usize) -> [usize; 3] {
        [member, host(CLUSTER, member), host(NEIGHBOUR, member)]
    }
}

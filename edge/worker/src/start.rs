//! The way from a place in a cluster to a serving replica; the steps are told in [`crate::worker`].

use crate::{
    app::LogApp,
    arrivals,
    blame::Blame,
    bridge::{self, Bridge},
    copies::{self, Files, Sources},
    egress::Egress,
    entries::EntryFile,
    epochs,
    fanout::{FanOut, Peers},
    jobs,
    outside::Host,
    reading::{Follower, Reading},
    sayings::Sayings,
    service::{Service, ServiceParts, now_ms},
    vigil, weights,
    worker::{Status, WorkerConfig},
};
use codec::{DecodeAll, Encode};
use ed25519_dalek::SigningKey;
use parking_lot::Mutex;
use phala_client::{Call, Chain};
use phala_consensus::{LogConfig, LogHandle, Peer, Secret};
use phala_keys::{ClusterKeys, KeyRequest, RecipientKey};
use phala_pink::{Cache, Pink};
use phala_primitives::{
    AccountId, ClusterId, Code, Coded, PublicKey,
    misbehaviour::Misbehaviour,
    records::{Anchor, ClusterRecord, cluster_namespace},
    storage,
};
use phala_replica::{Newcomer, Replica};
use phala_session::{Acceptor, CertificateCache, Place, REPLAY_WINDOW, SystemRng};
use phala_state::FileBackend;
use phala_vm::{Capacity, Engine};
use rand_core::Rng;
use std::{
    fs::OpenOptions,
    ops::RangeInclusive,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinHandle};
use zeroize::Zeroizing;

/// How often a connection to the chain is tried again.
pub(crate) const RECONNECT: Duration = Duration::from_millis(500);
/// How often session keys are looked after.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// How often it is looked whether the state should go to the disk.
const SETTLING: Duration = Duration::from_millis(200);
/// Time between two steps in which old state is sealed anew, so that others get to the disk.
const RESEAL_PAUSE: Duration = Duration::from_millis(20);
/// Session certificates that a worker remembers as checked.
const CERTIFICATES: usize = 65_536;
/// Entries that a start executes instead of taking the state that they lead to.
const FAR: u64 = 2048;
/// How often all peers are asked for what is missing.
const ROUNDS: usize = 20;
/// Time for one answer of a peer, and its largest size in bytes.
const FETCH: Duration = Duration::from_secs(20);
const MAX_FETCH: usize = 8 << 20;
/// Ticks of the VM's clock for queries, and with it how long a query keeps its core while those of others wait.
const VM_TICK: Duration = Duration::from_millis(2);
/// How often the clock is looked after while there is no query.
const IDLE_TICK: Duration = Duration::from_millis(10);
/// The same in milliseconds.
const TICK_MS: u64 = VM_TICK.as_millis() as u64;
/// How often the chain is asked what the cluster's contracts may use.
const POLICY: Duration = Duration::from_secs(2);
/// Most codes that are compiled at a start, how long the cluster's consensus waits for that, and the most uploads that
/// wait to be compiled.
const MAX_COMPILED: usize = 256;
const COMPILING: Duration = Duration::from_secs(10);
const MAX_UPLOADS: usize = 16;
/// Most ticks that are made up for at once after the clock's thread was held up.
const LATE_TICKS: u32 = 500;

/// A worker in one cluster.
pub(crate) struct Start {
    pub(crate) config: WorkerConfig,
    pub(crate) cluster: ClusterId,
    /// What it keeps for the cluster.
    pub(crate) folder: PathBuf,
    pub(crate) status: Arc<Status>,
    pub(crate) log: Arc<Mutex<Option<LogHandle>>>,
    /// Takes what convicts members.
    pub(crate) blame: mpsc::Sender<Blame>,
}

/// Keys of one start of a worker. They live in memory only.
pub(crate) struct Keys {
    pub(crate) identity: Arc<SigningKey>,
    pub(crate) recipient: RecipientKey,
}

impl Keys {
    pub(crate) fn generate() -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        SystemRng.fill_bytes(seed.as_mut_slice());
        Self { identity: Arc::new(SigningKey::from_bytes(&seed)), recipient: RecipientKey::generate(&mut SystemRng) }
    }

    pub(crate) fn public(&self) -> PublicKey {
        self.identity.verifying_key().to_bytes()
    }
}

impl Start {
    pub(crate) fn worker(&self) -> AccountId {
        self.config.account.id()
    }

    /// Serves until the worker has no seat any more.
    pub(crate) async fn run(self, chain: &Arc<Chain>, keys: &Keys) -> Result<(), Coded> {
        let mut above = None;
        let (mut opened, record) = loop {
            self.status.wait_for("its files");
            let disk = self.disk().await?;
            self.status.wait_for("the cluster's keys");
            let since = phala_replica::oldest_epoch(&disk.state, disk.entries.as_ref())?;
            let Some((record, cluster_keys)) = self.admitted(chain, keys, since).await? else { return Ok(()) };
            self.status.wait_for("its state");
            let opened = self.open(chain, keys, &record, cluster_keys, disk).await?;
            if record.readers.contains(&self.worker()) {
                let newcomer = opened.replica.newcomer();
                if self.read_along(chain, keys, opened).await? == Reading::Over {
                    return Ok(());
                }
                self.status.withdraw();
                self.status.wait_for("the state of its cluster");
                // Epochs have passed since.
                let Some(record) = self.record(chain, |_| true).await? else { return Ok(()) };
                let copied = async {
                    if let Some(later) = self.later_keys(keys, newcomer.newest_keys(), record.epoch).await? {
                        newcomer.learn(&later)?;
                    }
                    self.copy(chain, &record, newcomer).await
                };
                if let Err(error) = copied.await {
                    tracing::info!(%error, "asks for the state again");
                    tokio::time::sleep(RECONNECT).await;
                }
                continue;
            }
            if above.is_none() && self.is_far(&record, &opened.replica) {
                self.status.wait_for("the state of its cluster");
                above = Some(self.copy(chain, &record, opened.replica.newcomer()).await.unwrap_or_else(|error| {
                    tracing::info!(%error, "takes the log instead of the state");
                    Anchor::default()
                }));
                self.status.withdraw();
                continue;
            }
            match self.enter(chain, keys, &opened.replica, above.unwrap_or_default()).await? {
                Some(record) => break (opened, record),
                None => return Ok(()),
            }
        };
        // No entry should wait for the compiler; but the cluster need not wait for all code.
        let _ = tokio::time::timeout(COMPILING, &mut opened.compiling).await;
        self.status.wait_for("the cluster's consensus");
        let log = self.join(chain, keys, &record, &opened.replica).await?;
        let _settling = AbortOnDrop(tokio::spawn(settle(opened.replica.clone())));
        let _resealing = AbortOnDrop(tokio::spawn(reseal(opened.replica.clone())));
        let _performing = AbortOnDrop(tokio::spawn(jobs::perform(opened.replica.clone(), opened.egress.clone())));
        let _keeping = AbortOnDrop(tokio::spawn(jobs::keep_time(opened.replica.clone())));
        let bridge = Bridge {
            chain: chain.clone(),
            account: self.config.account.clone(),
            replica: opened.replica.clone(),
            cluster: self.cluster,
            known: Mutex::default(),
        };
        let _carrying = AbortOnDrop(tokio::spawn(bridge::carry(bridge)));
        let _fetching = AbortOnDrop(tokio::spawn(arrivals::fetch(chain.clone(), opened.replica.clone())));
        let (service, ticking) = self.service(chain, keys, opened, Some(log));
        let policy = follow_policy(chain.clone(), self.cluster, service.clone());
        let _following_policy = AbortOnDrop(tokio::spawn(policy));
        self.status.serve(service.clone());
        tokio::select! {
            ended = look_after(&service, ticking) => ended,
            ended = epochs::follow(&self, chain, keys, record, &service) => ended,
            error = vigil::over(&self, chain, service.replica()) => Err(error),
        }
    }

    /// Follows the cluster without a vote, and serves as soon as it has a state that the members vouch for.
    async fn read_along(&self, chain: &Arc<Chain>, keys: &Keys, opened: Opened) -> Result<Reading, Coded> {
        self.status.wait_for("news of its cluster");
        let mut follower = Follower::new(self, chain, keys, opened.replica.clone());
        let _settling = AbortOnDrop(tokio::spawn(settle(opened.replica.clone())));
        let _resealing = AbortOnDrop(tokio::spawn(reseal(opened.replica.clone())));
        let lost = self.record(chain, |record| !record.readers.contains(&self.worker()));
        let mut lost = pin!(lost);
        tokio::select! {
            found = follower.step() => if !found? { return Ok(Reading::Behind) },
            lost = &mut lost => return lost.map(|_| Reading::Over),
        }
        let (service, ticking) = self.service(chain, keys, opened, None);
        self.status.serve(service.clone());
        tokio::select! {
            ended = look_after(&service, ticking) => ended.map(|()| Reading::Over),
            ended = follower.run() => ended.map(|()| Reading::Behind),
            lost = &mut lost => lost.map(|_| Reading::Over),
        }
    }

    /// What clients reach; of a reader without `log`.
    fn service(
        &self,
        chain: &Arc<Chain>,
        keys: &Keys,
        opened: Opened,
        log: Option<LogHandle>,
    ) -> (Arc<Service>, Ticker) {
        let place = Place {
            genesis: self.config.genesis,
            worker: self.worker(),
            cluster: self.cluster,
            replay_window: REPLAY_WINDOW,
        };
        let acceptor = Acceptor::new(place, keys.identity.clone(), opened.certificates, now_ms(), &mut SystemRng);
        opened.fanout.attach(Peers {
            chain: chain.clone(),
            cluster: self.cluster,
            worker: self.worker(),
            replica: Arc::downgrade(&opened.replica),
            known: tokio::sync::Mutex::default(),
        });
        // It ends with the replica.
        tokio::spawn(weights::follow(chain.clone(), self.cluster, Arc::downgrade(&opened.replica)));
        let parts = ServiceParts {
            replica: opened.replica,
            acceptor,
            identity: keys.public(),
            worker: self.worker(),
            genesis: self.config.genesis,
            cluster: self.cluster,
            head: self.status.head.clone(),
            metrics: self.status.metrics().clone(),
            said: opened.said,
        };
        (Arc::new(Service::new(parts, log)), opened.ticking)
    }

    /// Waits for a record of the cluster in which this worker has a seat, or is to get one, and that satisfies `wanted`.
    /// `None` if the chain has no place for it in this cluster any more.
    async fn record(
        &self,
        chain: &Arc<Chain>,
        wanted: impl Fn(&ClusterRecord) -> bool,
    ) -> Result<Option<ClusterRecord>, Coded> {
        loop {
            let Ok(mut heads) = chain.heads().await else {
                tokio::time::sleep(RECONNECT).await;
                continue;
            };
            loop {
                match chain.cluster(self.cluster).await {
                    Ok(Some(record)) if !self.has_place(&record) => return Ok(None),
                    Ok(Some(record)) if wanted(&record) => return Ok(Some(record)),
                    // A node that cannot be read now is asked at its next head.
                    _ => {}
                }
                if heads.next().await.is_err() {
                    break;
                }
            }
        }
    }

    fn has_place(&self, record: &ClusterRecord) -> bool {
        let worker = self.worker();
        self.has_seat(record) || record.wanted.contains(&worker) || record.readers.contains(&worker)
    }

    fn has_seat(&self, record: &ClusterRecord) -> bool {
        record.members.iter().any(|member| member.worker == self.worker())
    }

    /// Gets the cluster's keys of an epoch and those after it, for as long as the worker has a place. Whoever is in between
    /// may forge a refusal, so none is the end; and an epoch may have begun meanwhile.
    async fn admitted(
        &self,
        chain: &Arc<Chain>,
        keys: &Keys,
        since: u64,
    ) -> Result<Option<(ClusterRecord, ClusterKeys)>, Coded> {
        loop {
            let Some(record) = self.record(chain, |_| true).await? else { return Ok(None) };
            match self.keys(keys, since.min(record.epoch)..=record.epoch).await {
                Ok(cluster_keys) => return Ok(Some((record, cluster_keys))),
                Err(error) => {
                    tracing::info!(worker = %self.worker(), %error, "gets no keys yet");
                    self.status.hindered(error);
                }
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    /// The files of the cluster's state and log.
    async fn disk(&self) -> Result<Disk, Coded> {
        let path = self.path("state");
        let open = move || {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
            // A replica of before may still be writing to it. Its lock goes with it.
            file.lock()?;
            FileBackend::new(file)
        };
        let opened = blocking(move || Ok(open())).await?;
        let state = opened.map_err(|e| self.unusable("state", &e))?;
        let entries = Arc::new(EntryFile::open(&self.path("entries")).map_err(|e| self.unusable("entries", &e))?);
        Ok(Disk { entries, state })
    }

    /// Opens state and log, and replays what the state lacks. It may take a while, so not on the caller's thread.
    async fn open(
        &self,
        chain: &Chain,
        keys: &Keys,
        record: &ClusterRecord,
        cluster_keys: ClusterKeys,
        disk: Disk,
    ) -> Result<Opened, Coded> {
        let Disk { entries, state } = disk;
        self.status.share_entries(entries.clone());
        let (said, cache) = (Arc::new(Sayings::default()), Arc::new(Cache::default()));
        let egress = Arc::new(Egress::new(self.config.egress)?);
        let fanout = Arc::new(FanOut::new(self.status.metrics().clone(), TICK_MS));
        let outside = Arc::new(Host::new(egress.clone(), said.clone(), fanout.clone()));
        let pink = Pink::new(*cluster_keys.contracts().expose(), keys.public(), outside, cache.clone());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let engine = Engine::with_extension(Capacity::for_cores(cores), Arc::new(pink))
            .map_err(|e| Coded::new(Code::Internal, e.to_string()))?;
        engine.borrow_threads(|work| {
            let thread = std::thread::Builder::new().name("query".into()).spawn(work);
            thread.inspect_err(|error| tracing::warn!(%error, "no thread for queries")).is_ok()
        });
        let certificates = Arc::new(CertificateCache::new(CERTIFICATES));
        let config = phala_replica::Config {
            genesis: self.config.genesis,
            cluster: self.cluster,
            identity: keys.identity.clone(),
            validators: chain.validators(),
            keys: cluster_keys,
            certificates: certificates.clone(),
            engine: engine.clone(),
            cache,
            tick_ms: TICK_MS,
        };
        let known = (record.epoch, record.members.iter().map(|member| member.identity).collect());
        let replica = Arc::new(blocking(move || Replica::open(config, state, entries, Some(&known))).await?);
        let compiling = compile(&replica, engine.clone())?;
        Ok(Opened { replica, certificates, said, egress, fanout, compiling, ticking: Ticker::start(engine)? })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn unusable(&self, name: &str, error: &dyn std::fmt::Display) -> Coded {
        Coded::new(Code::StorageFailed, format!("{}: {error}", self.path(name).display()))
    }

    /// Becomes a member of an epoch that counts on this start's identity: the present one, or one that begins after this
    /// worker has told the chain how far its log goes. `above` is an entry up to which others' logs go in any case. `None`
    /// if it loses its place before.
    async fn enter(
        &self,
        chain: &Arc<Chain>,
        keys: &Keys,
        replica: &Arc<Replica>,
        above: Anchor,
    ) -> Result<Option<ClusterRecord>, Coded> {
        let votes = |record: &ClusterRecord| record.members.iter().any(|member| member.identity == keys.public());
        loop {
            let Some(record) = self.record(chain, |_| true).await? else { return Ok(None) };
            if let Err(error) = self.learn(keys, replica, record.epoch).await {
                tracing::info!(worker = %self.worker(), %error, "gets no keys yet");
                self.status.hindered(error);
                tokio::time::sleep(RECONNECT).await;
                continue;
            }
            if votes(&record) {
                self.status.wait_for("entries that it missed");
                self.take_seat(chain, &record, replica).await?;
                return Ok(Some(record));
            }
            // What the others are far ahead of is fetched before they wait for it.
            let shown = if self.has_seat(&record) { record.floor } else { record.checkpoint.anchor };
            let behind = if shown.height > above.height { shown } else { above };
            if replica.applied().height < behind.height {
                self.status.wait_for("the log of its cluster");
                self.catch_up(chain, &record, &behind, replica).await?;
            }
            let reported = self.report(chain, replica).await;
            if let Err(error) = &reported {
                tracing::info!(%error, "the chain does not take the report; it is made again");
                tokio::time::sleep(RECONNECT).await;
                continue;
            }
            let held = replica.applied().height >= record.checkpoint.anchor.height;
            self.status.wait_for(if held {
                "the other members of its cluster"
            } else {
                "a member whose log reaches what the chain was shown"
            });
            let epoch = record.epoch;
            // One that never comes back must not hold up the others.
            let next = tokio::select! {
                next = self.record(chain, |record| votes(record) || record.epoch > epoch) => next?,
                error = vigil::over(self, chain, replica) => return Err(error),
            };
            if next.is_none() {
                return Ok(None);
            }
        }
    }

    /// Tells the chain how far this replica's log goes.
    pub(crate) async fn report(&self, chain: &Chain, replica: &Replica) -> Result<(), Coded> {
        let held = replica.anchor()?;
        let proof = held.proof.map(|proof| proof.encode());
        tracing::info!(worker = %self.worker(), height = held.anchor.height, "reports its log");
        let call = Call::rejoin(self.cluster, &held.anchor, proof.as_deref());
        chain.submit(&self.config.account, &call).await.map(|_| ())
    }

    /// Becomes a member of an epoch that counts on this start's identity, with all entries up to its floor.
    pub(crate) async fn take_seat(
        &self,
        chain: &Chain,
        record: &ClusterRecord,
        replica: &Arc<Replica>,
    ) -> Result<(), Coded> {
        if replica.applied().height < record.floor.height {
            self.catch_up(chain, record, &record.floor, replica).await?;
        }
        let members: Vec<PublicKey> = record.members.iter().map(|member| member.identity).collect();
        replica.enter(record.epoch, &members, &record.floor)
    }

    /// Whether what the chain was shown is far above what this start found on its disk.
    fn is_far(&self, record: &ClusterRecord, replica: &Replica) -> bool {
        let shown = record.floor.height.max(record.checkpoint.anchor.height);
        replica.applied().height.saturating_add(FAR) < shown
    }

    /// Replaces the state of a replica, which is of no use then, by that of the others.
    async fn copy(&self, chain: &Chain, record: &ClusterRecord, newcomer: Newcomer) -> Result<Anchor, Coded> {
        let from = Sources {
            urls: self.peers(chain, record).await?,
            epoch: record.epoch,
            members: record.members.iter().map(|member| member.identity).collect(),
            shown: if record.floor.height > record.checkpoint.anchor.height {
                record.floor
            } else {
                record.checkpoint.anchor
            },
        };
        let files = Files { state: self.path("state"), entries: self.path("entries") };
        copies::take(newcomer, from, files).await
    }

    /// Where the other members serve.
    pub(crate) async fn peers(&self, chain: &Chain, record: &ClusterRecord) -> Result<Vec<String>, Coded> {
        let mut peers = vec![];
        for member in record.members.iter().filter(|member| member.worker != self.worker()) {
            if let Some(worker) = chain.worker(&member.worker).await? {
                peers.extend(String::from_utf8(worker.endpoint));
            }
        }
        Ok(peers)
    }

    /// Takes what is missing up to an entry from the other members' logs.
    async fn catch_up(
        &self,
        chain: &Chain,
        record: &ClusterRecord,
        to: &Anchor,
        replica: &Arc<Replica>,
    ) -> Result<(), Coded> {
        let http = reqwest::Client::new();
        let peers = self.peers(chain, record).await?;
        for peer in peers.iter().cycle().take(peers.len() * ROUNDS) {
            let mut height = replica.applied().height;
            while height < to.height {
                let Some(entries) = fetch(&http, peer, height + 1, to.height + 1).await else { break };
                let (replica, to) = (replica.clone(), *to);
                match blocking(move || replica.catch_up(&entries, &to)).await {
                    Ok(reached) if reached > height => height = reached,
                    _ => break,
                }
            }
            if height >= to.height {
                return Ok(());
            }
            tokio::time::sleep(RECONNECT).await;
        }
        let detail =
            format!("entry {} is here, {} was shown, and no member has it", replica.applied().height, to.height);
        Err(Coded::new(Code::LogMissing, detail))
    }

    /// Joins the epoch's consensus.
    pub(crate) async fn join(
        &self,
        chain: &Chain,
        keys: &Keys,
        record: &ClusterRecord,
        replica: &Arc<Replica>,
    ) -> Result<LogHandle, Coded> {
        let (blame, cluster) = (self.blame.clone(), self.cluster);
        let turn = record.members.iter().position(|member| member.worker == self.worker()).unwrap_or(0);
        let blame = move |proof| {
            // Those for whom there is no room are convicted by others.
            let _ = blame.try_send(Blame { cluster, proof: Misbehaviour::Votes(proof), turn });
        };
        let app = Arc::new(LogApp::new(replica.clone(), self.status.head.clone(), blame)?);
        let mut members = vec![];
        for member in &record.members {
            let worker = chain.worker(&member.worker).await?;
            let address = worker.and_then(|w| String::from_utf8(w.peer).ok()).and_then(|text| text.parse().ok());
            let missing = || Coded::new(Code::NotReady, format!("{} has no address", member.worker));
            members.push(Peer { key: member.identity, address: address.ok_or_else(missing)? });
        }
        let namespace = cluster_namespace(&self.config.genesis, self.cluster);
        let secret = Secret::new(keys.identity.to_bytes());
        let partition = format!("cluster-{}-{}-{}", self.cluster, record.epoch, hex::encode(&keys.public()[..4]));
        let log = LogConfig::cluster(secret, members, record.epoch, namespace, partition);
        let (runtime, listen, started) = (self.config.runtime.clone(), self.config.peer, app.clone());
        let log = blocking(move || Ok(runtime.start_log(listen, log, started)?)).await?;
        app.attach(log.clone());
        *self.log.lock() = Some(log.clone());
        Ok(log)
    }

    /// The cluster's keys of these epochs, of which the last is the present one.
    async fn keys(&self, keys: &Keys, epochs: RangeInclusive<u64>) -> Result<ClusterKeys, Coded> {
        let recipient = keys.recipient.public();
        let (genesis, cluster) = (self.config.genesis, self.cluster);
        let (mut since, epoch) = epochs.into_inner();
        let mut all: Option<ClusterKeys> = None;
        loop {
            let request = KeyRequest::sign(genesis, cluster, since..=epoch, self.worker(), recipient, &keys.identity);
            let some = self.config.keys.request(request.clone()).await?.open(&request, &keys.recipient)?;
            match &mut all {
                Some(all) => all.add(some),
                None => all = Some(some),
            }
            since = request.answered().end().saturating_add(1);
            if since > epoch {
                return all.ok_or_else(|| Code::Internal.into());
            }
        }
    }

    /// The cluster's keys of the epochs above one, up to the present; `None` if there are none.
    async fn later_keys(&self, keys: &Keys, above: u64, epoch: u64) -> Result<Option<ClusterKeys>, Coded> {
        if above >= epoch {
            return Ok(None);
        }
        self.keys(keys, above.saturating_add(1)..=epoch).await.map(Some)
    }

    /// Tells a replica the keys of the epochs that have begun since it was told some.
    pub(crate) async fn learn(&self, keys: &Keys, replica: &Arc<Replica>, epoch: u64) -> Result<(), Coded> {
        match self.later_keys(keys, replica.newest_keys(), epoch).await? {
            Some(later) => replica.learn(&later),
            None => Ok(()),
        }
    }
}

/// Where a cluster's state and log are.
struct Disk {
    entries: Arc<EntryFile>,
    state: FileBackend,
}

/// What `open` gives.
struct Opened {
    replica: Arc<Replica>,
    certificates: Arc<CertificateCache>,
    said: Arc<Sayings>,
    egress: Arc<Egress>,
    fanout: Arc<FanOut>,
    /// Compiles the code that the state holds.
    compiling: JoinHandle<()>,
    ticking: Ticker,
}

/// The clock by which queries are stopped, on a thread of its own so that busy cores do not stop it.
struct Ticker {
    stop: Arc<AtomicBool>,
}

impl Ticker {
    #[allow(clippy::disallowed_methods, reason = "a thread of its own, so that busy cores do not stop the clock")]
    fn start(engine: Engine) -> Result<Self, Coded> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let tick = move || {
            let mut last = Instant::now();
            loop {
                let idle = engine.query_load().under_way == 0;
                // What is under way when the worker lets go of the clock ends by it as well.
                if idle && seen.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(if idle { IDLE_TICK } else { VM_TICK });
                // A thread wakes late, above all when all cores are busy. Queries are counted by time none the less.
                let ticks = u32::try_from(last.elapsed().as_nanos() / VM_TICK.as_nanos()).unwrap_or(u32::MAX);
                (0..ticks.min(LATE_TICKS)).for_each(|_| engine.tick());
                last += VM_TICK.saturating_mul(ticks);
            }
        };
        std::thread::Builder::new()
            .name("query clock".into())
            .spawn(tick)
            .map_err(|e| Coded::new(Code::Internal, format!("no thread for the clock of queries: {e}")))?;
        Ok(Self { stop })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

pub(crate) struct AbortOnDrop(pub(crate) JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Compiles code that the replica holds, and from now on what is uploaded to it, one after the other.
fn compile(replica: &Arc<Replica>, engine: Engine) -> Result<JoinHandle<()>, Coded> {
    let codes = replica.codes(MAX_COMPILED)?;
    let (sender, mut uploads) = tokio::sync::mpsc::channel::<Vec<u8>>(MAX_UPLOADS);
    replica.on_upload(move |code| {
        // What finds no room is compiled when it is called.
        let _ = sender.try_send(code);
    });
    let compile = |engine: &Engine, code: Vec<u8>| {
        if let Err(error) = engine.compile(&code) {
            tracing::debug!(%error, "code does not compile");
        }
    };
    let later = engine.clone();
    tokio::spawn(async move {
        while let Some(code) = uploads.recv().await {
            let engine = later.clone();
            let _ = tokio::task::spawn_blocking(move || compile(&engine, code)).await;
        }
    });
    Ok(tokio::task::spawn_blocking(move || codes.into_iter().for_each(|code| compile(&engine, code))))
}

/// Runs work that blocks off the threads that serve sockets.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Coded> + Send + 'static,
) -> Result<T, Coded> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Code::Internal.into()))
}

/// Entries of a peer's log; what they are worth is for the replica to say.
async fn fetch(http: &reqwest::Client, peer: &str, from: u64, to: u64) -> Option<Vec<Vec<u8>>> {
    let url = format!("{peer}/v1/entries?from={from}&to={to}");
    let bytes = read(http.get(url).timeout(FETCH).send().await.ok()?, MAX_FETCH).await?;
    Vec::decode_all(&mut bytes.as_slice()).ok().filter(|entries: &Vec<_>| !entries.is_empty())
}

/// A peer's answer, if it is one and no longer than that.
pub(crate) async fn read(response: reqwest::Response, limit: usize) -> Option<Vec<u8>> {
    let mut response = response.error_for_status().ok()?;
    let mut bytes = vec![];
    while let Some(chunk) = response.chunk().await.ok()? {
        if bytes.len() + chunk.len() > limit {
            return None;
        }
        bytes.extend_from_slice(&chunk);
    }
    Some(bytes)
}

/// Brings the cluster what the chain says that its contracts may use, whenever this member leads.
async fn follow_policy(chain: Arc<Chain>, cluster: ClusterId, service: Arc<Service>) {
    loop {
        tokio::time::sleep(POLICY).await;
        if !service.leads() {
            continue;
        }
        if let Err(error) = bring_policy(&chain, cluster, &service).await {
            tracing::debug!(%error, "the cluster's policy is asked for again");
        }
    }
}

async fn bring_policy(chain: &Chain, cluster: ClusterId, service: &Service) -> Result<(), Coded> {
    let replica = service.replica();
    if chain.policy(cluster).await?.version <= replica.policy()?.version {
        return Ok(());
    }
    let proof = chain.fact(&storage::policy(cluster)).await?;
    // Its outcome shows when the state is looked at next.
    drop(replica.follow_policy(proof, now_ms())?.await);
    Ok(())
}

/// Has the state written to the disk, until the replica fails.
async fn settle(replica: Arc<Replica>) {
    loop {
        let settling = replica.clone();
        if blocking(move || settling.settle()).await.is_err() {
            return;
        }
        tokio::time::sleep(SETTLING).await;
    }
}

/// Seals what the state holds from earlier epochs anew, a little at a time.
async fn reseal(replica: Arc<Replica>) {
    loop {
        let replica = replica.clone();
        let more = match blocking(move || replica.reseal()).await {
            Ok(more) => more,
            Err(error) => {
                tracing::error!(%error, "the state stays under the keys of earlier epochs");
                return;
            }
        };
        tokio::time::sleep(if more { RESEAL_PAUSE } else { HOUSEKEEPING }).await;
    }
}

/// Rotates session keys, until the replica fails.
async fn look_after(service: &Service, _ticking: Ticker) -> Result<(), Coded> {
    loop {
        tokio::time::sleep(HOUSEKEEPING).await;
        service.acceptor().tick(now_ms(), &mut SystemRng);
        if let Some(fault) = service.replica().fault() {
            return Err(fault);
        }
    }
}

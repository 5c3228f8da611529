//! Logs in deterministic simulation: virtual time, seeded randomness, links that lose, delay and part, hosts that
//! crash or lie. The logs run the same code as on real sockets. The same seed gives the same run, to the byte.

use crate::{
    Application, LogConfig, LogHandle, StartError,
    check::{self, Checked},
    liar::{Liar, Lie, Lies, Mouth, Split, Twin},
    log::{self, Network},
};
use commonware_cryptography::{Signer as _, ed25519};
use commonware_p2p::simulated::{self, SplitTarget};
use commonware_runtime::{Clock as _, Handle, Runner as _, Spawner as _, Supervisor as _, deterministic};
use commonware_utils::{NZUsize, Probability, probability};
use parking_lot::Mutex;
use rand_core::Rng as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};
use tokio::sync::watch;

/// Parts in which a loss is counted.
const PARTS: u32 = 1_000_000;

/// The chance that a message arrives.
fn keep(loss: f64) -> Probability {
    let kept = f64::from(PARTS) * (1.0 - loss.clamp(0.0, 1.0));
    Probability::new(kept as u64, u64::from(PARTS)).unwrap_or(probability!(1.0))
}

type Oracle = simulated::Oracle<ed25519::PublicKey, deterministic::Context>;
type Ear = simulated::Receiver<ed25519::PublicKey>;
type Channel = (Mouth<simulated::Sender<ed25519::PublicKey, deterministic::Context>>, Ear);
type Simulated = Network<
    Mouth<simulated::Sender<ed25519::PublicKey, deterministic::Context>>,
    Ear,
    simulated::Manager<ed25519::PublicKey, deterministic::Context>,
    simulated::Control<ed25519::PublicKey, deterministic::Context>,
>;

/// Virtual time at which simulations begin: 2026-01-01, in milliseconds since 1970.
pub const START_MS: u64 = 1_767_225_600_000;

/// How one host reaches another.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Link {
    /// Mean delay of a message.
    pub latency_ms: u64,
    /// Standard deviation of the delay.
    pub jitter_ms: u64,
    /// Share of messages lost, from 0 to 1.
    pub loss: f64,
}

impl Default for Link {
    fn default() -> Self {
        Self { latency_ms: 5, jitter_ms: 1, loss: 0.0 }
    }
}

/// One log's network: each epoch of each log has its own, as on real sockets.
struct Wires {
    oracle: Oracle,
    hosts: BTreeMap<ed25519::PublicKey, usize>,
}

/// A log that runs on a host.
struct Running {
    host: usize,
    task: Handle<()>,
    over: watch::Sender<bool>,
}

#[derive(Default)]
struct World {
    /// By namespace and epoch.
    wires: BTreeMap<(Vec<u8>, u64), Wires>,
    /// Links that differ from the default, from the first host to the second.
    links: BTreeMap<(usize, usize), Link>,
    /// Group of each host while the network is parted.
    parted: Option<BTreeMap<usize, usize>>,
    /// From which host nothing reaches which.
    deaf: BTreeSet<(usize, usize)>,
    running: Vec<Running>,
    lies: Lies,
    /// Hosts whose members are cloned: the clone's host, and whom it speaks with.
    clones: BTreeMap<usize, (usize, Split)>,
    /// Networks of clones that have not started, by the clone's host.
    waiting: BTreeMap<usize, Simulated>,
}

impl World {
    /// The link from one host to another, if what it sends arrives now.
    fn link(&self, a: usize, b: usize) -> Option<Link> {
        let together = self.parted.as_ref().is_none_or(|groups| groups.get(&a) == groups.get(&b));
        let connected = together && !self.deaf.contains(&(a, b));
        let link = self.links.get(&(a, b)).copied().unwrap_or_default();
        connected.then_some(link)
    }
}

/// A simulated world of hosts. Hosts are numbers, and exist by being used. Clones act on the same world.
#[derive(Clone)]
pub struct Sim {
    context: Arc<Mutex<deterministic::Context>>,
    world: Arc<Mutex<World>>,
}

/// Runs a scenario from a seed. Returns its result, and a digest of everything that happened in it: the same seed and
/// scenario give the same digest. Panics in tasks and scenarios pass through.
pub fn simulate<F, Fut, T>(seed: u64, scenario: F) -> (T, String)
where
    F: FnOnce(Sim) -> Fut,
    Fut: Future<Output = T>,
{
    let config = deterministic::Config::new()
        .with_seed(seed)
        .with_start_time(UNIX_EPOCH + Duration::from_millis(START_MS))
        .with_timeout(Some(Duration::from_secs(24 * 3600)));
    deterministic::Runner::new(config).start(|context| async move {
        let auditor = context.auditor();
        let sim = Sim { context: Arc::new(Mutex::new(context)), world: Arc::default() };
        let out = scenario(sim).await;
        (out, auditor.state())
    })
}

impl Sim {
    /// Starts a log on a host. The log's storage belongs to the host: started again with the same partition, it goes
    /// on where it was. A host may run any number of logs.
    //
    // Inline, so that the engine is compiled for this runtime only where it is used.
    #[inline]
    pub async fn start(
        &self,
        host: usize,
        mut config: LogConfig,
        app: Arc<dyn Application>,
    ) -> Result<LogHandle, StartError> {
        config.partition = format!("host{host}-{}", config.partition);
        let checked = Checked::new(config, app)?;
        let network = self.wire(host, &checked).await.ok_or(StartError::Stopped)?;
        let (handle, ends, over) = LogHandle::new(checked.config.max_message, checked.rules.genesis());
        let context = self.child("log").with_attribute("host", host);
        let (ended, shared) = (over.clone(), handle.shared());
        let task = context.spawn(move |context| async move {
            log::run(context, network, checked, ends).await;
            shared.end();
            let _ = ended.send(true);
        });
        let mut world = self.world.lock();
        world.running.retain(|log| !*log.over.borrow());
        world.running.push(Running { host, task, over });
        Ok(handle)
    }

    /// Kills everything that runs on a host, between two steps of it. What it has synced to storage remains.
    pub async fn crash(&self, host: usize) {
        let dead: Vec<_> = {
            let mut world = self.world.lock();
            let (dead, alive) = std::mem::take(&mut world.running).into_iter().partition(|log| log.host == host);
            world.running = alive;
            dead
        };
        for log in dead {
            log.task.abort();
            let _ = log.task.await;
            let _ = log.over.send(true);
        }
        self.sleep_ms(10).await;
    }

    /// Has the members that run on a host vote against themselves from now on, or be honest again.
    pub fn corrupt(&self, host: usize, lie: Option<Lie>) {
        let lies = self.world.lock().lies.clone();
        let mut lies = lies.lock();
        match lie {
            Some(lie) => lies.insert(host, lie),
            None => lies.remove(&host),
        };
    }

    /// Has every member that starts on `host` from now on be cloned while it runs. The clone's log is to be started on
    /// `clone` with the same configuration, right after the original. It follows the log and sends nothing until
    /// [`Sim::wake`].
    pub fn clone_member(&self, host: usize, clone: usize) {
        self.world.lock().clones.insert(host, (clone, Split::default()));
    }

    /// Has the clone of a host's member speak with the members on these hosts, and the original with the others only.
    pub fn wake(&self, host: usize, with: &[usize]) {
        let world = self.world.lock();
        if let Some((_, split)) = world.clones.get(&host) {
            let keys = world.wires.values().flat_map(|wires| &wires.hosts);
            *split.lock() = Some(keys.filter(|(_, at)| with.contains(at)).map(|(key, _)| key.clone()).collect());
        }
    }

    /// Sets the links between two hosts, the same in both directions.
    pub async fn set_link(&self, a: usize, b: usize, link: Link) {
        self.world.lock().links.extend([((a, b), link), ((b, a), link)]);
        self.relink().await;
    }

    /// Sets the link from one host to another.
    pub async fn set_way(&self, from: usize, to: usize, link: Link) {
        self.world.lock().links.insert((from, to), link);
        self.relink().await;
    }

    /// Parts the network: hosts reach each other within a group only. Hosts in no group are a group together.
    pub async fn partition(&self, groups: &[&[usize]]) {
        let of = |(group, hosts): (usize, &&[usize])| hosts.iter().map(move |host| (*host, group)).collect::<Vec<_>>();
        self.world.lock().parted = Some(groups.iter().enumerate().flat_map(of).collect());
        self.relink().await;
    }

    /// Lets nothing pass from these hosts to those, while the other direction works.
    pub async fn deafen(&self, from: &[usize], to: &[usize]) {
        let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
        self.world.lock().deaf.extend(pairs);
        self.relink().await;
    }

    /// Ends all partitions.
    pub async fn heal(&self) {
        {
            let mut world = self.world.lock();
            world.parted = None;
            world.deaf.clear();
        }
        self.relink().await;
    }

    /// Lets virtual time pass.
    pub async fn sleep_ms(&self, ms: u64) {
        let sleep = self.context.lock().sleep(Duration::from_millis(ms));
        sleep.await;
    }

    /// Virtual time, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        crate::caller::millis(self.context.lock().current())
    }

    /// A number drawn from the seed.
    pub fn random(&self) -> u64 {
        self.context.lock().next_u64()
    }

    /// Runs something beside the scenario, for instance a client. It ends with the scenario.
    pub fn spawn<Fut>(&self, task: Fut)
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        drop(self.child("beside").spawn(move |_| task));
    }

    fn child(&self, label: &'static str) -> deterministic::Context {
        self.context.lock().child(label)
    }

    /// Connects a member's host to the network of its log.
    async fn wire(&self, host: usize, checked: &Checked) -> Option<Simulated> {
        if let Some(network) = self.world.lock().waiting.remove(&host) {
            return Some(network);
        }
        let name = (checked.config.namespace.clone(), checked.config.epoch);
        let known = self.world.lock().wires.get(&name).map(|wires| wires.oracle.clone());
        let oracle = match known {
            Some(oracle) => oracle,
            None => {
                let config = simulated::Config {
                    max_size: checked.max_size(),
                    max_peers_per_set: NonZeroUsize::new(checked.members.len())?,
                    disconnect_on_block: true,
                    tracked_peer_sets: NZUsize!(1),
                };
                let context = self.child("network").with_attribute("epoch", checked.config.epoch);
                let members = checked.members.iter().cloned();
                let (network, oracle) = simulated::Network::new_with_peers(context, config, members).await;
                network.start();
                let wires = Wires { oracle: oracle.clone(), hosts: BTreeMap::new() };
                self.world.lock().wires.insert(name.clone(), wires);
                oracle
            }
        };
        let me = checked.key.public_key();
        if let Some(wires) = self.world.lock().wires.get_mut(&name) {
            wires.hosts.insert(me.clone(), host);
        }
        let control = oracle.control(me);
        let clone = self.world.lock().clones.get(&host).cloned();
        let liar = Liar {
            host,
            lies: self.world.lock().lies.clone(),
            scheme: checked.scheme.clone(),
            others: checked.members.iter().step_by(2).cloned().collect(),
        };
        let channel = async |id| {
            let (inner, receiver) = control.register(id, checked.quota(id)).await.ok()?;
            Some((Mouth { inner, liar: (id == check::VOTES).then(|| liar.clone()), twin: None }, receiver))
        };
        let mut network = Network {
            votes: channel(check::VOTES).await?,
            certificates: channel(check::CERTIFICATES).await?,
            requests: channel(check::REQUESTS).await?,
            blocks: channel(check::BLOCKS).await?,
            backfill: channel(check::BACKFILL).await?,
            auxiliary: channel(check::AUXILIARY).await?,
            provider: oracle.manager(),
            blocker: control.clone(),
        };
        if let Some((at, split)) = clone {
            let (first, second) = self.double(network, &split);
            network = first;
            self.world.lock().waiting.insert(at, second);
        }
        self.relink().await;
        Some(network)
    }

    /// Two ends of each channel for two that have one key.
    fn double(&self, network: Simulated, split: &Split) -> (Simulated, Simulated) {
        let double = |id: u64, (mouth, ear): Channel| {
            let split = split.clone();
            // What answers a request is for who made it.
            let shared = !matches!(id, check::REQUESTS | check::BACKFILL);
            let route = move |(from, _): &(ed25519::PublicKey, _)| match &*split.lock() {
                None if shared => SplitTarget::Both,
                None => SplitTarget::Primary,
                Some(peers) if peers.contains(from) => SplitTarget::Secondary,
                Some(_) => SplitTarget::Primary,
            };
            let (first, second) = ear.split_with(self.child("twins").with_attribute("channel", id), route);
            (mouth, first, second)
        };
        let speak = |mouth: Mouth<_>, is_clone| Mouth { twin: Some(Twin { is_clone, split: split.clone() }), ..mouth };
        let pair = |id, channel| {
            let (mouth, first, second) = double(id, channel);
            ((speak(mouth.clone(), false), first), (speak(mouth, true), second))
        };
        let (votes, certificates) =
            (pair(check::VOTES, network.votes), pair(check::CERTIFICATES, network.certificates));
        let (requests, blocks) = (pair(check::REQUESTS, network.requests), pair(check::BLOCKS, network.blocks));
        let (backfill, auxiliary) =
            (pair(check::BACKFILL, network.backfill), pair(check::AUXILIARY, network.auxiliary));
        let of = |votes, certificates, requests, blocks, backfill, auxiliary| Network {
            votes,
            certificates,
            requests,
            blocks,
            backfill,
            auxiliary,
            provider: network.provider.clone(),
            blocker: network.blocker.clone(),
        };
        (
            of(votes.0, certificates.0, requests.0, blocks.0, backfill.0, auxiliary.0),
            of(votes.1, certificates.1, requests.1, blocks.1, backfill.1, auxiliary.1),
        )
    }

    /// Makes all networks agree with the links between hosts.
    async fn relink(&self) {
        let mut wanted = Vec::new();
        {
            let world = self.world.lock();
            for wires in world.wires.values() {
                for (a, on) in &wires.hosts {
                    for (b, at) in wires.hosts.iter().filter(|(b, _)| *b != a) {
                        wanted.push((wires.oracle.clone(), a.clone(), b.clone(), world.link(*on, *at)));
                    }
                }
            }
        }
        for (oracle, a, b, link) in wanted {
            let _ = match link {
                Some(link) => {
                    let success_rate = keep(link.loss);
                    let latency = Duration::from_millis(link.latency_ms);
                    let jitter = Duration::from_millis(link.jitter_ms);
                    oracle.add_link(a, b, simulated::Link { latency, jitter, success_rate }).await
                }
                None => oracle.remove_link(a, b).await,
            };
        }
    }
}

//! Parts of queries, spread over this machine's cores and over the other members of the cluster.
//!
//! Upon a query that splits its work: threads of this worker, as many as queries may run at once, take parts from a
//! queue, each in its contract's turn. If it is not done after a moment, every other member is asked for parts, too, a
//! few at a time, by sealed requests of this worker's identity, which name the state that they are about. A member that
//! fails, refuses or dies is asked no more, and its part goes back to the front. When the queue is empty, threads without
//! work compute those parts again that are still with others, so that one that is silent holds up nobody. The first
//! result of a part counts; with the last one, whatever still runs ends at its next tick.
//!
//! All ends with the query: by its time, or because its caller left. What others are asked for then breaks off, and
//! ends there as well.

use crate::{metrics::Metrics, service::now_ms};
use futures::{StreamExt, stream::FuturesUnordered};
use parking_lot::{Condvar, Mutex};
use phala_client::{Chain, Cluster, Replica as Peer};
use phala_pink::{MapResult, Parts, Results, outcome, returned};
use phala_primitives::{AccountId, ClusterId, Code, Coded};
use phala_replica::Replica;
use phala_session::PartQuery;
use phala_vm::{Caller, Part};
use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, sync::Semaphore};

/// Threads that help queries with their parts, for all queries together. A query's own thread helps itself anyway.
const HELPERS: usize = 64;
/// How long a query works on its own before others are asked.
const ALONE: Duration = Duration::from_millis(5);
/// Parts that one member works on at once for one query.
const WITH_PEER: usize = 2;
/// How long a part waits that finds no instance or no room among its contract's queries.
const CROWDED: Duration = Duration::from_millis(2);
/// How often a query that waits for its last parts looks whether it still should.
const LOOK: Duration = Duration::from_millis(20);
/// How long the credentials are used with which others are asked.
const CREDENTIALS: Duration = Duration::from_secs(12 * 3600);

/// Where else parts may be computed.
pub(crate) struct Peers {
    pub(crate) chain: Arc<Chain>,
    pub(crate) cluster: ClusterId,
    pub(crate) worker: AccountId,
    pub(crate) replica: Weak<Replica>,
    pub(crate) known: tokio::sync::Mutex<Option<(Arc<Cluster>, Instant)>>,
}

impl Peers {
    /// The cluster as this member asks it.
    async fn cluster(&self) -> Result<Arc<Cluster>, Coded> {
        let mut known = self.known.lock().await;
        if let Some((cluster, since)) = &*known
            && since.elapsed() < CREDENTIALS
        {
            return Ok(cluster.clone());
        }
        let replica = self.replica.upgrade().ok_or(Code::NotReady)?;
        let credentials = Arc::new(replica.own_credentials(now_ms()));
        let cluster = Cluster::connect(self.chain.clone(), self.cluster, credentials).await?;
        *known = Some((cluster.clone(), Instant::now()));
        Ok(cluster)
    }

    /// Has the other members work on parts until there are none left for them.
    async fn help(&self, work: Arc<Work>, tick_ms: u64) {
        tokio::time::sleep(ALONE).await;
        let Ok(cluster) = self.cluster().await else { return };
        let Ok(mut peers) = cluster.reachable().await else { return };
        peers.retain(|peer| peer.worker != self.worker);
        let each = peers.iter().flat_map(|peer| [peer; WITH_PEER]);
        let mut asking: FuturesUnordered<_> = each.map(|peer| ask(&cluster, peer, &work, tick_ms)).collect();
        while asking.next().await.is_some() {}
    }
}

/// Has one member compute one part after the other.
async fn ask(cluster: &Cluster, peer: &Peer, work: &Work, tick_ms: u64) {
    while let Some((index, query)) = work.next_for_peer(tick_ms) {
        match cluster.part(peer, &query).await {
            Ok(output) => work.put(index, returned(output.flags, output.data), "peer"),
            Err(error) => match error.known().filter(|code| is_contracts_own(*code)) {
                Some(code) => work.put(index, Err(code.into()), "peer"),
                None => {
                    tracing::debug!(peer = %peer.worker, %error, "a part comes back");
                    return work.give_back(index);
                }
            },
        }
    }
}

/// Whether every replica that holds the state would come to this end.
fn is_contracts_own(code: Code) -> bool {
    (2000..3000).contains(&(code as u16)) && !matches!(code, Code::TimeLimit | Code::ContractMemoryLimit)
}

/// Spreads parts of queries.
pub(crate) struct FanOut {
    runtime: Handle,
    metrics: Arc<Metrics>,
    tick_ms: u64,
    helpers: Arc<Semaphore>,
    peers: OnceLock<Arc<Peers>>,
}

impl FanOut {
    /// To be called within a runtime; without peers until [`FanOut::attach`].
    pub(crate) fn new(metrics: Arc<Metrics>, tick_ms: u64) -> Self {
        let helpers = Arc::new(Semaphore::new(HELPERS));
        Self { runtime: Handle::current(), metrics, tick_ms, helpers, peers: OnceLock::new() }
    }

    /// Lets other members help.
    pub(crate) fn attach(&self, peers: Peers) {
        let _ = self.peers.set(Arc::new(peers));
    }

    /// Runs all parts. Blocks the thread, which takes part in it.
    pub(crate) fn map(&self, parts: Parts) -> Vec<MapResult> {
        let (count, slots) = (parts.count(), parts.fork().slots());
        if count == 0 {
            return vec![];
        }
        let work = Arc::new(Work::new(parts, self.metrics.clone()));
        for _ in 1..slots.min(count) {
            let Ok(permit) = self.helpers.clone().try_acquire_owned() else { break };
            let work = work.clone();
            self.runtime.spawn_blocking(move || {
                let _permit = permit;
                work.run_here();
            });
        }
        let peers = self.peers.get().filter(|_| count > slots && work.parts.fork().root().is_some());
        let helping = peers.map(|peers| {
            let (peers, work, tick_ms) = (peers.clone(), work.clone(), self.tick_ms);
            self.runtime.spawn(async move { peers.help(work, tick_ms).await })
        });
        work.run_here();
        let results = work.wait();
        if let Some(helping) = helping {
            // Connections break, and others end what they do for us.
            helping.abort();
        }
        results
    }
}

/// The parts of one query, and how far they are.
struct Work {
    parts: Parts,
    /// Waits for results on behalf of the query's caller; leaves when all are there.
    caller: Caller,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Parts that nobody has taken.
    queue: VecDeque<usize>,
    /// Parts that others were asked for and that no thread here has taken as well.
    away: VecDeque<usize>,
    results: Results,
}

impl Work {
    fn new(parts: Parts, metrics: Arc<Metrics>) -> Self {
        let (queue, away, results) = ((0..parts.count()).collect(), VecDeque::new(), parts.results());
        let caller = Caller::on_behalf_of(parts.fork().caller());
        let (state, changed) = (Mutex::new(State { queue, away, results }), Condvar::new());
        Self { parts, caller, metrics, state, changed }
    }

    fn is_over(&self) -> bool {
        self.caller.has_left() || self.parts.fork().ticks_left() == 0
    }

    /// A part for a thread of this worker.
    fn next_here(&self) -> Option<(usize, Part)> {
        let mut state = self.state.lock();
        let State { queue, away, results } = &mut *state;
        let index = queue.pop_front().or_else(|| away.pop_front()).filter(|index| !results.has(*index))?;
        Some((index, self.parts.part(index)?))
    }

    /// A part for another member, as long as there are enough for this one.
    fn next_for_peer(&self, tick_ms: u64) -> Option<(usize, PartQuery)> {
        let root = self.parts.fork().root()?;
        let mut state = self.state.lock();
        let index = state.queue.pop_front().filter(|_| !self.is_over())?;
        state.away.push_back(index);
        drop(state);
        let Part { account, contract, origin, data, block, ticks } = self.parts.part(index)?;
        let patience_ms = ticks.saturating_mul(tick_ms);
        let (height, time_ms) = (block.height, block.time_ms);
        Some((index, PartQuery { root, height, time_ms, account, contract, origin, data, patience_ms }))
    }

    /// Takes a part back that another member did not do.
    fn give_back(&self, index: usize) {
        let mut state = self.state.lock();
        let before = state.away.len();
        state.away.retain(|other| *other != index);
        // Otherwise a thread here has it already.
        if state.away.len() < before {
            state.queue.push_front(index);
            self.changed.notify_all();
        }
    }

    fn put(&self, index: usize, result: MapResult, place: &'static str) {
        let mut state = self.state.lock();
        if state.results.has(index) {
            return;
        }
        self.metrics.part(place);
        state.results.put(index, result);
        if state.results.missing() == 0 {
            self.caller.leave();
            self.changed.notify_all();
        }
    }

    /// Works until there is nothing left to begin.
    fn run_here(&self) {
        while !self.is_over()
            && let Some((index, part)) = self.next_here()
        {
            let execution = loop {
                let execution = self.parts.fork().run_for(part.clone(), &self.caller);
                let crowded = matches!(&execution, Err(failure)
                    if matches!(failure.code(), Code::Busy | Code::ContractBusy | Code::MemoryBusy));
                if !crowded || self.is_over() {
                    break execution;
                }
                self.changed.wait_for(&mut self.state.lock(), CROWDED);
            };
            self.put(index, outcome(execution), "here");
        }
    }

    /// Waits for parts that others have, and does those that come back.
    fn wait(&self) -> Vec<MapResult> {
        loop {
            self.run_here();
            let mut state = self.state.lock();
            if state.results.missing() == 0 || self.is_over() {
                self.caller.leave();
                return state.results.finish();
            }
            if state.queue.is_empty() && state.away.is_empty() {
                self.changed.wait_for(&mut state, LOOK);
            }
        }
    }
}

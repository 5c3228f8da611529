//! A worker from its start to its end.
//!
//! # Start
//! 1. Listen, so that peers and operators can reach it; `/readyz` tells what it waits for.
//! 2. Connect to the chain and follow it with a light client.
//! 3. Make an identity and a recipient key, in memory only; have the machine quote them; register them on the chain.
//!    From now on the keys of an earlier start are dead.
//! 4. Wait until the chain has a place for the worker in a cluster; meanwhile be in the pool, see [`crate::life`].
//! 5. Get the cluster's keys, sealed to the recipient key. Open state and entry log; replay what the state lacks.
//! 6. If the epoch's members do not include this identity: fetch what the log lacks of what the chain was shown, report
//!    the highest entry (`rejoin`), and wait for the epoch that does.
//! 7. Fetch from peers what lies between the own log and the epoch's floor, each entry verified by its certificate.
//! 8. Join the epoch's consensus, and serve.
//!
//! # Epochs
//! When another member has started anew, or is replaced, the chain plans the next epoch, and this one follows, see
//! [`crate::epochs`]. Members that stay silent are accused, see [`crate::vigil`]. Who is no member of an epoch goes back
//! to step 4.
//!
//! # End
//! [`Worker::stop`] ends everything in order; [`Worker::kill`] drops it as a crash would.

use crate::{
    door::Door,
    egress::EgressPolicy,
    entries::EntryFile,
    http,
    life::Life,
    metrics::Metrics,
    service::{ChainHead, Service},
};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use phala_attest::Provider;
use phala_client::Account;
use phala_consensus::{LogHandle, Runtime};
use phala_keys::{KeyRequest, SealedKeys};
use phala_primitives::{AccountId, Code, Coded, Hash};
use std::{net::SocketAddr, path::PathBuf, sync::Arc};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Brings a request to whoever releases keys, and the sealed answer back. Nothing on the way is trusted.
pub trait KeyDelivery: Send + Sync {
    /// Asks for a cluster's keys, once.
    fn request(&self, request: KeyRequest) -> BoxFuture<'_, Result<SealedKeys, Coded>>;
}

/// What a worker is started with.
#[derive(Clone)]
pub struct WorkerConfig {
    /// The worker's account on the chain; it pays fees.
    pub account: Arc<Account>,
    /// A node of the chain; it is trusted for nothing.
    pub chain_url: String,
    /// Genesis hash of the network.
    pub genesis: Hash,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where the other members of the cluster connect.
    pub peer: SocketAddr,
    /// Own folder for sealed state and the entry log.
    pub folder: PathBuf,
    /// The machine that makes evidence.
    pub provider: Arc<dyn Provider>,
    /// Who releases the cluster's keys.
    pub keys: Arc<dyn KeyDelivery>,
    /// What contracts may reach over HTTP.
    pub egress: EgressPolicy,
    /// Runs the cluster's consensus; its storage need not survive the process.
    pub runtime: Arc<Runtime>,
}

/// Answers to newcomers that are made at once; each may hold some MiB.
const COPYING: usize = 8;
/// What a worker that failed waits for.
const FAILED: &str = "its operator";

/// What a worker's sockets show of it.
pub(crate) struct Status {
    attestation: &'static str,
    metrics: Arc<Metrics>,
    pub(crate) head: Arc<ChainHead>,
    /// What the worker waits for; empty when it serves.
    waiting: watch::Sender<&'static str>,
    /// Why it waits longer than it should.
    hindrance: Mutex<Option<Coded>>,
    service: watch::Sender<Option<Arc<Service>>>,
    entries: Mutex<Option<Arc<EntryFile>>>,
    failure: Mutex<Option<Coded>>,
    /// Permits to answer newcomers.
    pub(crate) copying: Semaphore,
}

impl Status {
    /// The service, once the worker is ready.
    pub(crate) fn service(&self) -> Option<Arc<Service>> {
        self.service.borrow().clone().filter(|_| self.failure.lock().is_none())
    }

    /// Waits until clients get another service, or none.
    pub(crate) async fn replaced(&self, service: &Arc<Service>) {
        let other = |now: &Option<Arc<Service>>| !now.as_ref().is_some_and(|now| Arc::ptr_eq(now, service));
        // The sender lives as long as this does.
        let _ = self.service.subscribe().wait_for(other).await;
    }

    /// The entry log, once it is open.
    pub(crate) fn entries(&self) -> Option<Arc<EntryFile>> {
        self.entries.lock().clone()
    }

    /// Says what comes next.
    pub(crate) fn wait_for(&self, what: &'static str) {
        *self.hindrance.lock() = None;
        self.waiting.send_replace(what);
    }

    /// Says why that does not come.
    pub(crate) fn hindered(&self, why: Coded) {
        *self.hindrance.lock() = Some(why);
    }

    /// Lets peers read the entry log.
    pub(crate) fn share_entries(&self, entries: Arc<EntryFile>) {
        *self.entries.lock() = Some(entries);
    }

    /// Opens the door to clients.
    pub(crate) fn serve(&self, service: Arc<Service>) {
        self.service.send_replace(Some(service));
        self.wait_for("");
    }

    /// Closes it, and ends all sessions: the worker has no seat any more, or no state.
    pub(crate) fn withdraw(&self) {
        self.service.send_replace(None);
        *self.entries.lock() = None;
    }

    /// Ends the worker's usefulness.
    pub(crate) fn fail(&self, error: Coded) {
        *self.failure.lock() = Some(error);
        self.waiting.send_replace(FAILED);
    }

    /// What the worker waits for before it serves.
    pub(crate) fn waiting_for(&self) -> String {
        if let Some(error) = &*self.failure.lock() {
            return format!("its operator: {error}");
        }
        let waiting = *self.waiting.borrow();
        match &*self.hindrance.lock() {
            Some(error) => format!("{waiting}: {error}"),
            None => waiting.to_owned(),
        }
    }

    /// What kind of evidence stands behind the worker.
    pub(crate) fn attestation(&self) -> &'static str {
        self.attestation
    }

    /// Its metrics.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Brings gauges up to date before they are read.
    pub(crate) fn refresh_metrics(&self) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        if let Ok(number) = self.head.fresh() {
            self.metrics.chain_height.set(gauge(u64::from(number)));
        }
        if let Some(service) = self.service() {
            self.metrics.height.set(gauge(service.replica().applied().height));
            self.metrics.waiting.set(gauge(service.replica().waiting() as u64));
            self.metrics.leads.set(i64::from(service.leads()));
            let load = service.replica().query_load();
            self.metrics.queries_running.set(gauge(load.running as u64));
            self.metrics.queries_waiting.set(gauge(load.waiting as u64));
            self.metrics.preemptions.set(gauge(load.preemptions));
            self.metrics.queries_under_way.set(gauge(load.under_way as u64));
            self.metrics.query_memory.set(gauge(load.memory as u64));
            if let Ok(policy) = service.replica().policy() {
                self.metrics.policy_version.set(gauge(policy.version));
            }
            self.metrics.request_bytes.set(gauge(service.budget().used() as u64));
        }
    }
}

/// A running worker.
pub struct Worker {
    id: AccountId,
    address: SocketAddr,
    status: Arc<Status>,
    log: Arc<Mutex<Option<LogHandle>>>,
    tasks: JoinSet<()>,
    /// Breaks all connections when dropped.
    _shut: DropGuard,
}

impl Worker {
    /// Binds the client port and starts. The rest goes on in the background; [`Worker::ready`] tells when it is done.
    pub async fn start(config: WorkerConfig) -> Result<Self, Coded> {
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|e| Coded::new(Code::PortInUse, format!("{}: {e}", config.listen)))?;
        let address = listener.local_addr().map_err(|e| Coded::new(Code::PortInUse, e.to_string()))?;
        let status = Arc::new(Status {
            attestation: config.provider.name(),
            metrics: Arc::default(),
            head: Arc::default(),
            waiting: watch::Sender::new("the chain"),
            hindrance: Mutex::default(),
            service: watch::Sender::new(None),
            entries: Mutex::new(None),
            failure: Mutex::new(None),
            copying: Semaphore::new(COPYING),
        });
        let log = Arc::<Mutex<Option<LogHandle>>>::default();
        let id = config.account.id();
        let mut tasks = JoinSet::new();
        let shut = CancellationToken::new();
        let (router, door) = (http::router(status.clone()), Door::new(listener, shut.clone()));
        tasks.spawn(async move {
            // It ends only with the task.
            let _ = axum::serve(door, router).await;
        });
        let (shown, handle) = (status.clone(), log.clone());
        tasks.spawn(async move {
            let life = Life { config, address, status: shown.clone(), log: handle };
            if let Err(error) = life.run().await {
                tracing::error!(worker = %id, %error, "the worker cannot serve");
                shown.fail(error);
            }
        });
        Ok(Self { id, address, status, log, tasks, _shut: shut.drop_guard() })
    }

    /// The worker's account.
    pub fn id(&self) -> AccountId {
        self.id
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it leads its cluster.
    pub fn leads(&self) -> bool {
        self.status.service().is_some_and(|service| service.leads())
    }

    /// Completes when the worker serves, or cannot.
    pub async fn ready(&self) -> Result<(), Coded> {
        let mut waiting = self.status.waiting.subscribe();
        let _ = waiting.wait_for(|what| what.is_empty() || *what == FAILED).await;
        self.status.failure.lock().clone().map_or(Ok(()), Err)
    }

    /// Completes with the reason when the worker cannot go on.
    pub async fn failed(&self) -> Coded {
        let mut waiting = self.status.waiting.subscribe();
        let _ = waiting.wait_for(|what| *what == FAILED).await;
        self.status.failure.lock().clone().unwrap_or_else(|| Code::Internal.into())
    }

    /// Stops serving and leaves the log. What was acknowledged is on disk already.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
        let log = self.log.lock().take();
        if let Some(log) = log {
            log.stop();
            log.stopped().await;
        }
    }

    /// Ends at once, as if the process had been killed: connections break, nothing is flushed or said to anyone. What is
    /// returned completes when its files are free for another start.
    pub fn kill(mut self) -> impl Future<Output = ()> + Send + 'static {
        self.tasks.abort_all();
        let log = self.log.lock().take();
        if let Some(log) = &log {
            log.stop();
        }
        async move {
            self.tasks.shutdown().await;
            if let Some(log) = log {
                log.stopped().await;
            }
        }
    }
}

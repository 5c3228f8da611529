//! Logs on real sockets and files.
//!
//! Each log has a network of its own, on its own address: connections are authenticated by the members' keys and
//! encrypted, and only members are let in.

use crate::{
    Application, LogConfig, LogHandle, StartError,
    check::{self, Checked},
    handle::Shared,
    log::{self, Ends, Network},
};
use commonware_cryptography::{ChaCha20Poly1305, ed25519};
use commonware_p2p::{Address, AddressableManager as _, authenticated::lookup};
use commonware_runtime::{Quota, Runner as _, Spawner as _, Supervisor as _, tokio as cw};
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::{NZU32, NZUsize, ordered::Map};
use parking_lot::Mutex;
use std::{
    net::{SocketAddr, TcpListener},
    num::NonZeroUsize,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::sync::{mpsc, watch};

/// How long an address that a log has just left may take to become free.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a folder may be held by a runtime that is about to end.
const HELD: Duration = Duration::from_secs(10);

/// What is needed to start a log on the runtime's threads.
struct Job {
    listen: SocketAddr,
    checked: Checked,
    ends: Ends,
    ended: watch::Sender<bool>,
}

/// A runtime for logs, on threads of its own. Dropping it stops its logs, and waits for their end.
pub struct Runtime {
    jobs: Option<mpsc::UnboundedSender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Logs that may be running, by their addresses.
    logs: Mutex<Vec<(SocketAddr, LogHandle)>>,
}

impl Runtime {
    /// Starts a runtime that keeps its files in this folder, which no other runtime uses. Blocks until one that did
    /// has let go of it, for ten seconds at most.
    pub fn start(storage: &Path, worker_threads: usize) -> Result<Self, StartError> {
        let failed = |error| StartError::Storage(storage.display().to_string(), error);
        std::fs::create_dir_all(storage).map_err(failed)?;
        let probe = storage.join(".probe");
        std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe)).map_err(failed)?;
        let config = cw::Config::new()
            .with_storage_directory(storage)
            .with_worker_threads(worker_threads.max(1))
            .with_tcp_nodelay(Some(true))
            .with_catch_panics(true);
        let (jobs, mut waiting) = mpsc::unbounded_channel::<Job>();
        let (started, running) = std::sync::mpsc::sync_channel::<()>(1);
        let run = move || {
            cw::Runner::new(config).start(|context| async move {
                let _ = started.send(());
                let mut logs = Vec::new();
                while let Some(job) = waiting.recv().await {
                    let partition = job.checked.config.partition.clone();
                    let context = context.child("log").with_attribute("partition", partition);
                    logs.retain(|ended: &watch::Receiver<bool>| !*ended.borrow());
                    logs.push(job.ended.subscribe());
                    context.spawn(move |context| supervise(context, job));
                }
                for mut ended in logs {
                    let _ = ended.wait_for(|ended| *ended).await;
                }
            });
        };
        let thread = thread::Builder::new().name("logs".into()).spawn(run).map_err(failed)?;
        // The runtime waits while its folder is held by another.
        running.recv_timeout(HELD).map_err(|_| failed(std::io::ErrorKind::ResourceBusy.into()))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), logs: Mutex::default() })
    }

    /// Starts a log that listens on this address. Checks the configuration and the address; what is stored is opened
    /// and replayed in the background. May block for a moment.
    pub fn start_log(
        &self,
        listen: SocketAddr,
        config: LogConfig,
        app: Arc<dyn Application>,
    ) -> Result<LogHandle, StartError> {
        let checked = Checked::new(config, app)?;
        let mut logs = self.logs.lock();
        logs.retain(|(_, log)| !log.ended());
        let taken = |error| StartError::Listen(listen, error);
        if logs.iter().any(|(address, log)| *address == listen && !log.stopping()) {
            return Err(taken(std::io::ErrorKind::AddrInUse.into()));
        }
        free(listen).map_err(taken)?;
        let (handle, ends, ended) = LogHandle::new(checked.config.max_message, checked.rules.genesis());
        let job = Job { listen, checked, ends, ended };
        self.jobs.as_ref().ok_or(StartError::Stopped)?.send(job).map_err(|_| StartError::Stopped)?;
        logs.push((listen, handle.clone()));
        Ok(handle)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        for (_, log) in self.logs.get_mut().iter() {
            log.stop();
        }
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the caller is told that this blocks, and no runtime is asked yet")]
/// Whether the address can be listened on, after waiting a moment for one that was just left.
fn free(listen: SocketAddr) -> std::io::Result<()> {
    let start = std::time::Instant::now();
    loop {
        match TcpListener::bind(listen) {
            Ok(_) => return Ok(()),
            Err(error) if start.elapsed() >= PATIENCE => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Runs a log to its end, and tells.
async fn supervise(context: cw::Context, job: Job) {
    let Job { listen, checked, ends, ended } = job;
    let shared: Arc<Shared> = ends.shared.clone();
    let running = context.child("run").spawn(move |context| async move {
        let (network, handle) = network(&context, listen, &checked);
        let run = context.child("engine").spawn(|context| log::run(context, network, checked, ends));
        let _ = commonware_runtime::Handle::select([handle, run]).await;
    });
    let result = running.await;
    shared.end();
    tracing::debug!(?result, %listen, "a log ended");
    let _ = ended.send(true);
}

type Handshake = Cups<Sake<ed25519::PrivateKey>, ChaCha20Poly1305>;
type Real = Network<
    lookup::Sender<ed25519::PublicKey, cw::Context>,
    lookup::Receiver<ed25519::PublicKey>,
    lookup::Oracle<ed25519::PublicKey>,
    lookup::Oracle<ed25519::PublicKey>,
>;

/// The log's network.
fn network(context: &cw::Context, listen: SocketAddr, checked: &Checked) -> (Real, commonware_runtime::Handle<()>) {
    let config = &checked.config;
    let handshake: Handshake = Cups::new(
        Sake {
            signer: checked.key.clone(),
            synchrony_bound: Duration::from_secs(5),
            max_handshake_age: Duration::from_secs(10),
            version: sake::Version::V1,
        },
        cups::Version::V1,
    );
    let namespace = [&config.namespace[..], b"/p2p/", &config.epoch.to_be_bytes()].concat();
    let members = NonZeroUsize::new(checked.members.len()).unwrap_or(NonZeroUsize::MIN);
    let mut p2p = lookup::Config::local(handshake, &namespace, listen, members, checked.max_size(), NZUsize!(256));
    p2p.tracked_peer_sets = NZUsize!(1);
    p2p.bypass_ip_check = true;
    // A try that failed also refuses the other side's for so long. Two that dial each other miss each other; the jitter,
    // half of this, has to exceed the way between them.
    p2p.peer_connection_cooldown = Duration::from_millis(250);
    // One peer at a time: an epoch begins once there are connections.
    p2p.dial_frequency = Duration::from_millis(30);
    p2p.dial_timeout = Duration::from_secs(5);
    p2p.allowed_handshake_rate_per_ip = Quota::per_second(NZU32!(128));
    p2p.allowed_handshake_rate_per_subnet = Quota::per_second(NZU32!(256));
    p2p.block_duration = Duration::from_secs(600);
    let (mut network, mut oracle) = lookup::Network::new(context.child("network"), p2p);
    let addresses =
        config.members.iter().filter_map(|peer| Some((check::public(&peer.key)?, Address::from(peer.address))));
    let _ = oracle.track(0, Map::from_iter_dedup(addresses));
    let mut channel = |id| network.register(id, checked.quota(id));
    let pieces = Network {
        votes: channel(check::VOTES),
        certificates: channel(check::CERTIFICATES),
        requests: channel(check::REQUESTS),
        blocks: channel(check::BLOCKS),
        backfill: channel(check::BACKFILL),
        auxiliary: channel(check::AUXILIARY),
        provider: oracle.clone(),
        blocker: oracle,
    };
    (pieces, network.start())
}

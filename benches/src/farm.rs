//! A network whose parts are processes of their own, and what the system gives each: a share of one processor, as if it
//! were a small machine. Which processor is fixed: threads that may choose spread over all that are idle, which costs
//! more for each piece of work the less there is to do.
//!
//! The shares are control groups: of version 1, or 2. Where this program may not make any, `make bench` says so and
//! measures the rest.

use crate::network;
use anyhow::{Context, Result, ensure};
use phala_client::{Account as Keys, Call, Chain, Cluster, Scope, Session};
use phala_primitives::{AccountId, ClusterId};
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};
use serde_json::Value;
use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// Length of the period in which a worker has its share, in microseconds.
const PERIOD: u64 = 100_000;

/// Time for a worker to say what it does.
const ANSWER: Duration = Duration::from_secs(2);

/// A control group of one process; it goes with this.
struct Group(PathBuf);

impl Group {
    /// Makes a group whose processes together have a share of one processor, in per cent.
    fn new(name: &str, share: u64) -> Result<Self> {
        let quota = PERIOD * share / 100;
        let (old, new) = (Path::new("/sys/fs/cgroup/cpu"), Path::new("/sys/fs/cgroup"));
        if old.join("cpu.cfs_quota_us").exists() {
            let group = Self::make(old.join(name))?;
            fs::write(group.0.join("cpu.cfs_period_us"), PERIOD.to_string())?;
            fs::write(group.0.join("cpu.cfs_quota_us"), quota.to_string())?;
            return Ok(group);
        }
        ensure!(new.join("cgroup.controllers").exists(), "the system has no control groups for processors");
        // It may have been said already, or nobody may; then the next write tells.
        let _ = fs::write(new.join("cgroup.subtree_control"), "+cpu");
        let group = Self::make(new.join(name))?;
        fs::write(group.0.join("cpu.max"), format!("{quota} {PERIOD}"))?;
        Ok(group)
    }

    fn make(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path).with_context(|| format!("making the control group {}", path.display()))?;
        Ok(Self(path))
    }

    /// Puts a process into the group.
    fn take(&self, pid: u32) -> Result<()> {
        Ok(fs::write(self.0.join("cgroup.procs"), pid.to_string())?)
    }
}

/// Keeps the threads of a process, and those that they start, on one processor.
fn pin(pid: u32, processor: usize) -> Result<()> {
    let mut one = CpuSet::new();
    one.set(processor);
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?.file_name().to_string_lossy().parse()?;
        // It may have ended.
        let _ = sched_setaffinity(Pid::from_raw(thread), &one);
    }
    Ok(())
}

/// Whether the system lets this program give processes shares of a processor.
pub(crate) fn possible() -> Result<()> {
    Group::new(&format!("phala-bench-try-{}", std::process::id()), 50).map(drop)
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its process has ended, or will.
        let _ = fs::remove_dir(&self.0);
    }
}

/// A part of the network. It is killed with this value, before its group goes.
struct Part {
    arguments: Vec<String>,
    process: Child,
    group: Option<Group>,
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.process.start_kill();
        // A group is removed once it is empty.
        while matches!(self.process.try_wait(), Ok(None)) {
            std::thread::yield_now();
        }
        self.group = None;
    }
}

/// The binary `phala` that lies beside this program, with these arguments, up to its first line.
async fn start(arguments: Vec<String>) -> Result<(Part, Value)> {
    let binary = std::env::current_exe()?.with_file_name("phala");
    let mut command = Command::new(&binary);
    // What parts log is wanted along with what this program logs, or not at all.
    let logs = if std::env::var_os("RUST_LOG").is_some() { Stdio::inherit() } else { Stdio::null() };
    command.arg("--json").args(&arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(logs);
    let process = command.kill_on_drop(true).spawn().with_context(|| format!("starting {}", binary.display()))?;
    let mut part = Part { arguments, process, group: None };
    let stdout = part.process.stdout.take().context("its stdout is piped")?;
    let line =
        timeout(network::START, BufReader::new(stdout).lines().next_line()).await.context("it says nothing")??;
    let line = line.with_context(|| format!("`phala {}` ended", part.arguments.join(" ")))?;
    Ok((part, serde_json::from_str(&line)?))
}

fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A folder that is removed with this value.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A validator, the key service and workers. The parts end before their folder goes.
pub(crate) struct Farm {
    /// Where the validator serves its RPC.
    pub(crate) rpc: String,
    pub(crate) chain: Arc<Chain>,
    pub(crate) alice: Keys,
    pub(crate) workers: Vec<AccountId>,
    /// The workers, in the same order, and where they serve.
    parts: Vec<Part>,
    urls: Vec<String>,
    http: reqwest::Client,
    _others: [Part; 2],
    _folder: Folder,
}

impl Farm {
    /// Starts so many workers, which are in no cluster yet, with their files in `target` of the checkout.
    pub(crate) async fn start(checkout: &Path, workers: usize) -> Result<Self> {
        let folder = Folder(checkout.join(format!("target/farm-{}", std::process::id())));
        fs::create_dir_all(&folder.0)?;
        let path = |name: &str| folder.0.join(name).to_string_lossy().into_owned();
        let net = path("net");
        let validator = free()?.to_string();
        let draw = ["network", &net, "--validator", &validator, "--workers", &workers.to_string()];
        let (drawn, said) = start(draw.map(str::to_owned).to_vec()).await?;
        drop(drawn);
        let file = said["network"].as_str().context("it names its file")?.to_owned();
        let common = |command: &'static str, name: &str| {
            [command, "--network", &file, "--secret", &format!("{net}/secrets/{name}"), "--data-dir", &path(name)]
                .map(str::to_owned)
        };
        let run = async |common: [String; 7], more: &[&str]| {
            start(common.into_iter().chain(more.iter().copied().map(str::to_owned)).collect()).await
        };
        let (node, said) = run(common("node", "validator-0"), &["--rpc", &free()?.to_string()]).await?;
        let rpc = said["rpc"].as_str().context("it names its RPC")?.to_owned();
        let own = ["--url", &rpc, "--listen", &free()?.to_string()];
        let (keys, said) = run(common("key-service", "key-service"), &own).await?;
        let url = said["url"].as_str().context("it names its URL")?.to_owned();
        let (mut parts, mut urls, mut accounts) = (vec![], vec![], vec![]);
        for index in 0..workers {
            let (listen, peer, suri) = (free()?.to_string(), free()?.to_string(), format!("//Worker//{index}"));
            let own = ["--url", &rpc, "--keys", &url, "--suri", &suri, "--listen", &listen, "--peer", &peer];
            let (part, said) = run(common("worker", &format!("worker-{index}")), &own).await?;
            parts.push(part);
            urls.push(said["url"].as_str().context("it names its URL")?.to_owned());
            accounts.push(Keys::from_suri(&suri)?.id());
        }
        let chain = Arc::new(Chain::connect(&rpc, None).await?);
        let alice = Keys::from_suri("//Alice")?;
        let http = reqwest::Client::builder().timeout(ANSWER).build()?;
        Ok(Self { rpc, chain, alice, workers: accounts, parts, urls, http, _others: [node, keys], _folder: folder })
    }

    /// From now on each worker but the first so many has its share of one processor, in per cent, and no more.
    /// Processors are given to them in turn.
    pub(crate) fn confine(&mut self, but: usize, share: u64) -> Result<()> {
        let allowed = sched_getaffinity(None)?;
        let mut processors = (0..CpuSet::MAX_CPU).filter(|one| allowed.is_set(*one)).cycle();
        for part in self.parts.iter_mut().skip(but) {
            let pid = part.process.id().context("a worker has ended")?;
            pin(pid, processors.next().context("there is a processor")?)?;
            let group = Group::new(&format!("phala-bench-{pid}"), share)?;
            group.take(pid)?;
            part.group = Some(group);
        }
        Ok(())
    }

    /// A worker that says that it leads its cluster.
    pub(crate) async fn leader(&self) -> Option<usize> {
        for (index, url) in self.urls.iter().enumerate() {
            let Ok(answer) = self.http.get(format!("{url}/v1/info")).send().await else { continue };
            if answer.json::<Value>().await.is_ok_and(|info| info["leads"] == true) {
                return Some(index);
            }
        }
        None
    }

    /// Starts a worker that was killed, from what its folder holds. Completes when it serves.
    pub(crate) async fn restart(&mut self, index: usize) -> Result<()> {
        let (part, url) = self.parts.get_mut(index).zip(self.urls.get(index)).context("there is no such worker")?;
        part.process.wait().await?;
        *part = start(part.arguments.clone()).await?.0;
        let ready = format!("{url}/readyz");
        let mut heads = self.chain.heads().await?;
        while !self.http.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success()) {
            heads.next().await?;
        }
        Ok(())
    }

    /// Kills a worker, as SIGKILL does.
    pub(crate) fn kill(&mut self, index: usize) {
        if let Some(part) = self.parts.get_mut(index) {
            // It may have ended by itself.
            let _ = part.process.start_kill();
        }
    }

    /// Most memory that a worker has used so far, in MiB.
    pub(crate) fn memory_peak_mib(&self, index: usize) -> Result<u64> {
        let pid = self.parts.get(index).and_then(|part| part.process.id()).context("a worker has ended")?;
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the system tells no VmHWM")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib >> 10)
    }

    /// Completes when all these workers have registered.
    async fn registered(&self, workers: &[AccountId]) -> Result<()> {
        let mut heads = self.chain.heads().await?;
        for worker in workers {
            while self.chain.worker(worker).await?.is_none() {
                heads.next().await?;
            }
        }
        Ok(())
    }

    /// Makes a cluster of these workers, once they have registered.
    pub(crate) async fn create(&self, members: &[AccountId]) -> Result<ClusterId> {
        self.registered(members).await?;
        let number = self.chain.clusters().await?;
        self.chain.submit(&self.alice, &Call::create_cluster(members)).await?;
        Ok(number)
    }

    /// A cluster as Alice sees it over this connection to the chain.
    pub(crate) async fn connect(&self, chain: Arc<Chain>, number: ClusterId) -> Result<Arc<Cluster>> {
        let credentials = self.alice.certify(&chain, Scope::All, Duration::from_secs(24 * 3600));
        Ok(Cluster::connect(chain, number, credentials).await?)
    }

    /// Connects to a cluster, and completes when these replicas of it serve.
    pub(crate) async fn serving(&self, number: ClusterId, replicas: &[AccountId]) -> Result<Arc<Cluster>> {
        let mut heads = self.chain.heads().await?;
        let cluster = self.connect(self.chain.clone(), number).await?;
        for worker in replicas {
            while Session::open_at(&cluster, worker).await.is_err() {
                heads.next().await?;
            }
        }
        Ok(cluster)
    }
}

//! What do more workers bring? One cluster with eight readers, each a process of its own that the system gives the same
//! small share of the processor, as if each were a small machine. All have the same token; clients ask one, two, four,
//! eight of them, in sessions, in a closed loop. Twice the workers should answer twice as many queries, as long as
//! clients and workers together find processors enough.
//!
//! The shares are control groups: of version 1, or 2. Where this program may not make any, `make bench` says
//! so and measures the rest.

use crate::{
    load::{self, Connect, Load},
    network::{self, SessionClient},
    report::median,
};
use anyhow::{Context, Result, ensure};
use comfy_table::{CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};
use phala_client::{Account as Keys, Call, Chain, Cluster, Scope, Session};
use phala_primitives::AccountId;
use serde::Serialize;
use serde_json::Value;
use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// How many readers there are.
const READERS: usize = 8;
/// Of how many the queries are counted.
const SIZES: [usize; 4] = [1, 2, 4, 8];
/// Clients of each reader.
const CLIENTS: usize = 4;
/// Length of the period in which a reader has its share, in microseconds.
const PERIOD: u64 = 100_000;

/// What is measured.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Per cent of one processor that each reader has.
    pub(crate) share: u64,
    pub(crate) time: Duration,
    pub(crate) rounds: usize,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Queries per second of eight readers, as a multiple of eight times those of one. 1 is linear.
    pub(crate) query_scale_8_workers: f64,
    /// Per cent of one processor that each reader has.
    pub(crate) query_scale_share_percent: u64,
    /// Readers, and their queries per second together.
    pub(crate) query_scale: Vec<(usize, f64)>,
}

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
async fn start(arguments: &[&str]) -> Result<(Part, Value)> {
    let binary = std::env::current_exe()?.with_file_name("phala");
    let mut command = Command::new(&binary);
    command.arg("--json").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let process = command.kill_on_drop(true).spawn().with_context(|| format!("starting {}", binary.display()))?;
    let mut part = Part { process, group: None };
    let stdout = part.process.stdout.take().context("its stdout is piped")?;
    let line =
        timeout(network::START, BufReader::new(stdout).lines().next_line()).await.context("it says nothing")??;
    let line = line.with_context(|| format!("`phala {}` ended", arguments.join(" ")))?;
    Ok((part, serde_json::from_str(&line)?))
}

fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A cluster of one member with eight readers, and what clients ask.
struct Farm {
    cluster: Arc<Cluster>,
    readers: Vec<AccountId>,
    token: AccountId,
    balance_of: [u8; 4],
    accounts: usize,
    _parts: Vec<Part>,
}

impl Farm {
    async fn start(checkout: &Path, folder: &Path, accounts: usize, share: u64) -> Result<Self> {
        let (net, path) = (folder.join("net"), |name: &str| folder.join(name).to_string_lossy().into_owned());
        let net = net.to_string_lossy().into_owned();
        let validator = free()?.to_string();
        let (drawn, said) =
            start(&["network", &net, "--validator", &validator, "--workers", &(READERS + 1).to_string()]).await?;
        drop(drawn);
        let file = said["network"].as_str().context("it names its file")?.to_owned();
        let common = |command: &'static str, name: &str| {
            [command, "--network", &file, "--secret", &format!("{net}/secrets/{name}"), "--data-dir", &path(name)]
                .map(str::to_owned)
        };
        let run = async |common: [String; 7], more: &[&str]| {
            let arguments: Vec<&str> = common.iter().map(String::as_str).chain(more.iter().copied()).collect();
            start(&arguments).await
        };
        let (node, said) = run(common("node", "validator-0"), &["--rpc", &free()?.to_string()]).await?;
        let rpc = said["rpc"].as_str().context("it names its RPC")?.to_owned();
        let own = ["--url", &rpc, "--listen", &free()?.to_string()];
        let (keys, said) = run(common("key-service", "key-service"), &own).await?;
        let url = said["url"].as_str().context("it names its URL")?.to_owned();
        let (mut parts, mut workers) = (vec![node, keys], vec![]);
        for index in 0..=READERS {
            let (listen, peer, suri) = (free()?.to_string(), free()?.to_string(), format!("//Worker//{index}"));
            let own = ["--url", &rpc, "--keys", &url, "--suri", &suri, "--listen", &listen, "--peer", &peer];
            parts.push(run(common("worker", &format!("worker-{index}")), &own).await?.0);
            workers.push(Keys::from_suri(&suri)?.id());
        }
        let chain = Arc::new(Chain::connect(&rpc, None).await?);
        let alice = Keys::from_suri("//Alice")?;
        let bundle: Value = serde_json::from_slice(&fs::read(checkout.join("contracts/fixtures/psp22.contract"))?)?;
        let (member, readers) = workers.split_first().context("there are workers")?;
        let cluster = timeout(network::START, make(&chain, &alice, member, readers)).await.context("no cluster")??;
        let token = network::deploy_token(&cluster, &alice, &bundle, accounts).await?;
        let balance_of = network::selector(&bundle, "messages", "PSP22::balance_of")?;
        // From now on each has its share, and no more.
        for part in parts.iter_mut().skip(3) {
            let pid = part.process.id().context("a worker has ended")?;
            let group = Group::new(&format!("phala-bench-{pid}"), share)?;
            group.take(pid)?;
            part.group = Some(group);
        }
        Ok(Self { cluster, readers: readers.to_vec(), token, balance_of, accounts, _parts: parts })
    }
}

/// Makes a cluster of one member, once it has registered, with these readers, once they have offered themselves, and
/// waits until they serve.
async fn make(chain: &Arc<Chain>, alice: &Keys, member: &AccountId, readers: &[AccountId]) -> Result<Arc<Cluster>> {
    let mut heads = chain.heads().await?;
    while chain.worker(member).await?.is_none() {
        heads.next().await?;
    }
    let number = chain.clusters().await?;
    chain.submit(alice, &Call::create_cluster(&[*member])).await?;
    let count = u32::try_from(readers.len())?;
    while chain.submit(alice, &Call::set_readers(number, count)).await.is_err() {
        heads.next().await?;
    }
    let credentials = alice.certify(chain, Scope::All, Duration::from_secs(24 * 3600));
    let cluster = Cluster::connect(chain.clone(), number, credentials).await?;
    for worker in std::iter::once(member).chain(readers) {
        while Session::open_at(&cluster, worker).await.is_err() {
            heads.next().await?;
        }
    }
    Ok(cluster)
}

/// The first so many readers of a farm. Clients are given to them in turn.
struct Front<'a> {
    farm: &'a Farm,
    workers: usize,
    next: AtomicUsize,
}

impl Connect for Front<'_> {
    type Client = SessionClient;

    async fn connect(&self) -> Result<SessionClient> {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.workers;
        let Farm { cluster, readers, token, balance_of, .. } = self.farm;
        let session = Session::open_at(cluster, readers.get(index).context("there is no such reader")?).await?;
        Ok(SessionClient::new(session, *token, *balance_of))
    }
}

/// Measures; fails if the system gives no shares.
pub(crate) async fn measure(plan: Plan, checkout: &Path) -> Result<Figures> {
    ensure!(plan.share > 0 && plan.rounds > 0, "all numbers must be above zero");
    let folder = checkout.join(format!("target/scale-out-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let measured = rounds(plan, checkout, &folder).await;
    let removed = fs::remove_dir_all(&folder);
    let figures = measured?;
    removed?;
    Ok(figures)
}

async fn rounds(plan: Plan, checkout: &Path, folder: &Path) -> Result<Figures> {
    let farm = Farm::start(checkout, folder, 64, plan.share).await?;
    let mut measured = vec![vec![]; SIZES.len()];
    for round in 0..plan.rounds {
        for turn in 0..SIZES.len() {
            // The order rotates, so that none is always measured after the same other.
            let at = (round + turn) % SIZES.len();
            let (Some(workers), Some(results)) = (SIZES.get(at).copied(), measured.get_mut(at)) else { continue };
            let target = Front { farm: &farm, workers, next: Default::default() };
            let load = Load { clients: workers * CLIENTS, time: plan.time, accounts: farm.accounts };
            results.push(load::run(&target, load).await?.per_second);
        }
    }
    let medians = measured.into_iter().map(median).collect::<Result<Vec<f64>>>()?;
    let query_scale: Vec<(usize, f64)> = SIZES.into_iter().zip(medians).collect();
    let (first, last) = query_scale.first().zip(query_scale.last()).context("there are sizes")?;
    Ok(Figures {
        query_scale_8_workers: last.1 / (first.1 * last.0 as f64),
        query_scale_share_percent: plan.share,
        query_scale,
    })
}

/// The figures as people read them.
pub(crate) fn table(figures: &Figures) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(["readers", "queries/s", "of linear"]);
    let one = figures.query_scale.first().map_or(1.0, |(_, per_second)| *per_second);
    for (workers, per_second) in &figures.query_scale {
        let linear = per_second / (one * *workers as f64);
        table.add_row([workers.to_string(), format!("{per_second:.0}"), format!("{linear:.2}")]);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\neach reader has {} % of a processor", figures.query_scale_share_percent)
}

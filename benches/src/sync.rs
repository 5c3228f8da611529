//! How long is a cluster one short when a member dies that had a large state, and how much memory does the one need that
//! takes its place? Four members and an idle worker, each a process of its own, see [`farm`](crate::farm). A contract
//! fills its storage with values that do not compress; then a member is killed. The idle worker gets the keys, copies the
//! state from the others in verified pieces, and serves. Meanwhile clients go on writing.

use crate::farm::Farm;
use anyhow::{Context, Result, ensure};
use phala_client::{Action, Call, Cluster, Contract};
use phala_primitives::{AccountId, ClusterPolicy, limits::MAX_COMMAND_GAS};
use serde::Serialize;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Members of the cluster.
const MEMBERS: usize = 4;
/// What one command writes: so many values of so many bytes.
const VALUES: u64 = 48;
const VALUE: u64 = 64 << 10;
/// Commands under way while the state grows.
const AT_ONCE: u64 = 2;
/// Time after which a silent member is replaced, in milliseconds: the least.
const REPLACE_MS: u64 = 5_000;
/// Most time for the other worker to serve.
const PATIENCE: Duration = Duration::from_secs(1200);

/// Asked with a number, it writes [`VALUES`] values of noise under keys made of that number. The noise differs from
/// value to value and from command to command.
const SOURCE: &str = r#"(module
    (import "env" "memory" (memory 4))
    (import "seal0" "input" (func $input (param i32 i32)))
    (import "seal2" "set_storage" (func $set (param i32 i32 i32 i32) (result i32)))
    (func (export "deploy"))
    (func (export "call") (local $value i64) (local $noise i64) (local $at i32)
        (i32.store (i32.const 0) (i32.const 8))
        (call $input (i32.const 8) (i32.const 0))
        (loop $values
            (i64.store (i32.const 16) (local.get $value))
            (local.set $noise
                (i64.add (i64.const 0x9e3779b97f4a7c15)
                    (i64.add (i64.mul (i64.load (i32.const 8)) (i64.const 1000003)) (local.get $value))))
            (local.set $at (i32.const 65536))
            (loop $bytes
                (local.set $noise (i64.xor (local.get $noise) (i64.shl (local.get $noise) (i64.const 13))))
                (local.set $noise (i64.xor (local.get $noise) (i64.shr_u (local.get $noise) (i64.const 7))))
                (local.set $noise (i64.xor (local.get $noise) (i64.shl (local.get $noise) (i64.const 17))))
                (i64.store (local.get $at) (local.get $noise))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (br_if $bytes (i32.lt_u (local.get $at) (i32.const 131072))))
            (drop (call $set (i32.const 8) (i32.const 16) (i32.const 65536) (i32.const 65536)))
            (local.set $value (i64.add (local.get $value) (i64.const 1)))
            (br_if $values (i64.lt_u (local.get $value) (i64.const 48))))))"#;

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Values of the state together, in MiB.
    pub(crate) sync_state_mib: u64,
    /// Time to write them, in seconds.
    pub(crate) sync_filled_s: f64,
    /// From the death of a member until another had its seat and vote, in seconds. 5 of them pass before it is noticed.
    pub(crate) sync_voting_s: f64,
    /// Most memory that the other worker used, in MiB.
    pub(crate) sync_memory_peak_mib: u64,
    /// Most memory that it used before, in MiB.
    pub(crate) sync_memory_idle_mib: u64,
    /// Longest time of a command meanwhile, in seconds.
    pub(crate) sync_command_s_max: f64,
    /// Commands that were executed meanwhile.
    pub(crate) sync_commands: u64,
}

/// Writes until the state has so many MiB.
async fn fill(contract: &Contract, mib: u64) -> Result<()> {
    let commands = (mib << 20).div_ceil(VALUES * VALUE);
    let (mut under_way, mut next) = (tokio::task::JoinSet::new(), 0u64);
    let mut done = 0u64;
    while done < commands {
        while next < commands && next - done < AT_ONCE {
            let (contract, data) = (contract.clone(), next.to_le_bytes().to_vec());
            under_way.spawn(async move { contract.call(data, MAX_COMMAND_GAS).await?.outcome.result });
            next += 1;
        }
        under_way.join_next().await.context("commands are under way")???;
        done += 1;
        if done.is_multiple_of(commands.div_ceil(10)) {
            eprintln!("  {} of {mib} MiB", (done * VALUES * VALUE) >> 20);
        }
    }
    Ok(())
}

/// Writes one small thing after the other until `stop`. How many, and the longest time of one.
async fn write(cluster: Arc<Cluster>, stop: Arc<AtomicBool>) -> Result<(u64, Duration)> {
    let (mut done, mut longest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        // A withdrawal of nothing is refused, and ordered as any other command.
        let command = cluster.sign(Action::Withdraw { to: cluster.account(), amount: 0 }, 0);
        cluster.send(&command).await?;
        longest = longest.max(begin.elapsed());
        done += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok((done, longest))
}

/// Grows the state to so many MiB, kills a member, and waits for another.
pub(crate) async fn measure(mib: u64, checkout: &Path) -> Result<Figures> {
    ensure!(mib > 0, "the state must hold something");
    let mut farm = Farm::start(checkout, MEMBERS + 1).await?;
    let (members, idle) = farm.workers.split_at(MEMBERS);
    let (members, idle): (Vec<AccountId>, AccountId) = (members.to_vec(), *idle.first().context("one is idle")?);
    let number = farm.create(&members).await?;
    let policy = ClusterPolicy { replace_ms: REPLACE_MS, ..ClusterPolicy::DEFAULT };
    farm.chain.submit(&farm.alice, &Call::set_policy(number, &policy)).await?;
    let cluster = timeout(PATIENCE, farm.serving(number, &members)).await.context("no cluster")??;
    let code = wat::parse_str(SOURCE)?;
    let (contract, executed) = Contract::deploy(&cluster, &farm.alice, code, vec![], vec![], MAX_COMMAND_GAS).await?;
    executed.outcome.result?;
    eprintln!("filling the state");
    let begin = Instant::now();
    fill(&contract, mib).await?;
    let filled = begin.elapsed();

    let memory_before = farm.memory_peak_mib(MEMBERS)?;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write(cluster.clone(), stop.clone()));
    eprintln!("killing a member");
    let killed = Instant::now();
    farm.kill(1);
    let replaced = async {
        let mut heads = farm.chain.heads().await?;
        loop {
            let record = farm.chain.cluster(number).await?.context("the cluster is there")?;
            if record.members.iter().any(|member| member.worker == idle) {
                return anyhow::Ok(());
            }
            heads.next().await?;
        }
    };
    timeout(PATIENCE, replaced).await.context("nobody took its place")??;
    farm.serving(number, &[idle]).await?;
    let voting = killed.elapsed();
    stop.store(true, Ordering::Relaxed);
    let (commands, longest) = writing.await??;
    Ok(Figures {
        sync_state_mib: mib,
        sync_filled_s: filled.as_secs_f64(),
        sync_voting_s: voting.as_secs_f64(),
        sync_memory_peak_mib: farm.memory_peak_mib(MEMBERS)?,
        sync_memory_idle_mib: memory_before,
        sync_command_s_max: longest.as_secs_f64(),
        sync_commands: commands,
    })
}

/// The figures for people.
pub(crate) fn table(figures: &Figures) -> String {
    format!(
        "a state of {} MiB, written in {:.0} s: another worker in a dead one's place {:.1} s after its death, with at most \
         {} MiB of memory ({} MiB before); meanwhile {} commands, the longest {:.2} s",
        figures.sync_state_mib,
        figures.sync_filled_s,
        figures.sync_voting_s,
        figures.sync_memory_peak_mib,
        figures.sync_memory_idle_mib,
        figures.sync_commands,
        figures.sync_command_s_max,
    )
}

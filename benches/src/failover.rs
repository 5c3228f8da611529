//! How long does a cluster stand still when its leader dies? Four workers, each a process, and clients that send commands
//! at a steady rate, whether or not the last ones were answered. Again and again the leader is killed (SIGKILL), and
//! later started anew, for which the cluster goes on in another epoch.
//!
//! The cluster stands still from the last answer before to the first after: the longest time without any answer since
//! the kill, or since the start. A client whose own replica died asks another at once, as its connection ends; what it
//! had asked before takes that much longer: that is the latency.

use crate::{farm::Farm, network, report::median};
use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use phala_client::{Action, Chain, Contract};
use phala_primitives::limits::MAX_COMMAND_GAS;
use serde::Serialize;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

/// Workers of the cluster.
const MEMBERS: usize = 4;
/// Clients, each with connections of its own.
const CLIENTS: usize = 8;
/// Time before a kill, and the time after it or a start in which answers are looked at.
const CALM: Duration = Duration::from_secs(2);
const WATCHED: Duration = Duration::from_secs(4);
/// A contract that does nothing.
const SOURCE: &str = r#"(module (import "env" "memory" (memory 0)) (func (export "deploy")) (func (export "call")))"#;

/// What is measured.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) kills: usize,
    pub(crate) per_second: u32,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Failover {
    /// How often the leader was killed.
    pub(crate) failover_kills: usize,
    /// Commands sent in a second.
    pub(crate) failover_commands_per_s: u32,
    /// Median time that the cluster stood still for a dead leader, in milliseconds.
    pub(crate) failover_ms_p50: f64,
    /// Longest of them.
    pub(crate) failover_ms_max: f64,
    /// Median time that it stood still for the epoch with which a worker came back.
    pub(crate) failover_return_ms_p50: f64,
    /// Longest of them.
    pub(crate) failover_return_ms_max: f64,
    /// Median time of a command, all of them counted.
    pub(crate) failover_command_ms_p50: f64,
    /// Longest time of a command.
    pub(crate) failover_command_ms_max: f64,
    /// Commands that were answered.
    pub(crate) failover_answered: u64,
    /// Commands that were not, or with an error.
    pub(crate) failover_failed: u64,
}

/// A command's begin and end.
type Answers = Arc<Mutex<Vec<(Instant, Instant)>>>;

/// Longest time without an answer from `since` on, in milliseconds; it begins with the last answer before.
fn stood_still(answers: &Answers, since: Instant) -> f64 {
    let mut ends: Vec<Instant> = answers.lock().iter().map(|(_, end)| *end).collect();
    ends.sort();
    let first = ends.partition_point(|end| *end < since).saturating_sub(1);
    let gaps = ends.iter().skip(first).zip(ends.iter().skip(first + 1)).map(|(before, after)| *after - *before);
    gaps.max().unwrap_or(WATCHED).as_secs_f64() * 1000.0
}

/// Kills leaders under load.
pub(crate) async fn measure(plan: Plan, checkout: &Path) -> Result<Failover> {
    ensure!(plan.kills > 0 && plan.per_second > 0, "all numbers must be above zero");
    eprintln!("killing the leader {} times under {} commands/s", plan.kills, plan.per_second);
    let mut farm = Farm::start(checkout, MEMBERS).await?;
    let number = farm.create(&farm.workers).await?;
    timeout(network::START, farm.serving(number, &farm.workers)).await.context("no cluster")??;
    let mut clients = vec![];
    for client in 0..CLIENTS {
        let cluster = farm.connect(Arc::new(Chain::connect(&farm.rpc, None).await?), number).await?;
        cluster.prefer(client);
        clients.push(cluster);
    }
    let first = clients.first().context("there are clients")?;
    let code = wat::parse_str(SOURCE)?;
    let (contract, executed) = Contract::deploy(first, &farm.alice, code, vec![], vec![], MAX_COMMAND_GAS).await?;
    executed.outcome.result?;

    let (answers, failed) = (Answers::default(), Arc::new(AtomicU64::new(0)));
    let address = contract.address();
    let (seen, lost) = (answers.clone(), failed.clone());
    let load = tokio::spawn(async move {
        let mut under_way = JoinSet::new();
        let mut tick = tokio::time::interval(Duration::from_secs(1) / plan.per_second);
        for cluster in clients.iter().cycle() {
            tick.tick().await;
            while under_way.try_join_next().is_some() {}
            let (cluster, seen, lost) = (cluster.clone(), seen.clone(), lost.clone());
            under_way.spawn(async move {
                let begin = Instant::now();
                let command = cluster.sign(Action::Call { contract: address, data: vec![] }, MAX_COMMAND_GAS);
                match cluster.send(&command).await {
                    Ok(executed) if executed.outcome.result.is_ok() => seen.lock().push((begin, Instant::now())),
                    _ => drop(lost.fetch_add(1, Ordering::Relaxed)),
                }
            });
        }
    });
    let (mut killed, mut returned) = (vec![], vec![]);
    for kill in 1..=plan.kills {
        tokio::time::sleep(CALM).await;
        let leader = farm.leader().await.context("nobody leads")?;
        let since = Instant::now();
        farm.kill(leader);
        tokio::time::sleep(WATCHED).await;
        killed.push(stood_still(&answers, since));
        let since = Instant::now();
        timeout(network::START, farm.restart(leader)).await.context("it does not come back")??;
        tokio::time::sleep(CALM).await;
        returned.push(stood_still(&answers, since));
        let last = |figures: &[f64]| figures.last().copied().unwrap_or_default();
        eprintln!("kill {kill}: {:.0} ms, its return {:.0} ms", last(&killed), last(&returned));
    }
    load.abort();
    let _ = load.await;
    let max = |figures: &[f64]| figures.iter().copied().fold(0.0, f64::max);
    let times: Vec<f64> = answers.lock().iter().map(|(begin, end)| (*end - *begin).as_secs_f64() * 1000.0).collect();
    Ok(Failover {
        failover_kills: plan.kills,
        failover_commands_per_s: plan.per_second,
        failover_ms_max: max(&killed),
        failover_ms_p50: median(killed)?,
        failover_return_ms_max: max(&returned),
        failover_return_ms_p50: median(returned)?,
        failover_command_ms_max: max(&times),
        failover_answered: times.len() as u64,
        failover_command_ms_p50: median(times)?,
        failover_failed: failed.load(Ordering::Relaxed),
    })
}

/// The figures for people.
pub(crate) fn table(figures: &Failover) -> String {
    format!(
        "leader killed {} times under {} commands/s: stood still p50 {:.0} ms, max {:.0} ms; for its return p50 {:.0} ms, \
         max {:.0} ms; a command took p50 {:.1} ms, max {:.0} ms; {} answered, {} failed",
        figures.failover_kills,
        figures.failover_commands_per_s,
        figures.failover_ms_p50,
        figures.failover_ms_max,
        figures.failover_return_ms_p50,
        figures.failover_return_ms_max,
        figures.failover_command_ms_p50,
        figures.failover_command_ms_max,
        figures.failover_answered,
        figures.failover_failed,
    )
}

//! What do more clusters bring? Four clusters, whose members are processes of their own that the system gives the same
//! small share of the processor, see [`farm`](crate::farm). Each has its own token; clients have one, two, four of the
//! clusters transfer it, in a closed loop, and verify every receipt. Clusters share nothing but the chain, so that
//! twice as many should execute twice as many commands, as long as clients and members together find processors enough.

use crate::{farm::Farm, load::account, network, report::median};
use anyhow::{Context, Result, ensure};
use codec::Encode;
use comfy_table::{CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};
use phala_client::{Action, Cluster};
use phala_primitives::{AccountId, limits::MAX_COMMAND_GAS};
use serde::Serialize;
use serde_json::Value;
use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::timeout};

/// How many clusters there are.
const CLUSTERS: usize = 4;
/// Of how many the commands are counted.
const SIZES: [usize; 3] = [1, 2, 4];
/// Clients of each cluster, each with one command under way.
const CLIENTS: usize = 32;
/// Accounts among which the token moves.
const ACCOUNTS: usize = 16;

/// What is measured.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Members of each cluster.
    pub(crate) members: usize,
    /// Per cent of one processor that each of them has.
    pub(crate) share: u64,
    /// How long clusters work at a time.
    pub(crate) time: Duration,
    pub(crate) rounds: usize,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Commands per second of four clusters, as a multiple of four times those of one. 1 is linear.
    pub(crate) command_scale_4_clusters: f64,
    /// Members of each cluster.
    pub(crate) command_scale_members: usize,
    /// Per cent of one processor that each of them has.
    pub(crate) command_scale_share_percent: u64,
    /// Clusters, and their commands per second together.
    pub(crate) command_scale: Vec<(usize, f64)>,
}

/// A cluster with its token, and the selector of what clients send.
#[derive(Clone)]
struct Ledger {
    cluster: Arc<Cluster>,
    token: AccountId,
    transfer: [u8; 4],
}

impl Ledger {
    /// Transfers until `end`; how often between `begin` and then.
    async fn work(self, client: usize, begin: Instant, end: Instant) -> Result<u64> {
        let (mut done, mut number) = (0, client);
        loop {
            number = (number * 31 + 17) % ACCOUNTS;
            let data = (self.transfer, account(number), 1u128, Vec::<u8>::new()).encode();
            let action = Action::Call { contract: self.token, data };
            let executed = self.cluster.send(&self.cluster.sign(action, MAX_COMMAND_GAS)).await?;
            let output = executed.outcome.result?;
            ensure!(output.data == [0, 0], "a transfer was refused: {:?}", output.data);
            let now = Instant::now();
            if now >= end {
                return Ok(done);
            }
            done += u64::from(now >= begin);
        }
    }
}

/// Makes the clusters, once their members have registered, and gives each its token.
async fn make(farm: &Farm, checkout: &Path, members: usize) -> Result<Vec<Ledger>> {
    let bundle: Value = serde_json::from_slice(&fs::read(checkout.join("contracts/fixtures/psp22.contract"))?)?;
    let transfer = network::selector(&bundle, "messages", "PSP22::transfer")?;
    let mut ledgers = vec![];
    for members in farm.workers.chunks(members) {
        let number = farm.create(members).await?;
        let cluster = timeout(network::START, farm.serving(number, members)).await.context("no cluster")??;
        // Who deploys keeps enough for all transfers.
        let token = network::deploy_token(&cluster, &farm.alice, &bundle, ACCOUNTS, 1 << 40).await?;
        ledgers.push(Ledger { cluster, token, transfer });
    }
    Ok(ledgers)
}

/// Commands per second of these clusters together.
async fn run(ledgers: &[Ledger], time: Duration) -> Result<f64> {
    let begin = Instant::now() + time / 10;
    let end = begin + time;
    let mut tasks = JoinSet::new();
    for ledger in ledgers {
        for client in 0..CLIENTS {
            tasks.spawn(ledger.clone().work(client, begin, end));
        }
    }
    let mut done = 0;
    while let Some(result) = tasks.join_next().await {
        done += result??;
    }
    Ok(done as f64 / time.as_secs_f64())
}

/// Measures; fails if the system gives no shares.
pub(crate) async fn measure(plan: Plan, checkout: &Path) -> Result<Figures> {
    ensure!(plan.share > 0 && plan.rounds > 0 && plan.members > 0, "all numbers must be above zero");
    let mut farm = Farm::start(checkout, CLUSTERS * plan.members).await?;
    let ledgers = make(&farm, checkout, plan.members).await?;
    farm.confine(0, plan.share)?;
    let mut measured = vec![vec![]; SIZES.len()];
    for round in 0..plan.rounds {
        for turn in 0..SIZES.len() {
            // The order rotates, so that none is always measured after the same other.
            let at = (round + turn) % SIZES.len();
            let (Some(clusters), Some(results)) = (SIZES.get(at).copied(), measured.get_mut(at)) else { continue };
            // Each cluster works as often in every size, because none is quite like another.
            let (mut sum, mut runs) = (0.0, 0.0);
            for chosen in ledgers.chunks_exact(clusters) {
                for _ in 0..clusters {
                    sum += run(chosen, plan.time).await?;
                    runs += 1.0;
                }
            }
            results.push(sum / runs);
        }
    }
    let medians = measured.into_iter().map(median).collect::<Result<Vec<f64>>>()?;
    let command_scale: Vec<(usize, f64)> = SIZES.into_iter().zip(medians).collect();
    let (first, last) = command_scale.first().zip(command_scale.last()).context("there are sizes")?;
    Ok(Figures {
        command_scale_4_clusters: last.1 / (first.1 * last.0 as f64),
        command_scale_members: plan.members,
        command_scale_share_percent: plan.share,
        command_scale,
    })
}

/// The figures as people read them.
pub(crate) fn table(figures: &Figures) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(["clusters", "commands/s", "of linear"]);
    let one = figures.command_scale.first().map_or(1.0, |(_, per_second)| *per_second);
    for (clusters, per_second) in &figures.command_scale {
        let linear = per_second / (one * *clusters as f64);
        table.add_row([clusters.to_string(), format!("{per_second:.0}"), format!("{linear:.2}")]);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let Figures { command_scale_members: members, command_scale_share_percent: share, .. } = figures;
    format!("{table}\neach cluster has {members} members, each member {share} % of a processor")
}

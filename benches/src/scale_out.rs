//! What do more workers bring? One cluster with eight readers, each a process of its own that the system gives the same
//! small share of the processor, as if each were a small machine. All have the same token; clients ask one, two, four,
//! eight of them, in sessions, in a closed loop. Twice the workers should answer twice as many queries, as long as
//! clients and workers together find processors enough.

use crate::{
    farm::Farm,
    load,
    network::{self, SessionClient},
    report::median,
};
use anyhow::{Context, Result, ensure};
use comfy_table::{CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};
use phala_client::{Call, Cluster, Session};
use serde::Serialize;
use serde_json::Value;
use std::{fs, path::Path, sync::Arc, time::Duration};
use tokio::time::timeout;

/// How many readers there are.
const READERS: usize = 8;
/// Of how many the queries are counted.
const SIZES: [usize; 4] = [1, 2, 4, 8];
/// Clients of each reader. They connect and ask before it has only its share, which would be used up by that for a while.
const CLIENTS: usize = 4;
const WARM_UP: Duration = Duration::from_secs(1);
/// Accounts that hold the token.
const ACCOUNTS: usize = 64;

/// What is measured.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Per cent of one processor that each reader has.
    pub(crate) share: u64,
    /// How long readers are asked at a time.
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

/// A cluster of one member with eight readers, and the clients of each reader.
struct Served {
    clients: Vec<Vec<SessionClient>>,
    farm: Farm,
}

impl Served {
    async fn start(checkout: &Path, share: u64) -> Result<Self> {
        let farm = Farm::start(checkout, READERS + 1).await?;
        let bundle: Value = serde_json::from_slice(&fs::read(checkout.join("contracts/fixtures/psp22.contract"))?)?;
        let cluster = timeout(network::START, make(&farm)).await.context("no cluster")??;
        let token = network::deploy_token(&cluster, &farm.alice, &bundle, ACCOUNTS, 0).await?;
        let balance_of = network::selector(&bundle, "messages", "PSP22::balance_of")?;
        let mut clients = vec![];
        for reader in farm.workers.iter().skip(1) {
            let mut its = vec![];
            for _ in 0..CLIENTS {
                its.push(SessionClient::new(Session::open_at(&cluster, reader).await?, token, balance_of));
            }
            clients.push(its);
        }
        let mut served = Self { clients, farm };
        // Readers compile the token when they are first asked for it.
        served.per_second(READERS, WARM_UP).await?;
        served.farm.confine(1, share)?;
        Ok(served)
    }

    /// Queries per second of so many readers: in each group of them, one after the other, on average. Each reader is asked
    /// as often in every size, because no two are equally fast, by the processor that they have.
    async fn per_second(&mut self, readers: usize, time: Duration) -> Result<f64> {
        let (mut sum, mut runs) = (0.0, 0.0);
        for group in self.clients.chunks_exact_mut(readers) {
            let mut clients: Vec<_> = group.iter_mut().flat_map(std::mem::take).collect();
            for _ in 0..readers {
                let (stats, asked) = load::drive(clients, time, ACCOUNTS).await?;
                clients = asked;
                sum += stats.per_second;
                runs += 1.0;
            }
            let mut clients = clients.into_iter();
            group.iter_mut().for_each(|its| its.extend(clients.by_ref().take(CLIENTS)));
        }
        Ok(sum / runs)
    }
}

/// Makes a cluster of one member, once it has registered, with the others as readers, once they have offered
/// themselves, and waits until they serve.
async fn make(farm: &Farm) -> Result<Arc<Cluster>> {
    let (member, readers) = farm.workers.split_first().context("there are workers")?;
    let (chain, mut heads) = (&farm.chain, farm.chain.heads().await?);
    let number = farm.create(&[*member]).await?;
    let count = u32::try_from(readers.len())?;
    while chain.submit(&farm.alice, &Call::set_readers(number, count)).await.is_err() {
        heads.next().await?;
    }
    farm.serving(number, &farm.workers).await
}

/// Measures; fails if the system gives no shares.
pub(crate) async fn measure(plan: Plan, checkout: &Path) -> Result<Figures> {
    ensure!(plan.share > 0 && plan.rounds > 0, "all numbers must be above zero");
    let mut served = Served::start(checkout, plan.share).await?;
    let mut measured = vec![vec![]; SIZES.len()];
    for round in 0..plan.rounds {
        for turn in 0..SIZES.len() {
            // The order rotates, so that none is always measured after the same other.
            let at = (round + turn) % SIZES.len();
            let (Some(readers), Some(results)) = (SIZES.get(at).copied(), measured.get_mut(at)) else { continue };
            results.push(served.per_second(readers, plan.time).await?);
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

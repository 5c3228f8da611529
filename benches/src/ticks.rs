//! How steadily does the cluster call contracts that tick? A network as `phala dev` starts it, many contracts, each with
//! a timer of its own and a message that reads and writes its state, as a game's would.
//!
//! A contract sees the time of the entry that calls it. It notes how much later that is than the time its timer was due,
//! and than the call before, in steps of a millisecond; the jitter is that of all its calls together. A call is missed
//! when a whole period passed without one. What the processor did is that of the whole network, four validators and four
//! workers, which all run on this machine.

use crate::network;
use anyhow::{Context, Result, ensure};
use codec::Encode;
use futures::{StreamExt, TryStreamExt, stream};
use phala_client::{Account, Call, Chain, Cluster, Contract, Scope};
use phala_primitives::{blake2_256, limits::MAX_COMMAND_GAS};
use serde::Serialize;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};

/// Commands under way at once while the contracts begin.
const AT_ONCE: usize = 8;
/// Contracts that one extrinsic creates.
const IN_ONE: usize = 25;
/// Time until all timers run as they will.
const WARM_UP: Duration = Duration::from_secs(3);
/// Gas of a tick.
const GAS: u64 = 10_000_000;
/// Steps of a histogram; the last one holds all above.
const STEPS: usize = 64;
/// Selector of the message that the timer calls.
const TICK: [u8; 4] = [1, 2, 3, 4];

/// `[0xfe, arguments of set_timer]` begins; the timer's message takes notes; anything else reads them: when the timer
/// was first due, its period, the number of calls, the first and the last one, and two histograms.
const SOURCE: &str = r#"(module
  (import "seal0" "seal_return" (func $return (param i32 i32 i32)))
  (import "seal0" "input" (func $input (param i32 i32)))
  (import "seal0" "now" (func $now (param i32 i32)))
  (import "seal0" "call_chain_extension" (func $ext (param i32 i32 i32 i32 i32) (result i32)))
  (import "seal2" "set_storage" (func $set (param i32 i32 i32 i32) (result i32)))
  (import "seal1" "get_storage" (func $get (param i32 i32 i32 i32) (result i32)))
  (import "env" "memory" (memory 2))
  (func $count (param $histogram i32) (param $ms i64) (local $at i32)
    (local.set $at (i32.add (local.get $histogram) (i32.shl (i32.wrap_i64
      (select (local.get $ms) (i64.const 63) (i64.lt_u (local.get $ms) (i64.const 63)))) (i32.const 2))))
    (i32.store (local.get $at) (i32.add (i32.load (local.get $at)) (i32.const 1))))
  (func $due (result i64)
    (if (i64.eqz (i64.load (i32.const 80))) (then (return (i64.load (i32.const 64)))))
    (i64.add (i64.load (i32.const 64)) (i64.mul (i64.load (i32.const 72)) (i64.add (i64.const 1)
      (i64.div_u (i64.sub (i64.load (i32.const 96)) (i64.load (i32.const 64))) (i64.load (i32.const 72)))))))
  (func (export "deploy"))
  (func (export "call") (local $time i64)
    (i32.store (i32.const 0) (i32.const 61440))
    (call $input (i32.const 4096) (i32.const 0))
    (i32.store (i32.const 4) (i32.const 8))
    (call $now (i32.const 8) (i32.const 4))
    (local.set $time (i64.load (i32.const 8)))
    (if (i32.eq (i32.load8_u (i32.const 4096)) (i32.const 0xfe)) (then
      (i64.store (i32.const 64) (i64.add (local.get $time) (i64.load (i32.const 4097))))
      (i64.store (i32.const 72) (i64.load (i32.const 4105)))
      (drop (call $set (i32.const 16) (i32.const 4) (i32.const 64) (i32.const 552)))
      (i32.store (i32.const 4) (i32.const 64))
      (drop (call $ext (i32.const 102) (i32.const 4097) (i32.sub (i32.load (i32.const 0)) (i32.const 1))
        (i32.const 1024) (i32.const 4)))
      return))
    (i32.store (i32.const 0) (i32.const 552))
    (drop (call $get (i32.const 16) (i32.const 4) (i32.const 64) (i32.const 0)))
    (if (i32.eq (i32.load (i32.const 4096)) (i32.const 0x04030201)) (then
      (call $count (i32.const 104) (i64.sub (local.get $time) (call $due)))
      (if (i64.eqz (i64.load (i32.const 80)))
        (then (i64.store (i32.const 88) (local.get $time)))
        (else (call $count (i32.const 360) (i64.sub (local.get $time) (i64.load (i32.const 96))))))
      (i64.store (i32.const 80) (i64.add (i64.load (i32.const 80)) (i64.const 1)))
      (i64.store (i32.const 96) (local.get $time))
      (drop (call $set (i32.const 16) (i32.const 4) (i32.const 64) (i32.const 552)))
      return))
    (call $return (i32.const 0) (i32.const 64) (i32.const 552))))"#;

/// What is measured.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) contracts: usize,
    /// Time between two calls of a contract.
    pub(crate) period_ms: u64,
    pub(crate) time: Duration,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Ticks {
    /// Contracts that tick.
    pub(crate) ticks_contracts: usize,
    /// Calls of each in a second, as asked for.
    pub(crate) ticks_hz: f64,
    /// Calls that came in time, by the number that was due.
    pub(crate) ticks_held: f64,
    /// Median of how much later than due a call came, in milliseconds of the entries' time.
    pub(crate) ticks_jitter_p50_ms: u64,
    /// 99th percentile of the same.
    pub(crate) ticks_jitter_p99_ms: u64,
    /// Median time between two calls of a contract, in milliseconds.
    pub(crate) ticks_spacing_p50_ms: u64,
    /// 99th percentile of the same.
    pub(crate) ticks_spacing_p99_ms: u64,
    /// Calls that were left out.
    pub(crate) ticks_missed: u64,
    /// Cores that the whole network kept busy.
    pub(crate) ticks_cpu_cores: f64,
    /// Entries of the log in a second.
    pub(crate) ticks_entries_per_s: f64,
}

/// What a contract noted.
#[derive(Clone)]
struct Notes {
    origin_ms: u64,
    period_ms: u64,
    count: u64,
    last_ms: u64,
    late: [u64; STEPS],
    spacing: [u64; STEPS],
}

impl Notes {
    fn read(bytes: &[u8]) -> Result<Self> {
        ensure!(bytes.len() == 552, "a contract that ticks says {} bytes", bytes.len());
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
        let step = |at: usize| u64::from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap_or_default()));
        Ok(Self {
            origin_ms: number(0),
            period_ms: number(8),
            count: number(16),
            last_ms: number(32),
            late: std::array::from_fn(|index| step(40 + 4 * index)),
            spacing: std::array::from_fn(|index| step(296 + 4 * index)),
        })
    }

    /// Calls that were due from the first one to the last that came.
    fn due(&self) -> u64 {
        self.last_ms.saturating_sub(self.origin_ms).checked_div(self.period_ms).map_or(0, |passed| passed + 1)
    }
}

/// Starts a network, has the contracts tick, and measures.
pub(crate) async fn measure(plan: Plan) -> Result<Ticks> {
    ensure!(plan.contracts > 0 && plan.period_ms > 0 && !plan.time.is_zero(), "all numbers must be above zero");
    let (process, rpc) = timeout(network::START, network::start_process()).await.context("no network")??;
    let pid = process.id().context("the network runs")?;
    let alice = Account::from_suri("//Alice")?;
    let chain = Arc::new(Chain::connect(&rpc, None).await?);
    let credentials = alice.certify(&chain, Scope::All, Duration::from_secs(3600));
    let cluster = Cluster::connect(chain, 0, credentials).await?;
    eprintln!("deploying {} contracts", plan.contracts);
    let contracts = deploy(&cluster, &alice, plan.contracts).await?;
    let begin = [&[0xfe][..], &(1000u64, plan.period_ms, TICK, Vec::<u8>::new(), GAS).encode()].concat();
    let begun = contracts.iter().map(|contract| {
        let begin = begin.clone();
        async move { contract.call(begin, MAX_COMMAND_GAS).await?.outcome.result }
    });
    stream::iter(begun).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;

    tokio::time::sleep(WARM_UP).await;
    let (before, cpu, started) = (notes(&contracts).await?, cpu_seconds(pid)?, Instant::now());
    let height = contracts[0].query(vec![0xff; 4]).await?.receipt.claim.height;
    tokio::time::sleep(plan.time).await;
    let (elapsed, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds(pid)? - cpu);
    let entries = contracts[0].query(vec![0xff; 4]).await?.receipt.claim.height - height;
    let after = notes(&contracts).await?;
    figures(plan, &before, &after, (cpu / elapsed, entries as f64 / elapsed))
}

async fn deploy(cluster: &Arc<Cluster>, owner: &Account, count: usize) -> Result<Vec<Contract>> {
    let code = wat::parse_str(SOURCE)?;
    let hash = blake2_256(&code);
    let salts: Vec<Vec<u8>> = (0..count as u32).map(|number| number.to_le_bytes().to_vec()).collect();
    // In few extrinsics what would else be one for each.
    let mut calls = vec![Call::upload_code(&hash, code.len() as u32)];
    calls.extend(salts.iter().map(|salt| Call::create_contract(cluster.id(), &hash, salt, false)));
    for calls in calls.chunks(IN_ONE) {
        cluster.chain().submit(owner, &Call::batch_all(calls)).await?;
    }
    let mut contracts = Vec::new();
    for salt in salts {
        let (contract, executed) =
            Contract::deploy(cluster, owner, code.clone(), salt, vec![], MAX_COMMAND_GAS).await?;
        executed.outcome.result?;
        contracts.push(contract);
    }
    Ok(contracts)
}

async fn notes(contracts: &[Contract]) -> Result<Vec<Notes>> {
    let mut notes = Vec::new();
    for contract in contracts {
        notes.push(Notes::read(&contract.query(vec![0xff; 4]).await?.output.data)?);
    }
    Ok(notes)
}

/// Seconds that a process has computed.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
    let (user, system) = (ticks(11).context("user time")?, ticks(12).context("system time")?);
    // Linux counts in hundredths for programs, whatever it does itself.
    Ok((user + system) / 100.0)
}

/// The value that this share of all lies at or below.
fn percentile(steps: &[u64; STEPS], share: f64) -> u64 {
    let all: u64 = steps.iter().sum();
    let wanted = (all as f64 * share).ceil() as u64;
    let mut seen = 0;
    let at = steps.iter().position(|count| {
        seen += count;
        seen >= wanted
    });
    at.unwrap_or(STEPS) as u64
}

fn figures(plan: Plan, before: &[Notes], after: &[Notes], (cores, entries): (f64, f64)) -> Result<Ticks> {
    let (mut late, mut spacing) = ([0; STEPS], [0; STEPS]);
    let (mut called, mut due) = (0, 0);
    for (before, after) in before.iter().zip(after) {
        for step in 0..STEPS {
            late[step] += after.late[step] - before.late[step];
            spacing[step] += after.spacing[step] - before.spacing[step];
        }
        called += after.count - before.count;
        due += after.due() - before.due();
    }
    ensure!(called > 0, "no contract was called");
    Ok(Ticks {
        ticks_contracts: plan.contracts,
        ticks_hz: 1000.0 / plan.period_ms as f64,
        ticks_held: called as f64 / due.max(1) as f64,
        ticks_jitter_p50_ms: percentile(&late, 0.5),
        ticks_jitter_p99_ms: percentile(&late, 0.99),
        ticks_spacing_p50_ms: percentile(&spacing, 0.5),
        ticks_spacing_p99_ms: percentile(&spacing, 0.99),
        ticks_missed: due.saturating_sub(called),
        ticks_cpu_cores: cores,
        ticks_entries_per_s: entries,
    })
}

/// The figures for people.
pub(crate) fn table(ticks: &Ticks) -> String {
    format!(
        "{} contracts at {:.1} Hz: {:.2} % of calls held, {} missed; later than due p50 {} ms, p99 {} ms; apart p50 {} ms, \
         p99 {} ms; {:.2} cores, {:.0} entries/s",
        ticks.ticks_contracts,
        ticks.ticks_hz,
        ticks.ticks_held * 100.0,
        ticks.ticks_missed,
        ticks.ticks_jitter_p50_ms,
        ticks.ticks_jitter_p99_ms,
        ticks.ticks_spacing_p50_ms,
        ticks.ticks_spacing_p99_ms,
        ticks.ticks_cpu_cores,
        ticks.ticks_entries_per_s,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(count: u64, last_ms: u64, late: &[(usize, u64)]) -> Notes {
        let mut steps = [0; STEPS];
        late.iter().for_each(|(step, calls)| steps[*step] = *calls);
        Notes { origin_ms: 1000, period_ms: 10, count, last_ms, late: steps, spacing: steps }
    }

    #[test]
    fn missed_calls_and_percentiles_are_those_between_two_looks() {
        let plan = Plan { contracts: 1, period_ms: 10, time: Duration::from_secs(1) };
        // Due at 1000, 1010, and so on: 11 up to 1100, and 101 up to 2003.
        let (before, after) = (notes(10, 1101, &[(1, 10)]), notes(98, 2003, &[(1, 90), (3, 8)]));
        let figures = figures(plan, &[before], &[after], (0.5, 9.0)).unwrap();
        assert_eq!((figures.ticks_missed, figures.ticks_jitter_p50_ms, figures.ticks_jitter_p99_ms), (2, 1, 3));
        assert!((figures.ticks_held - 88.0 / 90.0).abs() < 1e-9);
    }

    #[test]
    fn the_contract_is_one() {
        assert!(wat::parse_str(SOURCE).is_ok());
    }
}

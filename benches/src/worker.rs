//! What contracts on a whole worker do to each other, over encrypted sessions: a light contract beside one that burns all
//! cores, and what a query gains that splits its work.
//!
//! Client, validators and four workers share this machine, so the figures are those of a crowd, not of a worker alone.

use crate::{
    fairness::percentiles,
    load::{Client, Connect, account, balance},
    network::Network,
    report::median,
};
use anyhow::{Context, Result, ensure};
use codec::Encode;
use phala_client::{Contract, Session};
use serde::Serialize;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Endless queries at once.
const HOGS: usize = 32;
/// Time between two questions to the token.
const PAUSE: Duration = Duration::from_millis(1);
/// Parts of a query, and the turns of a generator that each does: a few hundredths of a second.
const PARTS: u32 = 32;
const TURNS: u32 = 20_000_000;

/// Turns a generator as often as its input says, or, if that is zero, splits what follows by function 112. With no input
/// it never ends.
const SOURCE: &str = r#"(module
  (import "seal0" "seal_return" (func $return (param i32 i32 i32)))
  (import "seal0" "input" (func $input (param i32 i32)))
  (import "seal0" "call_chain_extension" (func $ext (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "memory" (memory 4))
  (func (export "deploy"))
  (func (export "call") (local $turns i64) (local $x i64)
    (i32.store (i32.const 0) (i32.const 65536))
    (call $input (i32.const 1024) (i32.const 0))
    (if (i32.eqz (i32.load (i32.const 0))) (then (loop br 0)))
    (local.set $turns (i64.load (i32.const 1024)))
    (if (i64.eqz (local.get $turns)) (then
      (i32.store (i32.const 4) (i32.const 65536))
      (drop (call $ext (i32.const 112) (i32.const 1032) (i32.sub (i32.load (i32.const 0)) (i32.const 8))
        (i32.const 131072) (i32.const 4)))
      (call $return (i32.const 0) (i32.const 131072) (i32.load (i32.const 4)))))
    (loop $again
      (local.set $x (i64.add (i64.mul (local.get $x) (i64.const 6364136223846793005)) (i64.const 1)))
      (br_if $again (i64.ne (local.tee $turns (i64.sub (local.get $turns) (i64.const 1))) (i64.const 0))))
    (i64.store (i32.const 8) (local.get $x))
    (call $return (i32.const 0) (i32.const 8) (i32.const 8))))"#;

/// The code of the contract that computes.
pub(crate) fn code() -> Result<Vec<u8>> {
    Ok(wat::parse_str(SOURCE)?)
}

/// Figures of a whole worker.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Worker {
    /// 99th percentile of the light contract's queries without a neighbour, in milliseconds.
    pub(crate) fairness_worker_alone_p99_ms: f64,
    /// The same beside one that burns all cores of the worker. Less is better.
    pub(crate) fairness_worker_light_p99_ms: f64,
    /// How many times as fast a query is that splits its work as one that does it alone. More is better.
    pub(crate) map_speed_up: f64,
}

/// Measures for `time` on each side.
pub(crate) async fn measure(network: &Network, time: Duration, rounds: usize) -> Result<Worker> {
    let mut light = network.connect().await?;
    let (_, fairness_worker_alone_p99_ms) = percentiles(ask(&mut light, time).await?)?;
    let mut hogs = JoinSet::new();
    let computer = network.computer();
    let session = std::sync::Arc::new(network.session().await?);
    for _ in 0..HOGS {
        let (session, contract) = (session.clone(), computer.address());
        // Each ends by its time limit, or with the session; the next takes its place.
        hogs.spawn(async move { while session.query(contract, vec![]).await.is_err() {} });
    }
    tokio::time::sleep(time / 4).await;
    let (_, fairness_worker_light_p99_ms) = percentiles(ask(&mut light, time).await?)?;
    hogs.shutdown().await;
    drop(session);
    let session = network.session().await?;
    let mut gains = vec![];
    for _ in 0..rounds {
        let alone = timed(&session, &computer, (u64::from(PARTS) * u64::from(TURNS)).encode()).await?;
        // The selector and the first argument are the turns.
        let turns = u64::from(TURNS).to_le_bytes();
        let inputs = vec![turns[4..].to_vec(); PARTS as usize];
        let selector: [u8; 4] = turns[..4].try_into().context("four bytes")?;
        let split = timed(&session, &computer, (0u64, selector, inputs).encode()).await?;
        gains.push(alone.as_secs_f64() / split.as_secs_f64());
    }
    Ok(Worker { fairness_worker_alone_p99_ms, fairness_worker_light_p99_ms, map_speed_up: median(gains)? })
}

async fn timed(session: &Session, contract: &Contract, data: Vec<u8>) -> Result<Duration> {
    let started = Instant::now();
    let answered = session.query(contract.address(), data).await?;
    ensure!(!answered.output.data.is_empty(), "the contract did not answer");
    Ok(started.elapsed())
}

async fn ask(client: &mut impl Client, time: Duration) -> Result<Vec<Duration>> {
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        let asked = Instant::now();
        ensure!(client.balance_of(&account(0)).await? == balance(0), "a wrong balance");
        times.push(asked.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    Ok(times)
}

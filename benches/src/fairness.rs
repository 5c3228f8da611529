//! What a light contract suffers from a hostile neighbour: the token is asked now and then, first alone, then while a
//! contract keeps more endless queries under way than there are cores. Both in turns on one engine, so that whatever
//! else the machine does falls on both.

#![expect(clippy::disallowed_methods, reason = "these are threads of their own, beside the runtime")]

use crate::contracts::{Contracts, HOG, StopOnDrop};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// Endless queries at once.
const HOGS: usize = 32;
/// Time between two questions to the token: much less than its share of the cores.
const PAUSE: Duration = Duration::from_millis(1);
/// How often each side is measured.
const ROUNDS: u32 = 4;

/// Times of the light contract's queries, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Fairness {
    /// Median without a neighbour.
    pub(crate) fairness_alone_p50_ms: f64,
    /// 99th percentile without a neighbour.
    pub(crate) fairness_alone_p99_ms: f64,
    /// Median with the hostile contract.
    pub(crate) fairness_light_p50_ms: f64,
    /// 99th percentile with the hostile contract. Less is better.
    pub(crate) fairness_light_p99_ms: f64,
    /// Queries that each figure is made of, at least.
    pub(crate) queries: usize,
}

/// Measures for `time` on each side. `bundle` is the token's.
pub(crate) fn measure(bundle: &[u8], time: Duration) -> Result<Fairness> {
    let cores = std::thread::available_parallelism()?.get();
    let contracts = Contracts::new(cores, bundle)?;
    let stop = AtomicBool::new(false);
    let (mut alone, mut light) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| -> Result<()> {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| contracts.run_clock(&stop));
        contracts.balance()?;
        for _ in 0..ROUNDS {
            alone.extend(ask(&contracts, time / ROUNDS)?);
            light.extend(beside_hogs(&contracts, time / ROUNDS)?);
        }
        Ok(())
    })?;
    let queries = alone.len().min(light.len());
    let ((fairness_alone_p50_ms, fairness_alone_p99_ms), (fairness_light_p50_ms, fairness_light_p99_ms)) =
        (percentiles(alone)?, percentiles(light)?);
    Ok(Fairness { fairness_alone_p50_ms, fairness_alone_p99_ms, fairness_light_p50_ms, fairness_light_p99_ms, queries })
}

fn beside_hogs(contracts: &Contracts, time: Duration) -> Result<Vec<Duration>> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = StopOnDrop(&over);
        for _ in 0..HOGS {
            scope.spawn(|| {
                // Each ends by its time limit; the next takes its place.
                while !over.load(Ordering::Relaxed) {
                    drop(contracts.ask(HOG));
                }
            });
        }
        let start = Instant::now();
        while contracts.engine().query_load().under_way < HOGS {
            ensure!(start.elapsed() < Duration::from_secs(10), "the hostile queries do not start");
            std::thread::sleep(PAUSE);
        }
        ask(contracts, time)
    })
}

fn ask(contracts: &Contracts, time: Duration) -> Result<Vec<Duration>> {
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        let asked = Instant::now();
        contracts.balance()?;
        times.push(asked.elapsed());
        std::thread::sleep(PAUSE);
    }
    Ok(times)
}

/// Median and 99th percentile in milliseconds.
pub(crate) fn percentiles(mut times: Vec<Duration>) -> Result<(f64, f64)> {
    times.sort();
    let at = |percent: usize| times.get(times.len() * percent / 100).map(|time| time.as_secs_f64() * 1000.0);
    at(50).zip(at(99)).context("nothing was measured")
}

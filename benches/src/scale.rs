//! What a second core brings: queries that only compute, asked by more clients than there are cores, of an engine that
//! runs one at a time, with all of its threads on one core, and of one that runs two. Nothing else is shared but the
//! engine, so a ratio below two is its own doing, or the machine's.

#![expect(clippy::disallowed_methods, reason = "these are threads of their own, beside the runtime")]

use crate::{
    contracts::{Contracts, LONG, StopOnDrop, WORK},
    report::median,
};
use anyhow::{Context, Result, ensure};
use phala_primitives::AccountId;
use serde::Serialize;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// Clients in a closed loop, for each engine.
const CLIENTS: usize = 4;

/// Throughput by the number of cores.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Scale {
    /// Queries per second with one slot, each of about a millisecond.
    pub(crate) one_per_second: f64,
    /// Queries per second with two slots.
    pub(crate) two_per_second: f64,
    /// Their ratio; two is perfect. More is better.
    pub(crate) vertical_scale_1_to_2: f64,
    /// The ratio for queries of some 60 µs, of which it takes its part to wake the clients on other cores: on a virtual
    /// machine half as long as such a query.
    pub(crate) vertical_scale_short_1_to_2: f64,
}

/// Measures each engine for `time` in each of some rounds, in turns; the figures are medians. `bundle` is the token's.
pub(crate) fn measure(bundle: &[u8], time: Duration, rounds: usize) -> Result<Scale> {
    let one = on_one_core(|| Contracts::new(1, bundle))?;
    let two = Contracts::new(2, bundle)?;
    let compare = |work| -> Result<(f64, f64)> {
        let (mut ones, mut twos) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ones.push(on_one_core(|| per_second(&one, work, time))?);
            twos.push(per_second(&two, work, time)?);
        }
        Ok((median(ones)?, median(twos)?))
    };
    let (short_one, short_two) = compare(WORK)?;
    let (one_per_second, two_per_second) = compare(LONG)?;
    Ok(Scale {
        one_per_second,
        two_per_second,
        vertical_scale_1_to_2: two_per_second / one_per_second,
        vertical_scale_short_1_to_2: short_two / short_one,
    })
}

/// Does something on a thread that, with all that it starts, stays on one core.
fn on_one_core<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pinned = || {
        let core = core_affinity::get_core_ids().and_then(|cores| cores.first().copied());
        ensure!(core.is_some_and(core_affinity::set_for_current), "the system keeps no thread on one core");
        work()
    };
    std::thread::scope(|scope| scope.spawn(pinned).join()).ok().context("a measurement panicked")?
}

fn per_second(contracts: &Contracts, work: AccountId, time: Duration) -> Result<f64> {
    let stop = AtomicBool::new(false);
    contracts.ask(work)?;
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| contracts.run_clock(&stop));
        let client = || -> Result<u32> {
            let mut count = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                contracts.ask(work)?;
                count = count.saturating_add(1);
            }
            Ok(count)
        };
        let start = Instant::now();
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let mut count = 0.0;
        for client in clients {
            count += f64::from(client.join().ok().context("a client panicked")??);
        }
        Ok(count / start.elapsed().as_secs_f64())
    })
}

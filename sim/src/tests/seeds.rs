//! Whole runs.

use crate::{Plan, Report, run};
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs seeds, two at a time.
fn seeds(of: &[u64]) -> Vec<Report> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut reports = vec![];
        while let Some(seed) = of.get(next.fetch_add(1, Ordering::SeqCst) as usize) {
            reports.push(run(*seed, &Plan::of_seed(*seed)));
        }
        reports
    };
    std::thread::scope(|scope| {
        let both = [scope.spawn(work), scope.spawn(work)];
        both.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn twenty_seeds_keep_every_invariant() {
    let all: Vec<u64> = (1..=20).collect();
    let reports = seeds(&all);
    assert_eq!(reports.len(), all.len());
    for report in &reports {
        assert!(report.violations.is_empty(), "phala-sim run --seed {}: {:#?}", report.seed, report.violations);
        assert!(report.chain > 10 && report.cluster > 25, "hardly anything happened: {report:?}");
        assert!(report.transfers > 3 && report.commands > 20, "hardly anything was asked for: {report:?}");
    }
    // Different seeds are different runs, the same seed is the same run.
    let mut digests: Vec<_> = reports.iter().map(|report| report.digest.clone()).collect();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), all.len());
    for again in seeds(&[1, 2]) {
        let first = reports.iter().find(|report| report.seed == again.seed).unwrap();
        assert_eq!(first.digest, again.digest, "seed {} gave another run", again.seed);
    }
}

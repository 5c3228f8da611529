//! Whole runs.

use crate::{
    Crash, InvariantId, Log, Mistake, Partition, Plan, Report, Return, Trouble, Villain, Villainy, run, shrink,
};
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs plans, two at a time.
fn runs(all: &[(u64, Trouble)]) -> Vec<(Trouble, Report)> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut reports = vec![];
        while let Some((seed, trouble)) = all.get(next.fetch_add(1, Ordering::SeqCst) as usize) {
            reports.push((*trouble, run(*seed, &trouble.plan(*seed))));
        }
        reports
    };
    std::thread::scope(|scope| {
        let both = [scope.spawn(work), scope.spawn(work)];
        both.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn every_kind_of_trouble_keeps_every_invariant() {
    let seeds = 1..=3;
    let all: Vec<_> = seeds.flat_map(|seed| Trouble::ALL.map(|trouble| (seed, trouble))).collect();
    let reports = runs(&all);
    assert_eq!(reports.len(), all.len());
    for (trouble, report) in &reports {
        let again = format!("phala-sim run --seed {} --plan {}", report.seed, trouble.name());
        assert!(report.violations.is_empty(), "{again}: {:#?}", report.violations);
        assert!(report.chain > 10 && report.cluster > 25, "hardly anything happened: {again}: {report:?}");
        let asked = report.transfers > 2 && report.commands > 8 && report.reads > 2 && report.by_reader > 1;
        assert!(asked, "hardly anything was asked for: {again}: {report:?}");
        let two = *trouble == Trouble::Neighbours;
        let wrote = if two { report.letters > 5 && report.moves > 0 } else { report.letters == 0 };
        assert!(wrote, "hardly anything was written: {again}: {report:?}");
    }
    // Different seeds are different runs, the same seed is the same run.
    let mut digests: Vec<_> = reports.iter().map(|(_, report)| report.digest.clone()).collect();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), all.len());
    for (trouble, again) in runs(&all[..Trouble::ALL.len()]) {
        let same = |(kind, report): &&(Trouble, Report)| *kind == trouble && report.seed == again.seed;
        let (_, first) = reports.iter().find(same).unwrap();
        assert_eq!(first.digest, again.digest, "seed {} under {} gave another run", again.seed, trouble.name());
    }
}

/// An early command of one client may be the last that is answered: a run ends once every member has that one, too.
#[test]
fn a_member_that_is_behind_at_the_end_is_waited_for() {
    assert_eq!(broken(28, &Trouble::Rough.plan(28)), []);
}

fn quiet() -> Plan {
    Trouble::Calm.plan(1)
}

fn broken(seed: u64, plan: &Plan) -> Vec<InvariantId> {
    run(seed, plan).violations.into_iter().map(|violation| violation.invariant).collect()
}

/// Member 3 does not get what the others decide. Two of these die, come back with old disks, and meet member 3 only, not
/// the one that knows better.
fn rolled_back() -> Plan {
    let cut = |at_ms, until_ms, member| Partition { at_ms, until_ms, side: vec![member], one_way: false };
    let crash = |member| Crash { at_ms: 3_500, log: Log::Cluster, member, until_ms: 4_050, back: Return::OldDisk };
    Plan { partitions: vec![cut(1_000, 4_000, 3), cut(4_000, 10_000, 0)], crashes: vec![crash(1), crash(2)], ..quiet() }
}

#[test]
fn workers_that_voted_again_with_old_disks_would_be_found() {
    let plan = rolled_back();
    assert_eq!(broken(1, &plan), []);
    let wrong = Plan { mistake: Some(Mistake::DoubleVote), ..plan };
    assert!(broken(1, &wrong).contains(&InvariantId::Agreement));
}

#[test]
fn an_entry_lost_between_epochs_would_be_found_and_told_by_a_short_plan() {
    let plan = Trouble::Blackout.plan(2);
    let wrong = Plan { mistake: Some(Mistake::LostEntry), ..plan };
    assert!(broken(2, &wrong).contains(&InvariantId::Durability));
    let crash = wrong.crashes[0];
    let partition = Partition { at_ms: 100, until_ms: 300, side: vec![0], one_way: true };
    let long = Plan { partitions: vec![partition], crashes: wrong.crashes.clone(), ..wrong };
    let short = shrink(2, &long, InvariantId::Durability);
    assert!(short.partitions.is_empty() && short.loss == 0.0, "{short:?}");
    assert!(short.crashes.contains(&crash) || !short.crashes.is_empty(), "{short:?}");
}

#[test]
fn a_read_that_does_not_wait_would_be_found() {
    let found = (1..=20).any(|seed| {
        let plan = Plan { mistake: Some(Mistake::StaleRead), ..Trouble::Parted.plan(seed) };
        broken(seed, &plan).contains(&InvariantId::Linear)
    });
    assert!(found);
}

/// The plan of a day on which nothing else happens.
fn villain(villainy: Villainy) -> Plan {
    Plan { villains: vec![Villain { at_ms: 1_000, member: 1, villainy, until_ms: 5_000 }], ..quiet() }
}

#[test]
fn every_lie_about_votes_is_convicted_and_letting_one_off_would_be_found() {
    for villainy in [Villainy::Notarizes, Villainy::Finalizes, Villainy::Nullifies, Villainy::TwoFaced] {
        assert_eq!(run(1, &villain(villainy)).violations, [], "{villainy:?}");
    }
    let lenient = Plan { mistake: Some(Mistake::Lenient), ..villain(Villainy::Finalizes) };
    assert_eq!(broken(1, &lenient), [InvariantId::Blame]);
    let slander = Plan { mistake: Some(Mistake::Slander), ..villain(Villainy::Finalizes) };
    assert!(broken(1, &slander).contains(&InvariantId::Blame));
}

#[test]
fn clients_that_believe_a_single_replica_would_be_lied_to() {
    let plan = villain(Villainy::Invents);
    assert_eq!(run(1, &plan).violations, []);
    let gullible = broken(1, &Plan { mistake: Some(Mistake::Gullible), ..plan });
    assert!(gullible.contains(&InvariantId::Linear) || gullible.contains(&InvariantId::Durability), "{gullible:?}");
}

//! Runs simulations: one line for each seed; exit code 1 if an invariant did not hold.

use clap::{Parser, Subcommand};
use phala_sim::{Plan, Report, run};
use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

/// Chain and cluster under loss, partitions and crashes, each run from a seed.
#[derive(Parser)]
#[command(name = "phala-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// How many seeds to run.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// How many run at once.
    #[arg(long, default_value_t = 2)]
    jobs: u64,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one seed.
    Run {
        /// The seed.
        #[arg(long)]
        seed: u64,
    },
}

/// Prints a report, and for a bad one what is wrong and how to see it again. Returns whether all is well.
fn print(report: &Report) -> bool {
    let Report { seed, chain, cluster, transfers, commands, digest, violations } = report;
    let verdict = if violations.is_empty() { "ok" } else { "VIOLATED" };
    println!(
        "seed {seed}: chain {chain}, cluster {cluster}, {transfers} transfers, {commands} commands, {digest}, {verdict}"
    );
    for violation in violations {
        println!("  {violation}");
    }
    if !violations.is_empty() {
        println!("  again: phala-sim run --seed {seed}");
    }
    violations.is_empty()
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (from, count) = match arguments.command {
        Some(Command::Run { seed }) => (seed, 1),
        None => (arguments.from, arguments.seeds),
    };
    let (next, bad) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..arguments.jobs.clamp(1, count.max(1)) {
            scope.spawn(|| {
                while let Some(seed) =
                    Some(next.fetch_add(1, Ordering::SeqCst)).filter(|n| *n < count).map(|n| from + n)
                {
                    if !print(&run(seed, &Plan::of_seed(seed))) {
                        bad.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    if bad.into_inner() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! Runs simulations: one line for each; exit code 1 if an invariant did not hold.

use clap::{Args, Parser, Subcommand};
use phala_sim::{InvariantId, Plan, Report, Trouble, Violation, run, shrink};
use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Violations of one run that are printed.
const SHOWN: usize = 10;

/// Chain and cluster under loss, partitions, crashes and hostile disks, each run from a seed and a plan.
#[derive(Parser)]
#[command(
    name = "phala-sim",
    version,
    after_help = "Examples:\n  phala-sim --seeds 1000\n  phala-sim --seeds 100 --plan rollback\n  phala-sim run --seed 7 --plan mixed\n  phala-sim run --seed 7 --plan plan.json"
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// How many seeds to run, each under every plan.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// How many run at once.
    #[arg(long, default_value_t = 2)]
    jobs: u64,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct How {
    /// One kind of trouble, or a file with a plan; by default all kinds.
    #[arg(long, global = true)]
    plan: Option<String>,
    /// Run each only once, and do not compare.
    #[arg(long, global = true)]
    once: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one seed.
    Run {
        /// The seed.
        #[arg(long)]
        seed: u64,
    },
    /// Lists the kinds of trouble, or prints the plan of a seed.
    Plans {
        /// The seed.
        #[arg(long)]
        seed: Option<u64>,
    },
}

/// What runs are made of.
enum Source {
    Kinds(Vec<Trouble>),
    File(Box<Plan>),
}

impl Source {
    fn read(how: &How) -> Result<Self, String> {
        let Some(name) = &how.plan else { return Ok(Self::Kinds(Trouble::ALL.to_vec())) };
        if let Some(kind) = Trouble::named(name) {
            return Ok(Self::Kinds(vec![kind]));
        }
        let names = Trouble::ALL.map(Trouble::name).join(", ");
        let text = std::fs::read_to_string(name)
            .map_err(|error| format!("`{name}` is none of {names}, and no file: {error}"))?;
        serde_json::from_str(&text).map(Box::new).map(Self::File).map_err(|error| format!("{name}: {error}"))
    }

    fn runs(&self, seed: u64) -> Vec<(&str, Plan)> {
        match self {
            Self::Kinds(kinds) => kinds.iter().map(|kind| (kind.name(), kind.plan(seed))).collect(),
            Self::File(plan) => vec![("file", (**plan).clone())],
        }
    }
}

/// Runs a plan, twice if it is to be compared.
fn run_twice(seed: u64, plan: &Plan, once: bool) -> Report {
    let mut report = run(seed, plan);
    if !once {
        let again = run(seed, plan).digest;
        if again != report.digest {
            let detail = format!("the same seed and plan gave {} and {again}", report.digest);
            report.violations.push(Violation { invariant: InvariantId::Determinism, detail });
        }
    }
    report
}

/// Prints a report, and for a bad one what is wrong and the shortest plan that goes wrong the same way. Returns whether
/// all is well.
fn print(name: &str, plan: &Plan, report: &Report) -> bool {
    let Report { seed, chain, cluster, transfers, commands, reads, by_reader, letters, moves, digest, violations } =
        report;
    let verdict = if violations.is_empty() { "ok" } else { "VIOLATED" };
    println!(
        "seed {seed} {name}: chain {chain}, cluster {cluster}, {transfers} transfers, {commands} commands, {reads} reads ({by_reader} by the reader), {letters} letters, {moves} moves, {digest}, {verdict}"
    );
    let Some(first) = violations.first() else { return true };
    for violation in violations.iter().take(SHOWN) {
        println!("  {violation}");
    }
    if violations.len() > SHOWN {
        println!("  and {} more", violations.len() - SHOWN);
    }
    println!("  again: phala-sim run --seed {seed} --plan {name}");
    let short = shrink(*seed, plan, first.invariant);
    println!("  shortest plan, for --plan FILE: {}", serde_json::to_string(&short).unwrap_or_default());
    false
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let source = match Source::read(&arguments.how) {
        Ok(source) => source,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let (from, count) = match arguments.command {
        Some(Command::Plans { seed }) => {
            for (name, plan) in source.runs(seed.unwrap_or(1)) {
                match seed {
                    Some(_) => println!("{name}: {}", serde_json::to_string(&plan).unwrap_or_default()),
                    None => println!("{name}"),
                }
            }
            return ExitCode::SUCCESS;
        }
        Some(Command::Run { seed }) => (seed, 1),
        None => (arguments.from, arguments.seeds),
    };
    let all: Vec<(u64, &str, Plan)> = (from..from.saturating_add(count))
        .flat_map(|seed| source.runs(seed).into_iter().map(move |(name, plan)| (seed, name, plan)))
        .collect();
    let (next, bad) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                while let Some((seed, name, plan)) =
                    usize::try_from(next.fetch_add(1, Ordering::SeqCst)).ok().and_then(|at| all.get(at))
                {
                    if !print(name, plan, &run_twice(*seed, plan, arguments.how.once)) {
                        bad.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let bad = bad.into_inner();
    println!("{} runs, {bad} bad", all.len());
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! What does confidentiality cost? `make bench` answers with ratios.
//!
//! The question is `balance_of` of a token, asked of three servers on this machine:
//!
//! - **native http**: axum, HTTP/1.1 keep-alive, no encryption, no authentication, a `BTreeMap` in memory;
//! - **native ws**: the same over a WebSocket with binary messages;
//! - **phala**: a replica of `phala dev`: the PSP22 contract in WebAssembly over encrypted state, asked over an
//!   encrypted session, each answer with a receipt that the client verifies.
//!
//! All three hold the same accounts. Each server is a process of its own, both run during the whole measurement, and
//! what the network costs while idle is charged to both. Clients ask in a closed loop, each on its own connection: one
//! client for the latency, many for the throughput. Rounds are interleaved and their order rotates; the figures are
//! medians over rounds, and the baseline of the ratios is the faster of the two native servers.
//!
//! What does running as a contract cost? The second table answers, see `compute`: kernels natively, as a query, as a
//! command, and on an interpreter. How contracts share the cores, and what a second core brings, is measured on the
//! engine alone, too; the former also on a whole worker, with what a query gains that splits its work. How steadily
//! contracts tick is measured on a whole network, see `ticks`, and how long a cluster of processes stands still when its
//! leader is killed, see `failover`. What more readers bring, see `scale_out`, and more clusters, see `command_scale`; what
//! a cluster's state costs as it grows, see `state`, and how soon another worker has a copy of it, see `sync`.
//!
//! The tables go to stderr, the figures to `target/bench.json` of the checkout and, as JSON, to stdout.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod command_scale;
mod compute;
mod contracts;
mod failover;
mod fairness;
mod farm;
mod load;
mod native;
mod network;
mod report;
mod scale;
mod scale_out;
mod state;
mod sync;
mod ticks;
mod worker;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use load::{Connect, Load, Stats};
use report::{Figures, Row};
use std::{path::PathBuf, time::Duration};

#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Compare encrypted queries with a plain native server.
#[derive(Parser)]
struct Options {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Rounds; each measures every server once per number of clients.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Clients at once for the throughput.
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// Accounts that hold the token.
    #[arg(long, default_value_t = 64)]
    accounts: usize,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// Measure only the engine against native code and an interpreter.
    Compute {
        /// Take this module for the kernels instead of compiling them, to compare ways of compiling.
        #[arg(long)]
        module: Option<PathBuf>,
    },
    /// Measure only how contracts share the cores of one engine.
    Fairness,
    /// Measure only what a second core brings to one engine.
    Scale,
    /// Measure only how contracts share a whole worker, and what a query gains that splits its work.
    Worker,
    /// Measure only how steadily the network calls contracts that tick, and add that to the figures.
    Ticks {
        /// Contracts.
        #[arg(long, default_value_t = TICKS.contracts)]
        contracts: usize,
        /// Milliseconds between two calls of a contract.
        #[arg(long, default_value_t = TICKS.period_ms)]
        period: u64,
        /// Seconds.
        #[arg(long, default_value_t = TICKS.time.as_secs())]
        time: u64,
    },
    /// Measure only how long a cluster stands still when its leader dies, and add that to the figures.
    Failover {
        /// How often it is killed.
        #[arg(long, default_value_t = FAILOVER.kills)]
        kills: usize,
        /// Commands in a second.
        #[arg(long, default_value_t = FAILOVER.per_second)]
        rate: u32,
    },
    /// Measure only how many more queries more readers answer, and add that to the figures.
    ScaleOut {
        /// Per cent of one processor that each reader has.
        #[arg(long, default_value_t = QUERIES.share)]
        share: u64,
    },
    /// Measure only how many more commands more clusters execute, and add that to the figures.
    CommandScale {
        /// Members of each cluster: 1, or 4 to 7.
        #[arg(long, default_value_t = COMMANDS.members)]
        members: usize,
        /// Per cent of one processor that each member has.
        #[arg(long, default_value_t = COMMANDS.share)]
        share: u64,
    },
    /// Measure only what a cluster's state costs as it grows, and add that to the figures.
    State {
        /// Values at the end.
        #[arg(long, default_value_t = STATE.values)]
        values: u64,
        /// Values after which a line is written.
        #[arg(long, default_value_t = STATE.step)]
        step: u64,
    },
    /// Measure only how soon another worker takes the place of one that had a large state, and add that to the figures.
    Sync {
        /// Size of the state, in MiB.
        #[arg(long, default_value_t = SYNC_MIB)]
        mib: u64,
    },
    /// Be the native server (started by the measurement itself).
    #[command(hide = true)]
    Native {
        /// Accounts that hold the token.
        accounts: usize,
    },
}

/// What is measured of ticks: a whole number of milliseconds that is no slower than 60 Hz.
const TICKS: ticks::Plan = ticks::Plan { contracts: 100, period_ms: 16, time: Duration::from_secs(60) };

/// What is measured of leaders that die.
const FAILOVER: failover::Plan = failover::Plan { kills: 20, per_second: 500 };

/// What is measured of readers: with shares of which eight and their clients leave two processors idle half the time.
const QUERIES: scale_out::Plan = scale_out::Plan { share: 4, time: Duration::from_secs(1), rounds: 3 };

/// What is measured of clusters: with shares of which sixteen and their clients leave two processors idle half the time.
const COMMANDS: command_scale::Plan =
    command_scale::Plan { members: 4, share: 6, time: Duration::from_secs(8), rounds: 2 };

/// The state that `bench state` grows by itself; it takes some minutes, so that `make bench` leaves it out.
const STATE: state::Plan = state::Plan { values: 10_000_000, step: 1_000_000, commands: 1_000 };

/// The state that `bench sync` copies by itself; it takes some minutes, so that `make bench` leaves it out.
const SYNC_MIB: u64 = 1024;

#[tokio::main]
async fn main() -> Result<()> {
    // Silent unless asked: `RUST_LOG=info`.
    let asked = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(asked).with_writer(std::io::stderr).init();
    let options = Options::parse();
    let time = Duration::from_secs(options.seconds);
    match options.part {
        Some(Part::Native { accounts }) => return native::serve(accounts).await,
        Some(Part::Compute { module }) => {
            let figures = compute::measure(&checkout()?, module.as_deref(), options.rounds)?;
            eprintln!("{}", compute::table(&figures));
            return print(&figures);
        }
        Some(Part::Fairness) => return print(&fairness::measure(&bundle()?, time)?),
        Some(Part::Scale) => return print(&scale::measure(&bundle()?, time, options.rounds)?),
        Some(Part::Worker) => {
            let network = network::Network::start(&checkout()?, options.accounts).await?;
            return print(&worker::measure(&network, time, options.rounds).await?);
        }
        Some(Part::Ticks { contracts, period, time }) => {
            let plan = ticks::Plan { contracts, period_ms: period, time: Duration::from_secs(time) };
            let figures = ticks::measure(plan).await?;
            eprintln!("{}", ticks::table(&figures));
            add(&figures)?;
            return print(&figures);
        }
        Some(Part::Failover { kills, rate }) => {
            let figures = failover::measure(failover::Plan { kills, per_second: rate }, &checkout()?).await?;
            eprintln!("{}", failover::table(&figures));
            add(&figures)?;
            return print(&figures);
        }
        Some(Part::ScaleOut { share }) => {
            let figures = scale_out::measure(scale_out::Plan { share, ..QUERIES }, &checkout()?).await?;
            eprintln!("{}", scale_out::table(&figures));
            add(&figures)?;
            return print(&figures);
        }
        Some(Part::CommandScale { members, share }) => {
            let plan = command_scale::Plan { members, share, ..COMMANDS };
            let figures = command_scale::measure(plan, &checkout()?).await?;
            eprintln!("{}", command_scale::table(&figures));
            add(&figures)?;
            return print(&figures);
        }
        Some(Part::State { values, step }) => {
            let figures = state::measure(state::Plan { values, step, ..STATE }, &checkout()?.join("target"))?;
            eprintln!("{}", state::table(&figures));
            add(&figures)?;
            return print(&figures);
        }
        Some(Part::Sync { mib }) => {
            let figures = sync::measure(mib, &checkout()?).await?;
            eprintln!("{}", sync::table(&figures));
            add(&figures)?;
            return print(&figures);
        }
        None => {}
    }
    let figures = compare(&options).await?;
    eprintln!("{}\n\n{}", report::table(&figures), compute::table(&figures.engine.compute));
    let ticks = ticks::measure(TICKS).await?;
    eprintln!("{}", ticks::table(&ticks));
    let failover = failover::measure(FAILOVER, &checkout()?).await?;
    eprintln!("{}", failover::table(&failover));
    add(&figures)?;
    add(&ticks)?;
    match farm::possible() {
        Ok(()) => {
            let scaled = scale_out::measure(QUERIES, &checkout()?).await?;
            eprintln!("{}", scale_out::table(&scaled));
            add(&scaled)?;
            let scaled = command_scale::measure(COMMANDS, &checkout()?).await?;
            eprintln!("{}", command_scale::table(&scaled));
            add(&scaled)?;
        }
        Err(error) => eprintln!("SKIPPED: what more readers and clusters bring is not measured here: {error:#}"),
    }
    print(&add(&failover)?)
}

/// Where the figures are kept.
fn file() -> Result<PathBuf> {
    Ok(checkout()?.join("target/bench.json"))
}

/// Adds figures to those that are kept, and returns all.
fn add(figures: &impl serde::Serialize) -> Result<serde_json::Value> {
    let path = file()?;
    let mut kept: serde_json::Value = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))?,
        Err(_) => serde_json::json!({}),
    };
    if let (Some(kept), serde_json::Value::Object(new)) = (kept.as_object_mut(), serde_json::to_value(figures)?) {
        kept.extend(new);
    }
    std::fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
    std::fs::write(&path, serde_json::to_string_pretty(&kept)?)
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(kept)
}

fn print(figures: &impl serde::Serialize) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(figures)?);
    Ok(())
}

/// The token's bundle.
fn bundle() -> Result<Vec<u8>> {
    Ok(std::fs::read(checkout()?.join("contracts/fixtures/psp22.contract"))?)
}

async fn compare(options: &Options) -> Result<Figures> {
    ensure!(options.rounds > 0 && options.clients > 0 && options.accounts > 0, "all numbers must be above zero");
    eprintln!("starting the network and deploying the token; then {} rounds", options.rounds);
    let network = network::Network::start(&checkout()?, options.accounts).await?;
    let native = native::Native::start(options.accounts).await?;

    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        let mut measured = Vec::new();
        for clients in [1, options.clients] {
            let load = Load { clients, time: Duration::from_secs(options.seconds), accounts: options.accounts };
            // The order rotates, so that no server is always measured after the same other.
            for turn in 0..3 {
                measured.push(match (round + turn) % 3 {
                    0 => row("native http", &native.http(), load).await?,
                    1 => row("native ws", &native.ws(), load).await?,
                    _ => row("phala", &network, load).await?,
                });
            }
        }
        eprintln!("round {}: {}", round + 1, report::line(&measured));
        rounds.push(measured);
    }
    drop(native);
    let time = Duration::from_secs(options.seconds);
    let worker = worker::measure(&network, time, options.rounds).await?;
    // Nothing else may run beside the engine.
    drop(network);
    let bundle = bundle()?;
    let engine = report::Engine {
        compute: compute::measure(&checkout()?, None, options.rounds)?,
        fairness: fairness::measure(&bundle, time)?,
        scale: scale::measure(&bundle, time, options.rounds)?,
        worker,
    };
    report::figures(&rounds, options.clients, engine)
}

async fn row<C: Connect>(server: &'static str, target: &C, load: Load) -> Result<Row> {
    let Stats { per_second, p50_us, p99_us } = load::run(target, load).await.with_context(|| server.to_owned())?;
    Ok(Row { server, clients: load.clients, per_second, p50_us, p99_us })
}

/// The checkout that this program was compiled from or, if that is gone, the current folder.
fn checkout() -> Result<PathBuf> {
    let compiled_from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    match compiled_from.canonicalize() {
        Ok(path) => Ok(path),
        Err(_) => Ok(std::env::current_dir()?),
    }
}

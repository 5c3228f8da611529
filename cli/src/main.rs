//! The command line of the network.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod args;
mod book;
mod commands;
mod network;
mod output;

use anyhow::Result;
use args::{Cli, ClusterCommand, Command, Send};
use clap::{CommandFactory, Parser};
use output::Output;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{io::IsTerminal, process::ExitCode};

#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json, cli.quiet);
    start_tracing();
    allow_files();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.error(&error.into());
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli.command, output)) {
        Ok(code) => code,
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Lets the process have as many open files as it may. What is usual for a shell is little for a node with its journals.
fn allow_files() {
    let limit = getrlimit(Resource::Nofile);
    // If it stays as it is, a worker takes fewer connections.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Logs go to stderr, and only when asked for: `RUST_LOG=info`.
fn start_tracing() {
    // The consensus engine calls it an error that its parts end one after the other.
    let quiet = "error,commonware_resolver=off";
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| quiet.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

async fn run(command: Command, output: Output) -> Result<ExitCode> {
    match command {
        Command::Dev(options) => commands::dev::run(&options, output).await?,
        Command::DrawNetwork(options) => commands::parts::network(&options, output)?,
        Command::Node(options) => commands::parts::node(&options, output).await?,
        Command::KeyService(options) => commands::parts::key_service(&options, output).await?,
        Command::Worker(options) => commands::parts::worker(&options, output).await?,
        Command::Demo(options) => commands::demo::run(&options, output).await?,
        Command::New { name, template, path } => commands::build::new(&name, &template, path, output)?,
        Command::Build { path, check: Some(bundle), .. } => commands::build::check(&path, &bundle, output)?,
        Command::Build { path, out, check: None } => {
            commands::build::build(&path, out.as_deref(), output).map(|_| ())?;
        }
        Command::Test(options) => commands::test::run(&options, output)?,
        Command::Watch(options) => commands::watch::run(&options, output).await?,
        Command::Testkit => commands::testkit::serve()?,
        Command::Deploy(options) => commands::contract::deploy(&options, output).await?,
        Command::Upgrade(options) => commands::upgrade::upgrade(&options, output).await?,
        Command::Move(options) => commands::moves::run(&options, output).await?,
        Command::Audit { address, replicas, signer, network } => {
            commands::upgrade::audit(&address, replicas, &signer, &network, output).await?;
        }
        Command::Freeze { address, signer, network } => {
            commands::upgrade::freeze(&address, &signer, &network, output).await?;
        }
        Command::Contract { address, network } => commands::upgrade::show(&address, &network, output).await?,
        Command::Query(options) => return commands::contract::query(&options, output).await,
        Command::Send(Send { call, dry_run: false }) => return commands::contract::send(&call, output).await,
        Command::Send(Send { call, .. }) | Command::Cost(call) => {
            return commands::estimate::run(&call, output).await;
        }
        Command::Logs(options) => commands::logs::run(&options, output).await?,
        Command::Account { new: true, .. } => commands::account::create(output)?,
        Command::Account { account, cluster, signer, network, .. } => {
            commands::account::show(account.as_deref(), cluster, &signer, &network, output).await?;
        }
        Command::Deposit(options) => commands::money::deposit(&options, output).await?,
        Command::Withdraw(options) => commands::money::withdraw(&options, output).await?,
        Command::Cluster { command: Some(ClusterCommand::Policy { cluster, set, signer, network }), .. } => {
            commands::cluster::policy(cluster, &set, &signer, &network, output).await?;
        }
        Command::Cluster { command: Some(ClusterCommand::Create { workers, signer, network }), .. } => {
            commands::parts::create_cluster(&workers, &signer, &network, output).await?;
        }
        Command::Cluster { command: Some(ClusterCommand::Drain { worker, cluster, signer, network }), .. } => {
            commands::cluster::drain(cluster, &worker, &signer, &network, output).await?;
        }
        Command::Cluster { command: Some(ClusterCommand::Weight { address, weight, signer, network }), .. } => {
            commands::cluster::weight(&address, weight, &signer, &network, output).await?;
        }
        Command::Cluster { command: Some(ClusterCommand::Resize { size, cluster, signer, network }), .. } => {
            commands::cluster::resize(cluster, size, &signer, &network, output).await?;
        }
        Command::Cluster { command: Some(ClusterCommand::Readers { count, cluster, signer, network }), .. } => {
            commands::cluster::readers(cluster, count, &signer, &network, output).await?;
        }
        Command::Cluster { cluster, network, .. } => commands::cluster::show(cluster, &network, output).await?,
        Command::Transfer { to, amount, signer, network } => {
            commands::account::transfer(&to, &amount, &signer, &network, output).await?;
        }
        Command::Doctor { network, fix } => {
            if !commands::doctor::run(&network, fix, output).await? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "phala", &mut std::io::stdout());
        }
    }
    Ok(ExitCode::SUCCESS)
}

//! `phala dev`: a whole network in one process.

use crate::{
    args::Dev,
    output::{Output, Tone},
};
use anyhow::Result;
use phala_client::Account;
use phala_devnet::{ATTESTATION, Config, Devnet, EgressPolicy};
use serde_json::{Map, Value, json};
use std::time::Instant;

/// Names that own something on every development network.
const PEOPLE: [&str; 6] = ["Alice", "Bob", "Charlie", "Dave", "Eve", "Ferdie"];

/// Starts the network, says where everything is, and runs until it is interrupted.
pub(crate) async fn run(options: &Dev, output: Output) -> Result<()> {
    let started = Instant::now();
    let config = Config {
        folder: options.data_dir.clone(),
        validators: options.validators.into(),
        clusters: options.clusters.into(),
        workers: options.workers.into(),
        spare: options.spare.into(),
        rpc_port: options.rpc_port,
        worker_port: options.worker_port,
        egress: EgressPolicy { private: options.allow_private_http },
    };
    let bar = output.spinner("starting");
    let net = Devnet::start(config, |step| bar.set_message(step.to_owned())).await;
    bar.finish_and_clear();
    let net = net?;
    announce(&net, options, started, output)?;
    wait_for_signal().await?;
    output.say("stopping");
    net.stop().await;
    Ok(())
}

/// The members of each cluster, as the network forms them: by their places among the workers.
fn clusters_json(options: &Dev) -> Value {
    let (clusters, size) = (usize::from(options.clusters), usize::from(options.workers));
    let cluster =
        |number: usize| json!({ "cluster": number, "members": Vec::from_iter(number * size..(number + 1) * size) });
    (0..clusters).map(cluster).collect()
}

/// Where a worker begins.
fn place(options: &Dev, worker: usize) -> String {
    let (clusters, size) = (usize::from(options.clusters), usize::from(options.workers));
    match worker.checked_div(size).filter(|cluster| *cluster < clusters) {
        None => "  spare".into(),
        Some(_) if clusters == 1 => String::new(),
        Some(cluster) => format!("  cluster {cluster}"),
    }
}

fn announce(net: &Devnet, options: &Dev, started: Instant, output: Output) -> Result<()> {
    let mut accounts = Map::new();
    for name in PEOPLE {
        accounts.insert(name.to_owned(), Value::String(Account::from_suri(&format!("//{name}"))?.id().to_string()));
    }
    let alice = accounts.get("Alice").and_then(Value::as_str).unwrap_or_default().to_owned();
    let json = json!({
        "rpc": net.rpc_url(), "workers": net.worker_urls(), "accounts": accounts, "attestation": ATTESTATION,
        "genesis": net.genesis().to_string(), "clusters": clusters_json(options), "data_dir": net.folder(),
        "ready_ms": started.elapsed().as_millis() as u64,
    });
    let mut lines = vec![format!("Phala devnet, ready in {:.1} s", started.elapsed().as_secs_f64())];
    lines.push(format!("  RPC          {}", net.rpc_url()));
    for (index, url) in net.worker_urls().iter().enumerate() {
        lines.push(format!("  Worker {index:<6}{url}{}", place(options, index)));
    }
    lines.push(format!("  Genesis      {}", net.genesis()));
    lines.push(format!("  //Alice      {alice}  1,000,000 PHA, and so //Bob … //Ferdie"));
    lines.push(format!("  Data         {}", net.folder().display()));
    let warning = format!("Attestation  {ATTESTATION}: this network protects nothing from whoever runs this machine");
    lines.push(format!("  {}", output.paint(Tone::Warn, &warning)));
    lines.push("  Stop with Ctrl-C.".to_owned());
    output.data(&json, lines.join("\n"));
    Ok(())
}

pub(crate) async fn wait_for_signal() -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

//! `phala network`, `phala node`, `phala worker`, `phala key-service`: a network of processes, on one machine or many.

use crate::{
    args::{KeyServiceOptions, Network, NetworkOptions, NodeOptions, PartOptions, Signer, WorkerOptions},
    commands::dev::wait_for_signal,
    network::{connect, named_account},
    output::Output,
};
use anyhow::Result;
use phala_client::{Account, Call};
use phala_devnet::{
    ATTESTATION, EgressPolicy,
    parts::{KeyServicePart, Plan, Secret, ValidatorPart, WorkerPart, WorkerPlace},
};
use serde_json::json;

/// Draws up a network.
pub(crate) fn network(options: &NetworkOptions, output: Output) -> Result<()> {
    let (plan, file) = Plan::draw(&options.folder, &options.name, &options.validator, options.workers)?;
    let genesis = plan.genesis()?.to_string();
    let json = json!({ "network": file, "genesis": genesis, "attestation": ATTESTATION });
    output.data(&json, format!("{}\nGenesis {genesis}\nAttestation {ATTESTATION}", file.display()));
    Ok(())
}

fn load(part: &PartOptions) -> Result<(Plan, Secret)> {
    Ok((Plan::load(&part.network)?, Secret::load(&part.secret)?))
}

/// Runs a validator until it is told to stop.
pub(crate) async fn node(options: &NodeOptions, output: Output) -> Result<()> {
    let (plan, secret) = load(&options.part)?;
    let part = ValidatorPart::start(&plan, &secret, &options.part.data_dir, options.rpc).await?;
    let genesis = part.genesis().to_string();
    output.data(
        &json!({ "rpc": part.url(), "genesis": genesis }),
        format!("Validator of {genesis}\n  RPC  {}", part.url()),
    );
    tokio::select! {
        signal = wait_for_signal() => signal?,
        error = part.failed() => return Err(error.into()),
    }
    output.say("stopping");
    part.stop().await;
    Ok(())
}

/// Runs the key service until it is told to stop.
pub(crate) async fn key_service(options: &KeyServiceOptions, output: Output) -> Result<()> {
    let (plan, secret) = load(&options.part)?;
    let started = KeyServicePart::start(&plan, &secret, &options.part.data_dir, &options.url, options.listen);
    let part = tokio::select! {
        part = started => part?,
        signal = wait_for_signal() => return signal,
    };
    output.data(
        &json!({ "url": part.url(), "attestation": ATTESTATION }),
        format!("Key service, {ATTESTATION}\n  URL  {}", part.url()),
    );
    wait_for_signal().await?;
    output.say("stopping");
    part.stop().await;
    Ok(())
}

/// Runs a worker until it is told to stop, or cannot go on.
pub(crate) async fn worker(options: &WorkerOptions, output: Output) -> Result<()> {
    let (plan, secret) = load(&options.part)?;
    let account = Account::from_suri(&options.suri)?;
    let place = WorkerPlace {
        folder: &options.part.data_dir,
        chain_url: &options.url,
        keys_url: &options.keys,
        listen: options.listen,
        peer: options.peer,
        egress: EgressPolicy { private: options.allow_private_http },
    };
    let part = WorkerPart::start(&plan, &secret, account, place).await?;
    let id = part.id().to_string();
    output.data(
        &json!({ "worker": id, "url": part.url(), "attestation": ATTESTATION }),
        format!("Worker {id}, {ATTESTATION}\n  URL  {0}\n  {0}/readyz says what it waits for", part.url()),
    );
    tokio::select! {
        signal = wait_for_signal() => signal?,
        error = part.failed() => {
            part.stop().await;
            return Err(error.into());
        }
    }
    output.say("stopping");
    part.stop().await;
    Ok(())
}

/// Makes a cluster of registered workers.
pub(crate) async fn create_cluster(
    workers: &[String],
    signer: &Signer,
    network: &Network,
    output: Output,
) -> Result<()> {
    let workers = workers.iter().map(|worker| named_account(worker)).collect::<Result<Vec<_>, _>>()?;
    let chain = connect(network).await?;
    let account = Account::from_suri(&signer.suri)?;
    let bar = output.spinner("waiting until the cluster is final");
    let included = chain.submit(&account, &Call::create_cluster(&workers)).await;
    bar.finish_and_clear();
    let block = included?.number;
    // Numbers are given in order; of two that are made at once, who makes one sees the other's, too.
    let mut cluster = chain.clusters().await?.saturating_sub(1);
    for number in (0..=cluster).rev() {
        let record = chain.cluster(number).await?;
        if record.is_some_and(|record| record.members.iter().all(|member| workers.contains(&member.worker))) {
            cluster = number;
            break;
        }
    }
    output.data(
        &json!({ "cluster": cluster, "block": block }),
        format!("cluster {cluster}, final in block {block}; it serves once its workers have their keys"),
    );
    Ok(())
}

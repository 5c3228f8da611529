//! `phala upgrade`, `freeze` and `contract`: code that may change, and what everyone can see of it.

use crate::{
    args::{Network, Signer, Upgrade},
    book,
    commands::contract::{CERTIFICATE_LIFE, address_of, load_bundle},
    network::connect,
    output::{Output, Tone},
};
use anyhow::Result;
use phala_build::Bundle;
use phala_client::{Account, Call, Contract, Scope};
use phala_primitives::{AccountId, Code, Coded, limits::MAX_COMMAND_GAS};
use serde_json::{Value, json};
use std::time::Instant;

/// Replaces a contract's code.
pub(crate) async fn upgrade(options: &Upgrade, output: Output) -> Result<()> {
    let address = address_of(&options.address)?;
    let bundle = load_bundle(&options.bundle)?;
    check_layout(&address, &bundle, options.force, output)?;
    let account = Account::from_suri(&options.signer.suri)?;
    let chain = connect(&options.network).await?;
    let credentials = account.certify(&chain, Scope::All, CERTIFICATE_LIFE);
    let contract = Contract::find(chain, address, credentials).await?;
    let bar = output.spinner("upgrading: the chain decides, the cluster takes the code");
    let started = Instant::now();
    let upgraded = perform(&contract, &account, &bundle).await;
    bar.finish_and_clear();
    let version = upgraded?;
    let json = json!({
        "address": address.to_string(), "code_hash": bundle.code_hash.to_string(), "version": version,
        "ms": started.elapsed().as_millis() as u64,
    });
    output.done(format!("version {version} runs after {:.1} s, the state is kept", started.elapsed().as_secs_f64()));
    output.data(&json, address.to_string());
    Ok(())
}

/// Replaces the code and remembers its metadata. Returns the version that runs.
pub(crate) async fn perform(contract: &Contract, account: &Account, bundle: &Bundle) -> Result<u32> {
    let version = contract.upgrade(account, bundle.code.clone(), MAX_COMMAND_GAS).await?;
    book::remember(&contract.address(), &Value::Object(bundle.metadata.clone()))?;
    Ok(version)
}

/// Holds the storage that the new code expects against that of the code that runs.
///
/// Errors: `LayoutChanged`, unless the caller insists.
pub(crate) fn check_layout(address: &AccountId, bundle: &Bundle, force: bool, output: Output) -> Result<()> {
    let Ok(old) = book::recall(address) else {
        output.warn("no metadata of the code that runs is remembered here: whether the storage fits is not checked");
        return Ok(());
    };
    let conflicts = phala_abi::storage_conflicts(&old, &Value::Object(bundle.metadata.clone()))?;
    if conflicts.is_empty() {
        return Ok(());
    }
    conflicts.iter().for_each(|conflict| output.warn(conflict));
    if force {
        return Ok(());
    }
    Err(Coded::new(Code::LayoutChanged, "").into())
}

/// Fixes a contract's code for ever.
pub(crate) async fn freeze(address: &str, signer: &Signer, network: &Network, output: Output) -> Result<()> {
    let address = address_of(address)?;
    let account = Account::from_suri(&signer.suri)?;
    let chain = connect(network).await?;
    let record = chain.placed(&address).await?;
    if record.deployer != account.id() {
        return Err(Coded::new(Code::NotDeployer, "only the deployer may fix the code").into());
    }
    if record.upgradable {
        chain.submit(&account, &Call::freeze_contract(&address)).await?;
    }
    let json =
        json!({ "address": address.to_string(), "code_hash": record.present_code.to_string(), "upgradable": false });
    output.done(format!("nobody can replace the code {} any more", record.present_code));
    output.data(&json, address.to_string());
    Ok(())
}

/// Sets how many replicas have to agree on what a contract answers.
pub(crate) async fn audit(
    address: &str,
    replicas: u32,
    signer: &Signer,
    network: &Network,
    output: Output,
) -> Result<()> {
    let contract = address_of(address)?;
    let account = Account::from_suri(&signer.suri)?;
    let chain = connect(network).await?;
    let record = chain.placed(&contract).await?;
    if record.deployer != account.id() {
        return Err(Coded::new(Code::NotDeployer, "only the deployer may say how many replicas have to agree").into());
    }
    chain.submit(&account, &Call::set_audit(&contract, replicas)).await?;
    output.done("clients follow within a minute");
    show(address, network, output).await
}

/// Shows what the chain says of a contract.
pub(crate) async fn show(address: &str, network: &Network, output: Output) -> Result<()> {
    let address = address_of(address)?;
    let chain = connect(network).await?;
    let record = chain.placed(&address).await?;
    let json = json!({
        "address": address.to_string(), "cluster": record.cluster, "deployer": record.deployer.to_string(),
        "code_hash": record.present_code.to_string(), "first_code_hash": record.code_hash.to_string(),
        "version": record.version, "upgradable": record.upgradable, "audit": record.audit,
        "moving_to": record.moving,
    });
    let audit = match record.audit {
        0 | 1 => "the replica that is asked is believed".into(),
        replicas => format!("{replicas} replicas have to agree"),
    };
    let may_change = match record.upgradable {
        true => output.paint(Tone::Warn, "yes, by the deployer, until `phala freeze`"),
        false => output.paint(Tone::Good, "no"),
    };
    let cluster = match record.moving {
        Some(to) => format!("{}, {}", record.cluster, output.paint(Tone::Warn, &format!("on its way to {to}"))),
        None => record.cluster.to_string(),
    };
    let text = format!(
        "address     {address}\ncluster     {cluster}\ndeployer    {}\ncode        {}\nversion     {}\nupgradable  {may_change}\nqueries     {audit}",
        record.deployer, record.present_code, record.version
    );
    output.data(&json, text);
    Ok(())
}

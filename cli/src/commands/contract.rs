//! `phala deploy`, `query` and `send`.
//!
//! What costs money is tried first: a constructor that would fail is told of before a deposit is paid.

use super::account::parse_pha;
use crate::{
    args::{Call, Deploy, Query, Wanted},
    book,
    commands::{blame, collection, estimate},
    network::connect,
    output::{Output, REFUSED, Tone},
};
use anyhow::{Context, Result};
use phala_abi::{Abi, Decoded};
use phala_build::Bundle;
use phala_client::{Account, Anchored, Answered, Cluster, Contract, Executed, Freshness, Scope, Terms};
use phala_primitives::{AccountId, Code, Coded, records::Checkpoint};
use serde_json::{Value, json};
use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

/// How long the certificate lives that a command line tool signs for itself.
pub(crate) const CERTIFICATE_LIFE: Duration = Duration::from_secs(600);

/// Loads a bundle; its folder is as good as the file.
pub(crate) fn load_bundle(path: &Path) -> Result<Bundle, Coded> {
    let file = match path.file_name().filter(|_| path.is_dir()) {
        Some(name) => path.join(name).with_extension("contract"),
        None => path.to_owned(),
    };
    Bundle::load(&file).map_err(|error| error.coded)
}

/// The interface that a bundle describes.
pub(crate) fn abi_of(bundle: &Bundle) -> Result<Abi> {
    Abi::new(&Value::Object(bundle.metadata.clone()))
}

/// Uploads code and creates a contract.
pub(crate) async fn deploy(options: &Deploy, output: Output) -> Result<()> {
    if let Some(file) = collection::file(&options.bundle) {
        return collection::deploy(&file, options, output).await;
    }
    let bundle = load_bundle(&options.bundle)?;
    let abi = abi_of(&bundle)?;
    let data = abi.encode(&options.constructor, &options.arguments).map_err(|e| bad_argument(&abi, &e))?;
    let value = parse_pha(&options.value)?;
    let salt = match &options.salt {
        Some(text) => hex::decode(text.trim_start_matches("0x"))
            .map_err(|_| Coded::new(Code::BadArgument, format!("--salt `{text}` is not hex")))?,
        None => fresh_salt()?,
    };
    let account = Account::from_suri(&options.signer.suri)?;
    let chain = connect(&options.network).await?;
    let credentials = account.certify(&chain, Scope::All, CERTIFICATE_LIFE);
    let cluster = match options.cluster {
        Some(cluster) => cluster,
        None => chain.place(&account.id(), &bundle.code_hash, &salt).await?,
    };
    let cluster = Cluster::connect(chain, cluster, credentials).await?;
    let plan = Plan { abi: &abi, bundle: &bundle, constructor: &options.constructor, data, salt };
    let terms = Terms { gas_limit: options.gas, upgradable: options.upgradable, value };
    let cost = estimate::deployment(&cluster, &account, &plan, terms).await?;
    if options.dry_run {
        output.data(&cost.json(), cost.text(output));
        return Ok(());
    }
    output.say(output.paint(Tone::Dim, &cost.line()));
    let bar = output.spinner("deploying: deposit on the chain, code and constructor to the cluster");
    let started = std::time::Instant::now();
    let size = bundle.code.len();
    let progress = |there: usize| bar.set_message(format!("uploading: {} of {} KiB", there >> 10, size >> 10));
    let made = make(&cluster, &account, plan, terms, progress).await;
    bar.finish_and_clear();
    let (address, executed) = made?;
    let json = json!({
        "address": address.to_string(), "code_hash": bundle.code_hash.to_string(), "cluster": cluster.id(),
        "gas": executed.outcome.gas_used, "height": executed.receipt.header.height,
        "upgradable": options.upgradable, "deposit": cost.deposit.to_string(),
        "ms": started.elapsed().as_millis() as u64,
    });
    output.done(format!("{} deployed in {:.1} s, receipt verified", bundle.name, started.elapsed().as_secs_f64()));
    output.data(&json, address.to_string());
    Ok(())
}

/// A contract that is to be.
pub(crate) struct Plan<'a> {
    pub(crate) abi: &'a Abi,
    pub(crate) bundle: &'a Bundle,
    pub(crate) constructor: &'a str,
    /// Selector and arguments of the constructor.
    pub(crate) data: Vec<u8>,
    pub(crate) salt: Vec<u8>,
}

/// Deploys a contract and remembers its metadata; `progress` is told how many bytes of a large code are uploaded. A constructor that refuses is an error.
pub(crate) async fn make(
    cluster: &Arc<Cluster>,
    account: &Account,
    plan: Plan<'_>,
    terms: Terms,
    progress: impl Fn(usize),
) -> Result<(AccountId, Executed)> {
    let Plan { abi, bundle, constructor, data, salt } = plan;
    let code = bundle.code.clone();
    let (contract, executed) = Contract::deploy_with(cluster, account, code, salt, data, terms, progress).await?;
    let returned = executed.outcome.result.clone()?;
    let decoded = abi.decode(constructor, &returned.data).ok();
    refuse_failed(returned.reverted(), decoded.as_ref())?;
    book::remember(&contract.address(), &Value::Object(bundle.metadata.clone()))?;
    Ok((contract.address(), executed))
}

/// The arguments, with `@FILE` replaced by the file's bytes in hex. What stands behind `@@` begins with one `@`.
fn read_files(arguments: &[String]) -> Result<Vec<String>, Coded> {
    let read = |argument: &String| match argument.strip_prefix('@') {
        Some(literal) if literal.starts_with('@') => Ok(literal.to_owned()),
        Some(path) => std::fs::read(path)
            .map(|bytes| format!("0x{}", hex::encode(bytes)))
            .map_err(|error| Coded::new(Code::BadArgument, format!("{path}: {error}"))),
        None => Ok(argument.clone()),
    };
    arguments.iter().map(read).collect()
}

/// An address as people write it.
pub(crate) fn address_of(text: &str) -> Result<AccountId, Coded> {
    text.parse().map_err(|error| Coded::new(Code::BadArgument, format!("{text}: {error}")))
}

pub(crate) fn fresh_salt() -> Result<Vec<u8>, Coded> {
    let mut salt = vec![0; 16];
    getrandom::fill(&mut salt).map_err(|e| Coded::new(Code::Internal, format!("no randomness: {e}")))?;
    Ok(salt)
}

pub(crate) fn bad_argument(abi: &Abi, error: &anyhow::Error) -> Coded {
    Coded::new(Code::BadArgument, format!("{error}; the contract has: {}", abi.signatures().join("; ")))
}

pub(crate) fn refuse_failed(reverted: bool, decoded: Option<&Decoded>) -> Result<(), Coded> {
    match decoded {
        Some(decoded) if reverted || decoded.is_err => {
            let why = decoded.explained.map(|why| format!(": {why}")).unwrap_or_default();
            Err(Coded::new(Code::Reverted, format!("{}{why}", decoded.text)))
        }
        None if reverted => Err(Code::Reverted.into()),
        _ => Ok(()),
    }
}

/// A call that is ready to be made.
pub(crate) struct Ready {
    pub(crate) abi: Abi,
    pub(crate) contract: Contract,
    pub(crate) data: Vec<u8>,
}

pub(crate) async fn prepare(options: &Call) -> Result<Ready> {
    let address = address_of(&options.address)?;
    let metadata = match &options.bundle {
        Some(path) => Value::Object(load_bundle(path)?.metadata),
        None => book::recall(&address)?,
    };
    let abi = Abi::new(&metadata)?;
    let arguments = read_files(&options.arguments)?;
    let data = abi.encode(&options.message, &arguments).map_err(|e| bad_argument(&abi, &e))?;
    let account = Account::from_suri(&options.signer.suri)?;
    let chain = connect(&options.network).await?;
    let credentials = account.certify(&chain, Scope::All, CERTIFICATE_LIFE);
    let contract = Contract::find(chain, address, credentials).await?;
    Ok(Ready { abi, contract, data })
}

/// Reads from a contract.
pub(crate) async fn query(options: &Query, output: Output) -> Result<ExitCode> {
    let Query { call: options, freshness, blame } = options;
    let Ready { abi, contract, data } = prepare(options).await?;
    let (cluster, address, value) = (contract.cluster(), contract.address(), parse_pha(&options.value)?);
    let answers = match freshness {
        Wanted::Of(freshness) => cluster.query_fresh(address, data, value, *freshness).await.map(|one| vec![one]),
        Wanted::Quorum(members) => cluster.query_quorum(address, data, value, *members).await,
    };
    let accuser = blame.then(|| Account::from_suri(&options.signer.suri)).transpose()?;
    let answers = judged(answers, accuser.as_ref(), cluster, output).await?;
    let answered = answers.first().context("a quorum has members")?;
    let decoded =
        abi.decode(&options.message, &answered.output.data).context("the answer does not fit the metadata")?;
    let mut anchors = vec![];
    for answered in &answers {
        let anchored = anchored(options.anchor, cluster.anchor(&answered.receipt), output).await;
        if anchored.is_err() {
            cluster.suspect(vec![answered.clone()]);
        }
        anchors.push(judged(anchored, accuser.as_ref(), cluster, output).await?);
    }
    let receipt = |(answered, anchored): (&Answered, &Option<Anchored>)| {
        let r = &answered.receipt.claim;
        json!({
            "worker": answered.worker.to_string(), "cluster": r.cluster, "epoch": r.epoch, "height": r.height,
            "entry": r.entry.to_string(), "entry_time_ms": r.entry_time_ms, "state_root": r.state_root.to_string(),
            "time_ms": r.time_ms, "anchored": anchored.as_ref().map(anchored_json),
        })
    };
    let receipt = options.receipt.then(|| {
        let mut all: Vec<Value> = answers.iter().zip(&anchors).map(receipt).collect();
        if all.len() == 1 { all.remove(0) } else { Value::Array(all) }
    });
    if *freshness != Wanted::Of(Freshness::Any) {
        let heights: Vec<String> = answers.iter().map(|answered| answered.receipt.claim.height.to_string()).collect();
        let line = format!("{freshness}: entry {}, receipts verified", heights.join(", "));
        output.say(output.paint(Tone::Dim, &line));
    }
    if abi.mutates(&options.message) == Some(true) {
        output.warn("this message changes the contract; a query shows what it would answer and changes nothing");
    }
    Ok(show(&decoded, answered.output.reverted(), receipt, output))
}

/// Writes to a contract.
pub(crate) async fn send(options: &Call, output: Output) -> Result<ExitCode> {
    let value = parse_pha(&options.value)?;
    let Ready { abi, contract, data } = prepare(options).await?;
    let bar = output.spinner("waiting for the cluster");
    let size = data.len();
    let progress = |there: usize| bar.set_message(format!("sending: {} of {} KiB", there >> 10, size >> 10));
    let executed = contract.pay_with(data.clone(), value, options.gas, progress).await;
    bar.finish_and_clear();
    let executed = executed?;
    let returned = match executed.outcome.result.clone() {
        Ok(returned) => returned,
        Err(error) => return Err(estimate::explain(&contract, data, value, error, output).await.into()),
    };
    let decoded = abi.decode(&options.message, &returned.data).context("the answer does not fit the metadata")?;
    let place =
        format!("entry {}, gas {}, receipt verified", executed.receipt.header.height, executed.outcome.gas_used);
    output.say(output.paint(Tone::Dim, &place));
    let anchored = anchored(options.anchor, contract.home().anchor_command(&executed.receipt), output).await?;
    let receipt = options.receipt.then(|| receipt_json(&executed, anchored.as_ref()));
    Ok(show(&decoded, returned.reverted(), receipt, output))
}

/// Before an error that tells of a made-up answer is returned, blames whoever made it up, if that is wanted.
async fn judged<T>(
    result: Result<T, Coded>,
    accuser: Option<&Account>,
    cluster: &Cluster,
    output: Output,
) -> Result<T, Coded> {
    let wrong = |error: &Coded| matches!(error.known(), Some(Code::Contradiction | Code::BadReceipt));
    if let Some(accuser) = accuser
        && result.as_ref().is_err_and(wrong)
    {
        blame::blame(cluster, accuser, output).await;
    }
    result
}

/// Waits until the chain vouches for a receipt's entry, if that is wanted.
async fn anchored(
    wanted: bool,
    anchoring: impl Future<Output = Result<Anchored, Coded>>,
    output: Output,
) -> Result<Option<Anchored>, Coded> {
    if !wanted {
        return Ok(None);
    }
    let bar = output.spinner("waiting for the chain to be shown the entry");
    let anchored = anchoring.await;
    bar.finish_and_clear();
    let anchored = anchored?;
    let Checkpoint { anchor, block, .. } = anchored.checkpoint;
    let root = anchored.confirmed.map(|height| format!(", its state confirmed by a quorum in entry {height}"));
    let line = format!("in the history of entry {}, shown in block {block}{}", anchor.height, root.unwrap_or_default());
    output.say(output.paint(Tone::Dim, &line));
    Ok(Some(anchored))
}

fn anchored_json(anchored: &Anchored) -> Value {
    let Checkpoint { anchor, epoch, block, .. } = anchored.checkpoint;
    json!({
        "height": anchor.height, "entry": anchor.digest.to_string(), "epoch": epoch, "block": block,
        "state_confirmed_at": anchored.confirmed,
    })
}

fn receipt_json(executed: &Executed, anchored: Option<&Anchored>) -> Value {
    let r = &executed.receipt;
    json!({
        "worker": executed.worker.to_string(), "cluster": r.header.cluster, "epoch": r.header.epoch,
        "height": r.header.height, "index": r.index, "entry": r.header.digest().to_string(),
        "state_root": r.state_root.to_string(), "signatures": r.certificate.votes.len(), "gas": executed.outcome.gas_used,
        "anchored": anchored.map(anchored_json),
    })
}

fn show(decoded: &Decoded, reverted: bool, receipt: Option<Value>, output: Output) -> ExitCode {
    let refused = reverted || decoded.is_err;
    let mut json = json!({ "result": decoded.json, "reverted": reverted });
    let mut text = decoded.text.clone();
    if let (Some(receipt), Some(object)) = (receipt, json.as_object_mut()) {
        text.push_str(&format!("\n{receipt:#}"));
        object.insert("receipt".into(), receipt);
    }
    output.data(&json, text);
    if let Some(why) = decoded.explained {
        output.warn(why);
    }
    if refused { ExitCode::from(REFUSED) } else { ExitCode::SUCCESS }
}

#[cfg(test)]
mod tests {
    use super::read_files;

    #[test]
    fn arguments_may_be_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("input");
        std::fs::write(&file, [1, 0xff]).unwrap();
        let read = |argument: &str| read_files(&[argument.to_owned()]).map(|mut all| all.remove(0));
        assert_eq!(read(&format!("@{}", file.display())).unwrap(), "0x01ff");
        assert_eq!(read("@@me").unwrap(), "@me");
        assert_eq!(read("me").unwrap(), "me");
        assert!(read("@").is_err());
    }
}

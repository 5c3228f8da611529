//! `phala cluster` and `phala cluster policy`: who runs contracts, what that is worth, and what contracts may use.

use crate::{
    args::{Network, Signer},
    commands::contract::address_of,
    network::{connect, named_account},
    output::{Output, Tone},
};
use anyhow::Result;
use phala_client::{Account, Call, Chain};
use phala_primitives::{
    AccountId, ClusterId, ClusterPolicy, Code, Coded,
    policy::{Field, Unit},
    records::{ClusterRecord, Member, Tier, WorkerRecord},
    storage,
};
use serde_json::{Value, json};

/// A limit as people write it.
fn write(field: &Field, policy: &ClusterPolicy) -> String {
    write_value((field.get)(policy), field.unit)
}

fn write_value(value: u64, unit: Unit) -> String {
    let scaled = |steps: &[(u64, &str)]| {
        let fits = |(size, _): &&(u64, &str)| value >= *size && value.is_multiple_of(*size);
        steps.iter().find(fits).map_or_else(|| value.to_string(), |(size, name)| format!("{}{name}", value / size))
    };
    match unit {
        Unit::Bytes => scaled(&[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")]),
        Unit::Millis => scaled(&[(60_000, "min"), (1000, "s"), (1, "ms")]),
        Unit::Count => value.to_string(),
    }
}

/// Reads what [`write_value`] writes.
fn read_value(text: &str, unit: Unit) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, name) = text.split_at(digits);
    let size = match (unit, name) {
        (_, "") | (Unit::Bytes, "B") | (Unit::Millis, "ms") => 1,
        (Unit::Bytes, "KiB") => 1 << 10,
        (Unit::Bytes, "MiB") => 1 << 20,
        (Unit::Bytes, "GiB") => 1 << 30,
        (Unit::Millis, "s") => 1000,
        (Unit::Millis, "min") => 60_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(size)
}

/// Changes a policy by `NAME=VALUE`.
fn set(policy: &mut ClusterPolicy, assignment: &str) -> Result<(), Coded> {
    let wrong = |why: String| Coded::new(Code::BadPolicy, format!("`{assignment}`: {why}"));
    let (name, text) = assignment.split_once('=').ok_or_else(|| wrong("wanted is NAME=VALUE".into()))?;
    let names = || ClusterPolicy::FIELDS.iter().map(|field| field.name).collect::<Vec<_>>().join(", ");
    let field = ClusterPolicy::FIELDS.iter().find(|field| field.name == name);
    let field = field.ok_or_else(|| wrong(format!("the limits are {}", names())))?;
    let value =
        read_value(text, field.unit).ok_or_else(|| wrong("a number, with B, KiB, MiB, GiB, ms, s or min".into()))?;
    if !(field.least..=field.most).contains(&value) {
        let (least, most) = (write_value(field.least, field.unit), write_value(field.most, field.unit));
        return Err(wrong(format!("from {least} to {most}")));
    }
    *(field.place)(policy) = value;
    Ok(())
}

fn policy_json(policy: &ClusterPolicy) -> Value {
    let limits = ClusterPolicy::FIELDS.iter().map(|field| (field.name.to_owned(), json!((field.get)(policy))));
    json!({ "version": policy.version, "limits": limits.collect::<serde_json::Map<_, _>>() })
}

fn policy_text(policy: &ClusterPolicy) -> String {
    let line = |field: &Field| format!("  {:<13} {:>8}  {}", field.name, write(field, policy), field.meaning);
    let lines: Vec<String> = ClusterPolicy::FIELDS.iter().map(line).collect();
    let version = if policy.version == 0 { "the default".into() } else { format!("version {}", policy.version) };
    format!("policy     {version}\n{}", lines.join("\n"))
}

/// What a machine's evidence is worth, so that nobody takes a simulated one for more.
fn tier_text(tier: Tier) -> String {
    if tier == Tier::S { "S (SIMULATED)".into() } else { format!("{tier:?}") }
}

fn member_json(member: &Member, worker: Option<&WorkerRecord>) -> Value {
    json!({
        "worker": member.worker.to_string(),
        "identity": format!("0x{}", hex::encode(member.identity)),
        "endpoint": worker.map(|worker| String::from_utf8_lossy(&worker.endpoint).into_owned()),
        "tier": worker.map(|worker| tier_text(worker.appraisal.tier)),
        "votes": worker.is_some_and(|worker| worker.identity == member.identity),
    })
}

fn member_text(member: &Member, worker: Option<&WorkerRecord>) -> String {
    let Some(record) = worker else { return format!("  {}  not registered", member.worker) };
    let votes = if record.identity == member.identity { "" } else { "  restarted, waits for the next epoch" };
    let endpoint = String::from_utf8_lossy(&record.endpoint);
    format!("  {}  tier {}  {endpoint}{votes}", member.worker, tier_text(record.appraisal.tier))
}

fn reader_json(reader: &AccountId, worker: Option<&WorkerRecord>) -> Value {
    json!({
        "worker": reader.to_string(),
        "endpoint": worker.map(|worker| String::from_utf8_lossy(&worker.endpoint).into_owned()),
        "tier": worker.map(|worker| tier_text(worker.appraisal.tier)),
    })
}

fn reader_text(reader: &AccountId, worker: Option<&WorkerRecord>) -> String {
    let Some(record) = worker else { return format!("  {reader}  not registered") };
    let endpoint = String::from_utf8_lossy(&record.endpoint);
    format!("  {reader}  tier {}  {endpoint}", tier_text(record.appraisal.tier))
}

/// Who is to come and to go.
fn change(record: &ClusterRecord) -> Vec<String> {
    let members: Vec<AccountId> = record.members.iter().map(|member| member.worker).collect();
    let comes = record.wanted.iter().filter(|worker| !members.contains(worker));
    let goes = members.iter().filter(|worker| !record.wanted.is_empty() && !record.wanted.contains(worker));
    let comes = comes.map(|worker| format!("  {worker}  is to be a member, once it holds the log"));
    comes.chain(goes.map(|worker| format!("  {worker}  is to leave"))).collect()
}

/// Has another worker take a member's place.
pub(crate) async fn drain(
    cluster: ClusterId,
    worker: &str,
    signer: &Signer,
    network: &Network,
    output: Output,
) -> Result<()> {
    let worker = named_account(worker)?;
    let leaves = |record: &ClusterRecord| !record.members.iter().any(|member| member.worker == worker);
    reshape(cluster, &Call::drain(cluster, &worker), leaves, signer, network, output).await
}

/// Gives a cluster another number of members.
pub(crate) async fn resize(
    cluster: ClusterId,
    size: u32,
    signer: &Signer,
    network: &Network,
    output: Output,
) -> Result<()> {
    let resized = |record: &ClusterRecord| record.members.len() == size as usize;
    reshape(cluster, &Call::resize(cluster, size), resized, signer, network, output).await
}

/// Gives a cluster so many readers.
pub(crate) async fn readers(
    cluster: ClusterId,
    count: u32,
    signer: &Signer,
    network: &Network,
    output: Output,
) -> Result<()> {
    let has = |record: &ClusterRecord| record.readers.len() == count as usize;
    reshape(cluster, &Call::set_readers(cluster, count), has, signer, network, output).await
}

/// Has the chain change a cluster's members, and waits until it has them.
async fn reshape(
    cluster: ClusterId,
    call: &Call,
    done: impl Fn(&ClusterRecord) -> bool,
    signer: &Signer,
    network: &Network,
    output: Output,
) -> Result<()> {
    let chain = connect(network).await?;
    let account = Account::from_suri(&signer.suri)?;
    let bar = output.spinner("waiting for the chain");
    let included = chain.submit(&account, call).await;
    let refused = |error: Coded| match error.detail.contains("NobodyIdle") {
        true => Coded::new(Code::NoIdleWorker, "start one, it offers itself"),
        false => error,
    };
    let included = included.map_err(refused).inspect_err(|_| bar.finish_and_clear())?;
    bar.set_message("waiting until the new members hold the log");
    let mut heads = chain.heads().await?;
    let record = loop {
        let record = chain.cluster(cluster).await?.ok_or(Coded::from(Code::NoSuchCluster))?;
        if done(&record) {
            break record;
        }
        heads.next().await?;
    };
    bar.finish_and_clear();
    output.done(format!("{} members in epoch {}", record.members.len(), record.epoch));
    output.say(output.paint(Tone::Dim, &format!("extrinsic {}", included.hash)));
    show(cluster, network, output).await
}

/// Shows a cluster.
pub(crate) async fn show(cluster: ClusterId, network: &Network, output: Output) -> Result<()> {
    let chain = connect(network).await?;
    let missing = || Coded::new(Code::NoSuchCluster, format!("cluster {cluster}"));
    let record = chain.cluster(cluster).await?.ok_or_else(missing)?;
    let policy = chain.policy(cluster).await?;
    let (clusters, contracts) = (chain.clusters().await?, chain.population(cluster).await?);
    let mut members = vec![];
    for member in &record.members {
        members.push((member, chain.worker(&member.worker).await?));
    }
    let mut readers = vec![];
    for reader in &record.readers {
        readers.push((reader, chain.worker(reader).await?));
    }
    let weights: Vec<(AccountId, u32)> = chain.read(&storage::weights(cluster)).await?.unwrap_or_default();
    let json = json!({
        "cluster": cluster, "clusters": clusters, "contracts": contracts,
        "epoch": record.epoch, "floor": record.floor.height,
        "checkpoint": { "height": record.checkpoint.anchor.height, "block": record.checkpoint.block },
        "wanted": record.wanted.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "members": members.iter().map(|(member, worker)| member_json(member, worker.as_ref())).collect::<Vec<_>>(),
        "readers": readers.iter().map(|(reader, worker)| reader_json(reader, worker.as_ref())).collect::<Vec<_>>(),
        "policy": policy_json(&policy),
        "weights": weights.iter().map(|(contract, weight)| json!({ "contract": contract.to_string(), "weight": weight }))
            .collect::<Vec<_>>(),
    });
    let mut lines: Vec<String> = members.iter().map(|(member, worker)| member_text(member, worker.as_ref())).collect();
    lines.extend(change(&record));
    if !readers.is_empty() {
        lines.push(format!("readers    {}", readers.len()));
        lines.extend(readers.iter().map(|(reader, worker)| reader_text(reader, worker.as_ref())));
    }
    if !weights.is_empty() {
        lines.push("weights    of contracts that get more of the processor".into());
        lines.extend(weights.iter().map(|(contract, weight)| format!("  {contract}  {weight}")));
    }
    let text = format!(
        "cluster    {cluster} of 0 to {}, epoch {}\ncontracts  {contracts}\ncheckpoint entry {}, shown in block {}\nmembers    {}\n{}\n{}",
        clusters.saturating_sub(1),
        record.epoch,
        record.checkpoint.anchor.height,
        record.checkpoint.block,
        members.len(),
        lines.join("\n"),
        policy_text(&policy)
    );
    output.data(&json, text);
    Ok(())
}

/// Gives a contract a weight.
pub(crate) async fn weight(
    address: &str,
    weight: u32,
    signer: &Signer,
    network: &Network,
    output: Output,
) -> Result<()> {
    let address = address_of(address)?;
    let chain = connect(network).await?;
    let cluster = chain.placed(&address).await?.cluster;
    let account = Account::from_suri(&signer.suri)?;
    let bar = output.spinner("waiting until the weight is final");
    let included = chain.submit(&account, &Call::set_weight(cluster, &address, weight)).await;
    bar.finish_and_clear();
    let included = included.map_err(only_creator)?;
    output.done(format!("final in block {}; the cluster follows within seconds", included.number));
    show(cluster, network, output).await
}

fn only_creator(error: Coded) -> Coded {
    match error.detail.contains("NotCreator") {
        true => Coded::new(Code::BadPolicy, "only the account that made the cluster may do this"),
        false => error,
    }
}

/// Shows or changes what contracts of a cluster may use.
pub(crate) async fn policy(
    cluster: ClusterId,
    changes: &[String],
    signer: &Signer,
    network: &Network,
    output: Output,
) -> Result<()> {
    let chain: std::sync::Arc<Chain> = connect(network).await?;
    let mut policy = chain.policy(cluster).await?;
    if !changes.is_empty() {
        changes.iter().try_for_each(|change| set(&mut policy, change))?;
        let account = Account::from_suri(&signer.suri)?;
        let bar = output.spinner("waiting until the policy is final");
        let included = chain.submit(&account, &Call::set_policy(cluster, &policy)).await;
        bar.finish_and_clear();
        let included = included.map_err(only_creator)?;
        policy = chain.policy(cluster).await?;
        output.done(format!("final in block {}; the cluster follows within seconds", included.number));
        output.say(output.paint(Tone::Dim, &format!("extrinsic {}", included.hash)));
    }
    output.data(&policy_json(&policy), policy_text(&policy));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_written() {
        let mut policy = ClusterPolicy::DEFAULT;
        for assignment in ["memory=256MiB", "query=1min", "queries=7", "code=65536", "message=64KiB"] {
            set(&mut policy, assignment).unwrap();
        }
        let expected = ClusterPolicy {
            memory_bytes: 256 << 20,
            query_ms: 60_000,
            queries: 7,
            code_bytes: 65_536,
            message_bytes: 65_536,
            ..ClusterPolicy::DEFAULT
        };
        assert_eq!(policy, expected);
        for field in ClusterPolicy::FIELDS {
            set(&mut policy, &format!("{}={}", field.name, write(field, &expected))).unwrap();
        }
        assert_eq!(policy, expected);
        for wrong in
            ["memory", "memory=2GiB", "memory=1s", "query=1MiB", "nothing=1", "memory=", "memory=-1", "depth=33"]
        {
            assert_eq!(set(&mut policy, wrong).unwrap_err().known(), Some(Code::BadPolicy), "{wrong}");
        }
    }
}

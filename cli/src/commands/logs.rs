//! `phala logs`: what a contract said, in commands to all replicas, in queries to the one that ran them.

use crate::{
    args::Logs,
    book,
    commands::contract::{CERTIFICATE_LIFE, load_bundle},
    network::connect,
    output::{Output, Tone},
};
use anyhow::Result;
use phala_abi::Abi;
use phala_client::{Account, Contract, LogQuery, LogRecord, Said, Scope};
use phala_primitives::{AccountId, Code, Coded};
use serde_json::{Value, json};

/// Characters by which a worker is told from others.
const WORKER: usize = 8;
/// Records of one question.
const PAGE: u32 = 256;

/// Prints records, and with `--follow` those to come.
pub(crate) async fn run(options: &Logs, output: Output) -> Result<()> {
    let address: AccountId =
        options.address.parse().map_err(|e| Coded::new(Code::BadArgument, format!("{}: {e}", options.address)))?;
    let metadata = match &options.bundle {
        Some(path) => Some(Value::Object(load_bundle(path)?.metadata)),
        None => book::recall(&address).ok(),
    };
    let abi = metadata.map(|metadata| Abi::new(&metadata)).transpose()?;
    let account = Account::from_suri(&options.signer.suri)?;
    let chain = connect(&options.network).await?;
    let credentials = account.certify(&chain, Scope::Contracts(vec![address]), CERTIFICATE_LIFE);
    let contract = Contract::find(chain, address, credentials).await?;
    let abi = abi.as_ref();
    match (options.queries, options.follow) {
        (false, false) => past(&contract, options.from, abi, output).await,
        (false, true) => {
            let mut follow = contract.cluster().follow(address, options.from);
            loop {
                show(&follow.next().await?, None, abi, output);
            }
        }
        (true, false) => said_by_queries(&contract, options.from, abi, output).await,
        (true, true) => {
            let mut follow = contract.cluster().follow_queries(address);
            loop {
                let (worker, record) = follow.next().await?;
                if record.number >= options.from {
                    show(&record, Some(&worker), abi, output);
                }
            }
        }
    }
}

/// Prints what commands have said.
async fn past(contract: &Contract, mut from: u64, abi: Option<&Abi>, output: Output) -> Result<()> {
    loop {
        let query =
            LogQuery { contract: contract.address(), queries: false, from, limit: PAGE, wait_ms: 0, min_height: 0 };
        let page = contract.cluster().log(&query).await?;
        page.records.iter().for_each(|record| show(record, None, abi, output));
        if page.records.is_empty() {
            return Ok(());
        }
        from = page.next;
    }
}

/// Prints what queries have said at all replicas, in the order of time. One that does not answer is left out, with a
/// word, unless none does.
async fn said_by_queries(contract: &Contract, from: u64, abi: Option<&Abi>, output: Output) -> Result<()> {
    let cluster = contract.cluster();
    let (mut records, mut failed, mut heard) = (vec![], None, 0);
    for replica in cluster.replicas() {
        let mut query =
            LogQuery { contract: contract.address(), queries: true, from, limit: PAGE, wait_ms: 0, min_height: 0 };
        loop {
            match cluster.log_of(&replica.worker, &query).await {
                Ok(page) if page.records.is_empty() => break heard += 1,
                Ok(page) => {
                    query.from = page.next;
                    records.extend(page.records.into_iter().map(|record| (replica.worker, record)));
                }
                Err(error) => {
                    output.warn(format!("{}: {error}", replica.worker));
                    break failed = Some(error);
                }
            }
        }
    }
    if let Some(error) = failed.filter(|_| heard == 0) {
        return Err(error.into());
    }
    records.sort_by_key(|(worker, record)| (record.time_ms, *worker, record.number));
    records.iter().for_each(|(worker, record)| show(record, Some(worker), abi, output));
    Ok(())
}

/// Shows what commands of a contract say from now on, by the metadata that are remembered at the time.
pub(crate) async fn follow(contract: &Contract, output: Output) -> Result<()> {
    let address = contract.address();
    let mut query = LogQuery { contract: address, queries: false, from: 0, limit: PAGE, wait_ms: 0, min_height: 0 };
    loop {
        let page = contract.cluster().log(&query).await?;
        query.from = page.next;
        if page.records.is_empty() {
            break;
        }
    }
    let mut follow = contract.cluster().follow(address, query.from);
    loop {
        let record = follow.next().await?;
        let abi = book::recall(&address).ok().and_then(|metadata| Abi::new(&metadata).ok());
        show(&record, None, abi.as_ref(), output);
    }
}

/// Prints a record; of a query with the worker that ran it.
fn show(record: &LogRecord, worker: Option<&AccountId>, abi: Option<&Abi>, output: Output) {
    let (kind, tone, text, value) = match &record.said {
        Said::Line { level, text } => {
            let (name, tone) = match level {
                1 => ("error", Tone::Bad),
                2 => ("warn", Tone::Warn),
                3 => ("info", Tone::Good),
                4 => ("debug", Tone::Dim),
                _ => ("trace", Tone::Dim),
            };
            (name, tone, text.trim_end().to_owned(), json!({ "text": text }))
        }
        Said::Event { topics, data } => match abi.and_then(|abi| abi.event(topics, data).ok()) {
            Some((name, decoded)) => (
                "event",
                Tone::Good,
                format!("{name} {}", decoded.text),
                json!({ "event": name, "fields": decoded.json }),
            ),
            None => {
                let data = format!("0x{}", hex::encode(data));
                let topics: Vec<_> = topics.iter().map(ToString::to_string).collect();
                ("event", Tone::Good, data.clone(), json!({ "topics": topics, "data": data }))
            }
        },
    };
    let place = format!("{:>6}  {}  {:<5}", record.number, time(record.time_ms), kind);
    let mut json = json!({
        "number": record.number, "height": record.height, "time_ms": record.time_ms, "kind": kind, "said": value,
    });
    let mut source = String::new();
    if let Some(worker) = worker {
        let name = worker.to_string();
        source = format!("{}…  ", name.chars().take(WORKER).collect::<String>());
        json["worker"] = name.into();
    }
    output.data(&json, format!("{} {text}", output.paint(tone, &format!("{source}{place}"))));
}

/// Hours, minutes, seconds and milliseconds of the day, UTC.
fn time(ms: u64) -> String {
    let of_day = ms % (24 * 3600 * 1000);
    let (seconds, millis) = (of_day / 1000, of_day % 1000);
    format!("{:02}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_of_the_day() {
        assert_eq!(super::time(1_700_000_000_123), "22:13:20.123");
    }
}

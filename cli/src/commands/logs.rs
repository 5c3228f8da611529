//! `phala logs`: what a contract said.

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

/// How long one question waits for news.
const WAIT_MS: u32 = 10_000;
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
    let mut from = options.from;
    loop {
        let wait_ms = if options.follow { WAIT_MS } else { 0 };
        let query = LogQuery { contract: address, queries: options.queries, from, limit: PAGE, wait_ms };
        let page = contract.cluster().log(&query).await?;
        for record in &page.records {
            show(record, abi.as_ref(), output);
        }
        // A page that is not full is the end for now.
        if page.records.is_empty() && !options.follow {
            return Ok(());
        }
        from = page.next;
    }
}

/// Shows what commands of a contract say from now on, by the metadata that are remembered at the time.
pub(crate) async fn follow(contract: &Contract, output: Output) -> Result<()> {
    let address = contract.address();
    let (mut from, mut old) = (0, true);
    loop {
        let wait_ms = if old { 0 } else { WAIT_MS };
        let query = LogQuery { contract: address, queries: false, from, limit: PAGE, wait_ms };
        let page = contract.cluster().log(&query).await?;
        if !old {
            let abi = book::recall(&address).ok().and_then(|metadata| Abi::new(&metadata).ok());
            page.records.iter().for_each(|record| show(record, abi.as_ref(), output));
        }
        old = old && !page.records.is_empty();
        from = page.next;
    }
}

fn show(record: &LogRecord, abi: Option<&Abi>, output: Output) {
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
    let json = json!({
        "number": record.number, "height": record.height, "time_ms": record.time_ms, "kind": kind, "said": value,
    });
    output.data(&json, format!("{} {text}", output.paint(tone, &place)));
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

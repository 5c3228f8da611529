//! `phala testkit`: contracts in memory for a test, which speaks to it through a pipe.
//!
//! One line of JSON is a question, `{"do": …}`, and one line the answer, `{"ok": …}` or `{"error": "…"}`. The crate
//! `testkit` (`contracts/kit`) is the other end. When the input ends, so does the process; if `PHALA_GAS` names a folder,
//! it leaves the gas of its commands there, for `phala test --gas`.

use crate::commands::contract::address_of;
use anyhow::{Context, Result, anyhow, bail};
use phala_primitives::AccountId;
use phala_testkit::{Answer, Chain, Contract, HttpError, Snapshot};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{BufRead, Write},
    path::Path,
};

/// Folder for the gas of each process.
pub(crate) const GAS: &str = "PHALA_GAS";

/// A cluster and what the test has of it.
struct Server {
    chain: Chain,
    contracts: BTreeMap<AccountId, Contract>,
    snapshots: Vec<Snapshot>,
}

/// Answers until the input ends.
pub(crate) fn serve() -> Result<()> {
    let mut server = Server { chain: Chain::new()?, contracts: BTreeMap::new(), snapshots: vec![] };
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let answer = serde_json::from_str(&line?).map_err(Into::into).and_then(|question| server.answer(&question));
        let answer = match answer {
            Ok(value) => json!({ "ok": value }),
            Err(error) => json!({ "error": format!("{error:#}") }),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    if let Some(folder) = std::env::var_os(GAS) {
        let path = Path::new(&folder).join(std::process::id().to_string());
        std::fs::write(&path, server.chain.gas().to_json().to_string()).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

impl Server {
    fn answer(&mut self, question: &Value) -> Result<Value> {
        let text = |name: &str| {
            question.get(name).and_then(Value::as_str).with_context(|| format!("the question has no text `{name}`"))
        };
        let number = |name: &str| {
            question.get(name).and_then(Value::as_u64).with_context(|| format!("the question has no number `{name}`"))
        };
        let arguments = || -> Vec<&str> {
            let list = question.get("arguments").and_then(Value::as_array);
            list.into_iter().flatten().filter_map(Value::as_str).collect()
        };
        Ok(match text("do")? {
            "account" => json!(self.chain.account(text("name")?)?.to_string()),
            "deploy" => {
                let chain = self.chain.by(text("caller")?)?;
                let contract = chain.deploy(text("bundle")?, text("constructor")?, &arguments())?;
                let address = contract.address();
                self.contracts.insert(address, contract);
                json!(address.to_string())
            }
            "call" => {
                let contract = self.contract(text("contract")?)?.by(text("caller")?)?;
                answered(&contract.call(text("message")?, &arguments())?)
            }
            "query" => {
                let contract = self.contract(text("contract")?)?.by(text("caller")?)?;
                answered(&contract.query(text("message")?, &arguments())?)
            }
            "events" => {
                let events = self.contract(text("contract")?)?.events();
                events.into_iter().map(|(event, fields)| json!({ "event": event, "fields": fields })).collect()
            }
            "lines" => {
                let lines = self.contract(text("contract")?)?.lines();
                lines.into_iter().map(|(_, line)| Value::from(line)).collect()
            }
            "advance" => {
                self.chain.pass(number("ms")?);
                Value::Null
            }
            "settle" => json!(self.chain.settle()),
            "waiting" => json!(self.chain.jobs().len()),
            "block" => {
                let block = self.chain.block();
                json!({ "height": block.height, "time_ms": block.time_ms })
            }
            "respond" => {
                let status = u16::try_from(number("status")?).map_err(|_| anyhow!("a status has 16 bits"))?;
                self.chain.respond(text("url")?, status, hex::decode(text("body")?)?);
                Value::Null
            }
            "fail" => {
                let error = if text("error")? == "Timeout" { HttpError::Timeout } else { HttpError::NetworkError };
                self.chain.fail(text("url")?, error);
                Value::Null
            }
            "snapshot" => {
                self.snapshots.push(self.chain.snapshot());
                json!(self.snapshots.len() - 1)
            }
            "restore" => {
                let index = usize::try_from(number("snapshot")?).unwrap_or(usize::MAX);
                self.chain.restore(self.snapshots.get(index).context("there is no such snapshot")?);
                Value::Null
            }
            "gas" => json!(self.chain.gas_report()),
            other => bail!("`{other}` is nothing that this version does"),
        })
    }

    fn contract(&self, address: &str) -> Result<&Contract> {
        self.contracts.get(&address_of(address)?).with_context(|| format!("the test has deployed no {address}"))
    }
}

fn answered(answer: &Answer) -> Value {
    json!({
        "text": answer.text, "json": answer.json, "is_err": answer.is_err, "reverted": answer.reverted, "gas": answer.gas,
    })
}

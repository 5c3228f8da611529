//! What a command or a deployment would cost, before anything is sent. `phala cost`, `send --dry-run`,
//! `deploy --dry-run`, and what `deploy` and `send` say by themselves.

use crate::{
    args::Call,
    commands::{
        account::{format_pha, parse_pha},
        contract::{Plan, Ready, prepare, refuse_failed},
    },
    output::{Output, REFUSED, Tone},
};
use anyhow::{Context, Result};
use phala_abi::Abi;
use phala_client::{Account, Cluster, Contract, Rehearsed, Said, Terms};
use phala_primitives::{Balance, Code, Coded, limits::MAX_COMMAND_GAS, records::contract_address};
use serde_json::{Value, json};
use std::{process::ExitCode, sync::Arc};

/// Tries a command and tells what it would use and answer.
pub(crate) async fn run(options: &Call, output: Output) -> Result<ExitCode> {
    let value = parse_pha(&options.value)?;
    let Ready { abi, contract, data } = prepare(options).await?;
    let tried = contract.home().rehearse(contract.address(), None, data.clone(), value, options.gas).await?;
    say(&tried, Some(&abi), output);
    let gas = tried.outcome.gas_used;
    output.say(output.paint(Tone::Dim, &format!("gas {gas} of {}; nothing was sent", options.gas)));
    let returned = match tried.outcome.result {
        Ok(returned) => returned,
        Err(error) => return Err(explain(&contract, data, value, error, output).await.into()),
    };
    let decoded = abi.decode(&options.message, &returned.data).context("the answer does not fit the metadata")?;
    let said: Vec<_> = tried.said.iter().map(|said| described(said, Some(&abi)).1).collect();
    let refused = returned.reverted() || decoded.is_err;
    let json = json!({ "gas": gas, "result": decoded.json, "reverted": returned.reverted(), "said": said });
    output.data(&json, format!("{}\n{gas} gas", decoded.text));
    if let Some(why) = decoded.explained {
        output.warn(why);
    }
    Ok(if refused { ExitCode::from(REFUSED) } else { ExitCode::SUCCESS })
}

/// Says what the contract would have said.
fn say(tried: &Rehearsed, abi: Option<&Abi>, output: Output) {
    for said in &tried.said {
        let (text, _) = described(said, abi);
        output.say(output.paint(Tone::Dim, &format!("would say: {text}")));
    }
}

/// An event or line, for people and for programs.
fn described(said: &Said, abi: Option<&Abi>) -> (String, Value) {
    match said {
        Said::Line { text, .. } => (text.trim_end().to_owned(), json!({ "line": text })),
        Said::Event { topics, data } => match abi.and_then(|abi| abi.event(topics, data).ok()) {
            Some((name, event)) => (format!("{name} {}", event.text), json!({ "event": name, "fields": event.json })),
            None => {
                let data = format!("0x{}", hex::encode(data));
                (format!("event {data}"), json!({ "data": data }))
            }
        },
    }
}

/// More about why a command failed: the gas that it needs, or what the contract printed before it trapped.
pub(crate) async fn explain(contract: &Contract, data: Vec<u8>, value: Balance, error: Coded, output: Output) -> Coded {
    if !matches!(error.known(), Some(Code::OutOfGas | Code::Trapped)) {
        return error;
    }
    let tried = contract.home().rehearse(contract.address(), None, data, value, MAX_COMMAND_GAS).await;
    let Ok(tried) = tried else { return error };
    if error.known() == Some(Code::Trapped) {
        say(&tried, None, output);
        return error;
    }
    match tried.outcome.result {
        Ok(_) => Coded::new(Code::OutOfGas, format!("it needs {} at present", tried.outcome.gas_used)),
        Err(_) => Coded::new(Code::OutOfGas, format!("even {MAX_COMMAND_GAS} would not do")),
    }
}

/// Cost of a deployment.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    /// What the constructor uses.
    pub(crate) gas: u64,
    /// Held for the code as long as it is stored; nothing if the chain has it already.
    pub(crate) deposit: Balance,
    /// Of the chain's extrinsic.
    pub(crate) fee: Balance,
    bytes: usize,
}

impl Cost {
    pub(crate) fn json(&self) -> Value {
        json!({
            "gas": self.gas, "deposit": self.deposit.to_string(), "fee": self.fee.to_string(), "code_bytes": self.bytes,
        })
    }

    /// In one line.
    pub(crate) fn line(&self) -> String {
        let (deposit, fee) = (format_pha(self.deposit), format_pha(self.fee));
        format!("deposit {deposit} for {} bytes of code, fee {fee}, gas {}", self.bytes, self.gas)
    }

    /// In some lines.
    pub(crate) fn text(&self, output: Output) -> String {
        let dim = |text: &str| output.paint(Tone::Dim, text);
        format!(
            "deposit  {}  {}\nfee      {}  {}\ngas      {}  {}",
            format_pha(self.deposit),
            dim(&format!("held for {} bytes of code", self.bytes)),
            format_pha(self.fee),
            dim("of the chain, about"),
            self.gas,
            dim("of the constructor")
        )
    }
}

/// Tries a deployment. A constructor that would fail is an error, before anything is paid.
pub(crate) async fn deployment(
    cluster: &Arc<Cluster>,
    account: &Account,
    plan: &Plan<'_>,
    terms: Terms,
) -> Result<Cost> {
    let chain = cluster.chain();
    let (hash, code) = (plan.bundle.code_hash, &plan.bundle.code);
    let address = contract_address(&account.id(), cluster.id(), &hash, &plan.salt);
    let (tried, deposit) = tokio::try_join!(
        cluster.rehearse(address, Some(code.clone()), plan.data.clone(), terms.value, terms.gas_limit),
        chain.code_deposit(&hash, code.len()),
    )?;
    let returned = tried.outcome.result.context("the constructor would fail; nothing was sent")?;
    let decoded = plan.abi.decode(plan.constructor, &returned.data).ok();
    refuse_failed(returned.reverted(), decoded.as_ref()).context("the constructor would refuse; nothing was sent")?;
    let calls = [
        phala_client::Call::upload_code(&hash, u32::try_from(code.len()).unwrap_or(u32::MAX)),
        phala_client::Call::create_contract(cluster.id(), &hash, &plan.salt, terms.upgradable),
    ];
    let fee = chain.fee(account, &phala_client::Call::batch_all(&calls)).await?;
    Ok(Cost { gas: tried.outcome.gas_used, deposit, fee, bytes: code.len() })
}

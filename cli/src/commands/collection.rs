//! `phala deploy collection.toml`: several contracts in one go.
//!
//! ```toml
//! [[contract]]
//! name = "token"
//! bundle = "../psp22"                  # a project, which is built, or a .contract file
//! arguments = ["1000000", "Some(\"Gold\")", "None", "12"]
//!
//! [[contract]]
//! name = "vault"
//! bundle = "../vault"
//! arguments = ["$token"]               # the address of another contract of the collection
//! value = "2.5"                        # PHA that its constructor receives
//! ```
//!
//! An address follows from deployer, cluster, code and salt, so all addresses are known before anything is made, and any
//! contract may name any other. The salt of each is its name, behind `--salt` if that is given.
//!
//! 1. Everything is built, encoded, and tried as far as it does not name others: what fails then has cost nothing.
//! 2. One extrinsic does all of the chain's part, or nothing of it.
//! 3. The contracts are instantiated in the order of the file. If one fails, those before stay; a table says which. The
//!    same command again finds what is there and goes on.

use crate::{
    args::Deploy,
    commands::{
        account::{format_pha, parse_pha},
        build,
        contract::{CERTIFICATE_LIFE, Plan, abi_of, bad_argument, load_bundle, make},
        estimate,
    },
    network::connect,
    output::{Output, Tone},
};
use anyhow::{Context, Result};
use comfy_table::{Table, presets};
use phala_abi::Abi;
use phala_build::Bundle;
use phala_client::{Account, Call, Chain, Cluster, Scope, Terms};
use phala_primitives::{AccountId, Balance, ClusterId, Code, Coded, records::contract_address};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Most contracts of a collection: their calls are one extrinsic.
const MOST: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Collection {
    contract: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    bundle: PathBuf,
    #[serde(default = "new")]
    constructor: String,
    #[serde(default)]
    arguments: Vec<String>,
    #[serde(default)]
    salt: Option<String>,
    #[serde(default)]
    upgradable: bool,
    /// PHA of the deployer in the cluster that the constructor receives.
    #[serde(default = "nothing")]
    value: String,
}

fn nothing() -> String {
    "0".into()
}

fn new() -> String {
    "new".into()
}

/// A contract of the collection, ready to be made.
struct Ready {
    entry: Entry,
    bundle: Bundle,
    abi: Abi,
    salt: Vec<u8>,
    address: AccountId,
    data: Vec<u8>,
    value: Balance,
}

/// What became of a contract.
enum State {
    Made { gas: u64 },
    There,
    Failed(String),
    Waits,
}

/// The collection that a path names: a `.toml` file, or a folder with `collection.toml`.
pub(crate) fn file(path: &Path) -> Option<PathBuf> {
    if path.extension().is_some_and(|end| end == "toml") {
        return Some(path.to_owned());
    }
    Some(path.join("collection.toml")).filter(|file| file.is_file())
}

/// Deploys a collection.
pub(crate) async fn deploy(file: &Path, options: &Deploy, output: Output) -> Result<()> {
    let account = Account::from_suri(&options.signer.suri)?;
    let chain = connect(&options.network).await?;
    let (contracts, cluster) = prepare(file, options, &account, &chain, output).await?;
    let credentials = account.certify(&chain, Scope::All, CERTIFICATE_LIFE);
    let cluster = Cluster::connect(chain, cluster, credentials).await?;
    let (calls, deposit) = chains_part(&cluster, &contracts, &account, options).await?;
    if options.dry_run {
        let json = json!({ "contracts": contracts.len(), "deposit": deposit.to_string(), "calls": calls.len() });
        let text = format!("{} contracts, deposits {}", contracts.len(), format_pha(deposit));
        output.data(&json, text);
        return Ok(());
    }
    if !calls.is_empty() {
        output.say(output.paint(Tone::Dim, &format!("deposits {} on the chain", format_pha(deposit))));
        let bar = output.spinner("the chain places the contracts");
        let submitted = cluster.chain().submit(&account, &Call::batch_all(&calls)).await;
        bar.finish_and_clear();
        submitted?;
    }
    let mut states: Vec<State> = vec![];
    let mut failed = None;
    for contract in &contracts {
        if failed.is_some() {
            states.push(State::Waits);
            continue;
        }
        let bar = output.spinner(&format!("deploying {}", contract.entry.name));
        let state = instantiate(&cluster, &account, contract, options).await;
        bar.finish_and_clear();
        states.push(match state {
            Ok(state) => state,
            Err(error) => {
                let text = format!("{error:#}");
                failed =
                    Some(error.context(format!(
                        "{}: those before it are made; the same command goes on",
                        contract.entry.name
                    )));
                State::Failed(text)
            }
        });
    }
    show(&contracts, &states, output);
    failed.map_or(Ok(()), Err)
}

/// Reads, builds and encodes everything, and chooses the cluster: all of it goes to one, that of its first contract.
async fn prepare(
    file: &Path,
    options: &Deploy,
    account: &Account,
    chain: &Chain,
    output: Output,
) -> Result<(Vec<Ready>, ClusterId)> {
    let bad = |detail: String| Coded::new(Code::BadCollection, format!("{}: {detail}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| bad(error.to_string()))?;
    let collection: Collection = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
    if collection.contract.is_empty() || collection.contract.len() > MOST {
        return Err(bad(format!("1 to {MOST} contracts")).into());
    }
    let prefix = match &options.salt {
        Some(text) => hex::decode(text.trim_start_matches("0x"))
            .map_err(|_| Coded::new(Code::BadArgument, format!("--salt `{text}` is not hex")))?,
        None => vec![],
    };
    let folder = file.parent().unwrap_or(Path::new("."));
    let (mut placed, mut cluster) = (vec![], options.cluster);
    let mut addresses = BTreeMap::new();
    for entry in collection.contract {
        let path = folder.join(&entry.bundle);
        let bundle = match path.join("Cargo.toml").is_file() {
            true => build::quietly(&path, output)?.bundle,
            false => load_bundle(&path).with_context(|| path.display().to_string())?,
        };
        let own = entry.salt.as_deref().unwrap_or(&entry.name);
        let salt = [prefix.as_slice(), own.as_bytes()].concat();
        let home = match cluster {
            Some(cluster) => cluster,
            None => *cluster.insert(chain.place(&account.id(), &bundle.code_hash, &salt).await?),
        };
        let address = contract_address(&account.id(), home, &bundle.code_hash, &salt);
        if addresses.insert(entry.name.clone(), address).is_some() {
            return Err(bad(format!("there are two contracts of the name `{}`", entry.name)).into());
        }
        placed.push((entry, bundle, salt, address));
    }
    let ready = |(entry, bundle, salt, address): (Entry, Bundle, Vec<u8>, AccountId)| {
        let abi = abi_of(&bundle)?;
        let arguments = entry.arguments.iter().map(|text| named(text, &addresses)).collect::<Result<Vec<_>, _>>();
        let arguments = arguments.map_err(|name| bad(format!("{}: there is no `${name}`", entry.name)))?;
        let data = abi.encode(&entry.constructor, &arguments).map_err(|error| bad_argument(&abi, &error));
        let data = data.with_context(|| entry.name.clone())?;
        let value = parse_pha(&entry.value).with_context(|| entry.name.clone())?;
        Ok(Ready { entry, bundle, abi, salt, address, data, value })
    };
    let ready = placed.into_iter().map(ready).collect::<Result<_>>()?;
    Ok((ready, cluster.unwrap_or_default()))
}

/// An argument with the addresses of those that it names. An error is a name that nobody has.
fn named(text: &str, addresses: &BTreeMap<String, AccountId>) -> Result<String, String> {
    let mut parts = text.split('$');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').unwrap_or(part.len());
        let (name, rest) = part.split_at(end);
        let address = addresses.get(name).ok_or(name)?;
        out.push_str(&format!("0x{}{rest}", hex::encode(address.0)));
    }
    Ok(out)
}

/// Tries what names no other contract, and gathers what the chain lacks: calls, and the deposits that they hold.
async fn chains_part(
    cluster: &Arc<Cluster>,
    contracts: &[Ready],
    account: &Account,
    options: &Deploy,
) -> Result<(Vec<Call>, Balance)> {
    let chain = cluster.chain();
    let (mut calls, mut deposits, mut codes) = (vec![], 0u128, vec![]);
    for contract in contracts {
        let (hash, size) = (contract.bundle.code_hash, contract.bundle.code.len());
        let there = chain.contract(&contract.address).await?.is_some();
        if !there && !contract.entry.arguments.iter().any(|argument| argument.contains('$')) {
            let tried = estimate::deployment(cluster, account, &contract.plan(), contract.terms(options)).await;
            tried.with_context(|| contract.entry.name.clone())?;
        }
        if !codes.contains(&hash) && chain.code(&hash).await?.is_none() {
            deposits = deposits.saturating_add(chain.code_deposit(&hash, size).await?);
            calls.push(Call::upload_code(&hash, u32::try_from(size).map_err(|_| Coded::from(Code::CodeTooLarge))?));
            codes.push(hash);
        }
        if !there {
            calls.push(Call::create_contract(cluster.id(), &hash, &contract.salt, contract.upgradable(options)));
        }
    }
    Ok((calls, deposits))
}

/// Brings code and constructor to the cluster.
async fn instantiate(cluster: &Arc<Cluster>, account: &Account, contract: &Ready, options: &Deploy) -> Result<State> {
    match make(cluster, account, contract.plan(), contract.terms(options), |_| {}).await {
        Ok((_, executed)) => Ok(State::Made { gas: executed.outcome.gas_used }),
        Err(error) => match error.downcast_ref::<Coded>().and_then(Coded::known) {
            Some(Code::ContractExists) => Ok(State::There),
            _ => Err(error),
        },
    }
}

impl Ready {
    fn plan(&self) -> Plan<'_> {
        Plan {
            abi: &self.abi,
            bundle: &self.bundle,
            constructor: &self.entry.constructor,
            data: self.data.clone(),
            salt: self.salt.clone(),
        }
    }

    fn terms(&self, options: &Deploy) -> Terms {
        Terms { gas_limit: options.gas, upgradable: self.upgradable(options), value: self.value }
    }

    fn upgradable(&self, options: &Deploy) -> bool {
        self.entry.upgradable || options.upgradable
    }
}

fn show(contracts: &[Ready], states: &[State], output: Output) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["contract", "address", "state"]);
    let mut json = vec![];
    for (contract, state) in contracts.iter().zip(states) {
        let (word, gas) = match state {
            State::Made { gas } => (format!("made, gas {gas}"), Some(*gas)),
            State::There => ("there already".into(), None),
            State::Failed(why) => (format!("failed: {why}"), None),
            State::Waits => ("waits".into(), None),
        };
        table.add_row([contract.entry.name.clone(), contract.address.to_string(), word.clone()]);
        let state = word.split([',', ':']).next().unwrap_or_default();
        json.push(json!({
            "name": contract.entry.name, "address": contract.address.to_string(), "state": state, "gas": gas,
            "code_hash": contract.bundle.code_hash.to_string(),
        }));
    }
    let lines: Vec<_> = table.to_string().lines().map(|line| line.trim().to_owned()).collect();
    output.data(&Value::from(json), lines.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_other_contracts() {
        let addresses = BTreeMap::from([("token".to_owned(), AccountId([7; 32]))]);
        let hex = format!("0x{}", "07".repeat(32));
        assert_eq!(named("$token", &addresses), Ok(hex.clone()));
        assert_eq!(named("[$token, ($token, 1)]", &addresses), Ok(format!("[{hex}, ({hex}, 1)]")));
        assert_eq!(named("plain", &addresses), Ok("plain".into()));
        assert_eq!(named("$tokens", &addresses), Err("tokens".into()));
    }

    #[test]
    fn a_collection_is_read_strictly() {
        let read = |text: &str| toml::from_str::<Collection>(text);
        let good = read("[[contract]]\nname = \"a\"\nbundle = \"a.contract\"\n").unwrap();
        let first = &good.contract[0];
        assert_eq!((first.constructor.as_str(), first.upgradable, first.value.as_str()), ("new", false, "0"));
        assert!(read("[[contract]]\nname = \"a\"\n").is_err());
        assert!(read("[[contract]]\nname = \"a\"\nbundle = \"b\"\nargs = []\n").is_err());
    }
}

//! `phala watch`: edit, and the contract that runs is the one you see.
//!
//! The first time a contract is deployed, upgradable, and its address is remembered in the project, for this network:
//! `.phala/watch.json`. From then on, whenever a source file changes, the contract is built and, if its code changed,
//! upgraded in place. What does not compile, and what would read the storage in another way, leaves the running contract
//! as it is. All the while its log is shown.
//!
//! Changes are found by looking at the times of the few source files that a contract has, some times a second. That is
//! the same on every system and file system, and needs no library.

use crate::{
    args::Watch,
    commands::{
        build,
        contract::{Plan, abi_of, bad_argument, fresh_salt, make},
        estimate, logs, upgrade,
    },
    network::connect,
    output::{Output, Tone},
};
use anyhow::{Context, Result, anyhow};
use phala_build::Bundle;
use phala_client::{Account, Chain, Cluster, Contract, Scope, Terms};
use phala_primitives::{AccountId, Code, Coded, Hash, limits::MAX_COMMAND_GAS};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::task::JoinHandle;

/// How often the files are looked at. A change is taken up when nothing more changed until the next look, for an editor
/// may write several times.
const LOOK: Duration = Duration::from_millis(50);
/// Most files that are looked at, and how deep folders are.
const MOST: usize = 4096;
const DEPTH: usize = 8;
/// Life of the certificate under which the log is read: as long as somebody may sit there.
const LOG_LIFE: Duration = Duration::from_secs(24 * 3600);

/// What a project remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    genesis: String,
    deployer: String,
    address: String,
}

/// The contract that is watched over.
struct Watched<'a> {
    options: &'a Watch,
    account: Account,
    chain: Arc<Chain>,
    output: Output,
    contract: Option<Contract>,
    /// Hash of the code that runs.
    runs: Option<Hash>,
    log: Option<JoinHandle<()>>,
}

/// Watches until Ctrl-C.
pub(crate) async fn run(options: &Watch, output: Output) -> Result<()> {
    let folder = options.path.canonicalize().with_context(|| options.path.display().to_string())?;
    let account = Account::from_suri(&options.signer.suri)?;
    let chain = connect(&options.network).await?;
    let mut watched = Watched { options, account, chain, output, contract: None, runs: None, log: None };
    let mut since = Instant::now();
    let work = async {
        loop {
            // Before the build, so that what changes during it counts.
            let seen = sources(&folder);
            if let Err(error) = watched.round(&folder, since).await {
                // Without a contract there is nothing to go on with, but for what the author can mend in the source.
                let mendable = error.downcast_ref::<Coded>().and_then(Coded::known);
                let mendable = matches!(mendable, Some(Code::BuildFailed | Code::BadModule | Code::CodeTooLarge));
                output.error(&error);
                if watched.contract.is_none() && !mendable {
                    return Err(anyhow!("nothing is deployed"));
                }
            }
            output.say(output.paint(Tone::Dim, "watching for changes; Ctrl-C ends"));
            since = change(&folder, seen).await;
        }
    };
    tokio::select! {
        ended = work => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// Times of the source files.
type Seen = BTreeMap<PathBuf, SystemTime>;

/// Waits until source files are other ones than were seen, and stay as they are for a moment. Returns when they changed.
async fn change(folder: &Path, mut seen: Seen) -> Instant {
    let mut since = None;
    loop {
        let now = sources(folder);
        match since {
            Some(since) if now == seen => return since,
            _ if now != seen => since = since.or_else(|| Some(Instant::now())),
            _ => {}
        }
        seen = now;
        tokio::time::sleep(LOOK).await;
    }
}

/// The files that make the contract: Rust and its manifest, but neither tests nor what is generated.
fn sources(folder: &Path) -> Seen {
    let mut seen = Seen::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((path, depth)) = folders.pop() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let Ok(facts) = entry.metadata() else { continue };
            if facts.is_dir() {
                let generated = name == "target" || name.starts_with('.') || (depth == 0 && name == "tests");
                if !generated && depth < DEPTH {
                    folders.push((path, depth + 1));
                }
            } else if (name.ends_with(".rs") || name == "Cargo.toml") && seen.len() < MOST {
                seen.insert(path, facts.modified().unwrap_or(SystemTime::UNIX_EPOCH));
            }
        }
    }
    seen
}

impl Watched<'_> {
    /// Builds, then deploys or upgrades.
    async fn round(&mut self, folder: &Path, since: Instant) -> Result<()> {
        let built = tokio::task::block_in_place(|| build::quietly(folder, self.output))?;
        let bundle = built.bundle;
        let took = since.elapsed();
        if self.runs == Some(bundle.code_hash) {
            self.output.say(self.output.paint(Tone::Dim, "the code is the same"));
            return Ok(());
        }
        if self.contract.is_none() {
            self.contract = self.recall(folder).await?;
        }
        let (what, version, address) = match self.contract.clone() {
            Some(contract) => {
                upgrade::check_layout(&contract.address(), &bundle, self.options.force, self.output)?;
                let version = upgrade::perform(&contract, &self.account, &bundle).await?;
                (if self.runs.is_some() { "upgraded" } else { "continued" }, version, contract.address())
            }
            None => ("deployed", 0, self.deploy(folder, &bundle).await?),
        };
        self.runs = Some(bundle.code_hash);
        if self.log.is_none() {
            self.log = self.contract.clone().map(|contract| follow(contract, self.output));
        }
        let all = since.elapsed();
        let text = format!(
            "{what} {address} version {version} in {:.1} s (build {:.1} s)",
            all.as_secs_f64(),
            took.as_secs_f64()
        );
        let json = json!({
            "event": what, "address": address.to_string(), "version": version,
            "code_hash": bundle.code_hash.to_string(), "ms": all.as_millis() as u64, "build_ms": took.as_millis() as u64,
        });
        self.output.data(&json, format!("{} {text}", self.output.paint(Tone::Good, "✓")));
        Ok(())
    }

    /// The contract of the last time, if this network has it and this account may upgrade it.
    async fn recall(&self, folder: &Path) -> Result<Option<Contract>> {
        let known = fs::read(file(folder)).ok().and_then(|bytes| serde_json::from_slice::<Memory>(&bytes).ok());
        let Some(known) = known.filter(|_| !self.options.reset) else { return Ok(None) };
        if known.genesis != self.chain.genesis().to_string() || known.deployer != self.account.id().to_string() {
            return Ok(None);
        }
        let Ok(address) = known.address.parse::<AccountId>() else { return Ok(None) };
        let record = self.chain.contract(&address).await?;
        if record.is_none_or(|record| !record.upgradable) {
            return Ok(None);
        }
        let credentials = self.account.certify(&self.chain, Scope::All, LOG_LIFE);
        Ok(Some(Contract::find(self.chain.clone(), address, credentials).await?))
    }

    async fn deploy(&mut self, folder: &Path, bundle: &Bundle) -> Result<AccountId> {
        let abi = abi_of(bundle)?;
        let constructor = &self.options.constructor;
        let data = abi.encode(constructor, &self.options.arguments).map_err(|error| bad_argument(&abi, &error))?;
        let credentials = self.account.certify(&self.chain, Scope::All, LOG_LIFE);
        let salt = fresh_salt()?;
        let cluster = match self.options.cluster {
            Some(cluster) => cluster,
            None => self.chain.place(&self.account.id(), &bundle.code_hash, &salt).await?,
        };
        let cluster = Cluster::connect(self.chain.clone(), cluster, credentials).await?;
        let plan = Plan { abi: &abi, bundle, constructor, data, salt };
        let terms = Terms { gas_limit: MAX_COMMAND_GAS, upgradable: true, value: 0 };
        let cost = estimate::deployment(&cluster, &self.account, &plan, terms).await?;
        self.output.say(self.output.paint(Tone::Dim, &cost.line()));
        let (address, _) = make(&cluster, &self.account, plan, terms, |_| {}).await?;
        self.contract = Some(cluster.contract(address));
        let memory = Memory {
            genesis: self.chain.genesis().to_string(),
            deployer: self.account.id().to_string(),
            address: address.to_string(),
        };
        let path = file(folder);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(&path, serde_json::to_vec_pretty(&memory)?).with_context(|| path.display().to_string())?;
        Ok(address)
    }
}

/// Shows what a contract says from now on.
fn follow(contract: Contract, output: Output) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = logs::follow(&contract, output).await {
            output.warn(format!("the log is not shown any more: {error:#}"));
        }
    })
}

fn file(folder: &Path) -> PathBuf {
    folder.join(".phala").join("watch.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_source_counts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        for name in ["tests/engine.rs", "target/x.rs", ".phala/watch.json", "README.md", "lib.rs.swp", "Cargo.lock"] {
            write(name);
        }
        assert!(sources(folder.path()).is_empty());
        for name in ["lib.rs", "Cargo.toml", "src/deep/more.rs", "pink/src/tests/a.rs"] {
            write(name);
        }
        assert_eq!(sources(folder.path()).len(), 4);
    }

    #[tokio::test]
    async fn a_change_is_taken_up_once_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.rs");
        fs::write(&path, "1").unwrap();
        let seen = sources(folder.path());
        let before = Instant::now();
        let (since, ()) = tokio::join!(change(folder.path(), seen), async {
            fs::File::open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        });
        assert!(since >= before && since.elapsed() >= LOOK);
    }
}

//! Our side: `phala dev` in a process of its own, with the token deployed.

use crate::load::{Account, Client, Connect, account, balance};
use anyhow::{Context, Result, bail, ensure};
use codec::{Decode, Encode};
use futures::{StreamExt, TryStreamExt, stream};
use phala_client::{Account as Keys, Action, Chain, Cluster, Contract, Scope, Session};
use phala_primitives::{AccountId, limits::MAX_COMMAND_GAS};
use serde_json::Value;
use std::{path::Path, process::Stdio, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// Commands under way while the accounts get their tokens.
const IN_FLIGHT: usize = 16;
/// How long the network may take until it can be asked.
pub(crate) const START: Duration = Duration::from_secs(120);

/// A running network and the token in it; the network ends with this value.
pub(crate) struct Network {
    cluster: Arc<Cluster>,
    worker: AccountId,
    token: AccountId,
    computer: Contract,
    balance_of: [u8; 4],
    _process: Child,
}

impl Network {
    /// Starts the binary `phala` that lies beside this program, deploys the bundle of the checkout's fixtures, and
    /// gives every account its tokens.
    pub(crate) async fn start(checkout: &Path, accounts: usize) -> Result<Self> {
        let (process, rpc) = timeout(START, start_process()).await.context("the network does not start")??;
        let bundle = std::fs::read(checkout.join("contracts/fixtures/psp22.contract"))?;
        let bundle: Value = serde_json::from_slice(&bundle)?;

        let alice = Keys::from_suri("//Alice")?;
        let chain = Arc::new(Chain::connect(&rpc, None).await?);
        let credentials = alice.certify(&chain, Scope::All, Duration::from_secs(3600));
        let cluster = Cluster::connect(chain, 0, credentials).await?;
        let token = deploy_token(&cluster, &alice, &bundle, accounts, 0).await?;

        let code = crate::worker::code()?;
        let (computer, _) =
            Contract::deploy(&cluster, &alice, code, b"bench".to_vec(), vec![], MAX_COMMAND_GAS).await?;

        let worker = cluster.replicas().first().context("the cluster has members")?.worker;
        let balance_of = selector(&bundle, "messages", "PSP22::balance_of")?;
        Ok(Self { cluster, worker, token, computer, balance_of, _process: process })
    }

    /// The contract that computes.
    pub(crate) fn computer(&self) -> Contract {
        self.computer.clone()
    }

    /// A session with the replica that all ask.
    pub(crate) async fn session(&self) -> Result<Session> {
        Ok(Session::open_at(&self.cluster, &self.worker).await?)
    }
}

/// Deploys the token of this bundle, gives every account its tokens, and returns its address. So many are left for the
/// owner.
pub(crate) async fn deploy_token(
    cluster: &Arc<Cluster>,
    owner: &Keys,
    bundle: &Value,
    accounts: usize,
    left: u128,
) -> Result<AccountId> {
    let code = hex::decode(text(&bundle["source"]["wasm"])?.trim_start_matches("0x"))?;
    let supply = left + (0..accounts).map(balance).sum::<u128>();
    let new = (selector(bundle, "constructors", "new")?, supply, None::<String>, None::<String>, 12u8);
    let (token, _) = Contract::deploy(cluster, owner, code, b"bench".to_vec(), new.encode(), MAX_COMMAND_GAS).await?;
    let transfer = selector(bundle, "messages", "PSP22::transfer")?;
    let transfers = (0..accounts).map(|number| {
        let data = (transfer, account(number), balance(number), Vec::<u8>::new()).encode();
        let action = Action::Call { contract: token.address(), data };
        async move {
            let executed = cluster.send(&cluster.sign(action, MAX_COMMAND_GAS)).await?;
            let output = executed.outcome.result?;
            // Two layers of `Result`: the language's and the token's.
            ensure!(output.data == [0, 0], "a transfer was refused: {:?}", output.data);
            Ok(())
        }
    });
    stream::iter(transfers).buffer_unordered(IN_FLIGHT).try_collect::<()>().await?;
    Ok(token.address())
}

/// Starts the network on free ports; with it the address of its JSON-RPC, which its first line of output names.
pub(crate) async fn start_process() -> Result<(Child, String)> {
    let binary = std::env::current_exe()?.with_file_name("phala");
    let mut process = Command::new(&binary)
        .args(["dev", "--json", "--rpc-port", "0", "--worker-port", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", binary.display()))?;
    let stdout = process.stdout.take().context("its stdout is piped")?;
    let line = BufReader::new(stdout).lines().next_line().await?.context("`phala dev` ended")?;
    let started: Value = serde_json::from_str(&line).with_context(|| format!("`phala dev` says: {line}"))?;
    let rpc = text(&started["rpc"])?.to_owned();
    Ok((process, rpc))
}

/// The selector that the bundle's metadata gives a constructor or message.
pub(crate) fn selector(bundle: &Value, kind: &str, label: &str) -> Result<[u8; 4]> {
    let functions = bundle["spec"][kind].as_array().with_context(|| format!("the bundle has no {kind}"))?;
    let function = functions.iter().find(|function| function["label"] == label);
    let function = function.with_context(|| format!("the bundle has no {label}"))?;
    let mut selector = [0; 4];
    hex::decode_to_slice(text(&function["selector"])?.trim_start_matches("0x"), &mut selector)?;
    Ok(selector)
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("{value} is no text"))
}

/// An encrypted session with one replica.
pub(crate) struct SessionClient {
    session: Session,
    token: AccountId,
    balance_of: [u8; 4],
}

impl SessionClient {
    pub(crate) fn new(session: Session, token: AccountId, balance_of: [u8; 4]) -> Self {
        Self { session, token, balance_of }
    }
}

impl Connect for Network {
    type Client = SessionClient;

    async fn connect(&self) -> Result<SessionClient> {
        let session = self.session().await?;
        Ok(SessionClient::new(session, self.token, self.balance_of))
    }
}

impl Client for SessionClient {
    async fn balance_of(&mut self, account: &Account) -> Result<u128> {
        let answered = self.session.query(self.token, (self.balance_of, account).encode()).await?;
        // ink! wraps every answer in a `Result` of the language.
        match Result::<u128, u8>::decode(&mut answered.output.data.as_slice())? {
            Ok(balance) => Ok(balance),
            Err(_) => bail!("the token did not understand the question"),
        }
    }
}

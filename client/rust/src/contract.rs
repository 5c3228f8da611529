//! Contracts: asked, called and deployed.

use crate::{
    Account, Call, Chain, Cluster,
    cluster::{Answered, Executed},
};
use parking_lot::Mutex;
use phala_primitives::{
    AccountId, Balance, Code, Coded, Hash, blake2_256, limits::MAX_CODE, records::contract_address,
};
use phala_session::Credentials;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How a contract is deployed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// Most gas that the constructor may use.
    pub gas_limit: u64,
    /// Whether its deployer may replace its code later. Everyone can see that.
    pub upgradable: bool,
    /// Money of the account in the cluster that the contract begins with.
    pub value: Balance,
}

/// With this gas, and code that stays as it is.
impl From<u64> for Terms {
    fn from(gas_limit: u64) -> Self {
        Self { gas_limit, upgradable: false, value: 0 }
    }
}

/// How long a call waits for a contract that moves to another cluster, and how often it is tried again.
const MOVE: Duration = Duration::from_secs(180);
const AGAIN: Duration = Duration::from_secs(1);

/// One contract, reached through its cluster. When it moves to another, it is asked there.
#[derive(Clone, Debug)]
pub struct Contract {
    cluster: Arc<Cluster>,
    address: AccountId,
    /// Where it has gone.
    moved: Arc<Mutex<Option<Arc<Cluster>>>>,
}

impl Contract {
    pub(crate) fn new(cluster: Arc<Cluster>, address: AccountId) -> Self {
        Self { cluster, address, moved: Arc::default() }
    }

    /// Finds a contract by its address.
    ///
    /// Errors: `NoContract` if the chain has none.
    pub async fn find(chain: Arc<Chain>, address: AccountId, credentials: Arc<Credentials>) -> Result<Self, Coded> {
        let record = chain.placed(&address).await?;
        Ok(Self::new(Cluster::connect(chain, record.cluster, credentials).await?, address))
    }

    /// Its address.
    pub fn address(&self) -> AccountId {
        self.address
    }

    /// The cluster that it was found in.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The cluster that runs it now, as far as this client has noticed.
    pub fn home(&self) -> Arc<Cluster> {
        self.moved.lock().as_ref().unwrap_or(&self.cluster).clone()
    }

    /// Goes after a contract that a cluster says has gone. Whether the chain says so, too, by now.
    async fn go_after(&self, from: &Cluster) -> Result<bool, Coded> {
        let record = from.chain().placed(&self.address).await?;
        if record.cluster == from.id() {
            return Ok(false);
        }
        let to = Cluster::connect(from.chain().clone(), record.cluster, from.credentials().clone()).await?;
        *self.moved.lock() = Some(to);
        Ok(true)
    }

    /// Asks it; `data` is selector and arguments.
    pub async fn query(&self, data: Vec<u8>) -> Result<Answered, Coded> {
        let begun = Instant::now();
        loop {
            let home = self.home();
            match home.query(self.address, data.clone()).await {
                Err(error) if error.known() == Some(Code::ContractMoved) && begun.elapsed() < MOVE => {
                    if !self.go_after(&home).await? {
                        tokio::time::sleep(AGAIN).await;
                    }
                }
                answer => return answer,
            }
        }
    }

    /// Calls it with the right to change its state, and waits for the outcome.
    pub async fn call(&self, data: Vec<u8>, gas_limit: u64) -> Result<Executed, Coded> {
        self.pay(data, 0, gas_limit).await
    }

    /// Calls it with money of the account in the cluster, which comes back if the call fails. While the contract moves to
    /// another cluster, waits for up to three minutes; the money is that of the account in the cluster that calls it.
    ///
    /// Errors in the outcome, besides the contract's: `TooLittle`, `ContractMoving`.
    pub async fn pay(&self, data: Vec<u8>, value: Balance, gas_limit: u64) -> Result<Executed, Coded> {
        self.pay_with(data, value, gas_limit, |_| {}).await
    }

    /// The same; `progress` is told how many bytes of a large input are there, see [`Cluster::call_with`].
    pub async fn pay_with(
        &self,
        data: Vec<u8>,
        value: Balance,
        gas_limit: u64,
        progress: impl Fn(usize),
    ) -> Result<Executed, Coded> {
        let begun = Instant::now();
        loop {
            let home = self.home();
            let executed = home.call_with(self.address, data.clone(), value, gas_limit, &progress).await?;
            // What was refused has done nothing, so a new command may be sent.
            let refused = executed.outcome.result.as_ref().err().and_then(Coded::known);
            let moves = matches!(refused, Some(Code::ContractMoving | Code::ContractMoved));
            if !moves || begun.elapsed() >= MOVE {
                return Ok(executed);
            }
            if refused == Some(Code::ContractMoving) || !self.go_after(&home).await? {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// Deploys a contract: what the chain lacks of code and contract in one extrinsic by `account`, the code to the
    /// cluster, and the constructor's execution. What is there already is not done again, so a deployment that broke
    /// off can be repeated. `cluster` must have been connected for the same account.
    ///
    /// Errors: `ContractExists` if it was instantiated already; that of the constructor if it failed.
    pub async fn deploy(
        cluster: &Arc<Cluster>,
        account: &Account,
        code: Vec<u8>,
        salt: Vec<u8>,
        data: Vec<u8>,
        terms: impl Into<Terms>,
    ) -> Result<(Self, Executed), Coded> {
        Self::deploy_with(cluster, account, code, salt, data, terms, |_| {}).await
    }

    /// The same; `progress` is told how many bytes of a large code are uploaded.
    pub async fn deploy_with(
        cluster: &Arc<Cluster>,
        account: &Account,
        code: Vec<u8>,
        salt: Vec<u8>,
        data: Vec<u8>,
        terms: impl Into<Terms>,
        progress: impl Fn(usize),
    ) -> Result<(Self, Executed), Coded> {
        let Terms { gas_limit, upgradable, value } = terms.into();
        let chain = cluster.chain();
        let (hash, mut calls) = begin(cluster, account, &code).await?;
        let address = contract_address(&account.id(), cluster.id(), &hash, &salt);
        if chain.contract(&address).await?.is_none() {
            calls.push(Call::create_contract(cluster.id(), &hash, &salt, upgradable));
        }
        if !calls.is_empty() {
            chain.submit(account, &Call::batch_all(&calls)).await?;
        }
        cluster.upload_with(code, gas_limit, progress).await?.outcome.result?;
        let executed = cluster.instantiate(hash, salt, data, value, gas_limit).await?;
        if let Err(error) = &executed.outcome.result {
            return Err(error.clone());
        }
        Ok((cluster.contract(address), executed))
    }

    /// Replaces the code of a contract that `account` deployed as upgradable: what the chain lacks in one extrinsic, the
    /// code to the cluster, and the upgrade's execution. The state stays. What was done already is not done again.
    ///
    /// Errors: `NotDeployer`, `NotUpgradable`, `CodeTooLarge`, and those of the steps.
    pub async fn upgrade(&self, account: &Account, code: Vec<u8>, gas_limit: u64) -> Result<u32, Coded> {
        let chain = self.cluster.chain();
        let (hash, mut calls) = begin(&self.cluster, account, &code).await?;
        let record = chain.placed(&self.address).await?;
        let decided = record.present_code == hash;
        if !decided && record.deployer != account.id() {
            return Err(Coded::new(Code::NotDeployer, "only the deployer may replace the code"));
        }
        if !decided && !record.upgradable {
            return Err(Coded::new(Code::NotUpgradable, ""));
        }
        let mut version = record.version;
        if !decided {
            calls.push(Call::upgrade_contract(&self.address, &hash));
            version = version.saturating_add(1);
        }
        if !calls.is_empty() {
            chain.submit(account, &Call::batch_all(&calls)).await?;
        }
        self.cluster.upload(code, gas_limit).await?.outcome.result?;
        match self.cluster.upgrade(self.address, hash, gas_limit).await?.outcome.result {
            Err(error) if decided && error.known() == Some(Code::OldVersion) => Ok(version),
            result => result.map(|_| version),
        }
    }
}

/// What bringing code begins with: its hash, if the cluster takes it from this account, and what the chain lacks of it.
async fn begin(cluster: &Cluster, account: &Account, code: &[u8]) -> Result<(Hash, Vec<Call>), Coded> {
    if account.id() != cluster.account() {
        return Err(Coded::new(Code::NotDeployer, "the cluster was connected for another account"));
    }
    let most = cluster.policy().code_bytes.min(MAX_CODE as u64);
    if code.len() as u64 > most {
        return Err(Coded::new(Code::CodeTooLarge, format!("{} bytes of at most {most}", code.len())));
    }
    let hash = blake2_256(code);
    let mut calls = vec![];
    if cluster.chain().code(&hash).await?.is_none() {
        calls.push(Call::upload_code(&hash, u32::try_from(code.len()).map_err(|_| Code::CodeTooLarge)?));
    }
    Ok((hash, calls))
}

//! Contracts: asked, called and deployed.

use crate::{
    Account, Call, Chain, Cluster,
    cluster::{Answered, Executed},
};
use phala_primitives::{
    AccountId, Balance, Code, Coded, Hash, blake2_256, limits::MAX_CODE, records::contract_address,
};
use phala_session::Credentials;
use std::sync::Arc;

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

/// One contract, reached through its cluster.
#[derive(Clone, Debug)]
pub struct Contract {
    cluster: Arc<Cluster>,
    address: AccountId,
}

impl Contract {
    pub(crate) fn new(cluster: Arc<Cluster>, address: AccountId) -> Self {
        Self { cluster, address }
    }

    /// Finds a contract by its address.
    ///
    /// Errors: `NoContract` if the chain has none.
    pub async fn find(chain: Arc<Chain>, address: AccountId, credentials: Arc<Credentials>) -> Result<Self, Coded> {
        let record = chain.placed(&address).await?;
        Ok(Self { cluster: Cluster::connect(chain, record.cluster, credentials).await?, address })
    }

    /// Its address.
    pub fn address(&self) -> AccountId {
        self.address
    }

    /// The cluster that runs it.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Asks it; `data` is selector and arguments.
    pub async fn query(&self, data: Vec<u8>) -> Result<Answered, Coded> {
        self.cluster.query(self.address, data).await
    }

    /// Calls it with the right to change its state, and waits for the outcome.
    pub async fn call(&self, data: Vec<u8>, gas_limit: u64) -> Result<Executed, Coded> {
        self.pay(data, 0, gas_limit).await
    }

    /// Calls it with money of the account in the cluster, which comes back if the call fails.
    ///
    /// Errors in the outcome, besides the contract's: `TooLittle`.
    pub async fn pay(&self, data: Vec<u8>, value: Balance, gas_limit: u64) -> Result<Executed, Coded> {
        self.cluster.call_with(self.address, data, value, gas_limit, |_| {}).await
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

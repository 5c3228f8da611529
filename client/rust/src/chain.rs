//! The chain, read through a light client and written through signed extrinsics.

use crate::{
    Account, Call,
    cluster::now_ms,
    events::{Event, Metadata},
    extrinsic::{self, Terms},
    keys,
    node::{Node, from_hex, to_hex},
};
use codec::{Decode, DecodeAll};
use jsonrpsee::{core::client::Subscription, core::params::ArrayParams, rpc_params};
use parking_lot::Mutex;
use phala_light::{Header, LightClient};
use phala_primitives::{
    AccountId, Balance, ClusterId, ClusterPolicy, Code, Coded, Fact, FinalizedHead, Hash, PublicKey,
    records::{ClusterRecord, CodeRecord, ContractRecord, Member, WorkerRecord},
    storage,
};
use serde::Deserialize;
use serde_json::Value;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::OnceCell, time::timeout};

/// How long an extrinsic may take until it is final.
const FINALITY: Duration = Duration::from_secs(60);
/// Age of the newest head above which it is not believed to say who the members of a cluster are. Workers stop to answer
/// when theirs is half as old.
const MAX_AGE: Duration = Duration::from_secs(60);
/// Age at which the newest head is asked for again.
const HEAD_AGE: Duration = Duration::from_secs(30);

/// A node of the chain, believed only as far as it proves what it says.
pub struct Chain {
    node: Node,
    light: Mutex<LightClient>,
    metadata: OnceCell<Metadata>,
    /// Held while an extrinsic gets its nonce and enters the pool, so that two do not get the same.
    submitting: tokio::sync::Mutex<()>,
    /// When the newest head was last asked for.
    refreshed: Mutex<Instant>,
}

/// What an account owns, in the smallest unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Decode)]
pub struct AccountInfo {
    /// Nonce of its next extrinsic.
    pub nonce: u32,
    consumers: u32,
    providers: u32,
    sufficients: u32,
    /// What it may spend, less what is frozen.
    pub free: Balance,
    /// Held for deposits.
    pub reserved: Balance,
    /// Part of `free` that it may not spend.
    pub frozen: Balance,
}

/// An extrinsic that is final and succeeded.
#[derive(Clone, Debug)]
pub struct Included {
    /// Number of its block.
    pub number: u32,
    /// Hash of its block.
    pub block: Hash,
    /// Hash of the extrinsic.
    pub hash: Hash,
    /// What it did.
    pub events: Vec<Event>,
}

impl Included {
    /// The first event of this name.
    pub fn event(&self, pallet: &str, name: &str) -> Option<&Event> {
        self.events.iter().find(|event| event.pallet == pallet && event.name == name)
    }
}

/// Finalised heads as they come, each verified.
pub struct Heads {
    chain: Arc<Chain>,
    news: Subscription<String>,
}

impl Heads {
    /// The next head. Fails when the connection breaks: subscribe again.
    pub async fn next(&mut self) -> Result<(Header, FinalizedHead), Coded> {
        let lost = || Coded::new(Code::NoNode, "the connection broke");
        let text = self.news.next().await.ok_or_else(lost)?.map_err(|_| lost())?;
        let head = decode::<FinalizedHead>(&from_hex(&text)?)?;
        let header = self.chain.light.lock().update(&head)?;
        Ok((header, head))
    }
}

impl fmt::Debug for Heads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heads").finish_non_exhaustive()
    }
}

fn decode<T: Decode>(mut bytes: &[u8]) -> Result<T, Coded> {
    T::decode_all(&mut bytes).map_err(|_| Coded::new(Code::Malformed, "the node's answer does not decode"))
}

impl Chain {
    /// Connects to a node (`ws://…` or `http://…`). The genesis hash is what all trust hangs on: pin it for any
    /// network that matters; without it the node's own is believed.
    ///
    /// Errors: `NoNode`, `GenesisChanged`, `BadReadProof`.
    pub async fn connect(url: &str, genesis: Option<Hash>) -> Result<Self, Coded> {
        let node = Node::new(url);
        let params = rpc_params![to_hex(&storage::validators())];
        let fact: Fact = decode(&node.bytes("phala_genesisFact", params).await?)?;
        let light = LightClient::bootstrap(genesis.unwrap_or_else(|| fact.head.hash()), &fact)?;
        let chain = Self {
            node,
            light: Mutex::new(light),
            metadata: OnceCell::new(),
            submitting: tokio::sync::Mutex::new(()),
            refreshed: Mutex::new(Instant::now()),
        };
        chain.refresh().await?;
        Ok(chain)
    }

    /// Address of the node.
    pub fn url(&self) -> &str {
        self.node.url()
    }

    /// Genesis hash, the name of the network.
    pub fn genesis(&self) -> Hash {
        self.light.lock().genesis()
    }

    /// The validators, as ed25519 keys.
    pub fn validators(&self) -> Vec<PublicKey> {
        self.light.lock().validators().to_vec()
    }

    /// Number and hash of the newest block that was shown to be final.
    pub fn head(&self) -> (u32, Hash) {
        let light = self.light.lock();
        (light.number(), light.hash())
    }

    /// When the newest block that was shown to be final was proposed, in milliseconds since 1970; 0 if that is the genesis.
    pub fn time_ms(&self) -> u64 {
        self.light.lock().time_ms()
    }

    /// Makes sure that whatever is read from now on is of the present: that the node's newest block is young, by this
    /// machine's clock. What is asked for later it must not prove by an older one.
    ///
    /// Errors: `StaleNode`.
    pub async fn present(&self) -> Result<(), Coded> {
        self.refresh().await?;
        let age = Duration::from_millis(now_ms().saturating_sub(self.time_ms()));
        if age > MAX_AGE {
            let detail = format!("block {} is {} s old", self.head().0, age.as_secs());
            return Err(Coded::new(Code::StaleNode, detail));
        }
        Ok(())
    }

    /// Asks for the newest head and verifies it.
    pub async fn refresh(&self) -> Result<(u32, Hash), Coded> {
        let head: FinalizedHead = decode(&self.node.bytes("phala_finalizedHead", rpc_params![]).await?)?;
        self.light.lock().update(&head)?;
        *self.refreshed.lock() = Instant::now();
        Ok(self.head())
    }

    /// The newest head that is known, asked for again now and then. Without a node that answers it grows old.
    pub(crate) async fn recent_head(&self) -> (u32, Hash) {
        let age = self.refreshed.lock().elapsed();
        if age > HEAD_AGE
            && let Err(error) = self.refresh().await
        {
            tracing::debug!(%error, "no newer head of the chain");
        }
        self.head()
    }

    /// The heads from now on.
    pub async fn heads(self: &Arc<Self>) -> Result<Heads, Coded> {
        let names = ("phala_subscribeFinalizedHeads", "phala_unsubscribeFinalizedHeads");
        Ok(Heads { chain: self.clone(), news: self.node.subscribe(names, rpc_params![]).await? })
    }

    /// A storage entry with its proof, verified. The node must not show a block older than the newest that it had shown
    /// when it was asked.
    pub async fn fact(&self, key: &[u8]) -> Result<Fact, Coded> {
        let oldest = self.head().0;
        let fact = self.fetch(key, rpc_params![to_hex(key)]).await?;
        self.light.lock().check(&fact, key, oldest)?;
        Ok(fact)
    }

    async fn fetch(&self, key: &[u8], params: ArrayParams) -> Result<Fact, Coded> {
        let fact: Fact = decode(&self.node.bytes("phala_fact", params).await?)?;
        if fact.key != key {
            return Err(Coded::new(Code::BadReadProof, "the fact is about another key"));
        }
        Ok(fact)
    }

    /// A value of the chain's storage at the newest block, verified.
    pub async fn read<T: Decode>(&self, key: &[u8]) -> Result<Option<T>, Coded> {
        let oldest = self.head().0;
        let fact = self.fetch(key, rpc_params![to_hex(key)]).await?;
        self.light.lock().check_value(&fact, key, oldest)
    }

    /// A worker's record.
    pub async fn worker(&self, worker: &AccountId) -> Result<Option<WorkerRecord>, Coded> {
        self.read(&storage::worker(worker)).await
    }

    /// A cluster in its present epoch.
    pub async fn cluster(&self, cluster: ClusterId) -> Result<Option<ClusterRecord>, Coded> {
        self.read(&storage::cluster(cluster)).await
    }

    /// What contracts of a cluster may use, as the chain says. The cluster follows within seconds.
    pub async fn policy(&self, cluster: ClusterId) -> Result<ClusterPolicy, Coded> {
        Ok(self.read(&storage::policy(cluster)).await?.unwrap_or_default())
    }

    /// Members of an epoch of a cluster.
    pub async fn epoch(&self, cluster: ClusterId, epoch: u64) -> Result<Option<Vec<Member>>, Coded> {
        self.read(&keys::epoch(cluster, epoch)).await
    }

    /// How many clusters there are; they are numbered from 0.
    pub async fn clusters(&self) -> Result<ClusterId, Coded> {
        Ok(self.read(&keys::next_cluster()).await?.unwrap_or_default())
    }

    /// How many contracts are placed in a cluster.
    pub async fn population(&self, cluster: ClusterId) -> Result<u32, Coded> {
        Ok(self.read(&keys::population(cluster)).await?.unwrap_or_default())
    }

    /// A contract's place.
    pub async fn contract(&self, address: &AccountId) -> Result<Option<ContractRecord>, Coded> {
        self.read(&storage::contract(address)).await
    }

    /// The same of one that has to be there.
    ///
    /// Errors: `NoContract` if it is not.
    pub async fn placed(&self, address: &AccountId) -> Result<ContractRecord, Coded> {
        self.contract(address).await?.ok_or_else(|| Coded::new(Code::NoContract, address.to_string()))
    }

    /// The key to which what other clusters send to this one is sealed, once it has published one.
    pub async fn mailbox(&self, cluster: ClusterId) -> Result<Option<PublicKey>, Coded> {
        self.read(&storage::mailbox(cluster)).await
    }

    /// The cluster that has not let go yet of a contract which has a new place.
    pub async fn leaving(&self, address: &AccountId) -> Result<Option<ClusterId>, Coded> {
        let leaving: Option<(ClusterId, u32)> = self.read(&storage::leaving(address)).await?;
        Ok(leaving.map(|(cluster, _)| cluster))
    }

    /// The record of a code.
    pub async fn code(&self, hash: &Hash) -> Result<Option<CodeRecord>, Coded> {
        self.read(&storage::code(hash)).await
    }

    /// What an account owns; nothing if there is no such account.
    pub async fn account(&self, account: &AccountId) -> Result<AccountInfo, Coded> {
        // `ExtraFlags` of pallet-balances follow: nothing that a client needs.
        let info: Option<(AccountInfo, u128)> = self.read(&keys::account(account)).await?;
        Ok(info.map(|(info, _)| info).unwrap_or_default())
    }

    /// Signs a call, submits it, and waits until it is final. Inclusion and events are verified.
    ///
    /// Errors: `BadExtrinsic` or `PoolFull` if it does not enter the pool, `NotFinal` if it is not included in time,
    /// `ExtrinsicFailed` with the name of the error if it is included but failed.
    pub async fn submit(&self, account: &Account, call: &Call) -> Result<Included, Coded> {
        let (extrinsic, mut news) = self.enter_pool(account, call).await?;
        let block = match timeout(FINALITY, finalized_in(&mut news)).await {
            Ok(block) => block?,
            Err(_) => return Err(Coded::new(Code::NotFinal, format!("in {} s", FINALITY.as_secs()))),
        };
        self.included(&extrinsic, block).await
    }

    /// What a call would cost `account` as an extrinsic, without deposits. The node's word.
    pub async fn fee(&self, account: &Account, call: &Call) -> Result<Balance, Coded> {
        let extrinsic = extrinsic::sign(account, call, &self.terms(account).await?);
        let info: Value = self.node.request("payment_queryInfo", rpc_params![to_hex(&extrinsic)]).await?;
        let fee = info.get("partialFee").and_then(Value::as_str).and_then(|text| text.parse().ok());
        fee.ok_or_else(|| Coded::new(Code::Malformed, "the node names no fee"))
    }

    /// What is held of whoever uploads code of this hash and size: nothing if the chain has it. The constants are the
    /// node's word.
    pub async fn code_deposit(&self, hash: &Hash, size: usize) -> Result<Balance, Coded> {
        if self.code(hash).await?.is_some() {
            return Ok(0);
        }
        let metadata = self.metadata().await?;
        let constant = |name: &str| -> Result<Balance, Coded> {
            let missing = || Coded::new(Code::Malformed, format!("the node's metadata has no constant {name}"));
            decode(metadata.constant("Clusters", name).ok_or_else(missing)?)
        };
        Ok(constant("CodeDeposit")?.saturating_add(constant("CodeDepositPerByte")?.saturating_mul(size as Balance)))
    }

    async fn enter_pool(&self, account: &Account, call: &Call) -> Result<(Vec<u8>, Subscription<Value>), Coded> {
        let _turn = self.submitting.lock().await;
        let extrinsic = extrinsic::sign(account, call, &self.terms(account).await?);
        let names = ("author_submitAndWatchExtrinsic", "author_unwatchExtrinsic");
        let news = self.node.subscribe(names, rpc_params![to_hex(&extrinsic)]).await?;
        Ok((extrinsic, news))
    }

    /// What the account's next extrinsic is bound to.
    async fn terms(&self, account: &Account) -> Result<Terms, Coded> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            spec_version: u32,
            transaction_version: u32,
        }
        let born = self.refresh().await?;
        let version: Version = self.node.request("state_getRuntimeVersion", rpc_params![]).await?;
        let nonce = self.node.request("system_accountNextIndex", rpc_params![account.id().to_string()]).await?;
        Ok(Terms {
            spec_version: version.spec_version,
            transaction_version: version.transaction_version,
            genesis: self.genesis(),
            born,
            nonce,
            tip: 0,
        })
    }

    /// Verifies that the block is final and holds the extrinsic, and reads what it did.
    async fn included(&self, extrinsic: &[u8], block: Hash) -> Result<Included, Coded> {
        let key = keys::events();
        let fact = self.fetch(&key, rpc_params![to_hex(&key), block.to_string()]).await?;
        if fact.head.hash() != block {
            return Err(Coded::new(Code::BadReadProof, "the events are of another block"));
        }
        let (header, events) = {
            let mut light = self.light.lock();
            (light.update(&fact.head)?, light.check(&fact, &key, 0)?.unwrap_or_default())
        };
        let body = self.body(&header, block).await?;
        let index = body.iter().position(|other| other == extrinsic).and_then(|index| u32::try_from(index).ok());
        let index = index.ok_or_else(|| Coded::new(Code::NotFinal, "the block does not hold the extrinsic"))?;
        let metadata = self.metadata().await?;
        let events = metadata.events_of(&events, index)?;
        metadata.check_success(&events)?;
        Ok(Included { number: header.number, block, hash: phala_primitives::blake2_256(extrinsic), events })
    }

    /// The extrinsics of a block, held against its header.
    async fn body(&self, header: &Header, block: Hash) -> Result<Vec<Vec<u8>>, Coded> {
        #[derive(Deserialize)]
        struct Signed {
            block: Block,
        }
        #[derive(Deserialize)]
        struct Block {
            extrinsics: Vec<String>,
        }
        let signed: Option<Signed> = self.node.request("chain_getBlock", rpc_params![block.to_string()]).await?;
        let signed = signed.ok_or_else(|| Coded::new(Code::UnknownBlock, block.to_string()))?;
        let body = signed.block.extrinsics.iter().map(|text| from_hex(text)).collect::<Result<Vec<_>, _>>()?;
        if phala_light::extrinsics_root(&body) != Hash(header.extrinsics_root.0) {
            return Err(Coded::new(Code::BadReadProof, "the extrinsics are not those of the header"));
        }
        Ok(body)
    }

    async fn metadata(&self) -> Result<&Metadata, Coded> {
        self.metadata
            .get_or_try_init(|| async { Metadata::decode(&self.node.bytes("state_getMetadata", rpc_params![]).await?) })
            .await
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("url", &self.url()).field("genesis", &self.genesis()).finish_non_exhaustive()
    }
}

/// Waits for the last word on an extrinsic, out of the items of `author_submitAndWatchExtrinsic`.
async fn finalized_in(news: &mut Subscription<Value>) -> Result<Hash, Coded> {
    while let Some(status) = news.next().await {
        let status = status.map_err(|_| Coded::new(Code::Malformed, "the status of the extrinsic is not JSON"))?;
        if let Some(block) = status.get("finalized") {
            let block = block.as_str().and_then(|text| text.parse().ok());
            return block.ok_or_else(|| Coded::new(Code::Malformed, "the block's hash is not hex"));
        }
        match status.as_str() {
            Some("invalid") => return Err(Coded::new(Code::BadExtrinsic, "it became invalid in the pool")),
            Some("dropped") => return Err(Coded::new(Code::PoolFull, "the pool dropped it")),
            None if status.get("usurped").is_some() => {
                return Err(Coded::new(Code::BadExtrinsic, "another one took its nonce"));
            }
            // On its way.
            _ => {}
        }
    }
    Err(Coded::new(Code::NoNode, "the connection broke while the extrinsic was under way"))
}

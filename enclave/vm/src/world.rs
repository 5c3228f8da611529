//! The state that contracts see before an execution, what is asked of the engine, and what comes back.

use crate::{Effect, Limits, WorldError};
use codec::Encode;
use phala_primitives::{AccountId, Balance, ClusterId, Hash};
use std::collections::{BTreeMap, BTreeSet};
use zeroize::Zeroizing;

/// State of a cluster before an execution. It must not change while an execution holds it.
pub trait World: Send + Sync + 'static {
    /// Value under a contract's key.
    fn storage(&self, contract: &AccountId, key: &[u8]) -> Result<Option<Vec<u8>>, WorldError>;

    /// Hash of a contract's code; `None` if there is no such contract.
    fn code_hash(&self, contract: &AccountId) -> Result<Option<Hash>, WorldError>;

    /// Code by its hash, as it was uploaded.
    fn code(&self, hash: &Hash) -> Result<Option<Vec<u8>>, WorldError>;

    /// What an account or contract owns, in the smallest unit. A world without money need not override it.
    fn balance(&self, _account: &AccountId) -> Result<Balance, WorldError> {
        Ok(0)
    }

    /// Whether the code is there; to be overridden where this is cheaper than reading it.
    fn has_code(&self, hash: &Hash) -> Result<bool, WorldError> {
        Ok(self.code(hash)?.is_some())
    }

    /// What names the state among the cluster's replicas, if there are any that may hold the same.
    fn root(&self) -> Option<Hash> {
        None
    }

    /// What an execution may use that starts from this state.
    fn limits(&self) -> Result<Limits, WorldError> {
        Ok(Limits::default())
    }

    /// The secret of a contract that has one of its own, because it began elsewhere.
    fn secret(&self, _contract: &AccountId) -> Result<Option<Zeroizing<[u8; 32]>>, WorldError> {
        Ok(None)
    }

    /// How many events a contract has emitted before this execution, and the head of the chain of their hashes.
    fn events(&self, _contract: &AccountId) -> Result<(u64, Hash), WorldError> {
        Ok((0, Hash::ZERO))
    }
}

/// How an execution is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The same on every replica to the last bit, and bounded by gas.
    Command {
        /// Gas that may be used.
        gas_limit: u64,
    },
    /// On one replica and bounded by time. Writes are seen by the query itself; the caller discards them.
    Query {
        /// Calls of [`Engine::tick`](crate::Engine::tick) after which it is stopped.
        ticks: u64,
    },
}

/// Which exported function runs first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The constructor of a new contract, whose address must be free.
    Deploy {
        /// Code of the new contract.
        code_hash: Hash,
    },
    /// A message to a contract that exists.
    Call,
}

/// Where in the log the execution stands, as the contract sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockInfo {
    /// Height of the log's entry.
    pub height: u64,
    /// Time of the entry in milliseconds since 1970.
    pub time_ms: u64,
    /// Position of the command in the entry.
    pub index: u32,
}

/// One execution to be done.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// How it is bounded.
    pub mode: Mode,
    /// What runs.
    pub entry: Entry,
    /// The contract that runs.
    pub contract: AccountId,
    /// Who calls it.
    pub caller: AccountId,
    /// Who signed; the same as `caller` unless a contract's timer or callback is the caller.
    pub origin: AccountId,
    /// Money of the caller that goes to the contract, unless it fails or reverts.
    pub value: Balance,
    /// Selector and arguments.
    pub data: Vec<u8>,
    /// Height and time.
    pub block: BlockInfo,
    /// The cluster.
    pub cluster: ClusterId,
}

/// Something a contract tells the world.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Event {
    /// Who tells it.
    pub contract: AccountId,
    /// What it may be searched by.
    pub topics: Vec<Hash>,
    /// SCALE-encoded content.
    pub data: Vec<u8>,
}

/// What an execution came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Execution {
    /// Bit 0: the contract reverted, and nothing below but output, gas and debug is there.
    pub flags: u32,
    /// Output, as the contract's metadata describes it.
    pub data: Vec<u8>,
    /// Gas used. Zero for queries, which time bounds.
    pub gas_used: u64,
    /// Storage to be written or, where `None`, removed. Contracts that ended are not in it.
    pub changes: BTreeMap<(AccountId, Vec<u8>), Option<Vec<u8>>>,
    /// New contracts with their code, and old ones that changed theirs.
    pub instantiated: BTreeMap<AccountId, Hash>,
    /// Contracts that ended: all their storage is to be removed.
    pub terminated: BTreeSet<AccountId>,
    /// What accounts own now whose balance was touched. Their sum is what it was, less what extensions paid out.
    pub balances: BTreeMap<AccountId, Balance>,
    /// Events in their order.
    pub events: Vec<Event>,
    /// What the extension leaves to be done, in its order.
    pub effects: Vec<Effect>,
    /// Debug messages, UTF-8 as far as the contract's are.
    pub debug: Vec<u8>,
}

impl Execution {
    /// Bit of `flags` that says the contract took everything back.
    pub const REVERT: u32 = 1;

    /// Whether the contract took everything back.
    pub fn reverted(&self) -> bool {
        self.flags & Self::REVERT != 0
    }
}

/// Address of a contract that another contract creates: BLAKE2b-256 of the domain and of creator, code hash, input and
/// salt in SCALE.
pub fn child_address(creator: &AccountId, code_hash: &Hash, input: &[u8], salt: &[u8]) -> AccountId {
    AccountId(phala_primitives::blake2_256(&(b"phala/contract/v1/child", creator, code_hash, input, salt).encode()).0)
}

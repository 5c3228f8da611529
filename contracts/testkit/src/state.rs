//! What commands change.

use crate::Said;
use phala_pink::Effect;
use phala_primitives::{AccountId, Hash};
use phala_vm::{BlockInfo, Execution, World, WorldError};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// When time begins: some day in 2023, in milliseconds since 1970.
const BEGIN_MS: u64 = 1_700_000_000_000;

/// The state of a cluster in memory.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) block: BlockInfo,
    pub(crate) codes: BTreeMap<Hash, Arc<Vec<u8>>>,
    pub(crate) owners: BTreeMap<AccountId, AccountId>,
    pub(crate) readers: BTreeSet<(AccountId, Option<AccountId>)>,
    /// Contracts so far; makes addresses differ.
    pub(crate) deployed: u64,
    contracts: BTreeMap<AccountId, Hash>,
    storage: BTreeMap<(AccountId, Vec<u8>), Vec<u8>>,
    said: Vec<(AccountId, Said)>,
    /// Requests and timers.
    pub(crate) jobs: Vec<(AccountId, Effect)>,
}

/// A state to go back to.
#[derive(Clone)]
pub struct Snapshot(pub(crate) Arc<State>);

impl Default for State {
    fn default() -> Self {
        Self {
            block: BlockInfo { height: 1, time_ms: BEGIN_MS, index: 0 },
            codes: BTreeMap::new(),
            owners: BTreeMap::new(),
            readers: BTreeSet::new(),
            deployed: 0,
            contracts: BTreeMap::new(),
            storage: BTreeMap::new(),
            said: Vec::new(),
            jobs: Vec::new(),
        }
    }
}

impl State {
    /// Forgets a timer of this contract.
    pub(crate) fn cancel(&mut self, contract: AccountId, timer: u64) {
        let same = |job: &Effect| matches!(job, Effect::Timer { id, .. } if *id == timer);
        self.jobs.retain(|(owner, job)| *owner != contract || !same(job));
    }
}

impl World for State {
    fn storage(&self, contract: &AccountId, key: &[u8]) -> Result<Option<Vec<u8>>, WorldError> {
        Ok(self.storage.get(&(*contract, key.to_vec())).cloned())
    }

    fn code_hash(&self, contract: &AccountId) -> Result<Option<Hash>, WorldError> {
        Ok(self.contracts.get(contract).copied())
    }

    fn code(&self, hash: &Hash) -> Result<Option<Vec<u8>>, WorldError> {
        Ok(self.codes.get(hash).map(|code| code.to_vec()))
    }
}

impl State {
    /// Keeps what an execution changed.
    pub(crate) fn apply(&mut self, execution: &Execution) {
        for (key, value) in &execution.changes {
            match value {
                Some(value) => drop(self.storage.insert(key.clone(), value.clone())),
                None => drop(self.storage.remove(key)),
            }
        }
        self.contracts.extend(&execution.instantiated);
        for contract in &execution.terminated {
            self.contracts.remove(contract);
            self.storage.retain(|(owner, _), _| owner != contract);
        }
        for event in &execution.events {
            self.say(event.contract, Said::Event { topics: event.topics.clone(), data: event.data.clone() });
        }
    }

    pub(crate) fn say(&mut self, contract: AccountId, said: Said) {
        self.said.push((contract, said));
    }

    /// What a contract said.
    pub(crate) fn said(&self, contract: &AccountId) -> Vec<Said> {
        self.said.iter().filter(|(who, _)| who == contract).map(|(_, said)| said.clone()).collect()
    }
}

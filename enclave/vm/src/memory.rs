//! A state in memory: what tests, benchmarks and the test kit put contracts into.

use crate::{Execution, World, WorldError};
use phala_primitives::{AccountId, Balance, Hash, blake2_256};
use std::{collections::BTreeMap, sync::Arc};

/// Contracts with their code and storage. Clones share code and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryWorld {
    /// Values by contract and key.
    pub storage: BTreeMap<(AccountId, Vec<u8>), Vec<u8>>,
    /// Contracts and the hashes of their code.
    pub contracts: BTreeMap<AccountId, Hash>,
    /// What accounts and contracts own.
    pub balances: BTreeMap<AccountId, Balance>,
    /// Code by its hash.
    pub codes: BTreeMap<Hash, Arc<[u8]>>,
}

impl World for MemoryWorld {
    fn storage(&self, contract: &AccountId, key: &[u8]) -> Result<Option<Vec<u8>>, WorldError> {
        Ok(self.storage.get(&(*contract, key.to_vec())).cloned())
    }

    fn code_hash(&self, contract: &AccountId) -> Result<Option<Hash>, WorldError> {
        Ok(self.contracts.get(contract).copied())
    }

    fn code(&self, hash: &Hash) -> Result<Option<Vec<u8>>, WorldError> {
        Ok(self.codes.get(hash).map(|code| code.to_vec()))
    }

    fn balance(&self, account: &AccountId) -> Result<Balance, WorldError> {
        Ok(self.balances.get(account).copied().unwrap_or(0))
    }

    fn has_code(&self, hash: &Hash) -> Result<bool, WorldError> {
        Ok(self.codes.contains_key(hash))
    }
}

impl MemoryWorld {
    /// Keeps code, unseen. [`Engine::validate`](crate::Engine::validate) is the judge of it.
    pub fn upload(&mut self, code: &[u8]) -> Hash {
        let hash = blake2_256(code);
        self.codes.entry(hash).or_insert_with(|| code.into());
        hash
    }

    /// Makes a contract of code without running its constructor.
    pub fn place(&mut self, contract: AccountId, code: &[u8]) -> Hash {
        let hash = self.upload(code);
        self.contracts.insert(contract, hash);
        hash
    }

    /// Keeps what an execution changed, as a replica would.
    pub fn apply(&mut self, execution: &Execution) {
        for (key, value) in &execution.changes {
            match value {
                Some(value) => drop(self.storage.insert(key.clone(), value.clone())),
                None => drop(self.storage.remove(key)),
            }
        }
        self.balances.extend(&execution.balances);
        self.contracts.extend(&execution.instantiated);
        for contract in &execution.terminated {
            self.contracts.remove(contract);
            self.storage.retain(|(owner, _), _| owner != contract);
        }
    }
}

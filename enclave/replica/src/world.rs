//! The state as contracts see it: a snapshot, and what the entry under way has changed so far.

use crate::{
    layout::{CODE, CONTRACTS, Contract, LOGS, POLICY, SECRETS, decode},
    logs::LogState,
};
use codec::{Decode, Encode};
use parking_lot::RwLock;
use phala_pink::CacheOp;
use phala_primitives::{AccountId, Balance, ClusterPolicy, Coded, Hash};
use phala_state::{Changes, Snapshot, Space};
use phala_vm::{Limits, World, WorldError};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// A snapshot with changes on top. The changes grow between executions only.
pub(crate) struct Layer {
    /// Whether it is for queries: they see contracts that only stand here, too.
    reads: bool,
    base: Snapshot,
    changes: RwLock<Changes>,
    /// Contracts that were looked up.
    contracts: RwLock<BTreeMap<AccountId, Option<Contract>>>,
    /// The policy, once it was looked up.
    policy: RwLock<Option<ClusterPolicy>>,
    /// What contracts asked of the workers' caches.
    cache: RwLock<Vec<(AccountId, CacheOp)>>,
}

impl Layer {
    /// For commands.
    pub(crate) fn new(base: Snapshot) -> Self {
        Self::of(base, false)
    }

    /// For queries.
    pub(crate) fn for_queries(base: Snapshot) -> Self {
        Self::of(base, true)
    }

    fn of(base: Snapshot, reads: bool) -> Self {
        let (changes, contracts) = (RwLock::default(), RwLock::default());
        Self { reads, base, changes, contracts, policy: RwLock::default(), cache: RwLock::default() }
    }

    pub(crate) fn base(&self) -> &Snapshot {
        &self.base
    }

    pub(crate) fn get(&self, space: &Space, key: &[u8]) -> Result<Option<Vec<u8>>, Coded> {
        let changes = self.changes.read();
        if !changes.is_empty()
            && let Some(value) = changes.get(&(*space, key.to_vec()))
        {
            return Ok(value.clone());
        }
        drop(changes);
        self.base.get(space, key).map_err(Coded::from)
    }

    pub(crate) fn read<T: Decode>(&self, space: &Space, key: &[u8]) -> Result<Option<T>, Coded> {
        self.get(space, key)?.map(|bytes| decode(&bytes)).transpose()
    }

    pub(crate) fn set(&self, space: &Space, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.changes.write().insert((*space, key), value);
    }

    pub(crate) fn write(&self, space: &Space, key: &[u8], value: &impl Encode) {
        self.set(space, key.to_vec(), Some(value.encode()));
    }

    /// Takes the first that is wanted out of the list that a space holds under the empty key.
    pub(crate) fn take_from<T: Encode + Decode>(
        &self,
        space: &Space,
        wanted: impl FnMut(&T) -> bool,
    ) -> Result<Option<T>, Coded> {
        let mut all: Vec<T> = self.read(space, &[])?.unwrap_or_default();
        let Some(at) = all.iter().position(wanted) else { return Ok(None) };
        let taken = all.remove(at);
        self.write(space, &[], &all);
        Ok(Some(taken))
    }

    /// What contracts may use from here on. Each execution asks, so it is read once.
    pub(crate) fn policy(&self) -> Result<ClusterPolicy, Coded> {
        if let Some(known) = *self.policy.read() {
            return Ok(known);
        }
        let found = self.read(&POLICY, &[])?.unwrap_or_default();
        *self.policy.write() = Some(found);
        Ok(found)
    }

    pub(crate) fn set_policy(&self, policy: ClusterPolicy) {
        *self.policy.write() = Some(policy);
        self.write(&POLICY, &[], &policy);
    }

    /// What is known of an address.
    pub(crate) fn contract(&self, address: &AccountId) -> Result<Option<Contract>, Coded> {
        if let Some(known) = self.contracts.read().get(address) {
            return Ok(*known);
        }
        let found = self.read(&CONTRACTS, address.as_ref())?;
        self.contracts.write().insert(*address, found);
        Ok(found)
    }

    pub(crate) fn set_contract(&self, address: &AccountId, contract: Contract) {
        self.contracts.write().insert(*address, Some(contract));
        self.write(&CONTRACTS, address.as_ref(), &contract);
    }

    pub(crate) fn has_code(&self, hash: &Hash) -> Result<bool, Coded> {
        let changes = self.changes.read();
        if !changes.is_empty() && changes.contains_key(&(*CODE, hash.as_ref().to_vec())) {
            return Ok(true);
        }
        drop(changes);
        self.base.contains(&CODE, hash.as_ref()).map_err(Coded::from)
    }

    /// Whether the entry has written to a space.
    pub(crate) fn has_changes_in(&self, space: &Space) -> bool {
        self.changes.read().range((*space, vec![])..).next().is_some_and(|((found, _), _)| found == space)
    }

    /// Notes what a contract asks of the workers' caches.
    pub(crate) fn ask_cache(&self, contract: AccountId, op: CacheOp) {
        self.cache.write().push((contract, op));
    }

    /// All that was asked of the caches.
    pub(crate) fn take_cache(&self) -> Vec<(AccountId, CacheOp)> {
        std::mem::take(&mut *self.cache.write())
    }

    /// All changes, to be committed.
    pub(crate) fn take(&self) -> Changes {
        std::mem::take(&mut *self.changes.write())
    }
}

fn failed(error: Coded) -> WorldError {
    WorldError(error.detail)
}

impl World for Layer {
    fn storage(&self, contract: &AccountId, key: &[u8]) -> Result<Option<Vec<u8>>, WorldError> {
        let Some(found) = self.contract(contract).map_err(failed)? else { return Ok(None) };
        self.get(&found.space(contract), key).map_err(failed)
    }

    fn code_hash(&self, contract: &AccountId) -> Result<Option<Hash>, WorldError> {
        let found = self.contract(contract).map_err(failed)?;
        Ok(found.filter(|found| self.reads || found.works()).and_then(|found| found.code))
    }

    fn balance(&self, account: &AccountId) -> Result<Balance, WorldError> {
        self.owned(account).map_err(failed)
    }

    fn code(&self, hash: &Hash) -> Result<Option<Vec<u8>>, WorldError> {
        self.get(&CODE, hash.as_ref()).map_err(failed)
    }

    fn has_code(&self, hash: &Hash) -> Result<bool, WorldError> {
        Layer::has_code(self, hash).map_err(failed)
    }

    fn root(&self) -> Option<Hash> {
        Some(self.base.applied().root)
    }

    fn secret(&self, contract: &AccountId) -> Result<Option<Zeroizing<[u8; 32]>>, WorldError> {
        if !self.contract(contract).map_err(failed)?.is_some_and(|found| found.foreign) {
            return Ok(None);
        }
        Ok(self.read(&SECRETS, contract.as_ref()).map_err(failed)?.map(Zeroizing::new))
    }

    fn limits(&self) -> Result<Limits, WorldError> {
        Ok(Limits::of(&self.policy().map_err(failed)?))
    }

    fn events(&self, contract: &AccountId) -> Result<(u64, Hash), WorldError> {
        let log: LogState = self.read(&LOGS, contract.as_ref()).map_err(failed)?.unwrap_or_default();
        Ok((log.events.count, log.events.head))
    }
}

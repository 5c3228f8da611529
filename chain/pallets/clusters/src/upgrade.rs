//! Other code for a contract that lives.
//!
//! A contract is what its code says, so its users have to know whether that may change. A contract is fixed unless it
//! was created as *upgradable*: its record says so, where everyone can read it with a proof.
//!
//! - Upon [`upgrade_contract`](crate::Call::upgrade_contract) by the deployer of an upgradable contract: the record
//!   names the new code as the present one, and its version grows by one. Address, state and the code that the address
//!   was made of stay. The cluster runs the new code once somebody shows it the record.
//! - Upon [`freeze_contract`](crate::Call::freeze_contract) by the deployer: the contract is fixed from now on. An
//!   upgrade that the chain decided before still counts.
//!
//! Invariant: a version never goes back, and no contract becomes upgradable that was not.
//!
//! Code stays paid for while a contract runs it or has its address from it; what was run in between may be given up.
//! Deliberately absent: a delay between decision and effect, and other rules of who may decide. A contract that wants
//! those replaces its own code (`set_code_hash`), by whatever rules its code holds.

use crate::pallet::{Code, CodeUsers, Config, Contracts, Error, Event, Pallet};
use frame_support::ensure;
use phala_primitives::{AccountId, Hash, limits::MAX_AUDIT, records::ContractRecord};
use sp_runtime::{AccountId32, DispatchResult};

impl<T: Config> Pallet<T> {
    pub(crate) fn upgrade(caller: AccountId32, address: AccountId, code_hash: Hash) -> DispatchResult {
        let mut record = Self::changeable(&caller, &address)?;
        ensure!(Code::<T>::contains_key(code_hash), Error::<T>::NoCode);
        Self::count(&record, -1);
        record.present_code = code_hash;
        record.version = record.version.saturating_add(1);
        Self::count(&record, 1);
        let version = record.version;
        Contracts::<T>::insert(address, record);
        Self::deposit_event(Event::ContractUpgraded { address, code_hash, version });
        Ok(())
    }

    pub(crate) fn freeze(caller: AccountId32, address: AccountId) -> DispatchResult {
        let record = Self::changeable(&caller, &address)?;
        Contracts::<T>::insert(address, ContractRecord { upgradable: false, ..record });
        Self::deposit_event(Event::ContractFrozen { address });
        Ok(())
    }

    pub(crate) fn do_set_audit(caller: AccountId32, address: AccountId, replicas: u32) -> DispatchResult {
        let record = Self::deployed(&caller, &address)?;
        ensure!((1..=MAX_AUDIT).contains(&replicas), Error::<T>::AuditRange);
        Contracts::<T>::insert(address, ContractRecord { audit: replicas, ..record });
        Self::deposit_event(Event::AuditSet { address, replicas });
        Ok(())
    }

    fn changeable(caller: &AccountId32, address: &AccountId) -> Result<ContractRecord, Error<T>> {
        let record = Self::deployed(caller, address)?;
        ensure!(record.upgradable, Error::<T>::NotUpgradable);
        Ok(record)
    }

    pub(crate) fn deployed(caller: &AccountId32, address: &AccountId) -> Result<ContractRecord, Error<T>> {
        let record = Contracts::<T>::get(address).ok_or(Error::<T>::NoContract)?;
        ensure!(record.deployer.as_ref() == AsRef::<[u8]>::as_ref(caller), Error::<T>::NotDeployer);
        Ok(record)
    }

    /// Counts a contract as a user of its present code, or no longer. Of the code that its address is made of, it is one
    /// for ever.
    fn count(record: &ContractRecord, step: i32) {
        if record.present_code != record.code_hash {
            CodeUsers::<T>::mutate(record.present_code, |users| *users = users.saturating_add_signed(step));
        }
    }
}

//! Code that contracts may have, and the places of new ones.

use crate::{
    limits::MAX_SALT,
    pallet::{Clusters, Code, CodeUsers, Config, Contracts, Error, Event, HoldReason, Pallet, Population},
};
use frame_support::{
    ensure,
    traits::{Get, fungible::MutateHold, tokens::Precision},
};
use phala_primitives::{
    AccountId, ClusterId, Hash,
    limits::MAX_CODE,
    records::{CodeRecord, ContractRecord, contract_address},
};
use sp_runtime::{AccountId32, DispatchResult};

impl<T: Config> Pallet<T> {
    pub(crate) fn do_upload_code(owner: AccountId32, code_hash: Hash, size: u32) -> DispatchResult {
        ensure!(size > 0 && size as usize <= MAX_CODE, Error::<T>::CodeSize);
        ensure!(!Code::<T>::contains_key(code_hash), Error::<T>::CodeExists);
        let deposit = T::CodeDepositPerByte::get().saturating_mul(size.into()).saturating_add(T::CodeDeposit::get());
        T::Currency::hold(&HoldReason::CodeDeposit.into(), &owner, deposit)?;
        Code::<T>::insert(code_hash, CodeRecord { owner: AccountId(owner.clone().into()), size, deposit });
        Self::deposit_event(Event::CodeUploaded { code_hash, owner, size });
        Ok(())
    }

    pub(crate) fn do_remove_code(owner: AccountId32, code_hash: Hash) -> DispatchResult {
        let record = Code::<T>::get(code_hash).ok_or(Error::<T>::NoCode)?;
        ensure!(record.owner.as_ref() == AsRef::<[u8]>::as_ref(&owner), Error::<T>::NotOwner);
        ensure!(CodeUsers::<T>::get(code_hash) == 0, Error::<T>::CodeInUse);
        T::Currency::release(&HoldReason::CodeDeposit.into(), &owner, record.deposit, Precision::BestEffort)?;
        Code::<T>::remove(code_hash);
        Self::deposit_event(Event::CodeRemoved { code_hash, owner });
        Ok(())
    }

    pub(crate) fn do_create_contract(
        deployer: AccountId32,
        cluster: ClusterId,
        code_hash: Hash,
        salt: &[u8],
        upgradable: bool,
    ) -> DispatchResult {
        ensure!(salt.len() <= MAX_SALT, Error::<T>::SaltTooLong);
        ensure!(Clusters::<T>::contains_key(cluster), Error::<T>::NoCluster);
        ensure!(Code::<T>::contains_key(code_hash), Error::<T>::NoCode);
        let account = AccountId(deployer.clone().into());
        let address = contract_address(&account, cluster, &code_hash, salt);
        ensure!(!Contracts::<T>::contains_key(address), Error::<T>::ContractExists);
        Contracts::<T>::insert(address, ContractRecord::new(cluster, code_hash, account, upgradable));
        CodeUsers::<T>::mutate(code_hash, |users| *users = users.saturating_add(1));
        Population::<T>::mutate(cluster, |contracts| *contracts = contracts.saturating_add(1));
        Self::deposit_event(Event::ContractCreated { address, cluster, code_hash, deployer });
        Ok(())
    }
}

//! Contracts that go to another cluster.
//!
//! The chain is the arbiter between the two clusters, by what it puts into their inboxes (`phala_primitives::bridge`):
//!
//! - Upon [`move_contract`](crate::Call::move_contract) by the deployer, to a cluster that has published its mailbox: the
//!   record says where it is to go, and the cluster that has it is told to let it rest.
//! - That cluster's package goes on to the other, if it is the one of this move.
//! - When the other says that it has all of it, the record names that cluster from now on, and the one that had it is told.
//!   From here on the move cannot be called off.
//! - That one lets go of it, with the contract's money; the other is told that it works now.
//! - Upon `move_contract` to nowhere, until the record names the other cluster: both are told that it stays.
//!
//! Invariant: at any time one cluster may let a contract work, and the other knows that it may not.
//! Invariant: what arrives for an account of a cluster that is a contract with another place goes to that place.

use crate::pallet::{
    Clusters, Config, Contracts, Error, Event, Leaving, Mailboxes, Moves, Pallet, Population, Weights,
};
use frame_support::{ensure, storage::with_storage_layer};
use phala_primitives::{
    AccountId, Balance, ClusterId,
    bridge::{Inbound, Package},
    limits::{MAX_MOVES, MAX_SEALED},
    records::ContractRecord,
};
use sp_runtime::{AccountId32, DispatchResult};

impl<T: Config> Pallet<T> {
    pub(crate) fn do_move(caller: AccountId32, address: AccountId, to: Option<ClusterId>) -> DispatchResult {
        let record = Self::deployed(&caller, &address)?;
        match to {
            Some(to) => Self::set_out(address, record, to)?,
            None => Self::stay(address, record)?,
        }
        Self::deposit_event(Event::ContractMoving { address, to });
        Ok(())
    }

    fn set_out(contract: AccountId, record: ContractRecord, to: ClusterId) -> Result<(), Error<T>> {
        let here = record.cluster;
        ensure!(record.moving.is_none() && !Leaving::<T>::contains_key(contract) && to != here, Error::<T>::Moving);
        ensure!(Clusters::<T>::contains_key(to), Error::<T>::NoCluster);
        let mailbox = Mailboxes::<T>::get(to).ok_or(Error::<T>::NoMailbox)?;
        Self::has_room(here)?;
        ensure!([here, to].into_iter().all(|cluster| Moves::<T>::get(cluster) < MAX_MOVES), Error::<T>::TooManyMoves);
        Self::count_moves(here, to, 1);
        let number = record.moves.saturating_add(1);
        Contracts::<T>::insert(contract, ContractRecord { moves: number, moving: Some(to), ..record });
        Self::append(here, Inbound::Leave { contract, number, to, mailbox });
        Ok(())
    }

    fn stay(contract: AccountId, record: ContractRecord) -> Result<(), Error<T>> {
        let to = record.moving.ok_or(Error::<T>::NotMoving)?;
        let (here, number) = (record.cluster, record.moves);
        Self::has_room(here)?;
        Self::count_moves(here, to, -1);
        Contracts::<T>::insert(contract, ContractRecord { moving: None, ..record });
        Self::append(here, Inbound::CalledOff { contract, number });
        Self::append(to, Inbound::CalledOff { contract, number });
        Ok(())
    }

    /// A cluster has packed a contract: the other is told, if the contract is still to go there.
    pub(crate) fn pass_on(from: ClusterId, package: Package) {
        let record = Contracts::<T>::get(package.contract);
        let move_of = record.filter(|record| record.cluster == from && record.moves == package.number);
        if let Some(to) = move_of.and_then(|record| record.moving)
            && package.sealed.len() <= MAX_SEALED
        {
            Self::append(to, Inbound::Arrive { from, package });
        }
    }

    /// A cluster has all of a contract that was to come.
    pub(crate) fn arrived(cluster: ClusterId, contract: AccountId, number: u32) {
        let Some(record) = Contracts::<T>::get(contract) else { return };
        if record.moving != Some(cluster) || record.moves != number {
            return;
        }
        let before = record.cluster;
        Contracts::<T>::insert(contract, ContractRecord { cluster, moving: None, ..record });
        Leaving::<T>::insert(contract, (before, number));
        Population::<T>::mutate(before, |contracts| *contracts = contracts.saturating_sub(1));
        Population::<T>::mutate(cluster, |contracts| *contracts = contracts.saturating_add(1));
        Weights::<T>::mutate(before, |weights| weights.retain(|(of, _)| *of != contract));
        Self::append(before, Inbound::Left { contract, number });
        Self::deposit_event(Event::ContractMoved { address: contract, cluster });
    }

    /// A cluster has let go of a contract that has a new place.
    pub(crate) fn let_go(from: ClusterId, contract: AccountId, number: u32, amount: Balance) {
        if Leaving::<T>::get(contract) != Some((from, number)) {
            return;
        }
        Leaving::<T>::remove(contract);
        let to = Self::home_of(from, &contract);
        Self::count_moves(from, to, -1);
        // The pot of a cluster that has a mailbox is open, and a cluster cannot say more than it has.
        let moved = with_storage_layer(|| Self::move_money(from, to, amount));
        let amount = if moved.is_ok() { amount } else { 0 };
        Self::append(to, Inbound::Begin { contract, number, amount });
    }

    /// Counts a move between two clusters, or no longer. Each sends the chain messages for it that nobody there asked for.
    fn count_moves(from: ClusterId, to: ClusterId, step: i32) {
        for cluster in [from, to] {
            Moves::<T>::mutate(cluster, |moves| *moves = moves.saturating_add_signed(step));
        }
    }

    /// The cluster that an account of a cluster is in now: another only if it is a contract that has moved.
    pub(crate) fn home_of(cluster: ClusterId, account: &AccountId) -> ClusterId {
        Contracts::<T>::get(account).map_or(cluster, |record| record.cluster)
    }
}

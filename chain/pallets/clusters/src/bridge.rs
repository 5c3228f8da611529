//! Traffic between the chain and clusters; `phala_primitives::bridge` tells how either side believes the other.
//!
//! Money in a cluster lies in its *pot*, an account of the chain without a key. Who creates the cluster, or deposits
//! first, also pays what an account needs to exist, which stays there; everything else in the pot belongs to accounts in
//! the cluster.
//!
//! A delivery ([`deliver`](crate::Call::deliver)) needs no trust in who brings it: the certificate of the entry that
//! vouches for the messages is checked as for [`rejoin`](crate::Call::rejoin), and the chain of hashes leaves no room
//! for gaps, repetition or change. Messages that fail are events; a withdrawal that fails goes back into the cluster.
//! Nothing that a cluster sends can stop those behind it.
//!
//! Parcels between clusters take their money from the one pot to the other. One that cannot go on, because its sender
//! is not placed where it comes from or the inbox it is for has no room, goes back at once; one that its receiver did
//! not take comes back by a message of that cluster. Either way it is then at the end of the sender's inbox, which has
//! room for it whatever else is in there. Parcels, which cost their cluster nothing here, and events fill half of an inbox
//! at most; the other half is for those who pay, and for what comes back.
//!
//! A contract's address is its account on the chain. What it has dispatched is signed by that account, which also pays
//! the fee; only calls that the runtime's filter names are let through, in batches as well. A cluster can speak for
//! the contracts that the chain has placed in it, and for nobody else.

use crate::pallet::{Bridges, Clusters, Config, Contracts, Error, Event, Inbox, Mailboxes, Pallet};
use codec::DecodeLimit;
use frame_support::{
    dispatch::{GetDispatchInfo, RawOrigin},
    ensure,
    storage::with_storage_layer,
    traits::{
        Contains, OriginTrait,
        fungible::{Inspect, Mutate},
        tokens::{Fortitude, Precision, Preservation},
    },
    weights::Weight,
};
use phala_primitives::{
    AccountId, Balance, ClusterId, Hash,
    bridge::{BridgeRecord, Inbound, Letter, Order, Outbound, Parcel, Undelivered, pot},
    limits::{MAX_CALL_DATA, MAX_DELIVERED, MAX_DISPATCH, MAX_INBOX, MAX_REST, MAX_SEALED, MIN_BALANCE},
};
use sp_runtime::{AccountId32, DispatchError, TokenError, traits::Dispatchable};

/// Most weight of a call that a contract has dispatched: five milliseconds.
pub const MAX_DISPATCH_WEIGHT: Weight = Weight::from_parts(5_000_000_000, u64::MAX);
/// Deepest nesting of such a call.
const MAX_DEPTH: u32 = 8;
/// Most messages of an inbox that are removed at once.
const MAX_REMOVED: u64 = 256;

/// What a call costs that a contract has dispatched.
pub trait DispatchFee {
    /// The fee of a call of this length in bytes and this weight.
    fn fee(length: u32, weight: Weight) -> Balance;
}

fn account(account: AccountId) -> AccountId32 {
    AccountId32::new(account.0)
}

impl<T: Config> Pallet<T> {
    /// Moves money into a cluster's pot.
    fn fill_pot(who: &AccountId32, cluster: ClusterId, amount: Balance) -> Result<(), DispatchError> {
        if amount == 0 {
            return Ok(());
        }
        let pot = account(pot(cluster));
        let missing = T::Currency::minimum_balance().saturating_sub(T::Currency::balance(&pot));
        T::Currency::transfer(who, &pot, amount.saturating_add(missing), Preservation::Preserve)?;
        Ok(())
    }

    /// Appends a message to a cluster's inbox and returns its number.
    pub(crate) fn append(cluster: ClusterId, message: Inbound) -> u64 {
        let mut bridge = Bridges::<T>::get(cluster);
        let number = bridge.inbox.next;
        bridge.inbox.push_inbound(&message);
        Inbox::<T>::insert(cluster, number, Letter { message, head: bridge.inbox });
        Bridges::<T>::insert(cluster, bridge);
        number
    }

    /// How many messages the cluster is not known to have taken.
    pub(crate) fn waiting(cluster: ClusterId) -> u64 {
        let bridge = Bridges::<T>::get(cluster);
        bridge.inbox.next.saturating_sub(bridge.taken)
    }

    pub(crate) fn has_room(cluster: ClusterId) -> Result<(), Error<T>> {
        ensure!(Self::waiting(cluster) < MAX_INBOX, Error::<T>::InboxFull);
        Ok(())
    }

    pub(crate) fn do_deposit(
        from: AccountId32,
        cluster: ClusterId,
        to: AccountId,
        amount: Balance,
    ) -> Result<(), DispatchError> {
        ensure!(Clusters::<T>::contains_key(cluster), Error::<T>::NoCluster);
        ensure!(amount >= MIN_BALANCE, Error::<T>::TooSmall);
        ensure!(Self::home_of(cluster, &to) == cluster, Error::<T>::NoContract);
        Self::has_room(cluster)?;
        Self::fill_pot(&from, cluster, amount)?;
        let number = Self::append(cluster, Inbound::Deposit { to, amount });
        Self::deposit_event(Event::Deposited { cluster, number, from, to, amount });
        Ok(())
    }

    pub(crate) fn do_send_message(
        from: AccountId32,
        contract: AccountId,
        data: Vec<u8>,
        value: Balance,
    ) -> Result<(), DispatchError> {
        let cluster = Contracts::<T>::get(contract).ok_or(Error::<T>::NoContract)?.cluster;
        ensure!(data.len() <= MAX_CALL_DATA, Error::<T>::MessageTooLong);
        ensure!(value == 0 || value >= MIN_BALANCE, Error::<T>::TooSmall);
        Self::has_room(cluster)?;
        Self::fill_pot(&from, cluster, value)?;
        let sender = AccountId(from.clone().into());
        let number = Self::append(cluster, Inbound::Call { from: sender, contract, value, data });
        Self::deposit_event(Event::MessageSent { cluster, number, from, contract, value });
        Ok(())
    }

    pub(crate) fn do_deliver(
        cluster: ClusterId,
        proof: &[u8],
        messages: Vec<Outbound>,
        rest: &[Hash],
    ) -> Result<(), DispatchError> {
        ensure!(messages.len() <= MAX_DELIVERED && rest.len() as u64 <= MAX_REST, Error::<T>::TooManyMessages);
        let before = Bridges::<T>::get(cluster);
        let mut record = Clusters::<T>::get(cluster).ok_or(Error::<T>::NoCluster)?;
        let crossing = Self::shown(cluster, &mut record, proof, true)?.header.executed.crossing;
        let mut delivered = before.outbox;
        messages.iter().for_each(|message| delivered.push_outbound(&message.hash()));
        let mut all = delivered;
        rest.iter().for_each(|hash| all.push_outbound(hash));
        ensure!(all == crossing.outbox, Error::<T>::OtherMessages);
        ensure!(!messages.is_empty() || crossing.taken > before.taken, Error::<T>::NothingNew);
        // Only a cluster that is broken as a whole has taken what there was not.
        ensure!(crossing.taken <= before.inbox.next, Error::<T>::BadProof);
        let taken = crossing.taken.min(before.taken.saturating_add(MAX_REMOVED)).max(before.taken);
        (before.taken..taken).for_each(|number| Inbox::<T>::remove(cluster, number));
        // Before anything is executed, as that may write to the inbox.
        Bridges::<T>::insert(cluster, BridgeRecord { taken, outbox: delivered, ..before });
        for (number, message) in (before.outbox.next..).zip(messages) {
            Self::execute(cluster, number, message);
        }
        Self::deposit_event(Event::Delivered { cluster, next: delivered.next, taken });
        Ok(())
    }

    fn execute(cluster: ClusterId, number: u64, message: Outbound) {
        let Outbound { from, order } = message;
        match order {
            Order::Withdraw { to, amount } => {
                let pay = || -> Result<(), DispatchError> {
                    let (pot, to) = (account(pot(cluster)), account(to));
                    T::Currency::transfer(&pot, &to, amount, Preservation::Preserve)?;
                    Ok(())
                };
                let result = with_storage_layer(pay);
                if result.is_err() {
                    Self::give_back(cluster, Inbound::Returned { to: from, amount, number });
                }
                Self::deposit_event(Event::Withdrawn { cluster, number, from, to: account(to), amount, result });
            }
            Order::Dispatch { call } => {
                let result = Self::dispatch_for(cluster, from, &call);
                Self::deposit_event(Event::Dispatched { cluster, number, contract: from, result });
            }
            Order::Parcel(parcel) => {
                let (to, value) = (parcel.cluster, parcel.value);
                let refused = Self::forward(cluster, number, from, parcel).err();
                if let Some(why) = refused {
                    Self::give_back(cluster, Inbound::SentBack { to: from, amount: value, number, why });
                }
                Self::deposit_event(Event::ParcelSent { cluster, number, from, to, refused });
            }
            Order::SendBack { cluster: home, to, amount, number: parcel, why } => {
                let result = with_storage_layer(|| -> Result<(), DispatchError> {
                    ensure!(Clusters::<T>::contains_key(home), Error::<T>::NoCluster);
                    Self::move_money(cluster, home, amount)
                });
                if result.is_ok() {
                    Self::give_back(home, Inbound::SentBack { to, amount, number: parcel, why });
                }
                Self::deposit_event(Event::ParcelSentBack { cluster, number, to: home, result });
            }
            Order::Package(package) if package.contract == from => Self::pass_on(cluster, package),
            // A cluster that is broken as a whole.
            Order::Package(_) => {}
            Order::Arrived { number } => Self::arrived(cluster, from, number),
            Order::LetGo { number, amount } => Self::let_go(cluster, from, number, amount),
            Order::Mailbox { key } => {
                Mailboxes::<T>::insert(cluster, key);
                Self::deposit_event(Event::MailboxOpened { cluster, key });
            }
        }
    }

    /// Puts into a cluster's inbox what comes back to an account of it, with money that lies in its pot. If the account is
    /// a contract that has moved, both go to where it is now.
    fn give_back(cluster: ClusterId, message: Inbound) {
        let (account, amount) = message.money();
        let present = Self::home_of(cluster, account);
        let moved = with_storage_layer(|| Self::move_money(cluster, present, amount));
        Self::append(if moved.is_ok() { present } else { cluster }, message);
    }

    /// Moves money from one cluster's pot to another's, which is open: what it cannot be without would else be missing
    /// to those in the cluster.
    pub(crate) fn move_money(from: ClusterId, to: ClusterId, amount: Balance) -> Result<(), DispatchError> {
        if amount > 0 && from != to {
            let open = T::Currency::balance(&account(pot(to))) >= T::Currency::minimum_balance();
            ensure!(open, DispatchError::Token(TokenError::BelowMinimum));
            T::Currency::transfer(&account(pot(from)), &account(pot(to)), amount, Preservation::Preserve)?;
        }
        Ok(())
    }

    /// Puts a parcel into the inbox of the cluster that it is for, and its money into that cluster's pot.
    fn forward(cluster: ClusterId, number: u64, from: AccountId, parcel: Parcel) -> Result<(), Undelivered> {
        let placed = Contracts::<T>::get(from).is_some_and(|record| record.cluster == cluster);
        ensure!(placed && parcel.sealed.len() <= MAX_SEALED, Undelivered::Sender);
        let to = parcel.cluster;
        let contract = parcel.contract;
        ensure!(Self::home_of(to, &contract) == to, Undelivered::Moving { contract });
        let room = Self::waiting(to) < MAX_INBOX / 2;
        ensure!(Clusters::<T>::contains_key(to) && room, Undelivered::NoRoom);
        with_storage_layer(|| Self::move_money(cluster, to, parcel.value)).map_err(|_| Undelivered::Money)?;
        Self::append(to, Inbound::Parcel { cluster, number, from, parcel });
        Ok(())
    }

    /// Gives a new cluster's pot what an account needs to exist, so that money of other clusters can come in.
    pub(crate) fn open_pot(creator: &AccountId32, cluster: ClusterId) -> Result<(), DispatchError> {
        let pot = account(pot(cluster));
        let missing = T::Currency::minimum_balance().saturating_sub(T::Currency::balance(&pot));
        with_storage_layer(|| T::Currency::transfer(creator, &pot, missing, Preservation::Preserve)).map(|_| ())
    }

    /// Dispatches an encoded call in the name of a contract.
    fn dispatch_for(cluster: ClusterId, contract: AccountId, call: &[u8]) -> Result<(), DispatchError> {
        let placed = Contracts::<T>::get(contract).is_some_and(|record| record.cluster == cluster);
        ensure!(placed, Error::<T>::NoContract);
        ensure!(call.len() <= MAX_DISPATCH, Error::<T>::MessageTooLong);
        let length = call.len() as u32;
        let call = <T as frame_system::Config>::RuntimeCall::decode_all_with_depth_limit(MAX_DEPTH, &mut &*call)
            .map_err(|_| Error::<T>::BadCall)?;
        let weight = call.get_dispatch_info().total_weight();
        ensure!(weight.all_lte(MAX_DISPATCH_WEIGHT), Error::<T>::CallTooHeavy);
        let who = account(contract);
        let fee = T::DispatchFee::fee(length, weight);
        T::Currency::burn_from(&who, fee, Preservation::Preserve, Precision::Exact, Fortitude::Polite)?;
        let mut origin: T::RuntimeOrigin = RawOrigin::Signed(who).into();
        // It also stands in the way of the calls within a batch.
        origin.add_filter(T::DispatchFilter::contains);
        with_storage_layer(|| call.dispatch(origin).map(|_| ()).map_err(|failed| failed.error))
    }
}

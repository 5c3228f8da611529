//! Events of the chain with which contracts want to be called.
//!
//! A contract has the chain dispatch [`watch`](crate::Call::watch) in its name, for a kind of event of any pallet, and
//! perhaps only for those that hold certain bytes, such as its own account as the receiver. At the end of each block,
//! events of that kind go into the inbox of the contract's cluster ([`Inbound::Event`]), in their order, exactly once.
//!
//! The contract's account on the chain pays for each, as much as for an extrinsic of that length; when it cannot, the
//! watch ends. A deposit is held as long as it lasts. What finds no room, because a block holds too many of them, an inbox
//! is half full, or the event is too long, is counted, and the next one that arrives says how many were missed.

use crate::{
    bridge::DispatchFee,
    pallet::{Config, Contracts, Error, Event, HoldReason, Pallet, Watched, Watches, WatchesOf},
};
use codec::{Decode, DecodeWithMemTracking, Encode};
use frame_support::{
    ensure,
    pallet_prelude::DispatchResult,
    traits::{
        Get,
        fungible::{Mutate, MutateHold},
        tokens::{Fortitude, Precision, Preservation},
    },
    weights::Weight,
};
use phala_primitives::{
    AccountId,
    bridge::Inbound,
    limits::{MAX_CALL_DATA, MAX_INBOX},
};
use scale_info::TypeInfo;
use sp_runtime::{AccountId32, SaturatedConversion};
use std::collections::BTreeMap;

/// Most watches of one contract.
pub const MAX_WATCHES: u32 = 16;
/// Most watches of one kind of event.
pub const MAX_WATCHERS: usize = 64;
/// Most bytes that an event must hold to be wanted.
pub const MAX_FILTER: usize = 64;
/// Most events of one block of which contracts are told.
pub const MAX_TOLD: u32 = 64;
/// To tell one contract of one event.
const TELL: Weight = Weight::from_parts(100_000_000, 0);

/// Bytes that an event must hold.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Filter {
    /// Where they begin in the event's encoded fields.
    pub at: u16,
    /// They.
    pub bytes: Vec<u8>,
}

/// What a contract is to be called with.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Watch {
    /// The contract.
    pub contract: AccountId,
    /// Selector of the message.
    pub selector: [u8; 4],
    /// Which events of the kind; `None`: all.
    pub filter: Option<Filter>,
    /// How many it was not told of since the last that it was.
    pub missed: u32,
}

/// Index of a pallet in the runtime, and of an event in the pallet.
pub type Kind = (u8, u8);

impl Watch {
    fn wants(&self, fields: &[u8]) -> bool {
        self.filter.as_ref().is_none_or(|Filter { at, bytes }| {
            fields.get(usize::from(*at)..).is_some_and(|rest| rest.starts_with(bytes))
        })
    }

    fn is(&self, contract: &AccountId, selector: &[u8; 4], filter: &Option<Filter>) -> bool {
        self.contract == *contract && self.selector == *selector && self.filter == *filter
    }
}

impl<T: Config> Pallet<T> {
    pub(crate) fn do_watch(who: &AccountId32, kind: Kind, filter: Option<Filter>, selector: [u8; 4]) -> DispatchResult {
        let contract = AccountId(who.clone().into());
        ensure!(Contracts::<T>::contains_key(contract), Error::<T>::NoContract);
        ensure!(filter.as_ref().is_none_or(|filter| filter.bytes.len() <= MAX_FILTER), Error::<T>::FilterTooLong);
        let mut watches = Watches::<T>::get(kind);
        ensure!(!watches.iter().any(|watch| watch.is(&contract, &selector, &filter)), Error::<T>::WatchExists);
        let own = WatchesOf::<T>::get(contract);
        ensure!(own < MAX_WATCHES && watches.len() < MAX_WATCHERS, Error::<T>::TooManyWatches);
        T::Currency::hold(&HoldReason::Watch.into(), who, T::WatchDeposit::get())?;
        watches.push(Watch { contract, selector, filter, missed: 0 });
        Watches::<T>::insert(kind, watches);
        WatchesOf::<T>::insert(contract, own.saturating_add(1));
        Watched::<T>::mutate(|all| *all = all.saturating_add(1));
        Self::deposit_event(Event::WatchBegan { contract, kind });
        Ok(())
    }

    pub(crate) fn do_unwatch(
        who: &AccountId32,
        kind: Kind,
        filter: &Option<Filter>,
        selector: &[u8; 4],
    ) -> DispatchResult {
        let contract = AccountId(who.clone().into());
        let mut watches = Watches::<T>::get(kind);
        let before = watches.len();
        watches.retain(|watch| !watch.is(&contract, selector, filter));
        ensure!(watches.len() < before, Error::<T>::NoWatch);
        Self::set_watches(kind, watches);
        Self::end_watch(&contract, kind);
        Ok(())
    }

    fn set_watches(kind: Kind, watches: Vec<Watch>) {
        match watches.is_empty() {
            true => Watches::<T>::remove(kind),
            false => Watches::<T>::insert(kind, watches),
        }
    }

    /// Gives back what is held for a watch that is in no list any more.
    fn end_watch(contract: &AccountId, kind: Kind) {
        let who = AccountId32::new(contract.0);
        // Part of it may be gone by other ways; what is left is the contract's.
        let _ = T::Currency::release(&HoldReason::Watch.into(), &who, T::WatchDeposit::get(), Precision::BestEffort);
        WatchesOf::<T>::mutate_exists(contract, |own| {
            *own = own.and_then(|own| own.checked_sub(1)).filter(|own| *own > 0)
        });
        Watched::<T>::mutate(|all| *all = all.saturating_sub(1));
        Self::deposit_event(Event::WatchEnded { contract: *contract, kind });
    }

    /// What telling takes at most at the end of a block.
    pub(crate) fn telling() -> Weight {
        match Watched::<T>::get() {
            0 => T::DbWeight::get().reads(1),
            _ => TELL.saturating_mul(MAX_TOLD.into()),
        }
    }

    /// Puts the block's events into the inboxes of those who want them.
    pub(crate) fn tell_watchers() {
        if Watched::<T>::get() == 0 {
            return;
        }
        let block = frame_system::Pallet::<T>::block_number().saturated_into();
        let mut told = 0u32;
        let mut lists: BTreeMap<Kind, Vec<Watch>> = BTreeMap::new();
        let mut ended = vec![];
        // All of them first: to pay makes events, too.
        let events: Vec<_> =
            frame_system::Pallet::<T>::read_events_no_consensus().map(|record| record.event.encode()).collect();
        for encoded in &events {
            let [pallet, event, fields @ ..] = encoded.as_slice() else { continue };
            let kind = (*pallet, *event);
            let watches = lists.entry(kind).or_insert_with(|| Watches::<T>::get(kind));
            watches.retain_mut(|watch| {
                if !watch.wants(fields) {
                    return true;
                }
                let Some(cluster) = Contracts::<T>::get(watch.contract).map(|record| record.cluster) else {
                    return true;
                };
                let room = Self::waiting(cluster) < MAX_INBOX / 2;
                if told >= MAX_TOLD || fields.len() > MAX_CALL_DATA || !room {
                    watch.missed = watch.missed.saturating_add(1);
                    return true;
                }
                let fee = T::DispatchFee::fee(fields.len() as u32, TELL);
                let who = AccountId32::new(watch.contract.0);
                let paid =
                    T::Currency::burn_from(&who, fee, Preservation::Preserve, Precision::Exact, Fortitude::Polite);
                if paid.is_err() {
                    ended.push((watch.contract, kind));
                    return false;
                }
                told = told.saturating_add(1);
                let Watch { contract, selector, missed, .. } = *watch;
                let data = fields.to_vec();
                Self::append(cluster, Inbound::Event { contract, selector, kind, block, missed, data });
                watch.missed = 0;
                true
            });
        }
        for (kind, watches) in lists {
            if watches != Watches::<T>::get(kind) {
                Self::set_watches(kind, watches);
            }
        }
        for (contract, kind) in ended {
            Self::end_watch(&contract, kind);
        }
    }
}

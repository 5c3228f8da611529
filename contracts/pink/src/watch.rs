//! Events of the chain that call the contract.
//!
//! The message is called by the contract itself, so it begins by making sure that nobody else calls it:
//!
//! ```ignore
//! #[ink(message, selector = 0x0000_0003)]
//! pub fn on_chain(&mut self, event: pink::ChainEvent) {
//!     assert_eq!(self.env().caller(), self.env().account_id());
//!     // …
//! }
//! ```

use crate::chain_call;
use ink::{prelude::vec::Vec, scale::Encode};

/// Which calls of the chain these are: pallet and call.
const WATCH: [u8; 2] = [11, 50];
const UNWATCH: [u8; 2] = [11, 51];

/// An event of the chain, with which the contract is called.
#[derive(Clone, Debug, PartialEq, Eq)]
#[ink::scale_derive(Encode, Decode, TypeInfo)]
pub struct ChainEvent {
    /// Index of the pallet in the runtime, as the chain's metadata has it.
    pub pallet: u8,
    /// Index of the event in the pallet.
    pub event: u8,
    /// The block that it happened in.
    pub block: u32,
    /// How many more there were since the last one of this watch: the block, or the way here, was full.
    pub missed: u32,
    /// The event's fields in SCALE.
    pub data: Vec<u8>,
}

/// Kind of events, and which of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    kind: (u8, u8),
    filter: Option<(u16, Vec<u8>)>,
}

impl Events {
    /// All events of a kind: index of the pallet in the runtime, and of the event in the pallet, as the chain's metadata
    /// has them.
    pub fn new(pallet: u8, event: u8) -> Self {
        Self { kind: (pallet, event), filter: None }
    }

    /// Only those that hold these bytes, at most 64, at this place in their fields.
    pub fn with(self, at: u16, bytes: impl Into<Vec<u8>>) -> Self {
        Self { filter: Some((at, bytes.into())), ..self }
    }

    /// Transfers of PHA on the chain to an account.
    pub fn payments_to(account: &[u8; 32]) -> Self {
        // `balances.Transfer`: from, to, amount.
        Self::new(2, 2).with(32, account.to_vec())
    }
}

/// Has the message with this selector called with each of these events, exactly once, in their order, some blocks after
/// it happened. The contract's account on the chain pays a fee for each and must keep a deposit of 0.1 PHA, so it needs
/// money there, which [`withdraw`](crate::withdraw) to the own address gives it; when it cannot pay, that is the end. It
/// takes some blocks to begin. At most 16 at once. In a query nothing happens.
///
/// ```
/// # let mock = pink::mock::install();
/// let me = [7; 32];
/// pink::watch(&pink::Events::payments_to(&me), [0, 0, 0, 3]);
/// let call = [&[11, 50, 2, 2, 1, 32, 0, 128][..], &me, &[0, 0, 0, 3]].concat();
/// assert_eq!(mock.chain_calls(), [call]);
/// ```
pub fn watch(events: &Events, selector: [u8; 4]) {
    order(WATCH, events, selector);
}

/// Ends that, with the very same arguments.
pub fn unwatch(events: &Events, selector: [u8; 4]) {
    order(UNWATCH, events, selector);
}

fn order(call: [u8; 2], events: &Events, selector: [u8; 4]) {
    chain_call(&(call, events.kind, &events.filter, selector).encode());
}

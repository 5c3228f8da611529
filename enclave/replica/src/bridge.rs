//! Messages between the chain and the cluster.
//!
//! # In
//! A member whose turn it is shows the cluster the next messages of the chain with the storage proof of the last one's
//! letter ([`Action::Inbox`]). If they follow upon what the state has taken, which the chain of hashes tells, each is
//! executed: a deposit, or money that the chain could not pay out, is added to the ledger; a call runs with a value
//! that its sender owns then. A command holds at most one call, at its end, because a place in the log names one
//! execution. A call that fails leaves a line in the contract's log, and its value with the sender.
//!
//! # Out
//! A command of an account ([`Action::Withdraw`]) or an effect of a contract appends a message to the outbox, which is
//! in the state. Entries name the outbox of the state that they build on, so the certificate of an entry vouches for
//! the messages; a member whose turn it is brings both to the chain. When the chain proves that it has delivered
//! messages ([`Action::Acknowledge`]), they leave the state.
//!
//! Invariant: a message of the chain takes effect once, in its order, whatever members do.
//! Invariant: a message to the chain is in the state until the chain has proven its delivery.
//!
//! [`Action::Inbox`]: phala_session::Action::Inbox
//! [`Action::Withdraw`]: phala_session::Action::Withdraw
//! [`Action::Acknowledge`]: phala_session::Action::Acknowledge

use crate::{
    Replica,
    layout::{BRIDGE, OUTBOX, OUTBOX_OF, read},
    parcels,
    world::Layer,
};
use codec::{Decode, Encode};
use parking_lot::Mutex;
use phala_pink::Effect;
use phala_primitives::{
    AccountId, Balance, Code, Coded, EntryHeader, Fact, Finality, Hash,
    bridge::{BridgeRecord, Crossing, Head, Inbound, Letter, Order, Outbound},
    limits::{MAX_DELIVERED, MAX_MOVES, MAX_OUTBOX, MAX_OUTBOX_OF_SENDER, MAX_REST},
};
use phala_state::Snapshot;
use std::collections::{BTreeMap, VecDeque};

/// Most messages of the chain that one command takes.
pub(crate) const MAX_TAKEN: usize = 64;
/// Most messages to the chain that one command forgets.
const MAX_FORGOTTEN: u64 = 256;
/// Heights whose traffic is remembered: more than the state that an entry names may be behind.
const REMEMBERED: usize = 128;

/// How far the traffic between chain and cluster has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct Traffic {
    /// Messages of the chain that were taken.
    pub inbox: Head,
    /// Messages to the chain.
    pub outbox: Head,
    /// Number of the first that the chain is not known to have delivered.
    pub first: u64,
    /// What came in, less what went out: the sum of the ledger.
    pub total: Balance,
}

/// The next messages of the chain, as many as one command takes: it ends with a call, and holds no message of another
/// contract while that could not go back.
#[derive(Default)]
pub struct Batch {
    /// In their order.
    pub messages: Vec<Inbound>,
    bytes: usize,
    max_bytes: usize,
    parcels: bool,
}

impl Batch {
    /// Takes the next message, if there is room for it. Returns whether there may be room for another.
    pub fn push(&mut self, message: Inbound) -> bool {
        self.bytes = self.bytes.saturating_add(message.encoded_size());
        let late = matches!(message, Inbound::Parcel { .. }) && !self.parcels;
        if late || (!self.messages.is_empty() && self.bytes > self.max_bytes) {
            return false;
        }
        let last = message.is_call();
        self.messages.push(message);
        !last && self.messages.len() < MAX_TAKEN
    }
}

/// Messages for the chain with all that it needs to believe them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// Header of a final entry.
    pub header: EntryHeader,
    /// Why it is final.
    pub finality: Finality,
    /// The next messages.
    pub messages: Vec<Outbound>,
    /// Hashes of those behind them, up to the last that the header vouches for.
    pub rest: Vec<Hash>,
}

impl Traffic {
    /// What the state holds.
    pub(crate) fn load(snapshot: &Snapshot) -> Result<Self, Coded> {
        Ok(read(snapshot, &BRIDGE, &[])?.unwrap_or_default())
    }

    fn store(&self, layer: &Layer) {
        layer.write(&BRIDGE, &[], self);
    }

    /// What headers of entries say of it.
    pub fn crossing(&self) -> Crossing {
        Crossing { taken: self.inbox.next, outbox: self.outbox }
    }

    /// The inbox after the next messages, if the chain's letter of the last one agrees.
    pub(crate) fn follow(&self, messages: &[Inbound], letter: &Letter) -> Option<Head> {
        let mut inbox = self.inbox;
        messages.iter().for_each(|message| inbox.push_inbound(message));
        (inbox == letter.head && messages.last() == Some(&letter.message)).then_some(inbox)
    }

    /// Notes that messages were taken, and how much money came with them.
    pub(crate) fn took(&mut self, layer: &Layer, inbox: Head, amount: Balance) {
        self.inbox = inbox;
        self.total = self.total.saturating_add(amount);
        self.store(layer);
    }

    /// How many messages the chain is not known to have delivered.
    fn length(&self) -> u64 {
        self.outbox.next.saturating_sub(self.first)
    }

    /// Whether one more message that nobody here asked for still leaves the outbox, with `queued` messages on their way
    /// into it, as short as the chain wants it, whatever is to be said of contracts that move.
    pub(crate) fn can_return(&self, queued: u64) -> bool {
        self.length().saturating_add(queued) < MAX_REST.saturating_sub(MAX_MOVES.into())
    }

    /// Whether so many more messages of these senders fit.
    pub(crate) fn has_room(&self, layer: &Layer, more: &BTreeMap<AccountId, u64>) -> Result<(), Coded> {
        let all = self.length().saturating_add(parcels::queued(layer)?).saturating_add(more.values().sum());
        if !more.is_empty() && all > MAX_OUTBOX {
            return Err(Coded::new(Code::OutboxFull, format!("{MAX_OUTBOX} of the cluster")));
        }
        for (sender, more) in more {
            if waiting(layer, sender)?.saturating_add(*more) > MAX_OUTBOX_OF_SENDER {
                return Err(Coded::new(Code::OutboxFull, format!("{MAX_OUTBOX_OF_SENDER} of one sender")));
            }
        }
        Ok(())
    }

    /// Appends a message for which there is room, or which nobody asked for. Its money has left the ledger.
    pub(crate) fn send(&mut self, layer: &Layer, from: AccountId, order: Order) -> Result<(), Coded> {
        self.leave(layer, &from, order.money())?;
        self.push(layer, from, order);
        Ok(())
    }

    /// Counts a message of a sender, and money that is no longer in the ledger.
    pub(crate) fn leave(&mut self, layer: &Layer, from: &AccountId, money: Balance) -> Result<(), Coded> {
        self.total = self.total.saturating_sub(money);
        layer.write(&OUTBOX_OF, from.as_ref(), &waiting(layer, from)?.saturating_add(1));
        self.store(layer);
        Ok(())
    }

    /// Takes that back, for a message that did not join the outbox.
    pub(crate) fn stay(&mut self, layer: &Layer, from: &AccountId, money: Balance) -> Result<(), Coded> {
        self.total = self.total.saturating_add(money);
        forget_one(layer, from)?;
        self.store(layer);
        Ok(())
    }

    /// Appends a message that was counted.
    pub(crate) fn push(&mut self, layer: &Layer, from: AccountId, order: Order) {
        let message = Outbound { from, order };
        layer.write(&OUTBOX, &self.outbox.next.to_be_bytes(), &message);
        self.outbox.push_outbound(&message.hash());
        self.store(layer);
    }

    /// Forgets what the chain has delivered.
    pub(crate) fn forget(&mut self, layer: &Layer, delivered: &BridgeRecord) -> Result<(), Coded> {
        let until = delivered.outbox.next.min(self.outbox.next).min(self.first.saturating_add(MAX_FORGOTTEN));
        if until <= self.first {
            return Ok(());
        }
        for number in self.first..until {
            let key = number.to_be_bytes();
            let lost = || Coded::new(Code::Internal, "the state has lost a message to the chain");
            let message: Outbound = layer.read(&OUTBOX, &key)?.ok_or_else(lost)?;
            layer.set(&OUTBOX, key.to_vec(), None);
            forget_one(layer, &message.from)?;
        }
        self.first = until;
        self.store(layer);
        Ok(())
    }
}

/// How many messages of a sender the chain is not known to have delivered.
fn waiting(layer: &Layer, sender: &AccountId) -> Result<u64, Coded> {
    Ok(layer.read(&OUTBOX_OF, sender.as_ref())?.unwrap_or(0))
}

/// Counts one message of a sender less.
fn forget_one(layer: &Layer, sender: &AccountId) -> Result<(), Coded> {
    match waiting(layer, sender)?.saturating_sub(1) {
        0 => layer.set(&OUTBOX_OF, sender.as_ref().to_vec(), None),
        left => layer.write(&OUTBOX_OF, sender.as_ref(), &left),
    }
    Ok(())
}

/// What a contract's effect says to the chain.
pub(crate) fn order(effect: &Effect) -> Option<Order> {
    match effect {
        Effect::Withdraw { to, amount } => Some(Order::Withdraw { to: *to, amount: *amount }),
        Effect::ChainCall { call } => Some(Order::Dispatch { call: call.clone() }),
        _ => None,
    }
}

/// Whether an effect takes room in the outbox.
pub(crate) fn leaves(effect: &Effect) -> bool {
    matches!(effect, Effect::Withdraw { .. } | Effect::ChainCall { .. } | Effect::Message { .. })
}

/// What a replica remembers of the traffic besides the state.
#[derive(Default)]
pub(crate) struct Memory(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    /// By height, newest last.
    heights: VecDeque<(u64, Crossing)>,
    vouched: Option<(EntryHeader, Finality)>,
}

impl Memory {
    /// Notes the traffic in the state after an entry.
    pub(crate) fn note(&self, height: u64, crossing: Crossing) {
        let heights = &mut self.0.lock().heights;
        if heights.len() >= REMEMBERED {
            heights.pop_front();
        }
        heights.push_back((height, crossing));
    }

    /// The traffic in the state after an entry; `None` if that is long ago or yet to come.
    pub(crate) fn at(&self, height: u64) -> Option<Crossing> {
        if height == 0 {
            return Some(Crossing::default());
        }
        let memory = self.0.lock();
        memory.heights.iter().rev().find(|(at, _)| *at == height).map(|(_, crossing)| *crossing)
    }

    /// Keeps a final entry if it vouches for more than the one before.
    pub(crate) fn vouch(&self, header: &EntryHeader, finality: &Finality) {
        let vouched = &mut self.0.lock().vouched;
        let news = vouched
            .as_ref()
            .is_none_or(|(old, _)| old.epoch != header.epoch || old.executed.crossing != header.executed.crossing);
        if news {
            *vouched = Some((header.clone(), finality.clone()));
        }
    }

    /// The entry of an epoch that vouches for the newest traffic.
    fn vouched(&self, epoch: u64) -> Option<(EntryHeader, Finality)> {
        self.0.lock().vouched.clone().filter(|(header, _)| header.epoch == epoch)
    }
}

impl Replica {
    /// How far the traffic with the chain has got.
    pub fn traffic(&self) -> Traffic {
        *self.executor.traffic()
    }

    /// For the next messages of the chain, of at most so many bytes, or for one.
    pub fn batch(&self, max_bytes: usize) -> Result<Batch, Coded> {
        Ok(Batch { max_bytes, parcels: self.takes_parcels()?, ..Batch::default() })
    }

    /// Whether this member should do the next thing of this number now. Members take turns of `turn_ms`.
    pub fn is_turn(&self, number: u64, turn_ms: u64, now_ms: u64) -> bool {
        let Some((place, members)) = self.executor.jobs().member() else { return false };
        let turn = now_ms.checked_div(turn_ms).unwrap_or(0).wrapping_add(number);
        turn.checked_rem(members) == Some(place)
    }

    /// Makes a leader propose an entry, if none of this epoch tells the chain yet what it does not know.
    pub fn announce(&self, known: &BridgeRecord) {
        let Ok(epoch) = self.ready_epoch() else { return };
        let now = self.traffic().crossing();
        let news = now.taken > known.taken || now.outbox.next > known.outbox.next;
        let told = self.memory.vouched(epoch).is_some_and(|(header, _)| header.executed.crossing == now);
        if news && !told {
            self.pool.lock().urge();
        }
    }

    /// What the chain does not know yet, as far as an entry of this epoch vouches for it: at most `bytes` of messages.
    pub fn delivery(&self, known: &BridgeRecord, bytes: usize) -> Result<Option<Delivery>, Coded> {
        let Some((header, finality)) = self.memory.vouched(self.ready_epoch()?) else { return Ok(None) };
        let (crossing, from) = (header.executed.crossing, known.outbox.next);
        if crossing.outbox.next < from || (crossing.outbox.next == from && crossing.taken <= known.taken) {
            return Ok(None);
        }
        let snapshot = self.state.snapshot();
        let mut delivery = Delivery { header, finality, messages: vec![], rest: vec![] };
        let mut room = bytes;
        for number in from..crossing.outbox.next {
            let message: Option<Outbound> = read(&snapshot, &OUTBOX, &number.to_be_bytes())?;
            // The chain has said in between that it was delivered.
            let Some(message) = message else { return Ok(None) };
            match room.checked_sub(message.encoded_size()) {
                Some(left) if delivery.rest.is_empty() && delivery.messages.len() < MAX_DELIVERED => {
                    room = left;
                    delivery.messages.push(message);
                }
                _ => delivery.rest.push(message.hash()),
            }
        }
        Ok(Some(delivery))
    }

    /// Brings messages of the chain to the cluster, as the word of this member. `proof` is about the last one's letter.
    /// The ticket resolves when it was executed, whether it was the first or not.
    pub fn bring(&self, messages: Vec<Inbound>, proof: Fact, now_ms: u64) -> Result<crate::Ticket, Coded> {
        // The outbox may have been too long for it before.
        let traffic = self.traffic();
        let place = (traffic.inbox.next, messages.len() as u64, traffic.first);
        let action = phala_session::Action::Inbox { messages, proof };
        self.command(&("phala/inbox/v1", place), action, now_ms)
    }

    /// Brings the chain's word for what it has delivered to the cluster.
    pub fn acknowledge(&self, delivered: u64, proof: Fact, now_ms: u64) -> Result<crate::Ticket, Coded> {
        let place = (self.traffic().first, delivered);
        self.command(&("phala/acknowledge/v1", place), phala_session::Action::Acknowledge { proof }, now_ms)
    }
}

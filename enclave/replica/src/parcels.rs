//! Messages between contracts, of this cluster or different ones.
//!
//! # Out
//! A contract's message leaves its balance and joins a queue in the state. It leaves the queue, in its order, as soon as
//! the state knows where its receiver is and to which key that cluster's parcels are sealed: then it is sealed and joins
//! the outbox (see [`crate::bridge`]). What the state does not know, a member reads on the chain and brings with proof
//! ([`Action::Route`]). A message to a contract of this cluster takes the same way, around the chain. If the chain has no
//! such contract, money and news go back to the sender at once.
//!
//! # In
//! A parcel is opened and its message executed like a call of the chain: the caller is the contract that sent it, which
//! the chain vouches for. If the contract is not here, fails or reverts, the outbox gets the order to send money and
//! news back. News is a line in the log of the contract that sent it. While so much waits in the outbox that there is no
//! room for such an order, parcels stay in the chain's inbox.
//!
//! Invariant: all parcels from one cluster to another take effect in the order in which they were sent, each once.
//! Invariant: the money of a message is in one ledger, or under way in one pot, never in two.
//!
//! [`Action::Route`]: phala_session::Action::Route

use crate::{
    Replica, Ticket,
    bridge::Traffic,
    execute::{Stop, refused},
    layout::{MAILBOXES, PARCELS, QUEUES, Queue, ROUTES, read},
    logs,
    world::Layer,
};
use codec::{Decode, Encode};
use phala_keys::Mailbox;
use phala_primitives::{
    AccountId, Balance, ClusterId, Code, Coded, Fact, Hash, PublicKey,
    bridge::{Order, Parcel, Undelivered},
};
use phala_vm::BlockInfo;

/// Most messages that leave the queue at once.
const MAX_SENT: usize = 64;

/// How old a block may be, in milliseconds, that says what there is not.
const MAX_AGE_MS: u64 = 60_000;

/// A message that waits in the queue.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Message {
    pub(crate) from: AccountId,
    pub(crate) to: AccountId,
    pub(crate) input: Vec<u8>,
    pub(crate) value: Balance,
}

/// This cluster's end of the traffic with others.
pub(crate) struct Post {
    genesis: Hash,
    cluster: ClusterId,
    mailbox: Mailbox,
}

/// What everyone can see of a parcel, and is bound to what is in it.
#[derive(Encode)]
struct Name<'a> {
    domain: &'static str,
    genesis: &'a Hash,
    source: ClusterId,
    number: u64,
    from: &'a AccountId,
    cluster: ClusterId,
    contract: &'a AccountId,
    value: Balance,
}

fn queue(layer: &Layer) -> Result<Queue, Coded> {
    Ok(layer.read(&QUEUES, &*PARCELS)?.unwrap_or_default())
}

/// How many messages wait in the queue.
pub(crate) fn queued(layer: &Layer) -> Result<u64, Coded> {
    let Queue { first, next } = queue(layer)?;
    Ok(next.saturating_sub(first))
}

/// What a parcel that did not arrive leaves in the log of its sender.
pub(crate) fn news(number: u64, why: Undelivered) -> String {
    let why = match why {
        Undelivered::Sender => "the chain knows no such contract here",
        Undelivered::NoRoom => "there is no such cluster, or too much waits there",
        Undelivered::Money => "the money could not be moved",
        Undelivered::NoContract => "there is no such contract",
        Undelivered::Failed => "the contract failed or refused",
    };
    format!("message {number} was not delivered: {why}")
}

impl Post {
    pub(crate) fn new(genesis: Hash, cluster: ClusterId, mailbox: Mailbox) -> Self {
        Self { genesis, cluster, mailbox }
    }

    fn name(&self, source: ClusterId, number: u64, from: &AccountId, parcel: &Parcel) -> Vec<u8> {
        let (genesis, cluster, contract, value) = (&self.genesis, parcel.cluster, &parcel.contract, parcel.value);
        Name { domain: "phala/parcel/v1", genesis, source, number, from, cluster, contract, value }.encode()
    }

    /// Where a contract is, and the key of its cluster, as far as the state knows.
    fn route(&self, layer: &Layer, to: &AccountId) -> Result<Option<(ClusterId, PublicKey)>, Coded> {
        if layer.contract(to)?.is_some_and(|contract| contract.code.is_some()) {
            return Ok(Some((self.cluster, self.mailbox.public())));
        }
        let Some(cluster) = layer.read::<ClusterId>(&ROUTES, to.as_ref())? else { return Ok(None) };
        Ok(layer.read(&MAILBOXES, &cluster.encode())?.map(|key| (cluster, key)))
    }

    /// Takes a message of a contract, from whose balance the money has gone, and for which there is room.
    pub(crate) fn post(
        &self,
        layer: &Layer,
        traffic: &mut Traffic,
        block: BlockInfo,
        message: Message,
    ) -> Result<(), Coded> {
        traffic.leave(layer, &message.from, message.value)?;
        let mut queue = queue(layer)?;
        layer.write(&PARCELS, &queue.next.to_be_bytes(), &message);
        queue.next = queue.next.saturating_add(1);
        layer.write(&QUEUES, &*PARCELS, &queue);
        self.send(layer, traffic, block)
    }

    /// Seals messages of the queue, up to the first for which there is no way yet.
    pub(crate) fn send(&self, layer: &Layer, traffic: &mut Traffic, block: BlockInfo) -> Result<(), Coded> {
        for _ in 0..MAX_SENT {
            let Some((number, message)) = head(layer)? else { return Ok(()) };
            let Some((cluster, key)) = self.route(layer, &message.to)? else { return Ok(()) };
            remove(layer, number)?;
            let Message { from, to: contract, input, value } = message;
            let mut parcel = Parcel { cluster, contract, value, sealed: vec![] };
            match self.seal(&key, traffic.outbox.next, &from, &parcel, &input) {
                Ok(sealed) => {
                    parcel.sealed = sealed;
                    traffic.push(layer, from, Order::Parcel(parcel));
                }
                // A cluster that published nonsense gets nothing.
                Err(_) => bounce(layer, traffic, block, (&from, &contract, value))?,
            }
        }
        Ok(())
    }

    /// Takes the chain's word for where the receiver of the first message of the queue is. `key` is what the chain says
    /// of the key of that cluster, if the command proves something about it. A message that has nowhere to go, because
    /// there is no such contract or its cluster has no key, goes back: it would be in the way of those behind it. That
    /// takes a block which is not old, by `known_ms`, when it was proposed: there may be now what there was not then.
    pub(crate) fn learn(
        &self,
        layer: &Layer,
        traffic: &mut Traffic,
        block: BlockInfo,
        contract: &AccountId,
        (home, key, known_ms): (Option<ClusterId>, Option<Option<PublicKey>>, u64),
    ) -> Result<(), Stop> {
        let Some((number, message)) = head(layer)?.filter(|(_, message)| message.to == *contract) else {
            return Ok(());
        };
        let known = match home {
            Some(cluster) => layer.get(&MAILBOXES, &cluster.encode())?.is_some(),
            None => false,
        };
        match (home, key) {
            (Some(_), None) if !known => return Err(refused(Code::BadProof, "nothing about the mailbox")),
            (Some(cluster), Some(Some(key))) => {
                layer.write(&ROUTES, contract.as_ref(), &cluster);
                layer.write(&MAILBOXES, &cluster.encode(), &key);
            }
            (Some(cluster), _) if known => layer.write(&ROUTES, contract.as_ref(), &cluster),
            _ if block.time_ms.saturating_sub(known_ms) > MAX_AGE_MS => {
                return Err(refused(Code::BadProof, "an old block does not tell what there is not now"));
            }
            _ => {
                remove(layer, number)?;
                bounce(layer, traffic, block, (&message.from, &message.to, message.value))?;
            }
        }
        Ok(self.send(layer, traffic, block)?)
    }

    /// Has the chain publish this cluster's key, once.
    pub(crate) fn open(&self, layer: &Layer, traffic: &mut Traffic) -> Result<(), Coded> {
        let (own, key) = (self.cluster.encode(), self.mailbox.public());
        if layer.get(&MAILBOXES, &own)?.is_none() {
            layer.write(&MAILBOXES, &own, &key);
            traffic.send(layer, AccountId([0; 32]), Order::Mailbox { key })?;
        }
        Ok(())
    }

    /// Seals what is to be in a parcel of this cluster.
    pub(crate) fn seal(
        &self,
        key: &PublicKey,
        number: u64,
        from: &AccountId,
        parcel: &Parcel,
        input: &[u8],
    ) -> Result<Vec<u8>, Coded> {
        self.mailbox.seal(key, &self.name(self.cluster, number, from, parcel), input)
    }

    /// What is in a parcel for this cluster.
    pub(crate) fn unseal(
        &self,
        source: ClusterId,
        number: u64,
        from: &AccountId,
        parcel: &Parcel,
    ) -> Result<Vec<u8>, Coded> {
        self.mailbox.open(&self.name(source, number, from, parcel), &parcel.sealed)
    }
}

/// The first message of the queue.
fn head(layer: &Layer) -> Result<Option<(u64, Message)>, Coded> {
    let Queue { first, next } = queue(layer)?;
    if first == next {
        return Ok(None);
    }
    let lost = || Coded::new(Code::Internal, "the state has lost a message between contracts");
    Ok(Some((first, layer.read(&PARCELS, &first.to_be_bytes())?.ok_or_else(lost)?)))
}

/// Takes the first message off the queue.
fn remove(layer: &Layer, number: u64) -> Result<(), Coded> {
    let mut queue = queue(layer)?;
    layer.set(&PARCELS, number.to_be_bytes().to_vec(), None);
    queue.first = number.saturating_add(1);
    layer.write(&QUEUES, &*PARCELS, &queue);
    Ok(())
}

/// Gives a message back that never left.
fn bounce(
    layer: &Layer,
    traffic: &mut Traffic,
    block: BlockInfo,
    (from, to, value): (&AccountId, &AccountId, Balance),
) -> Result<(), Coded> {
    traffic.stay(layer, from, value)?;
    layer.credit(from, value)?;
    let text = format!("a message to {to} was not delivered: no cluster has it, or none that takes messages");
    logs::line(layer, from, block, logs::ERROR, text)
}

impl Replica {
    /// The contract for which the first message of the queue waits, and its number: the chain knows where it is.
    pub fn unrouted(&self) -> Result<Option<(u64, AccountId)>, Coded> {
        let snapshot = self.state.snapshot();
        let queue: Queue = read(&snapshot, &QUEUES, &*PARCELS)?.unwrap_or_default();
        if queue.first == queue.next {
            return Ok(None);
        }
        let message: Option<Message> = read(&snapshot, &PARCELS, &queue.first.to_be_bytes())?;
        Ok(message.map(|message| (queue.first, message.to)))
    }

    /// Whether parcels can be taken: what fails of them has to go back.
    pub fn takes_parcels(&self) -> Result<bool, Coded> {
        let Queue { first, next } = read(&self.state.snapshot(), &QUEUES, &*PARCELS)?.unwrap_or_default();
        Ok(self.traffic().can_return(next.saturating_sub(first)))
    }

    /// Whether the cluster has told the chain its mailbox, as far as the state knows.
    pub fn has_mailbox(&self) -> Result<bool, Coded> {
        let key: Option<PublicKey> = read(&self.state.snapshot(), &MAILBOXES, &self.entries.cluster.encode())?;
        Ok(key.is_some())
    }

    /// Brings the chain's word for where a contract is, or that there is none, and for its cluster's mailbox.
    pub fn show_route(
        &self,
        number: u64,
        contract: AccountId,
        place: Fact,
        mailbox: Option<Fact>,
        now_ms: u64,
    ) -> Result<Ticket, Coded> {
        let about = ("phala/route/v1", number, place.head.hash(), mailbox.as_ref().map(|fact| fact.head.hash()));
        self.command(&about, phala_session::Action::Route { contract, place, mailbox }, now_ms)
    }

    /// Has the cluster tell the chain its mailbox.
    pub fn open_mailbox(&self, now_ms: u64) -> Result<Ticket, Coded> {
        self.command(&"phala/mailbox/v1", phala_session::Action::Mailbox, now_ms)
    }
}

//! Messages between contracts, of this cluster or different ones.
//!
//! # Out
//! A contract's message leaves its balance and joins the contract's queue in the state. It leaves the queue, in its order,
//! as soon as the state knows where its receiver is and to which key that cluster's parcels are sealed: then it is sealed
//! and joins the outbox (see [`crate::bridge`]). What the state does not know, a member reads on the chain and brings with
//! proof ([`Action::Route`]), for one contract's queue after the other: who writes to nobody holds up only itself. A
//! message to a contract of this cluster takes the same way, around the chain. If the chain has no such contract, money
//! and news go back to the sender at once.
//!
//! # In
//! A parcel is opened and its message executed like a call of the chain: the caller is the contract that sent it, which
//! the chain vouches for. If the contract is not here, fails or reverts, the outbox gets the order to send money and
//! news back. News is a line in the log of the contract that sent it. While so much waits in the outbox that there is no
//! room for such an order, parcels stay in the chain's inbox.
//!
//! What the receiver pays its caller, in this cluster's ledger, the caller could not reach from its own: it goes home in
//! the same way.
//!
//! Invariant: all messages of one contract take effect in the order in which it sent them, each once, as far as they are
//! for contracts of one cluster.
//! Invariant: the money of a message is in one ledger, or under way in one pot, never in two.
//!
//! [`Action::Route`]: phala_session::Action::Route

use crate::{
    Replica, Ticket,
    bridge::Traffic,
    execute::{Stop, refused},
    layout::{MAILBOXES, PARCELS, PARCELS_WAITING, QUEUES, Queue, ROUTES, read},
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

/// Most messages that leave the queues at once.
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

/// All queues in which messages wait.
#[derive(Clone, Default, PartialEq, Eq, Encode, Decode)]
struct Waiting {
    /// Whose queue it is, and the receiver of the first message in it: in the order in which it is their turn.
    heads: Vec<(AccountId, AccountId)>,
    /// How many messages there are.
    messages: u64,
}

fn waiting(layer: &Layer) -> Result<Waiting, Coded> {
    Ok(layer.read(&PARCELS_WAITING, &[])?.unwrap_or_default())
}

/// How many messages wait in the queues.
pub(crate) fn queued(layer: &Layer) -> Result<u64, Coded> {
    Ok(waiting(layer)?.messages)
}

/// What becomes known of a parcel leaves this in the log of its sender.
pub(crate) fn news(number: u64, why: Undelivered) -> (u8, String) {
    let why = match why {
        Undelivered::Change => return (logs::INFO, format!("the receiver of message {number} paid back")),
        Undelivered::Sender => "the chain knows no such contract here",
        Undelivered::NoRoom => "there is no such cluster, or too much waits there",
        Undelivered::Money => "the money could not be moved",
        Undelivered::NoContract => "there is no such contract",
        Undelivered::Failed => "the contract failed or refused",
        Undelivered::Moving { .. } => "the contract is moving to another cluster",
    };
    (logs::ERROR, format!("message {number} was not delivered: {why}"))
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
        let mut queue = queue(layer, &message.from)?;
        if queue.first == queue.next
            && let Some(way) = self.route(layer, &message.to)?
        {
            return self.dispatch(layer, traffic, block, message, way);
        }
        let mut waiting = waiting(layer)?;
        if queue.first == queue.next {
            waiting.heads.push((message.from, message.to));
        }
        waiting.messages = waiting.messages.saturating_add(1);
        layer.write(&PARCELS_WAITING, &[], &waiting);
        layer.write(&PARCELS, &key(&message.from, queue.next), &message);
        queue.next = queue.next.saturating_add(1);
        layer.write(&QUEUES, &of(&message.from), &queue);
        Ok(())
    }

    /// Takes back the messages of a contract for which no way was known, with their money, in their order.
    pub(crate) fn unpost(&self, layer: &Layer, traffic: &mut Traffic, from: &AccountId) -> Result<Vec<Message>, Coded> {
        let (mut queue, mut messages) = (queue(layer, from)?, vec![]);
        while queue.first < queue.next {
            let message = take(layer, from, &mut queue)?;
            traffic.stay(layer, from, message.value)?;
            layer.credit(from, message.value)?;
            messages.push(message);
        }
        if !messages.is_empty() {
            let mut waiting = waiting(layer)?;
            waiting.heads.retain(|(of, _)| of != from);
            waiting.messages = waiting.messages.saturating_sub(messages.len() as u64);
            layer.write(&PARCELS_WAITING, &[], &waiting);
            layer.write(&QUEUES, &of(from), &queue);
        }
        Ok(messages)
    }

    /// Seals a message and sends it off.
    fn dispatch(
        &self,
        layer: &Layer,
        traffic: &mut Traffic,
        block: BlockInfo,
        message: Message,
        (cluster, key): (ClusterId, PublicKey),
    ) -> Result<(), Coded> {
        let Message { from, to: contract, input, value } = message;
        let mut parcel = Parcel { cluster, contract, value, sealed: vec![] };
        match self.seal(&key, traffic.outbox.next, &from, &parcel, &input) {
            Ok(sealed) => {
                parcel.sealed = sealed;
                traffic.push(layer, from, Order::Parcel(parcel));
                Ok(())
            }
            // A cluster that published nonsense gets nothing.
            Err(_) => bounce(layer, traffic, block, (&from, &contract, value)),
        }
    }

    /// Goes on with the queues whose first message is for this contract: sends them off up to the next for which there is
    /// no way; or gives those for it back, if it is `nowhere`. Then it is other queues' turn.
    fn advance(
        &self,
        layer: &Layer,
        traffic: &mut Traffic,
        block: BlockInfo,
        (contract, nowhere): (&AccountId, bool),
    ) -> Result<(), Coded> {
        let mut waiting = waiting(layer)?;
        let mut left = MAX_SENT;
        let (turn, mut rest): (Vec<_>, Vec<_>) = waiting.heads.into_iter().partition(|(_, to)| to == contract);
        for (from, to) in turn {
            let mut queue = queue(layer, &from)?;
            let mut head = Some(to);
            while let Some(to) = head
                && left > 0
            {
                let way = self.route(layer, &to)?;
                if way.is_none() && !(nowhere && to == *contract) {
                    break;
                }
                let message = take(layer, &from, &mut queue)?;
                waiting.messages = waiting.messages.saturating_sub(1);
                left = left.saturating_sub(1);
                match way {
                    Some(way) => self.dispatch(layer, traffic, block, message, way)?,
                    None => bounce(layer, traffic, block, (&message.from, &message.to, message.value))?,
                }
                head = peek(layer, &from, &queue)?.map(|message| message.to);
            }
            rest.extend(head.map(|to| (from, to)));
            layer.write(&QUEUES, &of(&from), &queue);
        }
        waiting.heads = rest;
        layer.write(&PARCELS_WAITING, &[], &waiting);
        Ok(())
    }

    /// Takes the chain's word for where the receiver of a queue's first message is. `key` is what the chain says
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
        if !waiting(layer)?.heads.iter().any(|(_, to)| to == contract) {
            return Ok(());
        }
        // What a contract here has created, the chain does not know.
        if self.route(layer, contract)?.is_some() {
            return Ok(self.advance(layer, traffic, block, (contract, false))?);
        }
        let known = match home {
            Some(cluster) => layer.get(&MAILBOXES, &cluster.encode())?.is_some(),
            None => false,
        };
        let mut nowhere = false;
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
            _ => nowhere = true,
        }
        Ok(self.advance(layer, traffic, block, (contract, nowhere))?)
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

    /// Seals what another cluster is to know of a contract that leaves for it.
    pub(crate) fn seal_package(
        &self,
        key: &PublicKey,
        to: ClusterId,
        contract: (&AccountId, u32),
        manifest: &[u8],
    ) -> Result<Vec<u8>, Coded> {
        self.mailbox.seal(key, &self.package_name(self.cluster, to, contract), manifest)
    }

    /// Opens what this cluster is to know of a contract that comes.
    pub(crate) fn open_package(
        &self,
        from: ClusterId,
        contract: (&AccountId, u32),
        sealed: &[u8],
    ) -> Result<Vec<u8>, Coded> {
        self.mailbox.open(&self.package_name(from, self.cluster, contract), sealed)
    }

    fn package_name(&self, from: ClusterId, to: ClusterId, (contract, number): (&AccountId, u32)) -> Vec<u8> {
        ("phala/package/v1", self.genesis, from, to, contract, number).encode()
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

/// Numbers of a contract's messages that wait.
fn queue(layer: &Layer, from: &AccountId) -> Result<Queue, Coded> {
    Ok(layer.read(&QUEUES, &of(from))?.unwrap_or_default())
}

fn of(from: &AccountId) -> Vec<u8> {
    (*PARCELS, from).encode()
}

fn key(from: &AccountId, number: u64) -> Vec<u8> {
    (from, number.to_be_bytes()).encode()
}

/// The first message of a queue.
fn peek(layer: &Layer, from: &AccountId, queue: &Queue) -> Result<Option<Message>, Coded> {
    if queue.first == queue.next {
        return Ok(None);
    }
    let lost = || Coded::new(Code::Internal, "the state has lost a message between contracts");
    Ok(Some(layer.read(&PARCELS, &key(from, queue.first))?.ok_or_else(lost)?))
}

/// Takes it off the queue.
fn take(layer: &Layer, from: &AccountId, queue: &mut Queue) -> Result<Message, Coded> {
    let none = || Coded::new(Code::Internal, "the state has lost a queue of messages");
    let message = peek(layer, from, queue)?.ok_or_else(none)?;
    layer.set(&PARCELS, key(from, queue.first), None);
    queue.first = queue.first.saturating_add(1);
    Ok(message)
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
    /// A contract for which messages wait, whose turn it is, and a number for it: the chain knows where it is.
    pub fn unrouted(&self) -> Result<Option<(u64, AccountId)>, Coded> {
        let snapshot = self.state.snapshot();
        let waiting: Option<Waiting> = read(&snapshot, &PARCELS_WAITING, &[])?;
        let Some((from, to)) = waiting.and_then(|waiting| waiting.heads.first().copied()) else { return Ok(None) };
        let queue: Queue = read(&snapshot, &QUEUES, &of(&from))?.unwrap_or_default();
        Ok(Some((queue.first, to)))
    }

    /// Whether parcels can be taken: what fails of them has to go back.
    pub fn takes_parcels(&self) -> Result<bool, Coded> {
        let waiting: Waiting = read(&self.state.snapshot(), &PARCELS_WAITING, &[])?.unwrap_or_default();
        Ok(self.traffic().can_return(waiting.messages))
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
        let about =
            ("phala/route/v2", number, contract, place.head.hash(), mailbox.as_ref().map(|fact| fact.head.hash()));
        self.command(&about, phala_session::Action::Route { contract, place, mailbox }, now_ms)
    }

    /// Has the cluster tell the chain its mailbox.
    pub fn open_mailbox(&self, now_ms: u64) -> Result<Ticket, Coded> {
        self.command(&"phala/mailbox/v1", phala_session::Action::Mailbox, now_ms)
    }
}

//! Contracts that leave for another cluster; `phala_primitives::bridge` tells of the steps.
//!
//! Upon [`Inbound::Leave`] the contract rests: it is only read. What waits of it, its requests, timers, hooks and messages
//! for which no way was known, is taken out of their tables and becomes its *luggage*. From then on nothing of it
//! changes, so every later state holds the same. Entry by entry it is cut into *parts*, of which the state keeps where
//! they begin and their hashes; the members of the other cluster are told the root over these and a key, sealed to their
//! mailbox ([`Order::Package`]), and fetch the parts, sealed with that key, from whichever member here.
//!
//! Upon [`Inbound::Left`] it is gone: its money goes to the other cluster ([`Order::LetGo`]), and who asks for it here is
//! told where it is. Upon [`Inbound::CalledOff`] it unpacks its luggage and works again.
//!
//! What comes for it in between goes back to whoever sent it.
//!
//! Invariant: from the entry that lets it rest to the one that lets go of it, or lets it work again, nothing of what its
//! parts are made of changes.
//!
//! [`Inbound::Leave`]: phala_primitives::bridge::Inbound::Leave
//! [`Inbound::Left`]: phala_primitives::bridge::Inbound::Left
//! [`Inbound::CalledOff`]: phala_primitives::bridge::Inbound::CalledOff

use crate::{
    Replica,
    execute::{Executor, Stop, end_space, lost, refused},
    hooks,
    jobs::{Timer, Wanted},
    layout::{CODE, Contract, DEPARTURES, LOGS, MAILBOXES, ROUTES, SECRETS, Standing},
    logs::{self, LogState},
    parcels::Message,
    world::Layer,
};
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use codec::{Decode, Encode};
use phala_pink::Hook;
use phala_primitives::{
    AccountId, ClusterId, Code, Coded, Hash, PublicKey, blake2_256,
    bridge::{Inbound, Order, Package},
    merkle,
};
use phala_state::{Path, Snapshot, Space};
use phala_vm::BlockInfo;

/// Bytes of a part, about.
const PART: usize = 256 << 10;
/// Most parts that are made with one entry.
const PARTS_AT_ONCE: usize = 4;

/// What a piece of a contract belongs to. They are packed in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) enum Kind {
    /// Its code, under its hash.
    Code,
    /// Its storage.
    Storage,
    /// Who may read its log.
    Readers,
    /// What it said.
    Log,
    /// What it has begun.
    Luggage,
}

const KINDS: [Kind; 5] = [Kind::Code, Kind::Storage, Kind::Readers, Kind::Log, Kind::Luggage];

/// A value of a contract, or some of one.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct Piece {
    pub(crate) kind: Kind,
    pub(crate) key: Vec<u8>,
    /// Whether it goes on with the value of this key.
    pub(crate) more: bool,
    pub(crate) bytes: Vec<u8>,
}

/// Something that a contract has begun.
#[derive(Encode, Decode)]
enum Luggage {
    Request(Wanted),
    Timer(Timer),
    Hook(Hook),
    Message(Message),
}

/// What the other cluster is told.
#[derive(Clone, Encode, Decode)]
pub(crate) struct Manifest {
    /// Hash of the code that it runs, and who owns it, and which of the chain's versions it is.
    pub(crate) code: Hash,
    pub(crate) owner: AccountId,
    pub(crate) version: u32,
    pub(crate) logs: LogState,
    /// From which its keys derive.
    pub(crate) secret: [u8; 32],
    /// How many parts there are, and the root over their hashes.
    pub(crate) parts: u32,
    pub(crate) root: Hash,
    /// To which they are sealed.
    pub(crate) key: [u8; 32],
}

/// A place in what a contract consists of.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Encode, Decode)]
struct Cursor {
    kind: u8,
    /// Of the last value that is done.
    after: Option<Path>,
    /// Bytes of the next that are.
    offset: u64,
}

/// A part that was made.
#[derive(Encode, Decode)]
struct Part {
    begin: Cursor,
    hash: Hash,
}

/// A contract that leaves.
#[derive(Clone, Encode, Decode)]
pub(crate) struct Departure {
    contract: AccountId,
    number: u32,
    to: ClusterId,
    mailbox: PublicKey,
    /// Height of the entry since which it rests.
    since: u64,
    /// Where the next part begins, and how many there are.
    next: Cursor,
    parts: u32,
    /// Whether that are all, and the other cluster is told.
    packed: bool,
}

impl Departure {
    /// All parts that were made, in their order.
    fn made(&self, layer: &Layer) -> Result<Vec<Part>, Coded> {
        let place = parts_of(&self.contract, self.number);
        let part = |index: u32| layer.read(&place, &index.to_be_bytes())?.ok_or_else(|| lost("a part of a contract"));
        (0..self.parts).map(part).collect()
    }
}

/// Where the luggage of a contract lies, for one of its moves.
pub(crate) fn luggage(contract: &AccountId, number: u32) -> Space {
    blake2_256(&("phala/space/v1/luggage", contract, number).encode()).0
}

fn parts_of(contract: &AccountId, number: u32) -> Space {
    blake2_256(&("phala/space/v1/parts", contract, number).encode()).0
}

/// Where the values of a kind lie.
pub(crate) fn space(kind: Kind, record: &Contract, contract: &AccountId, number: u32) -> Space {
    match kind {
        Kind::Code => *CODE,
        Kind::Storage => record.space(contract),
        Kind::Readers => record.readers(contract),
        Kind::Log => logs::space(contract),
        Kind::Luggage => luggage(contract, number),
    }
}

/// `ContractMoved`, of a contract that has gone to another cluster.
pub(crate) fn gone(layer: &Layer, contract: &AccountId) -> Result<Option<Coded>, Coded> {
    if layer.contract(contract)?.is_none_or(|record| record.code.is_none())
        && let Some(cluster) = layer.read::<ClusterId>(&ROUTES, contract.as_ref())?
    {
        return Ok(Some(Coded::new(Code::ContractMoved, format!("{contract} is in cluster {cluster}"))));
    }
    Ok(None)
}

fn departures(layer: &Layer) -> Result<Vec<Departure>, Coded> {
    Ok(layer.read(&DEPARTURES, &[])?.unwrap_or_default())
}

/// The part of a resting contract that begins at a place, and where it ends. Empty if there is no more.
fn part(
    snapshot: &Snapshot,
    (contract, number): (&AccountId, u32),
    record: &Contract,
    begin: Cursor,
) -> Result<(Vec<Piece>, Cursor), Coded> {
    let (mut pieces, mut at, mut room) = (vec![], begin, PART);
    while let Some(kind) = KINDS.get(usize::from(at.kind)).copied()
        && room > 0
    {
        let of = space(kind, record, contract, number);
        let values: Vec<(Path, Vec<u8>, Vec<u8>)> = match (kind, record.code) {
            (Kind::Code, Some(hash)) if at.after.is_none() => {
                let code = snapshot.get(&of, hash.as_ref())?;
                vec![([0; 32], hash.as_ref().to_vec(), code.ok_or_else(|| lost("a code"))?)]
            }
            (Kind::Code, _) => vec![],
            _ => {
                let items = snapshot.items(&of, at.after.as_ref(), room)?;
                items.into_iter().map(|(path, item)| (path, item.key, item.value)).collect()
            }
        };
        if values.is_empty() {
            at = Cursor { kind: at.kind.saturating_add(1), ..Cursor::default() };
        }
        for (path, key, value) in values {
            let rest = value.get(usize::try_from(at.offset).unwrap_or(usize::MAX)..).unwrap_or_default();
            let (bytes, left) = rest.split_at(rest.len().min(room));
            room = room.saturating_sub(key.len().saturating_add(bytes.len()).max(1));
            pieces.push(Piece { kind, key, more: at.offset > 0, bytes: bytes.to_vec() });
            match left.is_empty() {
                true => at = Cursor { kind: at.kind, after: Some(path), offset: 0 },
                false => at.offset = at.offset.saturating_add(bytes.len() as u64),
            }
            if room == 0 {
                break;
            }
        }
    }
    Ok((pieces, at))
}

/// Seals and opens parts: under a key that is for nothing else, so the number of the part is the nonce.
fn cipher(
    key: &[u8; 32],
    contract: &AccountId,
    number: u32,
    index: u32,
) -> Result<(LessSafeKey, Nonce, Aad<Vec<u8>>), Coded> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, key).map_err(|_| Code::Internal)?);
    let mut nonce = [0; NONCE_LEN];
    nonce[..4].copy_from_slice(&index.to_le_bytes());
    let about = Aad::from(("phala/package-part/v1", contract, number, index).encode());
    Ok((key, Nonce::assume_unique_for_key(nonce), about))
}

/// Opens a part that a member of the other cluster sealed: the part, and its proof.
pub(crate) fn open_part(
    key: &[u8; 32],
    (contract, number, index): (&AccountId, u32, u32),
    sealed: &[u8],
) -> Result<(Vec<u8>, Vec<Hash>), Coded> {
    let (cipher, nonce, about) = cipher(key, contract, number, index)?;
    let mut text = sealed.to_vec();
    let plain = cipher.open_in_place(nonce, about, &mut text).map_err(|_| Code::NotAuthentic)?;
    Decode::decode(&mut &*plain).map_err(|_| Code::Malformed.into())
}

impl Executor {
    /// Does what the chain says of a contract that moves.
    pub(crate) fn moves(&self, layer: &Layer, block: BlockInfo, message: &Inbound) -> Result<(), Coded> {
        match message {
            Inbound::Leave { contract, number, to, mailbox } => {
                self.leave(layer, block, contract, (*number, *to, *mailbox))
            }
            Inbound::Left { contract, number } => self.left(layer, contract, *number),
            Inbound::Arrive { from, package } => self.arrive(layer, *from, package),
            Inbound::Begin { contract, number, .. } => self.begin(layer, block, contract, *number),
            Inbound::CalledOff { contract, number } => {
                self.stay(layer, block, contract, *number)?;
                self.turn_away(layer, contract, *number)
            }
            _ => Ok(()),
        }
    }

    /// Refuses what is about a contract that is not for this cluster to command now.
    ///
    /// Errors: `ContractMoving`, `ContractMoved`.
    pub(crate) fn expect_works(&self, layer: &Layer, contract: &AccountId) -> Result<(), Stop> {
        match layer.contract(contract)? {
            Some(record) if record.works() => Ok(()),
            Some(record) if record.code.is_some() => Err(refused(Code::ContractMoving, contract.to_string())),
            _ => gone(layer, contract)?.map_or(Ok(()), |error| Err(Stop::Refused(error))),
        }
    }

    fn leave(
        &self,
        layer: &Layer,
        block: BlockInfo,
        contract: &AccountId,
        (number, to, mailbox): (u32, ClusterId, PublicKey),
    ) -> Result<(), Coded> {
        // One that was never instantiated, or has ended, stays.
        let Some(record) = layer.contract(contract)?.filter(Contract::works) else { return Ok(()) };
        let (requests, timers) = self.jobs().pack(layer, contract);
        let messages = self.post.unpost(layer, &mut self.traffic(), contract)?;
        let hooks = hooks::of(layer, contract)?;
        hooks::end(layer, contract)?;
        let requests = requests.into_iter().map(Luggage::Request);
        let timers = timers.into_iter().map(Luggage::Timer);
        let hooks = hooks.into_iter().map(Luggage::Hook);
        let all = requests.chain(timers).chain(hooks).chain(messages.into_iter().map(Luggage::Message));
        let place = luggage(contract, number);
        for (at, item) in (0u32..).zip(all) {
            layer.write(&place, &at.to_be_bytes(), &item);
        }
        layer.set_contract(contract, Contract { standing: Standing::Leaves, ..record });
        let mut all = departures(layer)?;
        let (since, next) = (block.height, Cursor::default());
        all.push(Departure { contract: *contract, number, to, mailbox, since, next, parts: 0, packed: false });
        layer.write(&DEPARTURES, &[], &all);
        Ok(())
    }

    /// Makes some parts of a contract that rests, upon an entry of this height; with the last, the other cluster is told.
    /// Returns whether there is more to make.
    pub(crate) fn pack(&self, layer: &Layer, height: u64) -> Result<bool, Coded> {
        let mut all = departures(layer)?;
        // What rests since this very entry is not in the snapshot yet.
        let Some(departure) = all.iter_mut().find(|departure| !departure.packed && departure.since < height) else {
            return Ok(all.iter().any(|departure| !departure.packed));
        };
        let contract = departure.contract;
        let record = layer.contract(&contract)?.ok_or_else(|| lost("a contract that leaves"))?;
        let place = parts_of(&contract, departure.number);
        for _ in 0..PARTS_AT_ONCE {
            let (pieces, end) = part(layer.base(), (&contract, departure.number), &record, departure.next)?;
            if pieces.is_empty() {
                self.send_off(layer, departure, &record)?;
                departure.packed = true;
                break;
            }
            let made = Part { begin: departure.next, hash: blake2_256(&pieces.encode()) };
            layer.write(&place, &departure.parts.to_be_bytes(), &made);
            departure.parts = departure.parts.saturating_add(1);
            departure.next = end;
        }
        layer.write(&DEPARTURES, &[], &all);
        Ok(all.iter().any(|departure| !departure.packed))
    }

    fn send_off(&self, layer: &Layer, departure: &Departure, record: &Contract) -> Result<(), Coded> {
        let Departure { contract, number, to, mailbox, parts, .. } = departure;
        let hashes: Vec<_> = departure.made(layer)?.iter().map(|part| part.hash).collect();
        let manifest = Manifest {
            code: record.code.ok_or_else(|| lost("the code of a contract"))?,
            owner: record.owner,
            version: record.version,
            logs: layer.read(&LOGS, contract.as_ref())?.unwrap_or_default(),
            secret: self.secret(layer, record, contract)?,
            parts: *parts,
            root: merkle::root(&hashes),
            key: self.package_key(layer, record, (contract, *number))?,
        };
        // A cluster that published nonsense gets nothing: the deployer calls it off.
        if let Ok(sealed) = self.post.seal_package(mailbox, *to, (contract, *number), &manifest.encode()) {
            let package = Package { contract: *contract, number: *number, sealed };
            self.traffic().send(layer, *contract, Order::Package(package))?;
        }
        Ok(())
    }

    /// From which the keys of a contract derive.
    fn secret(&self, layer: &Layer, record: &Contract, contract: &AccountId) -> Result<[u8; 32], Coded> {
        match record.foreign {
            true => layer.read(&SECRETS, contract.as_ref())?.ok_or_else(|| lost("the secret of a contract")),
            false => Ok(*self.secrets.of(contract)),
        }
    }

    fn package_key(
        &self,
        layer: &Layer,
        record: &Contract,
        (contract, number): (&AccountId, u32),
    ) -> Result<[u8; 32], Coded> {
        let secret = self.secret(layer, record, contract)?;
        Ok(blake2_256(&("phala/package-key/v1", secret, contract, number).encode()).0)
    }

    /// The other cluster has all of it.
    fn left(&self, layer: &Layer, contract: &AccountId, number: u32) -> Result<(), Coded> {
        let Some(departure) = self.end_departure(layer, contract, number)? else { return Ok(()) };
        let record = layer.contract(contract)?.ok_or_else(|| lost("a contract that leaves"))?;
        end_space(layer, &record.space(contract))?;
        end_space(layer, &record.readers(contract))?;
        end_space(layer, &luggage(contract, number))?;
        logs::end(layer, contract)?;
        layer.set(&SECRETS, contract.as_ref().to_vec(), None);
        layer.set_contract(contract, record.gone());
        layer.write(&ROUTES, contract.as_ref(), &departure.to);
        layer.write(&MAILBOXES, &departure.to.encode(), &departure.mailbox);
        let amount = layer.owned(contract)?;
        layer.set_owned(contract, 0);
        self.traffic().send(layer, *contract, Order::LetGo { number, amount })
    }

    /// It works here again.
    fn stay(&self, layer: &Layer, block: BlockInfo, contract: &AccountId, number: u32) -> Result<(), Coded> {
        if self.end_departure(layer, contract, number)?.is_none() {
            return Ok(());
        }
        self.work(layer, block, contract, number)
    }

    fn end_departure(&self, layer: &Layer, contract: &AccountId, number: u32) -> Result<Option<Departure>, Coded> {
        let of = |one: &Departure| one.contract == *contract && one.number == number;
        let departure = layer.take_from(&DEPARTURES, of)?;
        if departure.is_some() {
            end_space(layer, &parts_of(contract, number))?;
        }
        Ok(departure)
    }

    /// Lets a contract work that has rested: it unpacks its luggage.
    pub(crate) fn work(&self, layer: &Layer, block: BlockInfo, contract: &AccountId, number: u32) -> Result<(), Coded> {
        let record = layer.contract(contract)?.ok_or_else(|| lost("a contract that rests"))?;
        layer.set_contract(contract, Contract { standing: Standing::Works, ..record });
        let place = luggage(contract, number);
        let mut at = 0u32;
        while let Some(item) = layer.read::<Luggage>(&place, &at.to_be_bytes())? {
            at = at.saturating_add(1);
            match item {
                Luggage::Request(wanted) => self.jobs().unpack_request(layer, wanted, block.time_ms),
                Luggage::Timer(timer) => self.jobs().unpack_timer(layer, timer, block.time_ms),
                Luggage::Hook(hook) => hooks::open(layer, contract, hook)?,
                Luggage::Message(message) => {
                    let left = layer.owned(contract)?.checked_sub(message.value);
                    layer.set_owned(contract, left.ok_or_else(|| lost("the money of a message"))?);
                    self.post.post(layer, &mut self.traffic(), block, message)?;
                }
            }
        }
        end_space(layer, &place)
    }
}

impl Replica {
    /// A part of a contract that leaves, sealed for the members of the cluster that it goes to; for anyone who asks.
    ///
    /// Errors: `NotReady` if there is no such part here now.
    pub fn part_of(&self, contract: &AccountId, number: u32, index: u32) -> Result<Vec<u8>, Coded> {
        self.ready_epoch()?;
        let layer = Layer::for_queries(self.state.snapshot());
        let none = || Coded::new(Code::NotReady, "no part of that contract is to be had here");
        let all = departures(&layer)?;
        let of = |one: &&Departure| one.contract == *contract && one.number == number && one.packed;
        let departure = all.iter().find(of).filter(|one| index < one.parts).ok_or_else(none)?;
        let record = layer.contract(contract)?.ok_or_else(none)?;
        let made = departure.made(&layer)?;
        let begin = made.get(index as usize).ok_or_else(none)?.begin;
        let hashes: Vec<_> = made.iter().map(|part| part.hash).collect();
        let path = merkle::Tree::new(&hashes).prove(index as usize).ok_or_else(none)?;
        let (pieces, _) = part(layer.base(), (contract, number), &record, begin)?;
        let key = self.executor.package_key(&layer, &record, (contract, number))?;
        let (cipher, nonce, about) = cipher(&key, contract, number, index)?;
        let mut text = (pieces.encode(), path).encode();
        cipher.seal_in_place_append_tag(nonce, about, &mut text).map_err(|_| Code::Internal)?;
        Ok(text)
    }
}

//! Contracts that come from another cluster: the other end of [`crate::departures`].
//!
//! Upon [`Inbound::Arrive`] the state knows what the contract has to be. Members whose turn it is fetch its parts from
//! members of the other cluster and bring them, one after the other, with their proofs ([`Action::Import`]). With the
//! last it is here, is read like any other, and the chain is told ([`Order::Arrived`]). Upon [`Inbound::Begin`] it works.
//!
//! Upon [`Inbound::CalledOff`] what is here of it goes away again.
//!
//! Invariant: what is read of a contract that waits is what the other cluster has of it, to the last bit.
//!
//! [`Action::Import`]: phala_session::Action::Import
//! [`Inbound::Arrive`]: phala_primitives::bridge::Inbound::Arrive
//! [`Inbound::Begin`]: phala_primitives::bridge::Inbound::Begin
//! [`Inbound::CalledOff`]: phala_primitives::bridge::Inbound::CalledOff

use crate::{
    Replica, Ticket,
    departures::{Kind, Manifest, Piece, luggage, open_part, space},
    execute::{Executor, Stop, done, end_space, lost, refused},
    layout::{ARRIVALS, Contract, LOGS, ROUTES, SECRETS, Standing, read},
    logs,
    world::Layer,
};
use codec::{Decode, DecodeAll, Encode};
use phala_primitives::{
    AccountId, ClusterId, Code, Coded, Hash, blake2_256,
    bridge::{Order, Package},
    limits::MAX_CODE,
    merkle,
};
use phala_session::{Action, Outcome};
use phala_state::Space;
use phala_vm::BlockInfo;

/// Gas for taking in a part: so much for each value, and for each byte.
const VALUE_GAS: u64 = 60_000;
const BYTE_GAS: u64 = 40;

/// A contract that comes.
#[derive(Clone, Encode, Decode)]
pub(crate) struct Arrival {
    contract: AccountId,
    number: u32,
    from: ClusterId,
    manifest: Manifest,
    /// How many contracts had its address here before.
    generation: u32,
    /// Number of the next part.
    next: u32,
}

/// A contract of which parts are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Coming {
    /// The contract.
    pub contract: AccountId,
    /// Which of its moves this is.
    pub number: u32,
    /// The cluster that has it.
    pub from: ClusterId,
    /// Number of the next part.
    pub next: u32,
    /// How many there are.
    pub parts: u32,
}

fn arrivals(layer: &Layer) -> Result<Vec<Arrival>, Coded> {
    Ok(layer.read(&ARRIVALS, &[])?.unwrap_or_default())
}

/// Where a code lies of which parts are missing.
fn code_of(contract: &AccountId, number: u32) -> Space {
    blake2_256(&("phala/space/v1/arriving-code", contract, number).encode()).0
}

impl Arrival {
    /// The contract as it is going to be.
    fn record(&self) -> Contract {
        let Manifest { code, owner, version, .. } = &self.manifest;
        let (generation, standing) = (self.generation, Standing::Waits);
        Contract { code: Some(*code), generation, owner: *owner, version: *version, standing, foreign: true }
    }

    fn is_whole(&self) -> bool {
        self.next == self.manifest.parts
    }

    /// Takes in a value, or more of one.
    fn put(&self, layer: &Layer, piece: Piece) -> Result<(), Stop> {
        let Piece { kind, key, more, bytes } = piece;
        let place = match kind {
            Kind::Code => code_of(&self.contract, self.number),
            _ => space(kind, &self.record(), &self.contract, self.number),
        };
        let mut value = if more { layer.get(&place, &key)?.unwrap_or_default() } else { vec![] };
        if value.len().saturating_add(bytes.len()) > MAX_CODE {
            return Err(refused(Code::TooLarge, "a value of a contract that comes"));
        }
        value.extend(bytes);
        layer.set(&place, key, Some(value));
        Ok(())
    }
}

impl Executor {
    /// Learns that a contract is to come.
    pub(crate) fn arrive(&self, layer: &Layer, from: ClusterId, package: &Package) -> Result<(), Coded> {
        let Package { contract, number, sealed } = package;
        let manifest = self.post.open_package(from, (contract, *number), sealed);
        // Only a cluster that is broken as a whole sends what is sealed to nobody here: the deployer calls it off.
        let Some(manifest) = manifest.ok().and_then(|bytes| Manifest::decode_all(&mut bytes.as_slice()).ok()) else {
            return Ok(());
        };
        let before = layer.contract(contract)?;
        let mut all = arrivals(layer)?;
        let known = all.iter().any(|one| one.contract == *contract);
        if known || manifest.parts == 0 || before.is_some_and(|record| record.code.is_some()) {
            return Ok(());
        }
        let generation = before.map_or(0, |record| record.generation.saturating_add(1));
        all.push(Arrival { contract: *contract, number: *number, from, manifest, generation, next: 0 });
        layer.write(&ARRIVALS, &[], &all);
        Ok(())
    }

    /// Takes in a part, unless another member has brought it before.
    pub(crate) fn import(
        &self,
        layer: &Layer,
        (contract, number): (AccountId, u32),
        index: u32,
        (bytes, path): (&[u8], &[Hash]),
    ) -> Result<Outcome, Stop> {
        let mut all = arrivals(layer)?;
        let wanted = |one: &&mut Arrival| one.contract == contract && one.number == number && one.next == index;
        let Some(arrival) = all.iter_mut().find(wanted).filter(|one| !one.is_whole()) else { return Ok(done(0)) };
        let Manifest { parts, root, .. } = arrival.manifest;
        if !merkle::verify(&root, parts as usize, index as usize, &blake2_256(bytes), path) {
            return Err(refused(Code::BadProof, "it is no part of that contract"));
        }
        let malformed = || refused(Code::Malformed, "a part of a contract");
        let pieces = Vec::<Piece>::decode_all(&mut &*bytes).map_err(|_| malformed())?;
        let values = VALUE_GAS.saturating_mul(pieces.len() as u64);
        for piece in pieces {
            arrival.put(layer, piece)?;
        }
        arrival.next = arrival.next.saturating_add(1);
        if arrival.is_whole() {
            self.welcome(layer, arrival)?;
        }
        layer.write(&ARRIVALS, &[], &all);
        Ok(done(values.saturating_add(BYTE_GAS.saturating_mul(bytes.len() as u64))))
    }

    /// All of a contract is here.
    fn welcome(&self, layer: &Layer, arrival: &Arrival) -> Result<(), Stop> {
        let Arrival { contract, number, manifest, .. } = arrival;
        let place = code_of(contract, *number);
        if !layer.has_code(&manifest.code)? {
            let code = layer.get(&place, manifest.code.as_ref())?.unwrap_or_default();
            if blake2_256(&code) != manifest.code {
                return Err(refused(Code::BadProof, "it came with other code"));
            }
            self.store(layer, manifest.code, &code, 0)?.result.map_err(Stop::Refused)?;
        }
        end_space(layer, &place)?;
        layer.write(&LOGS, contract.as_ref(), &manifest.logs);
        layer.write(&SECRETS, contract.as_ref(), &manifest.secret);
        layer.set_contract(contract, arrival.record());
        Ok(self.traffic().send(layer, *contract, Order::Arrived { number: *number })?)
    }

    /// The other cluster has let go of it.
    pub(crate) fn begin(
        &self,
        layer: &Layer,
        block: BlockInfo,
        contract: &AccountId,
        number: u32,
    ) -> Result<(), Coded> {
        if self.end_arrival(layer, contract, number)?.is_none() {
            return Ok(());
        }
        layer.set(&ROUTES, contract.as_ref().to_vec(), None);
        self.work(layer, block, contract, number)
    }

    /// It stays where it was.
    pub(crate) fn turn_away(&self, layer: &Layer, contract: &AccountId, number: u32) -> Result<(), Coded> {
        let Some(arrival) = self.end_arrival(layer, contract, number)? else { return Ok(()) };
        let record = arrival.record();
        let spaces = [record.space(contract), record.readers(contract), luggage(contract, number)];
        for place in spaces.into_iter().chain([code_of(contract, number)]) {
            end_space(layer, &place)?;
        }
        // Records of a log that did not come whole, too.
        layer.write(&LOGS, contract.as_ref(), &arrival.manifest.logs);
        logs::end(layer, contract)?;
        layer.set(&SECRETS, contract.as_ref().to_vec(), None);
        layer.set_contract(contract, record.gone());
        Ok(())
    }

    fn end_arrival(&self, layer: &Layer, contract: &AccountId, number: u32) -> Result<Option<Arrival>, Coded> {
        layer.take_from(&ARRIVALS, |one: &Arrival| one.contract == *contract && one.number == number)
    }
}

impl Replica {
    /// Contracts of which parts are wanted.
    pub fn coming(&self) -> Result<Vec<Coming>, Coded> {
        let all: Vec<Arrival> = read(&self.state.snapshot(), &ARRIVALS, &[])?.unwrap_or_default();
        let wanted = all.iter().filter(|one| !one.is_whole());
        let coming = |one: &Arrival| {
            let Arrival { contract, number, from, next, manifest, .. } = one;
            Coming { contract: *contract, number: *number, from: *from, next: *next, parts: manifest.parts }
        };
        Ok(wanted.map(coming).collect())
    }

    /// Brings the next part of a contract that comes, as a member of the other cluster sealed it, as the word of this
    /// member. The ticket resolves when it was executed, whether it was the first or not.
    ///
    /// Errors: `NotAuthentic` if it is not that part.
    pub fn bring_part(&self, coming: &Coming, sealed: &[u8], now_ms: u64) -> Result<Ticket, Coded> {
        let Coming { contract, number, next: index, .. } = *coming;
        let all: Vec<Arrival> = read(&self.state.snapshot(), &ARRIVALS, &[])?.unwrap_or_default();
        let arrival = all.iter().find(|one| one.contract == contract && one.number == number);
        let arrival = arrival.ok_or_else(|| lost("a contract that comes"))?;
        let (bytes, path) = open_part(&arrival.manifest.key, (&contract, number, index), sealed)?;
        let action = Action::Import { contract, number, index, bytes, path };
        self.command(&("phala/import/v1", contract, number, index), action, now_ms)
    }
}

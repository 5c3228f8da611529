//! What comes to the cluster in parts, because it is larger than an entry of the log: codes, and inputs of calls.
//!
//! Parts come in order; one that is there already changes nothing, so that whoever was interrupted can go on, and two may
//! upload the same code. With the last part the whole is put together and leaves the state. So much of a kind may be
//! under way at once; what no part came of for [`ABANDONED_MS`] makes room, and is swept in small steps.
//!
//! Each part of a code proves that the chain has the code's record, so whoever uploads it has paid a deposit. An input
//! belongs to the account that calls.

use crate::{
    execute::{Stop, refused},
    layout::{CODE_PARTS, INPUT_PARTS, INPUTS_UNDER_WAY, UPLOADS},
    world::Layer,
};
use codec::{Decode, Encode};
use phala_primitives::{AccountId, Code, Coded, Hash, blake2_256, limits::PART};
use phala_session::{InputId, Outcome};
use phala_state::Space;
use std::sync::LazyLock;

/// Most codes that are uploaded in parts at once.
pub const MAX_UPLOADS: usize = 8;
/// Most inputs that are brought in parts at once.
const MAX_INPUTS: usize = 32;
/// How many of them may be of one account.
pub const MAX_INPUTS_OF_ACCOUNT: usize = 4;
/// How long after its last part something that is not finished is given up, in milliseconds.
pub const ABANDONED_MS: u64 = 10 * 60 * 1000;
/// Most parts of what was given up that are removed with one entry.
const SWEEP_PARTS: u32 = 4;

/// One kind of things that come in parts.
pub(crate) struct Kind {
    under_way: &'static LazyLock<Space>,
    parts: &'static LazyLock<Space>,
    most: usize,
    most_of_account: usize,
    byte_gas: u64,
}

/// Codes: a byte is stored, checked, and compiled beside the log.
pub(crate) static CODES: Kind =
    Kind { under_way: &UPLOADS, parts: &CODE_PARTS, most: MAX_UPLOADS, most_of_account: MAX_UPLOADS, byte_gas: 1_000 };

/// Inputs: a byte is stored for a while, which costs what contracts pay for storing one.
pub(crate) static INPUTS: Kind = Kind {
    under_way: &INPUTS_UNDER_WAY,
    parts: &INPUT_PARTS,
    most: MAX_INPUTS,
    most_of_account: MAX_INPUTS_OF_ACCOUNT,
    byte_gas: 40,
};

/// What the state calls an account's input.
pub(crate) fn input_name(account: &AccountId, id: &InputId) -> Hash {
    blake2_256(&("phala/input/v1", account, id).encode())
}

impl Kind {
    /// Gas for taking in so many bytes.
    pub(crate) fn gas(&self, bytes: &[u8]) -> u64 {
        self.byte_gas.saturating_mul(bytes.len() as u64)
    }

    /// The outcome if that is more than there is.
    pub(crate) fn too_dear(&self, bytes: &[u8], gas_limit: u64) -> Option<Outcome> {
        let wanted = self.gas(bytes);
        let error = || Coded::new(Code::OutOfGas, format!("to take in {} bytes takes {wanted}", bytes.len()));
        (wanted > gas_limit).then(|| Outcome { result: Err(error()), gas_used: gas_limit })
    }
}

/// Something under way.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Upload {
    name: Hash,
    owner: AccountId,
    /// Number of the next part.
    next: u32,
    /// Time of the entry that held the last one.
    last_ms: u64,
}

/// All of a kind, in the order of their beginning.
type Uploads = Vec<Upload>;

fn key(name: &Hash, part: u32) -> Vec<u8> {
    (name, part.to_be_bytes()).encode()
}

/// A part of something that has `size` bytes.
pub(crate) struct Part<'a> {
    /// Of which kind.
    pub(crate) kind: &'static Kind,
    /// By whom.
    pub(crate) owner: AccountId,
    /// Of what.
    pub(crate) name: Hash,
    /// Length of the whole.
    pub(crate) size: usize,
    /// Its number; `None`: the last.
    pub(crate) number: Option<u32>,
    /// It.
    pub(crate) bytes: &'a [u8],
}

impl Part<'_> {
    /// Takes it in. With the last one the whole is returned, and is no longer in the state.
    pub(crate) fn take(&self, layer: &Layer, time_ms: u64) -> Result<Option<Vec<u8>>, Stop> {
        let Self { kind, owner, name, size, bytes, .. } = *self;
        let parts = u32::try_from(size.div_ceil(PART)).unwrap_or(u32::MAX);
        let number = self.number.unwrap_or(parts.saturating_sub(1));
        let begin = (number as usize).saturating_mul(PART);
        if number >= parts || bytes.len() != size.saturating_sub(begin).min(PART) {
            return Err(refused(Code::WrongPart, format!("{size} bytes have {parts} parts of {PART}")));
        }
        let mut all: Uploads = layer.read(kind.under_way, &[])?.unwrap_or_default();
        let of_owner = all.iter().filter(|upload| upload.owner == owner).count();
        let index = match all.iter().position(|upload| upload.name == name) {
            Some(index) => index,
            None if number != 0 => return Err(refused(Code::WrongPart, "the first part is missing")),
            None if all.len() >= kind.most || of_owner >= kind.most_of_account => {
                let limits = format!("{} at once, {} of one account", kind.most, kind.most_of_account);
                return Err(refused(Code::UploadLimit, limits));
            }
            None => {
                all.push(Upload { name, owner, next: 0, last_ms: time_ms });
                all.len().saturating_sub(1)
            }
        };
        let Some(upload) = all.get_mut(index) else { return Err(refused(Code::WrongPart, "")) };
        if number < upload.next {
            return Ok(None);
        }
        if number > upload.next {
            return Err(refused(Code::WrongPart, format!("the next part is {}", upload.next)));
        }
        if number.saturating_add(1) < parts {
            layer.set(kind.parts, key(&name, number), Some(bytes.to_vec()));
            (upload.next, upload.last_ms) = (number.saturating_add(1), time_ms);
            layer.write(kind.under_way, &[], &all);
            return Ok(None);
        }
        let mut whole = Vec::with_capacity(size);
        for part in 0..number {
            let found = layer.get(kind.parts, &key(&name, part))?;
            whole.extend(found.ok_or_else(|| Coded::new(Code::Internal, "the state has lost a part"))?);
            layer.set(kind.parts, key(&name, part), None);
        }
        whole.extend_from_slice(bytes);
        all.remove(index);
        layer.write(kind.under_way, &[], &all);
        Ok(Some(whole))
    }
}

/// Removes some parts of the first of each kind that was given up.
pub(crate) fn sweep(layer: &Layer, time_ms: u64) -> Result<(), Coded> {
    for kind in [&CODES, &INPUTS] {
        let mut all: Uploads = layer.read(kind.under_way, &[])?.unwrap_or_default();
        let over = |upload: &Upload| upload.last_ms.saturating_add(ABANDONED_MS) < time_ms;
        let Some(index) = all.iter().position(over) else { continue };
        let Some(upload) = all.get_mut(index) else { continue };
        let left = upload.next.saturating_sub(SWEEP_PARTS);
        for part in left..upload.next {
            layer.set(kind.parts, key(&upload.name, part), None);
        }
        // From the last to the first: whoever goes on with it in between finds out which part is next.
        upload.next = left;
        if left == 0 {
            all.remove(index);
        }
        layer.write(kind.under_way, &[], &all);
    }
    Ok(())
}

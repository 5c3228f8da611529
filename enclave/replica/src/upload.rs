//! Codes that come to the cluster in parts, because they are larger than an entry of the log.
//!
//! Each part proves that the chain has the code's record, so whoever uploads has paid a deposit. Parts come in order; one
//! that is there already changes nothing, so that two may upload the same code, or one go on after a break. With the last
//! part the code is put together, checked and stored. At most [`MAX_UPLOADS`] codes are under way at once; one of which
//! no part came for [`ABANDONED_MS`] makes room, and is swept in small steps.

use crate::{
    execute::{Stop, done, refused},
    layout::{CODE_PARTS, UPLOADS},
    world::Layer,
};
use codec::{Decode, Encode};
use phala_primitives::{Code, Coded, Hash, blake2_256, limits::CODE_PART};
use phala_session::Outcome;
use phala_vm::BlockInfo;

/// Most codes that are uploaded in parts at once.
pub const MAX_UPLOADS: usize = 8;
/// How long after its last part an upload that is not finished is given up, in milliseconds.
pub const ABANDONED_MS: u64 = 10 * 60 * 1000;
/// Most parts of uploads that were given up which are removed with one entry.
const SWEEP_PARTS: u32 = 4;
/// Gas for a byte of a code: it is stored, checked, and compiled beside the log. A part fits into a command.
const BYTE_GAS: u64 = 1_000;

/// A code under way.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Upload {
    code_hash: Hash,
    /// Number of the next part.
    next: u32,
    /// Time of the entry that held the last one.
    last_ms: u64,
}

/// All uploads under way, in the order of their beginning.
type Uploads = Vec<Upload>;

fn uploads(layer: &Layer) -> Result<Uploads, Coded> {
    Ok(layer.read(&UPLOADS, &[])?.unwrap_or_default())
}

fn key(code_hash: &Hash, part: u32) -> Vec<u8> {
    (code_hash, part.to_be_bytes()).encode()
}

/// Gas for taking in a code, or a part of it.
pub(crate) fn gas(bytes: &[u8]) -> u64 {
    BYTE_GAS.saturating_mul(bytes.len() as u64)
}

/// The outcome if a code, or a part of it, takes more gas than there is.
pub(crate) fn too_dear(bytes: &[u8], gas_limit: u64) -> Option<Outcome> {
    let wanted = gas(bytes);
    let error = || Coded::new(Code::OutOfGas, format!("code of this size takes {wanted}"));
    (wanted > gas_limit).then(|| Outcome { result: Err(error()), gas_used: gas_limit })
}

/// Takes a part of a code of `size` bytes. `store` checks and keeps the whole.
pub(crate) fn part(
    layer: &Layer,
    block: BlockInfo,
    (code_hash, size): (&Hash, usize),
    (number, bytes): (u32, &[u8]),
    store: impl FnOnce(&[u8]) -> Result<Outcome, Stop>,
) -> Result<Outcome, Stop> {
    if layer.has_code(code_hash)? {
        return Ok(done(gas(bytes)));
    }
    let parts = u32::try_from(size.div_ceil(CODE_PART)).unwrap_or(u32::MAX);
    let begin = (number as usize).saturating_mul(CODE_PART);
    if number >= parts || bytes.len() != size.saturating_sub(begin).min(CODE_PART) {
        return Err(refused(Code::WrongPart, format!("a code of {size} bytes has {parts} parts of {CODE_PART}")));
    }
    let mut all = uploads(layer)?;
    let index = match all.iter().position(|upload| upload.code_hash == *code_hash) {
        Some(index) => index,
        None if number != 0 => return Err(refused(Code::WrongPart, "the first part is missing")),
        None if all.len() >= MAX_UPLOADS => return Err(refused(Code::UploadLimit, format!("{MAX_UPLOADS} codes"))),
        None => {
            all.push(Upload { code_hash: *code_hash, next: 0, last_ms: block.time_ms });
            all.len().saturating_sub(1)
        }
    };
    let Some(upload) = all.get_mut(index) else { return Err(refused(Code::WrongPart, "")) };
    if number < upload.next {
        return Ok(done(gas(bytes)));
    }
    if number > upload.next {
        return Err(refused(Code::WrongPart, format!("the next part is {}", upload.next)));
    }
    if number.saturating_add(1) < parts {
        layer.set(&CODE_PARTS, key(code_hash, number), Some(bytes.to_vec()));
        (upload.next, upload.last_ms) = (number.saturating_add(1), block.time_ms);
        layer.write(&UPLOADS, &[], &all);
        return Ok(done(gas(bytes)));
    }
    let mut code = Vec::with_capacity(size);
    for part in 0..number {
        let found = layer.get(&CODE_PARTS, &key(code_hash, part))?;
        code.extend(found.ok_or_else(|| Coded::new(Code::Internal, "the state has lost a part of a code"))?);
        layer.set(&CODE_PARTS, key(code_hash, part), None);
    }
    code.extend_from_slice(bytes);
    all.remove(index);
    layer.write(&UPLOADS, &[], &all);
    if blake2_256(&code) != *code_hash {
        return Ok(Outcome {
            result: Err(Coded::new(Code::WrongPart, "the parts are not those of the code")),
            gas_used: gas(bytes),
        });
    }
    store(&code)
}

/// Removes some parts of the first upload that was given up.
pub(crate) fn sweep(layer: &Layer, time_ms: u64) -> Result<(), Coded> {
    let mut all = uploads(layer)?;
    let over = |upload: &Upload| upload.last_ms.saturating_add(ABANDONED_MS) < time_ms;
    let Some(index) = all.iter().position(over) else { return Ok(()) };
    let Some(upload) = all.get_mut(index) else { return Ok(()) };
    let left = upload.next.saturating_sub(SWEEP_PARTS);
    for part in left..upload.next {
        layer.set(&CODE_PARTS, key(&upload.code_hash, part), None);
    }
    // From the last to the first: whoever goes on with it in between finds out which part is next.
    upload.next = left;
    if left == 0 {
        all.remove(index);
    }
    layer.write(&UPLOADS, &[], &all);
    Ok(())
}

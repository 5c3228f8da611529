//! The functions that contracts import.

use crate::{Frame, MAX_DEPTH, Machine, Output, REVERT, Returned, Shared, guest::Guest};
use codec::DecodeAll;
use phala_primitives::{AccountId, Hash};
use phala_vm::Event;
use sha2::{Digest, Sha256};
use std::{cell::RefCell, collections::BTreeMap, rc::Rc};
use wasmi::{Caller, Error, Linker, Memory};

/// What an instance holds.
pub(crate) struct Host {
    pub(crate) shared: Rc<Shared>,
    pub(crate) machine: Rc<RefCell<Machine>>,
    pub(crate) frame: Frame,
    pub(crate) memory: Option<Memory>,
}

type Values = BTreeMap<(AccountId, Vec<u8>), Vec<u8>>;

const SUCCESS: u32 = 0;
const TRAPPED: u32 = 1;
const REVERTED: u32 = 2;
const NOT_FOUND: u32 = 3;
const NOT_PAID: u32 = 5;
const NO_CODE: u32 = 7;
const NO_CONTRACT: u32 = 8;
const NONE: u32 = u32::MAX;

const FORWARD: u32 = 1;
const CLONE: u32 = 2;
const TAIL: u32 = 4;
const REENTRANT: u32 = 8;
const READ_ONLY: u32 = 16;

const KEY: usize = 128;
const VALUE: usize = 64 << 10;
const BUFFER: usize = 1 << 20;

macro_rules! define {
    ($linker:ident; $($module:literal $name:literal = $function:ident($($argument:ident: $type:ty),*);)*) => {
        $($linker.func_wrap($module, $name, |caller: Caller<'_, Host>, $($argument: $type),*| {
            $function(Guest(caller), $($argument),*)
        })?;)*
    };
}

pub(crate) fn link(linker: &mut Linker<Host>) -> Result<(), Error> {
    define! { linker;
        "seal0" "seal_return" = finish(flags: u32, data: u32, data_len: u32);
        "seal0" "input" = input(out: u32, out_len: u32);
        "seal0" "caller" = caller(out: u32, out_len: u32);
        "seal0" "address" = address(out: u32, out_len: u32);
        "seal0" "now" = now(out: u32, out_len: u32);
        "seal0" "own_code_hash" = own_code_hash(out: u32, out_len: u32);
        "seal0" "caller_is_origin" = caller_is_origin();
        "seal0" "is_contract" = is_contract(account: u32);
        "seal0" "reentrance_count" = reentrance_count();
        "seal0" "hash_sha2_256" = sha2_256(input: u32, input_len: u32, out: u32);
        "seal0" "deposit_event" = event(topics: u32, topics_len: u32, data: u32, data_len: u32);
        "seal2" "set_storage" = set(key: u32, key_len: u32, value: u32, value_len: u32);
        "seal1" "get_storage" = get(key: u32, key_len: u32, out: u32, out_len: u32);
        "seal1" "clear_storage" = clear(key: u32, key_len: u32);
        "seal1" "contains_storage" = contains(key: u32, key_len: u32);
        "seal0" "take_storage" = take(key: u32, key_len: u32, out: u32, out_len: u32);
        "seal0" "set_transient_storage" = set_transient(key: u32, key_len: u32, value: u32, value_len: u32);
        "seal0" "get_transient_storage" = get_transient(key: u32, key_len: u32, out: u32, out_len: u32);
        "seal0" "clear_transient_storage" = clear_transient(key: u32, key_len: u32);
        "seal0" "contains_transient_storage" = contains_transient(key: u32, key_len: u32);
        "seal0" "take_transient_storage" = take_transient(key: u32, key_len: u32, out: u32, out_len: u32);
        "seal1" "call" = call(flags: u32, callee: u32, gas: u64, value: u32, input: u32, input_len: u32, out: u32,
            out_len: u32);
        "seal0" "delegate_call" = delegate(flags: u32, code_hash: u32, input: u32, input_len: u32, out: u32,
            out_len: u32);
        "seal0" "set_code_hash" = set_code_hash(code_hash: u32);
        "seal1" "terminate" = terminate(beneficiary: u32);
    }
    Ok(())
}

fn finish(guest: Guest<'_>, flags: u32, data: u32, data_len: u32) -> Result<(), Error> {
    if flags > REVERT {
        return Err(Error::new("unknown flags"));
    }
    let data = guest.read(data, data_len, BUFFER)?;
    Err(Error::host(Returned((flags, data))))
}

fn input(mut guest: Guest<'_>, out: u32, out_len: u32) -> Result<(), Error> {
    let input = guest.frame().input.clone().ok_or_else(|| Error::new("forwarded"))?;
    guest.output(out, out_len, &input)
}

fn caller(mut guest: Guest<'_>, out: u32, out_len: u32) -> Result<(), Error> {
    let caller = guest.frame().caller;
    guest.output(out, out_len, &caller.0)
}

fn address(mut guest: Guest<'_>, out: u32, out_len: u32) -> Result<(), Error> {
    let contract = guest.frame().contract;
    guest.output(out, out_len, &contract.0)
}

fn now(mut guest: Guest<'_>, out: u32, out_len: u32) -> Result<(), Error> {
    let time = guest.machine().block.time_ms;
    guest.output(out, out_len, &time.to_le_bytes())
}

fn own_code_hash(mut guest: Guest<'_>, out: u32, out_len: u32) -> Result<(), Error> {
    let contract = guest.frame().contract;
    let hash = guest.machine().world.contracts.get(&contract).copied();
    guest.output(out, out_len, &hash.unwrap_or_default().0)
}

fn caller_is_origin(mut guest: Guest<'_>) -> Result<u32, Error> {
    let caller = guest.frame().caller;
    Ok(u32::from(caller == guest.machine().origin))
}

fn is_contract(guest: Guest<'_>, account: u32) -> Result<u32, Error> {
    let account = guest.account(account)?;
    Ok(u32::from(guest.machine().world.contracts.contains_key(&account)))
}

fn reentrance_count(mut guest: Guest<'_>) -> Result<u32, Error> {
    let contract = guest.frame().contract;
    let machine = guest.machine();
    let running = machine.stack.iter().filter(|running| running.contract == contract && !running.delegated);
    Ok((running.count() as u32).saturating_sub(1))
}

fn sha2_256(mut guest: Guest<'_>, input: u32, input_len: u32, out: u32) -> Result<(), Error> {
    let digest = Sha256::digest(guest.read(input, input_len, usize::MAX)?);
    guest.write(out, &digest)
}

fn event(mut guest: Guest<'_>, topics: u32, topics_len: u32, data: u32, data_len: u32) -> Result<(), Error> {
    guest.deny_read_only()?;
    let topics = guest.read(topics, topics_len, 8 * 32 + 4)?;
    let topics = if topics.is_empty() { Ok(Vec::new()) } else { Vec::<Hash>::decode_all(&mut &*topics) };
    let topics = topics.map_err(|_| Error::new("bad topics"))?;
    let (contract, data) = (guest.frame().contract, guest.read(data, data_len, VALUE)?);
    guest.machine().events.push(Event { contract, topics, data });
    Ok(())
}

fn storage(machine: &mut Machine) -> &mut Values {
    &mut machine.world.storage
}

fn transient(machine: &mut Machine) -> &mut Values {
    &mut machine.transient
}

fn length(value: Option<Vec<u8>>) -> u32 {
    value.map_or(NONE, |value| value.len() as u32)
}

/// Writes or removes a value; returns the one before.
fn put(
    guest: &mut Guest<'_>,
    place: fn(&mut Machine) -> &mut Values,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>, Error> {
    guest.deny_read_only()?;
    let key = (guest.frame().contract, key);
    let mut machine = guest.machine();
    Ok(match value {
        Some(value) => place(&mut machine).insert(key, value),
        None => place(&mut machine).remove(&key),
    })
}

fn look(guest: &mut Guest<'_>, place: fn(&mut Machine) -> &mut Values, key: Vec<u8>) -> Option<Vec<u8>> {
    let key = (guest.frame().contract, key);
    place(&mut guest.machine()).get(&key).cloned()
}

macro_rules! storage {
    ($place:ident: $set:ident $get:ident $clear:ident $contains:ident $take:ident) => {
        fn $set(mut guest: Guest<'_>, key: u32, key_len: u32, value: u32, value_len: u32) -> Result<u32, Error> {
            let (key, value) = (guest.read(key, key_len, KEY)?, guest.read(value, value_len, VALUE)?);
            put(&mut guest, $place, key, Some(value)).map(length)
        }

        fn $get(mut guest: Guest<'_>, key: u32, key_len: u32, out: u32, out_len: u32) -> Result<u32, Error> {
            let key = guest.read(key, key_len, KEY)?;
            let Some(value) = look(&mut guest, $place, key) else { return Ok(NOT_FOUND) };
            guest.output(out, out_len, &value).map(|()| SUCCESS)
        }

        fn $clear(mut guest: Guest<'_>, key: u32, key_len: u32) -> Result<u32, Error> {
            let key = guest.read(key, key_len, KEY)?;
            put(&mut guest, $place, key, None).map(length)
        }

        fn $contains(mut guest: Guest<'_>, key: u32, key_len: u32) -> Result<u32, Error> {
            let key = guest.read(key, key_len, KEY)?;
            Ok(length(look(&mut guest, $place, key)))
        }

        fn $take(mut guest: Guest<'_>, key: u32, key_len: u32, out: u32, out_len: u32) -> Result<u32, Error> {
            let key = guest.read(key, key_len, KEY)?;
            let Some(value) = look(&mut guest, $place, key.clone()) else { return Ok(NOT_FOUND) };
            guest.output(out, out_len, &value)?;
            put(&mut guest, $place, key, None).map(|_| SUCCESS)
        }
    };
}
storage!(storage: set get clear contains take);
storage!(transient: set_transient get_transient clear_transient contains_transient take_transient);

/// The input of a callee: the contract's own, or bytes of its memory.
fn passed(guest: &mut Guest<'_>, flags: u32, input: u32, input_len: u32) -> Result<Vec<u8>, Error> {
    if flags & !(FORWARD | CLONE | TAIL | REENTRANT | READ_ONLY) != 0 {
        return Err(Error::new("unknown flags"));
    }
    let forwarded = || Error::new("forwarded");
    if flags & CLONE != 0 {
        return guest.frame().input.clone().ok_or_else(forwarded);
    }
    if flags & FORWARD != 0 {
        return guest.frame().input.take().ok_or_else(forwarded);
    }
    guest.read(input, input_len, BUFFER)
}

fn nested(guest: &mut Guest<'_>, frame: Frame) -> Result<Result<Output, Error>, Error> {
    if guest.machine().stack.len() >= MAX_DEPTH {
        return Err(Error::new("too deep"));
    }
    let host = guest.0.data();
    let (shared, machine) = (Rc::clone(&host.shared), Rc::clone(&host.machine));
    Ok(shared.run(&machine, frame))
}

fn answer(
    guest: &mut Guest<'_>,
    flags: u32,
    result: Result<Output, Error>,
    out: u32,
    out_len: u32,
) -> Result<u32, Error> {
    let Ok(output) = result else { return Ok(TRAPPED) };
    if flags & TAIL != 0 {
        return Err(Error::host(Returned(output)));
    }
    guest.output(out, out_len, &output.1)?;
    Ok(if output.0 & REVERT != 0 { REVERTED } else { SUCCESS })
}

fn set_reentrant(guest: &Guest<'_>, reentrant: bool) {
    if let Some(running) = guest.machine().stack.last_mut() {
        running.reentrant = reentrant;
    }
}

#[allow(clippy::too_many_arguments, reason = "the interface of contracts has them")]
fn call(
    mut guest: Guest<'_>,
    flags: u32,
    callee: u32,
    _gas: u64,
    value: u32,
    input: u32,
    input_len: u32,
    out: u32,
    out_len: u32,
) -> Result<u32, Error> {
    let input = passed(&mut guest, flags, input, input_len)?;
    let contract = guest.account(callee)?;
    if guest.read(value, 16, 16)? != [0; 16] {
        return Ok(NOT_PAID);
    }
    set_reentrant(&guest, flags & REENTRANT != 0);
    if guest.machine().stack.iter().any(|running| running.contract == contract && !running.reentrant) {
        return Err(Error::new("entered again"));
    }
    let code_hash = guest.machine().world.contracts.get(&contract).copied();
    let result = match code_hash {
        Some(code_hash) => {
            let (caller, read_only) = (guest.frame().contract, guest.frame().read_only || flags & READ_ONLY != 0);
            let frame = Frame { contract, caller, code_hash, input: Some(input), read_only, delegated: false };
            Some(nested(&mut guest, frame)?)
        }
        None => None,
    };
    set_reentrant(&guest, true);
    match result {
        Some(result) => answer(&mut guest, flags, result, out, out_len),
        None => Ok(NO_CONTRACT),
    }
}

fn delegate(
    mut guest: Guest<'_>,
    flags: u32,
    code_hash: u32,
    input: u32,
    input_len: u32,
    out: u32,
    out_len: u32,
) -> Result<u32, Error> {
    if flags & (REENTRANT | READ_ONLY) != 0 {
        return Err(Error::new("flags that a delegate call does not take"));
    }
    let input = passed(&mut guest, flags, input, input_len)?;
    let code_hash = guest.hash(code_hash)?;
    if !guest.machine().world.codes.contains_key(&code_hash) {
        return Ok(NO_CODE);
    }
    let Frame { contract, caller, read_only, .. } = *guest.frame();
    let frame = Frame { contract, caller, code_hash, input: Some(input), read_only, delegated: true };
    let result = nested(&mut guest, frame)?;
    answer(&mut guest, flags, result, out, out_len)
}

fn set_code_hash(mut guest: Guest<'_>, code_hash: u32) -> Result<u32, Error> {
    guest.deny_read_only()?;
    let code_hash = guest.hash(code_hash)?;
    if !guest.machine().world.codes.contains_key(&code_hash) {
        return Ok(NO_CODE);
    }
    let contract = guest.frame().contract;
    guest.machine().world.contracts.insert(contract, code_hash);
    Ok(SUCCESS)
}

fn terminate(mut guest: Guest<'_>, beneficiary: u32) -> Result<(), Error> {
    guest.deny_read_only()?;
    let beneficiary = guest.account(beneficiary)?;
    let contract = guest.frame().contract;
    if beneficiary == contract {
        return Err(Error::new("a beneficiary of itself"));
    }
    if guest.machine().stack.iter().filter(|running| running.contract == contract).count() > 1 {
        return Err(Error::new("entered more than once"));
    }
    let mut machine = guest.machine();
    machine.world.contracts.remove(&contract);
    machine.world.storage.retain(|(owner, _), _| *owner != contract);
    drop(machine);
    Err(Error::host(Returned((0, Vec::new()))))
}

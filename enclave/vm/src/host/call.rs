//! Contracts that call, create and replace contracts.
//!
//! The callee gets at most the gas that the caller names, or all there is if it names none. Its failure is a status
//! code for the caller, as long as it is the contract's own; a fault of the host ends all.

#![allow(clippy::too_many_arguments, reason = "the interface of contracts has them")]

use super::{define, status};
use crate::{
    child_address,
    error::Reason,
    frame::{Frame, Output, Role},
    gas,
    guest::{Guest, Host, Result, Stop, beyond, trap},
};
use phala_primitives::{AccountId, Code, Hash};
use wasmtime::Linker;

const FORWARD_INPUT: u32 = 1;
const CLONE_INPUT: u32 = 1 << 1;
const TAIL_CALL: u32 = 1 << 2;
const ALLOW_REENTRY: u32 = 1 << 3;
const READ_ONLY: u32 = 1 << 4;
const ALL_FLAGS: u32 = FORWARD_INPUT | CLONE_INPUT | TAIL_CALL | ALLOW_REENTRY | READ_ONLY;

/// Longest salt, in bytes.
const MAX_SALT: usize = 1024;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    define! { linker;
        "seal0" "call" = call_v0(callee: u32, callee_len: u32, gas: u64, value: u32, value_len: u32, input: u32,
            input_len: u32, out: u32, out_len: u32) -> u32;
        "seal1" "call" = call_v1(flags: u32, callee: u32, gas: u64, value: u32, input: u32, input_len: u32, out: u32,
            out_len: u32) -> u32;
        "seal2" "call" = call_v2(flags: u32, callee: u32, ref_time: u64, proof_size: u64, deposit: u32, value: u32,
            input: u32, input_len: u32, out: u32, out_len: u32) -> u32;
        "seal0" "delegate_call" = delegate_call(flags: u32, code_hash: u32, input: u32, input_len: u32, out: u32,
            out_len: u32) -> u32;
        "seal0" "instantiate" = instantiate_v0(code_hash: u32, code_hash_len: u32, gas: u64, value: u32,
            value_len: u32, input: u32, input_len: u32, address: u32, address_len: u32, out: u32, out_len: u32,
            salt: u32, salt_len: u32) -> u32;
        "seal1" "instantiate" = instantiate_v1(code_hash: u32, gas: u64, value: u32, input: u32, input_len: u32,
            address: u32, address_len: u32, out: u32, out_len: u32, salt: u32, salt_len: u32) -> u32;
        "seal2" "instantiate" = instantiate_v2(code_hash: u32, ref_time: u64, proof_size: u64, deposit: u32,
            value: u32, input: u32, input_len: u32, address: u32, address_len: u32, out: u32, out_len: u32, salt: u32,
            salt_len: u32) -> u32;
        "seal0" "set_code_hash" = set_code_hash(code_hash: u32) -> u32;
        "seal0" "terminate" = terminate_v0(beneficiary: u32, beneficiary_len: u32) -> ();
        "seal1" "terminate" = terminate(beneficiary: u32) -> ();
        "seal0" "transfer" = transfer(account: u32, account_len: u32, value: u32, value_len: u32) -> u32;
    }
    Ok(())
}

/// A place for bytes of variable length.
#[derive(Clone, Copy)]
struct Room {
    pointer: u32,
    length_pointer: u32,
}

/// Bytes of the contract.
#[derive(Clone, Copy)]
struct Bytes {
    pointer: u32,
    length: u32,
}

fn call_v0(
    guest: &mut Guest<'_, '_>,
    callee: u32,
    _callee_len: u32,
    gas: u64,
    value: u32,
    _value_len: u32,
    input: u32,
    input_len: u32,
    out: u32,
    out_len: u32,
) -> Result<u32> {
    call_v1(guest, ALLOW_REENTRY, callee, gas, value, input, input_len, out, out_len)
}

fn call_v1(
    guest: &mut Guest<'_, '_>,
    flags: u32,
    callee: u32,
    gas: u64,
    value: u32,
    input: u32,
    input_len: u32,
    out: u32,
    out_len: u32,
) -> Result<u32> {
    let (input, room) = (Bytes { pointer: input, length: input_len }, Room { pointer: out, length_pointer: out_len });
    call(guest, flags, callee, gas, value, input, room)
}

fn call_v2(
    guest: &mut Guest<'_, '_>,
    flags: u32,
    callee: u32,
    ref_time: u64,
    _proof_size: u64,
    _deposit: u32,
    value: u32,
    input: u32,
    input_len: u32,
    out: u32,
    out_len: u32,
) -> Result<u32> {
    call_v1(guest, flags, callee, ref_time, value, input, input_len, out, out_len)
}

fn call(
    guest: &mut Guest<'_, '_>,
    flags: u32,
    callee: u32,
    gas: u64,
    value: u32,
    input: Bytes,
    room: Room,
) -> Result<u32> {
    let input = take_input(guest, flags, input)?;
    let contract = guest.account(callee)?;
    if flags & READ_ONLY != 0 && guest.array::<16>(value)? != [0; 16] {
        return Err(trap("a call that may only read cannot take money along"));
    }
    let reentrant = flags & ALLOW_REENTRY != 0;
    guest.set_reentrant(reentrant)?;
    if !guest.machine()?.may_enter(&contract) {
        return Err(trap(format!("{contract} is under way and does not allow to be entered again")));
    }
    guest.charge(gas::STORAGE_READ)?;
    let outcome = match guest.machine()?.overlay.code_hash(&contract)? {
        Some(code_hash) => {
            let Some(value) = guest.spendable(value, &contract)? else {
                guest.set_reentrant(true)?;
                return Ok(status::TRANSFER_FAILED);
            };
            let frame = guest.frame();
            let (caller, read_only) = (frame.contract, frame.read_only || flags & READ_ONLY != 0);
            let frame = Frame { contract, caller, code_hash, value, input: Some(input), read_only, role: Role::Call };
            Some(nested(guest, frame, gas)?)
        }
        None => None,
    };
    guest.set_reentrant(true)?;
    match outcome {
        Some(outcome) => answer(guest, flags, outcome, room),
        None => Ok(status::NOT_CALLABLE),
    }
}

fn delegate_call(
    guest: &mut Guest<'_, '_>,
    flags: u32,
    code_hash: u32,
    input: u32,
    input_len: u32,
    out: u32,
    out_len: u32,
) -> Result<u32> {
    if flags & (ALLOW_REENTRY | READ_ONLY) != 0 {
        return Err(trap("a delegate call takes neither of the flags for reentry and reading"));
    }
    let input = take_input(guest, flags, Bytes { pointer: input, length: input_len })?;
    let code_hash = guest.hash(code_hash)?;
    if !has_code(guest, &code_hash)? {
        return Ok(status::CODE_NOT_FOUND);
    }
    let Frame { contract, caller, value, read_only, .. } = *guest.frame();
    let frame = Frame { contract, caller, code_hash, value, input: Some(input), read_only, role: Role::Delegate };
    let outcome = nested(guest, frame, 0)?;
    answer(guest, flags, outcome, Room { pointer: out, length_pointer: out_len })
}

fn take_input(guest: &mut Guest<'_, '_>, flags: u32, given: Bytes) -> Result<Vec<u8>> {
    if flags & !ALL_FLAGS != 0 {
        return Err(trap(format!("unknown flags {flags:#x} of a call")));
    }
    let forwarded = || trap("the input was forwarded already");
    let limit = guest.machine()?.message_limit();
    if flags & CLONE_INPUT != 0 {
        let input = guest.frame().input.clone().ok_or_else(forwarded)?;
        if input.len() > limit {
            return Err(beyond(Code::Trapped, "a copy of the input", input.len() as u32, limit));
        }
        guest.charge(gas::bytes(gas::COPY_BYTE, input.len()))?;
        return Ok(input);
    }
    if flags & FORWARD_INPUT != 0 {
        return guest.frame().input.take().ok_or_else(forwarded);
    }
    if given.length as usize > limit {
        return Err(beyond(Code::Trapped, "input for a call", given.length, limit));
    }
    guest.read(given.pointer, given.length)
}

fn has_code(guest: &mut Guest<'_, '_>, hash: &Hash) -> Result<bool> {
    guest.charge(gas::STORAGE_READ)?;
    Ok(guest.machine()?.overlay.world().has_code(hash)?)
}

/// Runs a callee. Its own failures are an `Ok(Err(reason))`; what must end the caller too is an `Err`.
fn nested(guest: &mut Guest<'_, '_>, frame: Frame, limit: u64) -> Result<std::result::Result<Output, Reason>> {
    let depth = guest.machine()?.limits().call_depth;
    if guest.machine()?.stack.len() >= depth {
        return Err(Stop::Failed(Reason::contract(Code::CallDepth, format!("more than {depth} calls deep"))));
    }
    // Settles what the caller's memory owes, so that the callee cannot spend it.
    guest.charge(0)?;
    let left = guest.gas_left()?;
    let given = if limit == 0 { left } else { limit.min(left) };
    let away = || Stop::Failed(Reason::fault(Code::Internal, "the execution is elsewhere"));
    let machine = guest.0.data_mut().machine.take().ok_or_else(away)?;
    let (machine, result, rest) = machine.run(frame, given);
    guest.0.data_mut().machine = Some(machine);
    guest.set_gas(left.saturating_sub(given.saturating_sub(rest)))?;
    match result {
        Err(reason) if reason.is_fault() => Err(Stop::Failed(reason)),
        result => Ok(result),
    }
}

fn answer(
    guest: &mut Guest<'_, '_>,
    flags: u32,
    outcome: std::result::Result<Output, Reason>,
    room: Room,
) -> Result<u32> {
    let Ok(output) = outcome else { return Ok(status::CALLEE_TRAPPED) };
    if flags & TAIL_CALL != 0 {
        return Err(Stop::Return { flags: output.flags, data: output.data });
    }
    guest.output(room.pointer, room.length_pointer, &output.data)?;
    Ok(if output.reverted() { status::CALLEE_REVERTED } else { status::SUCCESS })
}

fn instantiate_v0(
    guest: &mut Guest<'_, '_>,
    code_hash: u32,
    _code_hash_len: u32,
    gas: u64,
    value: u32,
    _value_len: u32,
    input: u32,
    input_len: u32,
    address: u32,
    address_len: u32,
    out: u32,
    out_len: u32,
    salt: u32,
    salt_len: u32,
) -> Result<u32> {
    instantiate_v1(guest, code_hash, gas, value, input, input_len, address, address_len, out, out_len, salt, salt_len)
}

fn instantiate_v1(
    guest: &mut Guest<'_, '_>,
    code_hash: u32,
    gas: u64,
    value: u32,
    input: u32,
    input_len: u32,
    address: u32,
    address_len: u32,
    out: u32,
    out_len: u32,
    salt: u32,
    salt_len: u32,
) -> Result<u32> {
    if salt_len as usize > MAX_SALT {
        return Err(beyond(Code::Trapped, "salt", salt_len, MAX_SALT));
    }
    let code_hash = guest.hash(code_hash)?;
    let input = take_input(guest, 0, Bytes { pointer: input, length: input_len })?;
    let salt = guest.read(salt, salt_len)?;
    if !has_code(guest, &code_hash)? {
        return Ok(status::CODE_NOT_FOUND);
    }
    let Some((contract, outcome)) = create(guest, code_hash, value, input, &salt, gas)? else {
        return Ok(status::TRANSFER_FAILED);
    };
    if outcome.as_ref().is_ok_and(|output| !output.reverted()) {
        guest.output(address, address_len, &contract.0)?;
    }
    answer(guest, 0, outcome, Room { pointer: out, length_pointer: out_len })
}

/// Address and end of a new contract; `None` if the creator owns too little to give it its value.
fn create(
    guest: &mut Guest<'_, '_>,
    code_hash: Hash,
    value: u32,
    input: Vec<u8>,
    salt: &[u8],
    gas: u64,
) -> Result<Option<(AccountId, std::result::Result<Output, Reason>)>> {
    guest.deny_read_only()?;
    let hashed = input.len().saturating_add(salt.len());
    guest.charge(gas::STORAGE_WRITE.saturating_add(gas::bytes(gas::BLAKE2_BYTE, hashed)))?;
    let caller = guest.frame().contract;
    let contract = child_address(&caller, &code_hash, &input, salt);
    let machine = guest.machine()?;
    if machine.overlay.is_taken(&contract)? {
        let detail = format!("{contract}: the same code, input and salt were used before");
        return Err(Stop::Failed(Reason::contract(Code::ContractExists, detail)));
    }
    let Some(value) = guest.spendable(value, &contract)? else { return Ok(None) };
    let machine = guest.machine()?;
    machine.created = machine.created.wrapping_add(1);
    let frame = Frame { contract, caller, code_hash, value, input: Some(input), read_only: false, role: Role::Deploy };
    Ok(Some((contract, nested(guest, frame, gas)?)))
}

fn instantiate_v2(
    guest: &mut Guest<'_, '_>,
    code_hash: u32,
    ref_time: u64,
    _proof_size: u64,
    _deposit: u32,
    value: u32,
    input: u32,
    input_len: u32,
    address: u32,
    address_len: u32,
    out: u32,
    out_len: u32,
    salt: u32,
    salt_len: u32,
) -> Result<u32> {
    instantiate_v1(
        guest,
        code_hash,
        ref_time,
        value,
        input,
        input_len,
        address,
        address_len,
        out,
        out_len,
        salt,
        salt_len,
    )
}

/// Takes effect with the next call of the contract.
fn set_code_hash(guest: &mut Guest<'_, '_>, code_hash: u32) -> Result<u32> {
    guest.deny_read_only()?;
    let code_hash = guest.hash(code_hash)?;
    if !has_code(guest, &code_hash)? {
        return Ok(status::CODE_NOT_FOUND);
    }
    guest.charge(gas::STORAGE_WRITE)?;
    let contract = guest.frame().contract;
    guest.machine()?.overlay.set_code_hash(contract, code_hash);
    Ok(status::SUCCESS)
}

fn terminate(guest: &mut Guest<'_, '_>, beneficiary: u32) -> Result<()> {
    guest.deny_read_only()?;
    let beneficiary = guest.account(beneficiary)?;
    if guest.frame().role == Role::Deploy {
        return Err(trap("a constructor cannot end its contract"));
    }
    let contract = guest.frame().contract;
    let machine = guest.machine()?;
    if machine.stack.iter().filter(|frame| frame.contract == contract).count() > 1 {
        return Err(trap("a contract cannot end while it is entered more than once"));
    }
    if beneficiary == contract {
        return Err(trap("a contract that ends cannot leave its money to itself"));
    }
    guest.charge(gas::STORAGE_WRITE.saturating_add(gas::TRANSFER))?;
    let overlay = &mut guest.machine()?.overlay;
    let all = overlay.balance(&contract)?;
    if !overlay.transfer(contract, beneficiary, all)? {
        return Err(trap("what the contract owns cannot go to its beneficiary"));
    }
    overlay.terminate(contract);
    Err(Stop::Terminated)
}

fn terminate_v0(guest: &mut Guest<'_, '_>, beneficiary: u32, _beneficiary_len: u32) -> Result<()> {
    terminate(guest, beneficiary)
}

fn transfer(guest: &mut Guest<'_, '_>, account: u32, _: u32, value: u32, _: u32) -> Result<u32> {
    let to = guest.account(account)?;
    let Some(amount) = guest.spendable(value, &to)? else { return Ok(status::TRANSFER_FAILED) };
    let from = guest.frame().contract;
    let moved = guest.machine()?.overlay.transfer(from, to, amount)?;
    Ok(if moved { status::SUCCESS } else { status::TRANSFER_FAILED })
}

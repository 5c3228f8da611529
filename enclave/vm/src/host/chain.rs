//! What a contract may know: its input, itself, its caller, height and time, other contracts.

use super::{define, status};
use crate::{
    gas,
    guest::{Guest, Host, Result, Stop, beyond, trap},
};
use codec::{Compact, Encode};
use phala_primitives::{Code, limits::MIN_BALANCE};
use wasmtime::Linker;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    define! { linker;
        "seal0" "input" = input(out: u32, out_len: u32) -> ();
        "seal0" "return" = finish(flags: u32, data: u32, data_len: u32) -> ();
        "seal0" "caller" = caller(out: u32, out_len: u32) -> ();
        "seal0" "caller_is_origin" = caller_is_origin() -> u32;
        "seal0" "caller_is_root" = caller_is_root() -> u32;
        "seal0" "address" = address(out: u32, out_len: u32) -> ();
        "seal0" "balance" = balance(out: u32, out_len: u32) -> ();
        "seal0" "value_transferred" = value_transferred(out: u32, out_len: u32) -> ();
        "seal0" "minimum_balance" = minimum_balance(out: u32, out_len: u32) -> ();
        "seal0" "weight_to_fee" = fee_v0(gas: u64, out: u32, out_len: u32) -> ();
        "seal1" "weight_to_fee" = fee(ref_time: u64, proof_size: u64, out: u32, out_len: u32) -> ();
        "seal0" "gas_left" = gas_left_v0(out: u32, out_len: u32) -> ();
        "seal1" "gas_left" = gas_left(out: u32, out_len: u32) -> ();
        "seal0" "now" = now(out: u32, out_len: u32) -> ();
        "seal0" "block_number" = block_number(out: u32, out_len: u32) -> ();
        "seal0" "is_contract" = is_contract(account: u32) -> u32;
        "seal0" "code_hash" = code_hash(account: u32, out: u32, out_len: u32) -> u32;
        "seal0" "own_code_hash" = own_code_hash(out: u32, out_len: u32) -> ();
        "seal0" "reentrance_count" = reentrance_count() -> u32;
        "seal0" "account_reentrance_count" = account_reentrance_count(account: u32) -> u32;
        "seal0" "instantiation_nonce" = instantiation_nonce() -> u64;
        "seal0" "lock_delegate_dependency" = delegate_dependency(code_hash: u32) -> ();
        "seal0" "unlock_delegate_dependency" = delegate_dependency(code_hash: u32) -> ();
        "seal0" "call_runtime" = call_runtime(call: u32, call_len: u32) -> u32;
        "seal0" "xcm_execute" = xcm_execute(message: u32, message_len: u32) -> u32;
        "seal0" "xcm_send" = xcm_send(destination: u32, message: u32, message_len: u32, out: u32) -> u32;
    }
    Ok(())
}

fn input(guest: &mut Guest<'_, '_>, out: u32, out_len: u32) -> Result<()> {
    let input = guest.frame().input.take().ok_or_else(|| trap("the input was forwarded to another contract"))?;
    let result = guest.output(out, out_len, &input);
    guest.frame().input = Some(input);
    result
}

fn finish(guest: &mut Guest<'_, '_>, flags: u32, data: u32, data_len: u32) -> Result<()> {
    if flags > crate::Execution::REVERT {
        return Err(trap(format!("unknown flags {flags:#x} of a return")));
    }
    let limit = guest.machine()?.reply_limit();
    if data_len as usize > limit {
        return Err(beyond(Code::ReplyTooLarge, "output", data_len, limit));
    }
    Err(Stop::Return { flags, data: guest.read(data, data_len)? })
}

fn caller(guest: &mut Guest<'_, '_>, out: u32, out_len: u32) -> Result<()> {
    let caller = guest.frame().caller;
    guest.output(out, out_len, &caller.0)
}

fn caller_is_origin(guest: &mut Guest<'_, '_>) -> Result<u32> {
    let caller = guest.frame().caller;
    Ok(u32::from(caller == guest.machine()?.origin))
}

fn caller_is_root(_: &mut Guest<'_, '_>) -> Result<u32> {
    Ok(0)
}

fn address(guest: &mut Guest<'_, '_>, out: u32, out_len: u32) -> Result<()> {
    let contract = guest.frame().contract;
    guest.output(out, out_len, &contract.0)
}

fn balance(guest: &mut Guest<'_, '_>, out: u32, out_len: u32) -> Result<()> {
    guest.charge(gas::STORAGE_READ)?;
    let contract = guest.frame().contract;
    let balance = guest.machine()?.overlay.balance(&contract)?;
    guest.output(out, out_len, &balance.to_le_bytes())
}

fn value_transferred(guest: &mut Guest<'_, '_>, out: u32, out_len: u32) -> Result<()> {
    let value = guest.frame().value;
    guest.output(out, out_len, &value.to_le_bytes())
}

fn minimum_balance(guest: &mut Guest<'_, '_>, out: u32, out_len: u32) -> Result<()> {
    guest.output(out, out_len, &MIN_BALANCE.to_le_bytes())
}

/// Gas has no price yet.
fn fee_v0(guest: &mut Guest<'_, '_>, _gas: u64, out: u32, out_len: u32) -> Result<()> {
    guest.output(out, out_len, &0_u128.to_le_bytes())
}

fn fee(guest: &mut Guest<'_, '_>, _ref_time: u64, _proof_size: u64, out: u32, out_len: u32) -> Result<()> {
    guest.output(out, out_len, &0_u128.to_le_bytes())
}

fn gas_left_v0(guest: &mut Guest<'_, '_>, out: u32, out_len: u32) -> Result<()> {
    let left = guest.gas_left()?;
    guest.output(out, out_len, &left.to_le_bytes())
}

/// As a weight; the size of proofs is not limited.
fn gas_left(guest: &mut Guest<'_, '_>, out: u32, out_len: u32) -> Result<()> {
    let left = guest.gas_left()?;
    guest.output(out, out_len, &(Compact(left), Compact(u64::MAX)).encode())
}

fn now(guest: &mut Guest<'_, '_>, out: u32, out_len: u32) -> Result<()> {
    let time = guest.machine()?.block.time_ms;
    guest.output(out, out_len, &time.to_le_bytes())
}

fn block_number(guest: &mut Guest<'_, '_>, out: u32, out_len: u32) -> Result<()> {
    let height = u32::try_from(guest.machine()?.block.height).unwrap_or(u32::MAX);
    guest.output(out, out_len, &height.to_le_bytes())
}

fn is_contract(guest: &mut Guest<'_, '_>, account: u32) -> Result<u32> {
    Ok(u32::from(guest.code_of(account)?.is_some()))
}

fn code_hash(guest: &mut Guest<'_, '_>, account: u32, out: u32, out_len: u32) -> Result<u32> {
    let Some(hash) = guest.code_of(account)? else { return Ok(status::KEY_NOT_FOUND) };
    guest.output(out, out_len, &hash.0)?;
    Ok(status::SUCCESS)
}

fn own_code_hash(guest: &mut Guest<'_, '_>, out: u32, out_len: u32) -> Result<()> {
    guest.charge(gas::STORAGE_READ)?;
    let frame = guest.frame();
    let (contract, running) = (frame.contract, frame.code_hash);
    let hash = guest.machine()?.overlay.code_hash(&contract)?.unwrap_or(running);
    guest.output(out, out_len, &hash.0)
}

/// How often a contract is under way, other than by code that it delegated to.
fn count(guest: &mut Guest<'_, '_>, contract: &phala_primitives::AccountId) -> Result<u32> {
    let running = guest.machine()?.stack.iter().filter(|frame| frame.contract == *contract && !frame.delegated);
    Ok(running.count() as u32)
}

fn reentrance_count(guest: &mut Guest<'_, '_>) -> Result<u32> {
    let contract = guest.frame().contract;
    Ok(count(guest, &contract)?.saturating_sub(1))
}

fn account_reentrance_count(guest: &mut Guest<'_, '_>, account: u32) -> Result<u32> {
    let contract = guest.account(account)?;
    count(guest, &contract)
}

/// A number that no other call of this function returns in this cluster, as long as an execution makes less than 2^16
/// contracts, and an entry has at most 512 executions: the first 256 places are those of commands, then come timers.
fn instantiation_nonce(guest: &mut Guest<'_, '_>) -> Result<u64> {
    let machine = guest.machine()?;
    let (height, index) = (machine.block.height, u64::from(machine.block.index));
    Ok(((index >> 8) << 63)
        .wrapping_add(height << 24)
        .wrapping_add((index & 0xff) << 16)
        .wrapping_add(machine.created & 0xffff))
}

/// Clusters never remove code, so there is nothing to lock.
fn delegate_dependency(guest: &mut Guest<'_, '_>, code_hash: u32) -> Result<()> {
    guest.hash(code_hash).map(drop)
}

/// Contracts run beside the chain, not in its runtime.
fn call_runtime(guest: &mut Guest<'_, '_>, call: u32, call_len: u32) -> Result<u32> {
    guest.view(call, call_len)?;
    Ok(status::CALL_RUNTIME_FAILED)
}

fn xcm_execute(guest: &mut Guest<'_, '_>, message: u32, message_len: u32) -> Result<u32> {
    guest.view(message, message_len)?;
    Ok(status::XCM_EXECUTION_FAILED)
}

fn xcm_send(guest: &mut Guest<'_, '_>, _destination: u32, message: u32, message_len: u32, _out: u32) -> Result<u32> {
    guest.view(message, message_len)?;
    Ok(status::XCM_SEND_FAILED)
}

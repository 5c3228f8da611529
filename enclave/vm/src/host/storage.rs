//! Storage of the contract that runs: keys of up to 128 bytes, values of up to 64 KiB by default.
//!
//! Transient storage takes the same keys and values, and forgets them at the end of the command or query. What a call
//! wrote there is undone if the call fails, as with storage proper.

use super::{define, status};
use crate::{
    gas,
    guest::{Guest, Host, Result, SENTINEL, beyond},
};
use phala_primitives::Code;
use wasmtime::Linker;

/// Length of keys in the oldest functions.
const FIXED_KEY: u32 = 32;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    define! { linker;
        "seal0" "set_storage" = set_v0(key: u32, value: u32, value_len: u32) -> ();
        "seal1" "set_storage" = set_v1(key: u32, value: u32, value_len: u32) -> u32;
        "seal2" "set_storage" = set(key: u32, key_len: u32, value: u32, value_len: u32) -> u32;
        "seal0" "get_storage" = get_v0(key: u32, out: u32, out_len: u32) -> u32;
        "seal1" "get_storage" = get(key: u32, key_len: u32, out: u32, out_len: u32) -> u32;
        "seal0" "clear_storage" = clear_v0(key: u32) -> ();
        "seal1" "clear_storage" = clear(key: u32, key_len: u32) -> u32;
        "seal0" "contains_storage" = contains_v0(key: u32) -> u32;
        "seal1" "contains_storage" = contains(key: u32, key_len: u32) -> u32;
        "seal0" "take_storage" = take(key: u32, key_len: u32, out: u32, out_len: u32) -> u32;
        "seal0" "set_transient_storage" = set_transient(key: u32, key_len: u32, value: u32, value_len: u32) -> u32;
        "seal0" "get_transient_storage" = get_transient(key: u32, key_len: u32, out: u32, out_len: u32) -> u32;
        "seal0" "clear_transient_storage" = clear_transient(key: u32, key_len: u32) -> u32;
        "seal0" "contains_transient_storage" = contains_transient(key: u32, key_len: u32) -> u32;
        "seal0" "take_transient_storage" = take_transient(key: u32, key_len: u32, out: u32, out_len: u32) -> u32;
    }
    Ok(())
}

fn read_key(guest: &mut Guest<'_, '_>, pointer: u32, length: u32) -> Result<Vec<u8>> {
    let limit = guest.machine()?.limits().key_bytes;
    if length as usize > limit {
        return Err(beyond(Code::StorageLimit, "a storage key", length, limit));
    }
    guest.read(pointer, length)
}

/// Length of an old value as contracts get it.
fn length(value: Option<usize>) -> u32 {
    value.map_or(SENTINEL, |length| length as u32)
}

fn load(guest: &mut Guest<'_, '_>, key: Vec<u8>) -> Result<Option<Vec<u8>>> {
    guest.charge(gas::STORAGE_READ)?;
    let contract = guest.frame().contract;
    let value = guest.machine()?.overlay.read(contract, key, |value| value.map(<[u8]>::to_vec))?;
    guest.charge(gas::bytes(gas::STORAGE_READ_BYTE, value.as_ref().map_or(0, Vec::len)))?;
    Ok(value)
}

fn store(guest: &mut Guest<'_, '_>, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<Option<usize>> {
    guest.deny_read_only()?;
    let bytes = key.len().saturating_add(value.as_ref().map_or(0, Vec::len));
    guest.charge(gas::STORAGE_WRITE.saturating_add(gas::bytes(gas::STORAGE_WRITE_BYTE, bytes)))?;
    let contract = guest.frame().contract;
    Ok(guest.machine()?.overlay.write(contract, key, value)?)
}

fn read_value(guest: &mut Guest<'_, '_>, pointer: u32, length: u32) -> Result<Vec<u8>> {
    let limit = guest.machine()?.limits().value_bytes;
    if length as usize > limit {
        return Err(beyond(Code::StorageLimit, "a storage value", length, limit));
    }
    guest.read(pointer, length)
}

fn set(guest: &mut Guest<'_, '_>, key: u32, key_len: u32, value: u32, value_len: u32) -> Result<u32> {
    let key = read_key(guest, key, key_len)?;
    let value = read_value(guest, value, value_len)?;
    store(guest, key, Some(value)).map(length)
}

fn set_v0(guest: &mut Guest<'_, '_>, key: u32, value: u32, value_len: u32) -> Result<()> {
    set(guest, key, FIXED_KEY, value, value_len).map(drop)
}

fn set_v1(guest: &mut Guest<'_, '_>, key: u32, value: u32, value_len: u32) -> Result<u32> {
    set(guest, key, FIXED_KEY, value, value_len)
}

fn get(guest: &mut Guest<'_, '_>, key: u32, key_len: u32, out: u32, out_len: u32) -> Result<u32> {
    let key = read_key(guest, key, key_len)?;
    let Some(value) = load(guest, key)? else { return Ok(status::KEY_NOT_FOUND) };
    guest.output(out, out_len, &value)?;
    Ok(status::SUCCESS)
}

fn get_v0(guest: &mut Guest<'_, '_>, key: u32, out: u32, out_len: u32) -> Result<u32> {
    get(guest, key, FIXED_KEY, out, out_len)
}

fn clear(guest: &mut Guest<'_, '_>, key: u32, key_len: u32) -> Result<u32> {
    let key = read_key(guest, key, key_len)?;
    store(guest, key, None).map(length)
}

fn clear_v0(guest: &mut Guest<'_, '_>, key: u32) -> Result<()> {
    clear(guest, key, FIXED_KEY).map(drop)
}

fn contains(guest: &mut Guest<'_, '_>, key: u32, key_len: u32) -> Result<u32> {
    let key = read_key(guest, key, key_len)?;
    guest.charge(gas::STORAGE_READ)?;
    let contract = guest.frame().contract;
    let found = guest.machine()?.overlay.read(contract, key, |value| value.map(<[u8]>::len))?;
    guest.charge(gas::bytes(gas::STORAGE_READ_BYTE, found.unwrap_or(0)))?;
    Ok(length(found))
}

fn contains_v0(guest: &mut Guest<'_, '_>, key: u32) -> Result<u32> {
    contains(guest, key, FIXED_KEY)
}

fn take(guest: &mut Guest<'_, '_>, key: u32, key_len: u32, out: u32, out_len: u32) -> Result<u32> {
    let key = read_key(guest, key, key_len)?;
    let Some(value) = load(guest, key.clone())? else { return Ok(status::KEY_NOT_FOUND) };
    guest.output(out, out_len, &value)?;
    store(guest, key, None)?;
    Ok(status::SUCCESS)
}

fn load_transient(guest: &mut Guest<'_, '_>, key: Vec<u8>) -> Result<Option<Vec<u8>>> {
    guest.charge(gas::TRANSIENT)?;
    let contract = guest.frame().contract;
    let value = guest.machine()?.overlay.read_transient(contract, key).map(<[u8]>::to_vec);
    guest.charge(gas::bytes(gas::TRANSIENT_BYTE, value.as_ref().map_or(0, Vec::len)))?;
    Ok(value)
}

fn store_transient(guest: &mut Guest<'_, '_>, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<Option<usize>> {
    guest.deny_read_only()?;
    let bytes = key.len().saturating_add(value.as_ref().map_or(0, Vec::len));
    guest.charge(gas::TRANSIENT.saturating_add(gas::bytes(gas::TRANSIENT_BYTE, bytes)))?;
    let contract = guest.frame().contract;
    Ok(guest.machine()?.overlay.write_transient(contract, key, value)?)
}

fn set_transient(guest: &mut Guest<'_, '_>, key: u32, key_len: u32, value: u32, value_len: u32) -> Result<u32> {
    let key = read_key(guest, key, key_len)?;
    let value = read_value(guest, value, value_len)?;
    store_transient(guest, key, Some(value)).map(length)
}

fn get_transient(guest: &mut Guest<'_, '_>, key: u32, key_len: u32, out: u32, out_len: u32) -> Result<u32> {
    let key = read_key(guest, key, key_len)?;
    let Some(value) = load_transient(guest, key)? else { return Ok(status::KEY_NOT_FOUND) };
    guest.output(out, out_len, &value)?;
    Ok(status::SUCCESS)
}

fn clear_transient(guest: &mut Guest<'_, '_>, key: u32, key_len: u32) -> Result<u32> {
    let key = read_key(guest, key, key_len)?;
    store_transient(guest, key, None).map(length)
}

fn contains_transient(guest: &mut Guest<'_, '_>, key: u32, key_len: u32) -> Result<u32> {
    let key = read_key(guest, key, key_len)?;
    load_transient(guest, key).map(|value| length(value.map(|value| value.len())))
}

fn take_transient(guest: &mut Guest<'_, '_>, key: u32, key_len: u32, out: u32, out_len: u32) -> Result<u32> {
    let key = read_key(guest, key, key_len)?;
    let Some(value) = load_transient(guest, key.clone())? else { return Ok(status::KEY_NOT_FOUND) };
    guest.output(out, out_len, &value)?;
    store_transient(guest, key, None)?;
    Ok(status::SUCCESS)
}

//! The functions of the host that random programs use, on the interpreter wasmi: a second opinion of what they do.

use super::programs::KEY;
use crate::support::ALICE;
use phala_primitives::AccountId;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt};
use wasmi::{Caller, Engine, Error, Extern, Linker, Memory, MemoryType, Module, Store};

type Guest<'a> = Caller<'a, Host>;
type Bytes = Vec<u8>;

/// A run that came to an end of its own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Returned {
    pub(crate) flags: u32,
    pub(crate) data: Bytes,
    /// What was written or, where `None`, removed. Nothing if it reverted.
    pub(crate) changes: BTreeMap<Bytes, Option<Bytes>>,
}

struct Host {
    contract: AccountId,
    input: Bytes,
    memory: Option<Memory>,
    changes: BTreeMap<Bytes, Option<Bytes>>,
    returned: Option<(u32, Bytes)>,
}

/// Why a contract stops that has not failed.
#[derive(Debug)]
struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("returned")
    }
}

impl wasmi::errors::HostError for Stop {}

/// Runs `call`; `None` if it trapped.
pub(crate) fn run(contract: AccountId, wasm: &[u8], input: &[u8]) -> Option<Returned> {
    let engine = Engine::default();
    let module = Module::new(&engine, wasm).unwrap();
    let (input, changes) = (input.to_vec(), BTreeMap::new());
    let mut store = Store::new(&engine, Host { contract, input, memory: None, changes, returned: None });
    let memory = Memory::new(&mut store, MemoryType::new(2, Some(4))).unwrap();
    store.data_mut().memory = Some(memory);
    let mut linker = Linker::new(&engine);
    linker.define("env", "memory", Extern::Memory(memory)).unwrap();
    link(&mut linker).unwrap();
    let instance = linker.instantiate_and_start(&mut store, &module).unwrap();
    let result = instance.get_typed_func::<(), ()>(&store, "call").unwrap().call(&mut store, ());
    match result {
        Err(error) if error.downcast_ref::<Stop>().is_none() => return None,
        _ => {}
    }
    let Host { changes, returned, .. } = store.into_data();
    let (flags, data) = returned.unwrap_or_default();
    Some(Returned { flags, data, changes: if flags == 0 { changes } else { BTreeMap::new() } })
}

fn link(linker: &mut Linker<Host>) -> Result<(), Error> {
    linker.func_wrap("seal0", "seal_return", |mut guest: Guest<'_>, flags: u32, data: u32, length: u32| {
        let data = read(&guest, data, length, 1 << 20)?;
        guest.data_mut().returned = Some((flags, data));
        Err::<(), _>(Error::host(Stop))
    })?;
    linker.func_wrap("seal0", "input", |mut guest: Guest<'_>, out: u32, length: u32| {
        let input = guest.data().input.clone();
        output(&mut guest, out, length, &input)
    })?;
    linker.func_wrap("seal0", "caller", |mut guest: Guest<'_>, out: u32, length: u32| {
        output(&mut guest, out, length, &ALICE.0)
    })?;
    linker.func_wrap("seal0", "address", |mut guest: Guest<'_>, out: u32, length: u32| {
        let contract = guest.data().contract;
        output(&mut guest, out, length, &contract.0)
    })?;
    linker.func_wrap(
        "seal2",
        "set_storage",
        |mut guest: Guest<'_>, key: u32, key_len: u32, value: u32, value_len: u32| {
            let (key, value) = (read(&guest, key, key_len, 128)?, read(&guest, value, value_len, 64 << 10)?);
            Ok(put(&mut guest, key, Some(value)))
        },
    )?;
    linker.func_wrap("seal1", "clear_storage", |mut guest: Guest<'_>, key: u32, key_len: u32| {
        let key = read(&guest, key, key_len, 128)?;
        Ok(put(&mut guest, key, None))
    })?;
    linker.func_wrap("seal1", "contains_storage", |guest: Guest<'_>, key: u32, key_len: u32| {
        let key = read(&guest, key, key_len, 128)?;
        Ok(length(get(&guest, &key)))
    })?;
    linker.func_wrap(
        "seal1",
        "get_storage",
        |mut guest: Guest<'_>, key: u32, key_len: u32, out: u32, out_len: u32| {
            let key = read(&guest, key, key_len, 128)?;
            let Some(value) = get(&guest, &key) else { return Ok(3) };
            output(&mut guest, out, out_len, &value).map(|()| 0_u32)
        },
    )?;
    linker.func_wrap(
        "seal0",
        "take_storage",
        |mut guest: Guest<'_>, key: u32, key_len: u32, out: u32, out_len: u32| {
            let key = read(&guest, key, key_len, 128)?;
            let Some(value) = get(&guest, &key) else { return Ok(3) };
            output(&mut guest, out, out_len, &value)?;
            put(&mut guest, key, None);
            Ok(0_u32)
        },
    )?;
    linker.func_wrap("seal0", "hash_sha2_256", |mut guest: Guest<'_>, input: u32, input_len: u32, out: u32| {
        let digest = Sha256::digest(read(&guest, input, input_len, usize::MAX)?);
        write(&mut guest, out, &digest)
    })?;
    Ok(())
}

fn read(guest: &Guest<'_>, pointer: u32, length: u32, limit: usize) -> Result<Bytes, Error> {
    let (start, length) = (pointer as usize, length as usize);
    let memory = guest.data().memory.unwrap().data(guest);
    match memory.get(start..start + length) {
        Some(bytes) if length <= limit => Ok(bytes.to_vec()),
        _ => Err(Error::new("out of bounds")),
    }
}

fn write(guest: &mut Guest<'_>, pointer: u32, bytes: &[u8]) -> Result<(), Error> {
    let memory = guest.data().memory.unwrap();
    memory.write(guest, pointer as usize, bytes).map_err(|_| Error::new("out of bounds"))
}

fn output(guest: &mut Guest<'_>, pointer: u32, length_pointer: u32, bytes: &[u8]) -> Result<(), Error> {
    if pointer == u32::MAX {
        return Ok(());
    }
    let room = u32::from_le_bytes(read(guest, length_pointer, 4, 4)?.try_into().unwrap());
    if bytes.len() > room as usize {
        return Err(Error::new("no room"));
    }
    write(guest, pointer, bytes)?;
    write(guest, length_pointer, &(bytes.len() as u32).to_le_bytes())
}

fn get(guest: &Guest<'_>, key: &[u8]) -> Option<Bytes> {
    match guest.data().changes.get(key) {
        Some(value) => value.clone(),
        None => (key == KEY).then(|| b"old value".to_vec()),
    }
}

fn put(guest: &mut Guest<'_>, key: Bytes, value: Option<Bytes>) -> u32 {
    let before = get(guest, &key);
    guest.data_mut().changes.insert(key, value);
    length(before)
}

fn length(value: Option<Bytes>) -> u32 {
    value.map_or(u32::MAX, |value| value.len() as u32)
}

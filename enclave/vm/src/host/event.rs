//! What contracts tell the outside.

use super::{define, status};
use crate::{
    Event, gas,
    guest::{Guest, Host, Result, beyond, trap},
};
use codec::DecodeAll;
use phala_primitives::{Code, Hash};
use wasmtime::Linker;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    define! { linker;
        "seal0" "deposit_event" = deposit(topics: u32, topics_len: u32, data: u32, data_len: u32) -> ();
        "seal0" "debug_message" = debug(text: u32, text_len: u32) -> u32;
    }
    Ok(())
}

fn deposit(guest: &mut Guest<'_, '_>, topics: u32, topics_len: u32, data: u32, data_len: u32) -> Result<()> {
    guest.deny_read_only()?;
    let limits = *guest.machine()?.limits();
    if data_len as usize > limits.event_bytes {
        return Err(beyond(Code::StorageLimit, "an event", data_len, limits.event_bytes));
    }
    // Topics are a SCALE vector: a length of one byte, as long as there are fewer than 64, and 32 bytes each.
    if topics_len as usize > limits.topics.saturating_mul(32).saturating_add(4) {
        return Err(trap(format!("more than {} topics in an event", limits.topics)));
    }
    let bytes = (topics_len as usize).saturating_add(data_len as usize);
    guest.charge(gas::EVENT.saturating_add(gas::bytes(gas::EVENT_BYTE, bytes)))?;
    let topics = match topics_len {
        0 => Vec::new(),
        _ => Vec::<Hash>::decode_all(&mut guest.view(topics, topics_len)?)
            .map_err(|_| trap("the topics of an event cannot be decoded"))?,
    };
    let (contract, data) = (guest.frame().contract, guest.read(data, data_len)?);
    let machine = guest.machine()?;
    if machine.events.len() >= limits.events {
        return Err(trap(format!("more than {} events", limits.events)));
    }
    machine.events.push(Event { contract, topics, data });
    Ok(())
}

fn debug(guest: &mut Guest<'_, '_>, text: u32, text_len: u32) -> Result<u32> {
    let machine = guest.machine()?;
    let room = machine.limits().debug_bytes.saturating_sub(machine.debug.len());
    let kept = (text_len as usize).min(room) as u32;
    let text = guest.read(text, kept)?;
    guest.machine()?.debug.extend_from_slice(&text);
    Ok(status::SUCCESS)
}

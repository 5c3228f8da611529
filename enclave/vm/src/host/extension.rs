//! The door to the engine's extension.

use super::{define, status};
use crate::{
    BlockInfo, Effect, Fork, Limits, Refusal, Reply, Scope,
    error::Reason,
    gas,
    guest::{Guest, Host, Result, Stop, beyond, trap},
};
use phala_primitives::{AccountId, Balance, Code, Hash};
use wasmtime::Linker;
use zeroize::Zeroizing;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    define! { linker;
        "seal0" "call_chain_extension"
            = chain_extension(id: u32, input: u32, input_len: u32, out: u32, out_len: u32) -> u32;
    }
    Ok(())
}

/// What the extension sees of the contract that calls it.
struct Calling<'a, 'b, 'c>(&'a mut Guest<'b, 'c>);

/// An extension's refusal as the end of the contract.
impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Failed(match refusal {
            Refusal::Contract(code, detail) => Reason::contract(code, detail),
            Refusal::Fault(code, detail) => Reason::fault(code, detail),
        })
    }
}

impl From<Stop> for Refusal {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Failed(Reason::Contract { code, detail }) => Self::Contract(code, detail),
            Stop::Failed(Reason::Fault { code, detail }) => Self::Fault(code, detail),
            other => Self::Fault(Code::Internal, other.to_string()),
        }
    }
}

impl Scope for Calling<'_, '_, '_> {
    fn contract(&self) -> AccountId {
        self.0.0.data().frame.contract
    }

    fn is_command(&self) -> bool {
        self.0.0.data().machine.as_ref().is_none_or(|machine| machine.metered())
    }

    fn is_read_only(&self) -> bool {
        self.0.0.data().frame.read_only
    }

    fn block(&self) -> BlockInfo {
        self.0.0.data().machine.as_ref().map(|machine| machine.block).unwrap_or_default()
    }

    fn limits(&self) -> Limits {
        self.0.0.data().machine.as_ref().map(|machine| *machine.limits()).unwrap_or_default()
    }

    fn fork(&self) -> std::result::Result<Fork, Refusal> {
        let (machine, contract) = (self.0.0.data().machine.as_ref(), self.contract());
        let fork = machine.and_then(|machine| Fork::of(machine, contract));
        fork.ok_or_else(|| Refusal::trap("neither a command nor a part of a query can be split"))
    }

    fn charge(&mut self, gas: u64) -> std::result::Result<(), Refusal> {
        Ok(self.0.charge(gas)?)
    }

    fn number(&mut self) -> u64 {
        let machine = self.0.0.data_mut().machine.as_mut();
        machine.map_or(0, |machine| {
            machine.numbers += 1;
            machine.numbers
        })
    }

    fn time_left(&self) -> u64 {
        self.0.0.data().machine.as_ref().map_or(0, |machine| machine.time_left())
    }

    fn has_code(&mut self, hash: &Hash) -> std::result::Result<bool, Refusal> {
        self.0.charge(gas::STORAGE_READ)?;
        Ok(self.0.machine()?.overlay.world().has_code(hash).map_err(Stop::from)?)
    }

    fn balance(&mut self) -> std::result::Result<Balance, Refusal> {
        self.0.charge(gas::STORAGE_READ)?;
        let contract = self.contract();
        Ok(self.0.machine()?.overlay.balance(&contract).map_err(Stop::from)?)
    }

    fn pay_out(&mut self, amount: Balance) -> std::result::Result<bool, Refusal> {
        self.0.deny_read_only()?;
        self.0.charge(gas::TRANSFER)?;
        let contract = self.contract();
        Ok(self.0.machine()?.overlay.pay_out(contract, amount).map_err(Stop::from)?)
    }

    fn secret(&mut self) -> std::result::Result<Option<Zeroizing<[u8; 32]>>, Refusal> {
        let contract = self.contract();
        Ok(self.0.machine()?.overlay.world().secret(&contract).map_err(Stop::from)?)
    }

    fn events(&mut self) -> std::result::Result<(u64, Hash), Refusal> {
        self.0.charge(gas::STORAGE_READ)?;
        let contract = self.contract();
        Ok(self.0.machine()?.overlay.world().events(&contract).map_err(Stop::from)?)
    }

    fn effect(&mut self, data: Vec<u8>) -> std::result::Result<(), Refusal> {
        let contract = self.contract();
        let machine = self.0.machine()?;
        let (effects, bytes) = (machine.limits().effects, machine.limits().effect_bytes);
        machine.effect_bytes = machine.effect_bytes.saturating_add(data.len());
        if machine.effects.len() >= effects || machine.effect_bytes > bytes {
            return Err(Refusal::trap(format!(
                "more than {effects} effects or {bytes} bytes of them in one execution"
            )));
        }
        machine.effects.push(Effect { contract, data });
        Ok(())
    }
}

fn chain_extension(
    guest: &mut Guest<'_, '_>,
    id: u32,
    input: u32,
    input_len: u32,
    out: u32,
    out_len: u32,
) -> Result<u32> {
    let Some(extension) = guest.machine()?.shared.extension.clone() else {
        return Err(trap(format!("chain extension {id} is not offered by this network")));
    };
    let limit = guest.machine()?.message_limit();
    if input_len as usize > limit {
        return Err(beyond(Code::Trapped, "input for an extension", input_len, limit));
    }
    let input = guest.read(input, input_len)?;
    let output = match extension.call(id, &input, &mut Calling(guest))? {
        Reply::Now(output) => output,
        Reply::Wait(_) if guest.machine()?.metered() => return Err(trap("a command cannot wait for the outside")),
        Reply::Wait(wait) => guest.machine()?.pause(wait)?,
    };
    guest.output(out, out_len, &output)?;
    Ok(status::SUCCESS)
}

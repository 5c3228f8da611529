//! HTTP requests that come to workers and become calls of contracts.
//!
//! A contract opens a **hook** for a path; it becomes part of the state. A member that gets an HTTP request for a
//! contract sends it as a command of its own ([`Action::Hook`]), which only members may send. When it is executed, the
//! hook with the longest path that serves the request's names the message; the contract is called on behalf of itself,
//! and what it returns is the outcome. Who made the HTTP request, nobody says but the contract, which checks what the
//! request carries.
//!
//! A command of this kind is named by the contract and the id, not by the member: the same request under an idempotency
//! key is executed once, whichever members it was brought to, and all of them tell the same outcome.
//!
//! [`Action::Hook`]: phala_session::Action::Hook

use crate::{
    Replica, Ticket,
    layout::{CONTRACTS, Contract, HOOKS, read},
    replica::command_id,
    world::Layer,
};
use codec::Encode;
use phala_pink::{Effect, Hook, HookRequest};
use phala_primitives::{AccountId, Code, Coded, blake2_256};
use phala_session::{Action, SystemRng, random_id};
use std::collections::BTreeMap;

/// Most hooks of one contract.
pub const MAX_HOOKS: usize = 16;

/// Under which account commands of a contract's hooks are known. Nobody has its key.
pub(crate) fn account(contract: &AccountId) -> AccountId {
    AccountId(blake2_256(&("phala/hook/v1", contract).encode()).0)
}

/// Hooks of a contract.
pub(crate) fn of(layer: &Layer, contract: &AccountId) -> Result<Vec<Hook>, Coded> {
    Ok(layer.read(&HOOKS, contract.as_ref())?.unwrap_or_default())
}

/// The most precise of those that serve a path.
pub(crate) fn find<'a>(hooks: &'a [Hook], path: &str) -> Option<&'a Hook> {
    hooks.iter().filter(|hook| hook.serves(path)).max_by_key(|hook| hook.path.len())
}

fn write(layer: &Layer, contract: &AccountId, hooks: &Vec<Hook>) {
    let value = (!hooks.is_empty()).then(|| hooks.encode());
    layer.set(&HOOKS, contract.as_ref().to_vec(), value);
}

/// Opens a hook, or changes the one of its path.
pub(crate) fn open(layer: &Layer, contract: &AccountId, hook: Hook) -> Result<(), Coded> {
    let mut hooks = of(layer, contract)?;
    hooks.retain(|old| old.path != hook.path);
    hooks.push(hook);
    write(layer, contract, &hooks);
    Ok(())
}

/// Closes the hook of a path.
pub(crate) fn close(layer: &Layer, contract: &AccountId, path: &str) -> Result<(), Coded> {
    let mut hooks = of(layer, contract)?;
    hooks.retain(|old| old.path != path);
    write(layer, contract, &hooks);
    Ok(())
}

/// Forgets those of a contract that has ended.
pub(crate) fn end(layer: &Layer, contract: &AccountId) -> Result<(), Coded> {
    if !of(layer, contract)?.is_empty() {
        write(layer, contract, &vec![]);
    }
    Ok(())
}

/// Whether each contract has as many as it may at most, after what an execution asks for. The inner result is the
/// execution's.
pub(crate) fn has_room<'a>(
    layer: &Layer,
    effects: impl Iterator<Item = (&'a AccountId, &'a Effect)>,
) -> Result<Result<(), Coded>, Coded> {
    let mut paths: BTreeMap<&AccountId, Vec<String>> = BTreeMap::new();
    for (contract, effect) in effects {
        let (Effect::OpenHook(Hook { path, .. }) | Effect::CloseHook { path }) = effect else { continue };
        if !paths.contains_key(contract) {
            paths.insert(contract, of(layer, contract)?.into_iter().map(|hook| hook.path).collect());
        }
        let Some(own) = paths.get_mut(contract) else { continue };
        own.retain(|old| old != path);
        if matches!(effect, Effect::OpenHook(_)) {
            own.push(path.clone());
        }
        if own.len() > MAX_HOOKS {
            return Ok(Err(Coded::new(Code::TooManyHooks, format!("{MAX_HOOKS}"))));
        }
    }
    Ok(Ok(()))
}

impl Replica {
    /// Brings a contract an HTTP request, as the word of this member. The ticket resolves to the outcome when it was
    /// executed. What came with the same `key` within the last ten minutes at least is not executed again: the ticket
    /// resolves to the outcome of the first.
    ///
    /// Errors: `NoContract`, `NoHook`, `HookBusy` if too many of this contract wait already.
    pub fn hook(
        &self,
        contract: AccountId,
        request: &HookRequest,
        key: Option<&[u8]>,
        now_ms: u64,
    ) -> Result<Ticket, Coded> {
        self.ready_epoch()?;
        let snapshot = self.state.snapshot();
        let record: Option<Contract> = read(&snapshot, &CONTRACTS, contract.as_ref())?;
        if record.is_none_or(|record| record.code.is_none()) {
            return Err(Coded::new(Code::NoContract, contract.to_string()));
        }
        let hooks: Vec<Hook> = read(&snapshot, &HOOKS, contract.as_ref())?.unwrap_or_default();
        find(&hooks, &request.path).ok_or(Code::NoHook)?;
        let id = match key {
            Some(key) => command_id(&("phala/hook-key/v1", contract, key)),
            None => random_id(&mut SystemRng),
        };
        let command = self.own_command(id, Action::Hook { contract, request: request.encode() }, now_ms)?;
        self.submit(command, now_ms)
    }
}

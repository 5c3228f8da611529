//! One contract at work, and the chain of those that called each other.
//!
//! Upon a call: check depth and reentrancy, find the code, mark the overlay, make a fresh instance, run the export.
//! Upon its end: keep the changes if it returned without the revert flag; undo them, its callees' included, if it
//! reverted or trapped. A fault (the store failed, time is over) ends the whole execution.
//!
//! Each frame has a store of its own, so that its memory goes back to the pool when it ends. The [`Machine`] wanders
//! from the caller's store to the callee's and back.

use crate::{
    BlockInfo, Effect, Event, Limits, Mode,
    engine::Shared,
    error::Reason,
    fork::input_limit,
    gas,
    guest::{Growth, Host, Stop},
    lane::{Lane, Prepared},
    limits::{PAGE, STACK_BYTES},
    overlay::Overlay,
    sched::Turn,
};
use phala_primitives::{AccountId, Balance, Code, Hash};
use std::sync::Arc;
use wasmtime::{Store, StoreContextMut, Trap, UpdateDeadline};

/// Stack that must be free before a frame starts: its WebAssembly part and what host functions need on top.
const STACK_HEADROOM: usize = 256 << 10;
/// Stack that is added when there is less, in bytes.
const STACK_SEGMENT: usize = 2 << 20;
/// Linear memory of each instance of a query that is not counted, in bytes.
const UNCOUNTED: usize = 2 << 20;

/// All that lasts for the whole execution.
pub(crate) struct Machine {
    pub(crate) shared: Arc<Shared>,
    pub(crate) mode: Mode,
    pub(crate) limits: Limits,
    pub(crate) overlay: Overlay,
    pub(crate) origin: AccountId,
    pub(crate) block: BlockInfo,
    /// Frames under way, outermost first.
    pub(crate) stack: Vec<Running>,
    pub(crate) events: Vec<Event>,
    /// What the extension leaves to be done.
    pub(crate) effects: Vec<Effect>,
    /// Bytes of all effects so far, of those that were taken back, too.
    pub(crate) effect_bytes: usize,
    /// Linear memory of all frames under way, in bytes.
    pub(crate) memory: usize,
    /// Numbers that the extension was given.
    pub(crate) numbers: u64,
    pub(crate) debug: Vec<u8>,
    /// Contracts that were created so far.
    pub(crate) created: u64,
    /// A query's right to run, and its deadline.
    pub(crate) turn: Option<Turn>,
    /// Whether it is a part of a query.
    pub(crate) is_part: bool,
    /// The callee that trapped last, with its depth: most often the reason why its caller does so next.
    pub(crate) cause: Option<(usize, String)>,
}

/// A frame under way, as others see it.
pub(crate) struct Running {
    pub(crate) contract: AccountId,
    /// Whether the contract may be entered again now.
    pub(crate) reentrant: bool,
    /// Whether it runs another's code in the contract's name.
    pub(crate) delegated: bool,
}

/// Who runs, for whom, with what.
pub(crate) struct Frame {
    pub(crate) contract: AccountId,
    pub(crate) caller: AccountId,
    pub(crate) code_hash: Hash,
    /// What the caller gives along. Code that a contract delegates to sees what the contract was given.
    pub(crate) value: Balance,
    /// `None` once it was forwarded.
    pub(crate) input: Option<Vec<u8>>,
    /// Must not write; passes on to callees.
    pub(crate) read_only: bool,
    /// Which export runs, and on whose code.
    pub(crate) role: Role,
}

/// What a frame runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The constructor of a contract that begins with it.
    Deploy,
    /// A message.
    Call,
    /// A message of other code, on the contract's own storage.
    Delegate,
}

/// How a frame ended, if it came to an end of its own.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) flags: u32,
    pub(crate) data: Vec<u8>,
}

impl Output {
    pub(crate) fn reverted(&self) -> bool {
        self.flags & crate::Execution::REVERT != 0
    }
}

impl Machine {
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Longest input or output of a call by a contract, in bytes.
    pub(crate) fn message_limit(&self) -> usize {
        input_limit(&self.limits, self.metered())
    }

    /// Longest output of the contract that runs, in bytes: what goes to the one who asked may be longer than what goes to
    /// another contract.
    pub(crate) fn reply_limit(&self) -> usize {
        if self.stack.len() > 1 { self.message_limit() } else { self.limits.message_bytes }
    }

    /// Takes linear memory for an instance that grows.
    ///
    /// Errors: `ContractMemoryLimit`, and in a query `MemoryBusy`.
    pub(crate) fn take_memory(&mut self, current: usize, desired: usize) -> Result<(), Reason> {
        let memory = self.memory.saturating_add(desired.saturating_sub(current));
        let limit = self.limits.total_memory_bytes;
        if memory > limit {
            let detail = format!("more than {limit} bytes of memory wanted by all that is under way");
            return Err(Reason::contract(Code::ContractMemoryLimit, detail));
        }
        if let Some(turn) = &mut self.turn {
            turn.grow(counted(desired).saturating_sub(counted(current)), limit)?;
        }
        self.memory = memory;
        Ok(())
    }

    /// Gives back what an instance held.
    fn give_memory(&mut self, held: usize) {
        self.memory = self.memory.saturating_sub(held);
        if let Some(turn) = &mut self.turn {
            turn.shrink(counted(held));
        }
    }

    pub(crate) fn metered(&self) -> bool {
        matches!(self.mode, Mode::Command { .. })
    }

    /// Share of a query's time that is left, in thousandths.
    pub(crate) fn time_left(&self) -> u64 {
        match (self.mode, &self.turn) {
            (Mode::Query { ticks }, Some(turn)) => {
                turn.ticks_left().saturating_mul(1000).checked_div(ticks).unwrap_or(0)
            }
            _ => 1000,
        }
    }

    /// Counts a query's time, and lets others run if it is their turn.
    fn check(&mut self) -> Result<(), Reason> {
        self.turn.as_mut().map_or(Ok(()), Turn::check)
    }

    /// Waits for something outside while other queries run. A command runs on: nothing outside may matter to it.
    ///
    /// Errors: `TimeLimit` if the query's time is over.
    pub(crate) fn pause<T>(&mut self, outside: impl FnOnce() -> T) -> Result<T, Reason> {
        match &mut self.turn {
            Some(turn) => turn.pause(outside),
            None => Ok(outside()),
        }
    }

    fn lane(&self) -> &Lane {
        match self.mode {
            Mode::Command { .. } => &self.shared.commands,
            Mode::Query { .. } => &self.shared.queries,
        }
    }

    /// Whether `contract` may be entered: no frame of it is under way that forbids it.
    pub(crate) fn may_enter(&self, contract: &AccountId) -> bool {
        !self.stack.iter().any(|running| running.contract == *contract && !running.reentrant)
    }

    /// Runs a frame with at most `gas`, and returns what it came to and the gas that is left.
    pub(crate) fn run(self: Box<Self>, frame: Frame, gas: u64) -> (Box<Self>, Result<Output, Reason>, u64) {
        let red_zone = STACK_BYTES.saturating_add(STACK_HEADROOM);
        stacker::maybe_grow(red_zone, STACK_SEGMENT.saturating_add(red_zone), || self.run_here(frame, gas))
    }

    fn run_here(mut self: Box<Self>, frame: Frame, gas: u64) -> (Box<Self>, Result<Output, Reason>, u64) {
        let prepared = match self.lane().prepared(&frame.code_hash, self.overlay.world(), &self.shared) {
            Ok(prepared) => prepared,
            Err(reason) => return (self, Err(reason), gas),
        };
        let nested = !self.stack.is_empty();
        if let Some(turn) = self.turn.as_mut().filter(|_| nested)
            && let Err(reason) = turn.nest()
        {
            return (self, Err(reason), gas);
        }
        let (contract, role) = (frame.contract, frame.role);
        let (mark, events, effects) = (self.overlay.begin(), self.events.len(), self.effects.len());
        if role == Role::Deploy {
            self.overlay.set_code_hash(contract, frame.code_hash);
        }
        if role != Role::Delegate
            && let Err(reason) = self.take_value(&frame)
        {
            self.overlay.rollback(mark);
            if let Some(turn) = self.turn.as_mut().filter(|_| nested) {
                turn.unnest();
            }
            return (self, Err(reason), gas);
        }
        self.stack.push(Running { contract, reentrant: true, delegated: role == Role::Delegate });
        let (mut machine, result, left) = self.instance(frame, gas, &prepared);
        machine.stack.pop();
        if let Some(turn) = machine.turn.as_mut().filter(|_| nested) {
            turn.unnest();
        }
        match &result {
            Ok(output) if !output.reverted() => machine.overlay.commit(mark),
            _ => {
                machine.overlay.rollback(mark);
                machine.events.truncate(events);
                machine.effects.truncate(effects);
            }
        }
        if let Err(reason) = &result {
            machine.remember(&contract, reason);
        }
        (machine, result, left)
    }

    /// Moves the value of a call from the caller to the contract.
    fn take_value(&mut self, frame: &Frame) -> Result<(), Reason> {
        match self.overlay.transfer(frame.caller, frame.contract, frame.value)? {
            true => Ok(()),
            false => {
                let detail = format!("{} units to {} are too many, or would leave dust", frame.value, frame.contract);
                Err(Reason::contract(Code::TooLittle, detail))
            }
        }
    }

    /// Keeps why a callee failed. A caller that panics thereupon does not hide it.
    fn remember(&mut self, contract: &AccountId, reason: &Reason) {
        let depth = self.stack.len();
        let follows = reason.code() == Code::Trapped && self.cause.as_ref().is_some_and(|(deeper, _)| *deeper > depth);
        if depth > 0 && !follows {
            self.cause = Some((depth, format!("{contract} failed with {}: {reason}", reason.code())));
        }
    }

    fn instance(
        mut self: Box<Self>,
        frame: Frame,
        gas: u64,
        prepared: &Prepared,
    ) -> (Box<Self>, Result<Output, Reason>, u64) {
        let Some(after_start) = gas.checked_sub(gas::frame(prepared.code_bytes, prepared.pages)) else {
            return (self, Err(Reason::contract(Code::OutOfGas, "too little gas to start the contract")), 0);
        };
        if let Err(reason) = self.check() {
            return (self, Err(reason), gas);
        }
        let (metered, most) = (self.metered(), self.limits().memory_bytes);
        if prepared.pages.saturating_mul(PAGE as u64) > most as u64 {
            let detail = format!("{} pages of memory at the start where {} are allowed", prepared.pages, most / PAGE);
            return (self, Err(Reason::contract(Code::MemoryLimit, detail)), after_start);
        }
        let engine = self.lane().engine.clone();
        let name = if frame.role == Role::Deploy { &prepared.deploy } else { &prepared.call };
        let mut store =
            Store::new(&engine, Host { machine: Some(self), frame, memory: None, growth: Growth::default() });
        store.limiter(|host| host);
        let started = if metered {
            store.set_fuel(after_start)
        } else {
            store.set_epoch_deadline(1);
            store.epoch_deadline_callback(on_epoch);
            Ok(())
        };
        let result = started.and_then(|()| enter(&mut store, prepared, name));
        let mut left = if metered { store.get_fuel().unwrap_or(0) } else { gas };
        let host = store.into_data();
        let mut result = judge(result, &host.growth, most);
        if metered {
            (result, left) = settle(result, left, host.growth.owed);
        }
        let Some(mut machine) = host.machine else {
            unreachable!("whoever takes the execution for a callee puts it back")
        };
        machine.give_memory(host.growth.held);
        (machine, result.map_err(|(reason, _)| reason), left)
    }
}

/// Linear memory of an instance that counts for the whole replica. The first of it does not: the number of instances is
/// bounded, and small contracts need not ask.
fn counted(bytes: usize) -> usize {
    bytes.saturating_sub(UNCOUNTED)
}

/// What a query's code calls when it notices that the epoch changed.
fn on_epoch(mut store: StoreContextMut<'_, Host>) -> wasmtime::Result<UpdateDeadline> {
    if let Some(machine) = store.data_mut().machine.as_deref_mut() {
        machine.check().map_err(Stop::Failed)?;
    }
    Ok(UpdateDeadline::Continue(1))
}

/// Makes the instance and calls it.
fn enter(store: &mut Store<Host>, prepared: &Prepared, name: &wasmtime::ModuleExport) -> wasmtime::Result<()> {
    let instance = prepared.module.instantiate(&mut *store)?;
    let memory = instance.get_module_export(&mut *store, &prepared.memory).and_then(|export| export.into_memory());
    // The instance's first pages were charged with the frame.
    store.data_mut().growth.owed = 0;
    store.data_mut().memory = memory;
    let function = instance
        .get_module_export(&mut *store, name)
        .and_then(|export| export.into_func())
        .ok_or_else(|| Stop::Failed(Reason::fault(Code::Internal, "a checked export is missing")))?;
    function.typed::<(), ()>(&*store)?.call(&mut *store, ())
}

/// Whether the fuel counter was written back before the frame failed.
type Exact = bool;

fn judge(result: wasmtime::Result<()>, growth: &Growth, most: usize) -> Result<Output, (Reason, Exact)> {
    let error = match result {
        Ok(()) => return Ok(Output { flags: 0, data: Vec::new() }),
        Err(error) => error,
    };
    let error = match error.downcast::<Stop>() {
        Ok(Stop::Return { flags, data }) => return Ok(Output { flags, data }),
        Ok(Stop::Terminated) => return Ok(Output { flags: 0, data: Vec::new() }),
        // Memory grows without the fuel counter being written back.
        Ok(Stop::Failed(reason)) => return Err((reason, !growth.failed)),
        Err(error) => error,
    };
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return Err((Reason::fault(Code::Busy, "all instances are in use"), true));
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Err((Reason::contract(Code::OutOfGas, "all gas is used"), true)),
        Some(_) if growth.refused => {
            let detail = format!("more than {most} bytes of memory wanted");
            Err((Reason::contract(Code::MemoryLimit, detail), false))
        }
        Some(Trap::UnreachableCodeReached) => {
            Err((Reason::contract(Code::Trapped, "the contract panicked (`unreachable`)"), true))
        }
        Some(trap) => Err((Reason::contract(Code::Trapped, trap.to_string()), *trap == Trap::StackOverflow)),
        None => Err((Reason::fault(Code::Internal, error.to_string()), true)),
    }
}

/// Takes from `left` what the frame's memory still owes, and all of it where the counter cannot be trusted.
fn settle(result: Result<Output, (Reason, Exact)>, left: u64, owed: u64) -> (Result<Output, (Reason, Exact)>, u64) {
    match (&result, left.checked_sub(owed)) {
        (Err((_, false)), _) => (result, 0),
        (_, Some(left)) => (result, left),
        (Err(_), None) => (result, 0),
        (Ok(_), None) => (Err((Reason::contract(Code::OutOfGas, "all gas is used"), true)), 0),
    }
}

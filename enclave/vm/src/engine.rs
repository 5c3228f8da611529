//! The engine that a replica keeps: one lane for commands, one for queries.

use crate::{
    BlockInfo, Caller, Capacity, Entry, Execution, Extension, Failure, Invocation, Limits, Mode, VmError, World,
    WorldError,
    error::Reason,
    frame::{Frame, Machine, Role},
    lane::{Bound, Lane},
    limits::MAX_DEPTH,
    module,
    overlay::Overlay,
    sched::{QueryLoad, Scheduler, Turn},
};
use parking_lot::{Condvar, Mutex};
use phala_primitives::{AccountId, Code, Hash, blake2_256};
use std::{num::NonZeroU32, sync::Arc};

/// Instances that queries may use beyond one each, for the contracts that they call.
const NESTED_QUERIES: usize = 64;

/// What executions share with the engine.
pub(crate) struct Shared {
    pub(crate) capacity: Capacity,
    pub(crate) host_types: module::HostTypes,
    pub(crate) extension: Option<Arc<dyn Extension>>,
    pub(crate) commands: Lane,
    pub(crate) queries: Lane,
    pub(crate) scheduler: Arc<Scheduler>,
    running_commands: Mutex<usize>,
    command_ended: Condvar,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.scheduler.close();
    }
}

/// Runs contracts. Cheap to clone; all clones share their caches, pools and limits.
///
/// `execute` blocks its thread for as long as the contract runs. It needs little of that thread's stack: more is mapped
/// where it is short.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

impl Engine {
    /// Makes an engine. Address space is reserved for all instances, memory is used only as contracts touch it.
    /// Contracts find no extension.
    pub fn new(capacity: Capacity) -> Result<Self, VmError> {
        Self::make(capacity, None)
    }

    /// Makes an engine whose contracts may call an extension.
    pub fn with_extension(capacity: Capacity, extension: Arc<dyn Extension>) -> Result<Self, VmError> {
        Self::make(capacity, Some(extension))
    }

    fn make(capacity: Capacity, extension: Option<Arc<dyn Extension>>) -> Result<Self, VmError> {
        let commands = capacity.concurrent_commands.saturating_mul(MAX_DEPTH);
        let queries = capacity.concurrent_queries.max(1).saturating_add(NESTED_QUERIES);
        let queries = Lane::new(Bound::Epoch, queries, &capacity)?;
        let epochs = queries.engine.clone();
        let scheduler = Arc::new(Scheduler::new(&capacity, NESTED_QUERIES, move || epochs.increment_epoch()));
        let commands = Lane::new(Bound::Fuel, commands, &capacity)?;
        Ok(Self(Arc::new(Shared {
            host_types: commands.host_types(),
            extension,
            queries,
            scheduler,
            commands,
            capacity,
            running_commands: Mutex::new(0),
            command_ended: Condvar::new(),
        })))
    }

    /// Modules and names of the host's functions, as contracts import them.
    pub fn functions(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.host_types.keys().map(|(module, name)| (module.as_str(), name.as_str()))
    }

    /// Lends the engine threads for queries, without which [`Engine::submit`] refuses all: `lend` runs what it is given on
    /// one, or returns `false` if there is none. Each ends some time after it has nothing to do, all with the engine.
    pub fn borrow_threads(&self, lend: impl Fn(Box<dyn FnOnce() + Send>) -> bool + Send + Sync + 'static) {
        self.0.scheduler.borrow_threads(Box::new(lend));
    }

    /// What the engine was made with.
    pub fn capacity(&self) -> &Capacity {
        &self.0.capacity
    }

    pub(crate) fn of(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }

    /// Checks that `code` is a contract that can run here, and returns its hash. To be called before code is stored.
    pub fn validate(&self, code: &[u8]) -> Result<Hash, VmError> {
        module::prepare(code, &self.0.host_types)?;
        Ok(blake2_256(code))
    }

    /// Compiles code, for commands and for queries, so that its first call need not. To be called beside the path of
    /// commands: it takes milliseconds to seconds. Who calls it meanwhile waits for it.
    pub fn compile(&self, code: &[u8]) -> Result<(), VmError> {
        let (hash, world) = (blake2_256(code), Only(code.to_vec()));
        for lane in [&self.0.commands, &self.0.queries] {
            let compiled = lane.prepared(&hash, &world, &self.0);
            compiled.map_err(|reason| VmError::BadModule(format!("{reason:?}")))?;
        }
        Ok(())
    }

    /// Moves the queries' clock by one. The host calls it at a steady pace, such as each 2 ms: it is also the time for
    /// which a query of a contract keeps its core while those of others wait.
    pub fn tick(&self) {
        self.0.scheduler.tick();
        self.0.queries.engine.increment_epoch();
    }

    /// What the queries do now.
    pub fn query_load(&self) -> QueryLoad {
        self.0.scheduler.load()
    }

    /// Sets the share that a contract has of the CPU for queries, in relation to the 1 that others have.
    pub fn set_weight(&self, contract: AccountId, weight: NonZeroU32) {
        self.0.scheduler.set_weight(contract, weight);
    }

    /// Runs one command or query to its end.
    ///
    /// A contract that reverts is a success with the revert flag. What traps, or what cannot start, is a [`Failure`];
    /// see [`Failure::is_fault`] for those that say nothing about the contract.
    pub fn execute(&self, world: Arc<dyn World>, invocation: Invocation) -> Result<Execution, Failure> {
        self.execute_for(world, invocation, &Caller::default())
    }

    /// The same for a caller who may leave before the answer is there. A command is executed none the less.
    pub fn execute_for(
        &self,
        world: Arc<dyn World>,
        invocation: Invocation,
        caller: &Caller,
    ) -> Result<Execution, Failure> {
        let limits = world.limits().map_err(|error| Failure::early(error.into()))?;
        match invocation.mode {
            Mode::Command { gas_limit } => {
                let _permit = Permit::take(&self.0);
                self.perform(world, limits, &invocation, gas_limit, None).0
            }
            Mode::Query { ticks } => {
                let (engine, asked) = (self.clone(), (invocation.contract, limits.contract_queries));
                let work = move |turn| engine.perform(world, limits, &invocation, u64::MAX, Some(turn)).0;
                self.0.scheduler.run(asked, ticks, caller, work).unwrap_or_else(|reason| Err(Failure::early(reason)))
            }
        }
    }

    /// Runs a query on a thread that the host lends, when it is its turn. Meanwhile no thread waits. What is concluded
    /// from its result, in its own time, is told when others may run. Nothing is if it panics.
    ///
    /// A command, which may not wait for the turns of queries, is refused.
    pub fn submit<T>(
        &self,
        world: Arc<dyn World>,
        invocation: Invocation,
        caller: &Caller,
        conclude: impl FnOnce(Result<Execution, Failure>) -> T + Send + 'static,
        tell: impl FnOnce(T) + Send + 'static,
    ) {
        let limits = match world.limits() {
            Ok(limits) => limits,
            Err(error) => return tell(conclude(Err(Failure::early(error.into())))),
        };
        let Mode::Query { ticks } = invocation.mode else {
            let reason = Reason::fault(Code::Internal, "a command among the queries");
            return tell(conclude(Err(Failure::early(reason))));
        };
        let (engine, asked) = (self.clone(), (invocation.contract, limits.contract_queries));
        let work = move |turn| match turn {
            Ok(turn) => {
                let (result, turn) = engine.perform(world, limits, &invocation, u64::MAX, Some(turn));
                let outcome = conclude(result);
                drop(turn);
                tell(outcome);
            }
            Err(reason) => tell(conclude(Err(Failure::early(reason)))),
        };
        self.0.scheduler.submit(asked, ticks, caller, work);
    }

    /// Runs it to its end, and leaves its turn over.
    fn perform(
        &self,
        world: Arc<dyn World>,
        limits: Limits,
        invocation: &Invocation,
        gas: u64,
        turn: Option<Turn>,
    ) -> (Result<Execution, Failure>, Option<Turn>) {
        let (frame, mut machine) = match self.start(world, limits, invocation) {
            Ok(started) => started,
            Err(reason) => return (Err(Failure::early(reason)), turn),
        };
        machine.turn = turn;
        let (mut machine, result, left) = machine.run(frame, gas);
        let turn = machine.turn.take();
        let result = finish(*machine, result, gas.saturating_sub(left));
        if let Err(failure) = &result
            && failure.is_fault()
        {
            tracing::warn!(cluster = invocation.cluster, contract = %invocation.contract, %failure, "no outcome");
        }
        (result, turn)
    }

    fn start(
        &self,
        world: Arc<dyn World>,
        limits: Limits,
        invocation: &Invocation,
    ) -> Result<(Frame, Box<Machine>), Reason> {
        check_input(&invocation.data, &limits)?;
        let contract = invocation.contract;
        let existing = world.code_hash(&contract)?;
        let (code_hash, role) = match (invocation.entry, existing) {
            (Entry::Deploy { .. }, Some(_)) => {
                return Err(Reason::contract(Code::ContractExists, contract.to_string()));
            }
            (Entry::Deploy { code_hash }, None) => (code_hash, Role::Deploy),
            (Entry::Call, Some(code_hash)) => (code_hash, Role::Call),
            (Entry::Call, None) => return Err(Reason::contract(Code::NoContract, contract.to_string())),
        };
        // The cache knows code of any world: only this one says whether it may be used.
        if role == Role::Deploy && !world.has_code(&code_hash)? {
            return Err(Reason::contract(Code::NoCode, code_hash.to_string()));
        }
        let (caller, input) = (invocation.caller, Some(invocation.data.clone()));
        let value = invocation.value;
        let frame = Frame { contract, caller, code_hash, value, input, read_only: false, role };
        let mut machine = self.machine(world, limits, invocation.origin, invocation.block);
        machine.mode = invocation.mode;
        Ok((frame, machine))
    }

    /// An execution that has not begun.
    fn machine(&self, world: Arc<dyn World>, limits: Limits, origin: AccountId, block: BlockInfo) -> Box<Machine> {
        Box::new(Machine {
            shared: Arc::clone(&self.0),
            mode: Mode::Query { ticks: 0 },
            limits,
            overlay: Overlay::new(world, limits.change_bytes),
            origin,
            block,
            stack: Vec::new(),
            events: Vec::new(),
            effects: Vec::new(),
            effect_bytes: 0,
            memory: 0,
            numbers: 0,
            debug: Vec::new(),
            created: 0,
            turn: None,
            is_part: false,
            cause: None,
        })
    }

    /// Runs a part whose turn has come.
    pub(crate) fn run_part(
        &self,
        world: Arc<dyn World>,
        limits: Limits,
        mut frame: Frame,
        origin: AccountId,
        block: BlockInfo,
        (turn, ticks): (Turn, u64),
    ) -> Result<Execution, Failure> {
        check_input(frame.input.as_deref().unwrap_or_default(), &limits).map_err(Failure::early)?;
        let code = world.code_hash(&frame.contract).map_err(|error| Failure::early(error.into()))?;
        let missing = || Failure::early(Reason::contract(Code::NoContract, frame.contract.to_string()));
        frame.code_hash = code.ok_or_else(missing)?;
        let mut machine = self.machine(world, limits, origin, block);
        (machine.mode, machine.turn, machine.is_part) = (Mode::Query { ticks }, Some(turn), true);
        let (machine, result, _) = machine.run(frame, u64::MAX);
        finish(*machine, result, 0)
    }
}

fn check_input(data: &[u8], limits: &Limits) -> Result<(), Reason> {
    let limit = limits.message_bytes;
    if data.len() > limit {
        let detail = format!("{} bytes of input where {limit} are allowed", data.len());
        return Err(Reason::contract(Code::TooLarge, detail));
    }
    Ok(())
}

/// A world of nothing but one code.
struct Only(Vec<u8>);

impl World for Only {
    fn storage(&self, _: &AccountId, _: &[u8]) -> Result<Option<Vec<u8>>, WorldError> {
        Ok(None)
    }
    fn code_hash(&self, _: &AccountId) -> Result<Option<Hash>, WorldError> {
        Ok(None)
    }
    fn code(&self, _: &Hash) -> Result<Option<Vec<u8>>, WorldError> {
        Ok(Some(self.0.clone()))
    }
}

fn finish(machine: Machine, result: Result<crate::frame::Output, Reason>, gas_used: u64) -> Result<Execution, Failure> {
    let Machine { overlay, events, effects: asked, debug, cause, .. } = machine;
    let output = match (result, cause) {
        (Ok(output), _) => output,
        (Err(Reason::Contract { code: Code::Trapped, detail }), Some((_, cause))) => {
            // A caller most often panics because its callee failed: what happened there is what people need to know.
            let reason = Reason::contract(Code::Trapped, format!("{detail}; before that, {cause}"));
            return Err(Failure { reason, gas_used, debug });
        }
        (Err(reason), _) => return Err(Failure { reason, gas_used, debug }),
    };
    let (flags, data) = (output.flags, output.data);
    if flags & Execution::REVERT != 0 {
        return Ok(Execution { flags, data, gas_used, debug, ..Execution::default() });
    }
    match overlay.finish() {
        Ok(effects) => Ok(Execution {
            flags,
            data,
            gas_used,
            changes: effects.changes,
            instantiated: effects.instantiated,
            terminated: effects.terminated,
            balances: effects.balances,
            events,
            effects: asked,
            debug,
        }),
        Err(error) => Err(Failure { reason: error.into(), gas_used, debug }),
    }
}

/// A command's right to run. It waits for it, because an outcome must not depend on how busy a replica is.
struct Permit<'a>(&'a Shared);

impl<'a> Permit<'a> {
    fn take(shared: &'a Shared) -> Self {
        let mut running = shared.running_commands.lock();
        while *running >= shared.capacity.concurrent_commands.max(1) {
            shared.command_ended.wait(&mut running);
        }
        *running = running.saturating_add(1);
        Self(shared)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut running = self.0.running_commands.lock();
        *running = running.saturating_sub(1);
        self.0.command_ended.notify_one();
    }
}

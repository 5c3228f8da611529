//! Contracts on the interpreter wasmi: a second opinion of what they do, and what benchmarks compare our engine with.
//!
//! It is as simple as can be: no gas, no limits of time, and before each call the whole state is copied, to be put back
//! if the call fails. It knows the host's functions that random programs and kernels use; the comments of `phala-vm` say
//! what they do. It shares no code with the engine, only the words: worlds, invocations, events.

mod guest;
mod host;

use host::Host;
use phala_primitives::{AccountId, Hash};
use phala_vm::{BlockInfo, Event, Invocation, MemoryWorld};
use std::{cell::RefCell, collections::BTreeMap, fmt, rc::Rc};
use wasmi::{Config, Engine, Error, Linker, Memory, MemoryType, Module, Store};

/// Most pages of memory, and most contracts inside each other, as on our engine.
const MAX_PAGES: u32 = 1024;
const MAX_DEPTH: usize = 16;
/// Bit of a return's flags that takes everything back.
const REVERT: u32 = 1;

/// What an execution came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Bit 0: the contract reverted, and nothing below but the output is there.
    pub flags: u32,
    /// Output.
    pub data: Vec<u8>,
    /// Events in their order.
    pub events: Vec<Event>,
}

/// Runs contracts. It keeps what it parsed.
pub struct Interpreter(Rc<Shared>);

struct Shared {
    engine: Engine,
    linker: Linker<Host>,
    modules: RefCell<BTreeMap<Hash, Module>>,
}

/// One execution under way.
#[derive(Clone)]
struct Machine {
    world: MemoryWorld,
    transient: BTreeMap<(AccountId, Vec<u8>), Vec<u8>>,
    events: Vec<Event>,
    /// Contracts under way, outermost first.
    stack: Vec<Running>,
    block: BlockInfo,
    origin: AccountId,
}

/// A contract under way, as others see it.
#[derive(Clone)]
struct Running {
    contract: AccountId,
    /// Whether it may be entered again now.
    reentrant: bool,
    /// Whether it runs another's code.
    delegated: bool,
}

/// One contract at work.
struct Frame {
    contract: AccountId,
    caller: AccountId,
    code_hash: Hash,
    /// `None` once it was forwarded.
    input: Option<Vec<u8>>,
    read_only: bool,
    delegated: bool,
}

/// Flags and data.
type Output = (u32, Vec<u8>);

/// Why a contract stops that has not failed.
#[derive(Debug)]
struct Returned(Output);

impl fmt::Display for Returned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("returned")
    }
}

impl wasmi::errors::HostError for Returned {}

impl Interpreter {
    /// An interpreter that has seen no contract yet.
    ///
    /// # Errors
    /// wasmi does not take the host's functions.
    pub fn new() -> Result<Self, Error> {
        let mut config = Config::default();
        config.wasm_simd(true).wasm_relaxed_simd(false).ignore_custom_sections(true);
        let engine = Engine::new(&config);
        let mut linker = Linker::new(&engine);
        host::link(&mut linker)?;
        Ok(Self(Rc::new(Shared { engine, linker, modules: RefCell::default() })))
    }

    /// Calls a message, and changes the world by what it changed.
    ///
    /// # Errors
    /// The contract trapped, or cannot be run at all. The world is as it was.
    pub fn call(&self, world: &mut MemoryWorld, invocation: &Invocation) -> Result<Outcome, Error> {
        let Invocation { contract, caller, origin, block, .. } = *invocation;
        let code_hash = *world.contracts.get(&contract).ok_or_else(|| Error::new("no such contract"))?;
        let (transient, events, stack) = Default::default();
        let machine = Machine { world: std::mem::take(world), transient, events, stack, block, origin };
        let machine = Rc::new(RefCell::new(machine));
        let input = Some(invocation.data.clone());
        let frame = Frame { contract, caller, code_hash, input, read_only: false, delegated: false };
        let result = self.0.run(&machine, frame);
        let mut machine = machine.borrow_mut();
        *world = std::mem::take(&mut machine.world);
        let (flags, data) = result?;
        Ok(Outcome { flags, data, events: std::mem::take(&mut machine.events) })
    }
}

impl Shared {
    /// Runs a frame. If it fails or reverts, state and events are as they were.
    fn run(self: &Rc<Self>, machine: &Rc<RefCell<Machine>>, frame: Frame) -> Result<Output, Error> {
        let before = machine.borrow().clone();
        let Frame { contract, delegated, .. } = frame;
        machine.borrow_mut().stack.push(Running { contract, reentrant: true, delegated });
        let result = self.instance(machine, frame);
        match &result {
            Ok((flags, _)) if flags & REVERT == 0 => drop(machine.borrow_mut().stack.pop()),
            _ => *machine.borrow_mut() = before,
        }
        result
    }

    fn instance(self: &Rc<Self>, machine: &Rc<RefCell<Machine>>, frame: Frame) -> Result<Output, Error> {
        let module = self.module(machine, &frame.code_hash)?;
        let host = Host { shared: Rc::clone(self), machine: Rc::clone(machine), frame, memory: None };
        let mut store = Store::new(&self.engine, host);
        let mut linker = self.linker.clone();
        if let Some(wanted) = module.imports().find_map(|import| import.ty().memory().copied()) {
            let pages = u32::try_from(wanted.minimum()).map_err(|_| Error::new("too much memory"))?;
            let most = wanted.maximum().and_then(|pages| u32::try_from(pages).ok()).unwrap_or(MAX_PAGES);
            let memory = Memory::new(&mut store, MemoryType::new(pages, Some(most.min(MAX_PAGES))))?;
            store.data_mut().memory = Some(memory);
            linker.define("env", "memory", memory)?;
        }
        let instance = linker.instantiate_and_start(&mut store, &module)?;
        match instance.get_typed_func::<(), ()>(&store, "call")?.call(&mut store, ()) {
            Ok(()) => Ok((0, Vec::new())),
            Err(error) => match error.downcast::<Returned>() {
                Some(Returned(output)) => Ok(output),
                None => Err(Error::new("trapped")),
            },
        }
    }

    fn module(&self, machine: &Rc<RefCell<Machine>>, hash: &Hash) -> Result<Module, Error> {
        if let Some(module) = self.modules.borrow().get(hash) {
            return Ok(module.clone());
        }
        let code = machine.borrow().world.codes.get(hash).cloned().ok_or_else(|| Error::new("no such code"))?;
        let module = Module::new(&self.engine, &code)?;
        self.modules.borrow_mut().insert(*hash, module.clone());
        Ok(module)
    }
}

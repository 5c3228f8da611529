//! The kernels on our engine, over a state in memory.

use anyhow::{Context, Result, ensure};
use phala_interpreter::Interpreter;
use phala_primitives::AccountId;
use phala_vm::{BlockInfo, Capacity, Engine, Entry, Invocation, MemoryWorld, Mode};
use std::sync::Arc;

const CALLER: AccountId = AccountId([1; 32]);
const CONTRACT: AccountId = AccountId([2; 32]);
/// A second contract of the same code.
const CALLEE: AccountId = AccountId([3; 32]);
/// The key that is read, and what its value holds.
const KEY: [u8; 4] = 1_u32.to_le_bytes();
/// More than any kernel takes.
const GAS: u64 = 1 << 50;

/// What the contract can do; the numbers are its own.
#[derive(Clone, Copy)]
pub(crate) enum Operation {
    Compute = 0,
    Read = 1,
    Write = 2,
    Call = 3,
}

/// A message to the contract.
#[derive(Clone, Copy)]
pub(crate) struct Message {
    pub(crate) operation: Operation,
    pub(crate) argument: u32,
    pub(crate) rounds: u32,
}

impl Message {
    /// The bytes that the contract reads.
    pub(crate) fn encode(self) -> Vec<u8> {
        let words = [self.operation as u32, self.argument, self.rounds].map(u32::to_le_bytes);
        [words.as_flattened(), &CALLEE.0].concat()
    }
}

/// An engine with the contract compiled for both modes.
pub(crate) struct Vm {
    engine: Engine,
    world: Arc<MemoryWorld>,
}

impl Vm {
    pub(crate) fn new(code: &[u8]) -> Result<Self> {
        let engine = Engine::new(Capacity::default())?;
        engine.validate(code)?;
        let mut world = MemoryWorld::default();
        world.place(CONTRACT, code);
        world.place(CALLEE, code);
        world.storage.insert((CONTRACT, KEY.to_vec()), vec![7; 32]);
        let vm = Self { engine, world: Arc::new(world) };
        vm.run(Mode::Command { gas_limit: GAS }, Vec::new())?;
        vm.nothing().map(|()| vm)
    }

    /// A query with this message.
    pub(crate) fn query(&self, message: Message) -> Result<u64> {
        number(&self.run(Mode::Query { ticks: 1 }, message.encode())?)
    }

    /// A command with this message.
    pub(crate) fn command(&self, message: Message) -> Result<u64> {
        number(&self.run(Mode::Command { gas_limit: GAS }, message.encode())?)
    }

    /// A query that returns at once.
    pub(crate) fn nothing(&self) -> Result<()> {
        self.run(Mode::Query { ticks: 1 }, Vec::new()).map(drop)
    }

    /// The message on another engine.
    pub(crate) fn interpret(&self, interpreter: &Interpreter, message: Message) -> Result<u64> {
        let (mut world, mode) = (MemoryWorld::clone(&self.world), Mode::Query { ticks: 1 });
        let outcome = interpreter.call(&mut world, &invocation(mode, message.encode()))?;
        ensure!(outcome.flags == 0, "the contract reverted");
        number(&outcome.data)
    }

    fn run(&self, mode: Mode, data: Vec<u8>) -> Result<Vec<u8>> {
        let execution = self.engine.execute(self.world.clone(), invocation(mode, data))?;
        ensure!(!execution.reverted(), "the contract reverted");
        Ok(execution.data)
    }
}

fn invocation(mode: Mode, data: Vec<u8>) -> Invocation {
    let (contract, caller, block) = (CONTRACT, CALLER, BlockInfo::default());
    Invocation { mode, entry: Entry::Call, contract, caller, origin: caller, value: 0, data, block, cluster: 0 }
}

/// The answer of a contract.
fn number(answer: &[u8]) -> Result<u64> {
    Ok(u64::from_le_bytes(answer.try_into().context("the answer is no number")?))
}

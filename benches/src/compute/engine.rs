//! The kernels on our engine, over a state in memory.

use anyhow::{Context, Result, ensure};
use phala_primitives::{AccountId, Hash};
use phala_vm::{BlockInfo, Engine, Entry, Invocation, Limits, Mode, World, WorldError};
use std::sync::Arc;

const CALLER: AccountId = AccountId([1; 32]);
const CONTRACT: AccountId = AccountId([2; 32]);
/// A second contract of the same code.
const CALLEE: AccountId = AccountId([3; 32]);
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

/// Two contracts of one code, and one value in storage.
struct State {
    code: Vec<u8>,
    hash: Hash,
}

impl World for State {
    fn storage(&self, _: &AccountId, _: &[u8]) -> Result<Option<Vec<u8>>, WorldError> {
        Ok(Some(vec![7; 32]))
    }

    fn code_hash(&self, _: &AccountId) -> Result<Option<Hash>, WorldError> {
        Ok(Some(self.hash))
    }

    fn code(&self, _: &Hash) -> Result<Option<Vec<u8>>, WorldError> {
        Ok(Some(self.code.clone()))
    }
}

/// An engine with the contract compiled for both modes.
pub(crate) struct Vm {
    engine: Engine,
    state: Arc<State>,
}

impl Vm {
    pub(crate) fn new(code: &[u8]) -> Result<Self> {
        let engine = Engine::new(Limits::default())?;
        let hash = engine.validate(code)?;
        let vm = Self { engine, state: Arc::new(State { code: code.to_vec(), hash }) };
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

    fn run(&self, mode: Mode, data: Vec<u8>) -> Result<Vec<u8>> {
        let (contract, caller, block) = (CONTRACT, CALLER, BlockInfo::default());
        let invocation =
            Invocation { mode, entry: Entry::Call, contract, caller, origin: caller, data, block, cluster: 0 };
        let execution = self.engine.execute(self.state.clone(), invocation)?;
        ensure!(!execution.reverted(), "the contract reverted");
        Ok(execution.data)
    }
}

/// The answer of a contract or interpreter.
pub(crate) fn number(answer: &[u8]) -> Result<u64> {
    Ok(u64::from_le_bytes(answer.try_into().context("the answer is no number")?))
}

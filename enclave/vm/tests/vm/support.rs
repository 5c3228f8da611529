//! A world in memory, and short ways to put contracts into it and call them.

use parking_lot::Mutex;
use phala_primitives::{AccountId, Balance, Hash};
use phala_vm::{
    BlockInfo, Capacity, Engine, Entry, Execution, Failure, Invocation, Limits, MemoryWorld, Mode, World, WorldError,
};
use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicBool, Ordering},
};

pub(crate) const GAS: u64 = 1_000_000_000;
pub(crate) const ALICE: AccountId = AccountId([0xa1; 32]);
pub(crate) const BOB: AccountId = AccountId([0xb0; 32]);

static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(Capacity::default()).unwrap());

/// An engine that all tests share, whose clock stands still.
pub(crate) fn engine() -> &'static Engine {
    &ENGINE
}

#[derive(Clone, Default)]
pub(crate) struct Chain(pub(crate) Arc<Shared>);

/// A state whose storage can break.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) state: Mutex<MemoryWorld>,
    broken: AtomicBool,
    limits: Mutex<Limits>,
}

impl World for Shared {
    fn storage(&self, contract: &AccountId, key: &[u8]) -> Result<Option<Vec<u8>>, WorldError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(WorldError("the disk is gone".into()));
        }
        self.state.lock().storage(contract, key)
    }
    fn code_hash(&self, contract: &AccountId) -> Result<Option<Hash>, WorldError> {
        self.state.lock().code_hash(contract)
    }
    fn balance(&self, account: &AccountId) -> Result<Balance, WorldError> {
        self.state.lock().balance(account)
    }
    fn code(&self, hash: &Hash) -> Result<Option<Vec<u8>>, WorldError> {
        self.state.lock().code(hash)
    }
    fn limits(&self) -> Result<Limits, WorldError> {
        Ok(*self.limits.lock())
    }
}

impl Chain {
    /// A state whose executions have other limits than the usual.
    pub(crate) fn with(limits: Limits) -> Self {
        let chain = Self::default();
        *chain.0.limits.lock() = limits;
        chain
    }

    pub(crate) fn upload(&self, code: &[u8]) -> Hash {
        let hash = engine().validate(code).unwrap();
        assert_eq!(hash, self.0.state.lock().upload(code));
        hash
    }

    /// Breaks the state's storage, or mends it.
    pub(crate) fn set_broken(&self, broken: bool) {
        self.0.broken.store(broken, Ordering::Relaxed);
    }

    /// Uploads a contract in the text format and gives it an address without running its constructor.
    pub(crate) fn place(&self, number: u8, wat: &str) -> AccountId {
        let hash = self.upload(&wat::parse_str(wat).unwrap());
        let contract = AccountId([number; 32]);
        self.0.state.lock().contracts.insert(contract, hash);
        contract
    }

    pub(crate) fn invocation(contract: AccountId, data: &[u8]) -> Invocation {
        Invocation {
            mode: Mode::Command { gas_limit: GAS },
            entry: Entry::Call,
            contract,
            caller: ALICE,
            origin: ALICE,
            value: 0,
            data: data.to_vec(),
            block: BlockInfo { height: 7, time_ms: 1_700_000_000_123, index: 2 },
            cluster: 0,
        }
    }

    pub(crate) fn run(&self, invocation: Invocation) -> Result<Execution, Failure> {
        engine().execute(self.0.clone(), invocation)
    }

    /// A command whose changes are not kept.
    pub(crate) fn call(&self, contract: AccountId, data: &[u8]) -> Result<Execution, Failure> {
        self.run(Self::invocation(contract, data))
    }

    /// A query; the tests' clock stands still, so it never ends by time.
    pub(crate) fn query(&self, contract: AccountId, caller: AccountId, data: &[u8]) -> Result<Execution, Failure> {
        self.run(Invocation { mode: Mode::Query { ticks: 100 }, caller, ..Self::invocation(contract, data) })
    }

    /// A command whose changes are kept, as a replica would.
    pub(crate) fn send(&self, contract: AccountId, caller: AccountId, data: &[u8]) -> Result<Execution, Failure> {
        let execution = self.run(Invocation { caller, origin: caller, ..Self::invocation(contract, data) })?;
        self.apply(&execution);
        Ok(execution)
    }

    /// Uploads code and runs its constructor.
    pub(crate) fn deploy(&self, number: u8, code: &[u8], data: &[u8]) -> AccountId {
        let (contract, code_hash) = (AccountId([number; 32]), self.upload(code));
        let invocation = Invocation { entry: Entry::Deploy { code_hash }, ..Self::invocation(contract, data) };
        let execution = self.run(invocation).unwrap();
        assert_eq!(execution.flags, 0, "constructor reverted with {:?}", execution.data);
        self.apply(&execution);
        contract
    }

    pub(crate) fn apply(&self, execution: &Execution) {
        self.0.state.lock().apply(execution);
    }
}

/// A contract in the text format: these imports, the body of `call`, and whatever else the module holds.
pub(crate) fn contract(imports: &str, call: &str, rest: &str) -> String {
    format!(
        r#"(module {imports} (import "env" "memory" (memory 2))
            (func (export "deploy")) (func (export "call") {call}) {rest})"#
    )
}

pub(crate) const RETURN: &str = r#"(import "seal0" "seal_return" (func $return (param i32 i32 i32)))"#;
pub(crate) const INPUT: &str = r#"(import "seal0" "input" (func $input (param i32 i32)))"#;
pub(crate) const SET: &str = r#"(import "seal2" "set_storage" (func $set (param i32 i32 i32 i32) (result i32)))"#;
pub(crate) const GET: &str = r#"(import "seal1" "get_storage" (func $get (param i32 i32 i32 i32) (result i32)))"#;
pub(crate) const CALL: &str =
    r#"(import "seal1" "call" (func $call (param i32 i32 i64 i32 i32 i32 i32 i32) (result i32)))"#;

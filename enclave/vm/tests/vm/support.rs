//! A world in memory, and short ways to put contracts into it and call them.

use parking_lot::Mutex;
use phala_primitives::{AccountId, Hash, blake2_256};
use phala_vm::{BlockInfo, Engine, Entry, Execution, Failure, Invocation, Limits, Mode, World, WorldError};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

pub(crate) const GAS: u64 = 1_000_000_000;
pub(crate) const ALICE: AccountId = AccountId([0xa1; 32]);
pub(crate) const BOB: AccountId = AccountId([0xb0; 32]);

static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(Limits::default()).unwrap());

/// An engine that all tests share, whose clock stands still.
pub(crate) fn engine() -> &'static Engine {
    &ENGINE
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) storage: BTreeMap<(AccountId, Vec<u8>), Vec<u8>>,
    pub(crate) contracts: BTreeMap<AccountId, Hash>,
    pub(crate) codes: BTreeMap<Hash, Vec<u8>>,
    pub(crate) broken: bool,
}

#[derive(Clone, Default)]
pub(crate) struct Chain(pub(crate) Arc<Shared>);

#[derive(Default)]
pub(crate) struct Shared(pub(crate) Mutex<State>);

impl World for Shared {
    fn storage(&self, contract: &AccountId, key: &[u8]) -> Result<Option<Vec<u8>>, WorldError> {
        let state = self.0.lock();
        if state.broken {
            return Err(WorldError("the disk is gone".into()));
        }
        Ok(state.storage.get(&(*contract, key.to_vec())).cloned())
    }
    fn code_hash(&self, contract: &AccountId) -> Result<Option<Hash>, WorldError> {
        Ok(self.0.lock().contracts.get(contract).copied())
    }
    fn code(&self, hash: &Hash) -> Result<Option<Vec<u8>>, WorldError> {
        Ok(self.0.lock().codes.get(hash).cloned())
    }
}

impl Chain {
    pub(crate) fn upload(&self, code: &[u8]) -> Hash {
        let hash = engine().validate(code).unwrap();
        assert_eq!(hash, blake2_256(code));
        self.0.0.lock().codes.insert(hash, code.to_vec());
        hash
    }

    /// Uploads a contract in the text format and gives it an address without running its constructor.
    pub(crate) fn place(&self, number: u8, wat: &str) -> AccountId {
        let hash = self.upload(&wat::parse_str(wat).unwrap());
        let contract = AccountId([number; 32]);
        self.0.0.lock().contracts.insert(contract, hash);
        contract
    }

    pub(crate) fn invocation(contract: AccountId, data: &[u8]) -> Invocation {
        Invocation {
            mode: Mode::Command { gas_limit: GAS },
            entry: Entry::Call,
            contract,
            caller: ALICE,
            origin: ALICE,
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
        let mut state = self.0.0.lock();
        for (key, value) in &execution.changes {
            match value {
                Some(value) => drop(state.storage.insert(key.clone(), value.clone())),
                None => drop(state.storage.remove(key)),
            }
        }
        state.contracts.extend(&execution.instantiated);
        for contract in &execution.terminated {
            state.contracts.remove(contract);
            state.storage.retain(|(owner, _), _| owner != contract);
        }
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

//! Runs contracts on the real engine in a test, without a network.
//!
//! ```no_run
//! use phala_testkit::Chain;
//!
//! # fn main() -> anyhow::Result<()> {
//! let chain = Chain::new()?;
//! let token = chain.deploy("target/ink/psp22/psp22.contract", "new", &["1000", "None", "None", "12"])?;
//! token.call("PSP22::transfer", &["//Bob", "10", "[]"])?;
//! assert_eq!(token.query("PSP22::balance_of", &["//Bob"])?.text, "10");
//! println!("{}", chain.gas_report());
//! # Ok(())
//! # }
//! ```
//!
//! Arguments and answers are written as on the command line; raw SCALE is taken as well. Engine, limits, gas and the
//! functions of `pink` are those of a replica, and so are keys and signatures, under a fixed secret. Instead of a log on
//! which replicas agree, each command is an entry of its own, a second after the last, and more time passes only by
//! [`Chain::advance`] and [`Chain::pass`]. Timers fire when they are due; requests that commands asked for are performed
//! by [`Chain::settle`]. The outside
//! world answers what the test says by [`Chain::respond`] and [`Chain::fail`]; without that it cannot be reached.
//!
//! Deliberately absent: a clock that ends long queries, encryption, sessions, receipts, the chain. A network of one's own, `phala dev`, has them.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod contract;
mod gas;
mod jobs;
mod state;
mod town;

pub use contract::{Answer, Contract, Said};
pub use gas::Gas;
pub use phala_pink::{Callback, Effect, HttpError};
pub use state::Snapshot;

use anyhow::{Context, Result, anyhow};
use codec::DecodeAll;
use contract::Interface;
use jobs::Job;
use parking_lot::Mutex;
use phala_build::Bundle;
use phala_pink::{Cache, Pink};
use phala_primitives::{AccountId, Balance, limits::MAX_COMMAND_GAS, records::contract_address};
use phala_vm::{BlockInfo, Capacity, Engine, Entry, Execution, Invocation, Mode};
use state::State;
use std::{collections::BTreeMap, path::Path, sync::Arc};
use town::Town;

/// The cluster that contracts run in.
const CLUSTER: u32 = 0;
/// Time between entries, in milliseconds.
const BLOCK_MS: u64 = 1000;
/// Level of debug messages in a log.
const DEBUG: u8 = 4;

/// A cluster of one, in memory. Clones are the same cluster.
#[derive(Clone)]
pub struct Chain {
    inner: Arc<Inner>,
    caller: AccountId,
    value: Balance,
}

struct Inner {
    engine: Engine,
    town: Arc<Town>,
    cache: Arc<Cache>,
    state: Mutex<Arc<State>>,
    gas: Mutex<Gas>,
    /// What is known of contracts that were deployed from bundles.
    interfaces: Mutex<BTreeMap<AccountId, Arc<Interface>>>,
}

/// What is executed.
pub(crate) struct Work<'a> {
    pub(crate) entry: Entry,
    pub(crate) contract: AccountId,
    pub(crate) data: Vec<u8>,
    /// For the gas report.
    pub(crate) label: (&'a str, &'a str),
}

impl Chain {
    /// An empty cluster, called by `//Alice`.
    ///
    /// # Errors
    /// The machine has no address space for the engine.
    pub fn new() -> Result<Self> {
        let (town, cache) = (Arc::new(Town::default()), Arc::new(Cache::default()));
        let pink = Pink::new([7; 32], [9; 32], town.clone(), cache.clone());
        let capacity = Capacity { concurrent_queries: 4, concurrent_commands: 1, ..Capacity::default() };
        let engine = Engine::with_extension(capacity, Arc::new(pink))?;
        let (state, gas, interfaces) = (Mutex::default(), Mutex::default(), Mutex::default());
        let inner = Inner { engine, town, cache, state, gas, interfaces };
        Ok(Self { inner: Arc::new(inner), caller: phala_abi::account("//Alice")?, value: 0 })
    }

    /// An account by name: `//Alice`.
    ///
    /// # Errors
    /// `BadKey` if it is no name.
    pub fn account(&self, name: &str) -> Result<AccountId> {
        phala_abi::account(name).map_err(|error| anyhow!(error))
    }

    /// The same cluster, called by another account.
    ///
    /// # Errors
    /// `BadKey` if it is no name.
    pub fn by(&self, name: &str) -> Result<Self> {
        Ok(Self { caller: self.account(name)?, ..self.clone() })
    }

    /// The same cluster, where what is deployed and called is paid so much by the caller.
    pub fn paying(&self, value: Balance) -> Self {
        Self { value, ..self.clone() }
    }

    /// Gives an account or contract money, as a deposit on the chain does.
    pub fn deposit(&self, to: AccountId, amount: Balance) {
        let mut state = self.inner.state.lock();
        let world = &mut Arc::make_mut(&mut state).world;
        let owned = Arc::make_mut(world).balances.entry(to).or_default();
        *owned = owned.saturating_add(amount);
    }

    /// What an account or contract owns.
    pub fn balance(&self, of: AccountId) -> Balance {
        self.inner.state.lock().world.balances.get(&of).copied().unwrap_or(0)
    }

    /// What contracts sent: withdrawals and calls to the chain, messages to other contracts, in their order.
    pub fn sent(&self) -> Vec<(AccountId, Effect)> {
        self.inner.state.lock().sent.clone()
    }

    /// Creates a contract from a bundle, with arguments as on the command line.
    ///
    /// # Errors
    /// The bundle cannot be read, the arguments do not fit, or the constructor failed or refused.
    pub fn deploy(&self, bundle: impl AsRef<Path>, constructor: &str, arguments: &[&str]) -> Result<Contract> {
        let path = bundle.as_ref();
        let bundle =
            Bundle::load(path).map_err(|error| anyhow!(error.coded)).with_context(|| path.display().to_string())?;
        self.deploy_bundle(&bundle, constructor, arguments)
    }

    /// The same, from a bundle in memory.
    ///
    /// # Errors
    /// The arguments do not fit, or the constructor failed or refused.
    pub fn deploy_bundle(&self, bundle: &Bundle, constructor: &str, arguments: &[&str]) -> Result<Contract> {
        let interface = Interface::new(bundle)?;
        let data = interface.encode(constructor, arguments)?;
        let (address, execution) = self.create(&bundle.code, data, (&bundle.name, constructor))?;
        let answer = interface.answer(constructor, &execution)?;
        if answer.reverted || answer.is_err {
            return Err(anyhow!("the constructor refused: {}", answer.text));
        }
        let interface = Arc::new(interface);
        self.inner.interfaces.lock().insert(address, interface.clone());
        Ok(Contract::new(self.clone(), address, Some(interface)))
    }

    /// Creates a contract from code; `data` is the constructor's selector and arguments in SCALE. Its messages are
    /// called by raw SCALE too.
    ///
    /// # Errors
    /// The code is no contract, or the constructor failed or refused.
    pub fn deploy_raw(&self, code: &[u8], data: Vec<u8>) -> Result<Contract> {
        let (address, execution) = self.create(code, data, ("code", "constructor"))?;
        if execution.reverted() {
            return Err(anyhow!("the constructor reverted with {:?}", execution.data));
        }
        Ok(Contract::new(self.clone(), address, None))
    }

    fn create(&self, code: &[u8], data: Vec<u8>, label: (&str, &str)) -> Result<(AccountId, Execution)> {
        let code_hash = self.inner.engine.validate(code)?;
        let salt = {
            let mut state = self.inner.state.lock();
            let state = Arc::make_mut(&mut state);
            Arc::make_mut(&mut state.world).upload(code);
            state.deployed = state.deployed.saturating_add(1);
            state.deployed.to_le_bytes()
        };
        let contract = contract_address(&self.caller, CLUSTER, &code_hash, &salt);
        let execution = self.command(Work { entry: Entry::Deploy { code_hash }, contract, data, label })?;
        if !execution.reverted() {
            Arc::make_mut(&mut self.inner.state.lock()).owners.insert(contract, self.caller);
        }
        Ok((contract, execution))
    }

    /// Lets so many entries and as many seconds pass.
    pub fn advance(&self, entries: u64) {
        self.advance_time(entries, entries.saturating_mul(BLOCK_MS));
    }

    /// Lets so many entries and milliseconds pass. Timers fire in the last of these entries.
    pub fn advance_time(&self, entries: u64, milliseconds: u64) {
        let time_ms = self.block().time_ms.saturating_add(milliseconds);
        self.step(entries, time_ms);
    }

    /// Height and time of the next command.
    pub fn block(&self) -> BlockInfo {
        self.inner.state.lock().block
    }

    /// Answers requests of this URL from now on.
    pub fn respond(&self, url: &str, status: u16, body: impl Into<Vec<u8>>) {
        self.inner.town.respond(url, status, body.into());
    }

    /// Lets requests of this URL fail from now on: [`HttpError::Timeout`] for a server that does not answer in time.
    pub fn fail(&self, url: &str, error: HttpError) {
        self.inner.town.fail(url, error);
    }

    /// Requests and timers that contracts asked for in commands and that wait.
    pub fn jobs(&self) -> Vec<(AccountId, Effect)> {
        self.inner.state.lock().jobs.iter().map(|job| (job.contract, job.effect.clone())).collect()
    }

    /// State, log and time as they are now. Caches and canned responses are not in it.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.inner.state.lock().clone())
    }

    /// Goes back to a snapshot.
    pub fn restore(&self, snapshot: &Snapshot) {
        *self.inner.state.lock() = snapshot.0.clone();
        self.inner.town.set_time(snapshot.0.block.time_ms);
    }

    /// Gas of all commands so far, by contract and message, as a table.
    pub fn gas_report(&self) -> String {
        self.inner.gas.lock().to_string()
    }

    /// The same for programs.
    pub fn gas(&self) -> Gas {
        self.inner.gas.lock().clone()
    }

    /// Executes a command and keeps what it changed.
    pub(crate) fn command(&self, work: Work<'_>) -> Result<Execution> {
        self.advance(1);
        let (label, contract) = (work.label, work.contract);
        let mode = Mode::Command { gas_limit: MAX_COMMAND_GAS };
        let execution = self.run(mode, work).map_err(|failure| anyhow!(failure.coded()))?;
        self.inner.gas.lock().add(label, execution.gas_used);
        self.apply(contract, &execution)?;
        Ok(execution)
    }

    /// Executes a query and forgets what it changed.
    pub(crate) fn query(&self, work: Work<'_>) -> Result<Execution> {
        // No clock ticks: a query may take as long as it likes.
        self.run(Mode::Query { ticks: 1 }, work).map_err(|failure| anyhow!(failure.coded()))
    }

    fn run(&self, mode: Mode, work: Work<'_>) -> Result<Execution, phala_vm::Failure> {
        let (world, block) = {
            let state = self.inner.state.lock();
            (state.world.clone(), state.block)
        };
        let (caller, origin, value, cluster) = (self.caller, self.caller, self.value, CLUSTER);
        let Work { entry, contract, data, .. } = work;
        let invocation = Invocation { mode, entry, contract, caller, origin, value, data, block, cluster };
        self.inner.engine.execute(world, invocation)
    }

    fn apply(&self, contract: AccountId, execution: &Execution) -> Result<()> {
        let mut state = self.inner.state.lock();
        let state = Arc::make_mut(&mut state);
        state.apply(execution);
        for effect in &execution.effects {
            match Effect::decode_all(&mut &*effect.data)? {
                Effect::Cache(op) => self.inner.cache.apply(effect.contract, &op, state.block.time_ms),
                Effect::Log { level, text } => state.say(effect.contract, Said::Line { level, text }),
                Effect::LogReader { who, allowed: true } => drop(state.readers.insert((effect.contract, who))),
                Effect::LogReader { who, allowed: false } => drop(state.readers.remove(&(effect.contract, who))),
                Effect::CancelTimer { id } => state.cancel(effect.contract, id),
                sent @ (Effect::Withdraw { .. } | Effect::ChainCall { .. } | Effect::Message { .. }) => {
                    state.sent.push((effect.contract, sent))
                }
                job => state.jobs.push(Job::new(effect.contract, job, state.block.time_ms)),
            }
        }
        if !execution.debug.is_empty() {
            let text = String::from_utf8_lossy(&execution.debug).into_owned();
            state.say(contract, Said::Line { level: DEBUG, text });
        }
        Ok(())
    }
}

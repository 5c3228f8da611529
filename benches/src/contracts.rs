//! Contracts on the VM's engine alone: no network, no encryption, no receipts. What is measured here is how queries
//! share the cores.

#![expect(clippy::disallowed_methods, reason = "these are threads of their own, beside the runtime")]

use anyhow::{Context, Result, anyhow, ensure};
use codec::Encode;
use phala_primitives::AccountId;
use phala_vm::{BlockInfo, Capacity, Engine, Entry, Invocation, MemoryWorld, Mode};
use serde_json::Value;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// The worker's clock.
const TICK: Duration = Duration::from_millis(2);
/// Ticks after which a query is stopped: two seconds.
const LIMIT: u64 = 1000;

/// The token, a contract that burns CPU without end, and two that work for some 60 µs and for twenty times as long.
pub(crate) const TOKEN: AccountId = AccountId([1; 32]);
pub(crate) const HOG: AccountId = AccountId([2; 32]);
pub(crate) const WORK: AccountId = AccountId([3; 32]);
pub(crate) const LONG: AccountId = AccountId([4; 32]);
const OWNER: AccountId = AccountId([7; 32]);

/// An engine with these contracts.
pub(crate) struct Contracts {
    engine: Engine,
    world: Arc<MemoryWorld>,
}

fn invocation(mode: Mode, entry: Entry, contract: AccountId, data: Vec<u8>) -> Invocation {
    let block = BlockInfo::default();
    Invocation { mode, entry, contract, caller: OWNER, origin: OWNER, value: 0, data, block, cluster: 0 }
}

fn module(body: &str) -> Result<Vec<u8>> {
    let text = format!(
        r#"(module (import "env" "memory" (memory 2)) (func (export "deploy")) (func (export "call") {body}))"#
    );
    Ok(wat::parse_str(text)?)
}

impl Contracts {
    /// An engine that runs so many queries at once; the token's bundle is `psp22.contract`.
    pub(crate) fn new(slots: usize, bundle: &[u8]) -> Result<Self> {
        let engine = Engine::new(Capacity::for_cores(slots))?;
        engine.borrow_threads(|work| std::thread::Builder::new().spawn(work).is_ok());
        let bundle: Value = serde_json::from_slice(bundle)?;
        let token = bundle["source"]["wasm"].as_str().context("the bundle has no code")?;
        let work = |turns: u32| {
            module(&format!(
                "(local $i i32) (loop
                    (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {turns}))))"
            ))
        };
        let codes = [
            (TOKEN, hex::decode(token.trim_start_matches("0x"))?),
            (HOG, module("(loop br 0)")?),
            (WORK, work(200_000)?),
            (LONG, work(4_000_000)?),
        ];
        let mut world = MemoryWorld::default();
        for (contract, code) in codes {
            engine.validate(&code)?;
            world.place(contract, &code);
        }
        let code_hash = world.contracts.remove(&TOKEN).context("the token was put there")?;
        let world = Arc::new(world);
        let new = ([0x9b_u8, 0xae, 0x9d, 0x5e], 1_000_000_u128, None::<String>, None::<String>, 12_u8).encode();
        let mode = Mode::Command { gas_limit: u64::MAX };
        let deployed = engine.execute(world.clone(), invocation(mode, Entry::Deploy { code_hash }, TOKEN, new))?;
        ensure!(!deployed.reverted(), "the token was not deployed: {}", hex::encode(&deployed.data));
        let mut world = Arc::into_inner(world).context("nobody else holds the world")?;
        world.apply(&deployed);
        Ok(Self { engine, world: Arc::new(world) })
    }

    /// The engine.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Asks the token for a balance.
    pub(crate) fn balance(&self) -> Result<()> {
        self.query(TOKEN, ([0x65_u8, 0x68, 0x38, 0x2f], OWNER).encode())
    }

    /// Asks a contract without messages. The one that burns CPU always fails, by its time limit.
    pub(crate) fn ask(&self, contract: AccountId) -> Result<()> {
        self.query(contract, Vec::new())
    }

    fn query(&self, contract: AccountId, data: Vec<u8>) -> Result<()> {
        let query = invocation(Mode::Query { ticks: LIMIT }, Entry::Call, contract, data);
        let answer =
            self.engine.execute(self.world.clone(), query).map_err(|failure| anyhow!("{}", failure.coded()))?;
        ensure!(!answer.reverted(), "a query was refused: {}", hex::encode(&answer.data));
        Ok(())
    }

    /// Moves the engine's clock until `stop`, or longer if queries are under way.
    pub(crate) fn run_clock(&self, stop: &AtomicBool) {
        let mut last = Instant::now();
        while !stop.load(Ordering::Relaxed) || self.engine.query_load().under_way > 0 {
            std::thread::sleep(TICK);
            while last.elapsed() >= TICK {
                self.engine.tick();
                last += TICK;
            }
        }
    }
}

/// Sets what it holds when dropped, so that threads end also if a measurement fails.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

//! Random tests. Each takes a number and makes everything from it, so a failure names the number and repeats.
//!
//! Without more they run a fixed count of numbers, which takes seconds. `PHALA_FUZZ_SECONDS` lets each go on for so
//! long, and `PHALA_FUZZ_FROM` is the number to begin with.

mod differential;
mod hosts;
pub(crate) mod interface;
mod modules;
mod prices;
mod programs;

use phala_primitives::{AccountId, Hash};
use phala_vm::{Capacity, Engine, Execution, Failure, Invocation, MemoryWorld, Mode, World, WorldError};
use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// SplitMix64: a number for each state, none twice.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// Names the seed of a test that panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed is {}: PHALA_FUZZ_FROM={} repeats it", self.0, self.0);
        }
    }
}

/// Runs `test` for `count` numbers, or for as long as the environment says.
pub(crate) fn for_seeds(count: u64, mut test: impl FnMut(u64)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let first = number("PHALA_FUZZ_FROM").unwrap_or(0);
    let time = number("PHALA_FUZZ_SECONDS").map(Duration::from_secs);
    let begin = Instant::now();
    let mut seed = first;
    while time.map_or(seed < first.saturating_add(count), |time| begin.elapsed() < time) {
        let named = Seed(seed);
        test(seed);
        drop(named);
        seed += 1;
    }
    if time.is_some() {
        eprintln!("{} seeds in {:?}", seed - first, begin.elapsed());
    }
}

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let engine = Engine::new(Capacity::default()).unwrap();
    let clock = engine.clone();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(10));
            clock.tick();
        }
    });
    engine
});

/// An engine that random tests share, whose clock goes.
pub(crate) fn engine() -> &'static Engine {
    &ENGINE
}

/// A state that counts how often it is asked.
#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) state: MemoryWorld,
    pub(crate) asked: AtomicU64,
}

impl Counted {
    fn ask(&self) -> &MemoryWorld {
        self.asked.fetch_add(1, Ordering::Relaxed);
        &self.state
    }

    /// A state with one contract.
    pub(crate) fn with(contract: AccountId, code: &[u8]) -> Arc<Self> {
        let mut counted = Self::default();
        counted.state.place(contract, code);
        Arc::new(counted)
    }
}

impl World for Counted {
    fn storage(&self, contract: &AccountId, key: &[u8]) -> Result<Option<Vec<u8>>, WorldError> {
        self.ask().storage(contract, key)
    }
    fn code_hash(&self, contract: &AccountId) -> Result<Option<Hash>, WorldError> {
        self.ask().code_hash(contract)
    }
    fn code(&self, hash: &Hash) -> Result<Option<Vec<u8>>, WorldError> {
        self.state.code(hash)
    }
    fn has_code(&self, hash: &Hash) -> Result<bool, WorldError> {
        self.ask().has_code(hash)
    }
}

pub(crate) fn run(world: &Arc<Counted>, mode: Mode, invocation: Invocation) -> Result<Execution, Failure> {
    engine().execute(world.clone(), Invocation { mode, ..invocation })
}

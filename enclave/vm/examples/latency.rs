//! How long a contract takes from being asked to having answered, alone and on two threads, which pay for each other's
//! changes to the memory map; and what the engine's memory comes to:
//! `cargo run -p phala-vm --example latency`.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "this is the host, whose clock it is")]

use phala_primitives::AccountId;
use phala_vm::{BlockInfo, Capacity, Engine, Entry, Invocation, MemoryWorld, Mode};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

const ROUNDS: usize = 20_000;
const CONTRACT: AccountId = AccountId([1; 32]);

fn invocation(mode: Mode, entry: Entry, data: &[u8]) -> Invocation {
    let (block, account) = (BlockInfo::default(), AccountId([2; 32]));
    let data = data.to_vec();
    Invocation { mode, entry, contract: CONTRACT, caller: account, origin: account, value: 0, data, block, cluster: 0 }
}

fn module(json: &str) -> Vec<u8> {
    let (_, rest) = json.split_once(r#""wasm":"#).unwrap();
    let digits = rest.trim_start().trim_start_matches("\"0x").split('"').next().unwrap();
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
}

fn resident_kib() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
}

fn measure(name: &str, engine: &Engine, world: &Arc<MemoryWorld>, mode: Mode, data: &[u8]) {
    let once = || {
        let start = Instant::now();
        engine.execute(world.clone(), invocation(mode, Entry::Call, data)).unwrap();
        start.elapsed()
    };
    let first = once();
    for threads in [1, 2] {
        let rounds = || (0..ROUNDS).map(|_| once()).collect::<Vec<_>>();
        let mut times: Vec<Duration> = std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(rounds)).collect();
            running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        times.sort();
        let at = |part: usize| times[times.len() * part / 1000].as_nanos() as f64 / 1000.0;
        println!("{name:14} ×{threads}: first {first:?}, then p50 {:.1} µs, p99 {:.1} µs", at(500), at(990));
    }
}

fn main() {
    let before = resident_kib();
    let engines: Vec<_> = (0..4).map(|_| Engine::new(Capacity::default()).unwrap()).collect();
    println!("4 engines: {} KiB resident", resident_kib() - before);
    for pages in [2, 16] {
        println!("with {pages} pages:");
        contract(&engines[0], pages);
    }
    println!("in the end: {} KiB resident", resident_kib() - before);
}

/// Measures a contract of so many pages, fewer than 128.
fn contract(engine: &Engine, pages: u8) {
    let mut code = module(include_str!("../../../contracts/fixtures/flipper.contract"));
    let import = b"\x03env\x06memory\x02\x00";
    let limits = code.windows(import.len()).position(|bytes| bytes == import).unwrap() + import.len();
    code[limits] = pages;
    let mut world = MemoryWorld::default();
    let hash = world.upload(&code);
    let command = Mode::Command { gas_limit: 1_000_000_000 };
    let new = invocation(command, Entry::Deploy { code_hash: hash }, &[0x9b, 0xae, 0x9d, 0x5e, 1]);
    world.apply(&engine.execute(Arc::new(world.clone()), new).unwrap());
    let world = Arc::new(world);
    let query = Mode::Query { ticks: 100 };
    measure("query get", engine, &world, query, &[0x2f, 0x86, 0x5b, 0xd9]);
    measure("command get", engine, &world, command, &[0x2f, 0x86, 0x5b, 0xd9]);
    measure("command flip", engine, &world, command, &[0x63, 0x3a, 0xa5, 0x51]);
}

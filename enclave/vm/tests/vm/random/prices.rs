//! Whether gas stands for time: no function of the host may be far cheaper than computing.

use super::{
    hosts::{ECDSA_KEY, call, sane, world},
    interface::{Function, functions},
    run,
};
use crate::support::Chain;
use phala_primitives::AccountId;
use phala_vm::Mode;
use std::time::{Duration, Instant};

const CONTRACT: AccountId = AccountId([0x0c; 32]);
const GAS: u64 = 5_000_000;
/// How much cheaper than computing a function may be.
const MARGIN: f64 = 20.0;
/// Measurements that must all find a function cheap, because this machine does other things meanwhile.
const TRIES: usize = 8;
const COMPUTE: &str = "(loop (local.set $n (i32.mul (i32.add (local.get $n) (i32.const 3)) (i32.const 5))) br 0)";
/// Long enough to be told from the clock's noise.
const TIME: Duration = Duration::from_millis(15);

/// Nanoseconds of a unit of gas, in executions of `body`, least of some.
fn price(functions: &[Function], body: &str) -> f64 {
    let world = world(functions, body);
    let once = || {
        let begin = Instant::now();
        let result = run(&world, Mode::Command { gas_limit: GAS }, Chain::invocation(CONTRACT, b"1234"));
        let gas = result.map_or_else(|failure| failure.gas_used, |execution| execution.gas_used);
        (begin.elapsed(), begin.elapsed().as_nanos() as f64 / gas.max(1) as f64)
    };
    once();
    let (mut least, mut spent) = (f64::MAX, Duration::ZERO);
    while spent < TIME {
        let (time, price) = once();
        (least, spent) = (least.min(price), spent + time);
    }
    least
}

#[test]
fn no_function_is_far_cheaper_than_computing() {
    let functions = functions();
    let mut computing = price(&[], COMPUTE);
    let mut cheap = Vec::new();
    for (number, function) in functions.iter().enumerate() {
        for length in [0, 32, 65_536] {
            if length > 0
                && !function.arguments.iter().any(|(name, _)| name.ends_with("_len") && !name.starts_with("out"))
            {
                continue;
            }
            let body = call(number, function, |name| match (function.name, name) {
                ("ecdsa_to_eth_address", "key") => ECDSA_KEY,
                _ => sane(name, length),
            });
            let body = if function.ends() { body } else { format!("(loop {body} br 0)") };
            let mut found = price(&functions, &body);
            for _ in 1..TRIES {
                if found <= MARGIN * computing {
                    break;
                }
                (computing, found) = (computing.max(price(&[], COMPUTE)), found.min(price(&functions, &body)));
            }
            let ratio = found / computing;
            println!(
                "{:6} {:26} {length:6} bytes {found:8.3} ns per gas, {ratio:6.2} times computing",
                function.module, function.name
            );
            if ratio > MARGIN {
                cheap.push((function.module, function.name, length, ratio));
            }
        }
    }
    println!("computing: {computing:.3} ns per gas");
    assert!(cheap.is_empty(), "a unit of gas buys far more time here than computing: {cheap:?}");
}

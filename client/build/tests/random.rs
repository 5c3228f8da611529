//! Bundles that nobody made: parsing them neither panics nor passes a limit, and what passes can be written and read.
//!
//! Everything is made from a number, so a failure repeats. `PHALA_FUZZ_SECONDS` lets it go on for so long, and
//! `PHALA_FUZZ_FROM` is the number to begin with.
#![allow(clippy::unwrap_used, missing_docs)]

use phala_build::{Bundle, MAX_BUNDLE};
use phala_primitives::limits::MAX_CODE;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const FLIPPER: &[u8] = include_bytes!("../../../contracts/fixtures/flipper.contract");
const PSP22: &[u8] = include_bytes!("../../../contracts/fixtures/psp22.contract");
/// Bundles that are made without a time to fill.
const COUNT: u64 = 300;
/// Longest that a bundle may take, on a busy machine.
const PARSE: Duration = Duration::from_secs(2);

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// A value of any kind.
fn any(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth == 0 { 6 } else { 9 }) {
        0 => Value::Null,
        1 => json!(random.next().is_multiple_of(2)),
        2 => json!(random.next() as i64 >> random.below(64)),
        3 => json!(["", "0x", "0x50564d", "0x0061736d01000000", "ink! 5.1.1", "ink! 6", "é\0"][random.below(7)]),
        4 => json!("x".repeat(1 << random.below(16))),
        // A fraction that is the same after it was written and read; metadata of ink! have none at all.
        5 => json!(random.next() as i16 as f64 / 8.0),
        6 | 7 => (0..random.below(4)).map(|_| any(random, depth - 1)).collect(),
        _ => json!({ (["label", "selector", "wasm", "version", "spec"][random.below(5)]): any(random, depth - 1) }),
    }
}

/// Changes something somewhere below.
fn change(random: &mut Random, value: &mut Value) {
    let stop = random.below(5) == 0;
    match value {
        Value::Object(fields) if !stop && !fields.is_empty() => {
            let name = fields.keys().nth(random.below(fields.len())).unwrap().clone();
            match random.below(20) {
                0 => drop(fields.remove(&name)),
                1 => drop(fields.insert("more".into(), any(random, 2))),
                _ => change(random, fields.get_mut(&name).unwrap()),
            }
        }
        Value::Array(values) if !stop && !values.is_empty() => {
            let at = random.below(values.len());
            match random.below(12) {
                0 => drop(values.remove(at)),
                1 => values.insert(at, any(random, 2)),
                _ => change(random, &mut values[at]),
            }
        }
        Value::String(text) if !stop && text.is_ascii() && !text.is_empty() => {
            let at = random.below(text.len());
            text.replace_range(at..=at, ["0", "f", "z", "", "00"][random.below(5)]);
        }
        _ => *value = any(random, 3),
    }
}

fn bundle(random: &mut Random) -> Vec<u8> {
    let original = [FLIPPER, PSP22][random.below(2)];
    match random.below(10) {
        0 => (0..random.below(200)).map(|_| random.next() as u8).collect(),
        1 => any(random, 6).to_string().into_bytes(),
        // Deep nesting.
        2 => [b"[".repeat(random.below(100_000)), b"{\"source\":".repeat(random.below(50_000))].concat(),
        3 | 4 => {
            let mut bytes = original.to_vec();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                match random.below(3) {
                    0 => bytes[at] = random.next() as u8,
                    1 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, b"\"{}[]:,0\\"[random.below(9)]),
                }
            }
            bytes
        }
        _ => {
            let mut value: Value = serde_json::from_slice(original).unwrap();
            for _ in 0..=random.below(3) {
                change(random, &mut value);
            }
            serde_json::to_vec(&value).unwrap()
        }
    }
}

#[test]
fn any_bundle_is_read_or_refused() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let first = number("PHALA_FUZZ_FROM").unwrap_or(0);
    let time = number("PHALA_FUZZ_SECONDS").map(Duration::from_secs);
    let begin = Instant::now();
    let (mut seed, mut passed) = (first, 0_u64);
    while time.map_or(seed < first + COUNT, |time| begin.elapsed() < time) {
        passed += u64::from(check(seed));
        seed += 1;
    }
    println!("{passed} of {} bundles passed", seed - first);
    assert!(passed > 0, "no bundle passed");
}

fn check(seed: u64) -> bool {
    let bytes = bundle(&mut Random(seed.wrapping_mul(0xd134_2543_de82_ef95)));
    let begin = Instant::now();
    let parsed = std::panic::catch_unwind(|| Bundle::parse(&bytes));
    let parsed = parsed.unwrap_or_else(|_| panic!("seed {seed} panics"));
    assert!(begin.elapsed() < PARSE, "seed {seed} took {:?}", begin.elapsed());
    let Ok(bundle) = parsed else { return false };
    assert!(bytes.len() <= MAX_BUNDLE && bundle.code.len() <= MAX_CODE, "seed {seed} is too large");
    assert_eq!(bundle.code_hash, phala_primitives::blake2_256(&bundle.code), "seed {seed}");
    assert!(!bundle.constructors().unwrap().is_empty() && bundle.messages().is_ok(), "seed {seed}");
    let again =
        Bundle::parse(&bundle.to_json()).unwrap_or_else(|error| panic!("seed {seed} cannot be read again: {error}"));
    assert!(again == bundle, "seed {seed} is another when it is read again");
    true
}

//! Text: parsing and searching, by the libraries that people use for it.

use crate::{Random, mix};
use alloc::{format, string::String};
use json::Value;
use regex_automata::hybrid::regex::Regex;

/// Parses a document of some 20 KiB into a tree in each round, and walks it.
pub(crate) fn json(rounds: u32) -> u64 {
    let mut random = Random(0x150b);
    let mut document = String::from("[");
    for number in 0..160 {
        let (a, b) = (random.next() % 100_000, random.next() % 1000);
        let comma = if number > 0 { "," } else { "" };
        document += &format!(
            r#"{comma}{{"id":{number},"name":"account {a}","balance":{a}.{b},"open":{},"tags":["t{b}","\u00e9\n"],"last":null}}"#,
            b % 2 == 0
        );
    }
    document.push(']');
    (0..rounds).fold(0, |sum, round| match json::from_str::<Value>(&document) {
        Ok(value) => mix(walk(&value, sum), u64::from(round)),
        Err(_) => sum,
    })
}

fn walk(value: &Value, sum: u64) -> u64 {
    match value {
        Value::Null => mix(sum, 1),
        Value::Bool(open) => mix(sum, u64::from(*open)),
        Value::Number(number) => mix(sum, number.as_f64().unwrap_or(0.0).to_bits()),
        Value::String(text) => mix(sum, text.len() as u64),
        Value::Array(values) => values.iter().fold(sum, |sum, value| walk(value, sum)),
        Value::Object(fields) => fields.iter().fold(sum, |sum, (name, value)| walk(value, mix(sum, name.len() as u64))),
    }
}

/// Compiles an expression once and finds all its matches in 16 KiB of text in each round.
pub(crate) fn regex(rounds: u32) -> u64 {
    let mut random = Random(0x4e6e);
    let mut text = String::new();
    while text.len() < 16 << 10 {
        let word = random.next();
        match word % 16 {
            0 => {
                text += &format!(
                    "{:x}.{:x}@example.{} ",
                    word % 997,
                    word % 89,
                    ["org", "com", "x"][(word >> 32) as usize % 3]
                )
            }
            1 => text += &format!("{}-{:02}-{:02} ", 1990 + word % 40, 1 + word % 12, 1 + word % 28),
            _ => text += &format!("{:x} ", word >> (word % 50)),
        }
    }
    let Ok(regex) = Regex::new(r"(?-u)([a-z0-9.]+@[a-z]+\.(org|com)|(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9])") else {
        return 0;
    };
    let mut cache = regex.create_cache();
    (0..rounds).fold(0, |sum, round| {
        let found = regex
            .find_iter(&mut cache, &text)
            .fold(sum, |sum, found| mix(sum, (found.start() << 16 | found.end()) as u64));
        mix(found, u64::from(round))
    })
}

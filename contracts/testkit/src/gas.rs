//! What commands cost.

use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt};

/// Gas by contract and message.
#[derive(Clone, Debug, Default)]
pub struct Gas(BTreeMap<(String, String), Uses>);

#[derive(Clone, Copy, Debug, Default)]
struct Uses {
    calls: u64,
    least: u64,
    most: u64,
    sum: u64,
}

impl Gas {
    pub(crate) fn add(&mut self, (contract, message): (&str, &str), gas: u64) {
        self.merge(contract, message, Uses { calls: 1, least: gas, most: gas, sum: gas });
    }

    fn merge(&mut self, contract: &str, message: &str, more: Uses) {
        let uses = self.0.entry((contract.to_owned(), message.to_owned())).or_default();
        uses.least = if uses.calls == 0 { more.least } else { uses.least.min(more.least) };
        uses.most = uses.most.max(more.most);
        uses.sum = uses.sum.saturating_add(more.sum);
        uses.calls = uses.calls.saturating_add(more.calls);
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let row = |((contract, message), uses): (&(String, String), &Uses)| {
            json!({
                "contract": contract, "message": message, "calls": uses.calls, "least": uses.least, "most": uses.most,
                "sum": uses.sum,
            })
        };
        self.0.iter().map(row).collect()
    }

    /// Adds what [`Gas::to_json`] wrote elsewhere; what it would not have written is left out.
    pub fn join(&mut self, other: &Value) {
        for row in other.as_array().into_iter().flatten() {
            let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
            let number = |name: &str| row.get(name).and_then(Value::as_u64).unwrap_or_default();
            let uses =
                Uses { calls: number("calls"), least: number("least"), most: number("most"), sum: number("sum") };
            if uses.calls > 0 {
                self.merge(text("contract"), text("message"), uses);
            }
        }
    }
}

impl fmt::Display for Gas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<40} {:>6} {:>12} {:>12} {:>12}", "command", "calls", "least gas", "mean", "most")?;
        for ((contract, message), uses) in &self.0 {
            let (name, mean) = (format!("{contract} {message}"), uses.sum.checked_div(uses.calls).unwrap_or(0));
            writeln!(f, "{name:<40} {:>6} {:>12} {mean:>12} {:>12}", uses.calls, uses.least, uses.most)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_processes_are_joined() {
        let (mut one, mut two) = (Gas::default(), Gas::default());
        one.add(("token", "transfer"), 10);
        two.add(("token", "transfer"), 30);
        two.add(("token", "new"), 5);
        one.join(&two.to_json());
        assert_eq!(
            one.to_json(),
            json!([
                { "contract": "token", "message": "new", "calls": 1, "least": 5, "most": 5, "sum": 5 },
                { "contract": "token", "message": "transfer", "calls": 2, "least": 10, "most": 30, "sum": 40 },
            ])
        );
        one.join(&json!([{ "contract": 1 }, "text"]));
        assert!(one.to_string().contains("token transfer"));
    }
}

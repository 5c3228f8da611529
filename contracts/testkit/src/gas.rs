//! What commands cost.

use std::{collections::BTreeMap, fmt};

/// Gas by contract and message.
#[derive(Default)]
pub(crate) struct Report(BTreeMap<(String, String), Uses>);

#[derive(Default)]
struct Uses {
    calls: u64,
    least: u64,
    most: u64,
    sum: u64,
}

impl Report {
    pub(crate) fn add(&mut self, (contract, message): (&str, &str), gas: u64) {
        let uses = self.0.entry((contract.to_owned(), message.to_owned())).or_default();
        uses.least = if uses.calls == 0 { gas } else { uses.least.min(gas) };
        uses.most = uses.most.max(gas);
        uses.sum = uses.sum.saturating_add(gas);
        uses.calls += 1;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<40} {:>6} {:>12} {:>12} {:>12}", "command", "calls", "least gas", "mean", "most")?;
        for ((contract, message), uses) in &self.0 {
            let (name, mean) = (format!("{contract} {message}"), uses.sum.checked_div(uses.calls).unwrap_or(0));
            writeln!(f, "{name:<40} {:>6} {:>12} {mean:>12} {:>12}", uses.calls, uses.least, uses.most)?;
        }
        Ok(())
    }
}

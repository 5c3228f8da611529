//! What contracts say in queries: kept in this worker's memory only, the newest of each contract.

use parking_lot::Mutex;
use phala_primitives::AccountId;
use phala_session::{EventChain, LogPage, LogQuery, LogRecord, Said};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use tokio::sync::{Notify, futures::OwnedNotified};

/// Most lines that are kept of a contract.
const MAX_LINES: usize = 256;
/// Most contracts of which lines are kept; then the one that said something least lately is forgotten.
const MAX_CONTRACTS: usize = 1024;
/// Most bytes of text of a contract.
const MAX_BYTES: usize = 256 << 10;

#[derive(Default)]
struct Lines {
    records: VecDeque<LogRecord>,
    bytes: usize,
    next: u64,
    /// Count of all lines when it said something last.
    last: u64,
}

#[derive(Default)]
struct Held {
    contracts: BTreeMap<AccountId, Lines>,
    count: u64,
}

/// Lines of all contracts.
#[derive(Default)]
pub(crate) struct Sayings {
    held: Mutex<Held>,
    news: Arc<Notify>,
}

fn length(record: &LogRecord) -> usize {
    match &record.said {
        Said::Line { text, .. } => text.len(),
        Said::Event { data, .. } => data.len(),
    }
}

impl Sayings {
    /// Keeps a line.
    pub(crate) fn add(&self, contract: &AccountId, time_ms: u64, level: u8, text: &str) {
        let mut held = self.held.lock();
        held.count += 1;
        let count = held.count;
        let lines = held.contracts.entry(*contract).or_default();
        let said = Said::Line { level, text: text.to_owned() };
        lines.records.push_back(LogRecord { number: lines.next, height: 0, time_ms, said });
        (lines.next, lines.last, lines.bytes) = (lines.next + 1, count, lines.bytes + text.len());
        while lines.records.len() > MAX_LINES || (lines.bytes > MAX_BYTES && lines.records.len() > 1) {
            let Some(gone) = lines.records.pop_front() else { break };
            lines.bytes = lines.bytes.saturating_sub(length(&gone));
        }
        if held.contracts.len() > MAX_CONTRACTS {
            let oldest = held.contracts.iter().min_by_key(|(_, lines)| lines.last).map(|(contract, _)| *contract);
            oldest.and_then(|contract| held.contracts.remove(&contract));
        }
        drop(held);
        self.news.notify_waiters();
    }

    /// Completes when a line was added after this call.
    pub(crate) fn changed(&self) -> OwnedNotified {
        self.news.clone().notified_owned()
    }

    /// Lines of a contract.
    pub(crate) fn page(&self, query: &LogQuery) -> LogPage {
        let held = self.held.lock();
        let Some(lines) = held.contracts.get(&query.contract) else {
            return LogPage { records: vec![], next: 0, events: EventChain::default() };
        };
        // Numbers that this start of the worker has not given yet are of an earlier one: from the beginning.
        let from = if query.from > lines.next { 0 } else { query.from };
        let wanted = lines.records.iter().filter(|record| record.number >= from);
        let records: Vec<_> = wanted.take(query.limit as usize).cloned().collect();
        let next = records.last().map_or(lines.next, |record| record.number + 1);
        LogPage { records, next, events: EventChain::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_and_numbered() {
        let sayings = Sayings::default();
        let ask = |contract: u8, from, limit| {
            let contract = AccountId([contract; 32]);
            sayings.page(&LogQuery { contract, queries: true, from, limit, wait_ms: 0, min_height: 0 })
        };
        for line in 0..MAX_LINES as u64 + 10 {
            sayings.add(&AccountId([1; 32]), line, 3, "line");
        }
        let page = ask(1, 0, 4);
        assert_eq!((page.records[0].number, page.records.len(), page.next), (10, 4, 14));
        assert_eq!(ask(1, page.next, 1000).records.len(), MAX_LINES - 4);
        assert!(ask(1, ask(1, 0, 1000).next, 10).records.is_empty() && ask(2, 0, 10).records.is_empty());
        sayings.add(&AccountId([1; 32]), 0, 3, &"x".repeat(MAX_BYTES));
        assert_eq!(ask(1, 0, 1000).records.len(), 1);
        for contract in 0..=MAX_CONTRACTS as u32 {
            let mut id = [9; 32];
            id[..4].copy_from_slice(&contract.to_le_bytes());
            sayings.add(&AccountId(id), 0, 3, "x");
        }
        assert!(ask(1, 0, 10).records.is_empty(), "said something least lately");
    }
}

//! What contracts say: events and lines of text, kept in the state, so that every replica tells the same, encrypted like
//! all state and covered by its root. Of each contract the newest are kept.

use crate::{
    Replica,
    layout::{CONTRACTS, Contract, LOGS, Standing, read},
    world::Layer,
};
use codec::{Decode, Encode};
use phala_primitives::{AccountId, Code, Coded, blake2_256};
use phala_session::{EventChain, LogPage, LogQuery, LogRecord, Said};
use phala_state::Space;
use phala_vm::{BlockInfo, Event};

/// Most records that are kept of a contract.
const MAX_RECORDS: u64 = 1024;
/// Most bytes of them.
const MAX_BYTES: u64 = 1 << 20;
/// Most records of one page, and the bytes after which it ends.
const PAGE_RECORDS: u32 = 256;
const PAGE_BYTES: usize = 256 << 10;
/// Level of what went wrong.
pub(crate) const ERROR: u8 = 1;
/// Level of a line that tells of what happened.
pub(crate) const INFO: u8 = 3;
/// Level of what a contract printed for debugging.
const DEBUG: u8 = 4;
/// Longest such text that is kept, in bytes.
const MAX_DEBUG: usize = 16 << 10;

/// Numbers of a contract's log: the first record that is there, the next, and the bytes of all; and its events so far.
#[derive(Clone, Copy, Default, Debug, Encode, Decode)]
pub(crate) struct LogState {
    first: u64,
    next: u64,
    bytes: u64,
    pub(crate) events: EventChain,
}

/// A record, and the contract's events before it.
#[derive(Encode, Decode)]
struct Kept {
    events: EventChain,
    record: LogRecord,
}

/// Where a contract's records lie, by number.
pub(crate) fn space(contract: &AccountId) -> Space {
    blake2_256(&("phala/space/v1/log", contract).encode()).0
}

/// Takes over what an execution said. `contract` is the one that was called.
pub(crate) fn take(
    layer: &Layer,
    contract: &AccountId,
    block: BlockInfo,
    events: &[Event],
    debug: &[u8],
) -> Result<(), Coded> {
    for event in events {
        let said = Said::Event { topics: event.topics.clone(), data: event.data.clone() };
        append(layer, &event.contract, block, said)?;
    }
    if !debug.is_empty() {
        append(layer, contract, block, debug_line(debug))?;
    }
    Ok(())
}

/// What a contract printed for debugging, as a line.
pub(crate) fn debug_line(debug: &[u8]) -> Said {
    let text = String::from_utf8_lossy(debug.get(..debug.len().min(MAX_DEBUG)).unwrap_or_default());
    Said::Line { level: DEBUG, text: text.into_owned() }
}

/// A line of text for a contract's log.
pub(crate) fn line(
    layer: &Layer,
    contract: &AccountId,
    block: BlockInfo,
    level: u8,
    text: String,
) -> Result<(), Coded> {
    append(layer, contract, block, Said::Line { level, text })
}

/// Opens or closes a contract's log to an account or, if `who` is `None`, everyone.
pub(crate) fn set_reader(
    layer: &Layer,
    contract: &AccountId,
    who: Option<&AccountId>,
    allowed: bool,
) -> Result<(), Coded> {
    if let Some(record) = layer.contract(contract)? {
        layer.set(&record.readers(contract), who.encode(), allowed.then(Vec::new));
    }
    Ok(())
}

/// Forgets all that a contract said.
pub(crate) fn end(layer: &Layer, contract: &AccountId) -> Result<(), Coded> {
    let Some(log) = layer.read::<LogState>(&LOGS, contract.as_ref())? else { return Ok(()) };
    (log.first..log.next).for_each(|number| layer.set(&space(contract), number.to_be_bytes().to_vec(), None));
    layer.set(&LOGS, contract.as_ref().to_vec(), None);
    Ok(())
}

/// Appends a record and forgets the oldest beyond the limits. A contract that leaves is as it was.
fn append(layer: &Layer, contract: &AccountId, block: BlockInfo, said: Said) -> Result<(), Coded> {
    if layer.contract(contract)?.is_some_and(|record| record.standing == Standing::Leaves) {
        return Ok(());
    }
    let space = space(contract);
    let mut log: LogState = layer.read(&LOGS, contract.as_ref())?.unwrap_or_default();
    let record = LogRecord { number: log.next, height: block.height, time_ms: block.time_ms, said };
    let kept = Kept { events: log.events, record };
    log.bytes = log.bytes.saturating_add(kept.encoded_size() as u64);
    layer.write(&space, &log.next.to_be_bytes(), &kept);
    log.events = log.events.with(contract, &kept.record.said);
    log.next += 1;
    while log.first + 1 < log.next && (log.next - log.first > MAX_RECORDS || log.bytes > MAX_BYTES) {
        let key = log.first.to_be_bytes();
        let gone = layer.get(&space, &key)?.map_or(0, |record| record.len() as u64);
        layer.set(&space, key.to_vec(), None);
        log.bytes = log.bytes.saturating_sub(gone);
        log.first += 1;
    }
    layer.write(&LOGS, contract.as_ref(), &log);
    Ok(())
}

impl Replica {
    /// Whether an account may read what a contract said.
    ///
    /// Errors: `NoContract`, `LogDenied`.
    pub fn may_read_log(&self, account: &AccountId, contract: &AccountId) -> Result<(), Coded> {
        self.ready_epoch()?;
        let snapshot = self.state.snapshot();
        let missing = || Coded::new(Code::NoContract, contract.to_string());
        let record: Contract = read(&snapshot, &CONTRACTS, contract.as_ref())?.ok_or_else(missing)?;
        let allowed = |who: Option<&AccountId>| {
            let found = snapshot.contains(&record.readers(contract), &who.encode());
            found.map_err(Coded::from)
        };
        if record.owner == *account || allowed(Some(account))? || allowed(None)? {
            return Ok(());
        }
        Err(Coded::new(Code::LogDenied, contract.to_string()))
    }

    /// Records of what commands of a contract said, as far as the state holds them. The caller has checked
    /// [`Replica::may_read_log`].
    pub fn log(&self, query: &LogQuery) -> Result<LogPage, Coded> {
        let snapshot = self.state.snapshot();
        let state: LogState = read(&snapshot, &LOGS, query.contract.as_ref())?.unwrap_or_default();
        let (space, next) = (space(&query.contract), query.from.max(state.first));
        let mut page = LogPage { records: vec![], next, events: state.events };
        let mut bytes = 0;
        while page.next < state.next && (page.records.len() as u32) < query.limit.min(PAGE_RECORDS) {
            let kept: Option<Kept> = read(&snapshot, &space, &page.next.to_be_bytes())?;
            let lost = || Coded::new(Code::Internal, "the state has lost a record of a log");
            let Kept { events, record } = kept.ok_or_else(lost)?;
            if page.records.is_empty() {
                page.events = events;
            }
            bytes += record.encoded_size();
            if bytes > PAGE_BYTES && !page.records.is_empty() {
                break;
            }
            page.records.push(record);
            page.next += 1;
        }
        Ok(page)
    }
}

//! The entry log: what makes an acknowledged command survive the death of the process before the state is on disk.

use crate::cipher::{LogCipher, What};
use codec::{Decode, DecodeAll, Encode};
use parking_lot::Mutex;
use phala_primitives::{Block, Code, Coded, Finality};
use std::{collections::BTreeMap, io, sync::Arc};

/// Entries on the host's disk, by ascending height. The replica encrypts and authenticates what it appends; the log
/// only has to keep it.
pub trait EntryLog: Send + Sync + 'static {
    /// Appends the entry of a height above all others. It must survive the death of the process, not of the machine.
    fn append(&self, height: u64, entry: &[u8]) -> io::Result<()>;
    /// The entry of a height, `None` if it is not here.
    fn read(&self, height: u64) -> io::Result<Option<Vec<u8>>>;
    /// Lowest and highest height here.
    fn range(&self) -> Option<(u64, u64)>;
    /// Removes every entry from this height up.
    fn truncate(&self, from: u64) -> io::Result<()>;
    /// May remove entries below this height; an entry stays if one below it does.
    fn prune(&self, below: u64) -> io::Result<()>;
    /// Makes all that was appended survive the death of the machine.
    fn sync(&self) -> io::Result<()>;
}

/// An entry log in memory, for simulations and tests.
#[derive(Default, Debug)]
pub struct MemoryLog(Mutex<BTreeMap<u64, Vec<u8>>>);

impl EntryLog for MemoryLog {
    fn append(&self, height: u64, entry: &[u8]) -> io::Result<()> {
        let mut entries = self.0.lock();
        if entries.last_key_value().is_some_and(|(last, _)| *last >= height) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        entries.insert(height, entry.to_vec());
        Ok(())
    }

    fn read(&self, height: u64) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().get(&height).cloned())
    }

    fn range(&self) -> Option<(u64, u64)> {
        let entries = self.0.lock();
        Some((*entries.first_key_value()?.0, *entries.last_key_value()?.0))
    }

    fn truncate(&self, from: u64) -> io::Result<()> {
        self.0.lock().split_off(&from);
        Ok(())
    }

    fn prune(&self, below: u64) -> io::Result<()> {
        let mut entries = self.0.lock();
        *entries = entries.split_off(&below);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A final entry.
#[derive(Encode, Decode)]
pub(crate) struct Record {
    header: Vec<u8>,
    body: Vec<u8>,
    pub(crate) finality: Finality,
}

impl Record {
    pub(crate) fn block(self) -> (Block, Finality) {
        (Block { header: self.header.into(), body: self.body.into() }, self.finality)
    }
}

/// The host's log with everything in it sealed: the epoch (u64, little endian), then ciphertext.
#[derive(Clone)]
pub(crate) struct Journal {
    pub(crate) log: Arc<dyn EntryLog>,
    cipher: Arc<LogCipher>,
}

/// Epoch of a log's lowest entry, as the host has it.
pub(crate) fn oldest_epoch(log: &dyn EntryLog) -> Result<Option<u64>, Coded> {
    let Some((lowest, _)) = log.range() else { return Ok(None) };
    let sealed = log.read(lowest).map_err(|error| failed(&error))?;
    Ok(sealed.and_then(|sealed| sealed.first_chunk::<8>().map(|epoch| u64::from_le_bytes(*epoch))))
}

fn failed(error: &io::Error) -> Coded {
    Coded::new(Code::StorageFailed, format!("the entry log: {error}"))
}

impl Journal {
    pub(crate) fn new(log: Arc<dyn EntryLog>, cipher: Arc<LogCipher>) -> Self {
        Self { log, cipher }
    }

    /// Appends a final entry, unless it is here already.
    pub(crate) fn append(&self, height: u64, block: &Block, finality: &Finality) -> Result<(), Coded> {
        let end = self.log.range().map(|(_, last)| last);
        if end.is_some_and(|last| last >= height) {
            if self.read(height)?.is_some_and(|record| record.header == *block.header) {
                return Ok(());
            }
            // What a host put there in its place.
            self.log.truncate(height).map_err(|error| failed(&error))?;
        }
        let epoch = finality.certificate.epoch;
        let record = (&block.header[..], &block.body[..], finality).encode();
        let mut sealed = epoch.to_le_bytes().to_vec();
        sealed.extend(self.cipher.seal(What::Record, epoch, height, &record)?);
        self.log.append(height, &sealed).map_err(|error| failed(&error))
    }

    /// The entry of a height; `None` if there is none that a member of the cluster wrote.
    pub(crate) fn read(&self, height: u64) -> Result<Option<Record>, Coded> {
        let sealed = self.log.read(height).map_err(|error| failed(&error))?;
        Ok(sealed.and_then(|sealed| self.open(height, &sealed)))
    }

    /// Opens what a log of this cluster holds at a height.
    pub(crate) fn open(&self, height: u64, sealed: &[u8]) -> Option<Record> {
        let (epoch, sealed) = sealed.split_first_chunk::<8>()?;
        let record = self.cipher.open(What::Record, u64::from_le_bytes(*epoch), height, sealed)?;
        Record::decode_all(&mut record.as_slice()).ok()
    }

    /// Epoch of the lowest entry, as the host has it.
    pub(crate) fn oldest_epoch(&self) -> Result<Option<u64>, Coded> {
        oldest_epoch(self.log.as_ref())
    }

    pub(crate) fn truncate(&self, from: u64) -> Result<(), Coded> {
        self.log.truncate(from).map_err(|error| failed(&error))
    }

    pub(crate) fn prune(&self, below: u64) -> Result<(), Coded> {
        self.log.prune(below).map_err(|error| failed(&error))
    }

    pub(crate) fn sync(&self) -> Result<(), Coded> {
        self.log.sync().map_err(|error| failed(&error))
    }
}

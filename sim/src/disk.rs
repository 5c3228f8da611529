//! A disk that forgets, when its machine dies, what was not synced, or not all of it; and that may be full.

use parking_lot::Mutex;
use phala_replica::{EntryLog, MemoryLog};
use rand_core::Rng;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// A replica's disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    bytes: Vec<u8>,
    /// What undoes the writes since the last sync: where, what was there, and how long all was.
    undo: Vec<(usize, Vec<u8>, usize)>,
    /// What was written since: where, and what.
    redo: Vec<(usize, Vec<u8>)>,
    full: bool,
}

/// What a disk writes at once or not at all.
const SECTOR: usize = 512;

fn end(offset: u64, length: usize, total: usize) -> io::Result<(usize, usize)> {
    let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let end = start.checked_add(length).filter(|end| *end <= total).ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((start, end))
}

impl Disk {
    /// Another disk that holds the same, all of it synced.
    pub(crate) fn copy(&self) -> Self {
        let bytes = self.0.lock().bytes.clone();
        Self(Arc::new(Mutex::new(Contents { bytes, ..Contents::default() })))
    }

    /// From now on there is no room for anything, or there is again.
    pub(crate) fn fill(&self, full: bool) {
        self.0.lock().full = full;
    }

    /// What a new start may find if the machine lost power while it wrote: besides what was synced, any of the sectors
    /// that were on their way.
    pub(crate) fn tear(&self, rng: &mut impl Rng) -> Self {
        let torn = self.crash();
        {
            let mut contents = torn.0.lock();
            let total = contents.bytes.len();
            for (offset, data) in &self.0.lock().redo {
                for (sector, at) in data.chunks(SECTOR).zip((*offset..).step_by(SECTOR)) {
                    if at + sector.len() <= total && rng.next_u32().is_multiple_of(2) {
                        contents.bytes[at..at + sector.len()].copy_from_slice(sector);
                    }
                }
            }
        }
        torn
    }

    /// What a new start finds after the machine died. The dead one's handles keep a disk of their own.
    pub(crate) fn crash(&self) -> Self {
        let contents = self.0.lock();
        let mut bytes = contents.bytes.clone();
        for (offset, old, length) in contents.undo.iter().rev() {
            bytes.resize(*length, 0);
            bytes[*offset..*offset + old.len()].copy_from_slice(old);
        }
        Self(Arc::new(Mutex::new(Contents { bytes, ..Contents::default() })))
    }
}

impl phala_state::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let contents = self.0.lock();
        let (start, end) = end(offset, out.len(), contents.bytes.len())?;
        out.copy_from_slice(&contents.bytes[start..end]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut contents = self.0.lock();
        if contents.full && len > contents.bytes.len() as u64 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let (old, new) = (contents.bytes.len(), usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?);
        let cut = contents.bytes.get(new..).unwrap_or_default().to_vec();
        contents.undo.push((new.min(old), cut, old));
        contents.bytes.resize(new, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut contents = self.0.lock();
        contents.undo.clear();
        contents.redo.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut contents = self.0.lock();
        if contents.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let total = contents.bytes.len();
        let (start, end) = end(offset, data.len(), total)?;
        let old = contents.bytes[start..end].to_vec();
        contents.undo.push((start, old, total));
        contents.redo.push((start, data.to_vec()));
        contents.bytes[start..end].copy_from_slice(data);
        Ok(())
    }
}

/// An entry log on a disk that may be full. Clones are the same log.
#[derive(Clone, Default)]
pub(crate) struct Entries {
    log: Arc<MemoryLog>,
    full: Arc<AtomicBool>,
    /// The highest entry that survives the death of the machine.
    synced: Arc<AtomicU64>,
}

impl Entries {
    /// Another log that holds the same.
    pub(crate) fn copy(&self) -> Self {
        let same = MemoryLog::default();
        let (low, high) = self.log.range().unwrap_or((1, 0));
        for height in low..=high {
            // In memory it does not fail.
            let _ = self.log.read(height).map(|entry| entry.map(|entry| same.append(height, &entry)));
        }
        let synced = Arc::new(AtomicU64::new(self.synced.load(Ordering::SeqCst)));
        Self { log: Arc::new(same), full: Arc::default(), synced }
    }

    /// Forgets this many of the newest entries.
    pub(crate) fn forget(&self, count: u64) {
        if let Some((low, high)) = self.log.range() {
            let _ = self.log.truncate(high.saturating_add(1).saturating_sub(count).max(low));
        }
    }

    /// Loses as many, unless they were synced.
    pub(crate) fn tear(&self, count: u64) {
        let synced = self.synced.load(Ordering::SeqCst);
        let high = self.log.range().map_or(0, |(_, high)| high);
        self.forget(count.min(high.saturating_sub(synced)));
    }

    /// From now on there is no room for anything, or there is again.
    pub(crate) fn fill(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }
}

impl EntryLog for Entries {
    fn append(&self, height: u64, entry: &[u8]) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.log.append(height, entry)
    }

    fn read(&self, height: u64) -> io::Result<Option<Vec<u8>>> {
        self.log.read(height)
    }

    fn range(&self) -> Option<(u64, u64)> {
        self.log.range()
    }

    fn truncate(&self, from: u64) -> io::Result<()> {
        self.log.truncate(from)
    }

    fn prune(&self, below: u64) -> io::Result<()> {
        self.log.prune(below)
    }

    fn sync(&self) -> io::Result<()> {
        self.synced.store(self.log.range().map_or(0, |(_, high)| high), Ordering::SeqCst);
        self.log.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seeded;
    use phala_state::StorageBackend;

    #[test]
    fn a_torn_disk_holds_what_was_synced_and_some_of_the_rest() {
        let disk = Disk::default();
        disk.set_len(4 * SECTOR as u64).unwrap();
        disk.sync_data().unwrap();
        disk.write(0, &[1; 4 * SECTOR]).unwrap();
        let mut rng = Seeded::new(1, "torn");
        let mut sectors = vec![];
        for _ in 0..8 {
            let mut out = [0; 4 * SECTOR];
            disk.tear(&mut rng).read(0, &mut out).unwrap();
            sectors.extend(out.chunks(SECTOR).map(|sector| sector.iter().map(|byte| u32::from(*byte)).sum::<u32>()));
        }
        assert!(sectors.contains(&0) && sectors.contains(&(SECTOR as u32)), "{sectors:?}");
        assert!(sectors.iter().all(|sum| [0, SECTOR as u32].contains(sum)), "sectors are whole");
        disk.fill(true);
        assert_eq!(disk.write(0, b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(disk.set_len(5 * SECTOR as u64).is_err() && disk.read(0, &mut [0; 4]).is_ok());
        disk.fill(false);
        disk.write(0, b"x").unwrap();
    }

    #[test]
    fn a_crash_takes_what_was_not_synced_and_nothing_else() {
        let disk = Disk::default();
        disk.set_len(4).unwrap();
        disk.write(0, b"abcd").unwrap();
        disk.sync_data().unwrap();
        let synced = disk.crash();
        disk.write(1, b"xyz").unwrap();
        disk.write(0, b"w").unwrap();
        disk.set_len(2).unwrap();
        disk.set_len(6).unwrap();
        disk.write(2, b"1234").unwrap();
        let crashed = disk.crash();
        for after in [synced, crashed] {
            let mut out = [0; 4];
            after.read(0, &mut out).unwrap();
            assert_eq!((&out, after.len().unwrap()), (b"abcd", 4));
        }
        assert!(disk.read(4, &mut [0; 3]).is_err());
    }
}

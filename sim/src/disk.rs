//! A disk that forgets, when its machine dies, what was not synced.

use parking_lot::Mutex;
use std::{io, sync::Arc};

/// A replica's disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    bytes: Vec<u8>,
    /// What undoes the writes since the last sync: where, what was there, and how long all was.
    undo: Vec<(usize, Vec<u8>, usize)>,
}

fn end(offset: u64, length: usize, total: usize) -> io::Result<(usize, usize)> {
    let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let end = start.checked_add(length).filter(|end| *end <= total).ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((start, end))
}

impl Disk {
    /// Another disk that holds the same, all of it synced.
    pub(crate) fn copy(&self) -> Self {
        let bytes = self.0.lock().bytes.clone();
        Self(Arc::new(Mutex::new(Contents { bytes, undo: vec![] })))
    }

    /// What a new start finds after the machine died. The dead one's handles keep a disk of their own.
    pub(crate) fn crash(&self) -> Self {
        let contents = self.0.lock();
        let mut bytes = contents.bytes.clone();
        for (offset, old, length) in contents.undo.iter().rev() {
            bytes.resize(*length, 0);
            bytes[*offset..*offset + old.len()].copy_from_slice(old);
        }
        Self(Arc::new(Mutex::new(Contents { bytes, undo: vec![] })))
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
        let (old, new) = (contents.bytes.len(), usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?);
        let cut = contents.bytes.get(new..).unwrap_or_default().to_vec();
        contents.undo.push((new.min(old), cut, old));
        contents.bytes.resize(new, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.lock().undo.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut contents = self.0.lock();
        let total = contents.bytes.len();
        let (start, end) = end(offset, data.len(), total)?;
        let old = contents.bytes[start..end].to_vec();
        contents.undo.push((start, old, total));
        contents.bytes[start..end].copy_from_slice(data);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phala_state::StorageBackend;

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

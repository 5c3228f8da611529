//! The entry log of a replica on disk: one append-only file.
//!
//! A record is its length, a CRC-32C of what follows, the height, and the entry's bytes; all numbers little endian.
//! The replica encrypts and authenticates what it appends: the checksum only finds a torn tail after a crash. A
//! record is handed to the operating system before `append` returns, so a killed process loses nothing; a separate
//! call makes the file survive a power cut.
//!
//! Opening reads the file once, keeps the offset of each height, and cuts off what a crash left half written.

use parking_lot::Mutex;
use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

/// Largest entry that is accepted, in bytes: a body, its header and a certificate.
const MAX_RECORD: u32 = 2 << 20;
const HEAD: usize = 16;

/// An append-only file of entries by ascending height.
#[derive(Debug)]
pub(crate) struct EntryFile {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    /// Length of the file that holds whole records.
    end: u64,
    /// Height and offset of each record.
    index: Vec<(u64, u64)>,
    /// A write failed half way: nothing may follow it before the file is cut back.
    torn: bool,
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl EntryFile {
    /// Opens or creates the file and forgets a torn tail.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let (index, end) = scan(&file)?;
        file.set_len(end)?;
        Ok(Self { inner: Mutex::new(Inner { file, end, index, torn: false }) })
    }

    /// Appends the entry of a height above all others.
    pub(crate) fn append(&self, height: u64, entry: &[u8]) -> io::Result<()> {
        let length =
            u32::try_from(entry.len()).ok().filter(|l| *l <= MAX_RECORD).ok_or_else(|| invalid("entry too large"))?;
        let mut inner = self.inner.lock();
        if inner.index.last().is_some_and(|(last, _)| *last >= height) {
            return Err(invalid("entries are appended by ascending height"));
        }
        if inner.torn {
            inner.file.set_len(inner.end)?;
            inner.torn = false;
        }
        let mut record = Vec::with_capacity(HEAD + entry.len());
        record.extend_from_slice(&length.to_le_bytes());
        record.extend_from_slice(&checksum(height, entry).to_le_bytes());
        record.extend_from_slice(&height.to_le_bytes());
        record.extend_from_slice(entry);
        let at = inner.end;
        if let Err(error) = inner.file.write_all_at(&record, at) {
            inner.torn = true;
            return Err(error);
        }
        inner.index.push((height, at));
        inner.end += record.len() as u64;
        Ok(())
    }

    /// The entry at a height, `None` if it is not here.
    pub(crate) fn read(&self, height: u64) -> io::Result<Option<Vec<u8>>> {
        let inner = self.inner.lock();
        let Ok(found) = inner.index.binary_search_by_key(&height, |(h, _)| *h) else { return Ok(None) };
        let Some((_, at)) = inner.index.get(found).copied() else { return Ok(None) };
        let mut head = [0; HEAD];
        inner.file.read_exact_at(&mut head, at)?;
        let (length, sum, written) = parse(&head);
        if written != height || length > MAX_RECORD {
            return Err(invalid("a record of the entry log is damaged"));
        }
        let mut entry = vec![0; length as usize];
        inner.file.read_exact_at(&mut entry, at + HEAD as u64)?;
        if checksum(height, &entry) != sum {
            return Err(invalid("a record of the entry log is damaged"));
        }
        Ok(Some(entry))
    }

    /// Lowest and highest height here.
    pub(crate) fn range(&self) -> Option<(u64, u64)> {
        let inner = self.inner.lock();
        Some((inner.index.first()?.0, inner.index.last()?.0))
    }

    /// Removes every entry from this height up.
    pub(crate) fn truncate(&self, from: u64) -> io::Result<()> {
        let mut inner = self.inner.lock();
        let keep = inner.index.partition_point(|(height, _)| *height < from);
        if let Some((_, at)) = inner.index.get(keep).copied() {
            inner.file.set_len(at)?;
            inner.end = at;
            inner.index.truncate(keep);
            inner.torn = false;
        }
        Ok(())
    }

    /// Makes all that was appended survive a power cut.
    pub(crate) fn sync(&self) -> io::Result<()> {
        // A clone of the handle, so that appends do not wait for the disk.
        let file = self.inner.lock().file.try_clone()?;
        file.sync_data()
    }
}

fn parse(head: &[u8; HEAD]) -> (u32, u32, u64) {
    let [a, b, c, d, e, f, g, h, rest @ ..] = *head;
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]), u64::from_le_bytes(rest))
}

fn checksum(height: u64, entry: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&height.to_le_bytes()), entry)
}

/// Reads whole records from the start. Returns their places and where the first torn one begins.
fn scan(file: &File) -> io::Result<(Vec<(u64, u64)>, u64)> {
    let size = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(1 << 20, file.try_clone()?);
    let (mut index, mut at): (Vec<(u64, u64)>, u64) = (vec![], 0);
    let mut head = [0; HEAD];
    let mut entry = vec![];
    while size - at >= HEAD as u64 {
        reader.read_exact(&mut head)?;
        let (length, sum, height) = parse(&head);
        let next = at + HEAD as u64 + u64::from(length);
        let ascending = index.last().is_none_or(|(last, _)| *last < height);
        if length > MAX_RECORD || next > size || !ascending {
            break;
        }
        entry.resize(length as usize, 0);
        reader.read_exact(&mut entry)?;
        if checksum(height, &entry) != sum {
            break;
        }
        index.push((height, at));
        at = next;
    }
    Ok((index, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_records_survive_and_a_torn_tail_is_cut_at_every_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("entries");
        let log = EntryFile::open(&path).unwrap();
        for height in 3..=5 {
            log.append(height, &vec![height as u8; 100 * height as usize]).unwrap();
        }
        assert!(log.append(5, b"again").is_err());
        let whole = std::fs::read(&path).unwrap();
        let last = whole.len() - 500 - HEAD;
        for cut in [0, 1, HEAD - 1, HEAD, HEAD + 1, HEAD + 499] {
            std::fs::write(&path, &whole[..last + cut]).unwrap();
            let log = EntryFile::open(&path).unwrap();
            assert_eq!(log.range(), Some((3, 4)));
            log.append(5, b"five").unwrap();
            assert_eq!(log.read(5).unwrap().unwrap(), b"five");
            assert_eq!(log.read(4).unwrap().unwrap(), vec![4; 400]);
            assert_eq!(log.read(6).unwrap(), None);
        }
    }

    #[test]
    fn damage_in_the_middle_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("entries");
        let log = EntryFile::open(&path).unwrap();
        log.append(1, b"one").unwrap();
        log.append(2, b"two").unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[HEAD] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(log.read(1).is_err());
        assert_eq!(EntryFile::open(&path).unwrap().range(), None);
    }

    #[test]
    fn truncation_removes_the_tail() {
        let folder = tempfile::tempdir().unwrap();
        let log = EntryFile::open(&folder.path().join("entries")).unwrap();
        (1..=4).for_each(|h| log.append(h, b"x").unwrap());
        log.truncate(3).unwrap();
        assert_eq!(log.range(), Some((1, 2)));
        log.append(3, b"y").unwrap();
        assert_eq!(log.read(3).unwrap().unwrap(), b"y");
    }
}

//! The entry log of a replica on disk: append-only files in a folder, named by the height of their first entry.
//!
//! A record is its length, a CRC-32C of what follows, the height, and the entry's bytes; all numbers little endian.
//! The replica encrypts and authenticates what it appends: the checksum only finds a torn tail after a crash. A
//! record is handed to the operating system before `append` returns, so a killed process loses nothing; a separate
//! call makes the log survive a power cut.
//!
//! Opening reads the files once, keeps the offset of each height, and cuts off what a crash left half written. Pruning
//! removes whole files, and keeps a good part of the log for members that were away for a while.

use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, BufReader, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Largest entry that is accepted, in bytes: a body, its header and a certificate.
const MAX_RECORD: u32 = 2 << 20;
const HEAD: usize = 16;

/// How large the files are, in bytes.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// From this length on, another file is begun.
    file: u64,
    /// What is kept in spite of pruning.
    kept: u64,
}

const SIZES: Sizes = Sizes { file: 32 << 20, kept: 256 << 20 };

/// Entries by ascending height.
#[derive(Debug)]
pub(crate) struct EntryFile {
    folder: PathBuf,
    sizes: Sizes,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Ascending; the last one is appended to. None is empty.
    parts: VecDeque<Part>,
    /// Files that are finished and may not be on the disk yet.
    unsynced: Vec<File>,
    /// A write failed half way: nothing may follow it before the file is cut back.
    torn: bool,
}

/// One file.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    file: File,
    /// Length of the file that holds whole records.
    end: u64,
    /// Height and offset of each record.
    index: Vec<(u64, u64)>,
}

impl Part {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        Ok(Self { path, file, end: 0, index: vec![] })
    }

    fn first(&self) -> Option<u64> {
        self.index.first().map(|(height, _)| *height)
    }

    fn last(&self) -> Option<u64> {
        self.index.last().map(|(height, _)| *height)
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl EntryFile {
    /// Opens or creates the folder and forgets a torn tail.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        Self::with(folder, SIZES)
    }

    fn with(folder: &Path, sizes: Sizes) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        // The names have as many digits as the largest height.
        paths.sort();
        let mut inner = Inner::default();
        let mut whole = true;
        for path in paths {
            if whole {
                let mut part = Part::open(path.clone())?;
                let size = part.file.metadata()?.len();
                let below = inner.parts.back().and_then(Part::last);
                (part.index, part.end) = scan(&part.file, size, below)?;
                whole = part.end == size;
                if !part.index.is_empty() {
                    part.file.set_len(part.end)?;
                    inner.parts.push_back(part);
                    continue;
                }
            }
            std::fs::remove_file(path)?;
        }
        Ok(Self { folder: folder.to_owned(), sizes, inner: Mutex::new(inner) })
    }

    /// Appends the entry of a height above all others.
    pub(crate) fn append(&self, height: u64, entry: &[u8]) -> io::Result<()> {
        let length =
            u32::try_from(entry.len()).ok().filter(|l| *l <= MAX_RECORD).ok_or_else(|| invalid("entry too large"))?;
        let mut inner = self.inner.lock();
        let Inner { parts, unsynced, torn } = &mut *inner;
        if parts.back().and_then(Part::last).is_some_and(|last| last >= height) {
            return Err(invalid("entries are appended by ascending height"));
        }
        if *torn && let Some(part) = parts.back() {
            part.file.set_len(part.end)?;
            *torn = false;
        }
        let mut record = Vec::with_capacity(HEAD + entry.len());
        record.extend_from_slice(&length.to_le_bytes());
        record.extend_from_slice(&checksum(height, entry).to_le_bytes());
        record.extend_from_slice(&height.to_le_bytes());
        record.extend_from_slice(entry);
        if let Some(part) = parts.back_mut().filter(|part| part.end < self.sizes.file) {
            if let Err(error) = part.file.write_all_at(&record, part.end) {
                *torn = true;
                return Err(error);
            }
            part.index.push((height, part.end));
            part.end += record.len() as u64;
            return Ok(());
        }
        let mut part = Part::open(self.folder.join(format!("{height:020}")))?;
        // What an earlier try has left of it.
        part.file.set_len(0)?;
        part.file.write_all_at(&record, 0)?;
        part.index.push((height, 0));
        part.end = record.len() as u64;
        if let Some(done) = parts.back() {
            unsynced.push(done.file.try_clone()?);
        }
        parts.push_back(part);
        Ok(())
    }

    /// The entry at a height, `None` if it is not here.
    pub(crate) fn read(&self, height: u64) -> io::Result<Option<Vec<u8>>> {
        let inner = self.inner.lock();
        let part = inner.parts.partition_point(|part| part.last() < Some(height));
        let Some(part) = inner.parts.get(part) else { return Ok(None) };
        let Ok(found) = part.index.binary_search_by_key(&height, |(h, _)| *h) else { return Ok(None) };
        let Some((_, at)) = part.index.get(found).copied() else { return Ok(None) };
        let mut head = [0; HEAD];
        part.file.read_exact_at(&mut head, at)?;
        let (length, sum, written) = parse(&head);
        if written != height || length > MAX_RECORD {
            return Err(invalid("a record of the entry log is damaged"));
        }
        let mut entry = vec![0; length as usize];
        part.file.read_exact_at(&mut entry, at + HEAD as u64)?;
        if checksum(height, &entry) != sum {
            return Err(invalid("a record of the entry log is damaged"));
        }
        Ok(Some(entry))
    }

    /// Lowest and highest height here.
    pub(crate) fn range(&self) -> Option<(u64, u64)> {
        let inner = self.inner.lock();
        Some((inner.parts.front()?.first()?, inner.parts.back()?.last()?))
    }

    /// Removes every entry from this height up.
    pub(crate) fn truncate(&self, from: u64) -> io::Result<()> {
        let mut inner = self.inner.lock();
        while let Some(part) = inner.parts.pop_back_if(|part| part.first() >= Some(from)) {
            std::fs::remove_file(&part.path)?;
            inner.torn = false;
        }
        if let Some(part) = inner.parts.back_mut() {
            let keep = part.index.partition_point(|(height, _)| *height < from);
            if let Some((_, at)) = part.index.get(keep).copied() {
                part.file.set_len(at)?;
                part.end = at;
                part.index.truncate(keep);
                inner.torn = false;
            }
        }
        Ok(())
    }

    /// Removes files that hold only entries below this height, as long as enough is left.
    pub(crate) fn prune(&self, below: u64) -> io::Result<()> {
        let mut inner = self.inner.lock();
        let mut size: u64 = inner.parts.iter().map(|part| part.end).sum();
        while let Some(part) = inner.parts.front() {
            let next = inner.parts.get(1).and_then(Part::first);
            if next.is_none_or(|next| next > below) || size.saturating_sub(part.end) < self.sizes.kept {
                break;
            }
            std::fs::remove_file(&part.path)?;
            size = size.saturating_sub(part.end);
            inner.parts.pop_front();
        }
        Ok(())
    }

    /// Makes all that was appended survive a power cut.
    pub(crate) fn sync(&self) -> io::Result<()> {
        // Clones of the handles, so that appends do not wait for the disk.
        let mut inner = self.inner.lock();
        let mut files = std::mem::take(&mut inner.unsynced);
        let begun = !files.is_empty() || inner.parts.len() == 1;
        files.extend(inner.parts.back().map(|part| part.file.try_clone()).transpose()?);
        drop(inner);
        files.iter().try_for_each(File::sync_data)?;
        if begun { File::open(&self.folder)?.sync_all() } else { Ok(()) }
    }
}

fn parse(head: &[u8; HEAD]) -> (u32, u32, u64) {
    let [a, b, c, d, e, f, g, h, rest @ ..] = *head;
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]), u64::from_le_bytes(rest))
}

fn checksum(height: u64, entry: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&height.to_le_bytes()), entry)
}

/// Reads whole records of heights above `below` from the start. Returns their places and where the first torn one begins.
fn scan(file: &File, size: u64, below: Option<u64>) -> io::Result<(Vec<(u64, u64)>, u64)> {
    let mut reader = BufReader::with_capacity(1 << 20, file.try_clone()?);
    let (mut index, mut at): (Vec<(u64, u64)>, u64) = (vec![], 0);
    let mut head = [0; HEAD];
    let mut entry = vec![];
    while size - at >= HEAD as u64 {
        reader.read_exact(&mut head)?;
        let (length, sum, height) = parse(&head);
        let next = at + HEAD as u64 + u64::from(length);
        let ascending = index.last().map(|(last, _)| *last).or(below).is_none_or(|last| last < height);
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

    /// The only file of a log.
    fn only(folder: &Path) -> PathBuf {
        let paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(paths.len(), 1);
        paths[0].clone()
    }

    #[test]
    fn whole_records_survive_and_a_torn_tail_is_cut_at_every_length() {
        let folder = tempfile::tempdir().unwrap();
        let log = EntryFile::open(folder.path()).unwrap();
        for height in 3..=5 {
            log.append(height, &vec![height as u8; 100 * height as usize]).unwrap();
        }
        assert!(log.append(5, b"again").is_err());
        let path = only(folder.path());
        let whole = std::fs::read(&path).unwrap();
        let last = whole.len() - 500 - HEAD;
        for cut in [0, 1, HEAD - 1, HEAD, HEAD + 1, HEAD + 499] {
            std::fs::write(&path, &whole[..last + cut]).unwrap();
            let log = EntryFile::open(folder.path()).unwrap();
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
        let log = EntryFile::open(folder.path()).unwrap();
        log.append(1, b"one").unwrap();
        log.append(2, b"two").unwrap();
        let path = only(folder.path());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[HEAD] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(log.read(1).is_err());
        assert_eq!(EntryFile::open(folder.path()).unwrap().range(), None);
    }

    #[test]
    fn truncation_removes_the_tail() {
        let folder = tempfile::tempdir().unwrap();
        let log = EntryFile::open(folder.path()).unwrap();
        (1..=4).for_each(|h| log.append(h, b"x").unwrap());
        log.truncate(3).unwrap();
        assert_eq!(log.range(), Some((1, 2)));
        log.append(3, b"y").unwrap();
        assert_eq!(log.read(3).unwrap().unwrap(), b"y");
    }

    /// Files of three entries each.
    const SMALL: Sizes = Sizes { file: 3 * (HEAD as u64 + 10), kept: 6 * (HEAD as u64 + 10) };

    fn filled(folder: &Path) -> EntryFile {
        let log = EntryFile::with(folder, SMALL).unwrap();
        (1..=20).for_each(|height| log.append(height, &[height as u8; 10]).unwrap());
        log.sync().unwrap();
        log
    }

    #[test]
    fn many_files_are_one_log() {
        let folder = tempfile::tempdir().unwrap();
        drop(filled(folder.path()));
        let log = EntryFile::with(folder.path(), SMALL).unwrap();
        assert_eq!((log.range(), log.read(21).unwrap(), log.read(0).unwrap()), (Some((1, 20)), None, None));
        (1..=20).for_each(|height| assert_eq!(log.read(height).unwrap().unwrap(), [height as u8; 10]));
        log.truncate(8).unwrap();
        assert_eq!(log.range(), Some((1, 7)));
        log.append(8, b"eight").unwrap();
        let log = EntryFile::with(folder.path(), SMALL).unwrap();
        assert_eq!((log.range(), log.read(8).unwrap().unwrap()), (Some((1, 8)), b"eight".to_vec()));
        log.truncate(0).unwrap();
        assert_eq!((log.range(), std::fs::read_dir(folder.path()).unwrap().count()), (None, 0));
        log.append(40, b"far above").unwrap();
        assert_eq!(log.range(), Some((40, 40)));
    }

    #[test]
    fn behind_a_torn_record_nothing_counts() {
        let folder = tempfile::tempdir().unwrap();
        drop(filled(folder.path()));
        let second = folder.path().join(format!("{:020}", 4));
        let bytes = std::fs::read(&second).unwrap();
        std::fs::write(&second, &bytes[..bytes.len() - 1]).unwrap();
        let log = EntryFile::with(folder.path(), SMALL).unwrap();
        assert_eq!(log.range(), Some((1, 5)));
        log.append(6, b"six").unwrap();
        assert_eq!(EntryFile::with(folder.path(), SMALL).unwrap().range(), Some((1, 6)));
    }

    #[test]
    fn pruning_keeps_what_is_needed_and_a_good_part_besides() {
        let folder = tempfile::tempdir().unwrap();
        let log = filled(folder.path());
        log.prune(3).unwrap();
        assert_eq!(log.range(), Some((1, 20)), "the first file holds entry 3");
        log.prune(9).unwrap();
        assert_eq!(log.range(), Some((7, 20)));
        log.prune(u64::MAX).unwrap();
        assert_eq!(log.range(), Some((13, 20)), "two files' worth is kept");
        assert_eq!((log.read(6).unwrap(), log.read(13).unwrap()), (None, Some(vec![13; 10])));
        assert_eq!(EntryFile::with(folder.path(), SMALL).unwrap().range(), Some((13, 20)));
    }
}

//! The beginning of the host's file: magic (8), salt (32), and the oldest key epoch (u64, little endian) from which anything
//! in the file or above it may be; then nonce (12) and tag (16) over them.
//!
//! It is there twice, and written one after the other, so that a torn write leaves one. The older of the two is the one to
//! go by: it only asks for more keys.

use crate::{
    ring::{MARK, aead, open, random, seal},
    sealed::altered,
};
use aws_lc_rs::aead::LessSafeKey;
use redb::StorageBackend;
use std::io;

/// Where the two are.
const PLACES: [u64; 2] = [0, 2048];
/// Where what follows begins.
pub(crate) const END: u64 = 4096;
const MAGIC: &[u8; 8] = b"PHALAST2";
/// Of files without key epochs.
const BEFORE: &[u8] = b"PHALAST1";
const SALT: usize = 32;
const TEXT: usize = 8 + SALT + 8;
const SIZE: usize = TEXT + MARK;

/// What a file says of itself.
#[derive(Clone, Copy)]
pub(crate) struct Superblock {
    pub(crate) salt: [u8; SALT],
    pub(crate) oldest: u64,
}

impl Superblock {
    fn encode(&self, key: &LessSafeKey) -> io::Result<[u8; SIZE]> {
        let mut bytes = [0; SIZE];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..8 + SALT].copy_from_slice(&self.salt);
        bytes[8 + SALT..TEXT].copy_from_slice(&self.oldest.to_le_bytes());
        let mark = seal(key, &bytes[..TEXT], &mut [])?;
        bytes[TEXT..].copy_from_slice(&mark);
        Ok(bytes)
    }

    /// What the text says, whoever wrote it.
    fn parse(bytes: &[u8; SIZE]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (salt, rest) = rest.split_first_chunk()?;
        let (oldest, _) = rest.split_first_chunk()?;
        Some(Self { salt: *salt, oldest: u64::from_le_bytes(*oldest) })
    }

    fn decode(key: &LessSafeKey, bytes: &[u8; SIZE]) -> Option<Self> {
        let (text, mark) = bytes.split_at(TEXT);
        open(key, text, mark, &mut [])?;
        Self::parse(bytes)
    }
}

/// Reads and writes a file's superblocks.
pub(crate) struct Superblocks(LessSafeKey);

impl Superblocks {
    pub(crate) fn new(key: &[u8; 32]) -> io::Result<Self> {
        Ok(Self(aead(key)?))
    }

    /// Reads them, or writes the first of a file that has none yet. Whoever made one, and died before it was there whole,
    /// has written nothing else.
    pub(crate) fn open(&self, file: &dyn StorageBackend, oldest: u64) -> io::Result<Superblock> {
        let len = file.len()?;
        let found = if len < END { [[0; SIZE]; 2] } else { read(file)? };
        if len == 0 || (len == END && found == [[0; SIZE]; 2]) {
            let made = Superblock { salt: random()?, oldest };
            file.set_len(END)?;
            self.write(file, &made)?;
            return Ok(made);
        }
        let whole = found.iter().filter_map(|bytes| Superblock::decode(&self.0, bytes));
        let found = whole.min_by_key(|superblock| superblock.oldest);
        found.ok_or_else(|| altered("the file"))
    }

    pub(crate) fn write(&self, file: &dyn StorageBackend, superblock: &Superblock) -> io::Result<()> {
        for place in PLACES {
            file.write(place, &superblock.encode(&self.0)?)?;
            file.sync_data()?;
        }
        Ok(())
    }
}

fn read(file: &dyn StorageBackend) -> io::Result<[[u8; SIZE]; 2]> {
    let mut found = [[0; SIZE]; 2];
    for (place, bytes) in PLACES.into_iter().zip(&mut found) {
        file.read(place, bytes)?;
    }
    Ok(found)
}

/// Whether a file was written by a program that knew no key epochs.
pub(crate) fn is_without_epochs(file: &dyn StorageBackend) -> io::Result<bool> {
    Ok(file.len()? >= END && read(file)?.iter().any(|bytes| bytes.starts_with(BEFORE)))
}

/// The oldest key epoch whose keys are needed to open a state in this file and to go on from it: what the file says itself,
/// which the host may have altered. 0 if nothing is known.
pub fn oldest_epoch(file: &dyn StorageBackend) -> io::Result<u64> {
    if file.len()? < END {
        return Ok(0);
    }
    let said = read(file)?.iter().filter_map(Superblock::parse).map(|superblock| superblock.oldest).min();
    Ok(said.unwrap_or(0))
}

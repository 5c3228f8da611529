//! Encryption of a flat file, block by block, under a database that believes to own a plain one.
//!
//! # Layout of the host's file
//! ```text
//! 0      superblock, twice ([`superblock`])
//! 4096   block 0, slot A: sequence (8) | key epoch (8) | nonce (12) | tag (16) | ciphertext (4096)
//! 12288  block 0, slot B: likewise
//! 20480  blocks that are being sealed anew ([`reseal`])
//! 286720 block 1: key epoch (8) | nonce (12) | tag (16) | ciphertext (4096); then block 2, …
//! ```
//! Block 0 holds the database's header, the only block that the database ever overwrites in place: it is written to its two
//! slots in turn, so that a torn write leaves the one before it. The database writes other blocks only where nothing
//! that it still needs lies.
//!
//! A block that was added since the file was opened and never written reads as zeros.
//!
//! [`superblock`]: crate::superblock
//! [`reseal`]: crate::reseal

use crate::{
    StateKeys,
    keys::block_key,
    reseal::Sweep,
    ring::{Ring, SEAL, Tag, tag_of},
    superblock::{self, Superblock, Superblocks},
};
use parking_lot::{Mutex, RwLock};
use redb::StorageBackend;
use std::{fmt, io, sync::Arc};

pub(crate) const BLOCK: usize = 4096;
pub(crate) const STRIDE: usize = SEAL + BLOCK;
const SLOTS: [u64; 2] = [superblock::END, 12288];
/// Where blocks are put before they are overwritten in place, and behind it the first of them.
pub(crate) const SPARE: u64 = 20480;
pub(crate) const DATA: u64 = 286_720;

/// What is known of a block's present content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Written before the file was opened and not read since.
    Unread,
    /// Added and not written yet.
    Zero,
    /// Its authentication tag.
    Tag(Tag),
}

/// Block 0: the slot that holds it and how often it was written.
pub(crate) struct Head {
    slot: usize,
    sequence: u64,
}

pub(crate) struct Blocks {
    /// Per block, so that an older version is not taken for the present one.
    pub(crate) known: Vec<Known>,
    head: Head,
}

/// The host's file with everything in it encrypted and authenticated.
pub(crate) struct Sealed {
    pub(crate) inner: Box<dyn StorageBackend>,
    pub(crate) keys: StateKeys,
    pub(crate) superblocks: Superblocks,
    pub(crate) superblock: Mutex<Superblock>,
    pub(crate) ring: RwLock<Ring>,
    pub(crate) blocks: RwLock<Blocks>,
    /// Shared by whoever reads or writes blocks; held alone by who overwrites some in place.
    pub(crate) in_place: RwLock<()>,
    pub(crate) sweep: Mutex<Sweep>,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sealed storage")
    }
}

/// Content that nobody with the keys wrote, or not last.
pub(crate) fn altered(what: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} was altered, or belongs to another store"))
}

/// Where block `index` (from 1) begins in the host's file.
pub(crate) fn place(index: usize) -> u64 {
    DATA + (index as u64 - 1) * STRIDE as u64
}

/// What the seal of block `index` (from 1) is bound to.
pub(crate) fn as_block(index: usize) -> [u8; 16] {
    let mut what = [0; 16];
    what[..8].copy_from_slice(&(index as u64).to_le_bytes());
    what
}

fn as_head(sequence: u64) -> [u8; 16] {
    let mut what = [0; 16];
    what[8..].copy_from_slice(&sequence.to_le_bytes());
    what
}

impl Sealed {
    /// Opens a file of this form, or makes one of an empty file.
    pub(crate) fn open(inner: impl StorageBackend, keys: &StateKeys) -> io::Result<Self> {
        let superblocks = Superblocks::new(&keys.superblock())?;
        let superblock = superblocks.open(&inner, keys.oldest())?;
        let count = match inner.len()?.checked_sub(DATA) {
            Some(rest) => 1 + usize::try_from(rest / STRIDE as u64).map_err(io::Error::other)?,
            None => 0,
        };
        let blocks = Blocks { known: vec![Known::Unread; count], head: Head { slot: 1, sequence: 0 } };
        let store = Self {
            inner: Box::new(inner),
            keys: keys.clone(),
            superblocks,
            superblock: Mutex::new(superblock),
            ring: RwLock::new(Ring::new(&keys.blocks(&superblock.salt))?),
            blocks: RwLock::new(blocks),
            in_place: RwLock::default(),
            sweep: Mutex::default(),
        };
        if count > 0 {
            store.recover()?;
            store.find_head()?;
        }
        store.sweep_if_old();
        Ok(store)
    }

    /// Seals what is written from now on under the key of a newer epoch.
    pub(crate) fn rekey(&self, epoch: u64, value: &[u8; 32]) -> io::Result<()> {
        if epoch > self.ring.read().newest() {
            let key = block_key(value, &self.superblock.lock().salt);
            self.ring.write().add(epoch, &key)?;
            self.keys.learn(epoch, value);
            self.sweep_if_old();
        }
        Ok(())
    }

    /// Chooses the slot of block 0 that was written last.
    fn find_head(&self) -> io::Result<()> {
        let mut best: Option<(Head, Tag)> = None;
        for slot in 0..SLOTS.len() {
            let mut text = [0; BLOCK];
            if let Some((sequence, tag)) = self.read_slot(slot, &mut text)?
                && best.as_ref().is_none_or(|(head, _)| head.sequence < sequence)
            {
                best = Some((Head { slot, sequence }, tag));
            }
        }
        let (head, tag) = best.ok_or_else(|| altered("the header"))?;
        let mut blocks = self.blocks.write();
        blocks.head = head;
        blocks.known[0] = Known::Tag(tag);
        Ok(())
    }

    /// Reads a slot of block 0; `None` if it holds nothing whole.
    fn read_slot(&self, slot: usize, out: &mut [u8]) -> io::Result<Option<(u64, Tag)>> {
        let mut raw = [0; 8 + STRIDE];
        self.inner.read(SLOTS[slot], &mut raw)?;
        let (sequence, sealed) = raw.split_at(8);
        let mut bytes = [0; 8];
        bytes.copy_from_slice(sequence);
        let sequence = u64::from_le_bytes(bytes);
        Ok(self.ring.read().open(&as_head(sequence), sealed, out).map(|()| (sequence, tag_of(sealed))))
    }

    pub(crate) fn read_head(&self, out: &mut [u8]) -> io::Result<()> {
        let blocks = self.blocks.read();
        match blocks.known.first() {
            Some(Known::Tag(tag)) => match self.read_slot(blocks.head.slot, out)? {
                Some((sequence, read)) if sequence == blocks.head.sequence && read == *tag => Ok(()),
                _ => Err(altered("the header")),
            },
            _ => {
                out.fill(0);
                Ok(())
            }
        }
    }

    pub(crate) fn write_head(&self, text: &[u8]) -> io::Result<()> {
        let mut blocks = self.blocks.write();
        let next = Head { slot: 1 - blocks.head.slot, sequence: blocks.head.sequence + 1 };
        let mut raw = Vec::with_capacity(8 + STRIDE);
        raw.extend_from_slice(&next.sequence.to_le_bytes());
        raw.resize(8 + SEAL, 0);
        raw.extend_from_slice(text);
        let sealed = self.ring.read().seal(&as_head(next.sequence), &mut raw[8 + SEAL..])?;
        raw[8..8 + SEAL].copy_from_slice(&sealed);
        self.inner.write(SLOTS[next.slot], &raw)?;
        blocks.known[0] = Known::Tag(tag_of(&sealed));
        blocks.head = next;
        Ok(())
    }

    /// Reads whole blocks from block `first` on; `out` is a multiple of a block long.
    fn read_blocks(&self, mut first: usize, mut out: &mut [u8]) -> io::Result<()> {
        if first == 0 && !out.is_empty() {
            let (head, rest) = out.split_at_mut(BLOCK);
            self.read_head(head)?;
            (first, out) = (1, rest);
        }
        if out.is_empty() {
            return Ok(());
        }
        let mut raw = vec![0; out.len() / BLOCK * STRIDE];
        self.inner.read(place(first), &mut raw)?;
        for (at, (sealed, text)) in raw.chunks(STRIDE).zip(out.chunks_mut(BLOCK)).enumerate() {
            let index = first + at;
            let known = self.blocks.read().known.get(index).copied();
            match known {
                Some(Known::Zero) => text.fill(0),
                Some(Known::Tag(tag)) if tag != tag_of(sealed) => return Err(altered(format_args!("block {index}"))),
                Some(_) => {
                    let opened = self.ring.read().open(&as_block(index), sealed, text);
                    opened.ok_or_else(|| altered(format_args!("block {index}")))?;
                    if let Some(known @ Known::Unread) = self.blocks.write().known.get_mut(index) {
                        *known = Known::Tag(tag_of(sealed));
                    }
                }
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        Ok(())
    }

    fn write_blocks(&self, mut first: usize, mut text: &[u8]) -> io::Result<()> {
        if first == 0 && !text.is_empty() {
            let (head, rest) = text.split_at(BLOCK);
            self.write_head(head)?;
            (first, text) = (1, rest);
        }
        if text.is_empty() {
            return Ok(());
        }
        let mut raw = Vec::with_capacity(text.len() / BLOCK * STRIDE);
        let mut tags = Vec::with_capacity(text.len() / BLOCK);
        for (at, block) in text.chunks(BLOCK).enumerate() {
            let start = raw.len();
            raw.resize(start + SEAL, 0);
            raw.extend_from_slice(block);
            let sealed = self.ring.read().seal(&as_block(first + at), &mut raw[start + SEAL..])?;
            raw[start..start + SEAL].copy_from_slice(&sealed);
            tags.push(Known::Tag(tag_of(&sealed)));
        }
        self.inner.write(place(first), &raw)?;
        self.blocks.write().known[first..first + tags.len()].copy_from_slice(&tags);
        Ok(())
    }

    /// The blocks that `len` bytes at `offset` touch, or an error if there are none such.
    fn span(&self, offset: u64, len: usize) -> io::Result<(usize, usize)> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let end = offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?.div_ceil(BLOCK);
        if end > self.blocks.read().known.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((offset / BLOCK, end))
    }
}

/// The plain file that the database believes to own.
#[derive(Debug)]
pub(crate) struct Plain(pub(crate) Arc<Sealed>);

impl StorageBackend for Plain {
    fn len(&self) -> io::Result<u64> {
        Ok((self.0.blocks.read().known.len() * BLOCK) as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let _shared = self.0.in_place.read();
        let (first, end) = self.0.span(offset, out.len())?;
        let skip = offset as usize % BLOCK;
        if skip == 0 && out.len().is_multiple_of(BLOCK) {
            return self.0.read_blocks(first, out);
        }
        let mut whole = vec![0; (end - first) * BLOCK];
        self.0.read_blocks(first, &mut whole)?;
        out.copy_from_slice(&whole[skip..skip + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let _shared = self.0.in_place.read();
        let count = usize::try_from(len).map_err(io::Error::other)?.div_ceil(BLOCK);
        self.0.inner.set_len(if count == 0 { SLOTS[0] } else { place(count) })?;
        self.0.blocks.write().known.resize(count, Known::Zero);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let _shared = self.0.in_place.read();
        let (first, end) = self.0.span(offset, data.len())?;
        let skip = offset as usize % BLOCK;
        if skip == 0 && data.len().is_multiple_of(BLOCK) {
            return self.0.write_blocks(first, data);
        }
        let mut whole = vec![0; (end - first) * BLOCK];
        self.0.read_blocks(first, &mut whole)?;
        whole[skip..skip + data.len()].copy_from_slice(data);
        self.0.write_blocks(first, &whole)
    }

    fn close(&self) -> io::Result<()> {
        self.0.inner.close()
    }
}

//! Encryption of a flat file, block by block, under a database that believes to own a plain one.
//!
//! # Layout of the host's file
//! ```text
//! 0      superblock: magic (8) | salt (32) | nonce (12) | tag (16) over magic and salt
//! 4096   block 0, slot A: sequence (8) | nonce (12) | tag (16) | ciphertext (4096)
//! 12288  block 0, slot B: likewise
//! 20480  block 1: nonce (12) | tag (16) | ciphertext (4096); then block 2, …
//! ```
//! Block 0 holds the database's header, the only block that is ever overwritten in place: it is written to its two
//! slots in turn, so that a torn write leaves the one before it. The database writes other blocks only where nothing
//! that it still needs lies.
//!
//! A block that was added since the file was opened and never written reads as zeros.

use crate::StateKeys;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use parking_lot::RwLock;
use redb::StorageBackend;
use std::{fmt, io};

const BLOCK: usize = 4096;
const NONCE: usize = 12;
const TAG: usize = 16;
const SEAL: usize = NONCE + TAG;
const STRIDE: usize = SEAL + BLOCK;
const SLOTS: [u64; 2] = [4096, 12288];
const DATA: u64 = 20480;
const MAGIC: &[u8; 8] = b"PHALAST1";
const SUPER: usize = 8 + 32 + SEAL;

/// What is known of a block's present content.
#[derive(Clone, Copy)]
enum Known {
    /// Written before the file was opened and not read since.
    Unread,
    /// Added and not written yet.
    Zero,
    /// Its authentication tag.
    Tag([u8; TAG]),
}

/// Block 0: the slot that holds it and how often it was written.
struct Head {
    slot: usize,
    sequence: u64,
}

struct Blocks {
    /// Per block, so that an older version is not taken for the present one.
    known: Vec<Known>,
    head: Head,
}

/// The host's file with everything in it encrypted and authenticated.
pub(crate) struct Sealed<B> {
    inner: B,
    key: LessSafeKey,
    blocks: RwLock<Blocks>,
}

impl<B> fmt::Debug for Sealed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sealed storage")
    }
}

/// Content that nobody with the keys wrote, or not last.
pub(crate) fn altered(what: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} was altered, or belongs to another store"))
}

fn aead(bytes: &[u8; 32]) -> io::Result<LessSafeKey> {
    let key = UnboundKey::new(&AES_256_GCM_SIV, bytes).map_err(|_| io::Error::other("no AES-256-GCM-SIV"))?;
    Ok(LessSafeKey::new(key))
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no randomness"))?;
    Ok(bytes)
}

/// Encrypts `text` in place and returns nonce and tag.
fn seal(key: &LessSafeKey, aad: &[u8], text: &mut [u8]) -> io::Result<[u8; SEAL]> {
    let nonce: [u8; NONCE] = random()?;
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), text)
        .map_err(|_| io::Error::other("encryption failed"))?;
    let mut out = [0; SEAL];
    out[..NONCE].copy_from_slice(&nonce);
    out[NONCE..].copy_from_slice(tag.as_ref());
    Ok(out)
}

/// Decrypts `nonce | tag | ciphertext` into `out`.
fn open(key: &LessSafeKey, aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<(), aws_lc_rs::error::Unspecified> {
    let (nonce, rest) = sealed.split_at(NONCE);
    let (tag, text) = rest.split_at(TAG);
    key.open_separate_gather(Nonce::try_assume_unique_for_key(nonce)?, Aad::from(aad), text, tag, out)
}

fn tag_of(sealed: &[u8]) -> [u8; TAG] {
    let mut tag = [0; TAG];
    tag.copy_from_slice(&sealed[NONCE..SEAL]);
    tag
}

/// Where block `index` (from 1) begins in the host's file.
fn place(index: usize) -> u64 {
    DATA + (index as u64 - 1) * STRIDE as u64
}

fn head_aad(sequence: u64) -> [u8; 16] {
    let mut aad = [0; 16];
    aad[8..].copy_from_slice(&sequence.to_le_bytes());
    aad
}

impl<B: StorageBackend> Sealed<B> {
    /// Opens a file of this form, or makes one of an empty file.
    pub(crate) fn open(inner: B, keys: &StateKeys) -> io::Result<Self> {
        let len = inner.len()?;
        let check = aead(&keys.blocks(&[0; 32]))?;
        let mut first = [0; SUPER];
        if len == 0 {
            first[..8].copy_from_slice(MAGIC);
            first[8..40].copy_from_slice(&random::<32>()?);
            let sealed = seal(&check, &first[..40], &mut [])?;
            first[40..].copy_from_slice(&sealed);
            inner.set_len(SLOTS[0])?;
            inner.write(0, &first)?;
            inner.sync_data()?;
        } else {
            if len < SLOTS[0] {
                return Err(altered("the file"));
            }
            inner.read(0, &mut first)?;
            open(&check, &first[..40], &first[40..], &mut []).map_err(|_| altered("the file"))?;
        }
        let mut salt = [0; 32];
        salt.copy_from_slice(&first[8..40]);
        let key = aead(&keys.blocks(&salt))?;
        let count = match len.checked_sub(DATA) {
            Some(rest) => 1 + usize::try_from(rest / STRIDE as u64).map_err(io::Error::other)?,
            None => 0,
        };
        let blocks = Blocks { known: vec![Known::Unread; count], head: Head { slot: 1, sequence: 0 } };
        let store = Self { inner, key, blocks: RwLock::new(blocks) };
        if count > 0 {
            store.find_head()?;
        }
        Ok(store)
    }

    /// Chooses the slot of block 0 that was written last.
    fn find_head(&self) -> io::Result<()> {
        let mut best: Option<(Head, [u8; TAG])> = None;
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
    fn read_slot(&self, slot: usize, out: &mut [u8]) -> io::Result<Option<(u64, [u8; TAG])>> {
        let mut raw = [0; 8 + STRIDE];
        self.inner.read(SLOTS[slot], &mut raw)?;
        let (sequence, sealed) = raw.split_at(8);
        let mut bytes = [0; 8];
        bytes.copy_from_slice(sequence);
        let sequence = u64::from_le_bytes(bytes);
        Ok(open(&self.key, &head_aad(sequence), sealed, out).ok().map(|()| (sequence, tag_of(sealed))))
    }

    fn read_head(&self, out: &mut [u8]) -> io::Result<()> {
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

    fn write_head(&self, text: &[u8]) -> io::Result<()> {
        let mut blocks = self.blocks.write();
        let next = Head { slot: 1 - blocks.head.slot, sequence: blocks.head.sequence + 1 };
        let mut raw = Vec::with_capacity(8 + STRIDE);
        raw.extend_from_slice(&next.sequence.to_le_bytes());
        raw.resize(8 + SEAL, 0);
        raw.extend_from_slice(text);
        let sealed = seal(&self.key, &head_aad(next.sequence), &mut raw[8 + SEAL..])?;
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
                    open(&self.key, &(index as u64).to_le_bytes(), sealed, text)
                        .map_err(|_| altered(format_args!("block {index}")))?;
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
            let aad = ((first + at) as u64).to_le_bytes();
            let sealed = seal(&self.key, &aad, &mut raw[start + SEAL..])?;
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

impl<B: StorageBackend> StorageBackend for Sealed<B> {
    fn len(&self) -> io::Result<u64> {
        Ok((self.blocks.read().known.len() * BLOCK) as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (first, end) = self.span(offset, out.len())?;
        let skip = offset as usize % BLOCK;
        if skip == 0 && out.len().is_multiple_of(BLOCK) {
            return self.read_blocks(first, out);
        }
        let mut whole = vec![0; (end - first) * BLOCK];
        self.read_blocks(first, &mut whole)?;
        out.copy_from_slice(&whole[skip..skip + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let count = usize::try_from(len).map_err(io::Error::other)?.div_ceil(BLOCK);
        self.inner.set_len(if count == 0 { SLOTS[0] } else { place(count) })?;
        self.blocks.write().known.resize(count, Known::Zero);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (first, end) = self.span(offset, data.len())?;
        let skip = offset as usize % BLOCK;
        if skip == 0 && data.len().is_multiple_of(BLOCK) {
            return self.write_blocks(first, data);
        }
        let mut whole = vec![0; (end - first) * BLOCK];
        self.read_blocks(first, &mut whole)?;
        whole[skip..skip + data.len()].copy_from_slice(data);
        self.write_blocks(first, &whole)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}

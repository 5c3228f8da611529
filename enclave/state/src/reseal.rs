//! Blocks from an earlier key epoch, sealed anew under the newest key, while the file is in use.
//!
//! A sweep goes through all blocks, some at a time. It seals those that are under an older key again, puts them into the
//! spare place of the file, waits for the disk, and only then overwrites the blocks themselves, waiting for the disk again.
//! If the machine dies in between, a block is what it was, what it became, or torn; a torn one is found in the spare place,
//! see [`Sealed::recover`]. A block that the database wrote meanwhile is left as it is.
//!
//! When all are done, the superblock says so, and the old keys are forgotten.
//!
//! # Spare place
//! count (u64, little endian), the index of each block (likewise), then the blocks as they lie in the file.

use crate::{
    ring::{Tag, epoch_of, tag_of},
    sealed::{BLOCK, DATA, Known, SPARE, STRIDE, Sealed, altered, as_block, place},
    superblock::Superblock,
};
use std::io;

/// Blocks in one step.
const BATCH: usize = 64;
/// Bytes in the spare place in front of the blocks.
const INDEX: usize = 8 + BATCH * 8;
const _: () = assert!(SPARE as usize + INDEX + BATCH * STRIDE <= DATA as usize);

/// How far a sweep is, if there is one to be done.
#[derive(Default)]
pub(crate) struct Sweep(Option<Place>);

#[derive(Clone, Copy)]
struct Place {
    /// The next block.
    next: usize,
    /// What is from an epoch before this one is old.
    epoch: u64,
}

/// A block under a newer key.
struct Resealed {
    index: usize,
    /// Tag of what it replaces.
    before: Tag,
    sealed: Vec<u8>,
}

impl Sealed {
    /// Begins a sweep if the file is not known to be under the newest key alone.
    pub(crate) fn sweep_if_old(&self) {
        let (oldest, epoch) = (self.superblock.lock().oldest, self.ring.read().newest());
        if oldest < epoch {
            self.sweep.lock().0 = Some(Place { next: 1, epoch });
        }
    }

    /// Does the next step of a sweep, and returns whether there is more to do. `needed` is the oldest epoch whose keys are
    /// needed for something else than the file.
    pub(crate) fn reseal(&self, needed: u64) -> io::Result<bool> {
        let mut sweep = self.sweep.lock();
        let Some(Place { next, epoch }) = sweep.0 else {
            self.claim(needed)?;
            return Ok(false);
        };
        let end = next.saturating_add(BATCH).min(self.blocks.read().known.len());
        if next < end {
            let batch = self.old_blocks(next, end, epoch)?;
            if !batch.is_empty() {
                self.spare(&batch)?;
                self.overwrite(&batch)?;
            }
            sweep.0 = Some(Place { next: end, epoch });
            return Ok(true);
        }
        self.end_sweep(epoch)?;
        self.claim(needed)?;
        sweep.0 = None;
        Ok(false)
    }

    /// The blocks of a range that are from before an epoch, sealed anew.
    fn old_blocks(&self, first: usize, end: usize, epoch: u64) -> io::Result<Vec<Resealed>> {
        let mut raw = vec![0; (end - first) * STRIDE];
        // What has to come from the disk is waited for before others have to wait. It is read again.
        let _ = self.inner.read(place(first), &mut raw);
        let alone = self.in_place.write();
        let known = self.blocks.read().known.iter().take(end).skip(first).copied().collect::<Vec<_>>();
        raw.truncate(known.len() * STRIDE);
        self.inner.read(place(first), &mut raw)?;
        drop(alone);
        let ring = self.ring.read();
        let mut batch = vec![];
        for ((index, known), sealed) in (first..).zip(known).zip(raw.chunks_mut(STRIDE)) {
            let before = tag_of(sealed);
            match known {
                Known::Zero => continue,
                Known::Tag(tag) if tag != before => return Err(altered(format_args!("block {index}"))),
                Known::Tag(_) | Known::Unread => {}
            }
            if epoch_of(sealed) >= epoch {
                continue;
            }
            let mut text = vec![0; BLOCK];
            if ring.open(&as_block(index), sealed, &mut text).is_none() {
                match known {
                    // Never written, or torn before anything needed it: the database does not read it either.
                    Known::Unread => continue,
                    _ => return Err(altered(format_args!("block {index}"))),
                }
            }
            let seal = ring.seal(&as_block(index), &mut text)?;
            batch.push(Resealed { index, before, sealed: [seal.as_slice(), &text].concat() });
        }
        Ok(batch)
    }

    /// Writes a batch to the spare place.
    fn spare(&self, batch: &[Resealed]) -> io::Result<()> {
        let mut bytes = vec![0; INDEX];
        let numbers = std::iter::once(batch.len()).chain(batch.iter().map(|block| block.index));
        for (number, out) in numbers.zip(bytes.chunks_mut(8)) {
            out.copy_from_slice(&(number as u64).to_le_bytes());
        }
        batch.iter().for_each(|block| bytes.extend_from_slice(&block.sealed));
        self.inner.write(SPARE, &bytes)?;
        self.inner.sync_data()
    }

    /// Puts a batch that is spared in the place of what it was made of.
    fn overwrite(&self, batch: &[Resealed]) -> io::Result<()> {
        let alone = self.in_place.write();
        let mut blocks = self.blocks.write();
        for block in batch {
            let Some(known) = blocks.known.get_mut(block.index) else { continue };
            if *known == Known::Tag(block.before) || *known == Known::Unread {
                self.inner.write(place(block.index), &block.sealed)?;
                *known = Known::Tag(tag_of(&block.sealed));
            }
        }
        drop((blocks, alone));
        self.inner.sync_data()
    }

    /// Seals both slots of the header anew. Nothing is older than the epoch then.
    fn end_sweep(&self, epoch: u64) -> io::Result<()> {
        if !self.blocks.read().known.is_empty() {
            for _ in 0..2 {
                let alone = self.in_place.write();
                let mut text = [0; BLOCK];
                self.read_head(&mut text)?;
                self.write_head(&text)?;
                drop(alone);
                self.inner.sync_data()?;
            }
        }
        self.ring.write().forget(epoch);
        self.keys.forget(epoch);
        Ok(())
    }

    /// Says in the superblock what keys are still needed, if it is less than it says.
    fn claim(&self, needed: u64) -> io::Result<()> {
        let oldest = needed.min(self.ring.read().oldest());
        let mut superblock = self.superblock.lock();
        if oldest > superblock.oldest {
            let said = Superblock { oldest, ..*superblock };
            self.superblocks.write(self.inner.as_ref(), &said)?;
            *superblock = said;
        }
        Ok(())
    }

    /// Finishes what was interrupted: a block that is no whole one, and lies in the spare place, was being overwritten.
    pub(crate) fn recover(&self) -> io::Result<()> {
        let mut index = [0; INDEX];
        self.inner.read(SPARE, &mut index)?;
        let mut numbers = index.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let count = numbers.next().unwrap_or(0).min(BATCH as u64);
        let blocks = self.blocks.read().known.len() as u64;
        let (mut sealed, mut text) = (vec![0; STRIDE], vec![0; BLOCK]);
        let ring = self.ring.read();
        for (at, number) in (0..count).zip(numbers) {
            if !(1..blocks).contains(&number) {
                continue;
            }
            let number = usize::try_from(number).map_err(io::Error::other)?;
            self.inner.read(place(number), &mut sealed)?;
            if ring.open(&as_block(number), &sealed, &mut text).is_some() {
                continue;
            }
            self.inner.read(SPARE + INDEX as u64 + at * STRIDE as u64, &mut sealed)?;
            if ring.open(&as_block(number), &sealed, &mut text).is_some() {
                self.inner.write(place(number), &sealed)?;
            }
        }
        Ok(())
    }
}

//! Frames of a session, in one direction each, so that reading and writing may run apart.

use crate::{crypto::Key, padding};
use codec::{DecodeAll, Encode};
use phala_primitives::{Code, Coded, limits::MAX_MESSAGE};
use std::marker::PhantomData;

/// Longest life of a session, in milliseconds.
pub const MAX_SESSION_MS: u64 = 60 * 60 * 1000;
/// Most frames in one direction; AES-GCM would bear more.
const MAX_FRAMES: u64 = 1 << 32;

fn nonce(counter: [u8; 8]) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter);
    nonce
}

/// The writing side of a direction whose messages are `T`.
pub struct Sender<T> {
    key: Key,
    next: u64,
    messages: PhantomData<fn(T)>,
}

impl<T: Encode> Sender<T> {
    pub(crate) fn new(key: Key) -> Self {
        Self { key, next: 0, messages: PhantomData }
    }

    /// Seals the next frame. Frames must reach the other side in the order in which they were sealed. Fails with
    /// [`Code::TooLarge`] or, after 2^32 frames, [`Code::SessionLimit`].
    pub fn seal(&mut self, message: &T) -> Result<Vec<u8>, Coded> {
        if self.next >= MAX_FRAMES {
            return Err(Code::SessionLimit.into());
        }
        let counter = self.next.to_le_bytes();
        let mut frame = counter.to_vec();
        padding::pad(message, &mut frame)?;
        self.key.seal(nonce(counter), &[], &mut frame, counter.len())?;
        self.next += 1;
        Ok(frame)
    }
}

/// The reading side of a direction whose messages are `T`.
pub struct Receiver<T> {
    key: Key,
    next: u64,
    messages: PhantomData<fn() -> T>,
}

impl<T: DecodeAll> Receiver<T> {
    pub(crate) fn new(key: Key) -> Self {
        Self { key, next: 0, messages: PhantomData }
    }

    /// Opens a frame. Fails with [`Code::TooLarge`], [`Code::Malformed`], [`Code::Replayed`] if it was seen or
    /// overtaken, or [`Code::NotAuthentic`]; after any of these the connection is not worth keeping.
    pub fn open(&mut self, frame: &[u8]) -> Result<T, Coded> {
        if frame.len() > MAX_MESSAGE {
            return Err(Code::TooLarge.into());
        }
        let (counter, sealed) = frame.split_first_chunk::<8>().ok_or(Code::Malformed)?;
        let number = u64::from_le_bytes(*counter);
        if number < self.next {
            return Err(Code::Replayed.into());
        }
        if number >= MAX_FRAMES {
            return Err(Code::SessionLimit.into());
        }
        let text = self.key.open(nonce(*counter), &[], sealed)?;
        self.next = number + 1;
        padding::unpad(&text)
    }
}

//! The keys under which a file's blocks are sealed: one for each key epoch from which a block may be.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use std::{collections::BTreeMap, io};
use zeroize::Zeroizing;

const EPOCH: usize = 8;
const NONCE: usize = 12;
const TAG: usize = 16;
/// Bytes in front of a sealed text: key epoch (u64, little endian), nonce, tag.
pub(crate) const SEAL: usize = EPOCH + MARK;

/// Bytes of a nonce and a tag.
pub(crate) const MARK: usize = NONCE + TAG;

/// A key of AES-256-GCM-SIV.
pub(crate) fn aead(bytes: &[u8; 32]) -> io::Result<LessSafeKey> {
    let key = UnboundKey::new(&AES_256_GCM_SIV, bytes).map_err(|_| io::Error::other("no AES-256-GCM-SIV"))?;
    Ok(LessSafeKey::new(key))
}

/// Encrypts `text` in place and returns nonce and tag.
pub(crate) fn seal(key: &LessSafeKey, aad: &[u8], text: &mut [u8]) -> io::Result<[u8; MARK]> {
    let nonce: [u8; NONCE] = random()?;
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), text)
        .map_err(|_| io::Error::other("encryption failed"))?;
    let mut mark = [0; MARK];
    mark[..NONCE].copy_from_slice(&nonce);
    mark[NONCE..].copy_from_slice(tag.as_ref());
    Ok(mark)
}

/// Decrypts `nonce | tag | ciphertext` into `out`; `None` if it was not made with this key, or is bound to something else.
pub(crate) fn open(key: &LessSafeKey, aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<()> {
    let (nonce, rest) = sealed.split_at(NONCE);
    let (tag, text) = rest.split_at(TAG);
    key.open_separate_gather(Nonce::try_assume_unique_for_key(nonce).ok()?, Aad::from(aad), text, tag, out).ok()
}

/// What tells one sealed text from another that is the same.
pub(crate) type Tag = [u8; TAG];

pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no randomness"))?;
    Ok(bytes)
}

/// The key epoch that a sealed text names.
pub(crate) fn epoch_of(sealed: &[u8]) -> u64 {
    let mut bytes = [0; EPOCH];
    bytes.copy_from_slice(&sealed[..EPOCH]);
    u64::from_le_bytes(bytes)
}

/// The tag of a sealed text.
pub(crate) fn tag_of(sealed: &[u8]) -> Tag {
    let mut tag = [0; TAG];
    tag.copy_from_slice(&sealed[SEAL - TAG..SEAL]);
    tag
}

/// Keys by epoch. What is sealed is so under the newest.
pub(crate) struct Ring(BTreeMap<u64, LessSafeKey>);

impl Ring {
    pub(crate) fn new(keys: &BTreeMap<u64, Zeroizing<[u8; 32]>>) -> io::Result<Self> {
        let mut ring = Self(BTreeMap::new());
        for (epoch, key) in keys {
            ring.add(*epoch, key)?;
        }
        match ring.0.is_empty() {
            true => Err(io::Error::other("no key for the state")),
            false => Ok(ring),
        }
    }

    pub(crate) fn add(&mut self, epoch: u64, key: &[u8; 32]) -> io::Result<()> {
        self.0.insert(epoch, aead(key)?);
        Ok(())
    }

    /// Forgets the keys of epochs below this one.
    pub(crate) fn forget(&mut self, below: u64) {
        self.0.retain(|epoch, _| *epoch >= below);
    }

    pub(crate) fn oldest(&self) -> u64 {
        self.0.first_key_value().map_or(0, |(epoch, _)| *epoch)
    }

    pub(crate) fn newest(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(epoch, _)| *epoch)
    }

    /// Encrypts `text` in place, bound to `what`, and returns what belongs in front of it.
    pub(crate) fn seal(&self, what: &[u8; 16], text: &mut [u8]) -> io::Result<[u8; SEAL]> {
        let (epoch, key) = self.0.last_key_value().ok_or_else(|| io::Error::other("no key for the state"))?;
        let mut out = [0; SEAL];
        out[..EPOCH].copy_from_slice(&epoch.to_le_bytes());
        out[EPOCH..].copy_from_slice(&seal(key, &aad(what, *epoch), text)?);
        Ok(out)
    }

    /// Decrypts what [`Ring::seal`] made, with the ciphertext behind it. `None` if it was not made with these keys, or is
    /// bound to something else.
    pub(crate) fn open(&self, what: &[u8; 16], sealed: &[u8], out: &mut [u8]) -> Option<()> {
        let epoch = epoch_of(sealed);
        open(self.0.get(&epoch)?, &aad(what, epoch), &sealed[EPOCH..], out)
    }
}

fn aad(what: &[u8; 16], epoch: u64) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(what);
    bytes[16..].copy_from_slice(&epoch.to_le_bytes());
    bytes
}

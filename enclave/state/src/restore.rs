//! A state that is put together from pieces of another's: see [`crate::outline`].
//!
//! Each piece is checked against the outline and replaces what was there. What is in the store besides, be
//! it an older state or what an earlier attempt left, is kept where it agrees with the outline. Until the end the store
//! is no state, and [`State::open`] refuses it.

use crate::{
    Applied, Durability, Item, Outline, Path, State, StateError, StateKeys,
    store::{Meta, Write, altered},
};
use phala_primitives::Hash;
use redb::StorageBackend;

/// Memory that may be taken before it is waited for the disk.
const SYNCED: usize = 32 << 20;

/// A store on its way to the state of an outline.
pub struct Restore {
    state: State,
    outline: Outline,
    root: Hash,
}

impl Restore {
    /// Begins, or goes on, in a file of the host: an empty one, one that an earlier attempt left, or a copy of an older
    /// state's.
    pub fn open(backend: impl StorageBackend, keys: StateKeys, outline: Outline) -> Result<Self, StateError> {
        let root = outline.root().ok_or_else(|| altered("the outline has not as many pieces as a state"))?;
        let state = State::open_any(backend, keys)?;
        state.replace(std::iter::empty(), Durability::Durable, partial)?;
        Ok(Self { state, outline, root })
    }

    /// Pieces that are still to be put.
    pub fn missing(&self) -> Result<Vec<u16>, StateError> {
        Ok(self.outline.differences(&self.state.snapshot().outline()?))
    }

    /// Puts pieces in their places. Refuses what the outline does not admit, with nothing changed.
    pub fn put(&self, pieces: &[(u16, Vec<Item>)]) -> Result<(), StateError> {
        let (keys, now) = (self.state.keys(), self.state.snapshot());
        let mut writes = vec![];
        for (piece, items) in pieces {
            let leaf = |write: &Write<'_>| {
                let value = write.value.map_or(&[][..], |(_, value)| value);
                (write.path, keys.commitment(&write.space, &write.path, value))
            };
            let put: Vec<_> = items.iter().map(|item| item.write(keys)).collect();
            let leaves: Vec<_> = put.iter().map(leaf).collect();
            if !self.outline.admits(*piece, &leaves) {
                return Err(altered("a piece of a state is not the one of its outline"));
            }
            let kept = |path: &Path| put.binary_search_by(|new| new.path.cmp(path)).is_ok();
            for old in now.piece(*piece)? {
                let path = keys.path(&old.space, &old.key);
                if !kept(&path) {
                    writes.push(Write::remove(old.space, path));
                }
            }
            writes.extend(put);
        }
        let durability = if self.state.unsettled() >= SYNCED { Durability::Durable } else { Durability::Fast };
        self.state.replace(writes.into_iter(), durability, partial)?;
        Ok(())
    }

    /// Makes it the state after an entry, once no piece is missing; `note` is what that entry's commit noted.
    pub fn finish(self, height: u64, digest: Hash, note: Vec<u8>) -> Result<(), StateError> {
        if !self.missing()?.is_empty() || self.state.applied().root != self.root {
            return Err(altered("a state is not restored to its end"));
        }
        let applied = Applied { height, root: self.root, digest };
        self.state.replace(std::iter::empty(), Durability::Durable, |before, _| {
            Ok(Meta { format: before.format, applied, note, restoring: false })
        })?;
        Ok(())
    }
}

/// The description of a store that is no state yet.
fn partial(before: &Meta, root: Hash) -> Result<Meta, StateError> {
    let applied = Applied { height: 0, root, digest: Hash::ZERO };
    Ok(Meta { format: before.format, applied, note: vec![], restoring: true })
}

//! How a value is stored.

use crate::{Item, Path, Space, StateError, store::altered};
use std::sync::Arc;

/// A row or a node in memory.
pub(crate) type Bytes = Arc<[u8]>;

/// Space, length of the key (u16, little endian), key, value. The key is there for whoever goes through a space, such as
/// to take it to another cluster, where its paths are others.
pub(crate) struct Row<'a> {
    pub(crate) space: &'a Space,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl<'a> Row<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, StateError> {
        let parts = || {
            let (space, rest) = bytes.split_first_chunk()?;
            let (length, rest) = rest.split_first_chunk()?;
            let (key, value) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
            Some(Self { space, key, value })
        };
        parts().ok_or_else(|| altered("a value is cut"))
    }

    pub(crate) fn write(&self) -> Result<Bytes, StateError> {
        let length = u16::try_from(self.key.len()).map_err(|_| StateError::Tree("a key is too long".into()))?;
        Ok([self.space, &length.to_le_bytes()[..], self.key, self.value].concat().into())
    }

    pub(crate) fn item(&self) -> Item {
        Item { space: *self.space, key: self.key.to_vec(), value: self.value.to_vec() }
    }
}

/// Rows with their paths, in the order of these.
pub(crate) trait Rows: Iterator<Item = Result<(Path, Bytes), StateError>> {}

impl<T: Iterator<Item = Result<(Path, Bytes), StateError>>> Rows for T {}

//! Places in the tree: the nibbles on the way from its root.

use crate::Path;
use jmt::storage::NodeKey;

/// Nibbles of a path.
const NIBBLES: usize = 64;

/// A place in the tree. Ordered like the strings of their nibbles: a place comes before those below it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    /// Packed, zeros behind the last.
    nibbles: Path,
    count: u8,
}

impl Place {
    /// The top of the tree.
    pub(crate) const ROOT: Self = Self { nibbles: [0; 32], count: 0 };

    /// The place of a node.
    pub(crate) fn of(key: &NodeKey) -> Self {
        key.nibble_path().nibbles().fold(Self::ROOT, |place, nibble| place.child(u8::from(nibble)))
    }

    /// The place one nibble further down; at the end of a path, itself.
    pub(crate) fn child(&self, nibble: u8) -> Self {
        let mut child = *self;
        let count = self.depth();
        if let Some(byte) = child.nibbles.get_mut(count / 2) {
            *byte |= if count.is_multiple_of(2) { nibble << 4 } else { nibble & 15 };
            child.count += 1;
        }
        child
    }

    /// Nibbles from the root.
    pub(crate) fn depth(&self) -> usize {
        usize::from(self.count)
    }

    /// One byte for each nibble.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let nibbles = self.nibbles.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        nibbles.take(self.depth()).collect()
    }

    /// The nibbles, packed, and their number: in the same order.
    pub(crate) fn key(&self) -> [u8; 33] {
        let mut key = [self.count; 33];
        key[..32].copy_from_slice(&self.nibbles);
        key
    }

    /// The first and the last path below.
    pub(crate) fn paths(&self) -> (Path, Path) {
        let mut last = self.nibbles;
        for at in self.depth()..NIBBLES {
            if let Some(byte) = last.get_mut(at / 2) {
                *byte |= if at.is_multiple_of(2) { 0xf0 } else { 0x0f };
            }
        }
        (self.nibbles, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(nibbles: &[u8]) -> Place {
        nibbles.iter().fold(Place::ROOT, |place, nibble| place.child(*nibble))
    }

    #[test]
    fn places_are_ordered_as_their_nibbles_and_know_what_is_below() {
        let strings: [&[u8]; 8] = [&[], &[0], &[0, 0], &[0, 15], &[1], &[10, 0], &[10, 0, 15], &[10, 1]];
        let places = strings.map(place);
        assert!(places.is_sorted());
        assert_eq!(places.map(|place| place.bytes()), strings.map(<[u8]>::to_vec));
        let (first, last) = place(&[10, 0, 15]).paths();
        assert_eq!((&first[..3], &last[..3]), (&[0xa0, 0xf0, 0][..], &[0xa0, 0xff, 255][..]));
        assert_eq!(Place::ROOT.paths(), ([0; 32], [255; 32]));
        let whole = place(&[7; NIBBLES]);
        assert_eq!((whole.paths(), whole.child(1)), (([0x77; 32], [0x77; 32]), whole));
    }
}

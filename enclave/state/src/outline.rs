//! A state in pieces that can be checked one by one.
//!
//! The tree is cut at a depth of 12 bits: a piece is everything whose path begins with the same 12 bits. The [`Outline`]
//! says what hash the tree has at each of these 4096 places; together they give the root. So whoever knows the root
//! checks an outline, and with the outline each piece, wherever it came from and in whatever order.
//!
//! Hashes of nodes are those of the Jellyfish Merkle tree: a subtree without leaves is a constant, one with a single leaf
//! is that leaf, any other is the hash of its halves.

use crate::{
    Path, Snapshot, Space, StateError,
    place::Place,
    store::altered,
    tree::{Blake3, EMPTY_ROOT, leaf},
};
use codec::{Decode, Encode};
use jmt::{SimpleHasher, storage::Node};
use phala_primitives::Hash;

/// Number of pieces.
pub const PIECES: u16 = 1 << BITS;
/// Bits of a path that name its piece.
const BITS: usize = 12;
/// Levels of the tree's nodes down to the pieces: a node has sixteen children.
const LEVELS: usize = BITS / 4;
/// What the hash of an inner node begins with.
const INNER: &[u8] = b"JMT::IntrnalNode";

/// The tree below one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Subtree {
    /// Nothing.
    Empty,
    /// One value.
    Leaf(Hash),
    /// More.
    Inner(Hash),
}

impl Subtree {
    fn hash(&self) -> Hash {
        match self {
            Self::Empty => EMPTY_ROOT,
            Self::Leaf(hash) | Self::Inner(hash) => *hash,
        }
    }

    fn join(left: &Self, right: &Self) -> Self {
        match (left, right) {
            (Self::Empty, Self::Empty) => Self::Empty,
            (leaf @ Self::Leaf(_), Self::Empty) | (Self::Empty, leaf @ Self::Leaf(_)) => *leaf,
            _ => {
                let mut hasher = Blake3::new();
                hasher.update(INNER);
                hasher.update(&left.hash().0);
                hasher.update(&right.hash().0);
                Self::Inner(Hash(hasher.finalize()))
            }
        }
    }

    /// The tree of leaves in order of their paths, which agree in the first `depth` bits.
    fn of(leaves: &[(Path, [u8; 32])], depth: usize) -> Self {
        match leaves {
            [] => Self::Empty,
            [(path, commitment)] => Self::Leaf(Hash(leaf(path, commitment).hash::<Blake3>())),
            // Two paths that do not differ anywhere are no tree.
            _ if depth >= 256 => Self::Empty,
            _ => {
                let bit = |path: &Path| path.get(depth / 8).is_some_and(|byte| byte >> (7 - depth % 8) & 1 == 1);
                let (left, right) = leaves.split_at(leaves.partition_point(|(path, _)| !bit(path)));
                Self::join(&Self::of(left, depth + 1), &Self::of(right, depth + 1))
            }
        }
    }
}

/// What a state looks like from afar: the tree below each of its 4096 pieces.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Outline(Vec<Subtree>);

impl Outline {
    /// The root that it is of; `None` if it is no outline at all.
    pub fn root(&self) -> Option<Hash> {
        if self.0.len() != usize::from(PIECES) {
            return None;
        }
        let mut row = self.0.clone();
        while row.len() > 1 {
            row = row.as_chunks::<2>().0.iter().map(|[left, right]| Subtree::join(left, right)).collect();
        }
        row.first().map(Subtree::hash)
    }

    /// Pieces in which this state and the other differ.
    pub fn differences(&self, other: &Self) -> Vec<u16> {
        let pairs = self.0.iter().zip(&other.0).zip(0..PIECES);
        pairs.filter(|((own, theirs), _)| own != theirs).map(|(_, piece)| piece).collect()
    }

    /// Whether the values with these paths and commitments, in order of their paths, are that piece.
    pub(crate) fn admits(&self, piece: u16, leaves: &[(Path, [u8; 32])]) -> bool {
        let ordered = leaves.windows(2).all(|pair| matches!(pair, [(a, _), (b, _)] if a < b));
        let inside = leaves.iter().all(|(path, _)| piece_of(path) == piece);
        ordered && inside && self.0.get(usize::from(piece)) == Some(&Subtree::of(leaves, BITS))
    }

    /// Reads it off the tree's nodes.
    pub(crate) fn read(state: &Snapshot) -> Result<Self, StateError> {
        let mut outline = Self(vec![Subtree::Empty; usize::from(PIECES)]);
        outline.walk(state, Place::ROOT, 0)?;
        Ok(outline)
    }

    /// `piece` is what the nibbles down to the place say of it.
    fn walk(&mut self, state: &Snapshot, place: Place, piece: u16) -> Result<(), StateError> {
        match state.stored_node(&place)? {
            Some(Node::Internal(node)) => {
                for (nibble, child) in node.children_sorted() {
                    let nibble = u8::from(nibble);
                    let (below, piece) = (place.child(nibble), piece << 4 | u16::from(nibble));
                    if below.depth() < LEVELS {
                        self.walk(state, below, piece)?;
                    } else {
                        let hash = Hash(child.hash);
                        self.set(piece, if child.is_leaf() { Subtree::Leaf(hash) } else { Subtree::Inner(hash) })?;
                    }
                }
            }
            _ => {
                if let Some(leaf) = state.leaf_below(&place)? {
                    self.set(piece_of(&leaf.key_hash().0), Subtree::Leaf(Hash(leaf.hash::<Blake3>())))?;
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, piece: u16, subtree: Subtree) -> Result<(), StateError> {
        *self.0.get_mut(usize::from(piece)).ok_or_else(|| altered("a node of the tree lies nowhere"))? = subtree;
        Ok(())
    }
}

/// The piece that a path belongs to.
fn piece_of(path: &Path) -> u16 {
    let [a, b, ..] = *path;
    u16::from_be_bytes([a, b]) >> (16 - BITS)
}

/// The first and the last path that a piece can hold.
pub(crate) fn paths_of(piece: u16) -> (Path, Path) {
    let first = piece << (16 - BITS);
    let path = |begin: u16, fill: u8| {
        let mut path = [fill; 32];
        path[..2].copy_from_slice(&begin.to_be_bytes());
        path
    };
    (path(first, 0), path(first | ((1 << (16 - BITS)) - 1), 255))
}

/// A value of a state. Where it lies follows from its space and key.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Item {
    /// Its space.
    pub space: Space,
    /// Its key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

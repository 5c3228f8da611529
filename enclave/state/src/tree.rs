//! The authenticated tree: a Jellyfish Merkle tree whose inner nodes are stored, one per place.
//!
//! The tree's library names nodes by (version, place) and reports which become stale. Only the newest version is
//! kept here (readers of older ones have their snapshot), so a node is stored under its place alone: most stale nodes
//! are then simply overwritten. To the library all nodes that are stored have one version, and what an update makes of
//! them has the next. Leaves are not stored: where no node is, the only value below is one.
//!
//! A node is stored as two sets of nibbles (u16 each, little endian, the lowest bit is nibble 0), those with a child and
//! those whose child is a leaf, and the hashes of the children in order.

use crate::{Path, Snapshot, StateError, StateKeys, place::Place, store::altered};
use borsh::BorshDeserialize;
use jmt::{
    JellyfishMerkleTree, KeyHash, OwnedValue, RootHash, SimpleHasher, ValueHash, Version,
    storage::{LeafNode, Node, NodeBatch, NodeKey, StaleNodeIndexBatch, TreeReader},
};
use phala_primitives::Hash;
use std::collections::BTreeMap;

/// Versions of what is stored, and of what an update makes of it.
const STORED: Version = 0;
const UPDATED: Version = 1;

/// BLAKE3 as the tree's hash.
#[derive(Debug)]
pub(crate) struct Blake3(blake3::Hasher);

impl SimpleHasher for Blake3 {
    fn new() -> Self {
        Self(blake3::Hasher::new())
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

type Tree<'a> = JellyfishMerkleTree<'a, Snapshot, Blake3>;

/// Root of a tree without leaves, as the tree's library has it.
pub const EMPTY_ROOT: Hash = Hash(*b"SPARSE_MERKLE_PLACEHOLDER_HASH__");

/// How a node is stored; `None` if it is not an inner one.
fn store(node: &Node) -> Option<Vec<u8>> {
    let Node::Internal(node) = node else { return None };
    let (mut children, mut leaves, mut hashes) = (0_u16, 0_u16, vec![0; 4]);
    for (nibble, child) in node.children_sorted() {
        let bit = 1 << u8::from(nibble);
        children |= bit;
        leaves |= if child.is_leaf() { bit } else { 0 };
        hashes.extend_from_slice(&child.hash);
    }
    hashes[..2].copy_from_slice(&children.to_le_bytes());
    hashes[2..4].copy_from_slice(&leaves.to_le_bytes());
    Some(hashes)
}

/// A node from what is stored of it. The library makes nodes only of its own text, in which each child has a version and
/// the number of values below, which nothing here asks for.
pub(crate) fn parse(stored: &[u8]) -> Result<Node, StateError> {
    let cut = || altered("a node of the tree is cut");
    let (children, rest) = stored.split_first_chunk().ok_or_else(cut)?;
    let (leaves, hashes) = rest.split_first_chunk().ok_or_else(cut)?;
    let (children, leaves) = (u16::from_le_bytes(*children), u16::from_le_bytes(*leaves));
    let count = children.count_ones() as usize;
    let (hashes, []) = hashes.as_chunks::<32>() else { return Err(cut()) };
    if hashes.len() != count || count == 0 || leaves & !children != 0 {
        return Err(cut());
    }
    let (mut text, mut hashes) = (Vec::with_capacity(1 + 16 * 50 + 16), hashes.iter());
    text.push(1);
    for bit in (0..16).map(|nibble| 1 << nibble) {
        let child = if children & bit == 0 { None } else { hashes.next() };
        text.push(u8::from(child.is_some()));
        if let Some(hash) = child {
            text.extend_from_slice(hash);
            text.extend_from_slice(&STORED.to_le_bytes());
            text.push(u8::from(leaves & bit == 0));
            text.extend_from_slice(if leaves & bit == 0 { &[0; 8] } else { &[] });
        }
    }
    text.extend_from_slice(&(count as u64).to_le_bytes());
    text.extend_from_slice(&[0; 8]);
    Node::try_from_slice(&text).map_err(|_| altered("a node of the tree is malformed"))
}

/// The leaf of a value.
pub(crate) fn leaf(path: &Path, commitment: &[u8; 32]) -> LeafNode {
    LeafNode::new(KeyHash(*path), ValueHash::with::<Blake3>(commitment))
}

impl TreeReader for Snapshot {
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        if key.version() != STORED {
            return Ok(None);
        }
        let place = Place::of(key);
        if let Some(node) = self.stored_node(&place)? {
            return Ok(Some(node));
        }
        let leaf = self.leaf_below(&place)?.map(Node::Leaf);
        Ok(leaf.or_else(|| (place == Place::ROOT).then_some(Node::Null)))
    }

    fn get_value_option(&self, _newest: Version, key: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        Ok(self.commitment(&key.0)?.map(|commitment| commitment.to_vec()))
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        anyhow::bail!("the tree is not restored from its leaves")
    }
}

/// What an update makes of the tree: its root, and the nodes that change, `None` for one that goes.
pub(crate) struct Update {
    pub(crate) root: Hash,
    pub(crate) nodes: BTreeMap<Place, Option<Vec<u8>>>,
}

/// Puts commitments at paths, at least one; `None` takes away what is there.
pub(crate) fn update(before: &Snapshot, leaves: Vec<(Path, Option<[u8; 32]>)>) -> Result<Update, StateError> {
    let tree = Tree::new(before);
    let puts = leaves.iter().map(|(path, leaf)| leaf.map(|leaf| (KeyHash(*path), leaf.to_vec()))).collect();
    // The library takes away one by one only.
    let (root, batch) = if let Some(puts) = puts {
        let (roots, batch) = tree.batch_put_value_sets(vec![puts], None, UPDATED)?;
        let root = roots.into_iter().next().ok_or_else(|| StateError::Tree("an update has no root".into()))?;
        (root, batch)
    } else {
        let changes = leaves.into_iter().map(|(path, leaf)| (KeyHash(path), leaf.map(|leaf| leaf.to_vec())));
        tree.put_value_set(changes, UPDATED)?
    };
    Ok(Update { root: Hash(root.0), nodes: changes(before, &batch.node_batch, &batch.stale_node_index_batch)? })
}

fn changes(
    before: &Snapshot,
    batch: &NodeBatch,
    stale: &StaleNodeIndexBatch,
) -> Result<BTreeMap<Place, Option<Vec<u8>>>, StateError> {
    let stored = batch.nodes().iter().filter_map(|(key, node)| Some((Place::of(key), Some(store(node)?))));
    let mut changes: BTreeMap<_, _> = stored.collect();
    for index in stale {
        let place = Place::of(&index.node_key);
        // Else it is overwritten, or was a leaf.
        if !changes.contains_key(&place) && before.stored_node(&place)?.is_some() {
            changes.insert(place, None);
        }
    }
    Ok(changes)
}

/// Root of a state's tree.
pub(crate) fn root(state: &Snapshot) -> Result<Hash, StateError> {
    Ok(Hash(Tree::new(state).get_root_hash(STORED)?.0))
}

/// Shows what lies at a path.
pub(crate) fn prove(state: &Snapshot, path: &Path) -> Result<Proof, StateError> {
    Ok(Proof(Tree::new(state).get_with_proof(KeyHash(*path), STORED)?.1))
}

/// Shows that a key has a value, or none, under a state root. Whoever verifies needs the store's keys: without them
/// neither key nor value can be told from the proof.
pub struct Proof(jmt::proof::SparseMerkleProof<Blake3>);

impl Proof {
    /// Whether `value` is what (space, key) holds in the state with this root; `None`: it holds nothing.
    pub fn verify(&self, keys: &StateKeys, root: &Hash, space: &[u8; 32], key: &[u8], value: Option<&[u8]>) -> bool {
        let path = keys.path(space, key);
        let leaf = value.map(|value| keys.commitment(space, &path, value));
        self.0.verify(RootHash(root.0), KeyHash(path), leaf).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(children: u16, leaves: u16, hashes: u8) -> Vec<u8> {
        let mut stored = [children.to_le_bytes(), leaves.to_le_bytes()].concat();
        (1..=hashes).for_each(|hash| stored.extend_from_slice(&[hash; 32]));
        stored
    }

    #[test]
    fn nodes_are_read_as_they_were_stored() {
        for (children, leaves) in [(1, 0), (1, 1), (0x8001, 0x8000), (0xffff, 0xf00f), (0xffff, 0), (0x0ff0, 0x0ff0)] {
            let text = stored(children, leaves, children.count_ones() as u8);
            assert_eq!(store(&parse(&text).unwrap()), Some(text));
        }
        let Node::Internal(node) = parse(&stored(0x8002, 0x8000, 2)).unwrap() else { panic!("an inner node") };
        let children: Vec<_> =
            node.children_sorted().map(|(at, child)| (u8::from(at), child.hash, child.is_leaf())).collect();
        assert_eq!(children, [(1, [1; 32], false), (15, [2; 32], true)]);
    }

    #[test]
    fn what_is_no_node_is_refused() {
        for (children, leaves, hashes) in [(0, 0, 0), (3, 0, 1), (3, 0, 3), (3, 4, 2)] {
            assert!(matches!(parse(&stored(children, leaves, hashes)), Err(StateError::Altered(_))));
        }
        let whole = stored(3, 1, 2);
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_err(), "{cut} bytes");
        }
    }
}

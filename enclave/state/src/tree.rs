//! The authenticated tree: a Jellyfish Merkle tree whose inner nodes are stored, one per place.
//!
//! The tree's library names nodes by (version, place) and reports which become stale. Only the newest version is
//! kept here (readers of older ones have their snapshot), so a node is stored under its place alone, with its version
//! in front: most stale nodes are then simply overwritten. Leaves are not stored: where no node is, the only value below
//! is one.

use crate::{Path, Snapshot, StateError, StateKeys, place::Place, store::altered};
use borsh::BorshDeserialize;
use jmt::{
    JellyfishMerkleTree, KeyHash, OwnedValue, RootHash, SimpleHasher, ValueHash, Version,
    storage::{LeafNode, Node, NodeBatch, NodeKey, StaleNodeIndexBatch, TreeReader},
};
use phala_primitives::Hash;
use std::collections::BTreeMap;

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

pub(crate) type Tree<'a> = JellyfishMerkleTree<'a, Snapshot, Blake3>;

/// Root of a tree without leaves, as the tree's library has it.
pub const EMPTY_ROOT: Hash = Hash(*b"SPARSE_MERKLE_PLACEHOLDER_HASH__");

/// A node as it is stored: its version in front.
pub(crate) fn parse(stored: &[u8]) -> Result<(Version, Node), StateError> {
    let (version, node) = stored.split_first_chunk::<8>().ok_or_else(|| altered("a node of the tree is cut"))?;
    let node = Node::try_from_slice(node).map_err(|_| altered("a node of the tree is malformed"))?;
    Ok((Version::from_be_bytes(*version), node))
}

/// The leaf of a value.
pub(crate) fn leaf(path: &Path, commitment: &[u8; 32]) -> LeafNode {
    LeafNode::new(KeyHash(*path), ValueHash::with::<Blake3>(commitment))
}

impl TreeReader for Snapshot {
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        let place = Place::of(key);
        Ok(match self.stored_node(&place)? {
            Some((version, node)) => (version == key.version()).then_some(node),
            None => self.leaf_below(&place)?.map(Node::Leaf),
        })
    }

    fn get_value_option(&self, _newest: Version, key: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        Ok(self.commitment(&key.0)?.map(|commitment| commitment.to_vec()))
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        anyhow::bail!("the tree is not restored from its leaves")
    }
}

/// What an update changes of the nodes that are stored: their new content, `None` for one that goes.
pub(crate) fn changes(
    before: &Snapshot,
    batch: &NodeBatch,
    stale: &StaleNodeIndexBatch,
) -> Result<BTreeMap<Place, Option<Vec<u8>>>, StateError> {
    let mut changes = BTreeMap::new();
    for (key, node) in batch.nodes() {
        if !matches!(node, Node::Leaf(_)) {
            let mut bytes = key.version().to_be_bytes().to_vec();
            borsh::to_writer(&mut bytes, node).map_err(|_| StateError::Tree("a node cannot be encoded".into()))?;
            changes.insert(Place::of(key), Some(bytes));
        }
    }
    for index in stale {
        let place = Place::of(&index.node_key);
        // Else it is overwritten, or was a leaf.
        if !changes.contains_key(&place) && before.stored_node(&place)?.is_some() {
            changes.insert(place, None);
        }
    }
    Ok(changes)
}

/// Shows that a key has a value, or none, under a state root. Whoever verifies needs the store's keys: without them
/// neither key nor value can be told from the proof.
pub struct Proof(pub(crate) jmt::proof::SparseMerkleProof<Blake3>);

impl Proof {
    /// Whether `value` is what (space, key) holds in the state with this root; `None`: it holds nothing.
    pub fn verify(&self, keys: &StateKeys, root: &Hash, space: &[u8; 32], key: &[u8], value: Option<&[u8]>) -> bool {
        let path = keys.path(space, key);
        let leaf = value.map(|value| keys.commitment(space, &path, value));
        self.0.verify(RootHash(root.0), KeyHash(path), leaf).is_ok()
    }
}

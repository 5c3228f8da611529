//! The authenticated tree: a Jellyfish Merkle tree whose nodes lie in the database, one per place.
//!
//! The tree's library names nodes by (version, place) and reports which become stale. Only the newest version is
//! kept here (readers of older ones have their snapshot), so a node is stored under its place alone, with its version
//! in front: most stale nodes are then simply overwritten.

use crate::{StateError, StateKeys, store::altered};
use borsh::BorshDeserialize;
use jmt::{
    JellyfishMerkleTree, KeyHash, OwnedValue, RootHash, SimpleHasher, Version,
    storage::{LeafNode, Node, NodeBatch, NodeKey, StaleNodeIndexBatch, TreeReader},
};
use phala_primitives::Hash;
use redb::{ReadableTable, Table};

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

pub(crate) type Tree<'a, T> = JellyfishMerkleTree<'a, Nodes<'a, T>, Blake3>;

/// Root of a tree without leaves, as the tree's library has it.
pub const EMPTY_ROOT: Hash = Hash(*b"SPARSE_MERKLE_PLACEHOLDER_HASH__");

/// Reads the commitment of the value at a path, for proofs.
type Leaf<'a> = &'a dyn Fn(&[u8; 32]) -> Result<Option<[u8; 32]>, StateError>;

/// Nodes and leaves of the newest version, as one transaction sees them.
pub(crate) struct Nodes<'a, T> {
    pub(crate) nodes: &'a T,
    pub(crate) leaf: Leaf<'a>,
}

/// Under what a node is stored: one byte for each nibble on the way to it.
fn place(key: &NodeKey) -> Vec<u8> {
    key.nibble_path().nibbles().map(u8::from).collect()
}

fn parse(stored: &[u8]) -> Result<(u64, Node), StateError> {
    let (version, node) = stored.split_first_chunk::<8>().ok_or_else(|| altered("a node of the tree is cut"))?;
    let node = Node::try_from_slice(node).map_err(|_| altered("a node of the tree is malformed"))?;
    Ok((u64::from_be_bytes(*version), node))
}

/// The node at a place, whatever its version.
pub(crate) fn read_node(
    nodes: &impl ReadableTable<&'static [u8], &'static [u8]>,
    place: &[u8],
) -> Result<Option<Node>, StateError> {
    nodes.get(place)?.map(|stored| Ok(parse(stored.value())?.1)).transpose()
}

impl<T: ReadableTable<&'static [u8], &'static [u8]>> TreeReader for Nodes<'_, T> {
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        let Some(stored) = self.nodes.get(place(key).as_slice())? else { return Ok(None) };
        let (version, node) = parse(stored.value())?;
        Ok((version == key.version()).then_some(node))
    }

    fn get_value_option(&self, _newest: Version, key: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        Ok((self.leaf)(&key.0)?.map(|commitment| commitment.to_vec()))
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        anyhow::bail!("the tree is not restored from its leaves")
    }
}

/// Writes the new nodes and removes what became stale.
pub(crate) fn apply(
    table: &mut Table<'_, &'static [u8], &'static [u8]>,
    batch: &NodeBatch,
    stale: &StaleNodeIndexBatch,
) -> Result<(), StateError> {
    for index in stale {
        table.remove(place(&index.node_key).as_slice())?;
    }
    for (key, node) in batch.nodes() {
        let mut bytes = key.version().to_be_bytes().to_vec();
        borsh::to_writer(&mut bytes, node).map_err(|_| StateError::Tree("a node cannot be encoded".into()))?;
        table.insert(place(key).as_slice(), bytes.as_slice())?;
    }
    Ok(())
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

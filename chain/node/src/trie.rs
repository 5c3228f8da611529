//! The state of a block as a trie: finalised nodes from the store, under those of blocks that are not final yet.

use crate::{error::NodeError, store::NodeTable};
use hash_db::Prefix;
use sp_core::{
    Blake2Hasher, H256,
    storage::{StateVersion, Storage},
};
use sp_state_machine::{Backend as _, BackendTransaction, TrieBackend, TrieBackendBuilder, TrieBackendStorage};
use sp_trie::{DBValue, prefixed_key};
use std::{collections::BTreeMap, sync::Arc};

/// What a block changes in the trie.
#[derive(Default, Debug)]
pub(crate) struct Delta {
    /// Nodes that the block adds, under prefix and hash.
    pub(crate) inserted: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Keys of nodes that its state no longer holds.
    pub(crate) removed: Vec<Vec<u8>>,
}

impl From<BackendTransaction<Blake2Hasher>> for Delta {
    fn from(mut transaction: BackendTransaction<Blake2Hasher>) -> Self {
        let mut delta = Self::default();
        for (key, (value, count)) in transaction.drain() {
            match count {
                1.. => drop(delta.inserted.insert(key, value)),
                0 => {}
                _ => delta.removed.push(key),
            }
        }
        delta.removed.sort_unstable();
        delta
    }
}

/// Where the trie's nodes are read from.
pub(crate) struct Nodes {
    /// Changes of blocks that are not final, newest first.
    pub(crate) pending: Vec<Arc<Delta>>,
    /// Finalised nodes; none below the genesis.
    pub(crate) table: Option<NodeTable>,
}

impl TrieBackendStorage<Blake2Hasher> for Nodes {
    fn get(&self, key: &H256, prefix: Prefix<'_>) -> Result<Option<DBValue>, String> {
        let key = prefixed_key::<Blake2Hasher>(key, prefix);
        if let Some(node) = self.pending.iter().find_map(|delta| delta.inserted.get(&key)) {
            return Ok(Some(node.clone()));
        }
        let Some(table) = &self.table else { return Ok(None) };
        let node = table.get(key.as_slice()).map_err(|error| error.to_string())?;
        Ok(node.map(|node| node.value().to_vec()))
    }
}

/// The state after some block.
pub(crate) type State = TrieBackend<Nodes, Blake2Hasher>;

/// The state with this root.
pub(crate) fn state(nodes: Nodes, root: H256) -> State {
    TrieBackendBuilder::new(nodes, root).build()
}

/// Root and nodes of the genesis state.
pub(crate) fn genesis(storage: &Storage) -> (H256, Delta) {
    let empty =
        state(Nodes { pending: vec![], table: None }, sp_trie::empty_trie_root::<sp_trie::LayoutV1<Blake2Hasher>>());
    let entries = storage.top.iter().map(|(key, value)| (key.as_slice(), Some(value.as_slice())));
    let (root, transaction) = empty.storage_root(entries, StateVersion::V1);
    (root, transaction.into())
}

/// A value of the state.
pub(crate) fn value(state: &State, key: &[u8]) -> Result<Option<Vec<u8>>, NodeError> {
    state.storage(key).map_err(NodeError::State)
}

/// Up to `count` keys with a prefix in ascending order, strictly after `start`.
pub(crate) fn keys(
    state: &State,
    prefix: &[u8],
    count: usize,
    start: Option<&[u8]>,
) -> Result<Vec<Vec<u8>>, NodeError> {
    let mut args = sp_state_machine::IterArgs::default();
    (args.prefix, args.start_at, args.start_at_exclusive) = (Some(prefix), start, true);
    state.keys(args).map_err(NodeError::State)?.take(count).collect::<Result<_, _>>().map_err(NodeError::State)
}

/// Nodes that prove the values, or the absence, of these keys.
pub(crate) fn prove(state: &State, keys: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, NodeError> {
    let proof = sp_state_machine::prove_read_on_trie_backend(state, keys)
        .map_err(|error| NodeError::State(error.to_string()))?;
    Ok(proof.into_iter_nodes().collect())
}

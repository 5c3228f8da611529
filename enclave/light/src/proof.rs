//! Reading one storage entry out of a proof.

use phala_primitives::{Code, Coded, Hash};
use sp_core::{Blake2Hasher, H256};
use sp_trie::{LayoutV0, LayoutV1, MemoryDB, StorageProof, TrieConfiguration, read_trie_value};

/// Most trie nodes in a proof of one entry.
pub const MAX_PROOF_NODES: usize = 256;
/// Most bytes of all nodes of a proof together.
pub const MAX_PROOF_BYTES: usize = 512 << 10;

/// The value of `key` in the trie with this root (state version 1, BLAKE2b-256), or `None` if the proof shows that
/// there is none.
///
/// Errors: `BadReadProof` if the nodes do not lead from the root to an answer, `TooLarge` beyond the limits.
pub fn read(state_root: &[u8; 32], key: &[u8], nodes: &[Vec<u8>]) -> Result<Option<Vec<u8>>, Coded> {
    let bytes: usize = nodes.iter().map(Vec::len).sum();
    if nodes.len() > MAX_PROOF_NODES || bytes > MAX_PROOF_BYTES {
        return Err(Coded::new(Code::TooLarge, format!("a proof of {} nodes and {bytes} bytes", nodes.len())));
    }
    let known: MemoryDB<Blake2Hasher> = StorageProof::new(nodes.iter().cloned()).into_memory_db();
    read_trie_value::<LayoutV1<Blake2Hasher>, _>(&known, &H256(*state_root), key, None, None)
        .map_err(|_| Coded::new(Code::BadReadProof, format!("key 0x{}", hex::encode(key))))
}

/// What a header names as `extrinsics_root` for these extrinsics, in opaque encoding. (State version 0, which the
/// runtime's `system_version` 1 means for extrinsics.)
pub fn extrinsics_root(extrinsics: &[Vec<u8>]) -> Hash {
    Hash(LayoutV0::<Blake2Hasher>::ordered_trie_root(extrinsics).0)
}

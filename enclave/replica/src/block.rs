//! Entries as blocks of the cluster's log: the header is an encoded [`EntryHeader`], the body encrypted commands.

use codec::{DecodeAll, Encode};
use phala_primitives::{Block, ClusterId, EntryHeader, blake2_256, limits::MAX_ENTRY};

/// Bytes that encryption adds to a body, and then some.
const SEAL: usize = 64;
/// Longest header, in bytes. What is longer is not decoded.
const MAX_HEADER: usize = 1024;

/// The block of an entry. `body` is what `header` binds.
pub(crate) fn make_block(header: &EntryHeader, body: Vec<u8>) -> Block {
    Block { header: header.encode().into(), body: body.into() }
}

/// The header, if it is well formed, of this cluster, and binds the body. For hostile input.
pub(crate) fn open_block(block: &Block, cluster: ClusterId) -> Option<EntryHeader> {
    if block.header.len() > MAX_HEADER || block.body.len() > MAX_ENTRY + SEAL {
        return None;
    }
    let header = EntryHeader::decode_all(&mut &*block.header).ok()?;
    let binds = header.cluster == cluster && header.body_hash == blake2_256(&block.body);
    (binds && header.encode() == *block.header).then_some(header)
}

//! Entries as blocks of the cluster's log: the header is an encoded [`EntryHeader`], the body encrypted commands.

use codec::{DecodeAll, Encode};
use phala_primitives::{
    Block, ClusterId, Hash, blake2_256,
    limits::MAX_ENTRY,
    records::{Anchor, Seal},
};
use phala_session::{EntryHeader, Executed};

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

/// The block that an epoch's log starts from: it names the floor and holds nothing.
pub(crate) fn genesis(cluster: ClusterId, epoch: u64, floor: &Anchor) -> (EntryHeader, Block) {
    let header = EntryHeader {
        cluster,
        epoch,
        height: floor.height,
        view: 0,
        parent: floor.digest,
        seal: Seal::Open,
        time_ms: 0,
        executed: Executed::default(),
        commands_root: Hash::ZERO,
        count: 0,
        body_hash: blake2_256(&[]),
    };
    let block = make_block(&header, vec![]);
    (header, block)
}

//! Blocks of the cluster's log in plain types. They mirror those of the consensus crate, which the enclave cannot
//! name because it brings the network along.

use bytes::Bytes;
use codec::{DecodeAll, Encode};
use phala_primitives::{ClusterId, Hash, PublicKey, blake2_256, limits::MAX_ENTRY, records::Anchor};
use phala_session::{EntryHeader, Executed};

/// Bytes that encryption adds to a body, and then some.
const SEAL: usize = 64;
/// Longest header, in bytes. What is longer is not decoded.
const MAX_HEADER: usize = 1024;

/// An entry as the log orders it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// SCALE encoding of an [`EntryHeader`]; its BLAKE2b-256 hash is what members sign.
    pub header: Bytes,
    /// Encrypted commands.
    pub body: Bytes,
}

/// Height and parent of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Height.
    pub height: u64,
    /// Digest of the parent.
    pub parent: Hash,
}

/// Where a proposal stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// Epoch of the log.
    pub epoch: u64,
    /// View of the proposal.
    pub view: u64,
    /// Who leads the view.
    pub leader: PublicKey,
    /// The clock, in milliseconds since 1970.
    pub now_ms: u64,
}

/// A judgement on a proposal. It is final: what may still become valid is `Later`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Vote for it.
    Accept,
    /// Never vote for it.
    Reject,
    /// Ask again after the next entry was executed here, or a moment later.
    Later,
}

impl Block {
    pub(crate) fn new(header: &EntryHeader, body: Vec<u8>) -> Self {
        Self { header: header.encode().into(), body: body.into() }
    }

    /// The digest that is voted on.
    pub fn digest(&self) -> Hash {
        blake2_256(&self.header)
    }

    /// The header, if it is well formed, of this cluster, and binds the body. For hostile input.
    pub(crate) fn open(&self, cluster: ClusterId) -> Option<EntryHeader> {
        if self.header.len() > MAX_HEADER || self.body.len() > MAX_ENTRY + SEAL {
            return None;
        }
        let header = EntryHeader::decode_all(&mut &*self.header).ok()?;
        let binds = header.cluster == cluster && header.body_hash == blake2_256(&self.body);
        (binds && header.encode() == *self.header).then_some(header)
    }
}

/// The block that an epoch's log starts from: it names the floor and holds nothing.
pub(crate) fn genesis(cluster: ClusterId, epoch: u64, floor: &Anchor) -> (EntryHeader, Block) {
    let header = EntryHeader {
        cluster,
        epoch,
        height: floor.height,
        view: 0,
        parent: floor.digest,
        time_ms: 0,
        executed: Executed::default(),
        commands_root: Hash::ZERO,
        count: 0,
        body_hash: blake2_256(&[]),
    };
    let block = Block::new(&header, vec![]);
    (header, block)
}

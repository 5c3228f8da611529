//! Blocks as the engine wants them: encodable, with a digest, a height that counts from the genesis, and a parent.
//!
//! A block that was decoded is one that the application has inspected: its header binds its body. Since the digest is
//! that of the header, no two bodies can share a digest.

use crate::Application;
use bytes::{BufMut, Bytes};
use commonware_codec::{Buf, EncodeSize, Error, Read, Write};
use commonware_consensus::{BoundedBlock, Heightable, types::Height};
use commonware_cryptography::{Digested, Digestible, sha256};
use phala_primitives::{Block, Hash};
use std::sync::Arc;

/// The engine's digest type. Only its size matters here: it holds BLAKE2b-256.
pub(crate) type Digest = sha256::Digest;

/// Room for the two length prefixes.
const LENGTHS: usize = 10;

/// A block with its place in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Item {
    pub(crate) block: Block,
    height: Height,
    parent: Digest,
}

/// What a block must satisfy to be decoded.
#[derive(Clone)]
pub(crate) struct Rules {
    app: Arc<dyn Application>,
    genesis: u64,
    max: usize,
}

impl Rules {
    /// `None` if the application refuses its own genesis.
    pub(crate) fn new(app: Arc<dyn Application>, max: usize) -> Option<Self> {
        let genesis = app.inspect(&app.genesis())?.height;
        Some(Self { app, genesis, max })
    }

    /// Height of the genesis, from which the engine counts.
    pub(crate) fn genesis(&self) -> u64 {
        self.genesis
    }

    /// Accepts a block that is not too large, and that the application finds sound by itself.
    pub(crate) fn admit(&self, block: Block) -> Option<Digested<Item>> {
        let item = self.inspect(block)?;
        let digest = item.digest();
        Some(Digested::precomputed(item, digest))
    }

    fn inspect(&self, block: Block) -> Option<Item> {
        if block.header.len().saturating_add(block.body.len()) > self.max {
            return None;
        }
        let shape = self.app.inspect(&block)?;
        let height = Height::new(shape.height.checked_sub(self.genesis)?);
        Some(Item { block, height, parent: digest(shape.parent) })
    }
}

/// The engine's form of a hash.
pub(crate) fn digest(hash: Hash) -> Digest {
    sha256::Digest::from(hash.0)
}

/// The plain form of an engine's digest.
pub(crate) fn hash(digest: &Digest) -> Hash {
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    Hash(out)
}

impl Write for Item {
    fn write(&self, out: &mut impl BufMut) {
        self.block.header.write(out);
        self.block.body.write(out);
    }
}

impl EncodeSize for Item {
    fn encode_size(&self) -> usize {
        self.block.header.encode_size().saturating_add(self.block.body.encode_size())
    }
}

impl Read for Item {
    type Cfg = Rules;

    fn read_cfg(input: &mut impl Buf, rules: &Rules) -> Result<Self, Error> {
        let header = Bytes::read_cfg(input, &(..=rules.max).into())?;
        let body = Bytes::read_cfg(input, &(..=rules.max.saturating_sub(header.len())).into())?;
        rules.inspect(Block { header, body }).ok_or(Error::Invalid("block", "refused by the application"))
    }
}

impl Digestible for Item {
    type Digest = Digest;

    fn digest(&self) -> Digest {
        digest(self.block.digest())
    }
}

impl Heightable for Item {
    fn height(&self) -> Height {
        self.height
    }
}

impl commonware_consensus::Block for Item {
    fn parent(&self) -> Digest {
        self.parent
    }
}

impl BoundedBlock for Item {
    fn max_encode_size(rules: &Rules) -> usize {
        rules.max.saturating_add(LENGTHS)
    }
}

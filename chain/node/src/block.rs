//! Blocks and extrinsics as bytes, from anyone: decoded with limits, and bound to each other.

use bytes::Bytes;
use codec::{Compact, Decode, DecodeAll, DecodeLimit, Encode};
use phala_primitives::{Block, ENGINE, Hash, Proposed, blake2_256};
use phala_runtime::{AccountId, Header, MAX_BLOCK_LENGTH, RuntimeCall, UncheckedExtrinsic, VERSION};
use sp_core::H256;
use sp_runtime::{
    Digest, DigestItem, MultiAddress,
    generic::Preamble,
    traits::{BlakeTwo256, Hash as _},
};

/// Largest encoded header, in bytes. Ours have about 140.
const MAX_HEADER: usize = 1024;
/// Most extrinsics in a block.
const MAX_EXTRINSICS: u32 = 16_384;
/// How deeply a call may nest others; `frame_support::MAX_EXTRINSIC_DEPTH` is 256.
const MAX_DEPTH: u32 = 64;

/// A block whose header binds its body.
pub(crate) struct Parsed {
    pub(crate) hash: Hash,
    pub(crate) header: Header,
    /// Extrinsics in opaque encoding: with their length in front.
    pub(crate) extrinsics: Vec<Vec<u8>>,
}

/// Decodes a block and checks that its header binds its body. `None` refuses it.
pub(crate) fn parse(block: &Block) -> Option<Parsed> {
    // The length of the list comes on top of the extrinsics' own.
    if block.header.len() > MAX_HEADER || block.body.len() > MAX_BLOCK_LENGTH as usize + 4 {
        return None;
    }
    let header = Header::decode_all(&mut &*block.header).ok()?;
    proposed(&header)?;
    let extrinsics = split(&block.body)?;
    (header.extrinsics_root == root(&extrinsics)).then(|| Parsed { hash: block.digest(), header, extrinsics })
}

/// The extrinsics of an encoded body, each in opaque encoding.
pub(crate) fn split(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    if Compact::<u32>::decode(&mut &*body).ok()?.0 > MAX_EXTRINSICS {
        return None;
    }
    let inner = Vec::<Vec<u8>>::decode_all(&mut &*body).ok()?;
    Some(inner.iter().map(Encode::encode).collect())
}

/// The body that holds these extrinsics.
pub(crate) fn join(extrinsics: &[Vec<u8>]) -> Bytes {
    let mut body = Compact(extrinsics.len() as u32).encode();
    extrinsics.iter().for_each(|extrinsic| body.extend_from_slice(extrinsic));
    body.into()
}

/// Root of the trie over a block's extrinsics.
pub(crate) fn root(extrinsics: &[Vec<u8>]) -> H256 {
    BlakeTwo256::ordered_trie_root(extrinsics.to_vec(), VERSION.extrinsics_root_state_version())
}

/// The digest of a header.
pub(crate) fn digest(proposed: Proposed) -> Digest {
    Digest { logs: vec![DigestItem::PreRuntime(ENGINE, proposed.encode())] }
}

/// Where and when a block was proposed, by its header. `None` if the digest is not ours; that of the genesis is empty.
pub(crate) fn proposed(header: &Header) -> Option<Proposed> {
    match header.digest.logs.as_slice() {
        [DigestItem::PreRuntime(ENGINE, item)] => Proposed::decode_all(&mut item.as_slice()).ok(),
        _ => None,
    }
}

/// An extrinsic as the pool and the executor know it.
pub(crate) struct Extrinsic {
    pub(crate) hash: Hash,
    pub(crate) decoded: UncheckedExtrinsic,
}

impl Extrinsic {
    /// Decodes an extrinsic in opaque encoding.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        let decoded = UncheckedExtrinsic::decode_all_with_depth_limit(MAX_DEPTH, &mut &*bytes)?;
        Ok(Self { hash: blake2_256(bytes), decoded })
    }

    /// Who claims to have signed it, and with which nonce. `None` for inherents and what names no account.
    pub(crate) fn signer(&self) -> Option<(AccountId, u32)> {
        match &self.decoded.preamble {
            Preamble::Signed(MultiAddress::Id(account), _, extension) => Some((account.clone(), extension.5.0)),
            _ => None,
        }
    }

    /// The time that the inherent sets, if it is that inherent.
    pub(crate) fn timestamp(&self) -> Option<u64> {
        match (&self.decoded.preamble, &self.decoded.function) {
            (Preamble::Bare(_), RuntimeCall::Timestamp(pallet_timestamp::Call::set { now })) => Some(*now),
            _ => None,
        }
    }
}

/// The inherent that sets the time of a block, in milliseconds since 1970.
pub(crate) fn timestamp(now: u64) -> UncheckedExtrinsic {
    UncheckedExtrinsic::new_bare(RuntimeCall::Timestamp(pallet_timestamp::Call::set { now }))
}

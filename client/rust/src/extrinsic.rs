//! Signed extrinsics (version 4), as any Substrate chain takes them.

use crate::{Account, Call};
use codec::{Compact, Encode};
use phala_primitives::{AccountSignature, Balance, Hash, blake2_256};

/// For how many blocks an extrinsic is valid, a power of two: about two minutes.
const PERIOD: u32 = 128;
/// Signed, version 4.
const SIGNED_V4: u8 = 0x84;
/// `MultiAddress::Id`.
const ADDRESS_ID: u8 = 0;
/// `CheckMetadataHash` in its mode "disabled", and the metadata hash that is signed then: none.
const NO_METADATA_HASH: u8 = 0;

/// What an extrinsic is bound to besides its call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Terms {
    pub(crate) spec_version: u32,
    pub(crate) transaction_version: u32,
    pub(crate) genesis: Hash,
    /// Number and hash of a recent block: the extrinsic is valid from it on.
    pub(crate) born: (u32, Hash),
    pub(crate) nonce: u32,
    pub(crate) tip: Balance,
}

/// `Era::Mortal` for [`PERIOD`] blocks from this one on, encoded: logarithm of the period less one, and the phase.
fn era(born: u32) -> [u8; 2] {
    let logarithm = PERIOD.trailing_zeros() as u16 - 1;
    let phase = (born % PERIOD) as u16;
    (logarithm | (phase << 4)).to_le_bytes()
}

/// Signs a call. The result is the opaque encoding, with its length in front.
pub(crate) fn sign(account: &Account, call: &Call, terms: &Terms) -> Vec<u8> {
    // In the order of the runtime's `TxExtension`; those that carry nothing encode to nothing.
    let carried = (era(terms.born.0), Compact(terms.nonce), Compact(terms.tip), NO_METADATA_HASH).encode();
    let implied =
        (terms.spec_version, terms.transaction_version, terms.genesis, terms.born.1, NO_METADATA_HASH).encode();
    let mut payload = [call.encoded(), &carried, &implied].concat();
    if payload.len() > 256 {
        payload = blake2_256(&payload).0.to_vec();
    }
    let signature = match account.sign(&payload) {
        AccountSignature::Ed25519(bytes) => (0u8, bytes).encode(),
        AccountSignature::Sr25519(bytes) => (1u8, bytes).encode(),
        AccountSignature::Ecdsa(bytes) => (2u8, bytes).encode(),
    };
    let head = (SIGNED_V4, ADDRESS_ID, account.id()).encode();
    [head.as_slice(), &signature, &carried, call.encoded()].concat().encode()
}

//! Attestation: evidence, its appraisal under trust anchors, and the interface to the machine that makes it.
//!
//! There is one path for every kind of machine. A [`Provider`] turns 64 bytes of report data into [`Evidence`]; the
//! chain [appraises](appraise) the evidence under the [`Anchors`] of its genesis and stores the result with the
//! worker. No feature flag and no environment variable changes the path: a network of simulated machines differs from
//! a real one by the anchors in its genesis and by nothing else, and what a simulated anchor vouches for has tier S.
//!
//! What a worker binds into its evidence is [`identity_report_data`]: the network, its account, and the two keys that
//! it made at this start. So evidence made for one network, worker or start is worth nothing for another.
//!
//! This crate decides what evidence says. Whether that is enough (which measurements, which tiers, whose report data)
//! is the policy of the caller.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod evidence;
mod provider;
#[cfg(test)]
mod tests;

pub use evidence::{
    APPRAISAL_LIFE_MS, Anchors, Appraised, AttestError, Evidence, MAX_ANCHORS, MAX_EVIDENCE, PlatformCertificate,
    SimulatedQuote, appraise,
};
pub use provider::{Provider, ProviderError, SealKey};

use codec::Encode;
use phala_primitives::{AccountId, Hash, PublicKey, blake2_256};

/// Report data of a worker's evidence: BLAKE2b-256 of the SCALE tuple `("phala/identity/v1", genesis, worker,
/// identity, recipient)`, the first element a SCALE string, followed by 32 zero bytes.
///
/// `identity` is the ed25519 key and `recipient` the X25519 key that the worker made at this start.
pub fn identity_report_data(
    genesis: &Hash,
    worker: &AccountId,
    identity: &PublicKey,
    recipient: &[u8; 32],
) -> [u8; 64] {
    let hash = blake2_256(&("phala/identity/v1", genesis, worker, identity, recipient).encode());
    let mut out = [0; 64];
    out[..32].copy_from_slice(&hash.0);
    out
}

//! The machine below an enclave, as far as attestation needs it.

use phala_primitives::{Code, Coded};
use zeroize::ZeroizeOnDrop;

/// What makes evidence and sealing keys: a TEE, or a simulation of one.
pub trait Provider: Send + Sync {
    /// Encoded [`crate::Evidence`] that this program, on this machine, stands behind `report_data`.
    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, ProviderError>;

    /// The key for data at rest that only this program on this machine gets again. It says nothing about freshness:
    /// the host may roll sealed data back.
    fn seal_key(&self) -> SealKey;

    /// What kind of machine this is, for people. Contains the word SIMULATED if it is no TEE.
    fn name(&self) -> &'static str;
}

/// A 32-byte key bound to machine and measurement. It does not print, is not copied, and is wiped when dropped.
#[derive(ZeroizeOnDrop)]
pub struct SealKey([u8; 32]);

impl SealKey {
    /// Wraps key material that the machine derived.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key, for use in an AEAD.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Why a machine made no evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the machine made no evidence: {0}")]
pub struct ProviderError(pub String);

impl From<ProviderError> for Coded {
    fn from(error: ProviderError) -> Self {
        Coded::new(Code::BadEvidence, error.to_string())
    }
}

//! Evidence and its appraisal.

use codec::{Decode, DecodeAll, DecodeWithMemTracking, Encode, MaxEncodedLen};
use ed25519_dalek::{Signature, VerifyingKey};
use phala_primitives::{Code, Coded, Hash, PublicKey, records::Appraisal, records::Tier};
use scale_info::TypeInfo;

/// Largest encoded evidence that is looked at, in bytes: a TDX quote with its collateral fits.
pub const MAX_EVIDENCE: usize = 32 << 10;
/// Most anchors of one kind that are tried.
pub const MAX_ANCHORS: usize = 16;
/// Longest life of an appraisal, in milliseconds (7 days). A worker attests again before it ends.
pub const APPRAISAL_LIFE_MS: u64 = 7 * 24 * 3600 * 1000;

/// Whom the network trusts to vouch for machines. Set in the genesis, changed by governance only.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Anchors {
    /// ed25519 roots of SIMULATED vendors; empty in a network that holds anything of value.
    pub simulated: Vec<PublicKey>,
}

/// What a machine says about a program that runs on it, and who vouches for the machine.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub enum Evidence {
    /// Made by a SIMULATED machine.
    #[codec(index = 83)]
    Simulated(SimulatedQuote),
}

/// A quote of a SIMULATED machine: the chain is vendor root, platform key, quote.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo)]
pub struct SimulatedQuote {
    /// Measurement of the program.
    pub measurement: Hash,
    /// What the program wanted to have attested.
    pub report_data: [u8; 64],
    /// The vendor's word for the machine's key.
    pub platform: PlatformCertificate,
    /// By the platform key over [`SimulatedQuote::message`].
    pub signature: [u8; 64],
}

/// A SIMULATED vendor's word for one machine.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo)]
pub struct PlatformCertificate {
    /// ed25519 key of the machine.
    pub key: PublicKey,
    /// When the certificate ends, in milliseconds since 1970.
    pub not_after_ms: u64,
    /// By the vendor's root over [`PlatformCertificate::message`].
    pub signature: [u8; 64],
}

impl SimulatedQuote {
    /// What the platform key signs.
    pub fn message(measurement: &Hash, report_data: &[u8; 64], platform: &PublicKey) -> Vec<u8> {
        ("phala/simulated/quote/v1", platform, measurement, report_data).encode()
    }

    fn appraise(&self, anchors: &Anchors, now_ms: u64) -> Result<Appraised, AttestError> {
        let certified = PlatformCertificate::message(&self.platform.key, self.platform.not_after_ms);
        if !anchors.simulated.iter().take(MAX_ANCHORS).any(|root| signed(root, &certified, &self.platform.signature)) {
            return Err(AttestError::UnknownVendor);
        }
        if self.platform.not_after_ms <= now_ms {
            return Err(AttestError::Expired);
        }
        let quoted = Self::message(&self.measurement, &self.report_data, &self.platform.key);
        if !signed(&self.platform.key, &quoted, &self.signature) {
            return Err(AttestError::Signature);
        }
        Ok(Appraised {
            tier: Tier::S,
            measurement: self.measurement,
            report_data: self.report_data,
            expires: self.platform.not_after_ms.min(now_ms.saturating_add(APPRAISAL_LIFE_MS)),
        })
    }
}

impl PlatformCertificate {
    /// What the vendor's root signs.
    pub fn message(key: &PublicKey, not_after_ms: u64) -> Vec<u8> {
        ("phala/simulated/platform/v1", key, not_after_ms).encode()
    }
}

/// What evidence is worth. There is none without a tier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Appraised {
    /// What the evidence is worth.
    pub tier: Tier,
    /// Measurement of the program.
    pub measurement: Hash,
    /// What the program wanted to have attested; the caller compares it with what it expects.
    pub report_data: [u8; 64],
    /// When the appraisal ends, in milliseconds since 1970.
    pub expires: u64,
}

impl Appraised {
    /// The form that the chain stores, if the evidence attests `report_data`.
    pub fn bound_to(&self, report_data: &[u8; 64]) -> Result<Appraisal, AttestError> {
        if self.report_data != *report_data {
            return Err(AttestError::ReportData);
        }
        Ok(Appraisal { tier: self.tier, measurement: self.measurement, expires: self.expires })
    }
}

/// Why evidence is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttestError {
    /// More than [`MAX_EVIDENCE`].
    #[error("the evidence is larger than {MAX_EVIDENCE} bytes")]
    TooLarge,
    /// It cannot be decoded.
    #[error("the evidence cannot be decoded")]
    Malformed,
    /// No anchor vouches for the machine.
    #[error("no trust anchor of this network vouches for the machine")]
    UnknownVendor,
    /// The vendor's word for the machine has ended.
    #[error("the machine's certificate has expired")]
    Expired,
    /// The machine did not sign it.
    #[error("the machine's signature is wrong")]
    Signature,
    /// It attests something else.
    #[error("the evidence attests other report data")]
    ReportData,
}

impl From<AttestError> for Coded {
    fn from(error: AttestError) -> Self {
        Coded::new(Code::BadEvidence, error.to_string())
    }
}

/// Judges encoded [`Evidence`] under `anchors` at `now_ms`, the time of the chain's block.
pub fn appraise(evidence: &[u8], anchors: &Anchors, now_ms: u64) -> Result<Appraised, AttestError> {
    if evidence.len() > MAX_EVIDENCE {
        return Err(AttestError::TooLarge);
    }
    match Evidence::decode_all(&mut &*evidence).map_err(|_| AttestError::Malformed)? {
        Evidence::Simulated(quote) => quote.appraise(anchors, now_ms),
    }
}

fn signed(key: &PublicKey, message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

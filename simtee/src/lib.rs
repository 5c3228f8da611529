//! A SIMULATED trusted execution environment: it protects nothing, and says so.
//!
//! It stands in for a TEE where there is none. The evidence is complete and goes through the same appraisal as real
//! evidence: a [`SimVendor`] is the root that a genesis may name among its anchors, it certifies [`SimTee`] machines,
//! and a machine signs quotes over measurement and report data. What is simulated is the hardware: whoever holds the
//! seeds can quote any measurement and derive every sealing key. So its evidence is worth tier S, a network that holds
//! anything of value has no simulated anchor in its genesis, and the name of every machine contains SIMULATED.
//!
//! All keys come from seeds by HKDF-SHA256, so that one seed gives one machine. Where seeds are kept is the caller's
//! business.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use codec::Encode;
use ed25519_dalek::{Signer, SigningKey};
use hkdf::Hkdf;
use phala_attest::{Evidence, PlatformCertificate, Provider, ProviderError, SealKey, SimulatedQuote};
use phala_primitives::{Hash, PublicKey};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Derives 32 bytes from a seed for one purpose and context.
fn derive(seed: &[u8; 32], purpose: &str, context: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    let info = ("phala/simtee/v1", purpose, context).encode();
    // HKDF gives up to 255 blocks, so 32 bytes never fail; a zero key would be as SIMULATED as any other.
    let _ = Hkdf::<Sha256>::new(Some(b"SIMULATED"), seed).expand(&info, out.as_mut_slice());
    out
}

/// A SIMULATED vendor of machines: the root of trust that a development network names in its genesis.
pub struct SimVendor {
    root: SigningKey,
}

impl SimVendor {
    /// The vendor of this seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { root: SigningKey::from_bytes(&derive(seed, "vendor", &[])) }
    }

    /// What the genesis names in `Anchors::simulated`.
    pub fn anchor(&self) -> PublicKey {
        self.root.verifying_key().to_bytes()
    }

    /// The machine of this seed, running a program of this measurement, certified for ever.
    pub fn machine(&self, seed: &[u8; 32], measurement: Hash) -> SimTee {
        self.machine_until(seed, measurement, u64::MAX)
    }

    /// As [`SimVendor::machine`], with a certificate that ends at `not_after_ms` (milliseconds since 1970).
    pub fn machine_until(&self, seed: &[u8; 32], measurement: Hash, not_after_ms: u64) -> SimTee {
        let platform = SigningKey::from_bytes(&derive(seed, "platform", &[]));
        let key = platform.verifying_key().to_bytes();
        let signature = self.root.sign(&PlatformCertificate::message(&key, not_after_ms)).to_bytes();
        SimTee {
            seal: derive(seed, "seal", measurement.as_ref()),
            platform,
            certificate: PlatformCertificate { key, not_after_ms, signature },
            measurement,
        }
    }
}

/// A SIMULATED machine with one program on it.
pub struct SimTee {
    platform: SigningKey,
    certificate: PlatformCertificate,
    measurement: Hash,
    seal: Zeroizing<[u8; 32]>,
}

impl SimTee {
    /// The measurement that its quotes name.
    pub fn measurement(&self) -> Hash {
        self.measurement
    }
}

impl Provider for SimTee {
    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, ProviderError> {
        let message = SimulatedQuote::message(&self.measurement, report_data, &self.certificate.key);
        Ok(Evidence::Simulated(SimulatedQuote {
            measurement: self.measurement,
            report_data: *report_data,
            platform: self.certificate.clone(),
            signature: self.platform.sign(&message).to_bytes(),
        })
        .encode())
    }

    fn seal_key(&self) -> SealKey {
        SealKey::new(*self.seal)
    }

    fn name(&self) -> &'static str {
        "simtee (SIMULATED: no hardware protects this machine)"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phala_attest::{Anchors, AttestError, appraise};
    use phala_primitives::records::Tier;

    const NOW: u64 = 1_800_000_000_000;

    #[test]
    fn its_evidence_passes_the_one_appraisal_with_tier_s() {
        let vendor = SimVendor::from_seed(&[1; 32]);
        let machine = vendor.machine(&[2; 32], Hash([3; 32]));
        let evidence = machine.quote(&[4; 64]).unwrap();
        let anchors = Anchors { simulated: vec![vendor.anchor()] };
        let appraisal = appraise(&evidence, &anchors, NOW).unwrap().bound_to(&[4; 64]).unwrap();
        assert_eq!((appraisal.tier, appraisal.measurement), (Tier::S, Hash([3; 32])));
        assert_eq!(appraise(&evidence, &Anchors::default(), NOW), Err(AttestError::UnknownVendor));
        assert!(machine.name().contains("SIMULATED"));

        let ended = vendor.machine_until(&[2; 32], Hash([3; 32]), NOW).quote(&[4; 64]).unwrap();
        assert_eq!(appraise(&ended, &anchors, NOW), Err(AttestError::Expired));
    }

    #[test]
    fn sealing_keys_are_stable_and_bound_to_machine_and_measurement() {
        let key = |vendor: u8, machine: u8, measurement: u8| {
            *SimVendor::from_seed(&[vendor; 32]).machine(&[machine; 32], Hash([measurement; 32])).seal_key().expose()
        };
        assert_eq!(key(1, 2, 3), key(1, 2, 3));
        assert_ne!(key(1, 2, 3), key(1, 9, 3));
        assert_ne!(key(1, 2, 3), key(1, 2, 9));
    }
}

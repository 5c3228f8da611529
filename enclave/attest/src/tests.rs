use super::*;
use codec::Encode;
use ed25519_dalek::{Signer, SigningKey};
use phala_primitives::records::Tier;

const NOW: u64 = 1_800_000_000_000;

fn evidence(root: &SigningKey, not_after_ms: u64) -> Vec<u8> {
    let platform = SigningKey::from_bytes(&[2; 32]);
    let key = platform.verifying_key().to_bytes();
    let (measurement, report_data) = (Hash([7; 32]), [9; 64]);
    Evidence::Simulated(SimulatedQuote {
        measurement,
        report_data,
        platform: PlatformCertificate {
            key,
            not_after_ms,
            signature: root.sign(&PlatformCertificate::message(&key, not_after_ms)).to_bytes(),
        },
        signature: platform.sign(&SimulatedQuote::message(&measurement, &report_data, &key)).to_bytes(),
    })
    .encode()
}

fn anchors(root: &SigningKey) -> Anchors {
    Anchors { simulated: vec![[1; 32], root.verifying_key().to_bytes()] }
}

#[test]
fn accepts_under_its_root_only_and_never_above_tier_s() {
    let root = SigningKey::from_bytes(&[1; 32]);
    let appraised = appraise(&evidence(&root, u64::MAX), &anchors(&root), NOW).unwrap();
    assert_eq!(appraised.tier, Tier::S);
    assert_eq!(appraised.expires, NOW + APPRAISAL_LIFE_MS);
    assert!(appraised.bound_to(&[9; 64]).is_ok());
    assert_eq!(appraised.bound_to(&[8; 64]), Err(AttestError::ReportData));

    let foreign = SigningKey::from_bytes(&[3; 32]);
    assert_eq!(appraise(&evidence(&foreign, u64::MAX), &anchors(&root), NOW), Err(AttestError::UnknownVendor));
    assert_eq!(appraise(&evidence(&root, u64::MAX), &Anchors::default(), NOW), Err(AttestError::UnknownVendor));
}

#[test]
fn ends_with_the_platform_certificate() {
    let root = SigningKey::from_bytes(&[1; 32]);
    assert_eq!(appraise(&evidence(&root, NOW + 5), &anchors(&root), NOW).unwrap().expires, NOW + 5);
    assert_eq!(appraise(&evidence(&root, NOW), &anchors(&root), NOW), Err(AttestError::Expired));
}

#[test]
fn every_flipped_bit_and_every_truncation_is_refused() {
    let root = SigningKey::from_bytes(&[1; 32]);
    let (good, anchors) = (evidence(&root, NOW + 5), anchors(&root));
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(appraise(&bad, &anchors, NOW).is_err(), "bit {bit}");
    }
    for length in 0..good.len() {
        assert_eq!(appraise(&good[..length], &anchors, NOW), Err(AttestError::Malformed));
    }
    assert_eq!(appraise(&[good.as_slice(), &[0]].concat(), &anchors, NOW), Err(AttestError::Malformed));
    assert_eq!(appraise(&vec![0; MAX_EVIDENCE + 1], &anchors, NOW), Err(AttestError::TooLarge));
}

#[test]
fn report_data_is_frozen_and_depends_on_every_part() {
    let base = identity_report_data(&Hash([1; 32]), &AccountId([2; 32]), &[3; 32], &[4; 32]);
    let message = [b"\x44phala/identity/v1".as_slice(), &[1; 32], &[2; 32], &[3; 32], &[4; 32]].concat();
    assert_eq!(base[..32], blake2_256(&message).0);
    assert_eq!(base[32..], [0; 32]);
    assert_ne!(base, identity_report_data(&Hash([0; 32]), &AccountId([2; 32]), &[3; 32], &[4; 32]));
    assert_ne!(base, identity_report_data(&Hash([1; 32]), &AccountId([2; 32]), &[4; 32], &[3; 32]));
}

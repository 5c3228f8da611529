use super::*;
use frame_support::{assert_noop, assert_ok};
use pallet_registry::{Error, Production, Workers};
use phala_primitives::records::Tier;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

#[test]
fn a_restarted_worker_replaces_its_identity() {
    run(|| {
        assert_ok!(register(&worker(0), &key(10)));
        let record = Workers::<Runtime>::get(worker(0)).unwrap();
        assert_eq!((record.appraisal.tier, record.identity), (Tier::S, key(10).verifying_key().to_bytes()));
        assert_noop!(register(&worker(1), &key(10)), Error::<Runtime>::IdentityTaken);
        assert_ok!(register(&worker(0), &key(11)));
        assert_ok!(register(&worker(1), &key(10)));
        assert_eq!(pallet_registry::Identities::<Runtime>::iter().count(), 2);
    });
}

#[test]
fn evidence_for_another_worker_or_of_an_unknown_vendor_is_refused() {
    run(|| {
        let identity = key(10).verifying_key().to_bytes();
        let attempt = |evidence| {
            Registry::register_worker(
                RuntimeOrigin::signed(worker(0)),
                identity,
                [5; 32],
                b"http://x".to_vec(),
                b"x:1".to_vec(),
                evidence,
            )
        };
        let other = Plain(worker(1).into());
        let bound = phala_attest::identity_report_data(&Hash([7; 32]), &other, &identity, &[5; 32]);
        assert_noop!(attempt(evidence(bound)), Error::<Runtime>::WrongReportData);
        assert_noop!(attempt(vec![]), Error::<Runtime>::EvidenceMalformed);
        assert_noop!(attempt(vec![83; 16385]), Error::<Runtime>::EvidenceTooLarge);
        pallet_registry::TrustAnchors::<Runtime>::kill();
        assert_noop!(register(&worker(0), &key(10)), Error::<Runtime>::UnknownVendor);
    });
}

#[test]
fn production_refuses_a_simulated_machine_even_if_an_anchor_vouches_for_it() {
    run(|| {
        Production::<Runtime>::put(true);
        assert_noop!(register(&worker(0), &key(10)), Error::<Runtime>::SimulatedMachine);
    });
}

#[test]
fn addresses_have_limits_and_can_change() {
    run(|| {
        let update = |endpoint: &[u8], peer: &[u8]| {
            Registry::update_endpoint(RuntimeOrigin::signed(worker(0)), endpoint.to_vec(), peer.to_vec())
        };
        assert_noop!(update(b"http://a", b"a:1"), Error::<Runtime>::NotRegistered);
        assert_ok!(register(&worker(0), &key(10)));
        assert_noop!(update(b"ftp://a", b"a:1"), Error::<Runtime>::BadEndpoint);
        assert_noop!(update(&[b"http://".as_slice(), &[b'a'; 250]].concat(), b"a:1"), Error::<Runtime>::BadEndpoint);
        assert_noop!(update(b"http://a", &[b'a'; 129]), Error::<Runtime>::BadPeer);
        assert_ok!(update(b"https://a", b"a:1"));
        assert_eq!(Workers::<Runtime>::get(worker(0)).unwrap().endpoint, b"https://a");
    });
}

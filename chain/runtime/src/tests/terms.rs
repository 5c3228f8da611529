//! What the deployer of a contract and the creator of its cluster may say about it.

use super::{
    bridge::{alice, contract},
    clusters::with_cluster,
    *,
};
use frame_support::{assert_noop, assert_ok};
use pallet_clusters::{Contracts, Error, Weights};
use phala_primitives::limits::{MAX_AUDIT, MAX_WEIGHT};

#[test]
fn the_deployer_says_how_many_replicas_have_to_agree() {
    with_cluster(|| {
        let contract = contract();
        let bob = RuntimeOrigin::signed(account("//Bob"));
        assert_eq!(Contracts::<Runtime>::get(contract).unwrap().audit, 1);
        assert_noop!(Clusters::set_audit(bob, contract, 2), Error::<Runtime>::NotDeployer);
        assert_noop!(Clusters::set_audit(alice(), Plain([1; 32]), 2), Error::<Runtime>::NoContract);
        for wrong in [0, MAX_AUDIT + 1] {
            assert_noop!(Clusters::set_audit(alice(), contract, wrong), Error::<Runtime>::AuditRange);
        }
        // Also of a contract whose code is fixed.
        assert_ok!(Clusters::set_audit(alice(), contract, 3));
        assert_eq!(Contracts::<Runtime>::get(contract).unwrap().audit, 3);
    });
}

#[test]
fn the_creator_of_a_cluster_gives_weights() {
    with_cluster(|| {
        let contract = contract();
        let creator = pallet_clusters::Creators::<Runtime>::get(0).map_or(RuntimeOrigin::root(), RuntimeOrigin::signed);
        let bob = RuntimeOrigin::signed(account("//Bob"));
        assert_noop!(Clusters::set_weight(bob, 0, contract, 2), Error::<Runtime>::NotCreator);
        let set = |cluster, contract, weight| Clusters::set_weight(creator.clone(), cluster, contract, weight);
        assert_noop!(set(0, Plain([1; 32]), 2), Error::<Runtime>::NoContract);
        assert_noop!(set(1, contract, 2), Error::<Runtime>::NoCluster);
        for wrong in [0, MAX_WEIGHT + 1] {
            assert_noop!(set(0, contract, wrong), Error::<Runtime>::PolicyRange);
        }
        assert_ok!(set(0, contract, 4));
        assert_ok!(set(0, contract, 7));
        assert_eq!(Weights::<Runtime>::get(0), [(contract, 7)]);
        assert_ok!(set(0, contract, 1));
        assert_eq!(Weights::<Runtime>::get(0), []);
    });
}

use super::*;
use frame_support::{assert_noop, assert_ok};
use pallet_clusters::{AnchorProof, Clusters as Stored, Epochs, Error, Plans, Policies};
use phala_primitives::{
    Certificate, ClusterPolicy, EntryHeader, Executed, Finality,
    limits::MAX_CODE,
    records::{Anchor, Checkpoint, Plan, Seal, cluster_namespace, contract_address, seal},
};

pub(super) fn key(index: u32, start: u8) -> SigningKey {
    SigningKey::from_bytes(&[100 + 10 * start + index as u8; 32])
}

fn identity(index: u32, start: u8) -> [u8; 32] {
    key(index, start).verifying_key().to_bytes()
}

/// Workers 0 to 3 in cluster 0, each at its first start.
pub(super) fn with_cluster(test: impl FnOnce()) {
    run(|| {
        (0..4).for_each(|index| register(&worker(index), &key(index, 0)).unwrap());
        let workers = (0..4).map(worker).collect();
        assert_ok!(Clusters::create_cluster(RuntimeOrigin::signed(account("//Alice")), workers));
        test();
    });
}

/// An entry of cluster 0 and its certificate by the first `signers` members of the start.
pub(super) fn finalised(epoch: u64, height: u64, start: u8, signers: usize) -> (Anchor, Vec<u8>) {
    sealing(epoch, height, start, signers, Seal::Open)
}

/// The same of an entry that seals its epoch.
fn sealing(epoch: u64, height: u64, start: u8, signers: usize, seal: Seal) -> (Anchor, Vec<u8>) {
    let header = EntryHeader { epoch, height, seal, ..header() };
    let finality = certified(&header, start, signers);
    (Anchor { height, digest: header.digest() }, AnchorProof { header, finality }.encode())
}

/// Of some entry of cluster 0.
pub(super) fn header() -> EntryHeader {
    EntryHeader {
        cluster: 0,
        epoch: 0,
        height: 10,
        view: 11,
        parent: Hash([8; 32]),
        seal: Seal::Open,
        time_ms: NOW,
        executed: Executed { height: 9, state_root: Hash([5; 32]), crossing: Default::default() },
        commands_root: Hash([6; 32]),
        count: 0,
        body_hash: Hash([4; 32]),
    }
}

/// The word for an entry of the first `signers` members, with the keys of that start.
pub(super) fn certified(header: &EntryHeader, start: u8, signers: usize) -> Finality {
    certified_by(header, (0..4).map(|index| key(index, start)).collect(), signers)
}

/// The same of members with these keys.
pub(super) fn certified_by(header: &EntryHeader, mut keys: Vec<SigningKey>, signers: usize) -> Finality {
    let (epoch, digest) = (header.epoch, header.digest());
    let mut certificate = Certificate { epoch, view: 5, parent_view: 4, digest, votes: vec![] };
    let message = certificate.message(&cluster_namespace(&Hash([7; 32]), header.cluster));
    keys.sort_by_key(|key| key.verifying_key().to_bytes());
    certificate.votes =
        keys.iter().take(signers).enumerate().map(|(i, key)| (i as u16, key.sign(&message).to_bytes())).collect();
    certificate.into()
}

fn rejoin(index: u32, anchor: Anchor, proof: Option<Vec<u8>>) -> sp_runtime::DispatchResult {
    Clusters::rejoin(RuntimeOrigin::signed(worker(index)), 0, anchor, proof)
}

#[test]
fn clusters_have_one_or_four_to_seven_free_workers() {
    with_cluster(|| {
        let create = |workers: Vec<AccountId>| Clusters::create_cluster(RuntimeOrigin::signed(worker(0)), workers);
        assert_noop!(create(vec![]), Error::<Runtime>::MemberCount);
        assert_noop!(create((4..6).map(worker).collect()), Error::<Runtime>::MemberCount);
        assert_noop!(create(vec![worker(4); 4]), Error::<Runtime>::MemberCount);
        assert_noop!(create((3..7).map(worker).collect()), Error::<Runtime>::InCluster);
        assert_noop!(create(vec![worker(4)]), Error::<Runtime>::NotRegistered);
        assert_ok!(register(&worker(4), &key(4, 0)));
        assert_ok!(create(vec![worker(4)]));
        assert_eq!(Stored::<Runtime>::get(1).unwrap().members[0].identity, identity(4, 0));
        pallet_clusters::Open::<Runtime>::put(false);
        assert_noop!(create(vec![worker(5)]), Error::<Runtime>::NotOpen);
    });
}

#[test]
fn the_creator_sets_a_clusters_policy_within_its_ranges() {
    with_cluster(|| {
        let (alice, bob) = (RuntimeOrigin::signed(account("//Alice")), RuntimeOrigin::signed(account("//Bob")));
        let policy = ClusterPolicy { version: 99, memory_bytes: 256 << 20, ..ClusterPolicy::DEFAULT };
        assert_noop!(Clusters::set_policy(bob, 0, policy), Error::<Runtime>::NotCreator);
        assert_noop!(Clusters::set_policy(alice.clone(), 1, policy), Error::<Runtime>::NoCluster);
        let wrong = ClusterPolicy { memory_bytes: 2 << 30, ..policy };
        assert_noop!(Clusters::set_policy(alice.clone(), 0, wrong), Error::<Runtime>::PolicyRange);
        assert_ok!(Clusters::set_policy(alice, 0, policy));
        assert_eq!(Policies::<Runtime>::get(0), Some(ClusterPolicy { version: 1, ..policy }));
        assert_ok!(Clusters::set_policy(RuntimeOrigin::root(), 0, ClusterPolicy::DEFAULT));
        assert_eq!(Policies::<Runtime>::get(0), Some(ClusterPolicy { version: 2, ..ClusterPolicy::DEFAULT }));
    });
}

#[test]
fn an_epoch_starts_when_all_members_rejoined_with_their_present_identities() {
    with_cluster(|| {
        let (low, low_proof) = finalised(0, 10, 0, 3);
        let (high, high_proof) = finalised(0, 12, 0, 3);
        assert_ok!(register(&worker(0), &key(0, 1)));
        assert_ok!(rejoin(0, Anchor::default(), None));
        assert_ok!(rejoin(1, high, Some(high_proof)));
        assert_ok!(rejoin(2, low, Some(low_proof.clone())));
        // Worker 0 starts once more: what it said with its old identity does not count.
        assert_ok!(register(&worker(0), &key(0, 2)));
        assert_ok!(rejoin(3, low, Some(low_proof)));
        assert_eq!(Stored::<Runtime>::get(0).unwrap().epoch, 0);
        assert_ok!(rejoin(0, Anchor::default(), None));

        let record = Stored::<Runtime>::get(0).unwrap();
        assert_eq!((record.epoch, record.floor), (1, high));
        assert_eq!(record.members[0].identity, identity(0, 2));
        assert_eq!(record.members[1].identity, identity(1, 0));
        assert_eq!(Epochs::<Runtime>::get(0, 0).unwrap()[0].identity, identity(0, 0));
        assert_eq!(Epochs::<Runtime>::get(0, 1).unwrap(), record.members);
        assert!(pallet_clusters::Rejoining::<Runtime>::get(0).is_empty());
        assert_noop!(rejoin(0, Anchor::default(), None), Error::<Runtime>::BelowFloor);
    });
}

#[test]
fn the_others_finish_the_epoch_of_a_member_that_started_anew() {
    with_cluster(|| {
        let close = |(_, proof): (Anchor, Vec<u8>)| Clusters::close(RuntimeOrigin::signed(account("//Bob")), 0, proof);
        let failed = |result: frame_support::dispatch::DispatchResultWithPostInfo| result.unwrap_err().error;
        let plain = finalised(0, 10, 0, 3);
        assert_eq!(failed(close(plain.clone())), Error::<Runtime>::NothingNew.into());
        assert_ok!(register(&worker(2), &key(2, 1)));
        assert_ok!(rejoin(2, Anchor::default(), None));
        let Some(Plan::Seal { members }) = Plans::<Runtime>::get(0) else { panic!("no plan") };
        assert_eq!((members[1].identity, members[2].identity), (identity(1, 0), identity(2, 1)));
        // It starts once more: the plan stays, as members may have followed it.
        assert_ok!(register(&worker(2), &key(2, 2)));
        assert_ok!(rejoin(2, Anchor::default(), None));
        assert_eq!(Plans::<Runtime>::get(0), Some(Plan::Seal { members: members.clone() }));

        let seal = Seal::Last(seal(0, 1, &members));
        assert_eq!(failed(close(plain)), Error::<Runtime>::BadProof.into());
        assert_eq!(failed(close(sealing(0, 10, 0, 2, seal))), Error::<Runtime>::BadProof.into());
        assert_eq!(failed(close(sealing(0, 10, 0, 3, Seal::Last(Hash([1; 32]))))), Error::<Runtime>::BadProof.into());
        let (behind, void) = sealing(0, 11, 0, 3, Seal::Behind);
        assert_eq!(failed(close((behind, void.clone()))), Error::<Runtime>::BadProof.into());
        assert_noop!(rejoin(0, behind, Some(void)), Error::<Runtime>::BadProof);
        let (anchor, proof) = sealing(0, 10, 0, 3, seal);
        assert_eq!(close((anchor, proof.clone())).unwrap().pays_fee, frame_support::dispatch::Pays::No);
        let record = Stored::<Runtime>::get(0).unwrap();
        assert_eq!((record.epoch, record.floor, &record.members), (1, anchor, &members));
        assert_eq!(Epochs::<Runtime>::get(0, 1).unwrap(), members);
        assert_eq!(failed(close((anchor, proof))), Error::<Runtime>::BadProof.into());
        // What waits for the epoch after that is planned at once.
        let Some(Plan::Seal { members }) = Plans::<Runtime>::get(0) else { panic!("no plan") };
        assert_eq!(members[2].identity, identity(2, 2));
    });
}

#[test]
fn all_report_when_too_few_are_left_to_finish_the_epoch() {
    with_cluster(|| {
        let (high, high_proof) = finalised(0, 12, 0, 3);
        assert_ok!(register(&worker(0), &key(0, 1)));
        assert_ok!(rejoin(0, Anchor::default(), None));
        let Some(Plan::Seal { members }) = Plans::<Runtime>::get(0) else { panic!("no plan") };
        assert_ok!(register(&worker(1), &key(1, 1)));
        assert_ok!(rejoin(1, Anchor::default(), None));
        assert_eq!(Plans::<Runtime>::get(0), Some(Plan::Report));
        // The plan to seal counts no more, even if two members that have started anew since had followed it.
        let (_, proof) = sealing(0, 13, 0, 3, Seal::Last(seal(0, 1, &members)));
        let close = Clusters::close(RuntimeOrigin::signed(account("//Bob")), 0, proof);
        assert_eq!(close.unwrap_err().error, Error::<Runtime>::NothingNew.into());
        assert_ok!(rejoin(2, Anchor::default(), None));
        assert_ok!(rejoin(3, high, Some(high_proof)));
        let record = Stored::<Runtime>::get(0).unwrap();
        assert_eq!((record.epoch, record.floor, record.members[1].identity), (1, high, identity(1, 1)));
        assert_eq!(Plans::<Runtime>::get(0), None);
    });
}

#[test]
fn an_anchor_needs_a_quorum_of_its_own_epoch_and_cannot_lie_about_its_height() {
    with_cluster(|| {
        let (anchor, proof) = finalised(0, 10, 0, 3);
        assert_noop!(rejoin(4, anchor, Some(proof.clone())), Error::<Runtime>::NotMember);
        assert_noop!(rejoin(0, anchor, None), Error::<Runtime>::NoProof);
        assert_noop!(rejoin(0, Anchor { height: 11, ..anchor }, Some(proof.clone())), Error::<Runtime>::BadProof);
        assert_noop!(rejoin(0, anchor, Some(vec![0; 17_000])), Error::<Runtime>::NoProof);
        for (anchor, proof) in [finalised(0, 10, 0, 2), finalised(0, 10, 1, 3), finalised(1, 10, 0, 3)] {
            assert_noop!(rejoin(0, anchor, Some(proof)), Error::<Runtime>::BadProof);
        }
        assert_ok!(rejoin(0, anchor, Some(proof)));
    });
}

#[test]
fn a_cluster_never_goes_back_behind_what_the_chain_was_shown() {
    use frame_support::dispatch::Pays;
    with_cluster(|| {
        let show = |(_, proof): (Anchor, Vec<u8>)| {
            let shown = Clusters::checkpoint(RuntimeOrigin::signed(account("//Bob")), 0, proof);
            shown.map(|info| info.pays_fee).map_err(|failed| failed.error)
        };
        let record = || Stored::<Runtime>::get(0).unwrap();
        let (high, low) = (finalised(0, 12, 0, 3), finalised(0, 10, 0, 3));
        assert_eq!(show(finalised(0, 12, 0, 2)), Err(Error::<Runtime>::BadProof.into()));
        assert_eq!(show(low.clone()), Ok(Pays::Yes), "the chain has just begun");
        assert_eq!(show(low.clone()), Err(Error::<Runtime>::NothingNew.into()));
        System::set_block_number(1 + pallet_clusters::SPAN);
        assert_eq!(show(high.clone()), Ok(Pays::No));
        let block = 1 + pallet_clusters::SPAN;
        assert_eq!(record().checkpoint, Checkpoint { anchor: high.0, epoch: 0, block, alive_ms: NOW });
        assert_eq!(show(low.clone()), Err(Error::<Runtime>::NothingNew.into()));

        // The disks of all have lost it: they wait for one that has not.
        for index in 0..4 {
            assert_ok!(register(&worker(index), &key(index, 1)));
            assert_ok!(rejoin(index, low.0, Some(low.1.clone())));
        }
        assert_eq!((record().epoch, Plans::<Runtime>::get(0)), (0, Some(Plan::Report)));
        assert_ok!(rejoin(2, high.0, Some(high.1.clone())));
        assert_eq!((record().epoch, record().floor), (1, high.0));
    });
}

#[test]
fn code_holds_a_deposit_until_it_is_removed() {
    with_cluster(|| {
        let (alice, hash) = (account("//Alice"), Hash([6; 32]));
        let signed = || RuntimeOrigin::signed(alice.clone());
        let before = Balances::free_balance(&alice);
        assert_noop!(Clusters::upload_code(signed(), hash, 0), Error::<Runtime>::CodeSize);
        assert_noop!(Clusters::upload_code(signed(), hash, MAX_CODE as u32 + 1), Error::<Runtime>::CodeSize);
        assert_ok!(Clusters::upload_code(signed(), hash, 1000));
        assert_eq!(before - Balances::free_balance(&alice), CODE_DEPOSIT + 1000 * CODE_DEPOSIT_PER_BYTE);
        assert_noop!(Clusters::upload_code(signed(), hash, 1000), Error::<Runtime>::CodeExists);
        let bob = RuntimeOrigin::signed(account("//Bob"));
        assert_noop!(Clusters::remove_code(bob, hash), Error::<Runtime>::NotOwner);
        assert_ok!(Clusters::remove_code(signed(), hash));
        assert_eq!(Balances::free_balance(&alice), before);
    });
}

#[test]
fn a_contract_has_one_place_and_keeps_its_code() {
    with_cluster(|| {
        let (alice, hash) = (account("//Alice"), Hash([6; 32]));
        let create = |cluster, salt: &[u8]| {
            Clusters::create_contract(RuntimeOrigin::signed(alice.clone()), cluster, hash, salt.to_vec(), false)
        };
        assert_noop!(create(0, b""), Error::<Runtime>::NoCode);
        assert_ok!(Clusters::upload_code(RuntimeOrigin::signed(alice.clone()), hash, 1000));
        assert_noop!(create(1, b""), Error::<Runtime>::NoCluster);
        assert_noop!(create(0, &[0; 65]), Error::<Runtime>::SaltTooLong);
        assert_ok!(create(0, b"a"));
        assert_noop!(create(0, b"a"), Error::<Runtime>::ContractExists);
        assert_ok!(create(0, b"b"));
        let address = contract_address(&Plain(alice.clone().into()), 0, &hash, b"a");
        let record = pallet_clusters::Contracts::<Runtime>::get(address).unwrap();
        assert_eq!((record.cluster, record.code_hash), (0, hash));
        let remove = Clusters::remove_code(RuntimeOrigin::signed(alice.clone()), hash);
        assert_eq!(remove.unwrap_err(), Error::<Runtime>::CodeInUse.into());
    });
}

#[test]
fn code_is_replaced_only_by_the_deployer_of_an_upgradable_contract() {
    with_cluster(|| {
        let (alice, bob) = (account("//Alice"), account("//Bob"));
        let signed = |who: &AccountId| RuntimeOrigin::signed(who.clone());
        let [first, second, third] = [6, 7, 8].map(|byte| Hash([byte; 32]));
        for hash in [first, second, third] {
            assert_ok!(Clusters::upload_code(signed(&alice), hash, 1000));
        }
        let create = |salt: &[u8], upgradable| {
            assert_ok!(Clusters::create_contract(signed(&alice), 0, first, salt.to_vec(), upgradable));
            contract_address(&Plain(alice.clone().into()), 0, &first, salt)
        };
        let (fixed, open) = (create(b"fixed", false), create(b"open", true));
        let upgrade = |who: &AccountId, address, hash| Clusters::upgrade_contract(signed(who), address, hash);
        let record = |address| pallet_clusters::Contracts::<Runtime>::get(address).unwrap();

        assert_noop!(upgrade(&alice, fixed, second), Error::<Runtime>::NotUpgradable);
        assert_noop!(upgrade(&bob, open, second), Error::<Runtime>::NotDeployer);
        assert_noop!(upgrade(&alice, open, Hash([9; 32])), Error::<Runtime>::NoCode);
        assert_noop!(upgrade(&alice, Plain([1; 32]), second), Error::<Runtime>::NoContract);
        assert_ok!(upgrade(&alice, open, second));
        assert_eq!((record(open).code_hash, record(open).present_code, record(open).version), (first, second, 1));
        assert_ok!(upgrade(&alice, open, third));
        assert_eq!((record(open).present_code, record(open).version), (third, 2));

        // What no contract runs any more may be given up; what it runs, and what its address is made of, may not.
        let remove = |hash| Clusters::remove_code(signed(&alice), hash);
        assert_ok!(remove(second));
        assert_eq!(remove(third).unwrap_err(), Error::<Runtime>::CodeInUse.into());
        assert_eq!(remove(first).unwrap_err(), Error::<Runtime>::CodeInUse.into());

        assert_noop!(Clusters::freeze_contract(signed(&bob), open), Error::<Runtime>::NotDeployer);
        assert_ok!(Clusters::freeze_contract(signed(&alice), open));
        assert_noop!(upgrade(&alice, open, first), Error::<Runtime>::NotUpgradable);
        assert_noop!(Clusters::freeze_contract(signed(&alice), open), Error::<Runtime>::NotUpgradable);
        assert_eq!((record(open).version, record(open).upgradable), (2, false));
    });
}

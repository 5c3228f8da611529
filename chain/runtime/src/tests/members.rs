use super::{
    clusters::{certified_by, finalised, header, key, with_cluster},
    *,
};
use frame_support::{assert_noop, assert_ok};
use pallet_clusters::{
    ACCUSATION_LIFE, AnchorProof, Clusters as Stored, Error, GRACE, OFFER_LIFE, PATIENCE, Placement, Plans, Pool,
};
use phala_primitives::{
    ClusterPolicy, EntryHeader,
    records::{Anchor, ClusterRecord, Plan, Seal, seal},
};

fn plain(index: u32) -> Plain {
    Plain(worker(index).into())
}

fn record() -> ClusterRecord {
    Stored::<Runtime>::get(0).unwrap()
}

fn signed(index: u32) -> RuntimeOrigin {
    RuntimeOrigin::signed(worker(index))
}

fn creator() -> RuntimeOrigin {
    RuntimeOrigin::signed(account("//Alice"))
}

/// Registers workers and puts them into the pool.
fn offer(indices: std::ops::Range<u32>) {
    for index in indices {
        register(&worker(index), &key(index, 0)).unwrap();
        assert_ok!(Clusters::offer(signed(index)));
    }
}

fn accuse(by: u32, accused: u32) -> sp_runtime::DispatchResult {
    Clusters::accuse(signed(by), 0, plain(accused))
}

/// The next entry of the present epoch as all but one of the members prove it.
fn proof(height: u64, seal: Seal) -> (Anchor, Vec<u8>) {
    let record = record();
    let header = EntryHeader { epoch: record.epoch, height, seal, ..header() };
    let keys = record.members.iter().map(|member| {
        (0..8).map(|index| key(index, 0)).find(|key| key.verifying_key().to_bytes() == member.identity).unwrap()
    });
    let finality = certified_by(&header, keys.collect(), record.members.len() - 1);
    (header.anchor(), AnchorProof { header, finality }.encode())
}

/// The members bring the epoch to its end.
fn close(height: u64) {
    let Some(Plan::Seal { members }) = Plans::<Runtime>::get(0) else { panic!("no plan") };
    let (_, proof) = proof(height, Seal::Last(seal(0, record().epoch + 1, &members)));
    assert_ok!(Clusters::close(creator(), 0, proof));
    assert_eq!(record().members, members);
}

fn ready(index: u32, height: u64) {
    let (anchor, proof) = proof(height, Seal::Open);
    assert_ok!(Clusters::rejoin(signed(index), 0, anchor, Some(proof)));
}

fn members() -> Vec<Plain> {
    let mut members: Vec<_> = record().members.iter().map(|member| member.worker).collect();
    members.sort();
    members
}

fn sorted(indices: impl IntoIterator<Item = u32>) -> Vec<Plain> {
    let mut workers: Vec<_> = indices.into_iter().map(plain).collect();
    workers.sort();
    workers
}

#[test]
fn a_worker_has_one_place() {
    with_cluster(|| {
        assert_noop!(Clusters::offer(signed(4)), Error::<Runtime>::NotRegistered);
        assert_noop!(Clusters::offer(signed(0)), Error::<Runtime>::InCluster);
        offer(4..6);
        assert_ok!(Clusters::offer(signed(4)));
        assert_eq!(Pool::<Runtime>::count(), 2);
        assert_ok!(Clusters::retire(signed(5)));
        assert_ok!(Clusters::create_cluster(creator(), vec![worker(4)]));
        assert_eq!(Pool::<Runtime>::count(), 0);
    });
}

#[test]
fn a_quorum_replaces_a_silent_member() {
    with_cluster(|| {
        assert_noop!(accuse(4, 3), Error::<Runtime>::NotMember);
        assert_noop!(accuse(3, 3), Error::<Runtime>::NotMember);
        assert_ok!(accuse(0, 3));
        assert_ok!(accuse(0, 3));
        assert_ok!(accuse(1, 3));
        assert_ok!(accuse(2, 3));
        assert!(record().wanted.is_empty(), "nobody is idle");
        offer(4..5);
        assert_ok!(accuse(2, 3));
        assert_eq!(record().wanted, [0, 1, 2, 4].map(plain));
        assert_eq!((Placement::<Runtime>::get(worker(4)), Pool::<Runtime>::count()), (Some(0), 0));
        assert_eq!(Plans::<Runtime>::get(0), None, "it does not hold the log yet");
        ready(4, 9);
        close(12);
        assert_eq!(members(), sorted([0, 1, 2, 4]));
        assert!(record().wanted.is_empty());
        // The other one has no place any more, and may get another.
        assert_noop!(Clusters::rejoin(signed(3), 0, Anchor::default(), None), Error::<Runtime>::NotMember);
        assert_ok!(Clusters::offer(signed(3)));
        assert_ok!(accuse(0, 4));
    });
}

#[test]
fn one_accuser_is_not_enough_and_what_was_said_ends_with_the_epoch() {
    with_cluster(|| {
        offer(4..5);
        assert_ok!(accuse(0, 3));
        assert_ok!(accuse(1, 3));
        assert_ok!(accuse(1, 2));
        assert!(record().wanted.is_empty());
        assert_ok!(register(&worker(3), &key(3, 1)));
        assert_ok!(Clusters::rejoin(signed(3), 0, Anchor::default(), None));
        close(12);
        assert_ok!(accuse(2, 3));
        assert!(record().wanted.is_empty());
    });
}

#[test]
fn what_was_said_long_ago_does_not_count() {
    with_cluster(|| {
        offer(4..7);
        assert_ok!(accuse(0, 3));
        assert_ok!(accuse(1, 3));
        pass(ACCUSATION_LIFE);
        assert_ok!(accuse(1, 3));
        pass(1);
        assert_ok!(accuse(2, 3));
        assert_eq!(record().wanted, [], "the first to say so says it no more");
        assert_ok!(accuse(0, 3));
        assert_eq!(record().wanted.len(), 4);
    });
}

#[test]
fn who_accused_others_before_it_died_does_not_hold_up_a_cluster() {
    with_cluster(|| {
        offer(4..7);
        assert_ok!(accuse(2, 0));
        pass(ACCUSATION_LIFE + 1);
        stand_still();
        let accusations = || [(0, 2), (0, 3), (1, 2), (1, 3)].map(|(by, accused)| accuse(by, accused).unwrap());
        accusations();
        pass(GRACE);
        accusations();
        assert_eq!(Plans::<Runtime>::get(0), Some(Plan::Report));
    });
}

#[test]
fn a_quorum_replaces_a_silent_reader_once_somebody_is_idle() {
    with_cluster(|| {
        offer(4..5);
        assert_ok!(Clusters::set_readers(creator(), 0, 1));
        assert_noop!(accuse(4, 0), Error::<Runtime>::NotMember);
        (0..3).for_each(|by| accuse(by, 4).unwrap());
        assert_eq!(record().readers, [plain(4)], "a place is not given up for nobody");
        offer(5..6);
        assert_ok!(accuse(3, 4));
        assert_eq!((record().readers, Placement::<Runtime>::get(worker(4))), (vec![plain(5)], None));
        assert_noop!(accuse(0, 4), Error::<Runtime>::NotMember);
        // It may read again: what was said of it is forgotten.
        assert_ok!(Clusters::offer(signed(4)));
        assert_ok!(Clusters::drain(signed(5), 0, plain(5)));
        assert_eq!(record().readers, [plain(4)]);
        assert_ok!(Clusters::offer(signed(5)));
        assert_ok!(accuse(0, 4));
        assert_eq!(record().readers, [plain(4)]);
    });
}

#[test]
fn a_member_is_drained_by_its_operator_or_the_creator() {
    with_cluster(|| {
        let drain = |by: RuntimeOrigin, index| Clusters::drain(by, 0, plain(index));
        assert_noop!(drain(signed(1), 2), Error::<Runtime>::NotCreator);
        assert_noop!(drain(creator(), 6), Error::<Runtime>::NotMember);
        assert_noop!(drain(signed(2), 2), Error::<Runtime>::NobodyIdle);
        offer(4..7);
        assert_ok!(drain(signed(2), 2));
        assert_ok!(drain(creator(), 1));
        assert_noop!(drain(creator(), 0), Error::<Runtime>::TooManyLeave);
        let wanted = record().wanted;
        assert_eq!((&wanted[..2], Pool::<Runtime>::count()), (&[0, 3].map(plain)[..], 1));
        let new: Vec<u32> = (4..7).filter(|index| wanted.contains(&plain(*index))).collect();
        ready(new[0], 5);
        assert_eq!(Plans::<Runtime>::get(0), None);
        ready(new[1], 6);
        close(9);
        assert_eq!(members(), sorted([0, 3, new[0], new[1]]));
    });
}

#[test]
fn who_does_not_come_loses_its_place_and_old_offers_do_not_count() {
    with_cluster(|| {
        let accusers = || (0..3).for_each(|by| accuse(by, 3).unwrap());
        offer(4..5);
        accusers();
        assert_eq!(record().wanted, [0, 1, 2, 4].map(plain));
        System::set_block_number(1 + OFFER_LIFE);
        offer(5..6);
        accusers();
        assert_eq!(record().wanted, [0, 1, 2, 4].map(plain), "it has time left");
        System::set_block_number(2 + PATIENCE);
        accusers();
        assert_eq!(record().wanted, [0, 1, 2, 5].map(plain));
        assert_eq!(Placement::<Runtime>::get(worker(4)), None);
        assert_ok!(Clusters::offer(signed(4)));
        System::set_block_number(3 + PATIENCE + OFFER_LIFE);
        assert_noop!(Clusters::resize(creator(), 0, 5), Error::<Runtime>::NobodyIdle);
        assert_ok!(Clusters::offer(signed(4)));
        assert_ok!(Clusters::resize(creator(), 0, 5));
        assert_eq!(record().wanted.len(), 5);
    });
}

/// Lets time pass in which the chain is shown nothing: as long as the policy says.
fn stand_still() {
    let policy = ClusterPolicy { recover_ms: 60_000, ..ClusterPolicy::DEFAULT };
    assert_ok!(Clusters::set_policy(creator(), 0, policy));
    pallet_timestamp::Now::<Runtime>::mutate(|now| *now += 60_001);
}

fn pass(blocks: u32) {
    System::set_block_number(System::block_number() + blocks);
}

fn reports(index: u32, height: u64) {
    let (anchor, proof) = finalised(0, height, 0, 3);
    assert_ok!(Clusters::rejoin(signed(index), 0, anchor, Some(proof)));
}

#[test]
fn those_left_go_on_when_too_many_are_gone() {
    with_cluster(|| {
        offer(4..7);
        let accusations = || {
            for (by, accused) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
                assert_ok!(accuse(by, accused));
            }
        };
        accusations();
        assert_eq!((record().wanted, Plans::<Runtime>::get(0)), (vec![], None), "it may be slow");
        stand_still();
        accusations();
        assert_eq!((record().wanted, Plans::<Runtime>::get(0)), (vec![], None), "so may the chain");
        pass(GRACE);
        accusations();
        let wanted = record().wanted;
        assert_eq!(
            (&wanted[..2], wanted.len(), Plans::<Runtime>::get(0)),
            (&[0, 1].map(plain)[..], 4, Some(Plan::Report))
        );
        let new: Vec<u32> = (4..7).filter(|index| wanted.contains(&plain(*index))).collect();
        reports(0, 20);
        reports(1, 18);
        reports(new[0], 10);
        assert_eq!(record().epoch, 0);
        reports(new[1], 10);
        assert_eq!((record().epoch, record().floor), (1, finalised(0, 20, 0, 3).0));
        assert_eq!(members(), sorted([0, 1, new[0], new[1]]));
        let gone = vec![plain(2), plain(3)];
        let floor = record().floor;
        System::assert_has_event(pallet_clusters::Event::Recovered { cluster: 0, floor, gone }.into());
    });
}

#[test]
fn one_that_never_comes_back_does_not_hold_up_a_cluster_that_restarted() {
    with_cluster(|| {
        offer(4..5);
        (0..3).for_each(|index| {
            register(&worker(index), &key(index, 1)).unwrap();
            reports(index, 10 + u64::from(index));
        });
        assert_eq!(Plans::<Runtime>::get(0), Some(Plan::Report));
        assert_ok!(accuse(0, 3));
        assert!(record().wanted.is_empty());
        stand_still();
        assert_ok!(accuse(1, 3));
        pass(GRACE);
        assert_ok!(accuse(1, 3));
        assert_eq!(record().wanted, [0, 1, 2, 4].map(plain));
        reports(4, 12);
        assert_eq!((record().epoch, record().floor.height), (1, 12));
        assert_eq!(members(), sorted([0, 1, 2, 4]));
    });
}

#[test]
fn a_cluster_that_shows_an_entry_is_not_recovered() {
    with_cluster(|| {
        offer(4..6);
        stand_still();
        for _ in 0..2 {
            for (by, accused) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
                assert_ok!(accuse(by, accused));
            }
            pass(GRACE);
        }
        assert_eq!(Plans::<Runtime>::get(0), Some(Plan::Report));
        // They were away, and are back.
        assert_ok!(Clusters::checkpoint(creator(), 0, finalised(0, 20, 0, 3).1));
        [0, 1, 4, 5].into_iter().for_each(|index| reports(index, 20));
        assert_eq!(record().epoch, 0);
        [2, 3].into_iter().for_each(|index| reports(index, 20));
        assert_eq!((record().epoch, members()), (1, sorted(0..4)));
    });
}

#[test]
fn nobody_takes_a_cluster_over_by_accusing_those_who_live() {
    with_cluster(|| {
        offer(4..7);
        let all = |by: u32| (0..4).filter(|other| *other != by).for_each(|other| accuse(by, other).unwrap());
        all(3);
        stand_still();
        // The others accuse whom they miss, and show so that they live.
        (0..3).for_each(|by| accuse(by, (by + 1) % 3).unwrap());
        pass(GRACE);
        all(3);
        assert_eq!((record().wanted, Plans::<Runtime>::get(0)), (vec![], None));
    });
}

#[test]
fn a_cluster_grows_and_shrinks() {
    with_cluster(|| {
        let resize = |size| Clusters::resize(creator(), 0, size);
        assert_noop!(Clusters::resize(signed(0), 0, 5), Error::<Runtime>::NotCreator);
        assert_noop!(resize(3), Error::<Runtime>::MemberCount);
        assert_noop!(resize(8), Error::<Runtime>::MemberCount);
        offer(4..6);
        assert_noop!(resize(7), Error::<Runtime>::NobodyIdle);
        offer(6..7);
        assert_ok!(resize(7));
        // It is wanted no more, and has no place.
        assert_ok!(resize(6));
        assert_eq!((Pool::<Runtime>::count(), Placement::<Runtime>::iter().count()), (0, 6));
        let out = (4..7).find(|index| Placement::<Runtime>::get(worker(*index)).is_none()).unwrap();
        assert_ok!(Clusters::offer(signed(out)));
        assert_ok!(resize(7));
        (4..7).for_each(|index| ready(index, 10));
        close(12);
        assert_eq!(members(), sorted(0..7));
        // With nobody idle it becomes smaller, but not too small.
        assert_ok!(Clusters::drain(signed(5), 0, plain(5)));
        close(14);
        assert_eq!(members(), sorted([0, 1, 2, 3, 4, 6]));
        assert_ok!(resize(4));
        close(20);
        assert_eq!((members().len(), record().epoch), (4, 3));
    });
}

#[test]
fn readers_come_from_the_pool_and_go_back_to_it() {
    with_cluster(|| {
        assert_noop!(Clusters::set_readers(signed(0), 0, 1), Error::<Runtime>::NotCreator);
        assert_noop!(Clusters::set_readers(creator(), 1, 1), Error::<Runtime>::NoCluster);
        assert_noop!(Clusters::set_readers(creator(), 0, 1), Error::<Runtime>::NobodyIdle);
        assert_noop!(Clusters::set_readers(creator(), 0, 33), Error::<Runtime>::TooManyReaders);
        offer(4..7);
        assert_ok!(Clusters::set_readers(creator(), 0, 2));
        let readers = record().readers;
        assert_eq!((readers.len(), Pool::<Runtime>::count()), (2, 1));
        for reader in &readers {
            assert_eq!(Placement::<Runtime>::get(sp_runtime::AccountId32::new(reader.0)), Some(0));
        }
        // They have one place, and no say.
        let index = (4..7).find(|index| plain(*index) == readers[0]).unwrap();
        assert_noop!(Clusters::offer(signed(index)), Error::<Runtime>::InCluster);
        assert_noop!(Clusters::accuse(signed(index), 0, plain(1)), Error::<Runtime>::NotMember);
        let (members, epoch) = (record().members, record().epoch);
        // One that leaves is replaced as long as somebody is idle.
        assert_noop!(Clusters::drain(signed(0), 0, readers[0]), Error::<Runtime>::NotCreator);
        assert_ok!(Clusters::drain(signed(index), 0, readers[0]));
        assert_eq!((record().readers.len(), Pool::<Runtime>::count()), (2, 0));
        assert!(!record().readers.contains(&readers[0]));
        assert_ok!(Clusters::drain(creator(), 0, readers[1]));
        assert_eq!(record().readers.len(), 1);
        assert_ok!(Clusters::offer(signed(index)));
        assert_ok!(Clusters::set_readers(creator(), 0, 0));
        assert_eq!((record().readers.len(), Placement::<Runtime>::iter().count()), (0, members.len()));
        assert_eq!((record().members, record().epoch), (members, epoch));
    });
}

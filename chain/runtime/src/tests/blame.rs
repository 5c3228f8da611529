use super::{
    clusters::{certified_by, header, key, with_cluster},
    *,
};
use frame_support::{assert_noop, assert_ok, dispatch::Pays};
use pallet_clusters::{
    BARRED, Clusters as Stored, Convictions, Epochs, Error, Event, Offences, PATIENCE, Placement, Plans, Pool,
};
use phala_primitives::{
    Executed,
    misbehaviour::{Ballot, Claim, DoubleVote, Misbehaviour, Proposal, QueryClaim, Vote, WrongResult},
    records::{ClusterRecord, Member, Plan, cluster_namespace},
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

fn offer(index: u32) -> sp_runtime::DispatchResult {
    register(&worker(index), &key(index, 0)).unwrap();
    Clusters::offer(signed(index))
}

/// Two votes with this key in a log with that namespace.
fn votes(key: &SigningKey, epoch: u64, namespace: &[u8]) -> Misbehaviour {
    let vote = |byte: u8| {
        let proposal = Proposal { parent_view: 2, digest: Hash([byte; 32]) };
        let mut vote = Vote { ballot: Ballot::Notarize(proposal), signature: [0; 64] };
        vote.signature = key.sign(&vote.message(namespace, epoch, 3)).to_bytes();
        vote
    };
    let identity = key.verifying_key().to_bytes();
    Misbehaviour::Votes(DoubleVote { identity, epoch, view: 3, first: vote(1), second: vote(2) })
}

fn here() -> Vec<u8> {
    cluster_namespace(&Hash([7; 32]), 0)
}

/// A receipt of worker `index` for another state than that which the others certify.
fn result(index: u32, said: u8) -> Misbehaviour {
    let claim = QueryClaim {
        contract: Plain([1; 32]),
        request_id: [2; 16],
        query_hash: Hash([3; 32]),
        cluster: 0,
        epoch: 0,
        height: 8,
        entry: Hash([4; 32]),
        entry_time_ms: NOW,
        state_root: Hash([said; 32]),
        time_ms: NOW,
        reply_hash: Hash([8; 32]),
    };
    let (claim, key) = (Claim::Query(claim), key(index, 0));
    let signature = key.sign(&claim.message(&Hash([7; 32]))).to_bytes();
    let executed = Executed { height: 8, state_root: Hash([9; 32]), crossing: Default::default() };
    let header = phala_primitives::EntryHeader { executed, ..header() };
    let finality = certified_by(&header, (0..4).map(|index| super::clusters::key(index, 0)).collect(), 3);
    let identity = key.verifying_key().to_bytes();
    Misbehaviour::Result(Box::new(WrongResult { identity, claim, signature, header, finality }))
}

fn bring(proof: &Misbehaviour) -> frame_support::dispatch::DispatchResultWithPostInfo {
    Clusters::convict(RuntimeOrigin::signed(account("//Bob")), 0, proof.encode())
}

#[test]
fn who_votes_against_itself_loses_its_seat_at_once_and_for_long() {
    with_cluster(|| {
        assert_ok!(offer(4));
        let proof = votes(&key(3, 0), 0, &here());
        assert_eq!(bring(&proof).unwrap().pays_fee, Pays::No);
        let offence = proof.offence(0);
        System::assert_has_event(Event::Convicted { worker: plain(3), offence: offence.clone() }.into());
        assert_eq!(record().wanted, [0, 1, 2, 4].map(plain));
        assert_eq!(Offences::<Runtime>::get(&offence), Some(1));
        let known = Convictions::<Runtime>::get(worker(3)).unwrap();
        assert_eq!((known.count, known.barred_until, known.latest), (1, 1 + BARRED, offence));
        // The same offence counts once, whatever shows it.
        assert_noop!(bring(&proof), Error::<Runtime>::NothingNew);
        let Misbehaviour::Votes(both) = proof else { panic!("no votes") };
        let swapped = DoubleVote { first: both.second, second: both.first, ..both };
        assert_noop!(bring(&Misbehaviour::Votes(swapped)), Error::<Runtime>::NothingNew);
        // Another one counts.
        assert_ok!(bring(&result(3, 5)));
        assert_eq!(Convictions::<Runtime>::get(worker(3)).unwrap().count, 2);
        // Out of its seat it waits in no pool, with no identity.
        Placement::<Runtime>::remove(worker(3));
        register(&worker(3), &key(3, 1)).unwrap();
        assert_noop!(Clusters::offer(signed(3)), Error::<Runtime>::Barred);
        let alone = Clusters::create_cluster(RuntimeOrigin::signed(account("//Alice")), vec![worker(3)]);
        assert_eq!(alone, Err(Error::<Runtime>::Barred.into()));
        System::set_block_number(1 + BARRED);
        assert_ok!(Clusters::offer(signed(3)));
    });
}

#[test]
fn who_lied_as_a_member_and_reads_by_now_loses_that_place() {
    with_cluster(|| {
        assert_ok!(offer(4));
        assert_ok!(offer(5));
        Stored::<Runtime>::mutate(0, |record| record.as_mut().unwrap().readers = vec![plain(4)]);
        Placement::<Runtime>::insert(worker(4), 0);
        Pool::<Runtime>::remove(worker(4));
        // It was a member of epoch 0.
        Epochs::<Runtime>::mutate(0, 0, |members| {
            members.as_mut().unwrap()[3] = Member { worker: plain(4), identity: key(4, 0).verifying_key().to_bytes() };
        });
        assert_ok!(bring(&votes(&key(4, 0), 0, &here())));
        assert_eq!((record().readers, record().wanted), (vec![plain(5)], vec![]));
        assert_eq!((Placement::<Runtime>::get(worker(4)), Placement::<Runtime>::get(worker(5))), (None, Some(0)));
    });
}

#[test]
fn what_proves_nothing_is_refused() {
    with_cluster(|| {
        assert_ok!(offer(4));
        let bad = [
            (votes(&key(3, 0), 1, &here()), Error::<Runtime>::NoEpoch),
            (votes(&key(4, 0), 0, &here()), Error::<Runtime>::NotMember),
            (votes(&key(3, 0), 0, &cluster_namespace(&Hash([7; 32]), 1)), Error::<Runtime>::BadProof),
            (votes(&key(3, 0), 0, &cluster_namespace(&Hash([6; 32]), 0)), Error::<Runtime>::BadProof),
            (result(3, 9), Error::<Runtime>::NoOffence),
        ];
        for (proof, error) in bad {
            assert_noop!(bring(&proof), error);
        }
        let Misbehaviour::Votes(good) = votes(&key(3, 0), 0, &here()) else { panic!("no votes") };
        let same = DoubleVote { second: good.first, ..good.clone() };
        assert_noop!(bring(&Misbehaviour::Votes(same)), Error::<Runtime>::NoOffence);
        let forged = DoubleVote { identity: key(2, 0).verifying_key().to_bytes(), ..good };
        assert_noop!(bring(&Misbehaviour::Votes(forged)), Error::<Runtime>::BadProof);
        let bytes = |proof: Vec<u8>| Clusters::convict(RuntimeOrigin::signed(account("//Bob")), 0, proof);
        assert_noop!(bytes(vec![1, 2, 3]), Error::<Runtime>::BadProof);
        assert_noop!(bytes(vec![0; 20 << 10]), Error::<Runtime>::BadProof);
        assert_eq!((record().wanted, Pool::<Runtime>::count()), (vec![], 1));
        assert_eq!(Convictions::<Runtime>::iter().count(), 0);
    });
}

#[test]
fn a_conviction_that_finds_nobody_to_take_the_seat_is_carried_out_upon_the_next_accusation() {
    with_cluster(|| {
        assert_ok!(bring(&result(3, 5)));
        assert!(record().wanted.is_empty(), "nobody is idle");
        assert_ok!(Clusters::accuse(signed(0), 0, plain(3)));
        assert!(record().wanted.is_empty());
        assert_ok!(offer(4));
        assert_ok!(Clusters::accuse(signed(0), 0, plain(2)));
        assert!(record().wanted.is_empty(), "one word is not enough against another one");
        assert_ok!(Clusters::accuse(signed(0), 0, plain(3)));
        assert_eq!(record().wanted, [0, 1, 2, 4].map(plain));
        // The one that comes instead does not come, and one that does is taken.
        System::set_block_number(2 + PATIENCE);
        assert_ok!(offer(5));
        assert_ok!(Clusters::accuse(signed(0), 0, plain(3)));
        assert_eq!(record().wanted, [0, 1, 2, 5].map(plain));
        // It may finish the log; it is not in the next epoch.
        assert_eq!(Plans::<Runtime>::get(0), None);
        let (anchor, proof) = super::clusters::finalised(0, 9, 0, 3);
        assert_ok!(Clusters::rejoin(signed(5), 0, anchor, Some(proof)));
        let Some(Plan::Seal { members }) = Plans::<Runtime>::get(0) else { panic!("no plan") };
        assert!(members.iter().all(|member| member.worker != plain(3)));
    });
}

#[test]
fn of_those_convicted_at_once_no_more_go_than_may_be_faulty() {
    with_cluster(|| {
        for index in 4..8 {
            assert_ok!(offer(index));
        }
        for index in [3, 2, 1] {
            assert_ok!(bring(&votes(&key(index, 0), 0, &here())));
        }
        let stay = record().wanted.iter().filter(|worker| (0..4).any(|index| plain(index) == **worker)).count();
        assert_eq!((stay, record().wanted.len()), (2, 4), "{:?}", record().wanted);
        assert_eq!(Convictions::<Runtime>::iter().count(), 3);
    });
}

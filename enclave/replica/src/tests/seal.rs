//! How an epoch's log ends, and what lies behind its end.

use super::cluster::*;
use crate::block::open_block;
use phala_primitives::{
    Code, Hash, Verdict,
    records::{Anchor, Seal},
};
use phala_session::Action;

const SEAL: Hash = Hash([5; 32]);

#[test]
fn the_log_ends_with_an_entry_for_which_each_voter_knows_the_reason() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    (0..3).for_each(|at| cluster.replicas[at].seal(SEAL));
    let (at, block) = cluster.propose(1);
    assert_eq!(open_block(&block, CLUSTER).unwrap().seal, Seal::Last(SEAL));
    assert_eq!(cluster.judge(at, &block), [Verdict::Accept, Verdict::Accept, Verdict::Accept, Verdict::Later]);
    cluster.replicas[3].seal(Hash([6; 32]));
    assert_eq!(cluster.judge(at, &block)[3], Verdict::Later, "another reason is none");
    cluster.replicas[3].seal(SEAL);
    assert_eq!(cluster.judge(at, &block), [Verdict::Accept; 4]);
    cluster.finalize(&block);
    let end = cluster.replicas[0].applied();
    for replica in &cluster.replicas {
        let held = replica.sealed().unwrap().unwrap();
        assert_eq!((held.anchor.height, held.anchor.digest), (end.height, block.digest()));
    }

    // Entries behind it may make it final and do nothing: commands wait for the next epoch.
    let call = Action::Call { contract, data: FLIP.to_vec() };
    let command = user.command(20, call, GAS, cluster.deadline());
    let mut ticket = cluster.replicas[2].submit(command.clone(), cluster.now).unwrap();
    let (at, behind) = cluster.propose(2);
    let header = open_block(&behind, CLUSTER).unwrap();
    assert_eq!((header.seal, header.count), (Seal::Behind, 0));
    assert_eq!(cluster.judge(at, &behind), [Verdict::Accept; 4]);
    cluster.finalize(&behind);
    assert_eq!(cluster.replicas[0].applied(), end);
    assert!(ticket.try_recv().unwrap().is_none(), "nobody has executed it");

    cluster.enter(Anchor { height: end.height, digest: end.digest });
    assert!(cluster.replicas.iter().all(|replica| replica.sealed().unwrap().is_none()));
    let header = cluster.step(2);
    assert_eq!((header.height, header.seal, header.count), (end.height + 1, Seal::Open, 1));
    let answer = ticket.try_recv().unwrap().expect("executed").unwrap();
    assert!(cluster.check(&command, answer).0.result.is_ok());
    assert!(flipped(&cluster, &user, contract));
}

#[test]
fn a_log_has_one_end_and_who_starts_anew_goes_on_above_it() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    cluster.replicas.iter().for_each(|replica| replica.seal(SEAL));
    let (_, first) = cluster.propose(0);
    cluster.finalize(&first);
    let (at, mut second) = cluster.propose(1);
    let mut header = open_block(&second, CLUSTER).unwrap();
    for seal in [Seal::Last(SEAL), Seal::Open] {
        header.seal = seal;
        second.header = codec::Encode::encode(&header).into();
        assert_eq!(cluster.judge(at, &second), [Verdict::Reject; 4]);
    }
    let end = cluster.replicas[0].applied();

    cluster.start();
    assert!(cluster.replicas.iter().all(|replica| replica.applied() == end));
    let refused = cluster.replicas[0].enter(cluster.epoch + 1, &cluster.members(), &Anchor::default());
    assert_eq!(refused.unwrap_err().known(), Some(Code::StorageFailed));
    cluster.enter(Anchor { height: end.height, digest: end.digest });
    cluster.call(&user, 21, contract, &FLIP).result.unwrap();
    assert!(flipped(&cluster, &user, contract));
}

//! Crashes, replays, new epochs, and peers that lag.

use super::cluster::*;
use crate::EntryLog;
use phala_primitives::{Code, records::Anchor};
use phala_session::Action;
use std::sync::Arc;

impl Cluster {
    /// Every process is killed, and the machines with them: what was not synced is gone, but for the entry logs.
    pub(super) fn crash(&mut self) {
        self.disks = self.disks.iter().map(Disk::crash).collect();
        self.replicas.clear();
        self.start();
    }

    pub(super) fn floor(&self) -> Anchor {
        let anchors = self.replicas.iter().map(|replica| replica.anchor().unwrap().anchor);
        anchors.max_by_key(|anchor| anchor.height).unwrap()
    }

    pub(super) fn records(&self, at: usize, from: u64) -> Vec<Vec<u8>> {
        (from..).map_while(|height| self.logs[at].read(height).unwrap()).collect()
    }
}

#[test]
fn a_crash_loses_nothing_that_was_acknowledged() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    let command = user.command(10, Action::Call { contract, data: FLIP.to_vec() }, GAS, cluster.now + 500_000);
    cluster.send(command.clone());
    let before = cluster.replicas[0].applied();
    assert!(cluster.replicas[0].state.durable_height() < before.height, "there is something to replay");
    cluster.crash();
    assert!(cluster.replicas.iter().all(|replica| replica.applied() == before));
    let held = cluster.replicas[0].anchor().unwrap();
    let (header, finality) = held.proof.unwrap();
    assert_eq!((held.anchor.height, held.anchor.digest), (before.height, before.digest));
    assert_eq!((header.digest(), finality.certificate.digest), (before.digest, before.digest));

    assert_eq!(cluster.replicas[0].submit(command.clone(), cluster.now).unwrap_err().known(), Some(Code::NotReady));
    cluster.enter(held.anchor);
    assert!(flipped(&cluster, &user, contract));
    // The command is known although the epoch is new: it is answered, not executed.
    let answer = cluster.replicas[0].submit(command, cluster.now).unwrap().try_recv().unwrap().unwrap();
    assert!(answer.is_ok());
    cluster.call(&user, 11, contract, &FLIP);
    assert!(!flipped(&cluster, &user, contract));
    assert_eq!(cluster.replicas[0].applied().height, before.height + 1);
    // Twice, so that the replay crosses the border between epochs.
    let before = cluster.replicas[0].applied();
    cluster.crash();
    assert!(cluster.replicas.iter().all(|replica| replica.applied() == before));
}

#[test]
fn a_replica_that_lost_its_log_catches_up_from_a_peer() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    cluster.call(&user, 10, contract, &FLIP);
    cluster.replicas.clear();
    cluster.disks[3] = Disk::default();
    cluster.logs[3] = Arc::default();
    cluster.start();
    let floor = cluster.floor();
    let empty = cluster.replicas[3].clone();
    assert_eq!(empty.applied().height, 0);
    assert_eq!(empty.enter(2, &cluster.members(), &floor).unwrap_err().known(), Some(Code::NotReady));
    let records = cluster.records(0, 1);
    assert!(empty.catch_up(&records[1..], &floor).is_err(), "a gap");
    let mut damaged = records.clone();
    damaged[0][40] ^= 1;
    assert!(empty.catch_up(&damaged, &floor).is_err());
    assert_eq!(empty.catch_up(&records[..2], &floor).unwrap(), 2);
    assert_eq!(empty.catch_up(&records[2..], &floor).unwrap(), floor.height);
    assert_eq!(empty.applied(), cluster.replicas[0].applied());
    cluster.enter(floor);
    assert!(flipped(&cluster, &user, contract));
    cluster.call(&user, 11, contract, &FLIP);
}

#[test]
fn a_replica_does_not_enter_an_epoch_that_does_not_fit_what_it_holds() {
    let user = User::new(1);
    let (mut cluster, _) = with_flipper(&user);
    cluster.crash();
    let (floor, members) = (cluster.floor(), cluster.members());
    let enter = |epoch, members: &[[u8; 32]], floor| {
        cluster.replicas[0].enter(epoch, members, &floor).map_err(|error| error.known().unwrap())
    };
    assert_eq!(enter(2, &members[1..], floor), Err(Code::NotMember));
    let below = Anchor { height: floor.height - 1, ..floor };
    assert_eq!(enter(2, &members, below), Err(Code::StorageFailed));
    let other = Anchor { digest: phala_primitives::Hash([1; 32]), ..floor };
    assert_eq!(enter(2, &members, other), Err(Code::StorageFailed));
    assert_eq!(enter(1, &members, floor), Err(Code::Internal), "an epoch never goes back");
    assert_eq!(enter(2, &members, floor), Err(Code::NotReady), "it has no keys");
    cluster.teach(&cluster.replicas[0], 2);
    assert_eq!(enter(2, &members, floor), Ok(()));
}

#[test]
fn what_the_host_did_to_the_log_is_cut_off_or_refused() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    for id in 10..14 {
        cluster.call(&user, id, contract, &FLIP);
    }
    let records = cluster.records(0, 1);
    let height = cluster.replicas[0].applied().height;
    let disk = cluster.disks[0].crash();
    cluster.replicas.clear();
    let identity = cluster.identities[0].clone();
    let with = |cluster: &mut Cluster, records: &[Vec<u8>]| {
        cluster.disks[0] = disk.crash();
        cluster.logs[0] = Arc::default();
        for (height, record) in (1..).zip(records) {
            cluster.logs[0].append(height, record).unwrap();
        }
        cluster.open(0, &identity)
    };
    assert_eq!(with(&mut cluster, &records).unwrap().applied().height, height);
    let mut damaged = records.clone();
    let last = damaged.len() - 2;
    damaged[last][60] ^= 1;
    let replica = with(&mut cluster, &damaged).unwrap();
    assert_eq!(replica.applied().height, height - 2);
    assert_eq!(cluster.logs[0].range(), Some((1, height - 2)));
    drop(replica);
    let mut swapped = records.clone();
    swapped.swap(last, last + 1);
    assert_eq!(with(&mut cluster, &swapped).unwrap().applied().height, height - 2);
    assert_eq!(with(&mut cluster, &[]).unwrap().applied().height, 1, "what was durable");
}

//! Keys of epochs: whoever left an epoch opens nothing of the next, and whoever stays goes on.

use super::cluster::*;
use crate::{EntryLog, MemoryLog, Replica, oldest_epoch};
use ed25519_dalek::SigningKey;
use phala_primitives::Code;
use std::sync::Arc;

fn reseal(replica: &Replica) {
    while replica.reseal().unwrap() {}
}

/// The oldest epochs of which replicas need keys to open what their disks hold.
fn needed(cluster: &Cluster) -> Vec<u64> {
    cluster.disks.iter().zip(&cluster.logs).map(|(disk, log)| oldest_epoch(disk, log.as_ref()).unwrap()).collect()
}

#[test]
fn whoever_was_a_member_opens_nothing_of_a_later_epoch() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    cluster.disks.push(Disk::default());
    cluster.logs.push(Arc::default());
    let former = cluster.open(4, &SigningKey::from_bytes(&[77; 32])).unwrap();
    assert_eq!(former.newest_keys(), 1);
    let asks = |now| former.newcomer().ask_offer(1, now, now).unwrap();
    assert!(cluster.replicas[0].asked(&asks(cluster.now), cluster.now).is_ok());
    let old = cluster.records(0, 1);
    cluster.enter(cluster.floor());
    cluster.call(&user, 10, contract, &FLIP);

    // Its keys open what was written then, and nothing since.
    let first = 1 + old.len() as u64;
    let new = cluster.records(0, first);
    assert!(!old.is_empty() && !new.is_empty());
    for (height, sealed) in (1..).zip(&old) {
        assert!(cluster.replicas[0].journal.open(height, sealed).is_some());
        assert!(former.journal.open(height, sealed).is_some());
    }
    for (height, sealed) in (first..).zip(&new) {
        assert!(cluster.replicas[0].journal.open(height, sealed).is_some());
        assert!(former.journal.open(height, sealed).is_none());
    }
    // Nor is it given anything.
    let refused = cluster.replicas[0].asked(&asks(cluster.now), cluster.now).err().unwrap();
    assert_eq!(refused.known(), Some(Code::Expired));
}

#[test]
fn state_of_earlier_epochs_is_sealed_anew_and_their_keys_are_not_needed_any_more() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    for epoch in 2..5 {
        cluster.enter(cluster.floor());
        assert_eq!(cluster.epoch, epoch);
        cluster.call(&user, 10 + epoch as u8, contract, &FLIP);
    }
    // The log goes back to the first epoch, and the state was made in it.
    assert_eq!(needed(&cluster), [0; 4]);
    cluster.replicas.iter().for_each(|replica| reseal(replica));
    assert_eq!(needed(&cluster), [1; 4]);
    cluster.now += 10_000;
    let height = cluster.step(1).height;
    for replica in &cluster.replicas {
        assert_eq!(replica.state.durable_height(), height);
        replica.prune(height).unwrap();
    }
    assert_eq!(needed(&cluster), [4; 4]);
    assert!(flipped(&cluster, &user, contract));

    // Started again with these keys alone, they go on.
    cluster.start();
    assert!(cluster.replicas.iter().all(|replica| replica.applied().height == height));
    cluster.enter(cluster.floor());
    assert!(flipped(&cluster, &user, contract));
    cluster.call(&user, 30, contract, &FLIP);
    assert!(!flipped(&cluster, &user, contract));
}

#[test]
fn who_comes_back_after_some_epochs_goes_on_from_its_own_disk() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    let (disk, log) = (cluster.disks[3].crash(), Arc::new(MemoryLog::default()));
    for (height, entry) in (1..).zip(cluster.records(3, 1)) {
        log.append(height, &entry).unwrap();
    }
    for _ in 0..3 {
        cluster.enter(cluster.floor());
        cluster.call(&user, 20 + cluster.epoch as u8, contract, &FLIP);
        cluster.replicas.iter().for_each(|replica| reseal(replica));
    }
    (cluster.disks[3], cluster.logs[3]) = (disk, log);
    cluster.start();
    let (back, floor) = (cluster.replicas[3].clone(), cluster.floor());
    assert!(back.applied().height < floor.height);
    let records = cluster.records(0, back.applied().height + 1);
    assert_eq!(back.catch_up(&records, &floor).unwrap(), floor.height);
    cluster.enter(floor);
    assert!(flipped(&cluster, &user, contract));
}

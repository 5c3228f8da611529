//! A reader follows by what entries changed, and believes only a quorum.

use super::cluster::*;
use crate::{Answer, Replica, Steps};
use codec::{Decode, Encode};
use ed25519_dalek::SigningKey;
use phala_primitives::{AccountId, Code, Coded, EntryHeader, Finality, Hash};
use phala_session::{Freshness, Query};
use std::sync::Arc;

/// What steps are made of.
type Parts = (Vec<EntryHeader>, Finality, Vec<phala_state::Change>);
/// What a broken member does to them.
type Change = dyn Fn(&mut Parts);

/// The first value that is set.
fn set(changes: &mut [phala_state::Change]) -> &mut phala_state::Item {
    let mut items = changes.iter_mut().filter_map(|change| match change {
        phala_state::Change::Set(item) => Some(item),
        phala_state::Change::Remove { .. } => None,
    });
    items.next().unwrap()
}

fn deploy(cluster: &mut Cluster, user: &User) -> AccountId {
    cluster.deploy(user, 1, &flipper(), &[&NEW[..], &[0]].concat())
}

fn root_at(cluster: &Cluster, height: u64) -> Hash {
    cluster.replicas[0].state.snapshot().root_at(height).unwrap().unwrap()
}

impl Cluster {
    /// A reader with an empty disk.
    fn reader(&mut self) -> Replica {
        self.disks.push(Disk::default());
        self.logs.push(Arc::default());
        self.open(4, &SigningKey::from_bytes(&[77; 32])).unwrap()
    }

    fn told(&self, reader: &Replica, member: usize) -> Result<Option<Vec<u8>>, Coded> {
        let question = reader.ask_changes(self.epoch, self.now).unwrap();
        Ok(match self.replicas[member].asked(&question, self.now)? {
            Answer::Now(answer) => Some(answer),
            Answer::Later(_) => None,
        })
    }

    /// Lets a reader go on as far as it can.
    fn follow(&self, reader: &Replica) -> u64 {
        while let Some(answer) = self.told(reader, 2).unwrap() {
            let steps = reader.steps(&answer).unwrap();
            assert_eq!(steps.epoch(), self.epoch);
            reader.advance(&steps, &self.members()).unwrap();
        }
        reader.applied().height
    }

    fn read(&self, reader: &Replica, user: &User, contract: AccountId) -> Result<bool, Coded> {
        let query = Query { contract, data: GET.to_vec(), value: 0, min_height: 0, freshness: Freshness::Any };
        match reader.query(user.id(), [4; 16], &query, self.now)? {
            phala_session::Answer::Query { output, .. } => Ok(output.data.last() == Some(&1)),
            _ => panic!("another kind of answer"),
        }
    }
}

#[test]
fn a_reader_has_every_state_that_a_quorum_names_and_goes_on_in_the_next_epoch() {
    let user = User::new(1);
    let mut cluster = Cluster::new();
    let reader = cluster.reader();
    assert!(cluster.told(&reader, 2).unwrap().is_none(), "there is nothing yet");
    assert_eq!(reader.ready_epoch().unwrap_err().known(), Some(Code::NotReady));
    let contract = deploy(&mut cluster, &user);
    cluster.step(0);
    let mut height = cluster.follow(&reader);
    let newest = cluster.replicas[0].applied().height;
    assert_eq!(height, newest - 1, "the newest is named by none");
    let mut is = cluster.read(&reader, &user, contract).unwrap();
    for id in 10..16 {
        cluster.call(&user, id, contract, &FLIP);
        cluster.step(3);
        let reached = cluster.follow(&reader);
        assert!(reached > height);
        height = reached;
        let was = std::mem::replace(&mut is, cluster.read(&reader, &user, contract).unwrap());
        assert_ne!(was, is);
    }
    assert_eq!(reader.applied().root, root_at(&cluster, height));

    // What a reader has is not less than what it was: it starts again from its disk, in another epoch of the members.
    let floor = cluster.floor();
    drop(reader);
    cluster.start();
    cluster.enter(floor);
    let reader = cluster.open(4, &SigningKey::from_bytes(&[78; 32])).unwrap();
    assert!(reader.applied().height <= height);
    let refused = cluster.told(&reader, 2).unwrap_err();
    assert_eq!(refused.known(), Some(Code::NotReady), "members that started anew remember nothing");
}

#[test]
fn a_reader_believes_no_broken_member() {
    let user = User::new(1);
    let mut cluster = Cluster::new();
    let reader = cluster.reader();
    assert!(cluster.told(&reader, 2).unwrap().is_none());
    let contract = deploy(&mut cluster, &user);
    cluster.step(0);
    let answer = cluster.told(&reader, 2).unwrap().unwrap();
    let good = reader.steps(&answer).unwrap();
    let members = cluster.members();
    let parts: Parts = Decode::decode(&mut good.encode().as_slice()).unwrap();
    assert!(!parts.2.is_empty());
    let refused = |parts: &Parts, members: &[[u8; 32]]| {
        let steps: Steps = Decode::decode(&mut parts.encode().as_slice()).unwrap();
        let before = reader.applied();
        let code = reader.advance(&steps, members).unwrap_err().known();
        assert_eq!(reader.applied(), before);
        code
    };
    assert_eq!(refused(&parts, &members[..2]), Some(Code::BadFinality));
    let changes: [(&Change, Code); 7] = [
        (&|(_, _, changes)| changes.clear(), Code::OtherHistory),
        (&|(_, _, changes)| drop(changes.pop()), Code::OtherHistory),
        (&|(_, _, changes)| set(changes).value.push(7), Code::OtherHistory),
        (&|(_, _, changes)| set(changes).key.push(7), Code::OtherHistory),
        (&|(headers, ..)| headers.truncate(1), Code::BadFinality),
        (&|(headers, ..)| headers[0].time_ms += 1, Code::BadFinality),
        (&|(headers, ..)| headers.last_mut().unwrap().executed.state_root.0[0] ^= 1, Code::BadFinality),
    ];
    for (at, (change, code)) in changes.into_iter().enumerate() {
        let mut parts = parts.clone();
        change(&mut parts);
        assert_eq!(refused(&parts, &members), Some(code), "{at}");
    }
    // Others have no key to ask with, and nobody can alter an answer.
    let mut altered = answer.clone();
    *altered.last_mut().unwrap() ^= 1;
    assert_eq!(reader.steps(&altered).err().and_then(|error| error.known()), Some(Code::Malformed));
    let height = reader.advance(&good, &members).unwrap();
    assert_eq!(refused(&parts, &members), Some(Code::BadFinality), "it is there already");
    assert_eq!(reader.applied().root, root_at(&cluster, height));
    assert!(cluster.read(&reader, &user, contract).is_ok());
}

#[test]
fn what_nobody_remembers_is_not_given() {
    let user = User::new(1);
    let mut cluster = Cluster::new();
    let reader = cluster.reader();
    deploy(&mut cluster, &user);
    cluster.step(0);
    assert_eq!(cluster.told(&reader, 2).unwrap_err().known(), Some(Code::NotReady));
    // It takes the state then, see `copies`, which is made after that question: what follows is remembered.
    cluster.step(0);
    cluster.step(0);
    let newest = cluster.replicas[2].applied().height;
    let steps = cluster.replicas[2].trail.lock().steps(newest - 2, newest, cluster.now).unwrap().unwrap();
    let parts: Parts = Decode::decode(&mut steps.encode().as_slice()).unwrap();
    assert_eq!(parts.0[0].height, newest - 1);
    // Nobody has asked for long.
    cluster.replicas[2].trail.lock().expire(cluster.now + 60_001);
    assert!(!cluster.replicas[2].trail.lock().is_wanted());
    let refused = cluster.replicas[2].trail.lock().steps(newest - 2, newest, cluster.now);
    assert_eq!(refused.err().and_then(|error| error.known()), Some(Code::NotReady));
}

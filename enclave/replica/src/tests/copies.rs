//! A newcomer takes the state of the others.

use super::cluster::*;
use crate::{Answer, EntryLog, Newcomer, Offer};
use codec::{Decode, Encode};
use phala_primitives::{Code, Coded, EntryHeader, Finality, records::Anchor};
use phala_state::{PIECES, Subtree};
use std::sync::Arc;

/// What an offer is made of.
type Parts = (Vec<EntryHeader>, Finality, Vec<Subtree>);

fn now(answer: Result<Answer, Coded>) -> Vec<u8> {
    match answer.unwrap() {
        Answer::Now(bytes) => bytes,
        Answer::Later(_) => panic!("it is not there yet"),
    }
}

impl Cluster {
    fn newcomer(&self) -> Newcomer {
        self.replicas[3].newcomer()
    }

    /// Has members keep the state of an entry that is yet to come; returns the question.
    fn wanted(&mut self, newcomer: &Newcomer, members: &[usize]) -> Vec<u8> {
        let question = newcomer.ask_offer(self.epoch, self.now + 10, self.now).unwrap();
        for member in members {
            assert!(matches!(self.replicas[*member].asked(&question, self.now), Ok(Answer::Later(_))));
        }
        for _ in 0..5 {
            self.step(0);
        }
        question
    }

    fn believed(&self, newcomer: &Newcomer, answer: &[u8]) -> Result<Offer, Coded> {
        newcomer.offer(answer, self.epoch, &self.members(), &Anchor::default())
    }
}

#[test]
fn a_newcomer_takes_the_state_in_pieces_from_several_members_and_goes_on_from_there() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    cluster.call(&user, 10, contract, &FLIP);
    let newcomer = cluster.newcomer();
    let question = cluster.wanted(&newcomer, &[0, 1]);
    let answers = [0, 1].map(|member| now(cluster.replicas[member].asked(&question, cluster.now)));
    let offers = answers.each_ref().map(|answer| cluster.believed(&newcomer, answer).unwrap());
    assert_eq!(offers[0].of(), offers[1].of());
    let offer = &offers[0];
    assert!(offer.of().height > 3 && offer.named_by().height > offer.of().height);
    // What comes after is not part of it.
    cluster.call(&user, 11, contract, &FLIP);
    cluster.call(&user, 12, contract, &FLIP);

    let disk = Disk::default();
    let restore = newcomer.restore(offer, disk.clone()).unwrap();
    let mut next = 0;
    while next < PIECES {
        let question = newcomer.ask_pieces(cluster.epoch, offer, next..PIECES, cluster.now).unwrap();
        let member = usize::from(next > 0);
        let pieces = newcomer.pieces(&now(cluster.replicas[member].asked(&question, cluster.now))).unwrap();
        restore.put(&pieces).unwrap();
        next = pieces.last().unwrap().0 + 1;
    }
    newcomer.finish(offer, restore).unwrap();

    let floor = cluster.floor();
    let records: Vec<_> = (offer.of().height + 1..).map_while(|at| cluster.logs[0].read(at).unwrap()).collect();
    cluster.replicas.clear();
    (cluster.disks[3], cluster.logs[3]) = (disk, Arc::default());
    cluster.start();
    let copy = cluster.replicas[3].clone();
    assert_eq!(copy.applied().height, offer.of().height);
    assert!(copy.anchor().unwrap().proof.is_none(), "its log holds nothing yet");
    copy.catch_up(&records, &floor).unwrap();
    assert_eq!(copy.applied(), cluster.replicas[0].applied());
    assert!(copy.anchor().unwrap().proof.is_some());
    cluster.enter(floor);
    assert!(flipped(&cluster, &user, contract));
    cluster.call(&user, 13, contract, &FLIP);
    assert!(!flipped(&cluster, &user, contract));
}

#[test]
fn an_offer_is_believed_only_with_a_quorums_word_for_the_root() {
    let (mut cluster, _) = with_flipper(&User::new(1));
    let newcomer = cluster.newcomer();
    let question = cluster.wanted(&newcomer, &[0]);
    let answer = now(cluster.replicas[0].asked(&question, cluster.now));
    let good = cluster.believed(&newcomer, &answer).unwrap();
    let members = cluster.members();
    let shown = |height| Anchor { height, ..good.of() };
    assert!(newcomer.offer(&answer, cluster.epoch, &members, &shown(good.of().height)).is_ok());
    for (epoch, members, shown) in [
        (cluster.epoch + 1, &members[..], Anchor::default()),
        (cluster.epoch, &members[..2], Anchor::default()),
        (cluster.epoch, &members[..], shown(good.of().height + 1)),
        (cluster.epoch, &members[..], Anchor { height: good.of().height, digest: Default::default() }),
    ] {
        let refused = newcomer.offer(&answer, epoch, members, &shown);
        assert_eq!(refused.unwrap_err().known(), Some(Code::BadFinality));
    }
    // A broken member has the cluster's keys, and seals what it likes.
    let seal = |offer: &Offer| {
        let cipher = &cluster.replicas[3].entries.cipher;
        crate::copies::seal_answer(cipher, cluster.epoch, cluster.now, &offer.encode())
    };
    assert!(cluster.believed(&newcomer, &seal(&good)).is_ok());
    let parts: Parts = Decode::decode(&mut good.encode().as_slice()).unwrap();
    let changes: [&dyn Fn(&mut Parts); 6] = [
        &|(_, _, outline)| outline[7] = Subtree::Leaf([7; 32].into()),
        &|(_, _, outline)| outline.truncate(4095),
        &|(headers, ..)| headers.truncate(1),
        &|(headers, ..)| headers.rotate_left(1),
        &|(headers, ..)| headers[0].time_ms += 1,
        &|(headers, ..)| headers.last_mut().unwrap().executed.height += 1,
    ];
    for (case, change) in changes.iter().enumerate() {
        let mut parts = parts.clone();
        change(&mut parts);
        let offer = Offer::decode(&mut parts.encode().as_slice()).unwrap();
        assert!(cluster.believed(&newcomer, &seal(&offer)).is_err(), "case {case}");
    }
}

#[test]
fn questions_are_answered_only_to_those_with_the_keys_and_a_state_is_not_kept_for_ever() {
    let (mut cluster, _) = with_flipper(&User::new(1));
    let newcomer = cluster.newcomer();
    let question = cluster.wanted(&newcomer, &[0]);
    let stranger = Cluster::new().newcomer().ask_offer(cluster.epoch, cluster.now, cluster.now).unwrap();
    let code = |asked: Result<Answer, Coded>| asked.err().and_then(|error| error.known());
    for message in [&stranger[..], &question[..20], &[], &[0; 300]] {
        assert_eq!(code(cluster.replicas[0].asked(message, cluster.now)), Some(Code::Malformed));
    }
    assert_eq!(code(cluster.replicas[0].asked(&question, cluster.now + 61_000)), Some(Code::Expired));
    let offer = cluster.believed(&newcomer, &now(cluster.replicas[0].asked(&question, cluster.now))).unwrap();
    let later = |ms: u64| newcomer.ask_pieces(cluster.epoch, &offer, 0..1, cluster.now + ms).unwrap();
    // Used, it stays for another minute; then it is gone.
    for (at, kept) in [(50_000, true), (100_000, true), (170_000, false)] {
        let asked = cluster.replicas[0].asked(&later(at), cluster.now + at);
        assert_eq!(code(asked), (!kept).then_some(Code::NotReady), "after {at} ms");
    }
    // Nobody was told to keep it there.
    assert_eq!(code(cluster.replicas[1].asked(&later(0), cluster.now)), Some(Code::NotReady));
    let far = newcomer.ask_offer(cluster.epoch, cluster.now + 60_000, cluster.now).unwrap();
    assert_eq!(code(cluster.replicas[1].asked(&far, cluster.now)), Some(Code::Expired));
}

#[test]
fn entries_go_that_the_chain_has_seen_but_not_those_that_somebody_needs() {
    let (mut cluster, _) = with_flipper(&User::new(1));
    let newcomer = cluster.newcomer();
    let question = cluster.wanted(&newcomer, &[0]);
    let offer = cluster.believed(&newcomer, &now(cluster.replicas[0].asked(&question, cluster.now))).unwrap();
    cluster.now += 5_000;
    cluster.step(0);
    let [durable, applied] = [cluster.replicas[0].state.durable_height(), cluster.replicas[0].applied().height];
    assert_eq!(durable, applied);
    assert_eq!(cluster.replicas[0].prune(u64::MAX).unwrap(), offer.of().height, "it is copied from there");
    assert_eq!(cluster.logs[0].range(), Some((offer.of().height, applied)));
    assert_eq!(cluster.replicas[1].prune(3).unwrap(), 3);
    assert_eq!(cluster.logs[1].range(), Some((3, applied)));
    assert_eq!(cluster.replicas[1].prune(u64::MAX).unwrap(), durable);
    let before = cluster.replicas[1].applied();
    cluster.crash();
    assert_eq!(cluster.replicas[1].applied(), before);
    assert!(cluster.replicas[1].anchor().unwrap().proof.is_some());
}

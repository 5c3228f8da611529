//! What gets into the log, how often, and what does not.

use super::cluster::*;
use crate::{
    block::{make_block, open_block},
    cipher::What,
    layout::{BATCHES, OUTCOMES},
};
use codec::Encode;
use phala_primitives::{Block, Code, EntryHeader, Hash, Verdict, blake2_256, limits::MAX_COMMAND_LIFE_MS, merkle};
use phala_session::{Action, Freshness, SignedCommand};
use std::sync::Arc;

/// An entry as a broken enclave with the cluster's keys would make it: like `block`, but changed.
fn forge(cluster: &Cluster, block: &Block, commands: &[SignedCommand], change: impl FnOnce(&mut EntryHeader)) -> Block {
    let mut header = open_block(block, CLUSTER).unwrap();
    change(&mut header);
    let hashes: Vec<Hash> = commands.iter().map(SignedCommand::hash).collect();
    let cipher = &cluster.replicas[0].entries.cipher;
    let body = cipher.seal(What::Body, header.epoch, header.height, &commands.encode()).unwrap();
    header.commands_root = merkle::root(&hashes);
    header.count = commands.len() as u32;
    header.body_hash = blake2_256(&body);
    make_block(&header, body)
}

fn flip(user: &User, id: u8, contract: phala_primitives::AccountId, deadline: u64) -> SignedCommand {
    user.command(id, Action::Call { contract, data: FLIP.to_vec() }, GAS, deadline)
}

#[test]
fn a_command_is_executed_once_however_often_it_comes() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    let command = flip(&user, 10, contract, cluster.deadline());
    // To two replicas at once; a second time from one; and again in a later entry of a leader that does not care.
    let mut tickets: Vec<_> =
        [0, 2, 2].map(|at| cluster.replicas[at].submit(command.clone(), cluster.now).unwrap()).into();
    cluster.step(2);
    let height = cluster.replicas[0].applied().height;
    let (at, block) = cluster.propose(3);
    let again = forge(&cluster, &block, std::slice::from_ref(&command), |_| ());
    assert_eq!(cluster.judge(at, &again), [Verdict::Accept; 4]);
    cluster.finalize(&again);
    assert!(flipped(&cluster, &user, contract));
    let answers: Vec<_> = tickets.iter_mut().map(|ticket| ticket.try_recv().unwrap().unwrap().unwrap()).collect();
    let late = cluster.replicas[3].submit(command.clone(), cluster.now).unwrap().try_recv().unwrap().unwrap().unwrap();
    let asked = cluster.replicas[1].outcome(&user.id(), &[10; 16]).unwrap();
    for answer in answers.into_iter().chain([late, asked]) {
        let (outcome, receipt) = cluster.check(&command, answer);
        assert!(outcome.result.is_ok());
        assert_eq!(receipt.header.height, height);
    }
    assert!(cluster.replicas.iter().all(|replica| replica.waiting() == 0));
    let other = flip(&user, 10, contract, cluster.deadline() + 1);
    let refused = cluster.replicas[0].submit(other, cluster.now).unwrap_err();
    assert_eq!(refused.known(), Some(Code::Replayed));
    let unknown = cluster.replicas[0].outcome(&user.id(), &[99; 16]).unwrap_err();
    assert_eq!(unknown.known(), Some(Code::NoQuorum));
}

#[test]
fn a_broken_leader_gets_no_votes_for_what_clients_did_not_sign() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    let (at, block) = cluster.propose(0);
    let good = flip(&user, 10, contract, cluster.deadline());
    let mut forged = good.clone();
    forged.command.gas_limit -= 1;
    let mut stolen = good.clone();
    stolen.certificate.body.account = User::new(2).id();
    let expired = flip(&user, 11, contract, cluster.now - 1);
    let far = flip(&user, 12, contract, cluster.now + MAX_COMMAND_LIFE_MS + 60_000);
    let mut foreign = good.command.clone();
    foreign.cluster += 1;
    let foreign = SignedCommand { command: foreign, ..good.clone() };
    let greedy = user.command(13, good.command.action.clone(), GAS + 1, cluster.deadline());
    for commands in [
        vec![forged],
        vec![greedy],
        vec![stolen],
        vec![expired],
        vec![far],
        vec![foreign],
        vec![good.clone(), good.clone()],
    ] {
        let block = forge(&cluster, &block, &commands, |_| ());
        assert_eq!(cluster.judge(at, &block), [Verdict::Reject; 4]);
    }
    let fine = forge(&cluster, &block, &[good], |_| ());
    assert_eq!(cluster.judge(at, &fine), [Verdict::Accept; 4]);
}

#[test]
fn a_wrong_state_place_or_time_gets_no_votes() {
    let user = User::new(1);
    let (mut cluster, _) = with_flipper(&user);
    let (at, block) = cluster.propose(0);
    // Whoever forges knows all keys.
    cluster.teach(&cluster.replicas[0], 2);
    let judge = |change: fn(&mut EntryHeader)| {
        let verdicts = cluster.judge(at, &forge(&cluster, &block, &[], change));
        assert!(verdicts.iter().all(|verdict| *verdict == verdicts[0]));
        verdicts[0]
    };
    assert_eq!(judge(|_| ()), Verdict::Accept);
    assert_eq!(judge(|h| h.executed.state_root = Hash([1; 32])), Verdict::Reject);
    assert_eq!(judge(|h| h.executed.crossing.taken += 1), Verdict::Reject);
    assert_eq!(judge(|h| h.executed.crossing.outbox.next += 1), Verdict::Reject);
    assert_eq!(judge(|h| h.executed.crossing.outbox.hash = Hash([1; 32])), Verdict::Reject);
    assert_eq!(judge(|h| h.executed.height -= 1), Verdict::Reject, "the root of another height");
    assert_eq!(judge(|h| h.executed.height = h.height), Verdict::Reject);
    assert_eq!(judge(|h| h.cluster += 1), Verdict::Reject);
    assert_eq!(judge(|h| h.epoch += 1), Verdict::Reject);
    assert_eq!(judge(|h| h.view += 1), Verdict::Reject);
    assert_eq!(judge(|h| h.height += 1), Verdict::Reject);
    assert_eq!(judge(|h| h.parent = Hash([1; 32])), Verdict::Reject);
    assert_eq!(judge(|h| h.time_ms -= 1000), Verdict::Reject);
    assert_eq!(judge(|h| h.time_ms += 60_000), Verdict::Later);
    assert_eq!(judge(|h| h.time_ms += 1000), Verdict::Accept);
}

#[test]
fn a_replica_that_lags_says_later() {
    let user = User::new(1);
    let (mut cluster, _) = with_flipper(&user);
    let slow = cluster.replicas.pop().unwrap();
    let (_, first) = cluster.propose(0);
    cluster.finalize(&first);
    let (at, block) = cluster.propose(0);
    let parent = cluster.last.clone();
    assert_eq!(slow.verify(at, std::slice::from_ref(&parent), &block), Verdict::Later);
    slow.finalized(&parent, &cluster.certificate(&parent).into()).unwrap();
    assert_eq!(slow.verify(at, &[parent], &block), Verdict::Accept);
}

#[test]
fn what_an_entry_holds_is_not_proposed_again_on_top_of_it() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    let command = flip(&user, 10, contract, cluster.deadline());
    let _ticket = cluster.replicas[0].submit(command, cluster.now).unwrap();
    let (_, first) = cluster.propose(0);
    assert_eq!(open_block(&first, CLUSTER).unwrap().count, 1);
    let second = cluster.replicas[0].propose(cluster.at(0), std::slice::from_ref(&first)).unwrap();
    assert_eq!(open_block(&second, CLUSTER).unwrap().count, 0);
    // The first was given up: the command is free for another entry of its height.
    let (_, other) = cluster.propose(0);
    assert_eq!(open_block(&other, CLUSTER).unwrap().count, 1);
}

#[test]
fn hostile_bytes_are_refused() {
    let user = User::new(1);
    let (mut cluster, _) = with_flipper(&user);
    let (at, block) = cluster.propose(0);
    for cut in 0..block.header.len() {
        assert!(
            cluster.replicas[1]
                .inspect(&Block { header: block.header.slice(..cut), body: block.body.clone() })
                .is_none()
        );
    }
    let other = Block { header: block.header.clone(), body: vec![0; 40].into() };
    assert!(cluster.replicas[1].inspect(&other).is_none());
    let mut header = open_block(&block, CLUSTER).unwrap();
    header.body_hash = blake2_256(&other.body);
    let garbled = make_block(&header, other.body.to_vec());
    assert!(cluster.replicas[1].inspect(&garbled).is_some());
    assert_eq!(cluster.judge(at, &garbled), [Verdict::Reject; 4]);
    for message in [&b""[..], b"\xff\xff\xff\xff\xff", &[4; 1000]] {
        cluster.replicas[1].received(message, cluster.now);
    }
    assert_eq!(cluster.replicas[1].waiting(), 0);
}

#[test]
fn outcomes_are_forgotten_after_the_deadline_of_anything_that_could_repeat_them() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    let life = MAX_COMMAND_LIFE_MS;
    let command = flip(&user, 10, contract, cluster.now + life - 10);
    cluster.send(command.clone());
    let held = |cluster: &Cluster| {
        let snapshot = cluster.replicas[0].state.snapshot();
        (snapshot.paths(&OUTCOMES, 100).unwrap().len(), snapshot.paths(&BATCHES, 100).unwrap().len())
    };
    assert_eq!(held(&cluster), (3, 3));
    cluster.now += life - 100;
    cluster.step(0);
    assert!(cluster.replicas[0].outcome(&user.id(), &[10; 16]).is_ok());
    cluster.now += 200;
    cluster.step(0);
    cluster.step(0);
    assert_eq!(held(&cluster), (0, 0));
    let late = cluster.replicas[0].submit(command.clone(), cluster.now).unwrap_err();
    assert_eq!(late.known(), Some(Code::Expired));
    let (at, block) = cluster.propose(0);
    let again = forge(&cluster, &block, &[command], |_| ());
    assert_eq!(cluster.judge(at, &again), [Verdict::Reject; 4]);
}

#[test]
fn a_final_entry_that_cannot_be_applied_stops_the_replica() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    let (_, block) = cluster.propose(0);
    let gap = forge(&cluster, &block, &[], |header| header.height += 1);
    let replica = &cluster.replicas[0];
    assert!(replica.finalized(&gap, &cluster.certificate(&gap).into()).is_err());
    assert!(replica.fault().is_some());
    let query =
        phala_session::Query { contract, data: GET.to_vec(), value: 0, min_height: 0, freshness: Freshness::Any };
    let refused = replica.query(user.id(), [1; 16], &query, cluster.now).unwrap_err();
    assert_eq!(refused.known(), Some(Code::NotReady));
    assert!(replica.finalized(&block, &cluster.certificate(&block).into()).is_err());
}

#[test]
fn readers_wait_for_the_height_they_ask_for() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    let height = cluster.replicas[0].applied().height + 1;
    let query =
        phala_session::Query { contract, data: GET.to_vec(), value: 0, min_height: height, freshness: Freshness::Any };
    let early = cluster.replicas[0].query(user.id(), [1; 16], &query, cluster.now).unwrap_err();
    assert_eq!(early.known(), Some(Code::NotReady));
    let mut waits = cluster.replicas[0].reached(height).unwrap();
    assert_eq!(waits.try_recv(), Ok(None));
    cluster.step(0);
    assert_eq!(waits.try_recv(), Ok(Some(())));
    assert!(cluster.replicas[0].query(user.id(), [1; 16], &query, cluster.now).is_ok());
}

#[test]
fn commands_reach_the_leader_and_are_sent_again_when_nothing_happens() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    let sent = Arc::new(parking_lot::Mutex::new(vec![]));
    let out = sent.clone();
    cluster.replicas[0].on_forward(move |message| out.lock().push(message));
    let mut ticket = cluster.replicas[0].submit(flip(&user, 10, contract, cluster.deadline()), cluster.now).unwrap();
    let ready = std::pin::pin!(cluster.replicas[1].ready());
    assert!(futures::FutureExt::now_or_never(ready).is_none());
    assert_eq!(sent.lock().len(), 1);
    cluster.now += 600;
    cluster.step(1);
    assert_eq!(sent.lock().len(), 2);
    let message = sent.lock().pop().unwrap();
    cluster.replicas[1].received(&message, cluster.now);
    assert!(futures::FutureExt::now_or_never(cluster.replicas[1].ready()).is_some());
    cluster.step(1);
    assert!(ticket.try_recv().unwrap().unwrap().is_ok());
}

/// Prints what full entries cost here: `cargo test -p phala-replica -p deps --lib -- --ignored --nocapture cost`.
#[test]
#[ignore = "a measurement, not a check"]
fn cost() {
    use std::time::Instant;
    let users: Vec<_> = (1..=8).map(User::new).collect();
    let (mut cluster, contract) = with_flipper(&users[0]);
    for count in [1usize, 32, 256] {
        let (mut taken, mut tickets) = ([std::time::Duration::ZERO; 4], vec![]);
        const ROUNDS: u32 = 8;
        for round in 0..ROUNDS {
            let deadline = cluster.deadline() + u64::from(round);
            let commands: Vec<_> = (0..count)
                .map(|n| {
                    let mut command = flip(&users[n % 8], 0, contract, deadline).command;
                    command.id[..8]
                        .copy_from_slice(&(round as u64 * 1000 + n as u64 + count as u64 * 100_000).to_be_bytes());
                    users[n % 8].command_as(command)
                })
                .collect();
            let start = Instant::now();
            tickets.extend(commands.into_iter().map(|c| cluster.replicas[0].submit(c, cluster.now).unwrap()));
            taken[0] += start.elapsed();
            let start = Instant::now();
            let (at, block) = cluster.propose(0);
            taken[1] += start.elapsed();
            let start = Instant::now();
            assert_eq!(cluster.replicas[1].verify(at, std::slice::from_ref(&cluster.last), &block), Verdict::Accept);
            taken[2] += start.elapsed();
            let finality = cluster.certificate(&block).into();
            let start = Instant::now();
            cluster.replicas[0].finalized(&block, &finality).unwrap();
            taken[3] += start.elapsed();
            cluster.finalize(&block);
        }
        println!(
            "{count} commands: submit {:?}, propose {:?}, verify {:?}, execute and answer {:?}",
            taken[0] / ROUNDS,
            taken[1] / ROUNDS,
            taken[2] / ROUNDS,
            taken[3] / ROUNDS
        );
        assert!(tickets.iter_mut().all(|ticket| ticket.try_recv().unwrap().unwrap().is_ok()));
    }
}

#[test]
fn a_barrier_is_passed_when_an_entry_was_executed_and_belongs_to_members() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    let mut ticket = cluster.replicas[2].barrier(cluster.now).unwrap();
    assert!(ticket.try_recv().unwrap().is_none(), "no entry was executed since");
    let before = cluster.replicas[2].applied().height;
    cluster.step(2);
    assert!(ticket.try_recv().unwrap().expect("executed").is_ok());
    assert_eq!(cluster.replicas[2].applied().height, before + 1);
    let command = user.command(30, Action::Barrier, GAS, cluster.deadline());
    let refused = cluster.replicas[0].submit(command, cluster.now).unwrap_err();
    assert_eq!(refused.known(), Some(Code::NotMember));

    let ask = |cluster: &Cluster, most| {
        let freshness = Freshness::Bounded(most);
        let query = phala_session::Query { contract, data: GET.to_vec(), value: 0, min_height: 0, freshness };
        cluster.replicas[0].query(user.id(), [7; 16], &query, cluster.now)
    };
    cluster.now += 500;
    assert_eq!(ask(&cluster, 400).unwrap_err().known(), Some(Code::StaleState));
    assert!(ask(&cluster, 600).is_ok());
}

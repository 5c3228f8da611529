//! Money in the cluster, and messages between it and the chain: once, in order, across restarts and lies.

use super::cluster::*;
use crate::bridge::{Delivery, Traffic};
use codec::Encode;
use phala_primitives::{
    AccountId, Balance, Code, Coded, Fact, PHA,
    bridge::{BridgeRecord, Head, Inbound, Letter, Order, Outbound},
    limits::{MAX_OUTBOX_OF_SENDER, MIN_BALANCE, MIN_WITHDRAWAL},
    records::Anchor,
    storage,
};
use phala_session::{Action, Answer, Command, Freshness, LogQuery, Outcome, Said};

/// A contract that takes what it is given, and calls functions for anyone who asks.
const TILL: &str = include_str!("../../../../contracts/fixtures/door.wat");

/// The chain's side of the traffic.
#[derive(Default)]
pub(super) struct Post {
    pub(super) record: BridgeRecord,
}

impl Post {
    /// Puts a message into the chain's inbox; the letter is what proves it and all before.
    pub(super) fn send(&mut self, cluster: &Cluster, message: &Inbound) -> u64 {
        let number = self.record.inbox.next;
        self.record.inbox.push_inbound(message);
        let letter = Letter { message: message.clone(), head: self.record.inbox };
        cluster.chain.set(storage::letter(cluster.id, number), &letter);
        number
    }

    pub(super) fn deposit(&mut self, cluster: &Cluster, to: AccountId, amount: Balance) -> Inbound {
        let message = Inbound::Deposit { to, amount };
        self.send(cluster, &message);
        message
    }

    /// The proof for messages up to the newest.
    pub(super) fn proof(&self, cluster: &Cluster) -> Fact {
        cluster.chain.fact(&storage::letter(cluster.id, self.record.inbox.next - 1), 3)
    }

    /// Takes a delivery as the chain would, but for the certificate.
    pub(super) fn receive(&mut self, delivery: &Delivery) {
        let header = &delivery.header;
        assert_eq!(delivery.finality.certificate.digest, header.digest());
        delivery.messages.iter().for_each(|message| self.record.outbox.push_outbound(&message.hash()));
        let mut all = self.record.outbox;
        delivery.rest.iter().for_each(|hash| all.push_outbound(hash));
        assert_eq!(all, header.executed.crossing.outbox);
        self.record.taken = header.executed.crossing.taken;
    }

    fn acknowledgement(&self, cluster: &Cluster) -> Fact {
        cluster.chain.set(storage::bridge(CLUSTER), &self.record);
        cluster.chain.fact(&storage::bridge(CLUSTER), 3)
    }
}

fn code(outcome: &Outcome) -> Option<Code> {
    outcome.result.as_ref().err().and_then(Coded::known)
}

impl Cluster {
    /// One member brings messages, another orders them. Whether they had an effect.
    pub(super) fn bring(&mut self, by: usize, messages: &[Inbound], proof: Fact) -> Option<Code> {
        let before = self.traffic();
        let mut ticket = self.replicas[by].bring(messages.to_vec(), proof, self.now).unwrap();
        self.step(by);
        let Answer::Command { outcome, .. } = ticket.try_recv().unwrap().unwrap().unwrap() else { panic!() };
        assert_eq!(outcome.result.is_ok(), self.traffic() != before);
        code(&outcome)
    }

    /// The traffic, after a look whether the ledger is in order.
    pub(super) fn traffic(&self) -> Traffic {
        let traffic = self.replicas[0].traffic();
        for replica in &self.replicas {
            assert_eq!(replica.traffic(), traffic);
            assert_eq!(replica.ledger_sum(1000).unwrap(), traffic.total);
        }
        traffic
    }

    fn owned(&self, of: &User) -> Balance {
        self.owned_by(of.id(), of.id())
    }

    pub(super) fn owned_by(&self, who: AccountId, of: AccountId) -> Balance {
        match self.replicas[0].balance(&who, &of).unwrap() {
            Answer::Balance(balance) => balance,
            other => panic!("{other:?}"),
        }
    }

    fn withdraw(&mut self, user: &User, id: u8, to: AccountId, amount: Balance) -> Option<Code> {
        let command = user.command(id, Action::Withdraw { to, amount }, 0, self.deadline());
        let outcome = self.send(command);
        self.traffic();
        code(&outcome)
    }

    fn pay(&mut self, user: &User, id: u8, contract: AccountId, value: Balance, data: &[u8]) -> Outcome {
        let command = user.command(id, Action::Call { contract, data: data.to_vec() }, GAS, self.deadline()).command;
        let outcome = self.send(user.command_as(Command { value, ..command }));
        self.traffic();
        outcome
    }

    /// What a member would bring to the chain now; all members would bring the same.
    pub(super) fn delivery(&self, post: &Post) -> Option<Delivery> {
        let delivery = self.replicas[0].delivery(&post.record, 1 << 16).unwrap();
        for replica in &self.replicas {
            assert_eq!(replica.delivery(&post.record, 1 << 16).unwrap(), delivery);
        }
        delivery
    }

    fn till(&mut self, user: &User, id: u8) -> AccountId {
        self.deploy(user, id, &wat::parse_str(TILL).unwrap(), b"")
    }

    pub(super) fn restart(&mut self) {
        self.disks = self.disks.iter().map(Disk::crash).collect();
        self.replicas.clear();
        self.start();
        let floor: Anchor = self.replicas[0].anchor().unwrap().anchor;
        self.enter(floor);
    }
}

fn pay_out(to: AccountId, amount: Balance, revert: bool) -> Vec<u8> {
    [&104u32.to_le_bytes()[..], &(to, amount).encode(), &[u8::from(revert)]].concat()
}

#[test]
fn messages_of_the_chain_take_effect_once_and_in_order() {
    let (alice, bob) = (User::new(1), User::new(2));
    let (mut cluster, mut post) = (Cluster::new(), Post::default());
    let first = post.deposit(&cluster, alice.id(), 3 * PHA);
    let early = post.proof(&cluster);
    let second = post.deposit(&cluster, bob.id(), PHA);
    let returned = Inbound::Returned { to: bob.id(), amount: PHA, number: 7 };
    post.send(&cluster, &returned);
    let all = [first.clone(), second.clone(), returned.clone()];
    let proof = post.proof(&cluster);

    let forged = [Inbound::Deposit { to: bob.id(), amount: 3 * PHA }, second.clone(), returned.clone()];
    for (messages, proof) in [
        (&all[1..], proof.clone()),
        (&all[..2], proof.clone()),
        (&forged[..], proof.clone()),
        (&[second, first.clone(), returned][..], proof.clone()),
        (&all[..], early.clone()),
        (&all[..], cluster.chain.fact(&storage::letter(CLUSTER, 2), 2)),
        (&all[..], cluster.chain.fact(&storage::letter(CLUSTER, 3), 3)),
    ] {
        assert_eq!(cluster.bring(0, messages, proof), Some(Code::BadProof));
        // The id of a member's command follows from the place and number of the messages.
        cluster.restart();
    }
    assert_eq!(cluster.bring(1, &[], proof.clone()), Some(Code::Malformed));
    assert_eq!(cluster.bring(0, &[first], early.clone()), None);
    assert_eq!((cluster.owned(&alice), cluster.owned(&bob)), (3 * PHA, 0));
    assert_eq!(cluster.bring(2, &all[..1], early), Some(Code::BadProof), "another member was first");
    cluster.restart();
    assert_eq!(cluster.bring(3, &all[1..], proof.clone()), None);
    assert_eq!((cluster.owned(&alice), cluster.owned(&bob)), (3 * PHA, 2 * PHA));
    assert_eq!(cluster.bring(1, &all[1..], proof.clone()), Some(Code::BadProof));
    assert_eq!(cluster.traffic().inbox, post.record.inbox);

    let action = Action::Inbox { messages: all.to_vec(), proof };
    let refused = cluster.replicas[0].submit(alice.command(9, action, 0, cluster.deadline()), cluster.now);
    assert_eq!(refused.unwrap_err().known(), Some(Code::NotMember));
}

#[test]
fn a_call_of_the_chain_pays_and_leaves_the_money_with_its_sender_if_it_fails() {
    let (alice, bob) = (User::new(1), User::new(2));
    let (mut cluster, mut post) = (Cluster::new(), Post::default());
    let till = cluster.till(&alice, 1);
    let call = |value, data: &[u8]| Inbound::Call { from: bob.id(), contract: till, value, data: data.to_vec() };
    let deposit = post.deposit(&cluster, bob.id(), PHA);
    let good = call(2 * PHA, b"");
    post.send(&cluster, &good);
    let proof = post.proof(&cluster);
    assert_eq!(cluster.bring(0, &[deposit, good], proof), None);
    assert_eq!((cluster.owned(&bob), cluster.owned_by(alice.id(), till)), (PHA, 2 * PHA));
    // A withdrawal of more than there is says so, and reverts here.
    let bad = call(PHA, &pay_out(bob.id(), 9 * PHA, true));
    post.send(&cluster, &bad);
    let next = post.deposit(&cluster, bob.id(), PHA);
    let proof = cluster.chain.fact(&storage::letter(CLUSTER, 2), 3);
    let newest = post.proof(&cluster);
    let code = cluster.bring(1, &[bad.clone(), next.clone()], newest.clone());
    assert_eq!(code, Some(Code::Malformed), "a call ends a command");
    assert_eq!(cluster.bring(0, &[bad], proof), None);
    assert_eq!((cluster.owned(&bob), cluster.owned_by(alice.id(), till)), (2 * PHA, 2 * PHA));
    let query = LogQuery { contract: till, queries: false, from: 0, limit: 9, wait_ms: 0, min_height: 0 };
    let said = cluster.replicas[2].log(&query).unwrap().records.remove(0).said;
    assert!(matches!(said, Said::Line { level: 1, text } if text.contains("message 2 of the chain")));
    assert_eq!(cluster.bring(2, &[next], newest), None);
    // There is no contract: the money is the sender's.
    let lost = Inbound::Call { from: bob.id(), contract: AccountId([4; 32]), value: PHA, data: vec![] };
    post.send(&cluster, &lost);
    let proof = post.proof(&cluster);
    assert_eq!(cluster.bring(3, &[lost], proof), None);
    assert_eq!(cluster.owned(&bob), 4 * PHA);
}

/// Alice with 10 PHA.
fn rich() -> (Cluster, Post, User) {
    let (mut cluster, mut post, alice) = (Cluster::new(), Post::default(), User::new(1));
    let deposit = post.deposit(&cluster, alice.id(), 10 * PHA);
    let proof = post.proof(&cluster);
    assert_eq!(cluster.bring(0, &[deposit], proof), None);
    (cluster, post, alice)
}

#[test]
fn accounts_pay_contracts_which_pay_out_and_what_fails_moves_nothing() {
    let (mut cluster, _, alice) = rich();
    let (till, dave) = (cluster.till(&alice, 1), AccountId([4; 32]));
    assert!(cluster.pay(&alice, 10, till, 4 * PHA, b"").result.is_ok());
    assert_eq!(code(&cluster.pay(&alice, 11, till, 7 * PHA, b"")), Some(Code::TooLittle));
    assert_eq!(code(&cluster.pay(&alice, 12, till, 6 * PHA - 1, b"")), Some(Code::TooLittle), "dust");
    assert_eq!((cluster.owned(&alice), cluster.owned_by(alice.id(), till)), (6 * PHA, 4 * PHA));
    let before = cluster.traffic().outbox;
    let reverted = cluster.pay(&alice, 13, till, PHA, &pay_out(dave, PHA, true));
    assert!(reverted.result.unwrap().reverted());
    assert_eq!((cluster.traffic().outbox, cluster.owned(&alice)), (before, 6 * PHA));
    // Of what the call itself brings.
    assert!(cluster.pay(&alice, 14, till, PHA, &pay_out(dave, 5 * PHA, false)).result.is_ok());
    assert_eq!((cluster.owned_by(alice.id(), till), cluster.traffic().total), (0, 5 * PHA));
    let too_much = cluster.pay(&alice, 15, till, PHA, &pay_out(dave, 2 * PHA, false)).result.unwrap();
    assert_eq!((too_much.data, cluster.owned_by(alice.id(), till)), (vec![1, 0], PHA));
    // A query sees the ledger, and what it would become.
    let mut query = phala_session::Query {
        contract: till,
        data: pay_out(dave, 2 * PHA, false),
        value: PHA,
        min_height: 0,
        freshness: Freshness::Any,
    };
    let ask = |query: &phala_session::Query| -> Result<Vec<u8>, Coded> {
        match cluster.replicas[1].query(alice.id(), [4; 16], query, cluster.now)? {
            Answer::Query { output, .. } => Ok(output.data),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ask(&query), Ok(vec![0]));
    query.value = 6 * PHA;
    assert_eq!(ask(&query).unwrap_err().known(), Some(Code::TooLittle));
    assert_eq!(cluster.owned(&alice), 4 * PHA);
    // What others own is theirs to know.
    let denied = cluster.replicas[0].balance(&dave, &alice.id()).unwrap_err();
    assert_eq!(denied.known(), Some(Code::BalanceDenied));
    assert_eq!(cluster.replicas[0].balance(&dave, &till).unwrap_err().known(), Some(Code::BalanceDenied));
}

#[test]
fn messages_to_the_chain_wait_for_it_across_restarts_until_it_has_them() {
    let (mut cluster, mut post, alice) = rich();
    let (till, dave) = (cluster.till(&alice, 1), AccountId([4; 32]));
    assert_eq!(cluster.withdraw(&alice, 10, dave, 11 * PHA), Some(Code::TooLittle));
    assert_eq!(cluster.withdraw(&alice, 11, dave, MIN_WITHDRAWAL - 1), Some(Code::Dust));
    assert_eq!(cluster.withdraw(&alice, 12, dave, 10 * PHA - MIN_BALANCE + 1), Some(Code::Dust));
    assert_eq!(cluster.withdraw(&alice, 13, dave, PHA), None);
    let call = [&105u32.to_le_bytes()[..], &vec![7u8, 8, 9].encode(), &[0]].concat();
    assert!(cluster.pay(&alice, 14, till, 0, &call).result.is_ok());
    assert_eq!((cluster.owned(&alice), cluster.traffic().total), (9 * PHA, 9 * PHA));
    let expected = [
        Outbound { from: alice.id(), order: Order::Withdraw { to: dave, amount: PHA } },
        Outbound { from: till, order: Order::Dispatch { call: vec![7, 8, 9] } },
    ];
    // The next entry vouches for them; a restart before that changes nothing.
    cluster.restart();
    assert_eq!(cluster.delivery(&post), None);
    cluster.replicas[2].announce(&post.record);
    assert!(futures::FutureExt::now_or_never(cluster.replicas[2].ready()).is_some(), "a leader is woken");
    cluster.step(2);
    let delivery = cluster.delivery(&post).unwrap();
    assert_eq!(delivery.messages, expected);
    let one = cluster.replicas[3].delivery(&post.record, expected[0].encoded_size()).unwrap().unwrap();
    assert_eq!((&one.messages[..], &one.rest[..]), (&expected[..1], &[expected[1].hash()][..]));
    post.receive(&one);
    let proof = post.acknowledgement(&cluster);
    drop(cluster.replicas[1].acknowledge(1, proof.clone(), cluster.now).unwrap());
    cluster.step(1);
    assert_eq!(cluster.traffic().first, 1);
    // Bringing it again changes nothing, nor does it come back after a restart.
    drop(cluster.replicas[3].acknowledge(1, proof, cluster.now).unwrap());
    cluster.step(3);
    cluster.restart();
    cluster.step(0);
    let rest = cluster.delivery(&post).unwrap();
    assert_eq!((&rest.messages[..], rest.rest.len()), (&expected[1..], 0));
    post.receive(&rest);
    assert_eq!(cluster.delivery(&post), None, "nothing is new");
    let proof = post.acknowledgement(&cluster);
    drop(cluster.replicas[2].acknowledge(2, proof, cluster.now).unwrap());
    cluster.step(2);
    assert_eq!((cluster.traffic().first, post.record.outbox), (2, cluster.traffic().outbox));
}

#[test]
fn one_sender_does_not_fill_the_outbox() {
    let (mut cluster, mut post, alice) = rich();
    let (till, dave) = (cluster.till(&alice, 1), AccountId([4; 32]));
    let call = [&105u32.to_le_bytes()[..], &vec![7u8].encode(), &[0]].concat();
    for id in 0..MAX_OUTBOX_OF_SENDER {
        assert!(cluster.pay(&alice, 10 + id as u8, till, 0, &call).result.is_ok());
    }
    assert_eq!(code(&cluster.pay(&alice, 200, till, 0, &call)), Some(Code::OutboxFull));
    assert_eq!(cluster.withdraw(&alice, 201, dave, PHA), None, "others go on");
    cluster.step(0);
    let delivery = cluster.delivery(&post).unwrap();
    assert_eq!((delivery.messages.len(), delivery.rest.len()), (64, 65));
    post.receive(&delivery);
    let proof = post.acknowledgement(&cluster);
    drop(cluster.replicas[0].acknowledge(64, proof, cluster.now).unwrap());
    cluster.step(0);
    assert!(cluster.pay(&alice, 202, till, 0, &call).result.is_ok());
}

#[test]
fn members_take_turns() {
    let (cluster, _, _) = rich();
    for now in [0, 1_999, 2_000, 7_777, u64::MAX] {
        let mine = cluster.replicas.iter().filter(|replica| replica.is_turn(u64::MAX, 2_000, now));
        assert_eq!(mine.count(), 1);
    }
    let first = |now| cluster.replicas.iter().position(|replica| replica.is_turn(3, 2_000, now));
    let turns: std::collections::BTreeSet<_> = (0..4).map(|turn| first(turn * 2_000)).collect();
    assert_eq!(turns.len(), 4);
    assert_eq!(Head::default().next, 0);
}

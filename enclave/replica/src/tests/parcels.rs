//! Messages between contracts: sealed, once, in order, with their money, across restarts and lies.

use super::{cluster::*, money::Post as Chained};
use crate::parcels::Post;
use codec::Encode;
use phala_primitives::{
    AccountId, Balance, ClusterId, Code, Fact, Hash, PHA,
    bridge::{Inbound, Order, Outbound, Parcel, Undelivered},
    limits::{MAX_MOVES, MAX_OUTBOX_OF_SENDER, MAX_PARCEL, MAX_REST, MAX_SEALED},
    records::ContractRecord,
    storage,
};
use phala_session::{Action, Answer, LogQuery, Outcome, Said};
use std::sync::atomic::Ordering;

const LETTERS: &str = include_str!("../../../../contracts/fixtures/letters.wat");
/// Another cluster.
const OTHER: ClusterId = 4;
const SECRET: &[u8] = b"nobody but the other cluster reads this";

/// One message, as `letters` sends it.
fn one(to: AccountId, input: &[u8], value: Balance) -> Vec<u8> {
    [&[0xfe][..], &106u32.to_le_bytes(), &(to, input, value).encode()].concat()
}

/// Several in one command.
fn several(messages: &[(AccountId, &[u8], Balance)]) -> Vec<u8> {
    let mut data = vec![0xfd];
    for message in messages {
        let arguments = message.encode();
        data.extend_from_slice(&106u32.to_le_bytes());
        data.extend_from_slice(&(arguments.len() as u32).to_le_bytes());
        data.extend_from_slice(&arguments);
    }
    data
}

/// The chain, and a cluster with two contracts of Alice.
struct Scene {
    cluster: Cluster,
    chain: Chained,
    alice: User,
    a: AccountId,
    b: AccountId,
    id: u8,
}

impl Scene {
    fn new() -> Self {
        let (alice, mut cluster, mut chain) = (User::new(1), Cluster::new(), Chained::default());
        let code = wat::parse_str(LETTERS).unwrap();
        let (a, b) = (cluster.deploy(&alice, 1, &code, b""), cluster.deploy(&alice, 3, &code, b""));
        let money = chain.deposit(&cluster, a, 10 * PHA);
        let proof = chain.proof(&cluster);
        assert_eq!(cluster.bring(0, &[money], proof), None);
        Self { cluster, chain, alice, a, b, id: 10 }
    }

    fn call(&mut self, data: &[u8]) -> Outcome {
        self.id += 1;
        let outcome = self.cluster.call(&self.alice, self.id, self.a, data);
        self.cluster.traffic();
        outcome
    }

    fn owned(&self, contract: AccountId) -> Balance {
        self.cluster.owned_by(self.alice.id(), contract)
    }

    /// A letter of a contract: caller, value, text.
    fn letter(&self, contract: AccountId, number: u32) -> Option<(AccountId, Balance, Vec<u8>)> {
        let output = self.cluster.query(&self.alice, contract, &[&[0xfc][..], &number.to_le_bytes()].concat());
        let data = output.unwrap().data;
        let (caller, rest) = data.split_first_chunk::<32>()?;
        let (value, text) = rest.split_first_chunk::<16>()?;
        Some((AccountId(*caller), Balance::from_le_bytes(*value), text.to_vec()))
    }

    /// What the chain is brought now.
    fn deliver(&mut self) -> Vec<Outbound> {
        self.cluster.step(2);
        let delivery = self.cluster.delivery(&self.chain).expect("something to deliver");
        self.chain.receive(&delivery);
        delivery.messages
    }

    /// Puts a message into the inbox and brings it. Whether it was refused.
    fn receive(&mut self, message: &Inbound) -> Option<Code> {
        self.chain.send(&self.cluster, message);
        let proof = self.chain.proof(&self.cluster);
        self.cluster.bring(1, std::slice::from_ref(message), proof)
    }

    /// Lines of the log of a contract.
    fn lines(&self, contract: AccountId) -> Vec<String> {
        let query = LogQuery { contract, queries: false, from: 0, limit: 100, wait_ms: 0, min_height: 0 };
        let page = self.cluster.replicas[0].log(&query).unwrap();
        let line = |said| if let Said::Line { text, .. } = said { Some(text) } else { None };
        page.records.into_iter().filter_map(|record| line(record.said)).collect()
    }

    /// One member shows the cluster where a contract is.
    fn show(&mut self, contract: AccountId, place: Fact, mailbox: Option<Fact>) -> Option<Code> {
        let (number, _) = self.cluster.replicas[0].unrouted().unwrap().unwrap();
        let now = self.cluster.now;
        let mut ticket = self.cluster.replicas[2].show_route(number, contract, place, mailbox, now).unwrap();
        self.cluster.step(2);
        let Answer::Command { outcome, .. } = ticket.try_recv().unwrap().unwrap().unwrap() else { panic!() };
        self.cluster.traffic();
        outcome.result.err().and_then(|error| error.known())
    }

    /// What the chain says of a contract's place.
    fn place(&self, contract: AccountId, cluster: ClusterId) -> Fact {
        let record = ContractRecord::new(cluster, Hash::ZERO, self.alice.id(), false);
        self.cluster.chain.contract(&contract, &record)
    }

    fn absent(&self, key: &[u8]) -> Fact {
        self.cluster.chain.fact(key, 3)
    }

    /// Another cluster, and the proof of its mailbox.
    fn other(&self) -> (Post, Fact) {
        let mailbox = self.cluster.keys_of(OTHER).mailbox();
        let key = storage::mailbox(OTHER);
        self.cluster.chain.set(key.clone(), &mailbox.public());
        (Post::new(super::chain::Chain::genesis(), OTHER, mailbox), self.cluster.chain.fact(&key, 3))
    }
}

/// The parcel in a message, and who sent it.
fn parcel(message: &Outbound) -> (AccountId, Parcel) {
    match &message.order {
        Order::Parcel(parcel) => (message.from, parcel.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn messages_arrive_once_and_in_order_with_their_money_and_sender() {
    let mut scene = Scene::new();
    let (a, b) = (scene.a, scene.b);
    let sent = scene.call(&several(&[(b, b"one", PHA), (b, SECRET, 0), (b, b"three", 2 * PHA)]));
    assert!(sent.result.is_ok(), "{sent:?}");
    assert_eq!((scene.owned(a), scene.owned(b)), (7 * PHA, 0), "it has left");
    let messages = scene.deliver();
    let seen = messages.encode();
    assert!(!seen.windows(SECRET.len()).any(|bytes| bytes == SECRET), "the chain reads it");
    for (number, message) in (0..).zip(&messages) {
        let (from, parcel) = parcel(message);
        assert_eq!((from, parcel.cluster, parcel.contract), (a, CLUSTER, b));
        let message = Inbound::Parcel { cluster: CLUSTER, number, from, parcel };
        assert_eq!(scene.receive(&message), None);
        let again = scene.chain.proof(&scene.cluster);
        assert_eq!(scene.cluster.bring(3, &[message], again), Some(Code::BadProof), "it was executed");
        scene.cluster.restart();
    }
    let text = |text: &[u8], value| Some((a, value, text.to_vec()));
    assert_eq!(scene.letter(b, 0), text(b"one", PHA));
    assert_eq!(scene.letter(b, 1), text(SECRET, 0));
    assert_eq!(scene.letter(b, 2), text(b"three", 2 * PHA));
    assert_eq!((scene.letter(b, 3), scene.owned(b)), (None, 3 * PHA));
}

#[test]
fn what_fails_there_comes_back_with_news() {
    let mut scene = Scene::new();
    let (a, b) = (scene.a, scene.b);
    scene.call(&several(&[(b, &[0xfb], PHA), (b, &[0xfa], 2 * PHA)]));
    let sent = scene.deliver();
    let mut parcels: Vec<(Parcel, Undelivered)> = vec![];
    for message in &sent {
        parcels.push((parcel(message).1, Undelivered::Failed));
    }
    // To a contract that is not here.
    let own = Post::new(super::chain::Chain::genesis(), CLUSTER, scene.cluster.keys_of(CLUSTER).mailbox());
    let nobody = AccountId([9; 32]);
    let mut lost = Parcel { cluster: CLUSTER, contract: nobody, value: PHA, sealed: vec![] };
    let key = scene.cluster.keys_of(CLUSTER).mailbox().public();
    lost.sealed = own.seal(&key, 2, &a, &lost, b"x").unwrap();
    parcels.push((lost, Undelivered::NoContract));
    for (number, (parcel, why)) in (0..).zip(parcels) {
        let (amount, before) = (parcel.value, scene.owned(a));
        assert_eq!(scene.receive(&Inbound::Parcel { cluster: CLUSTER, number, from: a, parcel }), None);
        assert_eq!((scene.owned(a), scene.owned(b)), (before, 0), "the money is under way");
        let order = Order::SendBack { cluster: CLUSTER, to: a, amount, number, why };
        assert_eq!(scene.deliver(), [Outbound { from: a, order }]);
        assert_eq!(scene.receive(&Inbound::SentBack { to: a, amount, number, why }), None);
        assert_eq!(scene.owned(a), before + amount);
        scene.cluster.restart();
    }
    assert_eq!(scene.owned(a), 11 * PHA);
    let news = scene.lines(a);
    assert!(news.len() == 3 && news[1].contains("message 1 was not delivered"), "{news:?}");
}

#[test]
fn a_parcel_that_was_changed_on_its_way_does_nothing_and_goes_back() {
    let mut scene = Scene::new();
    let (a, b) = (scene.a, scene.b);
    scene.call(&one(b, SECRET, PHA));
    let messages = scene.deliver();
    let (from, good) = parcel(&messages[0]);
    let mut flipped = good.clone();
    *flipped.sealed.last_mut().unwrap() ^= 1;
    let other = Parcel { value: 2 * PHA, ..good.clone() };
    let [replaced, empty] = [AccountId([5; 32]), b].map(|contract| Parcel { contract, ..good.clone() });
    let empty = Parcel { sealed: vec![], ..empty };
    let lies = [(0, from, flipped), (0, from, other), (0, from, replaced), (0, from, empty), (1, from, good.clone())];
    for (number, from, parcel) in lies.into_iter().chain([(0, b, good)]) {
        let value = parcel.value;
        assert_eq!(scene.receive(&Inbound::Parcel { cluster: CLUSTER, number, from, parcel }), None);
        let back = scene.deliver();
        let why = Undelivered::Failed;
        assert_eq!(back[0].order, Order::SendBack { cluster: CLUSTER, to: from, amount: value, number, why });
    }
    assert_eq!((scene.letter(b, 0), scene.owned(a)), (None, 9 * PHA));
}

#[test]
fn a_message_waits_until_the_chain_says_where_its_contract_is() {
    let mut scene = Scene::new();
    let (a, b) = (scene.a, scene.b);
    let (far, nobody) = (AccountId([8; 32]), AccountId([9; 32]));
    let (other, mailbox) = scene.other();
    let sent = scene.call(&several(&[(far, SECRET, PHA), (nobody, b"?", PHA), (b, b"here", 0), (far, b"2", 0)]));
    assert!(sent.result.is_ok(), "{sent:?}");
    assert_eq!(scene.owned(a), 8 * PHA);
    scene.cluster.restart();
    scene.cluster.step(0);
    let nothing = scene.cluster.delivery(&scene.chain).is_none_or(|delivery| delivery.messages.is_empty());
    assert!(nothing, "the first is in front of all");
    assert_eq!(scene.cluster.replicas[3].unrouted().unwrap().unwrap().1, far);

    let (place, wrong) = (scene.place(far, OTHER), scene.place(nobody, OTHER));
    assert_eq!(scene.show(far, wrong, Some(mailbox.clone())), Some(Code::BadProof));
    assert_eq!(scene.show(far, place.clone(), None), Some(Code::BadProof), "nothing of the key");
    let of_another = scene.absent(&storage::mailbox(OTHER + 1));
    assert_eq!(scene.show(far, place.clone(), Some(of_another)), Some(Code::BadProof));
    assert_eq!(scene.show(far, place, Some(mailbox)), None);
    assert_eq!(scene.cluster.replicas[3].unrouted().unwrap().unwrap().1, nobody);
    // There is no such contract: the money is back, and those behind it go on.
    let absent = scene.absent(&storage::contract(&AccountId([7; 32])));
    assert_eq!(scene.show(nobody, absent, None), Some(Code::BadProof), "of another");
    scene.cluster.chain.remove(&storage::contract(&nobody));
    let then = scene.cluster.now - 61_000;
    let present = scene.cluster.chain.time_ms.swap(then, Ordering::Relaxed);
    let before_it_was_placed = scene.absent(&storage::contract(&nobody));
    assert_eq!(scene.show(nobody, before_it_was_placed, None), Some(Code::BadProof));
    scene.cluster.chain.time_ms.store(present, Ordering::Relaxed);
    let absent = scene.absent(&storage::contract(&nobody));
    assert_eq!(scene.show(nobody, absent, None), None);
    assert_eq!((scene.owned(a), scene.cluster.replicas[3].unrouted().unwrap()), (9 * PHA, None));
    assert_eq!(scene.lines(a).len(), 1);

    let messages = scene.deliver();
    let clusters: Vec<_> = messages.iter().map(|message| parcel(message).1.cluster).collect();
    assert_eq!(clusters, [OTHER, CLUSTER, OTHER]);
    for (number, text) in [(0, SECRET), (2, b"2")] {
        let (from, parcel) = parcel(&messages[number as usize]);
        assert_eq!(other.unseal(CLUSTER, number, &from, &parcel).unwrap(), text);
        assert!(other.unseal(CLUSTER, number + 1, &from, &parcel).is_err(), "it has a name");
    }
    // What the other sends is taken, and its sender's name with it.
    let mailbox = scene.cluster.keys_of(CLUSTER).mailbox().public();
    let mut reply = Parcel { cluster: CLUSTER, contract: b, value: PHA, sealed: vec![] };
    reply.sealed = other.seal(&mailbox, 5, &far, &reply, b"reply").unwrap();
    assert_eq!(scene.receive(&Inbound::Parcel { cluster: OTHER, number: 5, from: far, parcel: reply }), None);
    assert_eq!(scene.letter(b, 0), Some((far, PHA, b"reply".to_vec())));
}

#[test]
fn a_cluster_without_a_mailbox_does_not_stand_in_the_way_of_others() {
    let mut scene = Scene::new();
    let (a, b, far) = (scene.a, scene.b, AccountId([8; 32]));
    scene.call(&several(&[(far, b"x", PHA), (b, b"here", 0)]));
    let (place, none) = (scene.place(far, OTHER), scene.absent(&storage::mailbox(OTHER)));
    assert_eq!(scene.show(far, place.clone(), Some(none)), None);
    assert_eq!((scene.owned(a), scene.lines(a).len()), (10 * PHA, 1));
    assert_eq!(scene.deliver().len(), 1);
    // Nonsense for a key is as good as none.
    scene.cluster.chain.set(storage::mailbox(OTHER), &[0u8; 32]);
    let nonsense = scene.absent(&storage::mailbox(OTHER));
    scene.call(&one(far, b"x", PHA));
    let place = scene.place(far, OTHER);
    assert_eq!(scene.show(far, place, Some(nonsense)), None);
    assert_eq!((scene.owned(a), scene.lines(a).len()), (10 * PHA, 2));
}

#[test]
fn a_sender_has_so_many_messages_under_way_and_each_is_bounded() {
    let mut scene = Scene::new();
    let (b, far) = (scene.b, AccountId([8; 32]));
    let many: Vec<(AccountId, &[u8], Balance)> = vec![(far, b"x", 0); MAX_OUTBOX_OF_SENDER as usize];
    assert!(scene.call(&several(&many)).result.is_ok());
    let full = |outcome: Outcome| outcome.result.err().and_then(|error| error.known());
    assert_eq!(full(scene.call(&one(b, b"x", 0))), Some(Code::OutboxFull), "those in the queue count");
    let gone = scene.absent(&storage::contract(&far));
    assert_eq!(scene.show(far, gone, None), None);
    assert_eq!(full(scene.call(&one(far, &[7; MAX_PARCEL], 0))), None);
    let too_long = scene.call(&one(far, &[7; MAX_PARCEL + 1], 0)).result.unwrap();
    assert_eq!(too_long.data, [1, 2]);

    let mut fresh = Scene::new();
    let b = fresh.b;
    fresh.call(&one(b, &[7; MAX_PARCEL], 0));
    let sealed = parcel(&fresh.deliver()[0]).1.sealed.len();
    assert!((MAX_PARCEL..=MAX_SEALED).contains(&sealed), "{sealed}");
}

#[test]
fn a_parcel_is_not_taken_while_it_could_not_go_back() {
    let mut scene = Scene::new();
    let (a, b) = (scene.a, scene.b);
    scene.call(&several(&[(b, b"one", PHA), (b, b"two", 0)]));
    let sent = scene.deliver().into_iter().map(|message| parcel(&message).1).collect::<Vec<_>>();
    let message =
        |number: u64| Inbound::Parcel { cluster: CLUSTER, number, from: a, parcel: sent[number as usize].clone() };
    let waits = MAX_REST - u64::from(MAX_MOVES) - (scene.cluster.traffic().outbox.next - scene.cluster.traffic().first);
    let lengthen = |scene: &Scene, by: i64| {
        for replica in &scene.cluster.replicas {
            let mut traffic = replica.executor.traffic();
            traffic.outbox.next = traffic.outbox.next.checked_add_signed(by).unwrap();
        }
    };
    lengthen(&scene, waits as i64);
    assert!(!scene.cluster.replicas[0].takes_parcels().unwrap());
    assert_eq!(scene.receive(&message(0)), Some(Code::OutboxFull));
    assert_eq!((scene.letter(b, 0), scene.owned(b)), (None, 0));
    lengthen(&scene, -1);
    let again = scene.chain.proof(&scene.cluster);
    assert_eq!(scene.cluster.bring(2, &[message(0)], again), None);
    assert_eq!(scene.letter(b, 0), Some((a, PHA, b"one".to_vec())));
    assert!(scene.cluster.replicas[0].takes_parcels().unwrap());
}

#[test]
fn a_mailbox_is_published_once_and_is_the_clusters_own() {
    let mut scene = Scene::new();
    let key = scene.cluster.keys_of(CLUSTER).mailbox().public();
    for (by, opened) in [(0, 1), (1, 0)] {
        assert_eq!(scene.cluster.replicas[by].has_mailbox().unwrap(), by > 0);
        let before = scene.cluster.traffic().outbox.next;
        let now = scene.cluster.now;
        let mut ticket = scene.cluster.replicas[by].open_mailbox(now).unwrap();
        scene.cluster.step(by);
        assert!(ticket.try_recv().unwrap().unwrap().is_ok());
        assert_eq!(scene.cluster.traffic().outbox.next, before + opened);
    }
    assert_eq!(scene.deliver()[0].order, Order::Mailbox { key });
    assert_ne!(key, scene.cluster.keys_of(OTHER).mailbox().public());
    let stranger = scene.alice.command(99, Action::Mailbox, 0, scene.cluster.deadline());
    let refused = scene.cluster.replicas[0].submit(stranger, scene.cluster.now).unwrap_err();
    assert_eq!(refused.known(), Some(Code::NotMember));
}

#[test]
fn who_writes_to_nobody_holds_up_only_itself() {
    let mut scene = Scene::new();
    let (a, b, far) = (scene.a, scene.b, AccountId([8; 32]));
    let many: Vec<(AccountId, &[u8], Balance)> = (0..50).map(|n| (AccountId([100 + n; 32]), &b"x"[..], 0)).collect();
    assert!(scene.call(&several(&many)).result.is_ok());
    let sent = scene.cluster.call(&scene.alice, 200, b, &several(&[(a, b"hello", 0), (far, b"far", 0)]));
    assert!(sent.result.is_ok(), "{sent:?}");
    let messages = scene.deliver();
    assert_eq!(messages.iter().map(|message| parcel(message).0).collect::<Vec<_>>(), [b]);
    // Each waits for one look at the chain, not for fifty.
    let nobody = AccountId([100; 32]);
    assert_eq!(scene.cluster.replicas[1].unrouted().unwrap().unwrap().1, nobody);
    let absent = scene.absent(&storage::contract(&nobody));
    assert_eq!(scene.show(nobody, absent, None), None);
    assert_eq!(scene.cluster.replicas[1].unrouted().unwrap().unwrap().1, far);
    let (_, mailbox) = scene.other();
    let place = scene.place(far, OTHER);
    assert_eq!(scene.show(far, place, Some(mailbox)), None);
    assert_eq!(scene.deliver().len(), 1);
    assert_eq!(scene.cluster.replicas[1].unrouted().unwrap().unwrap(), (1, AccountId([101; 32])));
    scene.cluster.restart();
    assert_eq!(scene.cluster.replicas[1].unrouted().unwrap().unwrap(), (1, AccountId([101; 32])));
}

#[test]
fn what_a_contract_of_another_cluster_owns_here_goes_home() {
    let mut scene = Scene::new();
    let (b, far) = (scene.b, AccountId([8; 32]));
    let (other, _) = scene.other();
    let mailbox = scene.cluster.keys_of(CLUSTER).mailbox().public();
    assert_eq!(scene.receive(&Inbound::Deposit { to: far, amount: 2 * PHA }), None);
    let mut parcel = Parcel { cluster: CLUSTER, contract: b, value: PHA, sealed: vec![] };
    parcel.sealed = other.seal(&mailbox, 5, &far, &parcel, b"keep the change").unwrap();
    assert_eq!(scene.receive(&Inbound::Parcel { cluster: OTHER, number: 5, from: far, parcel }), None);
    assert_eq!(scene.letter(b, 0), Some((far, PHA, b"keep the change".to_vec())));
    let why = Undelivered::Change;
    let order = Order::SendBack { cluster: OTHER, to: far, amount: 2 * PHA, number: 5, why };
    assert_eq!(scene.deliver(), [Outbound { from: far, order }]);
    // And this is how it looks from there.
    let a = scene.a;
    assert_eq!(scene.receive(&Inbound::SentBack { to: a, amount: PHA, number: 7, why }), None);
    assert_eq!((scene.owned(a), scene.lines(a)), (11 * PHA, vec!["the receiver of message 7 paid back".to_owned()]));
}

//! A contract that goes to another cluster: with all that it has, read all the time, and back again.

use super::{cluster::*, money::Post};
use crate::{Coming, layout::Contract};
use codec::Encode;
use phala_pink::{HookRequest, HttpRequest};
use phala_primitives::{
    AccountId, Balance, ClusterId, Code, Coded, Hash, PHA,
    bridge::{Inbound, Order, Outbound, Package, Parcel, Undelivered},
};
use phala_session::{Action, Answer, LogQuery, Outcome, Said};

const MOVER: &str = include_str!("../../../../contracts/fixtures/mover.wat");
const THERE: ClusterId = 7;
const SELECTOR: [u8; 4] = [1, 2, 3, 4];
/// How many values it keeps, and how long each is.
const VALUES: u32 = 24;
const LONG: usize = 48 << 10;

/// One cluster and what the chain has for it.
struct End {
    cluster: Cluster,
    post: Post,
}

impl End {
    fn new(id: ClusterId) -> Self {
        Self { cluster: Cluster::of(id), post: Post::default() }
    }

    /// Puts a message into the inbox and brings it.
    fn receive(&mut self, message: &Inbound) -> Option<Code> {
        self.post.send(&self.cluster, message);
        let proof = self.post.proof(&self.cluster);
        self.cluster.bring(1, std::slice::from_ref(message), proof)
    }

    /// What the chain is brought now.
    fn deliver(&mut self) -> Vec<Outbound> {
        self.cluster.step(2);
        let Some(delivery) = self.cluster.delivery(&self.post) else { return vec![] };
        self.post.receive(&delivery);
        self.cluster.traffic();
        delivery.messages
    }

    /// What comes out, as soon as something does.
    fn until_delivered(&mut self) -> Vec<Outbound> {
        (0..50).map(|_| self.deliver()).find(|messages| !messages.is_empty()).expect("nothing comes out")
    }

    fn coming(&self) -> Vec<Coming> {
        let coming = self.cluster.replicas[0].coming().unwrap();
        assert!(self.cluster.replicas.iter().all(|replica| replica.coming().unwrap() == coming));
        coming
    }

    fn record(&self, contract: AccountId) -> Option<Contract> {
        crate::layout::read(&self.cluster.replicas[0].state.snapshot(), &crate::layout::CONTRACTS, contract.as_ref())
            .unwrap()
    }

    /// Whether nothing is left of what lay in the spaces of a contract.
    fn is_swept(&mut self, contract: AccountId) -> bool {
        for _ in 0..10 {
            self.cluster.step(0);
        }
        let (record, snapshot) = (self.record(contract).unwrap(), self.cluster.replicas[0].state.snapshot());
        let places = [record.space(&contract), record.readers(&contract), crate::logs::space(&contract)];
        record.code.is_none() && places.iter().all(|place| snapshot.paths(place, 1).unwrap().is_empty())
    }
}

struct Scene {
    ends: [End; 2],
    alice: User,
    contract: AccountId,
    id: u8,
}

fn get(key: u32) -> Vec<u8> {
    [&[0xfc][..], &key.to_be_bytes()].concat()
}

fn value(key: u32) -> Vec<u8> {
    (0..LONG).map(|at| (at as u32).wrapping_mul(key + 3) as u8).collect()
}

/// A call of a function of the extension.
fn function(number: u32, arguments: impl Encode) -> Vec<u8> {
    [&[0xfe][..], &number.to_le_bytes(), &arguments.encode()].concat()
}

impl Scene {
    /// A contract in the first cluster that has values, money, a log with a reader, a hook, a request, two timers, and a
    /// message that waits.
    fn new() -> Self {
        let alice = User::new(1);
        let mut ends = [CLUSTER, THERE].map(End::new);
        let code = wat::parse_str(MOVER).unwrap();
        let contract = ends[0].cluster.deploy(&alice, 1, &code, b"");
        assert_eq!(ends[0].receive(&Inbound::Deposit { to: contract, amount: 10 * PHA }), None);
        let mut scene = Self { ends, alice, contract, id: 10 };
        for key in 0..VALUES {
            let set = [&[0xfd][..], &key.to_be_bytes(), &value(key)].concat();
            assert!(scene.call(0, &set).result.is_ok());
        }
        let callback = || (SELECTOR, b"tag".to_vec(), 10_000_000u64);
        let request = HttpRequest { url: "http://a/".into(), method: "GET".into(), headers: vec![], body: vec![] };
        let message = (AccountId([8; 32]), b"far".to_vec(), 2 * PHA);
        for data in [
            function(10, (3u8, "hello")),
            function(100, (Some(User::new(2).id()), true)),
            function(101, (request, 5_000u64, callback())),
            function(102, (3_600_000u64, 0u64, callback())),
            function(102, (1_000_000u64, 1_000_000u64, callback())),
            function(106, message),
            function(108, ("in", SELECTOR, 10_000_000u64, 0u32)),
        ] {
            let outcome = scene.call(0, &data);
            assert!(outcome.result.is_ok(), "{outcome:?}");
        }
        scene
    }

    fn call(&mut self, end: usize, data: &[u8]) -> Outcome {
        self.id += 1;
        let action = Action::Call { contract: self.contract, data: data.to_vec() };
        let cluster = &mut self.ends[end].cluster;
        let command = self.alice.command_to(cluster.id, self.id, action, GAS, cluster.deadline());
        let outcome = cluster.send(command);
        cluster.traffic();
        outcome
    }

    fn refused(&mut self, end: usize) -> Option<Code> {
        self.call(end, &get(0)).result.err().as_ref().and_then(Coded::known)
    }

    fn ask(&self, end: usize, data: &[u8]) -> Result<Vec<u8>, Option<Code>> {
        let output = self.ends[end].cluster.query(&self.alice, self.contract, data);
        output.map(|output| output.data).map_err(|error| error.known())
    }

    /// Everything that can be asked of it.
    fn told(&self, end: usize) -> Result<Vec<Vec<u8>>, Option<Code>> {
        let keys = (0..=VALUES).map(get).chain([get(u32::from_be_bytes(*b"call")), function(4, b"salt".to_vec())]);
        keys.map(|data| self.ask(end, &data)).collect()
    }

    fn owned(&self, end: usize) -> Balance {
        self.ends[end].cluster.owned_by(self.alice.id(), self.contract)
    }

    fn lines(&self, end: usize) -> Vec<(u64, String)> {
        let query =
            LogQuery { contract: self.contract, queries: false, from: 0, limit: 100, wait_ms: 0, min_height: 0 };
        let page = self.ends[end].cluster.replicas[0].log(&query).unwrap();
        let line = |said| if let Said::Line { text, .. } = said { Some(text) } else { None };
        page.records.into_iter().filter_map(|record| Some((record.number, line(record.said)?))).collect()
    }

    fn reads_log(&self, end: usize, who: &User) -> bool {
        self.ends[end].cluster.replicas[0].may_read_log(&who.id(), &self.contract).is_ok()
    }

    /// How many timers and requests wait, and whether a hook serves.
    fn begun(&mut self, end: usize) -> (usize, usize, bool) {
        let cluster = &mut self.ends[end].cluster;
        let (timers, requests) = cluster.replicas[3].waiting_jobs();
        let request = HookRequest {
            method: "POST".into(),
            path: "in".into(),
            query: String::new(),
            headers: vec![],
            body: vec![],
        };
        let ticket = cluster.replicas[0].hook(self.contract, &request, None, cluster.now);
        let served = ticket.is_ok_and(|mut ticket| {
            cluster.step(0);
            matches!(ticket.try_recv(), Ok(Some(Ok(Answer::Command { outcome, .. }))) if outcome.result.is_ok())
        });
        (timers.len(), requests.len(), served)
    }

    fn leave(&mut self, from: usize, number: u32) {
        let (contract, to) = (self.contract, self.ends[1 - from].cluster.id);
        let mailbox = self.ends[1 - from].cluster.keys_of(to).mailbox().public();
        assert_eq!(self.ends[from].receive(&Inbound::Leave { contract, number, to, mailbox }), None);
    }

    /// What the leaving cluster sends off.
    fn package(&mut self, from: usize) -> Package {
        let messages = self.ends[from].until_delivered();
        let [Outbound { from: sender, order: Order::Package(package) }] = messages.as_slice() else {
            panic!("{messages:?}")
        };
        assert_eq!((sender, &package.contract), (&self.contract, &self.contract));
        package.clone()
    }

    /// Has the other cluster get the next part. Whether there was one.
    fn part(&mut self, from: usize) -> bool {
        let Some(coming) = self.ends[1 - from].coming().first().copied() else { return false };
        assert_eq!(coming.from, self.ends[from].cluster.id);
        let giver = coming.next as usize % 4;
        let sealed = self.ends[from].cluster.replicas[giver].part_of(&self.contract, coming.number, coming.next);
        let cluster = &mut self.ends[1 - from].cluster;
        let mut ticket = cluster.replicas[2].bring_part(&coming, &sealed.unwrap(), cluster.now).unwrap();
        cluster.step(2);
        let Answer::Command { outcome, .. } = ticket.try_recv().unwrap().unwrap().unwrap() else { panic!() };
        assert!(outcome.result.is_ok(), "{outcome:?}");
        true
    }

    fn restart(&mut self) {
        self.ends.iter_mut().for_each(|end| end.cluster.restart());
    }

    /// The whole way.
    fn go(&mut self, from: usize, number: u32) {
        let (contract, to) = (self.contract, 1 - from);
        let (before, money) = (self.told(from).unwrap(), self.owned(from));
        self.leave(from, number);
        assert_eq!(self.told(from).unwrap(), before);
        assert_eq!(self.refused(from), Some(Code::ContractMoving));
        self.restart();
        let package = self.package(from);
        let source = self.ends[from].cluster.id;
        assert_eq!(self.ends[to].receive(&Inbound::Arrive { from: source, package }), None);
        let mut parts = 0;
        while self.part(from) {
            parts += 1;
            assert_eq!(self.told(from).unwrap(), before);
            if parts == 2 {
                self.restart();
            }
        }
        assert!(parts > 3, "{parts}");
        assert_eq!((self.told(from).unwrap(), self.told(to).unwrap()), (before.clone(), before.clone()));
        let arrived = self.ends[to].until_delivered();
        assert_eq!(arrived, [Outbound { from: contract, order: Order::Arrived { number } }]);
        assert_eq!([self.refused(from), self.refused(to)], [Some(Code::ContractMoving); 2]);
        assert_eq!(self.ends[from].receive(&Inbound::Left { contract, number }), None);
        assert_eq!(self.ask(from, &get(0)), Err(Some(Code::ContractMoved)));
        assert_eq!(self.refused(from), Some(Code::ContractMoved));
        assert_eq!(self.told(to).unwrap(), before);
        self.restart();
        let let_go = self.ends[from].until_delivered();
        // The message that waits comes along with its money.
        let amount = money + 2 * PHA;
        assert_eq!(let_go, [Outbound { from: contract, order: Order::LetGo { number, amount } }]);
        assert_eq!(self.ends[to].receive(&Inbound::Begin { contract, number, amount }), None);
        assert_eq!((self.told(to).unwrap(), self.owned(to)), (before, money));
        assert!(self.ends[from].is_swept(contract));
    }
}

#[test]
fn a_contract_goes_and_comes_back_with_all_that_it_has() {
    let mut scene = Scene::new();
    let (lines, before) = (scene.lines(0), scene.begun(0));
    assert_eq!((lines.len(), before, scene.owned(0)), (1, (2, 1, true), 8 * PHA));
    for (from, number) in [(0, 1), (1, 2), (0, 3)] {
        scene.go(from, number);
        let to = 1 - from;
        assert_eq!(scene.begun(from), (0, 0, false));
        assert_eq!(scene.begun(to), before);
        assert_eq!(scene.lines(to), lines);
        assert!(scene.reads_log(to, &User::new(2)) && !scene.reads_log(to, &User::new(3)));
        let unrouted = scene.ends[to].cluster.replicas[0].unrouted().unwrap();
        assert_eq!(unrouted.map(|(_, contract)| contract), Some(AccountId([8; 32])));
        // It works, and its numbers go on.
        let set = [&[0xfd][..], &VALUES.to_be_bytes(), &[number as u8]].concat();
        assert!(scene.call(to, &set).result.is_ok());
        assert_eq!(scene.ask(to, &get(VALUES)).unwrap(), [number as u8]);
    }
}

#[test]
fn a_move_that_is_called_off_leaves_nothing_behind() {
    for parts in [None, Some(0), Some(2), Some(usize::MAX)] {
        let mut scene = Scene::new();
        let (contract, begun) = (scene.contract, scene.begun(0));
        let before = scene.told(0).unwrap();
        scene.leave(0, 1);
        if let Some(parts) = parts {
            let package = scene.package(0);
            assert_eq!(scene.ends[1].receive(&Inbound::Arrive { from: CLUSTER, package }), None);
            let _ = (0..parts).take_while(|_| scene.part(0)).count();
        }
        scene.restart();
        for end in &mut scene.ends {
            assert_eq!(end.receive(&Inbound::CalledOff { contract, number: 1 }), None);
        }
        assert_eq!((scene.told(0).unwrap(), scene.refused(0), scene.owned(0)), (before, None, 8 * PHA));
        assert_eq!(scene.begun(0), begun);
        assert_eq!(scene.ends[1].coming(), []);
        assert!(parts.is_none() || scene.ends[1].is_swept(contract), "{parts:?}");
        // That it had all of it, the chain hears too late.
        scene.ends[1].deliver();
        scene.go(0, 2);
    }
}

#[test]
fn only_what_the_other_cluster_packed_is_taken() {
    let mut scene = Scene::new();
    let contract = scene.contract;
    scene.leave(0, 1);
    let package = scene.package(0);
    let mut altered = package.clone();
    *altered.sealed.last_mut().unwrap() ^= 1;
    let other_move = Package { number: 2, ..package.clone() };
    let other_contract = Package { contract: AccountId([9; 32]), ..package.clone() };
    for (from, package) in
        [(CLUSTER, altered), (CLUSTER, other_move), (CLUSTER, other_contract), (CLUSTER + 1, package.clone())]
    {
        assert_eq!(scene.ends[1].receive(&Inbound::Arrive { from, package }), None);
        assert_eq!(scene.ends[1].coming(), []);
    }
    for _ in 0..2 {
        assert_eq!(scene.ends[1].receive(&Inbound::Arrive { from: CLUSTER, package: package.clone() }), None);
        assert_eq!(scene.ends[1].coming().len(), 1);
    }
    let coming = scene.ends[1].coming()[0];
    let sealed = |index| scene.ends[0].cluster.replicas[0].part_of(&contract, 1, index);
    assert_eq!(sealed(coming.parts).unwrap_err().known(), Some(Code::NotReady));
    let (mut first, second) = (sealed(0).unwrap(), sealed(1).unwrap());
    let open = value(0);
    assert!(!first.windows(64).any(|bytes| bytes == &open[..64]), "everyone reads it");
    let replica = scene.ends[1].cluster.replicas[0].clone();
    let now = scene.ends[1].cluster.now;
    let error = |sealed: &[u8]| replica.bring_part(&coming, sealed, now).unwrap_err().known();
    assert_eq!(error(&second), Some(Code::NotAuthentic));
    first[9] ^= 1;
    assert_eq!(error(&first), Some(Code::NotAuthentic));
    // A member that makes something up.
    let invented = |index| Action::Import { contract, number: 1, index, bytes: vec![4; 9], path: vec![Hash::ZERO; 3] };
    let said = |scene: &mut Scene, id: u8, action: Action| {
        let cluster = &mut scene.ends[1].cluster;
        let command = cluster.replicas[0].own_command([id; 16], action, cluster.now).unwrap();
        cluster.send(command).result.err().as_ref().and_then(Coded::known)
    };
    assert_eq!(said(&mut scene, 1, invented(0)), Some(Code::BadProof));
    assert_eq!(said(&mut scene, 2, invented(1)), None, "it is not its turn");
    assert_eq!(scene.ends[1].coming(), [coming]);
    let stranger = scene.alice.command_to(THERE, 99, invented(0), 0, scene.ends[1].cluster.deadline());
    let refused = scene.ends[1].cluster.replicas[0].submit(stranger, now);
    assert_eq!(refused.err().as_ref().and_then(Coded::known), Some(Code::NotMember));
    assert!(scene.part(0));
    assert_eq!(scene.ends[1].coming()[0].next, 1);
}

#[test]
fn what_comes_for_a_contract_that_leaves_goes_back() {
    let mut scene = Scene::new();
    let (contract, far, amount, number) = (scene.contract, AccountId([5; 32]), PHA, 3);
    scene.leave(0, 1);
    let keys = scene.ends[0].cluster.keys_of(4).mailbox();
    let mailbox = scene.ends[0].cluster.keys_of(CLUSTER).mailbox().public();
    let other = crate::parcels::Post::new(super::chain::Chain::genesis(), 4, keys);
    let mut parcel = Parcel { cluster: CLUSTER, contract, value: amount, sealed: vec![] };
    parcel.sealed = other.seal(&mailbox, number, &far, &parcel, b"x").unwrap();
    let money = scene.owned(0);
    assert_eq!(scene.ends[0].receive(&Inbound::Parcel { cluster: 4, number, from: far, parcel }), None);
    let why = Undelivered::Moving { contract };
    let back = Order::SendBack { cluster: 4, to: far, amount, number, why };
    let sent: Vec<_> = (0..3).flat_map(|_| scene.ends[0].deliver()).map(|message| message.order).collect();
    assert!(sent.contains(&back) && sent.len() == 2, "{sent:?}");
    // A call from the chain leaves no trace in it, and what the caller paid is the caller's.
    let before = scene.lines(0);
    let call = Inbound::Call { from: scene.alice.id(), contract, value: PHA, data: get(0) };
    assert_eq!(scene.ends[0].receive(&call), None);
    assert_eq!((scene.lines(0), scene.owned(0)), (before, money));
    let id = scene.alice.id();
    assert_eq!(scene.ends[0].cluster.owned_by(id, id), PHA);
    // News of its own messages finds it as it is.
    let back = Inbound::SentBack { to: contract, amount: 0, number: 0, why };
    assert_eq!(scene.ends[0].receive(&back), None);
    assert_eq!(scene.lines(0).len(), 1);
}

//! What contracts asked for and get later, HTTP requests of others, and what contracts say, through crashes.

use super::cluster::*;
use crate::{Replica, jobs::Wanted, pool::MAX_POOL_PER_HOOK};
use codec::Encode;
use phala_pink::{HookRequest, HttpError, HttpRequest, HttpResult};
use phala_primitives::{AccountId, Code, Coded};
use phala_session::{Action, Answer, EventChain, LogQuery, Said};
use std::{collections::BTreeSet, sync::Arc};

/// A contract that asks for what it is told to, and counts what comes back.
const SOURCE: &str = include_str!("../../../../contracts/fixtures/errand.wat");

const SELECTOR: [u8; 4] = [1, 2, 3, 4];

/// A cluster with one such contract.
struct Scene {
    cluster: Cluster,
    user: User,
    contract: AccountId,
    commands: u8,
}

impl Scene {
    fn new() -> Self {
        let (mut cluster, user) = (Cluster::new(), User::new(1));
        let contract = cluster.deploy(&user, 1, &wat::parse_str(SOURCE).unwrap(), &[]);
        Self { cluster, user, contract, commands: 10 }
    }

    fn ext(&mut self, function: u32, arguments: impl Encode) -> Result<Vec<u8>, Coded> {
        self.commands += 1;
        let data = [&function.to_le_bytes()[..], &[0xfe], &arguments.encode()].concat();
        let outcome = self.cluster.call(&self.user, self.commands, self.contract, &data);
        Ok(outcome.result?.data)
    }

    fn ask(&mut self, tag: &[u8; 4], timeout_ms: u64) {
        let request = HttpRequest { url: "http://a/".into(), method: "GET".into(), headers: vec![], body: vec![] };
        self.ext(101, (request, timeout_ms, callback(tag))).unwrap();
    }

    fn timer(&mut self, tag: &[u8; 4], delay_ms: u64, period_ms: u64) -> Vec<u8> {
        self.ext(102, (delay_ms, period_ms, callback(tag))).unwrap()
    }

    fn count(&self, tag: &[u8; 4]) -> u64 {
        let data = self.cluster.query(&self.user, self.contract, &[&tag[..], &[0xff]].concat()).unwrap().data;
        u64::from_le_bytes(data.try_into().unwrap())
    }

    fn replica(&self, at: usize) -> &Arc<Replica> {
        &self.cluster.replicas[at]
    }

    /// Lets so much time pass, and then an entry come.
    fn pass(&mut self, ms: u64) {
        self.cluster.now += ms;
        self.cluster.step(0);
    }

    /// The requests whose turn is this member's now.
    fn turns(&self, at: usize) -> Vec<Arc<Wanted>> {
        self.replica(at).take_turns(self.cluster.now)
    }

    /// Everything dies and comes back in a new epoch. What waits must be the same, to the millisecond.
    fn crash(&mut self) {
        let before = tables(&self.cluster);
        self.cluster.crash();
        assert_eq!(tables(&self.cluster), before);
        let floor = self.cluster.floor();
        self.cluster.enter(floor);
    }

    fn deliver(&mut self, member: usize, id: u64) {
        let result: HttpResult = Err(HttpError::Timeout);
        drop(self.replica(member).deliver(id, result.encode(), self.cluster.now).unwrap());
    }
}

fn callback(tag: &[u8; 4]) -> impl Encode {
    (SELECTOR, tag.to_vec(), 100_000_000u64)
}

/// Timers by when they are due, and requests.
type Table = (BTreeSet<(u64, u64)>, BTreeSet<u64>);

/// What waits at each replica.
fn tables(cluster: &Cluster) -> Vec<Table> {
    cluster.replicas.iter().map(|replica| replica.waiting_jobs()).collect()
}

#[test]
fn what_waits_survives_crashes_and_calls_back_once() {
    let mut scene = Scene::new();
    scene.ask(b"asks", 1000);
    scene.timer(b"once", 200, 0);
    scene.timer(b"more", 50, 50);
    scene.pass(60);
    assert_eq!((scene.count(b"once"), scene.count(b"more")), (0, 1));
    scene.crash();
    scene.pass(10);
    let before = scene.count(b"more");
    scene.pass(500);
    assert_eq!((scene.count(b"once"), scene.count(b"more")), (1, before + 1), "what was missed is left out");
    scene.crash();
    // Two members performed the request; their words come in one entry.
    let id = (0..4).flat_map(|member| scene.turns(member)).map(|wanted| wanted.id).next().unwrap();
    scene.deliver(0, id);
    scene.deliver(1, id);
    scene.cluster.replicas[0].received(&forwarded(&scene, 1), scene.cluster.now);
    scene.pass(1);
    assert_eq!(scene.count(b"asks"), 1);
    scene.crash();
    scene.deliver(2, id);
    scene.cluster.step(2);
    assert_eq!((scene.count(b"asks"), scene.count(b"once")), (1, 1));
    assert!((0..4).all(|member| scene.turns(member).is_empty() && scene.replica(member).next_turn().is_none()));
}

/// What waits in a member's pool, as it forwards it.
fn forwarded(scene: &Scene, member: usize) -> Vec<u8> {
    scene.replica(member).pool_commands().encode()
}

#[test]
fn periods_do_not_drift_and_write_nothing() {
    let mut scene = Scene::new();
    scene.timer(b"tick", 100, 100);
    let start = scene.cluster.now;
    let due = scene.replica(0).next_due().unwrap();
    assert_eq!(due, start + 100);
    for round in 1..=30 {
        // Late by a little more each time.
        scene.cluster.now = start + 100 * round + round - 5;
        scene.cluster.step(0);
        assert_eq!((scene.count(b"tick"), scene.replica(0).next_due()), (round, Some(due + 100 * round)));
    }
    let root = |scene: &Scene| scene.replica(0).applied().root;
    scene.cluster.now += 1;
    let before = root(&scene);
    scene.cluster.step(0);
    assert_eq!(root(&scene), before, "an entry without a call changes nothing");
    scene.crash();
}

#[test]
fn timers_that_an_entry_has_no_room_for_are_called_by_the_next_though_all_die_in_between() {
    let mut scene = Scene::new();
    let timers: Vec<_> = (0..300u32).map(|_| scene_timer(&mut scene)).collect();
    scene.pass(20_000);
    let first = scene.count(b"many");
    assert_eq!(first, 256);
    scene.crash();
    scene.cluster.step(0);
    assert_eq!(scene.count(b"many"), 300);
    scene.crash();
    scene.pass(10_000);
    scene.cluster.step(0);
    assert_eq!(scene.count(b"many"), 600);
    for timer in &timers[..2] {
        scene.ext(103, u64::from_le_bytes(timer.clone().try_into().unwrap())).unwrap();
    }
    scene.crash();
    assert_eq!(tables(&scene.cluster)[0].0.len(), 298);
}

/// A timer that is due seldom enough to set 300 of them.
fn scene_timer(scene: &mut Scene) -> Vec<u8> {
    let timer = scene.timer(b"many", 10_000, 10_000);
    // The ids of commands are one byte in these tests.
    if scene.commands > 250 {
        (scene.user, scene.commands) = (User::new(scene.cluster.now as u8 | 1), 10);
    }
    timer
}

#[test]
fn each_request_is_one_members_turn_at_a_time_and_told_once_in_it() {
    let mut scene = Scene::new();
    for tag in [b"aaaa", b"bbbb", b"cccc"] {
        scene.ask(tag, 1000);
    }
    let mut turns = vec![BTreeSet::new(); 3];
    for _ in 0..40 {
        let told: Vec<_> = (0..4).map(|member| scene.turns(member)).collect();
        for (member, wanted) in told.iter().enumerate().flat_map(|(m, all)| all.iter().map(move |wanted| (m, wanted))) {
            let mine = |member: usize| scene.replica(member).is_mine(wanted.id, scene.cluster.now);
            assert_eq!((0..4).filter(|other| mine(*other)).collect::<Vec<_>>(), [member]);
            let at = usize::from(wanted.asked_ms > scene.cluster.now);
            turns[at].insert((scene.cluster.now, wanted.id, member));
        }
        scene.cluster.now += 500;
    }
    // 20 s are more than six turns of 3 s.
    let all: Vec<_> = turns.into_iter().flatten().collect();
    let members: BTreeSet<_> = all.iter().map(|(_, id, member)| (*id, *member)).collect();
    assert_eq!(members.len(), 12, "every member gets its turn for each of three");
    assert!((19..=21).contains(&all.len()), "{}", all.len());
}

fn post(path: &str) -> HookRequest {
    HookRequest { method: "POST".into(), path: path.into(), query: String::new(), headers: vec![], body: vec![] }
}

fn open(scene: &mut Scene, path: &str) -> Result<Vec<u8>, Coded> {
    scene.ext(108, (path, SELECTOR, 50_000_000u64, 0u32))
}

fn code<T: std::fmt::Debug>(result: Result<T, Coded>) -> Option<Code> {
    result.unwrap_err().known()
}

#[test]
fn an_http_request_is_executed_once_under_its_key_whoever_brings_it() {
    let mut scene = Scene::new();
    let (contract, now) = (scene.contract, scene.cluster.now);
    assert_eq!(code(scene.replica(0).hook(contract, &post("h/-0001"), None, now)), Some(Code::NoHook));
    assert_eq!(code(scene.replica(0).hook(AccountId([9; 32]), &post("h"), None, now)), Some(Code::NoContract));
    open(&mut scene, "h").unwrap();
    scene.crash();
    let now = scene.cluster.now;
    let bring =
        |scene: &Scene, member: usize| scene.replica(member).hook(contract, &post("h/-0001"), Some(b"key"), now);
    let (mut first, mut second) = (bring(&scene, 0).unwrap(), bring(&scene, 1).unwrap());
    scene.cluster.step(0);
    assert_eq!(scene.count(b"0001"), 1);
    let read = |ticket: &mut crate::Ticket| match ticket.try_recv().unwrap() {
        Some(Ok(Answer::Command { outcome, .. })) => outcome.result.unwrap().data,
        other => panic!("{other:?}"),
    };
    assert_eq!(read(&mut first), 1u64.encode());
    // The other member's own command comes later, and is known.
    scene.cluster.step(1);
    assert_eq!((read(&mut second), scene.count(b"0001")), (1u64.encode(), 1));
    scene.crash();
    let mut third = bring(&scene, 3).unwrap();
    assert_eq!((read(&mut third), scene.count(b"0001")), (1u64.encode(), 1));
    // Without a key, or with another, it is another request.
    for key in [None, Some(&b"other"[..])] {
        drop(scene.replica(0).hook(contract, &post("h/-0001"), key, now).unwrap());
    }
    scene.cluster.step(0);
    assert_eq!(scene.count(b"0001"), 3);
}

#[test]
fn the_most_precise_hook_serves_and_a_closed_one_does_not() {
    let mut scene = Scene::new();
    let (contract, now) = (scene.contract, scene.cluster.now);
    for number in 0..16 {
        open(&mut scene, &format!("h/{number}")).unwrap();
    }
    assert_eq!(code(open(&mut scene, "")), Some(Code::TooManyHooks));
    open(&mut scene, "h/3").unwrap();
    scene.ext(109, "h/4").unwrap();
    assert_eq!(code(scene.replica(0).hook(contract, &post("h/4"), None, now)), Some(Code::NoHook));
    assert!(scene.replica(0).hook(contract, &post("h/3/deep"), None, now).is_ok());
    open(&mut scene, "").unwrap();
    assert!(scene.replica(0).hook(contract, &post("h/4"), None, now).is_ok());
    // A hook that was closed while a request waited.
    let mut ticket = scene.replica(0).hook(contract, &post("h/5"), None, now).unwrap();
    scene.ext(109, "").unwrap();
    scene.ext(109, "h/5").unwrap();
    scene.cluster.step(0);
    let Some(Ok(Answer::Command { .. })) = ticket.try_recv().unwrap() else { panic!("it must be answered") };
}

#[test]
fn a_flood_of_one_hook_leaves_room_for_others() {
    let mut scene = Scene::new();
    open(&mut scene, "h").unwrap();
    let (contract, now) = (scene.contract, scene.cluster.now);
    for _ in 0..MAX_POOL_PER_HOOK {
        drop(scene.replica(0).hook(contract, &post("h/-0001"), None, now).unwrap());
    }
    assert_eq!(code(scene.replica(0).hook(contract, &post("h/-0001"), None, now)), Some(Code::HookBusy));
    let other = User::new(7);
    let data = [b"tags".to_vec(), vec![0xff]].concat();
    let command = other.command(99, Action::Call { contract, data }, GAS, scene.cluster.deadline());
    let mut ticket = scene.replica(0).submit(command, now).unwrap();
    let header = scene.cluster.step(0);
    assert!(ticket.try_recv().unwrap().is_some(), "it is among the first of the entry");
    assert_eq!(header.count as usize, MAX_POOL_PER_HOOK + 1);
    assert!(scene.replica(0).hook(contract, &post("h/-0001"), None, now).is_ok());
}

#[test]
fn only_members_bring_http_requests() {
    let mut scene = Scene::new();
    open(&mut scene, "h").unwrap();
    let action = Action::Hook { contract: scene.contract, request: post("h").encode() };
    let forged = scene.user.command(200, action, 0, scene.cluster.deadline());
    assert_eq!(code(scene.replica(0).submit(forged, scene.cluster.now)), Some(Code::NotMember));
}

#[test]
fn events_are_chained_and_pages_fit_onto_each_other() {
    let mut scene = Scene::new();
    let contract = scene.contract;
    for number in 0..5u32 {
        scene.commands += 1;
        let data = [&number.to_be_bytes()[..], &[0xfd]].concat();
        let (user, id) = (&scene.user, scene.commands);
        scene.cluster.call(user, id, contract, &data).result.unwrap();
        scene.ext(10, (3u8, "no event")).unwrap();
    }
    scene.crash();
    let (mut chain, mut from, mut events) = (EventChain::default(), 0, 0);
    loop {
        let page = scene
            .replica(1)
            .log(&LogQuery { contract, queries: false, from, limit: 3, wait_ms: 0, min_height: 0 })
            .unwrap();
        assert_eq!(page.events, chain);
        if page.records.is_empty() {
            break;
        }
        events += page.records.iter().filter(|record| matches!(record.said, Said::Event { .. })).count();
        chain = page.records.iter().fold(chain, |chain, record| chain.with(&contract, &record.said));
        from = page.next;
    }
    let data = [&23u32.to_le_bytes()[..], &[0xfe]].concat();
    let told = scene.cluster.query(&scene.user, contract, &data).unwrap().data;
    assert_eq!((events, chain.count), (5, 5));
    assert_eq!(told, (chain.count, chain.head).encode(), "what the contract itself knows");
    // One that is withheld, altered or put elsewhere gives another.
    let event = |data: u8| Said::Event { topics: vec![], data: vec![data] };
    let of = |all: &[u8]| all.iter().fold(EventChain::default(), |chain, data| chain.with(&contract, &event(*data)));
    let chains = [of(&[1, 2, 3]), of(&[1, 3]), of(&[1, 3, 2]), of(&[1, 2, 4])];
    assert!(chains.iter().enumerate().all(|(at, chain)| !chains[..at].contains(chain)));
}

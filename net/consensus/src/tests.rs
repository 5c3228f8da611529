//! The engine under a counting application, in simulation and on loopback.

use crate::{
    Application, Lie, Link, LogConfig, LogHandle, Peer, Recipient, Runtime, Secret, Sim, block::hash, simulate,
};
use bytes::Bytes;
use commonware_codec::{Copying, DecodeExt as _};
use commonware_cryptography::{Signer as _, ed25519};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use phala_primitives::{
    Block, Certificate, Finality, Hash, Position, PublicKey, Shape, Verdict, blake2_256, misbehaviour::DoubleVote,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Notify;

const NAMESPACE: &[u8] = b"phala/test";
const N: usize = 4;

/// Header: parent, height (little endian), hash of the body.
fn block(parent: Hash, height: u64, body: &[u8]) -> Block {
    let header = [&parent.0[..], &height.to_le_bytes(), &blake2_256(body).0].concat();
    Block { header: header.into(), body: Bytes::copy_from_slice(body) }
}

fn shape(block: &Block) -> Option<Shape> {
    let parent: [u8; 32] = block.header.get(..32)?.try_into().ok()?;
    let height: [u8; 8] = block.header.get(32..40)?.try_into().ok()?;
    let bound = block.header.get(40..)? == blake2_256(&block.body).0;
    bound.then_some(Shape { height: u64::from_le_bytes(height), parent: Hash(parent) })
}

/// What a member does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// Nothing.
    None,
    /// It proposes bodies that their headers do not bind, and calls them sound.
    Unbound,
}

/// Orders bytes that were put into `queue`, and remembers what became final.
struct App {
    genesis: u64,
    fault: Fault,
    queue: Mutex<Vec<u8>>,
    wake: Arc<Notify>,
    chain: Mutex<Vec<(Block, Finality)>>,
    inbox: Mutex<Vec<(PublicKey, Bytes)>>,
    proofs: Mutex<Vec<DoubleVote>>,
    /// Verdicts of `Later` still to be given.
    later: Mutex<u32>,
}

impl App {
    fn new(genesis: u64, fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            genesis,
            fault,
            queue: Mutex::default(),
            wake: Arc::default(),
            chain: Mutex::default(),
            inbox: Mutex::default(),
            proofs: Mutex::default(),
            later: Mutex::new(0),
        })
    }

    fn push(&self, byte: u8) {
        self.queue.lock().push(byte);
        self.wake.notify_one();
    }

    fn height(&self) -> u64 {
        self.chain.lock().last().and_then(|(block, _)| shape(block)).map_or(self.genesis, |shape| shape.height)
    }
}

impl Application for App {
    fn genesis(&self) -> Block {
        block(Hash([7; 32]), self.genesis, b"")
    }

    fn inspect(&self, block: &Block) -> Option<Shape> {
        match self.fault {
            Fault::None => shape(block),
            // Takes its own word for it.
            Fault::Unbound => shape(block).or_else(|| {
                let whole = Block { header: block.header.clone(), body: Bytes::from_static(b"honest") };
                shape(&whole)
            }),
        }
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        let wake = self.wake.clone();
        Box::pin(async move { wake.notified().await })
    }

    fn propose(&self, _: Position, ancestry: &[Block]) -> Option<Block> {
        let parent = ancestry.last()?;
        let height = shape(parent)?.height + 1;
        let body = std::mem::take(&mut *self.queue.lock());
        match self.fault {
            Fault::None => Some(block(parent.digest(), height, &body)),
            Fault::Unbound => {
                Some(Block { body: Bytes::from_static(b"forged"), ..block(parent.digest(), height, b"honest") })
            }
        }
    }

    fn verify(&self, _: Position, ancestry: &[Block], block: &Block) -> Verdict {
        let (Some(parent), Some(shape_of)) = (ancestry.last(), self.inspect(block)) else { return Verdict::Reject };
        let mut later = self.later.lock();
        if *later > 0 {
            *later -= 1;
            return Verdict::Later;
        }
        if shape_of.parent == parent.digest() { Verdict::Accept } else { Verdict::Reject }
    }

    fn finalized(&self, block: Block, finality: Finality) {
        let mut chain = self.chain.lock();
        // At least once: what is known already is the same.
        if let Some((known, _)) = chain.iter().find(|(known, _)| shape(known) == shape(&block)) {
            assert_eq!(*known, block);
            return;
        }
        if let Some((last, _)) = chain.last() {
            assert_eq!(shape(&block).unwrap().parent, last.digest(), "delivered out of order");
        }
        chain.push((block, finality));
    }

    fn misbehaved(&self, proof: DoubleVote) {
        self.proofs.lock().push(proof);
    }

    fn received(&self, from: PublicKey, message: Bytes) {
        self.inbox.lock().push((from, message));
    }
}

fn secret(index: usize) -> [u8; 32] {
    [index as u8 + 1; 32]
}

fn key(index: usize) -> PublicKey {
    let key = ed25519::PrivateKey::decode(Copying(&secret(index))).unwrap().public_key();
    key.as_ref().try_into().unwrap()
}

fn peers(addresses: &[SocketAddr]) -> Vec<Peer> {
    addresses.iter().enumerate().map(|(index, address)| Peer { key: key(index), address: *address }).collect()
}

fn nowhere() -> Vec<Peer> {
    peers(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 1)); N])
}

fn cluster(index: usize, peers: Vec<Peer>) -> LogConfig {
    LogConfig::cluster(Secret::new(secret(index)), peers, 3, NAMESPACE.to_vec(), format!("node{index}-e3"))
}

fn chain(index: usize) -> LogConfig {
    LogConfig::chain(Secret::new(secret(index)), nowhere(), 0, b"phala/chain".to_vec(), "chain".into())
}

/// All members agree on what they have both, and hold certificates that prove it.
fn agree(apps: &[Arc<App>]) -> usize {
    let chains: Vec<_> = apps.iter().map(|app| app.chain.lock().clone()).collect();
    let longest = chains.iter().max_by_key(|chain| chain.len()).unwrap();
    for chain in &chains {
        for ((mine, _), (theirs, _)) in chain.iter().zip(longest) {
            assert_eq!(mine, theirs, "two members hold different final blocks");
        }
    }
    longest.len()
}

struct Four {
    apps: Vec<Arc<App>>,
    logs: Vec<LogHandle>,
}

fn trace() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_ansi(false)
        .try_init();
}

async fn four(sim: &Sim, config: impl Fn(usize) -> LogConfig, genesis: u64) -> Four {
    let apps: Vec<_> = (0..N).map(|_| App::new(genesis, Fault::None)).collect();
    let mut logs = Vec::new();
    for (index, app) in apps.iter().enumerate() {
        logs.push(sim.start(index, config(index), app.clone()).await.unwrap());
    }
    Four { apps, logs }
}

async fn everywhere(sim: &Sim, link: Link) {
    for a in 0..N {
        for b in a + 1..N {
            sim.set_link(a, b, link).await;
        }
    }
}

/// Loss, a partition, a crash and a restart from own storage. Returns how many blocks became final.
fn trials(seed: u64, config: fn(usize) -> LogConfig) -> (usize, String) {
    simulate(seed, async |sim| {
        everywhere(&sim, Link { latency_ms: 10, jitter_ms: 5, loss: 0.1 }).await;
        let Four { mut apps, .. } = four(&sim, config, 0).await;
        sim.sleep_ms(30_000).await;
        let lossy = agree(&apps);
        assert!(lossy >= 8, "{lossy} blocks in 30 s with 10 % loss");

        sim.partition(&[&[0, 1], &[2, 3]]).await;
        sim.sleep_ms(1_000).await;
        let before = agree(&apps);
        sim.sleep_ms(10_000).await;
        assert_eq!(agree(&apps), before, "two of four decided alone");
        sim.heal().await;
        sim.sleep_ms(20_000).await;
        let healed = agree(&apps);
        assert!(healed > before + 3, "{before} blocks, then {healed}");

        sim.crash(3).await;
        sim.sleep_ms(10_000).await;
        assert!(agree(&apps) > healed);
        // Its storage knows what it had taken, so the fresh application hears of later blocks only.
        let had = apps[3].height();
        apps[3] = App::new(0, Fault::None);
        sim.start(3, config(3), apps[3].clone()).await.unwrap();
        sim.sleep_ms(20_000).await;
        let first = shape(&apps[3].chain.lock()[0].0).unwrap().height;
        assert!(first <= had + 1 && first + 3 > had, "taken up to {had}, then from {first}");
        assert!(apps[3].height() + 5 >= apps[0].height());
        agree(&apps[..3])
    })
}

/// Seeds from `SEED` (one number, or two with `..` between) or one that is always tried.
fn seeds() -> std::ops::Range<u64> {
    let text = std::env::var("SEED").unwrap_or_else(|_| "1".into());
    let (from, to) = text.split_once("..").unwrap_or((&text, ""));
    let from = from.parse().unwrap();
    from..to.parse().unwrap_or(from + 1)
}

#[test]
fn logs_survive_loss_parting_and_crashes() {
    for seed in seeds() {
        println!("seed {seed}");
        let run = trials(seed, chain);
        assert_eq!(run, trials(seed, chain), "the same seed gave another run");
        trials(seed, |index| cluster(index, nowhere()));
    }
}

#[test]
fn a_late_member_gets_all_blocks_in_order() {
    simulate(2, async |sim| {
        let apps: Vec<_> = (0..N).map(|_| App::new(40, Fault::None)).collect();
        let config = |index| LogConfig { prune_step: 8, ..cluster(index, nowhere()) };
        let mut logs = Vec::new();
        for (index, app) in apps.iter().enumerate().take(3) {
            logs.push(sim.start(index, config(index), app.clone()).await.unwrap());
        }
        sim.sleep_ms(5_000).await;
        let blocks = agree(&apps);
        assert!(blocks >= 20, "{blocks} heartbeats in 5 s");
        // One of three has forgotten the beginning; the others have it.
        logs[0].prune(60);
        sim.start(3, config(3), apps[3].clone()).await.unwrap();
        sim.sleep_ms(3_000).await;
        assert_eq!(shape(&apps[3].chain.lock()[0].0).unwrap().height, 41, "heights go on from the genesis");
        assert!(apps[3].height() + 5 >= apps[0].height());
        agree(&apps);
    });
}

#[test]
fn a_leader_that_dies_is_replaced_and_messages_find_the_next() {
    simulate(3, async |sim| {
        let Four { mut apps, logs } = four(&sim, |index| cluster(index, nowhere()), 0).await;
        *apps[1].later.lock() = 3;
        sim.sleep_ms(3_000).await;
        let leader = logs[0].leader().unwrap();
        let at = (0..N).find(|index| key(*index) == leader).unwrap();
        assert_eq!(logs[0].peers(), N - 1);
        sim.crash(at).await;
        apps.remove(at);
        let others: Vec<_> = (0..N).filter(|index| *index != at).collect();
        let before = agree(&apps);
        sim.sleep_ms(3_000).await;
        assert!(agree(&apps) > before + 10, "no progress without the first leader");
        let next = logs[others[0]].leader().unwrap();
        assert_ne!(next, leader);
        for index in &others {
            assert_eq!(logs[*index].leader(), Some(next));
        }
        let sender = *others.iter().find(|index| key(**index) != next).unwrap();
        assert!(logs[sender].send(Recipient::Leader, Bytes::from_static(b"hello")));
        assert!(logs[sender].send(Recipient::All, Bytes::from_static(b"all")));
        assert!(!logs[sender].send(Recipient::All, vec![0; 2 << 20].into()), "too large a message was taken");
        sim.sleep_ms(200).await;
        for (app, index) in apps.iter().zip(&others) {
            let inbox = app.inbox.lock();
            let heard = |what: &'static [u8]| inbox.contains(&(key(sender), Bytes::from_static(what)));
            assert_eq!(heard(b"hello"), key(*index) == next);
            assert_eq!(heard(b"all"), *index != sender);
        }
    });
}

/// How long a loaded cluster orders nothing when its leader dies so many milliseconds after something became final.
fn standstill(seed: u64, phase: u64) -> u64 {
    let (time, _) = simulate(seed, async |sim| {
        let Four { mut apps, logs } = four(&sim, |index| cluster(index, nowhere()), 0).await;
        everywhere(&sim, Link { latency_ms: 2, jitter_ms: 2, loss: 0.0 }).await;
        let load = async |apps: &[Arc<App>]| {
            apps.iter().for_each(|app| app.push(1));
            sim.sleep_ms(1).await;
        };
        let length = |apps: &[Arc<App>]| apps.iter().map(|app| app.chain.lock().len()).max().unwrap();
        while length(&apps) < 40 {
            load(&apps).await;
        }
        for _ in 0..phase {
            load(&apps).await;
        }
        let leader = logs[0].leader().unwrap();
        let at = (0..N).find(|index| key(*index) == leader).unwrap();
        sim.crash(at).await;
        apps.remove(at);
        // What was on its way becomes final yet.
        let (mut since, mut last) = (sim.now_ms(), length(&apps));
        let begin = since;
        loop {
            load(&apps).await;
            let (now, next) = (sim.now_ms(), length(&apps));
            if next > last && now - since > 50 {
                return now - since;
            }
            if next > last {
                (since, last) = (now, next);
            }
            assert!(now - begin < 5_000, "nothing after {phase} ms, seed {seed}");
        }
    });
    time
}

#[test]
fn a_dead_leader_costs_less_than_half_a_second_whenever_it_dies() {
    let times: Vec<_> = (0..24).map(|phase| standstill(phase, phase)).collect();
    println!("{times:?}");
    assert!(times.iter().all(|time| *time < 400), "{times:?}");
}

#[test]
fn a_body_that_its_header_does_not_bind_is_never_final() {
    simulate(4, async |sim| {
        let apps: Vec<_> =
            (0..N).map(|index| App::new(0, if index == 0 { Fault::Unbound } else { Fault::None })).collect();
        for (index, app) in apps.iter().enumerate() {
            sim.start(index, chain(index), app.clone()).await.unwrap();
        }
        sim.sleep_ms(40_000).await;
        assert!(apps[1].height() > 5, "one bad member of four stopped the log");
        for app in &apps[1..] {
            assert!(app.chain.lock().iter().all(|(block, _)| shape(block).is_some()));
        }
        agree(&apps[1..]);
    });
}

#[test]
fn certificates_prove_blocks_without_the_engine() {
    trace();
    simulate(5, async |sim| {
        let Four { apps, .. } = four(&sim, |index| cluster(index, nowhere()), 9).await;
        sim.sleep_ms(2_000).await;
        let members: Vec<_> = (0..N).map(key).collect();
        let chain = apps[2].chain.lock().clone();
        assert!(chain.len() > 5);
        let parent = |header: &[u8]| Some(Hash(header.get(..32)?.try_into().ok()?));
        for (block, finality) in &chain {
            finality.certificate.verify(NAMESPACE, &members).unwrap();
            assert_eq!(finality.certificate.epoch, 3);
            assert!(finality.leads_from(block.digest(), parent));
        }
        let good = chain[3].1.certificate.clone();
        let bad = |change: &dyn Fn(&mut Certificate)| {
            let mut altered = good.clone();
            change(&mut altered);
            assert!(altered.verify(NAMESPACE, &members).is_err());
        };
        bad(&|c| c.epoch += 1);
        bad(&|c| c.view += 1);
        bad(&|c| c.parent_view += 1);
        bad(&|c| c.digest = hash(&crate::block::digest(Hash([1; 32]))));
        bad(&|c| c.votes[0].1[5] ^= 1);
        bad(&|c| c.votes[1] = c.votes[0]);
        bad(&|c| c.votes.swap(0, 1));
        bad(&|c| c.votes.truncate(2));
        bad(&|c| c.votes[0].0 = 4);
        assert!(good.verify(b"phala/other", &members).is_err());
        assert!(good.verify(NAMESPACE, &members[..3]).is_err());
    });
}

/// Who leads a log with this configuration at first.
fn first_leader(config: fn(usize) -> LogConfig) -> usize {
    let leader = simulate(6, async |sim| {
        let Four { logs, .. } = four(&sim, config, 0).await;
        sim.sleep_ms(1_000).await;
        logs[0].leader().unwrap()
    });
    (0..N).find(|index| key(*index) == leader.0).unwrap()
}

/// Four members of which one lies. Returns what the others prove.
fn lied(lie: Lie, config: fn(usize) -> LogConfig, liar: usize) -> Vec<DoubleVote> {
    let (proofs, _) = simulate(6, async |sim| {
        let Four { mut apps, .. } = four(&sim, config, 0).await;
        sim.sleep_ms(3_000).await;
        assert!(apps.iter().all(|app| app.proofs.lock().is_empty()), "the honest are blamed");
        sim.corrupt(liar, Some(lie));
        let before = agree(&apps);
        sim.sleep_ms(15_000).await;
        apps.remove(liar);
        assert!(agree(&apps) > before + 3, "{lie:?} stopped the log");
        assert!(apps.iter().all(|app| app.proofs.lock().len() <= 1), "one proof is enough");
        apps.iter().flat_map(|app| app.proofs.lock().clone()).collect()
    });
    proofs
}

#[test]
fn who_votes_against_itself_is_proven_guilty_without_the_engine() {
    trace();
    let cluster: fn(usize) -> LogConfig = |index| cluster(index, nowhere());
    let (leader, chain): (_, fn(usize) -> LogConfig) = (first_leader(cluster), chain);
    for lie in [Lie::Notarize, Lie::Finalize, Lie::Nullify, Lie::TwoFaced] {
        for (config, liar, namespace) in [
            (cluster, leader, NAMESPACE),
            (cluster, (leader + 1) % N, NAMESPACE),
            (chain, 2, b"phala/chain".as_slice()),
        ] {
            let proofs = lied(lie, config, liar);
            // Of one that does not lead, both faces need not ever meet.
            assert!(!proofs.is_empty() || (lie == Lie::TwoFaced && liar != leader), "{lie:?} was not found");
            for proof in &proofs {
                assert_eq!(proof.identity, key(liar));
                proof.verify(namespace).unwrap();
                assert!(proof.verify(b"phala/other").is_err());
                assert!(DoubleVote { view: proof.view + 1, ..proof.clone() }.verify(namespace).is_err());
                assert!(DoubleVote { epoch: proof.epoch + 1, ..proof.clone() }.verify(namespace).is_err());
                assert!(DoubleVote { identity: key((liar + 1) % N), ..proof.clone() }.verify(namespace).is_err());
                assert!(DoubleVote { second: proof.first, ..proof.clone() }.verify(namespace).is_err());
            }
        }
    }
}

#[test]
fn two_with_one_key_decide_nothing_twice_and_nobody_else_is_blamed() {
    let cluster: fn(usize) -> LogConfig = |index| cluster(index, nowhere());
    let cloned = first_leader(cluster);
    let others: Vec<usize> = (0..N).filter(|index| *index != cloned).collect();
    for seed in 1..=2 {
        simulate(seed, async |sim| {
            sim.clone_member(cloned, 10 + cloned);
            let apps: Vec<_> = (0..=N).map(|_| App::new(0, Fault::None)).collect();
            // Each of the two has something of its own to propose, and somebody to propose it to.
            apps[cloned].push(1);
            apps[N].push(2);
            for index in 0..N {
                sim.start(index, cluster(index), apps[index].clone()).await.unwrap();
                if index == cloned {
                    sim.start(10 + cloned, cluster(cloned), apps[N].clone()).await.unwrap();
                }
            }
            sim.wake(cloned, &others[..2]);
            let before = agree(&apps);
            sim.sleep_ms(8_000).await;
            assert!(agree(&apps) > before + 3, "the log stands still");
            let proofs: Vec<_> = others.iter().flat_map(|index| apps[*index].proofs.lock().clone()).collect();
            // They are found only if what both have signed in one view meets at one member.
            assert!(proofs.iter().all(|proof| proof.identity == key(cloned) && proof.verify(NAMESPACE).is_ok()));
        });
    }
}

/// Addresses that are free now.
fn ports() -> Vec<SocketAddr> {
    let taken: Vec<_> = (0..N).map(|_| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    taken.iter().map(|listener| listener.local_addr().unwrap()).collect()
}

fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn folder(name: &str) -> std::path::PathBuf {
    let base = std::path::Path::new("/dev/shm");
    let base = if base.is_dir() { base.to_owned() } else { std::env::temp_dir() };
    base.join(format!("phala-consensus-{name}-{}", std::process::id()))
}

#[test]
fn a_log_runs_on_sockets_stops_and_goes_on() {
    let folder = folder("smoke");
    let ports = ports();
    let runtime = Runtime::start(&folder, 2).unwrap();
    let apps: Vec<_> = (0..N).map(|_| App::new(0, Fault::None)).collect();
    let start =
        |index: usize, app: &Arc<App>| runtime.start_log(ports[index], cluster(index, peers(&ports)), app.clone());
    let mut logs: Vec<_> = apps.iter().enumerate().map(|(index, app)| start(index, app).unwrap()).collect();
    assert!(start(0, &apps[0]).is_err(), "an address was taken twice");
    until("no progress", || apps.iter().all(|app| app.height() > 5));

    logs[1].stop();
    futures::executor::block_on(logs[1].stopped());
    assert!(!logs[1].failed());
    let had = apps[1].height();
    let fresh = App::new(0, Fault::None);
    logs[1] = start(1, &fresh).unwrap();
    until("no progress after a restart", || fresh.height() > had + 5 && fresh.height() + 5 > apps[0].height());
    agree(&[apps[0].clone(), apps[2].clone(), apps[3].clone()]);
    drop(runtime);
    assert!(logs.iter().all(|log| !log.failed()));
    let _ = std::fs::remove_dir_all(folder);
}

/// Prints the time from a command's arrival at the leader until it is final. Run with `--ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn latency_of_a_cluster() {
    trace();
    let folder = folder("latency");
    let ports = ports();
    let runtime = Runtime::start(&folder, 2).unwrap();
    let apps: Vec<_> = (0..N).map(|_| App::new(0, Fault::None)).collect();
    let logs: Vec<_> = (0..N)
        .map(|index| runtime.start_log(ports[index], cluster(index, peers(&ports)), apps[index].clone()).unwrap())
        .collect();
    until("no progress", || apps.iter().all(|app| app.height() > 20));
    let leader = logs[0].leader().unwrap();
    let at = (0..N).find(|index| key(*index) == leader).unwrap();
    let (mut first, mut all) = (Vec::new(), Vec::new());
    for round in 0..500u32 {
        let heights: Vec<_> = apps.iter().map(|app| app.chain.lock().len()).collect();
        tracing::trace!(target: "phala_consensus", "arrives");
        let begin = Instant::now();
        apps[at].push(round as u8 | 1);
        let has = |index: usize| apps[index].chain.lock()[heights[index]..].iter().any(|(b, _)| !b.body.is_empty());
        while !(0..N).any(has) {
            std::thread::sleep(Duration::from_micros(50));
        }
        first.push(begin.elapsed());
        while !(0..N).all(has) {
            std::thread::sleep(Duration::from_micros(50));
        }
        all.push(begin.elapsed());
        std::thread::sleep(Duration::from_millis(7));
    }
    for (name, times) in [("first", &mut first), ("all", &mut all)] {
        times.sort();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!("final at {name}: p50 {:?} p90 {:?} p99 {:?}", at(0.5), at(0.9), at(0.99));
    }
    logs[at].stop();
    let begin = Instant::now();
    let other = (at + 1) % N;
    until("the leader was not replaced", || logs[other].leader().is_some_and(|next| next != leader));
    println!("another leader after {:?}", begin.elapsed());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmRSS")).unwrap());
    drop(runtime);
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn a_forged_vote_stands_in_for_no_genuine_one() {
    use ed25519_dalek::{Signer as _, SigningKey};
    use phala_primitives::misbehaviour::{Ballot, Proposal, Vote};

    let key = SigningKey::from_bytes(&[7; 32]);
    let vote = |byte: u8, forged: bool| {
        let proposal = Proposal { parent_view: 2, digest: Hash([byte; 32]) };
        let mut vote = Vote { ballot: Ballot::Notarize(proposal), signature: [9; 64] };
        if !forged {
            vote.signature = key.sign(&vote.message(NAMESPACE, 1, 3)).to_bytes();
        }
        vote
    };
    // Whatever comes first, in whichever order: two genuine votes that exclude each other are found.
    for votes in [
        [vote(1, true), vote(1, false), vote(2, false)],
        [vote(1, false), vote(1, true), vote(2, false)],
        [vote(2, true), vote(1, false), vote(2, false)],
        [vote(1, true), vote(2, false), vote(1, false)],
    ] {
        let mut witness = crate::witness::Witness::new(NAMESPACE.to_vec(), 1, vec![key.verifying_key().to_bytes()]);
        let proofs = votes.map(|vote| witness.compare(3, 0, vote));
        let [None, None, Some(proof)] = proofs else { panic!("{proofs:?}") };
        assert_eq!(proof.verify(NAMESPACE), Ok(()));
        assert_eq!(witness.compare(3, 0, vote(4, false)), None, "once is enough");
    }
}

//! One run: a network comes up, clients begin, faults come and go, all becomes quiet, and the books are compared.

use crate::{
    account::Account,
    audit,
    chain::{Chain, Stuck, stuck},
    check::{BOUND_MS, InvariantId, Violation, check},
    clients::{CLIENTS, Office},
    cluster::{self, CLUSTER, Cluster, NEIGHBOUR},
    errands,
    history::{Event, History, Seen, trace},
    plan::{Crash, Log, MEMBERS, Mistake, Partition, Plan, Return, Villain, Villainy, Way},
    served::Served,
};
use codec::Encode;
use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use parking_lot::Mutex;
use phala_attest::Anchors;
use phala_consensus::{Link, Sim, simulate};
use phala_node::GenesisSpec;
use phala_primitives::{AccountId, ClusterId, Hash, PHA, blake2_256, bridge::pot, records::contract_address, storage};
use phala_replica::Replica;
use phala_runtime::{EXISTENTIAL_DEPOSIT, RuntimeCall};
use phala_session::{Action, Answer, Freshness, Query};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
};

/// Tokens that there are in all.
const TOKENS: u128 = 1_000_000_000;
/// Tokens that each client begins with.
const PURSE: u128 = 10_000_000;
/// What each account of the chain begins with.
const ENDOWMENT: u128 = 100_000 * PHA;
/// Bundle of the token's contract.
const BUNDLE: &str = include_str!("../../contracts/fixtures/psp22.contract");
/// The token's constructor.
const NEW: [u8; 4] = [0x9b, 0xae, 0x9d, 0x5e];
/// `PSP22::total_supply`.
const TOTAL_SUPPLY: [u8; 4] = [0x16, 0x2d, 0xf8, 0xc2];

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Greatest height of the chain.
    pub chain: u64,
    /// Greatest height of the cluster's log.
    pub cluster: u64,
    /// Transfers that were acknowledged on the chain.
    pub transfers: usize,
    /// Commands that were acknowledged by the cluster.
    pub commands: usize,
    /// Reads that were answered.
    pub reads: usize,
    /// How many of them by the reader.
    pub by_reader: usize,
    /// Letters that came, of those that contracts of two clusters wrote to each other.
    pub letters: u64,
    /// How often a contract went from one cluster to the other.
    pub moves: usize,
    /// Everything that happened, as one hash: the same seed and plan give the same.
    pub digest: String,
    /// Invariants that did not hold.
    pub violations: Vec<Violation>,
}

/// Runs a seed under a plan and checks what happened.
pub fn run(seed: u64, plan: &Plan) -> Report {
    let history = History::default();
    let kept = history.clone();
    let simulated = catch_unwind(AssertUnwindSafe(|| {
        simulate(seed, async |sim| {
            if let Err(Stuck(what)) = Box::pin(scenario(&sim, seed, plan, &history)).await {
                history.add(sim.now_ms(), Event::Stuck { what });
            }
        })
    }));
    let (chain, cluster) = (kept.heights(Log::Chain).0, kept.heights(Log::Cluster).0);
    let seen = kept.take();
    let mut violations = check(&seen);
    let auditor = simulated.map(|((), auditor)| auditor).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
        violations.push(Violation { invariant: InvariantId::Liveness, detail: format!("a node panicked: {text}") });
        text
    });
    let acknowledged =
        |of| seen.iter().filter(|(_, e)| matches!(e, Event::Acknowledged { log, .. } if *log == of)).count();
    let digest = blake2_256(&(auditor, trace(&seen)).encode());
    Report {
        seed,
        chain,
        cluster,
        transfers: acknowledged(Log::Chain),
        commands: acknowledged(Log::Cluster),
        reads: seen.iter().filter(|(_, event)| matches!(event, Event::Read { .. })).count(),
        letters: letters(&seen),
        moves: moves(&seen),
        by_reader: seen.iter().filter(|(_, event)| matches!(event, Event::Read { since_ms: 0, .. })).count(),
        digest: hex::encode(&digest.0[..16]),
        violations,
    }
}

/// How many letters came, by the word of each cluster's first member.
fn letters(seen: &[Seen]) -> u64 {
    seen.iter()
        .filter_map(|(_, event)| if let Event::Letters { member: 0, got, .. } = event { Some(got) } else { None })
        .sum()
}

/// How often the contract that wanders was first told to count in another cluster than before.
fn moves(seen: &[Seen]) -> usize {
    let places =
        seen.iter().filter_map(|(_, event)| if let Event::Counted { log, .. } = event { Some(log) } else { None });
    let places: Vec<_> = places.collect();
    places.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

/// The shortest plan that can be made of this one by leaving things out, under which the invariant still does not hold.
pub fn shrink(seed: u64, plan: &Plan, broken: InvariantId) -> Plan {
    let breaks = |plan: &Plan| run(seed, plan).violations.iter().any(|violation| violation.invariant == broken);
    let mut shortest = plan.clone();
    while let Some(shorter) = shortest.shorter().into_iter().find(breaks) {
        shortest = shorter;
    }
    shortest
}

async fn scenario(sim: &Sim, seed: u64, plan: &Plan, history: &History) -> Result<(), Stuck> {
    connect(sim, plan).await;
    let clusters: Vec<ClusterId> = if plan.neighbour { vec![CLUSTER, NEIGHBOUR] } else { vec![CLUSTER] };
    let last = Office::CARRIER + clusters.len();
    let accounts: Vec<_> = (0..last).map(|number| Account::new(seed, &format!("account {number}"))).collect();
    let memory = Path::new("/dev/shm");
    let disks = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.map_err(stuck)?;
    let folder = |member: usize| {
        let crashes = plan.crashes.iter().any(|crash| crash.log == Log::Chain && crash.member == member);
        crashes.then(|| disks.path().join(member.to_string()))
    };
    let workers: Vec<_> = clusters.iter().flat_map(|id| cluster::workers(seed, *id)).collect();
    let owned: Vec<AccountId> = accounts.iter().chain(&workers).map(Account::id).collect();
    for account in 0..owned.len() as u32 {
        history.add(sim.now_ms(), Event::Endowed { log: Log::Chain, account, amount: ENDOWMENT });
    }
    // Who makes a cluster gives its pot what an account cannot be without; that is all that moves besides transfers.
    let given = EXISTENTIAL_DEPOSIT * clusters.len() as u128;
    let pots = (owned.len()..).zip(&clusters).map(|(pot, _)| (pot, EXISTENTIAL_DEPOSIT));
    for (account, amount) in pots.chain([(Office::OWNER, ENDOWMENT - given)]) {
        history.add(sim.now_ms(), Event::Endowed { log: Log::Chain, account: account as u32, amount });
    }
    let spec = |validators| GenesisSpec {
        name: "simulation".into(),
        production: false,
        open_clusters: true,
        validators,
        anchors: Anchors { simulated: vec![cluster::vendor(seed).anchor()] },
        endowed: owned.iter().map(|account| (*account, ENDOWMENT)).collect(),
    };
    let chain = Chain::start(sim, seed, history, spec, (0..MEMBERS).map(folder).collect()).await?;
    let cloned = plan.villain(Villainy::Cloned);
    let owner = &accounts[Office::OWNER];
    let mut cluster = Cluster::start(&chain, CLUSTER, seed, history, owner, cloned).await?;
    let mut neighbour = match plan.neighbour {
        true => Some(Cluster::start(&chain, NEIGHBOUR, seed, history, owner, None).await?),
        false => None,
    };
    let now = sim.now_ms();
    let reader = Arc::new(cluster.reader()?);
    let office = Arc::new(Office {
        sim: sim.clone(),
        seed,
        loss: plan.loss,
        mistake: plan.mistake,
        suspicious: plan.villain(Villainy::Invents).is_some() && plan.mistake != Some(Mistake::Gullible),
        history: history.clone(),
        chain: chain.clone(),
        served: cluster.served.clone(),
        neighbour: neighbour.as_ref().map(|cluster| cluster.served.clone()),
        reader: reader.clone(),
        token: Mutex::default(),
        credentials: accounts.iter().map(|account| account.credentials(seed, chain.genesis, now)).collect(),
        accounts,
        extrinsics: Mutex::default(),
        commands: Mutex::default(),
        errand: Mutex::default(),
        asked: Mutex::default(),
        writers: Mutex::default(),
        nomad: Mutex::default(),
        quiet: AtomicBool::new(false),
    });
    deploy(&office).await?;
    office.found_post().await?;
    for served in [Some(&office.served), office.neighbour.as_ref()].into_iter().flatten() {
        served.repeat(plan.twice);
    }
    let busy = begin(&office);
    sim.spawn(office.clone().outside());
    sim.spawn(reader.follow());
    sim.spawn(office.clone().read());
    cluster.remember();
    faults(sim, plan, &chain, (&mut cluster, neighbour.as_mut())).await?;
    settle(&office, plan, &busy).await;
    compare(&office, [Some(&cluster), neighbour.as_ref()].into_iter().flatten())
}

async fn connect(sim: &Sim, plan: &Plan) {
    let link = Link { latency_ms: plan.latency_ms, jitter_ms: plan.jitter_ms, loss: plan.loss };
    for a in 0..MEMBERS {
        for b in a + 1..MEMBERS {
            for (a, b) in Cluster::hosts(a).into_iter().zip(Cluster::hosts(b)) {
                sim.set_link(a, b, link).await;
            }
        }
    }
    for Way { from, to, latency_ms, loss } in &plan.ways {
        let link = Link { latency_ms: *latency_ms, loss: *loss, ..link };
        for (from, to) in Cluster::hosts(*from).into_iter().zip(Cluster::hosts(*to)) {
            sim.set_way(from, to, link).await;
        }
    }
}

/// The module in the token's bundle.
fn code() -> Result<Vec<u8>, Stuck> {
    let bundle: serde_json::Value = serde_json::from_str(BUNDLE).map_err(stuck)?;
    let text = bundle["source"]["wasm"].as_str().ok_or_else(|| stuck("the bundle holds no code"))?;
    hex::decode(text.trim_start_matches("0x")).map_err(stuck)
}

/// Puts the contracts there, and fills the clients' purses.
async fn deploy(office: &Arc<Office>) -> Result<(), Stuck> {
    let none = None::<String>;
    let token = place(office, &office.served, "the token", code()?, (NEW, TOKENS, &none, &none, 12u8).encode()).await?;
    *office.token.lock() = token;
    let errand = wat::parse_str(errands::SOURCE).map_err(stuck)?;
    *office.errand.lock() = place(office, &office.served, "the contract that asks", errand, vec![]).await?;
    let now = office.sim.now_ms();
    for account in 0..office.accounts.len() {
        let amount = if account == Office::OWNER { TOKENS } else { 0 };
        office.history.add(now, Event::Endowed { log: Log::Cluster, account: account as u32, amount });
    }
    join_all((0..CLIENTS).map(|client| office.pay(Office::OWNER, client, PURSE))).await;
    Ok(())
}

/// Puts a contract there, by the chain's word.
pub(crate) async fn place(
    office: &Office,
    to: &Served,
    what: &str,
    code: Vec<u8>,
    data: Vec<u8>,
) -> Result<AccountId, Stuck> {
    let (chain, owner) = (&office.chain, &office.accounts[Office::OWNER]);
    let code_hash = blake2_256(&code);
    let upload = pallet_clusters::Call::upload_code { code_hash, size: code.len() as u32 };
    let key = storage::code(&code_hash);
    let there = |key: Vec<u8>| move |node: &phala_node::Node| node.storage(&node.head().hash, &key).ok().flatten();
    chain.perform("the code", vec![(owner, RuntimeCall::Clusters(upload))], there(key.clone())).await?;
    let proof = chain.fact("the code", &key).await?;
    succeed(office, to, "the upload", Action::Upload { code, proof }).await?;

    let salt = vec![1u8];
    let contract = contract_address(&owner.id(), to.id, &code_hash, &salt);
    let create =
        pallet_clusters::Call::create_contract { cluster: to.id, code_hash, salt: salt.clone(), upgradable: false };
    let key = storage::contract(&contract);
    chain.perform("the contract", vec![(owner, RuntimeCall::Clusters(create))], there(key.clone())).await?;
    let proof = chain.fact("the contract", &key).await?;
    succeed(office, to, what, Action::Instantiate { contract, code_hash, salt, data, proof }).await?;
    Ok(contract)
}

async fn succeed(office: &Office, to: &Served, what: &str, action: Action) -> Result<(), Stuck> {
    let (outcome, proven, _) = office.order(to, office.command(to, Office::OWNER, action)).await;
    match outcome.result {
        Ok(output) if !output.reverted() && proven => Ok(()),
        other => Err(stuck(format!("{what} failed: {other:?}"))),
    }
}

/// Clients begin. Each takes its mark off when it is done.
fn begin(office: &Arc<Office>) -> Vec<Arc<AtomicBool>> {
    let mut tasks: Vec<BoxFuture<'static, ()>> = vec![];
    for log in [Log::Chain, Log::Cluster] {
        tasks.extend((0..CLIENTS).map(|client| office.clone().serve(log, client).boxed()));
    }
    tasks.push(office.clone().errands(0).boxed());
    if office.neighbour.is_some() {
        tasks.extend((0..2).map(|end| office.clone().write(end).boxed()));
        tasks.extend([office.clone().count().boxed(), office.clone().wander().boxed()]);
    }
    let begun = tasks.into_iter().map(|task| {
        let mark = Arc::new(AtomicBool::new(true));
        let done = mark.clone();
        office.sim.spawn(async move {
            task.await;
            done.store(false, Ordering::SeqCst);
        });
        mark
    });
    begun.collect()
}

enum Step {
    Part(Partition),
    Heal,
    Crash(Crash),
    /// All that come back at this time.
    Return(Vec<Crash>),
    Clock(usize, i64),
    Turn(Villain),
    Convict(Villain),
}

/// Everything that the plan has, in the order of time.
fn steps(plan: &Plan) -> Vec<(u64, Step)> {
    let mut steps = vec![];
    for partition in &plan.partitions {
        steps.push((partition.at_ms, Step::Part(partition.clone())));
        steps.push((partition.until_ms, Step::Heal));
    }
    let mut returns = BTreeMap::<u64, Vec<Crash>>::new();
    for crash in &plan.crashes {
        steps.push((crash.at_ms, Step::Crash(*crash)));
        returns.entry(crash.until_ms).or_default().push(*crash);
    }
    steps.extend(returns.into_iter().map(|(at_ms, back)| (at_ms, Step::Return(back))));
    for jump in &plan.jumps {
        steps.push((jump.at_ms, Step::Clock(jump.member, jump.by_ms)));
        steps.push((jump.until_ms, Step::Clock(jump.member, 0)));
    }
    for villain in &plan.villains {
        steps.push((villain.at_ms, Step::Turn(*villain)));
        steps.push((villain.until_ms, Step::Convict(*villain)));
    }
    steps.sort_by_key(|(at_ms, _)| *at_ms);
    steps
}

async fn faults(
    sim: &Sim,
    plan: &Plan,
    chain: &Chain,
    (cluster, mut neighbour): (&mut Cluster, Option<&mut Cluster>),
) -> Result<(), Stuck> {
    let start = sim.now_ms();
    for (at_ms, step) in steps(plan) {
        sim.sleep_ms((start + at_ms).saturating_sub(sim.now_ms())).await;
        match step {
            Step::Part(Partition { side, one_way, .. }) => {
                let hosts = |member: usize| Cluster::hosts(member);
                let others: Vec<usize> = (0..MEMBERS).filter(|member| !side.contains(member)).flat_map(hosts).collect();
                let side: Vec<usize> = side.into_iter().flat_map(hosts).collect();
                if one_way { sim.deafen(&side, &others).await } else { sim.partition(&[side.as_slice()]).await }
            }
            Step::Heal => sim.heal().await,
            Step::Crash(crash) => match (crash.log, neighbour.as_deref_mut()) {
                (Log::Chain, _) => chain.crash(crash.member).await?,
                (Log::Cluster, _) => break_down(&crash, cluster).await,
                (Log::Neighbour, Some(neighbour)) => break_down(&crash, neighbour).await,
                (Log::Neighbour, None) => {}
            },
            Step::Clock(member, by_ms) => cluster.served.set_clock(member, by_ms),
            Step::Return(back) => {
                for Crash { member, .. } in back.iter().filter(|crash| crash.log == Log::Chain) {
                    chain.start_one(*member).await?;
                }
                come_back(&back, Log::Cluster, plan, cluster).await?;
                if let Some(neighbour) = neighbour.as_deref_mut() {
                    come_back(&back, Log::Neighbour, plan, neighbour).await?;
                }
            }
            Step::Turn(villain) => cluster.turn(villain)?,
            Step::Convict(Villain { member, .. }) => match plan.mistake {
                Some(Mistake::Lenient) => cluster.replace(member).await?,
                Some(Mistake::Slander) => cluster.slander((member + 1) % MEMBERS).await?,
                _ => cluster.convict(member).await?,
            },
        }
    }
    Ok(())
}

/// A member's machine dies, or its disk is full.
async fn break_down(crash: &Crash, cluster: &mut Cluster) {
    match crash.back {
        Return::FullDisk => cluster.fill(crash.member),
        Return::TornDisk => cluster.tear(crash.member).await,
        Return::Disk | Return::OldDisk | Return::Another => cluster.crash(crash.member).await,
    }
}

/// The workers of one cluster come back.
async fn come_back(back: &[Crash], log: Log, plan: &Plan, cluster: &mut Cluster) -> Result<(), Stuck> {
    let mut again = vec![];
    for Crash { member, back, .. } in back.iter().filter(|crash| crash.log == log) {
        match back {
            Return::Another => cluster.replace(*member).await?,
            Return::OldDisk => {
                cluster.roll_back(*member);
                again.push(*member);
            }
            Return::FullDisk => {
                cluster.make_room(*member).await;
                again.push(*member);
            }
            Return::Disk | Return::TornDisk => again.push(*member),
        }
    }
    if plan.mistake == Some(Mistake::LostEntry) {
        cluster.forget();
    }
    match plan.mistake {
        _ if again.is_empty() => Ok(()),
        Some(Mistake::DoubleVote) => cluster.vote_again(&again).await,
        _ => cluster.restart(&again).await,
    }
}

/// Lets all come to rest after the faults: what is under way is finished, and all members move on.
async fn settle(office: &Office, plan: &Plan, busy: &[Arc<AtomicBool>]) {
    let (sim, history) = (&office.sim, &office.history);
    let logs = || Log::all(plan.neighbour).into_iter();
    let before: Vec<u64> = logs().map(|log| history.heights(log).0).collect();
    history.add(sim.now_ms(), Event::Healed);
    sim.sleep_ms(plan.calm_ms).await;
    office.quiet.store(true, Ordering::SeqCst);
    history.add(sim.now_ms(), Event::Quiet);
    for _ in 0..2 * BOUND_MS / 250 {
        let moved = logs().zip(&before).all(|(log, old)| history.heights(log).1 > old + 1);
        if moved
            && busy.iter().all(|mark| !mark.load(Ordering::SeqCst))
            && level(office)
            && office.all_delivered()
            && office.has_settled()
        {
            return;
        }
        sim.sleep_ms(250).await;
    }
}

/// Whether every member holds every transfer that was answered.
fn level(office: &Office) -> bool {
    let commands = office.commands.lock();
    let replicas = office.served.all().unwrap_or_default();
    let nodes = office.chain.live();
    let nonces = |account: &Account| {
        nodes.iter().map(|node| audit::account(node, &account.id()).map(|(nonce, _)| nonce)).collect::<Vec<_>>()
    };
    let same = office.accounts.iter().map(nonces).all(|nonces| nonces.windows(2).all(|pair| pair[0] == pair[1]));
    let rest = replicas.iter().all(|replica| Office::at_rest(replica));
    same && rest
        && replicas.iter().all(|replica| commands.iter().all(|(a, id)| matches!(replica.executed(a, id), Ok(Some(_)))))
}

/// Writes into the history what every member's state tells.
fn compare<'a>(office: &'a Office, clusters: impl Iterator<Item = &'a Cluster> + Clone) -> Result<(), Stuck> {
    let now = office.sim.now_ms();
    let owned = office.accounts.iter().chain(clusters.clone().flat_map(Cluster::accounts)).map(Account::id);
    let accounts: Vec<AccountId> = owned.chain(clusters.map(|cluster| pot(cluster.served.id))).collect();
    let extrinsics = office.extrinsics.lock();
    for (node, member) in office.chain.all()?.iter().zip(0u32..) {
        let events = audit::audit(node, member, &accounts, &extrinsics)?;
        events.into_iter().for_each(|event| office.history.add(now, event));
    }
    for (replica, member) in office.served.all()?.iter().zip(0u32..) {
        tokens(office, replica, member)?;
        office.callbacks(replica, member);
    }
    office.take_stock()
}

/// What one replica tells of the token.
fn tokens(office: &Office, replica: &Replica, member: u32) -> Result<(), Stuck> {
    let (now, log) = (office.sim.now_ms(), Log::Cluster);
    let query = Query {
        contract: *office.token.lock(),
        data: TOTAL_SUPPLY.to_vec(),
        value: 0,
        min_height: 0,
        freshness: Freshness::Any,
    };
    let total = match replica.query(office.accounts[0].id(), [1; 16], &query, now).map_err(stuck)? {
        Answer::Query { output, .. } => office.amount(&output).ok_or_else(|| stuck("the token says nothing"))?,
        _ => return Err(stuck("a query was answered as something else")),
    };
    office.history.add(now, Event::Supply { log, member, total });
    for account in 0..office.accounts.len() {
        let (amount, _) = office.balance(replica, account).ok_or_else(|| stuck("the token says nothing"))?;
        office.history.add(now, Event::Balance { log, member, account: account as u32, amount });
    }
    for ((account, id), number) in office.commands.lock().iter().zip(0u32..) {
        let outcome = replica.executed(account, id).map_err(stuck)?;
        let moved = outcome.as_ref().is_some_and(|o| o.result.as_ref().is_ok_and(|output| !output.reverted()));
        let (times, outcome) = (u32::from(outcome.is_some()), outcome.map_or(Hash::ZERO, |outcome| outcome.hash()));
        office.history.add(now, Event::Found { log, member, number, times, outcome, moved });
    }
    Ok(())
}

//! Four validators, a key service and six workers, each a process on a machine of its own, with wires between them that
//! are slow and lose packets; people write and read all the time. Wires are cut, one way and both, processes are killed,
//! and then every one of them is started anew. Nothing that was acknowledged is lost, nothing happens twice, and no read
//! lacks what was acknowledged before it was asked.
//!
//! It needs root, network namespaces and TUN. Where they are missing it says so and is skipped; with
//! `PHALA_NEED_NAMESPACES` set, as in `.ci/run`, it fails instead.

use crate::{
    harness::{Dice, eventually, run},
    load::Load,
    parts::{Parts, SERVES, info, waits_for, worker_id},
    person::Person,
};
use phala_client::Chain;
use phala_primitives::AccountId;
use phala_tests::wires::{Wire, Wires};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

const VALIDATORS: usize = 4;
const WORKERS: usize = 6;
/// Members of the cluster; the other workers wait in the pool.
const MEMBERS: usize = 4;
/// Machines: the key service, validators, workers.
const MACHINES: usize = 1 + VALIDATORS + WORKERS;
/// One direction of a wire: 5 ms ± 2 ms, one of two hundred packets is lost.
const WIRE: Wire = Wire { delay: Duration::from_millis(3), jitter: Duration::from_millis(4), lost: 5_000 };
const CUT: Wire = Wire { lost: 1_000_000, ..WIRE };
/// Half of all packets.
const BAD: Wire = Wire { lost: 500_000, ..WIRE };
const MORE: Duration = Duration::from_secs(60);
/// Longest time without an acknowledged command, on a machine that is busy with other things.
const SILENCE: Duration = Duration::from_secs(30);

fn validator(index: usize) -> usize {
    2 + index
}

fn worker(index: usize) -> usize {
    2 + VALIDATORS + index
}

/// Changes a machine's wires to all others, in the directions that are wanted.
fn set(wires: &Wires, machine: usize, out: Wire, into: Wire) {
    for other in (0..=MACHINES).filter(|other| *other != machine) {
        wires.set(machine, other, out);
        wires.set(other, machine, into);
    }
}

#[test]
fn processes_on_machines_of_their_own_lose_nothing() {
    run(Duration::from_secs(400), async {
        let mut dice = Dice::new();
        let wires = match Wires::new(MACHINES, WIRE, dice.below(u64::MAX)) {
            Ok(wires) => wires,
            Err(error) if std::env::var_os("PHALA_NEED_NAMESPACES").is_none() => {
                println!("SKIPPED: no network namespaces here: {error:#}");
                return;
            }
            Err(error) => panic!("no network namespaces here: {error:#}"),
        };
        let base = tempfile::tempdir().unwrap();
        let mut net = Parts::apart(base.path(), VALIDATORS, WORKERS, &wires).await;
        let started = Instant::now();
        net.start().await;
        let chain = net.form(MEMBERS).await;
        println!("a network on {MACHINES} machines serves after {:.1} s", started.elapsed().as_secs_f64());
        let alice = Person::new("Alice", &net.rpc(1), net.genesis).await;
        let contract = alice.deploy_token(1_000_000).await.address();
        let accounts: Vec<AccountId> = (0..4).map(|_| AccountId(dice.bytes())).collect();
        let nodes: Vec<String> = (0..VALIDATORS).map(|index| net.rpc(index)).collect();
        let load = Load::start(&nodes, net.genesis, contract, &accounts).await;
        load.more(10, MORE).await;

        trouble(&mut net, &wires, &load).await;
        all_anew(&mut net, &load, &chain).await;

        load.more(10, MORE).await;
        let sum = load.end(&alice).await;
        let (carried, lost) = wires.counts();
        println!("{carried} packets arrived, {lost} were lost");
        assert!(lost > 0 && sum.silence < SILENCE, "{sum:?}");
        for worker in &mut net.workers {
            worker.kill().await;
        }
    });
}

/// Cuts wires and kills processes, one after the other.
async fn trouble(net: &mut Parts, wires: &Wires, load: &Load) {
    let step = |what: &'static str, since: Instant| println!("{what}: {:.1} s", since.elapsed().as_secs_f64());
    let since = Instant::now();
    let leader = eventually("a leader", MORE, || net.leader()).await;
    set(wires, worker(leader), CUT, CUT);
    load.more(5, MORE).await;
    set(wires, worker(leader), WIRE, WIRE);
    load.more(5, MORE).await;
    step("the leader cut off, and back", since);

    let since = Instant::now();
    // What it sends is lost, what others send arrives.
    let deaf = eventually("a leader", MORE, || net.leader()).await;
    set(wires, worker(deaf), CUT, WIRE);
    load.more(5, MORE).await;
    set(wires, worker(deaf), BAD, WIRE);
    load.more(5, MORE).await;
    set(wires, worker(deaf), WIRE, WIRE);
    step("a leader whom nobody hears, then half of the time", since);

    let since = Instant::now();
    set(wires, validator(3), CUT, WIRE);
    net.validators[0].kill().await;
    net.validators[0].start().await;
    set(wires, validator(3), WIRE, WIRE);
    load.more(5, MORE).await;
    step("a validator killed while another is not heard", since);

    let since = Instant::now();
    net.workers[1].kill().await;
    load.more(5, MORE).await;
    net.workers[1].start().await;
    net.serves(1).await;
    load.more(5, MORE).await;
    step("a member killed", since);
}

/// Stops and starts every process in turn.
async fn all_anew(net: &mut Parts, load: &Load, chain: &Arc<Chain>) {
    let since = Instant::now();
    for index in 0..VALIDATORS {
        net.validators[index].terminate().await;
        net.validators[index].start().await;
        let own = eventually("the validator's RPC", MORE, || async {
            Chain::connect(&net.rpc(index), Some(net.genesis)).await.ok()
        })
        .await;
        // It is back when it has a block that is new.
        let before = chain.refresh().await.map_or(0, |head| head.0);
        eventually("a new block", MORE, || async { own.refresh().await.ok().filter(|head| head.0 > before) }).await;
    }
    net.keys.terminate().await;
    net.keys.start().await;
    for index in 0..WORKERS {
        net.workers[index].terminate().await;
        net.workers[index].start().await;
        let url = net.url(index);
        eventually("a worker that is back", SERVES, || async {
            let record = chain.cluster(0).await.ok()??;
            let member = record.members.iter().any(|member| member.worker == worker_id(index));
            match member {
                true => info(&url).await.map(|_| ()),
                false => waits_for(&url).await.filter(|what| what.contains("a cluster that needs it")).map(|_| ()),
            }
        })
        .await;
    }
    load.more(5, MORE).await;
    println!("every process started anew: {:.1} s", since.elapsed().as_secs_f64());
}

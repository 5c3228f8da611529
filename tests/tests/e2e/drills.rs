//! The attacks of "The Forking Way" (NDSS 2025) on the continuity of state, against a network of processes: a member is
//! cloned, a disk is put back, all disks are put back, and whoever carries the chain shows the past. Nothing forks,
//! nothing that was acknowledged is lost, and nobody is told what was true once.

use crate::{
    gateway::{Gateway, Past},
    harness::{Dice, eventually, run},
    load::Load,
    parts::{Part, Parts, SERVES, ask, copy, info, loopback, replace, waits_for, worker_id},
    person::{Person, code_of, token},
};
use phala_client::{Account, Chain, Cluster, Freshness, Scope, Session};
use phala_primitives::{AccountId, Code, Hash, PublicKey};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// How old the newest block of a worker may be, by README, and what asking may take beyond.
const LIMIT: Duration = Duration::from_secs(30);
const MARGIN: Duration = Duration::from_secs(4);
/// Age above which clients do not believe a node.
const AGE: Duration = Duration::from_secs(60);
const MORE: Duration = Duration::from_secs(40);

/// A network of one validator and four workers, each with a gateway between it and the chain.
struct Stage {
    net: Parts,
    gateways: Vec<Gateway>,
    alice: Person,
    contract: AccountId,
    chain: Arc<Chain>,
}

impl Stage {
    async fn set(folder: &Path, dice: &mut Dice) -> Self {
        let mut net = Parts::here(folder, 1, 4, dice).await;
        let mut gateways = vec![];
        for worker in 0..4 {
            let gateway = Gateway::start(&net.rpc(0)).await;
            net.workers[worker].set("--url", &gateway.url());
            gateways.push(gateway);
        }
        net.start().await;
        let chain = net.form(4).await;
        let alice = Person::new("Alice", &net.rpc(0), net.genesis).await;
        let contract = alice.deploy_token(1_000_000).await.address();
        Self { net, gateways, alice, contract, chain }
    }

    /// The epoch that the chain is in, once it is above another.
    async fn epoch_above(&self, epoch: u64) -> u64 {
        eventually("a new epoch", SERVES, || async {
            self.chain.cluster(0).await.unwrap().map(|record| record.epoch).filter(|now| *now > epoch)
        })
        .await
    }

    /// Epoch and identity of whoever answers there.
    async fn who(&self, url: &str) -> Option<(u64, PublicKey)> {
        let info = info(url).await?;
        let identity: Hash = info["identity"].as_str().unwrap().parse().unwrap();
        Some((info["epoch"].as_u64().unwrap(), identity.0))
    }
}

/// Copies everything of a worker; other addresses.
async fn clone_of(worker: &Part, folder: &Path, dice: &mut Dice) -> Part {
    let copied = folder.join("clone");
    worker.copied(&copied).await;
    let mut clone = worker.twin("clone");
    clone.set("--data-dir", copied.to_str().unwrap());
    clone.set("--listen", &loopback(dice));
    clone.set("--peer", &loopback(dice));
    clone
}

/// Whoever asks there gets an error that says why, and no answer.
async fn refuses(url: &str) {
    for path in ["/v1/info", "/readyz", "/v1/entries?from=1&to=9"] {
        let (status, text) = ask(&format!("{url}{path}")).await.expect("it listens");
        assert_eq!(status, 503, "{path}: {text}");
    }
    let called = reqwest::Client::new().post(format!("{url}/v1/call")).body("x").send().await.unwrap();
    assert_eq!(called.status().as_u16(), 503);
}

#[test]
fn whoever_clones_rolls_back_or_hides_the_chain_forks_nothing() {
    run(Duration::from_secs(300), async {
        let mut dice = Dice::new();
        let base = tempfile::tempdir().unwrap();
        let folder = base.path();
        let mut stage = Stage::set(folder, &mut dice).await;
        let past = Past::now(&stage.net.rpc(0)).await;
        let pinned = Instant::now();
        let accounts = [AccountId(dice.bytes()), AccountId(dice.bytes())];
        let load = Load::start(&[stage.net.rpc(0)], stage.net.genesis, stage.contract, &accounts).await;
        load.more(5, MORE).await;

        // The leader is shown the past from now on, over and over.
        let deceived = stage.net.leader().await.expect("somebody leads");
        let asking = Person::new("Bob", &stage.net.rpc(0), stage.net.genesis).await;
        let silent = tokio::spawn(last_answer(asking, stage.contract, deceived));
        stage.gateways[deceived].show(&past);
        let shown = Instant::now();
        let [cloned, rolled] = [(deceived + 1) % 4, (deceived + 2) % 4];

        let mut clone = clones(&mut stage, folder, cloned, deceived, &mut dice).await;
        load.more(5, MORE).await;

        let last = silent.await.unwrap();
        println!("deceived, the leader answered for {:.1} s", (last - shown).as_secs_f64());
        assert!(last - shown < LIMIT + MARGIN);
        let direct = Session::open_at(&stage.alice.cluster, &worker_id(deceived)).await;
        assert_eq!(code_of(direct.map(|_| ())), Code::StaleHead);
        stage.gateways[deceived].mend();
        let epoch = stage.chain.cluster(0).await.unwrap().unwrap().epoch;
        eventually("the leader of old goes on in the present epoch", SERVES, || async {
            stage.who(&stage.net.url(deceived)).await.filter(|(now, _)| *now >= epoch)
        })
        .await;
        // And the original takes its place back, on its own disk.
        clone.kill().await;
        stage.net.workers[cloned].start().await;
        stage.net.serves(cloned).await;

        one_disk_back(&mut stage, folder, rolled, &load, &accounts).await;
        load.more(5, MORE).await;
        all_disks_back(&mut stage, folder, &load).await;
        load.more(5, MORE).await;

        past_for_a_client(&stage, &past, pinned).await;
        load.end(&stage.alice).await;
    });
}

/// Asks one worker for as long as it answers; the last time that it did. What is answered is never below what it
/// answered before.
async fn last_answer(person: Person, contract: AccountId, worker: usize) -> Instant {
    let session = Session::open_at(&person.cluster, &worker_id(worker)).await.unwrap();
    let (mut last, mut seen) = (Instant::now(), 0);
    loop {
        match session.query(contract, token::balance_of(&person.account.id())).await {
            Ok(answered) => {
                assert!(answered.receipt.claim.height >= seen);
                (last, seen) = (Instant::now(), answered.receipt.claim.height);
            }
            Err(error) => {
                assert_eq!(error.known(), Some(Code::StaleHead), "{error}");
                return last;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A member is copied while it runs, and the copy is started: without the chain, with a chain of the past, and with the
/// chain as it is. It answers nothing, nothing, and in place of the one that it was copied from.
async fn clones(stage: &mut Stage, folder: &Path, cloned: usize, deceived: usize, dice: &mut Dice) -> Part {
    let original = stage.net.url(cloned);
    let mut clone = clone_of(&stage.net.workers[cloned], folder, dice).await;
    let url = format!("http://{}", clone.get("--listen"));

    clone.set("--url", "ws://127.0.0.1:1");
    clone.start().await;
    refuses(&url).await;
    assert_eq!(waits_for(&url).await.unwrap(), "waits for the chain\n");
    clone.kill().await;

    clone.set("--url", &stage.gateways[deceived].url());
    clone.start().await;
    eventually("the clone gets as far as it can", SERVES, || async {
        waits_for(&url).await.filter(|what| what.contains("its registration"))
    })
    .await;
    refuses(&url).await;
    clone.kill().await;

    // Whoever answers is, in the epoch that it answers for, the one that the chain names.
    let before = stage.who(&original).await.expect("nothing has happened to it yet");
    let answers = Arc::new(Mutex::new(BTreeSet::from([before])));
    let seen = {
        let (answers, urls) = (answers.clone(), [original.clone(), url.clone()]);
        tokio::spawn(async move {
            loop {
                for url in &urls {
                    if let Some(info) = info(url).await {
                        let identity: Hash = info["identity"].as_str().unwrap().parse().unwrap();
                        answers.lock().unwrap().insert((info["epoch"].as_u64().unwrap(), identity.0));
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    };
    clone.set("--url", &stage.net.rpc(0));
    let started = Instant::now();
    clone.start().await;
    let epoch = stage.epoch_above(before.0).await;
    // The original has lost its place to the clone, and says so.
    let code = stage.net.workers[cloned].ended(SERVES).await;
    assert_eq!(code, 1);
    let said = stage.net.workers[cloned].last_words();
    assert!(said.contains(&Code::NotMember.to_string()), "{said}");
    let (now, identity) = eventually("the clone serves", SERVES, || stage.who(&url)).await;
    println!("a clone took its original's place {:.1} s after its start", started.elapsed().as_secs_f64());
    assert!(now >= epoch && identity != before.1);
    seen.abort();
    let answers = answers.lock().unwrap().clone();
    for (epoch, identity) in &answers {
        let members = stage.chain.epoch(0, *epoch).await.unwrap().unwrap();
        let named = members.iter().find(|member| member.worker == worker_id(cloned)).unwrap();
        assert_eq!(*identity, named.identity, "of {answers:?} in epoch {epoch}");
    }
    assert_eq!(answers.iter().map(|(epoch, _)| epoch).collect::<BTreeSet<_>>().len(), answers.len(), "{answers:?}");
    clone
}

/// A member is started on a disk of earlier: it gets what it lacks before it answers.
async fn one_disk_back(stage: &mut Stage, folder: &Path, rolled: usize, load: &Load, accounts: &[AccountId]) {
    let old = folder.join("old");
    stage.net.workers[rolled].copied(&old).await;
    load.more(10, MORE).await;
    let least = load.acknowledged();
    stage.net.workers[rolled].kill().await;
    replace(&stage.net.folder(rolled), &old);
    let started = Instant::now();
    stage.net.workers[rolled].start().await;
    stage.net.serves(rolled).await;
    println!("serves on an old disk {:.1} s after its start", started.elapsed().as_secs_f64());
    let floor = stage.chain.cluster(0).await.unwrap().unwrap().floor.height;
    let (mut sum, reader) = (0, Person::new("Alice", &stage.net.rpc(0), stage.net.genesis).await);
    let session = Session::open_at(&reader.cluster, &worker_id(rolled)).await.unwrap();
    for account in accounts {
        let answered = session.query(stage.contract, token::balance_of(account)).await.unwrap();
        assert!(answered.receipt.claim.height >= floor, "{} is below {floor}", answered.receipt.claim.height);
        sum += token::amount(&answered.output.data) as u64;
    }
    assert!(sum >= least, "{least} acknowledged, {sum} there");
}

/// All members are started on disks of earlier. The chain was shown more: they answer nothing until one comes back with
/// the disk that it had.
async fn all_disks_back(stage: &mut Stage, folder: &Path, load: &Load) {
    let old = |worker: usize| folder.join(format!("old-{worker}"));
    for worker in 0..4 {
        stage.net.workers[worker].copied(&old(worker)).await;
    }
    load.more(5, MORE).await;
    let account = stage.alice.account.id();
    let (cluster, contract) = (stage.alice.cluster.clone(), stage.contract);
    let height = async || {
        let asked = cluster.query_fresh(contract, token::balance_of(&account), 0, Freshness::Linearizable);
        asked.await.unwrap().receipt.claim.height
    };
    let shown = height().await;
    eventually("the chain is shown what the old disks lack", SERVES, || async {
        let record = stage.chain.cluster(0).await.unwrap().unwrap();
        (record.checkpoint.anchor.height >= shown).then_some(())
    })
    .await;
    // What is acknowledged from now on might be on the one disk that comes back, or on others only: nothing is.
    let still = load.pause().await;
    let (url, least) = (stage.net.url(2), height().await);
    eventually("one that holds everything", MORE, || async {
        info(&url).await.filter(|info| info["height"].as_u64().unwrap() >= least)
    })
    .await;
    for worker in 0..4 {
        stage.net.workers[worker].kill().await;
    }
    let kept = folder.join("kept");
    copy(&stage.net.folder(2), &kept);
    for worker in 0..4 {
        replace(&stage.net.folder(worker), &old(worker));
        stage.net.workers[worker].start().await;
    }
    for worker in 0..4 {
        let url = stage.net.url(worker);
        eventually("all know that they lack something", SERVES, || async {
            waits_for(&url).await.filter(|what| what.contains("reaches what the chain was shown"))
        })
        .await;
        assert_eq!(ask(&format!("{url}/v1/info")).await.unwrap().0, 503);
    }
    let bob = Account::from_suri("//Bob").unwrap();
    let chain = Arc::new(Chain::connect(&stage.net.rpc(0), Some(stage.net.genesis)).await.unwrap());
    let cluster = Cluster::connect(chain.clone(), 0, bob.certify(&chain, Scope::All, AGE)).await.unwrap();
    assert_eq!(code_of(cluster.query(stage.contract, token::balance_of(&account)).await), Code::NoReplica);

    stage.net.workers[2].kill().await;
    replace(&stage.net.folder(2), &kept);
    let started = Instant::now();
    stage.net.workers[2].start().await;
    for worker in 0..4 {
        stage.net.serves(worker).await;
    }
    println!("all serve {:.1} s after one came back with its own disk", started.elapsed().as_secs_f64());
    drop(still);
}

/// A client at a node that shows the past is told, and asks nobody whom the past names.
async fn past_for_a_client(stage: &Stage, past: &Past, pinned: Instant) {
    tokio::time::sleep((AGE + MARGIN).saturating_sub(pinned.elapsed())).await;
    let gateway = Gateway::start(&stage.net.rpc(0)).await;
    gateway.show(past);
    let chain = Arc::new(Chain::connect(&gateway.url(), Some(stage.net.genesis)).await.unwrap());
    let credentials = stage.alice.account.certify(&chain, Scope::All, AGE);
    assert_eq!(code_of(Cluster::connect(chain, 0, credentials).await), Code::StaleNode);
}

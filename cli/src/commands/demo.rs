//! `phala demo`: the main job on a fresh network, with figures.
//!
//! Starts a network in this process, deploys a token and a private ballot, uses them encrypted from two accounts, shows
//! that a third is refused, measures, kills a worker under load and goes on. Everything goes over sockets, through the
//! same client that anyone uses, and every receipt is verified.

use crate::{
    args::Demo,
    commands::contract::{abi_of, load_bundle},
    output::{Output, Tone},
};
use anyhow::{Context, Result, bail};
use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use phala_abi::{Abi, Decoded};
use phala_client::{Account, Action, Cluster, Contract, Executed, Scope, Session};
use phala_devnet::{Config, Devnet};
use phala_primitives::{AccountId, Coded, limits::MAX_COMMAND_GAS};
use serde_json::{Map, Value, json};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const QUERY_CLIENTS: usize = 16;
const COMMAND_CLIENTS: usize = 64;

/// Somebody with an account and a view of the cluster.
struct Person {
    account: Account,
    cluster: Arc<Cluster>,
}

impl Person {
    async fn new(name: &str, net: &Devnet) -> Result<Self> {
        let account = Account::from_suri(&format!("//{name}"))?;
        let chain = Arc::new(phala_client::Chain::connect(&net.rpc_url(), Some(net.genesis())).await?);
        let credentials = account.certify(&chain, Scope::All, DAY);
        Ok(Self { account, cluster: Cluster::connect(chain, 0, credentials).await? })
    }

    fn id(&self) -> AccountId {
        self.account.id()
    }
}

/// A deployed contract and its interface.
struct App {
    address: AccountId,
    abi: Abi,
}

/// What the demo does, and how often a receipt was verified on the way.
struct Show {
    output: Output,
    receipts: AtomicU64,
    /// Height of the newest entry that anyone wrote: everyone's queries see it.
    height: AtomicU64,
    figures: Map<String, Value>,
    rows: Vec<(String, String)>,
}

/// Runs the demo and writes its figures.
pub(crate) async fn run(options: &Demo, output: Output) -> Result<()> {
    let (token_bundle, ballot_bundle) =
        (load_bundle(&options.bundles.join("psp22"))?, load_bundle(&options.bundles.join("ballot"))?);
    let mut show =
        Show { output, receipts: AtomicU64::new(0), height: AtomicU64::new(0), figures: Map::new(), rows: vec![] };
    let started = Instant::now();
    let mut net =
        Devnet::start(Config::default(), |step| output.say(output.paint(Tone::Dim, &format!("  {step}")))).await?;
    show.figure("ready_ms", started.elapsed().as_millis() as f64, "network ready", &seconds(started.elapsed()));
    output.done(format!("a network of 4 validators and 4 workers, attestation {}", phala_devnet::ATTESTATION));

    let alice = Person::new("Alice", &net).await?;
    let bob = Person::new("Bob", &net).await?;
    let charlie = Person::new("Charlie", &net).await?;

    let first = Instant::now();
    let supply = ["1000000".to_owned(), "Some(\"Demo\")".into(), "Some(\"DMO\")".into(), "12".into()];
    let token = show.deploy(&alice, &token_bundle, &supply).await?;
    show.figure(
        "deploy_ms",
        first.elapsed().as_millis() as f64,
        "first deploy: deposit, code, constructor",
        &seconds(first.elapsed()),
    );
    let voters = format!("[{}, {}]", hexed(&alice.id()), hexed(&bob.id()));
    let question = ["Lunch?".to_owned(), "[\"soup\", \"cake\"]".into(), voters, "None".into()];
    let ballot = show.deploy(&alice, &ballot_bundle, &question).await?;
    output.done("a token and a private ballot are deployed");

    show.tell_the_story(&alice, &bob, &charlie, &token, &ballot).await?;
    show.measure_queries(&alice, &token, options.seconds).await?;
    show.measure_commands(&alice, &bob.id(), &token, options.seconds).await?;
    show.kill_the_leader(&mut net, &alice, &bob.id(), &token).await?;
    show.check_sum(&[&alice, &bob, &charlie], &token).await?;
    show.finish(&options.out)?;
    net.stop().await;
    Ok(())
}

fn hexed(account: &AccountId) -> String {
    format!("0x{}", hex::encode(account.0))
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn percentile(sorted: &[f64], p: f64) -> f64 {
    let index = ((sorted.len().saturating_sub(1)) as f64 * p).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

impl Show {
    fn figure(&mut self, key: &str, value: f64, what: &str, shown: &str) {
        self.figures.insert(key.to_owned(), json!((value * 1000.0).round() / 1000.0));
        self.rows.push((what.to_owned(), shown.to_owned()));
    }

    fn verified(&self) {
        self.receipts.fetch_add(1, Ordering::Relaxed);
    }

    async fn deploy(&self, who: &Person, bundle: &phala_build::Bundle, arguments: &[String]) -> Result<App> {
        let abi = abi_of(bundle)?;
        let data = abi.encode("new", arguments)?;
        let mut salt = vec![0; 16];
        getrandom::fill(&mut salt).context("no randomness")?;
        let (contract, executed) =
            Contract::deploy(&who.cluster, &who.account, bundle.code.clone(), salt, data, MAX_COMMAND_GAS).await?;
        let output = executed.outcome.result?;
        if output.reverted() {
            bail!("the constructor of {} refused", bundle.name);
        }
        // One for the code, one for the constructor.
        self.verified();
        self.verified();
        Ok(App { address: contract.address(), abi })
    }

    async fn query(&self, who: &Person, app: &App, message: &str, arguments: &[String]) -> Result<Decoded> {
        let data = app.abi.encode(message, arguments)?;
        who.cluster.observe(self.height.load(Ordering::Relaxed));
        let answered = who.cluster.contract(app.address).query(data).await?;
        self.verified();
        app.abi.decode(message, &answered.output.data)
    }

    async fn send(&self, who: &Person, app: &App, message: &str, arguments: &[String]) -> Result<Decoded> {
        let data = app.abi.encode(message, arguments)?;
        let executed = who.cluster.contract(app.address).call(data, MAX_COMMAND_GAS).await?;
        self.height.fetch_max(executed.receipt.header.height, Ordering::Relaxed);
        self.verified();
        app.abi.decode(message, &executed.outcome.result?.data)
    }

    /// Two accounts work with the contracts, a third is refused.
    async fn tell_the_story(
        &mut self,
        alice: &Person,
        bob: &Person,
        charlie: &Person,
        token: &App,
        ballot: &App,
    ) -> Result<()> {
        let transfer = [hexed(&bob.id()), "2500".to_owned(), "[]".to_owned()];
        expect("transfer", &self.send(alice, token, "PSP22::transfer", &transfer).await?, false)?;
        let balance = self.query(bob, token, "PSP22::balance_of", &[hexed(&bob.id())]).await?;
        self.output.done(format!("Alice sent Bob 2500 DMO; Bob reads his balance: {}", balance.text));
        expect("Alice's vote", &self.send(alice, ballot, "vote", &["0".into()]).await?, false)?;
        expect("Bob's vote", &self.send(bob, ballot, "vote", &["1".into()]).await?, false)?;
        let hidden = self.query(bob, ballot, "results", &[]).await?;
        expect("results before the end", &hidden, true)?;
        self.output.done(format!("both voted; the results stay hidden: {}", hidden.text));
        let refused = self.send(charlie, ballot, "vote", &["0".into()]).await?;
        expect("Charlie's vote", &refused, true)?;
        self.output.done(format!("Charlie, who may not vote, is refused: {}", refused.text));
        let stolen = self.forge(alice, charlie, token).await;
        self.output.done(format!("Charlie, who signs as Alice, is refused: {stolen}"));
        expect("close", &self.send(alice, ballot, "close", &[]).await?, false)?;
        let results = self.query(bob, ballot, "results", &[]).await?;
        expect("results", &results, false)?;
        self.output.done(format!("Alice closed the ballot; everyone reads: {}", results.text));
        Ok(())
    }

    /// What the cluster says to a command under Alice's certificate that somebody else's key signed.
    async fn forge(&self, alice: &Person, charlie: &Person, token: &App) -> Coded {
        let action = || Action::Call { contract: token.address, data: vec![0; 4] };
        let mut command = alice.cluster.sign(action(), MAX_COMMAND_GAS);
        command.signature = charlie.cluster.sign(action(), MAX_COMMAND_GAS).signature;
        match charlie.cluster.send(&command).await {
            Ok(_) => Coded::new(phala_primitives::Code::Internal, "it was NOT refused"),
            Err(error) => error,
        }
    }

    /// Latency over one session, then throughput from many clients.
    async fn measure_queries(&mut self, who: &Person, token: &App, secs: u64) -> Result<()> {
        let data = token.abi.encode("PSP22::balance_of", &[hexed(&who.id())])?;
        let session = Session::open(&who.cluster).await?;
        let mut times = vec![];
        for round in 0..2200 {
            let started = Instant::now();
            session.query(token.address, data.clone()).await?;
            self.verified();
            // The first ones warm caches up.
            if round >= 200 {
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
        }
        times.sort_by(f64::total_cmp);
        let (p50, p99) = (percentile(&times, 0.5), percentile(&times, 0.99));
        self.figure("query_ms_p50", p50, "query over a session, p50", &format!("{p50:.2} ms"));
        self.figure("query_ms_p99", p99, "query over a session, p99", &format!("{p99:.2} ms"));
        let sessions = open_sessions(&who.cluster, QUERY_CLIENTS).await?;
        let rate = self
            .closed_loop(sessions, secs, |session| {
                let (address, data) = (token.address, data.clone());
                async move { session.query(address, data).await.map(|_| ()) }
            })
            .await?;
        self.figure("queries_per_s", rate, &format!("queries, {QUERY_CLIENTS} clients"), &format!("{rate:.0} /s"));
        Ok(())
    }

    async fn measure_commands(&mut self, who: &Person, to: &AccountId, token: &App, secs: u64) -> Result<()> {
        let data = token.abi.encode("PSP22::transfer", &[hexed(to), "1".into(), "[]".into()])?;
        let session = Session::open(&who.cluster).await?;
        let mut times = vec![];
        for round in 0..320 {
            let command =
                who.cluster.sign(Action::Call { contract: token.address, data: data.clone() }, MAX_COMMAND_GAS);
            let started = Instant::now();
            session.send(&command).await?;
            self.verified();
            if round >= 20 {
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
        }
        times.sort_by(f64::total_cmp);
        let (p50, p99) = (percentile(&times, 0.5), percentile(&times, 0.99));
        self.figure("command_ms_p50", p50, "command: 4 replicas, final, receipt, p50", &format!("{p50:.2} ms"));
        self.figure("command_ms_p99", p99, "command, p99", &format!("{p99:.2} ms"));
        let sessions = open_sessions(&who.cluster, COMMAND_CLIENTS).await?;
        let cluster = who.cluster.clone();
        let rate = self
            .closed_loop(sessions, secs, |session| {
                let command =
                    cluster.sign(Action::Call { contract: token.address, data: data.clone() }, MAX_COMMAND_GAS);
                async move { succeeded(session.send(&command).await?) }
            })
            .await?;
        self.figure("commands_per_s", rate, &format!("commands, {COMMAND_CLIENTS} clients"), &format!("{rate:.0} /s"));
        Ok(())
    }

    /// Runs one request at a time on each session for some seconds. Returns answers per second.
    async fn closed_loop<F, Fut>(&self, sessions: Vec<Arc<Session>>, secs: u64, ask: F) -> Result<f64>
    where
        F: Fn(Arc<Session>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<(), Coded>> + Send,
    {
        let bar = self.output.spinner("measuring");
        let (started, length) = (Instant::now(), Duration::from_secs(secs));
        let loops = sessions.into_iter().map(|session| {
            let ask = &ask;
            async move {
                let mut count = 0u64;
                while started.elapsed() < length {
                    ask(session.clone()).await?;
                    count += 1;
                }
                Ok::<_, Coded>(count)
            }
        });
        let counts = futures::future::try_join_all(loops).await;
        let elapsed = started.elapsed().as_secs_f64();
        bar.finish_and_clear();
        let total: u64 = counts?.iter().sum();
        self.receipts.fetch_add(total, Ordering::Relaxed);
        Ok(total as f64 / elapsed)
    }

    /// Kills the worker that leads the cluster and through which a client writes; counts what was acknowledged.
    async fn kill_the_leader(&mut self, net: &mut Devnet, who: &Person, to: &AccountId, token: &App) -> Result<()> {
        let before = self.balance(who, to, token).await?;
        let data = token.abi.encode("PSP22::transfer", &[hexed(to), "1".into(), "[]".into()])?;
        let action = || Action::Call { contract: token.address, data: data.clone() };
        let (victim, account) = net.leader().context("no worker leads the cluster")?;
        let place = who.cluster.replicas().iter().position(|replica| replica.worker == account);
        who.cluster.prefer(place.context("the leader cannot be asked")?);
        let (mut acknowledged, mut killed, mut gap) = (0u128, false, Duration::ZERO);
        let started = Instant::now();
        let mut last = (Instant::now(), account);
        while started.elapsed() < Duration::from_secs(4) {
            if !killed && started.elapsed() > Duration::from_secs(1) {
                if last.1 != account {
                    bail!("the client has left the leader before it was killed");
                }
                killed = net.kill_worker(victim).is_some();
            }
            let executed = who.cluster.send(&who.cluster.sign(action(), MAX_COMMAND_GAS)).await?;
            let worker = executed.worker;
            succeeded(executed)?;
            self.verified();
            acknowledged += 1;
            gap = gap.max(last.0.elapsed());
            last = (Instant::now(), worker);
        }
        let after = self.balance(who, to, token).await?;
        if after != before + acknowledged {
            bail!("{acknowledged} writes were acknowledged, {} are there", after - before);
        }
        let ms = gap.as_secs_f64() * 1e3;
        self.figure("kill_gap_ms", ms, "pause of a client whose worker, the leader, is killed", &format!("{ms:.0} ms"));
        self.output.done(format!("the leader was killed under writes: all {acknowledged} acknowledged are there"));
        Ok(())
    }

    async fn balance(&self, who: &Person, of: &AccountId, token: &App) -> Result<u128> {
        let decoded = self.query(who, token, "PSP22::balance_of", &[hexed(of)]).await?;
        decoded.text.parse().with_context(|| format!("`{}` is no balance", decoded.text))
    }

    async fn check_sum(&mut self, people: &[&Person], token: &App) -> Result<()> {
        let mut sum = 0;
        for person in people {
            sum += self.balance(person, &person.id(), token).await?;
        }
        if sum != 1_000_000 {
            bail!("the balances add up to {sum}, not to the supply");
        }
        self.output.done("all balances add up to the supply");
        Ok(())
    }

    fn finish(&mut self, out: &Path) -> Result<()> {
        let receipts = self.receipts.load(Ordering::Relaxed);
        self.figure("receipts_verified", receipts as f64, "receipts verified against the chain", &receipts.to_string());
        self.figures.insert("attestation".into(), json!(phala_devnet::ATTESTATION));
        if let Some(folder) = out.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        std::fs::write(out, serde_json::to_vec_pretty(&self.figures)?)
            .with_context(|| format!("cannot write {}", out.display()))?;
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_header(["what", "measured"]);
        for (what, shown) in &self.rows {
            table.add_row([Cell::new(what), Cell::new(shown).set_alignment(CellAlignment::Right)]);
        }
        let note = format!(
            "everything on this one machine; attestation {}; figures in {}",
            phala_devnet::ATTESTATION,
            out.display()
        );
        self.output.data(&Value::Object(self.figures.clone()), format!("{table}\n{note}"));
        Ok(())
    }
}

fn expect(what: &str, decoded: &Decoded, refused: bool) -> Result<()> {
    if decoded.is_err != refused {
        bail!("{what}: {}", decoded.text);
    }
    Ok(())
}

/// A command that the contract itself refused is no success.
fn succeeded(executed: Executed) -> Result<(), Coded> {
    let output = executed.outcome.result?;
    if output.reverted() {
        return Err(phala_primitives::Code::Reverted.into());
    }
    Ok(())
}

/// Sessions spread over the cluster's replicas.
async fn open_sessions(cluster: &Arc<Cluster>, count: usize) -> Result<Vec<Arc<Session>>> {
    let replicas = cluster.replicas();
    let mut sessions = vec![];
    for replica in replicas.iter().cycle().take(count) {
        sessions.push(Arc::new(Session::open_at(cluster, &replica.worker).await?));
    }
    Ok(sessions)
}

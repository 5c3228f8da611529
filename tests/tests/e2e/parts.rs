//! A network of processes: validators, a key service and workers, each started, killed and started again by itself; all
//! on the loopback interface, or each on a machine of its own.

use crate::harness::{Dice, LOG, eventually};
use phala_client::{Account, Call, Chain};
use phala_primitives::{AccountId, Hash};
use phala_tests::wires::Wires;
use serde_json::Value;
use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
};

/// How long a part may take to say where it is, and to end when it is told to.
const START: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(30);
/// How long a worker may take until it serves.
pub(crate) const SERVES: Duration = Duration::from_secs(90);

/// One process.
pub(crate) struct Part {
    pub(crate) name: String,
    within: Vec<String>,
    arguments: Vec<String>,
    log: PathBuf,
    process: Option<Child>,
    /// Kept open: it may have more to say.
    output: Option<BufReader<ChildStdout>>,
}

impl Part {
    /// Replaces the value of an option.
    pub(crate) fn set(&mut self, option: &str, value: &str) {
        let at = self.arguments.iter().position(|argument| argument == option).unwrap();
        self.arguments[at + 1] = value.into();
    }

    /// The value of an option.
    pub(crate) fn get(&self, option: &str) -> &str {
        let at = self.arguments.iter().position(|argument| argument == option).unwrap();
        &self.arguments[at + 1]
    }

    /// Another process that is started in the same way.
    pub(crate) fn twin(&self, name: &str) -> Self {
        let (within, arguments) = (self.within.clone(), self.arguments.clone());
        Self {
            name: name.into(),
            within,
            arguments,
            log: self.log.with_file_name(format!("{name}.log")),
            process: None,
            output: None,
        }
    }

    /// Starts the process; it says where it is later.
    fn spawn(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let stderr = File::options().create(true).append(true).open(&self.log).unwrap();
        let binary = phala_tests::binary().unwrap();
        let mut command = match self.within.split_first() {
            None => Command::new(&binary),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&binary);
                command
            }
        };
        command.arg("--json").args(&self.arguments).env("RUST_LOG", LOG).env("NO_COLOR", "1");
        command.env_remove("PHALA_URL").env_remove("PHALA_SURI").env_remove("PHALA_GENESIS");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).kill_on_drop(true);
        self.process = Some(command.spawn().unwrap());
    }

    /// What it says of itself when it has started.
    async fn said(&mut self) -> Value {
        let mut output = BufReader::new(self.process.as_mut().unwrap().stdout.take().unwrap());
        let mut line = String::new();
        let read = tokio::time::timeout(START, output.read_line(&mut line)).await;
        read.unwrap_or_else(|_| panic!("{} says nothing", self.name)).unwrap();
        assert!(!line.is_empty(), "{} ended: {}", self.name, self.last_words());
        self.output = Some(output);
        serde_json::from_str(&line).unwrap()
    }

    /// Starts the process and waits until it says where it is.
    pub(crate) async fn start(&mut self) -> Value {
        self.spawn();
        self.said().await
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await.unwrap();
        }
    }

    async fn signal(&self, signal: &str) {
        let pid = self.process.as_ref().unwrap().id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
    }

    /// SIGTERM; it must end in order.
    pub(crate) async fn terminate(&mut self) {
        self.signal("-TERM").await;
        assert_eq!(self.ended(END).await, 0, "{}: {}", self.name, self.last_words());
    }

    /// Copies its folder between two steps of it, as a host can.
    pub(crate) async fn copied(&self, to: &Path) {
        self.signal("-STOP").await;
        copy(Path::new(self.get("--data-dir")), to);
        self.signal("-CONT").await;
    }

    /// Waits for the process to end by itself, and returns its exit code.
    pub(crate) async fn ended(&mut self, limit: Duration) -> i32 {
        let mut process = self.process.take().unwrap();
        let status = tokio::time::timeout(limit, process.wait()).await;
        status.unwrap_or_else(|_| panic!("{} does not end", self.name)).unwrap().code().unwrap_or(-1)
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- end of the log of {}\n{}", self.name, self.last_words());
        }
    }
}

/// The parts of one network.
pub(crate) struct Parts {
    pub(crate) validators: Vec<Part>,
    pub(crate) keys: Part,
    pub(crate) workers: Vec<Part>,
    pub(crate) genesis: Hash,
}

/// Where one part is: before its command, and its two addresses.
struct Place {
    within: Vec<String>,
    open: SocketAddr,
    peer: SocketAddr,
}

/// A port of the loopback interface that nobody has, below those that the system gives away.
fn free(dice: &mut Dice) -> SocketAddr {
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 10_240 + dice.below(19_000) as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

impl Parts {
    /// A network on this machine, drawn up but not started.
    pub(crate) async fn here(folder: &Path, validators: usize, workers: usize, dice: &mut Dice) -> Self {
        let place = |_| Place { within: vec![], open: free(dice), peer: free(dice) };
        let places = (0..=validators + workers).map(place).collect();
        Self::draw(folder, validators, places).await
    }

    /// A network on machines: the key service on the first, then validators, then workers.
    pub(crate) async fn apart(folder: &Path, validators: usize, workers: usize, wires: &Wires) -> Self {
        let place = |index: usize| {
            let at = |port| SocketAddr::from((wires.address(index + 1), port));
            Place { within: wires.on(index + 1).unwrap(), open: at(8000), peer: at(7000) }
        };
        Self::draw(folder, validators, (0..=validators + workers).map(place).collect()).await
    }

    async fn draw(folder: &Path, validators: usize, places: Vec<Place>) -> Self {
        let (keys, rest) = places.split_first().unwrap();
        let (validators, workers) = rest.split_at(validators);
        let mut command = Command::new(phala_tests::binary().unwrap());
        command.args(["--json", "network"]).arg(folder.join("net")).args(["--workers", &workers.len().to_string()]);
        for place in validators {
            command.args(["--validator", &place.peer.to_string()]);
        }
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let drawn: Value = serde_json::from_slice(&output.stdout).unwrap();
        let genesis = drawn["genesis"].as_str().unwrap().parse().unwrap();
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let part = |command: &str, name: String, place: &Place, more: &[&str]| {
            let (data, secret) = (path(&format!("data/{name}")), path(&format!("net/secrets/{name}")));
            let network = path("net/network.json");
            let own = [command, "--network", &network, "--secret", &secret, "--data-dir", &data];
            let arguments = own.iter().chain(more).map(|text| (*text).to_owned()).collect();
            let log = folder.join(format!("{name}.log"));
            Part { name, within: place.within.clone(), arguments, log, process: None, output: None }
        };
        let rpc = |index: usize| format!("ws://{}", validators[index % validators.len()].open);
        let keys_url = format!("http://{}", keys.open);
        let node = |(index, place): (usize, &Place)| {
            part("node", format!("validator-{index}"), place, &["--rpc", &place.open.to_string()])
        };
        let worker = |(index, place): (usize, &Place)| {
            let (open, peer, suri) = (place.open.to_string(), place.peer.to_string(), format!("//Worker//{index}"));
            let own = ["--listen", &open, "--peer", &peer, "--suri", &suri, "--keys", &keys_url, "--url", &rpc(index)];
            part("worker", format!("worker-{index}"), place, &own)
        };
        let own = ["--listen", &keys.open.to_string(), "--url", &rpc(validators.len() - 1)];
        Self {
            validators: validators.iter().enumerate().map(node).collect(),
            keys: part("key-service", "key-service".into(), keys, &own),
            workers: workers.iter().enumerate().map(worker).collect(),
            genesis,
        }
    }

    /// Starts all parts.
    pub(crate) async fn start(&mut self) {
        self.validators.iter_mut().for_each(Part::spawn);
        for validator in &mut self.validators {
            validator.said().await;
        }
        self.keys.spawn();
        self.workers.iter_mut().for_each(Part::spawn);
        self.keys.said().await;
        for worker in &mut self.workers {
            worker.said().await;
        }
    }

    /// Makes a cluster of the first so many workers, and waits until they serve.
    pub(crate) async fn form(&self, size: usize) -> Arc<Chain> {
        let chain = Arc::new(Chain::connect(&self.rpc(0), Some(self.genesis)).await.unwrap());
        let members: Vec<AccountId> = (0..size).map(worker_id).collect();
        for index in 0..self.workers.len() {
            eventually("a worker that registers", SERVES, || async {
                chain.worker(&worker_id(index)).await.ok().flatten()
            })
            .await;
        }
        let alice = Account::from_suri("//Alice").unwrap();
        chain.submit(&alice, &Call::create_cluster(&members)).await.unwrap();
        for index in 0..size {
            self.serves(index).await;
        }
        chain
    }

    /// URL of a validator's JSON-RPC.
    pub(crate) fn rpc(&self, index: usize) -> String {
        format!("ws://{}", self.validators[index].get("--rpc"))
    }

    /// Where a worker is.
    pub(crate) fn url(&self, index: usize) -> String {
        format!("http://{}", self.workers[index].get("--listen"))
    }

    /// Waits until a worker serves.
    pub(crate) async fn serves(&self, index: usize) {
        let url = self.url(index);
        let what = format!("{} serves", self.workers[index].name);
        eventually(&what, SERVES, || info(&url)).await;
    }

    /// The worker that leads, if one says so.
    pub(crate) async fn leader(&self) -> Option<usize> {
        for index in 0..self.workers.len() {
            if info(&self.url(index)).await.is_some_and(|info| info["leads"] == true) {
                return Some(index);
            }
        }
        None
    }

    /// The folder of a worker.
    pub(crate) fn folder(&self, index: usize) -> PathBuf {
        self.workers[index].get("--data-dir").into()
    }
}

/// Account of a worker.
pub(crate) fn worker_id(index: usize) -> AccountId {
    Account::from_suri(&format!("//Worker//{index}")).unwrap().id()
}

/// Asks over HTTP; `None` if nobody answers.
pub(crate) async fn ask(url: &str) -> Option<(u16, String)> {
    let response = reqwest::Client::new().get(url).timeout(Duration::from_secs(3)).send().await.ok()?;
    Some((response.status().as_u16(), response.text().await.ok()?))
}

/// What a worker that serves says of itself.
pub(crate) async fn info(url: &str) -> Option<Value> {
    let (status, text) = ask(&format!("{url}/v1/info")).await?;
    (status == 200).then(|| serde_json::from_str(&text).unwrap())
}

/// What a worker waits for; `None` if nobody answers.
pub(crate) async fn waits_for(url: &str) -> Option<String> {
    ask(&format!("{url}/readyz")).await.map(|(_, text)| text)
}

/// Copies a folder as it is.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Puts a copy in a folder's place.
pub(crate) fn replace(folder: &Path, by: &Path) {
    fs::remove_dir_all(folder).unwrap();
    copy(by, folder);
}

/// An address of the loopback interface.
pub(crate) fn loopback(dice: &mut Dice) -> String {
    free(dice).to_string()
}

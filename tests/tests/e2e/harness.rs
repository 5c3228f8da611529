//! Starts, kills and watches the real binary.

use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs::{self, File},
    future::Future,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

/// How long a network may take to be ready, on a machine that is busy with other things.
const START: Duration = Duration::from_secs(90);
/// How long one run of the command line may take, which may have to compile a contract first.
const COMMAND: Duration = Duration::from_secs(180);

/// What is logged: all that our own parts have to say, of others only what is wrong.
pub(crate) const LOG: &str = "warn,phala_worker=debug,phala_replica=debug,phala_devnet=debug,phala_node=info";

/// Networks take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Runs one test when it is its turn; fails it if it takes longer than `limit`.
pub(crate) fn run(limit: Duration, test: impl Future<Output = ()>) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let started = Instant::now();
    let ended = runtime.block_on(async { tokio::time::timeout(limit, test).await });
    runtime.shutdown_background();
    assert!(ended.is_ok(), "the test did not end within {limit:?}");
    println!("took {:.1} s", started.elapsed().as_secs_f64());
}

/// Asks until the answer is something, or the deadline passes.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> F,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Random choices that can be made again.
pub(crate) struct Dice(u64);

impl Dice {
    /// From `PHALA_SEED`, or from the system; prints the seed.
    pub(crate) fn new() -> Self {
        let drawn = || {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).unwrap();
            u64::from_le_bytes(bytes) >> 1
        };
        let seed = std::env::var("PHALA_SEED").ok().map_or_else(drawn, |text| text.parse().unwrap());
        println!("PHALA_SEED={seed}");
        Self(seed)
    }

    /// The next number below `bound` (SplitMix64).
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// 32 bytes.
    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        std::array::from_fn(|_| self.below(256) as u8)
    }
}

/// A file of the contracts that come with the repository.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/fixtures").join(name).canonicalize().unwrap()
}

/// A running `phala dev`.
pub(crate) struct Net {
    process: Child,
    facts: Value,
    log: PathBuf,
}

impl Net {
    /// Starts a network on free ports with its data in `folder`, and waits until it says that it is ready.
    pub(crate) fn start(folder: &Path, log_filter: &str) -> Self {
        Self::start_with(folder, log_filter, &[])
    }

    /// The same with further options.
    pub(crate) fn start_with(folder: &Path, log_filter: &str, options: &[&str]) -> Self {
        let log = folder.with_extension("log");
        let stderr = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(phala_tests::binary().unwrap());
        command
            .args(["--json", "dev", "--rpc-port", "0", "--worker-port", "0", "--data-dir"])
            .arg(folder)
            .args(options);
        command
            .env("RUST_LOG", log_filter)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr);
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut net = Self { process, facts: Value::Null, log };
        let (sender, first) = mpsc::channel();
        std::thread::spawn(move || sender.send(lines.next()));
        let said = first.recv_timeout(START).unwrap_or_else(|_| panic!("no network within {START:?}"));
        let line = said.expect("`phala dev` ended before it was ready").unwrap();
        net.facts = serde_json::from_str(&line).unwrap();
        assert!(net.facts["error"].is_null(), "{line}");
        println!("network ready after {} ms", net.facts["ready_ms"]);
        net
    }

    /// A text among what the network said of itself.
    fn fact(&self, name: &str) -> &str {
        self.facts[name].as_str().unwrap()
    }

    /// URL of the chain's JSON-RPC.
    pub(crate) fn rpc(&self) -> &str {
        self.fact("rpc")
    }

    /// Genesis hash of the chain.
    pub(crate) fn genesis(&self) -> &str {
        self.fact("genesis")
    }

    /// Base URLs of the workers.
    pub(crate) fn workers(&self) -> Vec<String> {
        self.facts["workers"].as_array().unwrap().iter().map(|url| url.as_str().unwrap().to_owned()).collect()
    }

    /// All that the network said of itself.
    pub(crate) fn facts(&self) -> &Value {
        &self.facts
    }

    /// Where its log goes; networks started on the same folder append to it.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Folders in memory that the process uses.
    pub(crate) fn memory_folders(&self) -> BTreeSet<PathBuf> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.process.id())).into_iter().flatten().flatten();
        open.filter_map(|file| fs::read_link(file.path()).ok())
            .filter_map(|path| {
                let rest = path.strip_prefix("/dev/shm").ok()?.components().next()?;
                Some(Path::new("/dev/shm").join(rest)).filter(|folder| folder.to_string_lossy().contains("/phala-"))
            })
            .collect()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// SIGTERM, and how the process ended.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let started = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "SIGTERM does not end it");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether the process lives.
    pub(crate) fn lives(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = fs::read(&self.log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            println!("--- end of {}", self.log.display());
            lines.iter().skip(lines.len().saturating_sub(40)).for_each(|line| println!("{line:.400}"));
        }
        // No later network of this test removes what a killed one leaves in memory.
        let left = self.memory_folders();
        self.kill();
        for folder in left {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// What one run of the command line left.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Exit code.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Ran {
    /// The one document on standard output.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The same, of a run that must have succeeded.
    pub(crate) fn done(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        self.json()
    }
}

/// A place from which commands are run.
pub(crate) struct Shell {
    home: tempfile::TempDir,
    url: String,
}

impl Shell {
    /// With a home of its own, towards this node.
    pub(crate) fn new(url: &str) -> Self {
        Self { home: tempfile::tempdir().unwrap(), url: url.to_owned() }
    }

    /// Goes on with another node, and all that is remembered.
    pub(crate) fn turn_to(&mut self, url: &str) {
        self.url = url.to_owned();
    }

    /// Where what is remembered lies.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// A file in the home.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.home.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs `phala` with these arguments to its end.
    pub(crate) async fn phala(&self, arguments: &[&str]) -> Ran {
        let mut command = tokio::process::Command::new(phala_tests::binary().unwrap());
        command.args(arguments).env("PHALA_URL", &self.url).env("XDG_DATA_HOME", self.home.path());
        command.env_remove("PHALA_GENESIS").env_remove("PHALA_SURI").env_remove("RUST_LOG").env("NO_COLOR", "1");
        command.stdin(Stdio::null()).kill_on_drop(true);
        let ran = tokio::time::timeout(COMMAND, command.output()).await;
        let output = ran.unwrap_or_else(|_| panic!("{arguments:?} does not end")).unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs `phala --json` with these arguments.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Ran {
        self.phala(&[&["--json"], arguments].concat()).await
    }
}

/// Gets a text over HTTP: status and body.
pub(crate) async fn get(url: &str) -> (u16, String) {
    let response = reqwest::Client::new().get(url).timeout(Duration::from_secs(10)).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

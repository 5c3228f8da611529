//! A secret goes through the network: as an argument of a constructor, a command and a query, into the state, back in
//! an answer, into a debug message, a trap and a revert. It must be nowhere outside: not in a file, not in memory
//! shared with the host, not in the log, not in the metrics, not in a packet. The search is shown to find what is there.

use crate::{
    contracts::{self, input, probe},
    forge::{Caller, Door, query},
    harness::{Net, Shell, fixture, get, run},
    person::{GAS, Person, code_of, outcome},
};
use phala_client::Session;
use phala_primitives::Code;
use phala_session::Request;
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

/// What is looked for, under which name.
type Patterns = Vec<(String, Vec<u8>)>;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The characters of base64 that depend on nothing but `bytes`, when they begin `shift` bytes into a group of three.
fn base64(bytes: &[u8], shift: usize) -> Vec<u8> {
    let bits = |i: usize| bytes.get(i / 8).is_some_and(|byte| byte >> (7 - i % 8) & 1 == 1);
    let first = (6 - shift * 8 % 6) % 6;
    (first..)
        .step_by(6)
        .take_while(|at| at + 6 <= bytes.len() * 8)
        .map(|at| BASE64[(at..at + 6).fold(0, |n, i| n << 1 | usize::from(bits(i)))])
        .collect()
}

/// Both halves of a secret in the forms in which it might be written. SCALE writes bytes and texts as they are.
fn patterns(secret: &[u8]) -> Patterns {
    let mut all = vec![];
    for (half, bytes) in secret.chunks(16).enumerate() {
        all.push((format!("half {half} raw"), bytes.to_vec()));
        all.push((format!("half {half} in hex"), hex::encode(bytes).into_bytes()));
        all.push((format!("half {half} in HEX"), hex::encode_upper(bytes).into_bytes()));
        let decimal = format!("{bytes:?}");
        all.push((format!("half {half} as a list"), decimal.trim_matches(['[', ']']).as_bytes().to_vec()));
        all.push((format!("half {half} as JSON"), decimal.trim_matches(['[', ']']).replace(' ', "").into_bytes()));
        let wide: Vec<u8> = bytes.iter().flat_map(|byte| [*byte, 0]).collect();
        all.push((format!("half {half} in UTF-16"), wide));
        for shift in 0..3 {
            all.push((format!("half {half} in base64 at {shift}"), base64(bytes, shift)));
        }
    }
    all
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

/// Names of the patterns that are in a text.
fn found(text: &[u8], patterns: &Patterns) -> Vec<String> {
    patterns.iter().filter(|(_, part)| contains(text, part)).map(|(name, _)| name.clone()).collect()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![];
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => all.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => all.push(entry.path()),
            _ => {}
        }
    }
    all
}

/// Looks into every file below a folder. Returns how many there were with how many bytes, and in how many the marker is.
fn search(folder: &Path, secret: &Patterns, marker: &[u8]) -> (usize, usize, usize) {
    let (mut count, mut bytes, mut marked) = (0, 0, 0);
    for path in files(folder) {
        // Files come and go while a network runs.
        let Ok(content) = fs::read(&path) else { continue };
        assert_eq!(found(&content, secret), Vec::<String>::new(), "in {}", path.display());
        (count, bytes) = (count + 1, bytes + content.len());
        marked += usize::from(contains(&content, marker));
    }
    (count, bytes, marked)
}

/// Captures what crosses the loopback interface.
struct Sniffer {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    folder: tempfile::TempDir,
}

impl Sniffer {
    /// Starts it; `None` if this machine does not let us.
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/sniff.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().map_err(|error| println!("SKIPPED: no packets: {error}")).ok()?;
        let (input, output) = (process.stdin.take(), BufReader::new(process.stdout.take().unwrap()));
        let mut sniffer = Self { process, input, output, folder };
        if sniffer.line() != "ready" {
            println!("SKIPPED: no packets: this machine does not let us capture them");
            return None;
        }
        Some(sniffer)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Ends the capture. Returns how many packets were seen and how many were missed.
    fn stop(&mut self) -> (usize, usize) {
        drop(self.input.take());
        let line = self.line();
        let (seen, missed) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        (seen.parse().unwrap(), missed.parse().unwrap())
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// 32 printable bytes.
fn secret() -> Vec<u8> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).unwrap();
    bytes
        .iter()
        .map(|byte| b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[usize::from(byte % 64)])
        .collect()
}

#[test]
fn the_search_finds_every_form() {
    let secret = secret();
    let patterns = patterns(&secret);
    for shift in 0..3 {
        let text: Vec<u8> = [&b"xxx"[..shift], &secret, b"yyyy"].concat();
        let encoded: String = base64(&text, 0).into_iter().map(char::from).collect();
        assert!(found(encoded.as_bytes(), &patterns).len() >= 2, "{encoded}");
    }
    assert_eq!(base64(b"any carnal pleas", 0), b"YW55IGNhcm5hbCBwbGVhc");
    for text in [secret.clone(), hex::encode(&secret).into(), format!("{secret:?}").into()] {
        // Both halves; a half whose hexadecimal digits are all numbers is found in upper and in lower case.
        assert!(found(&text, &patterns).len() >= 2);
    }
    assert!(found(b"nothing", &patterns).is_empty());
}

#[test]
fn a_secret_is_seen_nowhere() {
    run(Duration::from_secs(150), async {
        let mut sniffer = Sniffer::start();
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("net");
        // As talkative as its own parts can be.
        let parts = ["worker", "replica", "session", "vm", "state", "devnet", "client", "consensus", "rpc", "node"];
        let filter = parts.iter().fold("info".to_owned(), |all, part| format!("{all},phala_{part}=trace"));
        let mut net = Net::start(&folder, &filter);
        // Something else first, so that the markers are there.
        let bundle = fixture("flipper.contract");
        Shell::new(net.rpc()).json(&["deploy", bundle.to_str().unwrap(), "new", "true"]).await.done();
        let secret = secret();
        let patterns = patterns(&secret);
        let sealed = tell(&net, &secret).await;

        // While it runs: metrics, and what lies in memory that the host can read.
        let marker = b"phala_worker_requests".to_vec();
        for url in net.workers() {
            for page in ["metrics", "v1/info", "readyz"] {
                let text = get(&format!("{url}/{page}")).await.1;
                assert_eq!(found(text.as_bytes(), &patterns), Vec::<String>::new(), "{url}/{page}");
                assert!(page != "metrics" || contains(text.as_bytes(), &marker), "{text}");
            }
        }
        let answer = reqwest::get(format!("{}/v1/entries?from=0&to=64", net.workers()[0])).await.unwrap();
        assert!(answer.status().is_success());
        assert_eq!(found(&answer.bytes().await.unwrap(), &patterns), Vec::<String>::new(), "/v1/entries");
        let endpoint = net.workers().swap_remove(0).into_bytes();
        for memory in net.memory_folders() {
            let (count, bytes, _) = search(&memory, &patterns, b"");
            println!("{}: {count} files, {bytes} bytes", memory.display());
            assert!(count > 0);
        }
        let (count, bytes, marked) = search(&folder, &patterns, &endpoint);
        println!("running: {count} files, {bytes} bytes, the endpoint of a worker in {marked}");
        assert!(marked > 0, "the search does not even find a worker's endpoint in the chain's database");
        // And when it has been stopped in order and everything was flushed.
        net.terminate().await;
        let (_, _, marked) = search(&folder, &patterns, &endpoint);
        assert!(marked > 0);
        let log = fs::read(net.log()).unwrap();
        println!("log: {} bytes", log.len());
        assert_eq!(found(&log, &patterns), Vec::<String>::new(), "in the log");
        assert!(log.len() > 100 && contains(&log, b"INFO"), "no log to search");

        let Some(sniffer) = &mut sniffer else { return };
        let (seen, missed) = sniffer.stop();
        let (flows, bytes, marked) = search(sniffer.folder.path(), &patterns, net.genesis().as_bytes());
        println!("packets: {seen} seen, {missed} missed; {flows} flows, {bytes} bytes, the genesis hash in {marked}");
        assert!(marked > 0, "the search does not even find the genesis hash in RPC answers");
        let requests = files(sniffer.folder.path());
        for request in sealed {
            let carried = requests.iter().any(|flow| contains(&fs::read(flow).unwrap(), &request));
            assert!(carried, "the request that holds the secret was not captured");
        }
    });
}

/// Tells the network the secret in every way. Returns the sealed requests that hold it and were sent by hand.
async fn tell(net: &Net, secret: &[u8]) -> Vec<Vec<u8>> {
    let alice = Person::at("Alice", net).await;
    let contract = alice.deploy(probe(), secret.to_vec()).await.unwrap();
    let read = async || contract.query(input(contracts::READ, b"")).await.unwrap().output.data;
    assert_eq!(read().await, secret, "the constructor's argument is in the state");
    outcome(contract.call(input(contracts::WRITE, &[secret, secret].concat()), GAS).await.unwrap()).unwrap();
    assert_eq!(read().await, [secret, secret].concat(), "the command's argument is in the state");
    for replica in alice.cluster.replicas() {
        let session = Session::open_at(&alice.cluster, &replica.worker).await.unwrap();
        let answer = session.query(contract.address(), input(contracts::REVERT, secret)).await.unwrap();
        assert_eq!((answer.output.reverted(), &answer.output.data[..]), (true, secret));
        // A debug message and a trap, and a key made of it.
        assert_eq!(code_of(session.query(contract.address(), input(contracts::SHOUT, secret)).await), Code::Trapped);
    }
    let store = input(contracts::STORE, &[secret, secret].concat());
    outcome(contract.call(store, GAS).await.unwrap()).unwrap();
    for (what, code) in [(contracts::SHOUT, Code::Trapped), (contracts::REVERT, Code::Reverted)] {
        assert_eq!(code_of(outcome(contract.call(input(what, secret), GAS).await.unwrap())), code);
    }
    // By hand, so that the very bytes are known: a query, and a command under a certificate that does not hold.
    let door = Door::of(&alice.cluster).await;
    let caller = Caller::new("Alice", alice.cluster.chain().genesis(), |_| ());
    let header = door.to(contract.address());
    let request = caller.request(&header, query(contract.address(), &input(contracts::REVERT, secret)));
    let good = door.seal(&header, &request);
    let mut command = caller.sign(caller.command(contract.address(), &input(contracts::WRITE, secret)));
    command.signature[0] ^= 1;
    let bad = door.seal(&door.to(contract.address()), &Request::Command(command));
    let mut sent = vec![];
    for forged in [good, bad] {
        assert_eq!(door.post(forged.bytes.clone()).await.0, 200);
        // One that is refused before it is opened.
        let mut altered = forged.bytes.clone();
        altered[70] ^= 1;
        assert_eq!(door.refused(altered).await, Code::UnknownKey);
        sent.push(forged.bytes);
    }
    sent
}

//! How a contract comes to be: from a template to a watched contract that is upgraded in place, what it costs, how it
//! becomes fixed, and collections.

use crate::{
    harness::{LOG, Net, Shell, fixture, run},
    main_job::fails,
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

/// A running `phala watch`; it ends with this.
struct Watch {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(project: &Path, home: &Path, url: &str) -> Self {
        let mut command = Command::new(phala_tests::binary().unwrap());
        command.args(["--json", "watch", "new", "true", "--path"]).arg(project);
        command.env("PHALA_URL", url).env("XDG_DATA_HOME", home).env("NO_COLOR", "1");
        command.env_remove("PHALA_GENESIS").env_remove("PHALA_SURI").env_remove("RUST_LOG");
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// The next document that says what was done, and those of the log before it.
    fn next(&mut self) -> (Value, Vec<Value>) {
        let mut said = vec![];
        loop {
            let line = self.lines.next().expect("`phala watch` goes on").unwrap();
            let value: Value = serde_json::from_str(&line).unwrap();
            if value["event"].is_string() || !value["error"].is_null() {
                return (value, said);
            }
            said.push(value);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn from_a_template_to_a_changed_answer() {
    run(Duration::from_secs(400), template_to_answer());
}

async fn template_to_answer() {
    let folder = tempfile::tempdir().unwrap();
    let net = Net::start(&folder.path().join("net"), LOG);
    let shell = Shell::new(net.rpc());
    let parent = folder.path().to_str().unwrap();
    let made = shell.json(&["new", "watched", "--path", parent]).await.done();
    let project = folder.path().join("watched");
    assert_eq!(made["template"], "flipper");

    let mut watch = Watch::start(&project, shell.home(), net.rpc());
    let (deployed, _) = watch.next();
    assert_eq!((&deployed["event"], &deployed["version"]), (&json!("deployed"), &json!(0)), "{deployed}");
    println!("built for the first time and deployed after {} ms", deployed["ms"]);
    let address = deployed["address"].as_str().unwrap().to_owned();
    let record = shell.json(&["contract", &address]).await.done();
    assert_eq!((&record["upgradable"], &record["version"]), (&json!(true), &json!(0)));
    shell.json(&["send", &address, "flip"]).await.done();
    assert_eq!(shell.json(&["query", &address, "get"]).await.done()["result"], false);

    // A mistake changes nothing; the next save does.
    let source = project.join("lib.rs");
    let text = fs::read_to_string(&source).unwrap();
    fs::write(&source, text.replace("            self.value\n", "            mistake\n")).unwrap();
    let (mistake, said) = watch.next();
    assert_eq!(mistake["error"]["code"], "P5002", "{mistake}");
    assert_eq!(said.len(), 1, "the flip was in the log: {said:?}");
    assert_eq!(shell.json(&["query", &address, "get"]).await.done()["result"], false);

    let saved = Instant::now();
    fs::write(&source, text.replace("            self.value\n", "            !self.value\n")).unwrap();
    let (upgraded, _) = watch.next();
    assert_eq!((&upgraded["event"], &upgraded["version"]), (&json!("upgraded"), &json!(1)), "{upgraded}");
    assert_eq!(upgraded["address"], deployed["address"]);
    // The state is the same, the answer is another.
    assert_eq!(shell.json(&["query", &address, "get"]).await.done()["result"], true);
    println!(
        "from save to a changed answer {} ms, of which the build {} ms",
        saved.elapsed().as_millis(),
        upgraded["build_ms"]
    );
    assert!(saved.elapsed() < Duration::from_secs(120));
    drop(watch);

    // Whoever watches again goes on with the same contract.
    let mut again = Watch::start(&project, shell.home(), net.rpc());
    let (continued, _) = again.next();
    assert_eq!((&continued["event"], &continued["address"]), (&json!("continued"), &deployed["address"]));
    drop(again);

    costs(&shell, &address).await;
    upgrades(&shell, &address).await;
}

async fn costs(shell: &Shell, flipper: &str) {
    let tried = shell.json(&["cost", flipper, "flip"]).await.done();
    let gas = tried["gas"].as_u64().unwrap();
    assert_eq!(tried["said"][0]["event"], "Flipped", "{tried}");
    assert_eq!(shell.json(&["query", flipper, "get"]).await.done()["result"], true, "nothing was done");
    let sent = shell.json(&["send", flipper, "flip", "--receipt"]).await.done();
    assert_eq!(sent["receipt"]["gas"].as_u64().unwrap(), gas, "the estimate is exact on the same state");
    // A stranger is told the outcome, but not what the contract says.
    let stranger = shell.json(&["send", flipper, "flip", "--dry-run", "--suri", "//Eve"]).await.done();
    assert_eq!(stranger["said"], json!([]));
    let little = shell.json(&["send", flipper, "flip", "--gas", "1000"]).await;
    let message = little.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("it needs"), "{message}");

    let bundle = fixture("psp22.contract");
    let deploy = ["deploy", bundle.to_str().unwrap(), "new", "5", "None", "None", "12", "--dry-run"];
    let before = shell.json(&["account", "//Alice"]).await.done();
    let cost = shell.json(&deploy).await.done();
    assert!(cost["deposit"].as_str().unwrap().len() > 10 && cost["gas"].as_u64().unwrap() > 0, "{cost}");
    assert_eq!(shell.json(&["account", "//Alice"]).await.done(), before);
}

async fn upgrades(shell: &Shell, flipper: &str) {
    let (token, other) = (fixture("psp22.contract"), fixture("flipper.contract"));
    let (token, other) = (token.to_str().unwrap(), other.to_str().unwrap());
    fails(shell, "P5020", &["upgrade", flipper, token]).await;
    fails(shell, "P2019", &["upgrade", flipper, other, "--suri", "//Bob"]).await;
    let upgraded = shell.json(&["upgrade", flipper, other]).await.done();
    assert_eq!(upgraded["version"], 2);
    // What runs already is no new version.
    assert_eq!(shell.json(&["upgrade", flipper, other]).await.done()["version"], 2);
    fails(shell, "P2019", &["freeze", flipper, "--suri", "//Bob"]).await;
    shell.json(&["freeze", flipper]).await.done();
    let record = shell.json(&["contract", flipper]).await.done();
    assert_eq!((&record["upgradable"], &record["version"]), (&json!(false), &json!(2)));
    fails(shell, "P5023", &["upgrade", flipper, token, "--force"]).await;
    let fixed = shell.json(&["deploy", other, "new", "true"]).await.done();
    fails(shell, "P5023", &["upgrade", fixed["address"].as_str().unwrap(), token, "--force"]).await;
}

#[test]
fn a_collection_is_made_at_once_and_found_again() {
    run(Duration::from_secs(400), collection());
}

async fn collection() {
    let folder = tempfile::tempdir().unwrap();
    let net = Net::start(&folder.path().join("net"), LOG);
    let shell = Shell::new(net.rpc());
    let token = fixture("psp22.contract");
    let vault = token.parent().unwrap().join("../examples/vault").canonicalize().unwrap();
    let write = |argument: &str| {
        let text = format!(
            "[[contract]]\nname = \"token\"\nbundle = {token:?}\narguments = [\"100\", \"None\", \"None\", \"12\"]\n\n\
             [[contract]]\nname = \"vault\"\nbundle = {vault:?}\narguments = [\"{argument}\"]\n"
        );
        shell.file("savings.toml", text)
    };
    fails(&shell, "P5024", &["deploy", &write("$nobody")]).await;
    let file = write("$token");
    let ran = shell.json(&["deploy", &file]).await.done();
    let address = |index: usize| ran[index]["address"].as_str().unwrap().to_owned();
    assert_eq!((&ran[0]["state"], &ran[1]["state"]), (&json!("made"), &json!("made")), "{ran}");
    let (token, vault) = (address(0), address(1));
    shell.json(&["send", &token, "PSP22::approve", &vault, "40"]).await.done();
    let deposit = shell.json(&["send", &vault, "deposit", "40"]).await.done();
    assert_eq!(deposit["reverted"], false, "{deposit}");
    assert_eq!(shell.json(&["query", &token, "PSP22::balance_of", &vault]).await.done()["result"], 40);
    let again = shell.json(&["deploy", &file]).await.done();
    assert_eq!(again[1]["state"], "there already", "{again}");
    let elsewhere = shell.json(&["deploy", &file, "--salt", "0x01"]).await.done();
    assert_ne!(elsewhere[1]["address"], ran[1]["address"]);

    // A constructor that receives money of the deployer's.
    let till = fixture("till.contract");
    let paid = |value: &str| {
        let text = format!("[[contract]]\nname = \"till\"\nbundle = {till:?}\nvalue = \"{value}\"\n");
        shell.file("till.toml", text)
    };
    fails(&shell, "P5003", &["deploy", &paid("much")]).await;
    shell.json(&["deposit", "3"]).await.done();
    // Each command may ask another replica, and finds what the last one was told.
    let ran = shell.json(&["deploy", &paid("2.5")]).await.done();
    assert_eq!(ran[0]["state"], "made");
    assert_eq!(shell.json(&["account", "//Alice"]).await.done()["in_cluster"], "500000000000");
}

//! What people do, on the command line.

use crate::harness::{LOG, Net, Shell, fixture, run};
use serde_json::{Value, json};
use std::time::Duration;

const PHA: u128 = 1_000_000_000_000;

fn number(value: &Value) -> u128 {
    value.as_str().unwrap_or_else(|| panic!("{value} is no number in a text")).parse().unwrap()
}

/// Runs a command that must fail with this code, once for programs and once for people.
pub(crate) async fn fails(shell: &Shell, code: &str, arguments: &[&str]) {
    let ran = shell.json(arguments).await;
    assert_eq!((ran.code, ran.json()["error"]["code"].as_str()), (1, Some(code)), "{arguments:?}: {ran:?}");
    for field in ["message", "help"] {
        assert!(ran.json()["error"][field].as_str().is_some_and(|text| !text.is_empty()), "{ran:?}");
    }
    let ran = shell.phala(arguments).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{arguments:?}: {ran:?}");
    let anchor = format!("docs/errors.md#{}", code.to_lowercase());
    for part in [format!("error[{code}]"), "help:".to_owned(), anchor] {
        assert!(ran.err.contains(&part), "{part} is missing: {ran:?}");
    }
}

#[test]
fn main_job() {
    run(Duration::from_secs(240), async {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("net");
        let mut net = Net::start(&folder, LOG);
        let mut shell = Shell::new(net.rpc());
        assert_eq!(net.facts()["attestation"], "SIMULATED");
        accounts(&shell, net.genesis()).await;
        let flipper = flipper(&shell, net.genesis()).await;
        token(&shell).await;
        errors(&shell, &flipper).await;

        // A second process on the folder is turned away; the first goes on, ends when asked to, and is continued.
        fails(
            &shell,
            "P5007",
            &["dev", "--rpc-port", "0", "--worker-port", "0", "--data-dir", folder.to_str().unwrap()],
        )
        .await;
        assert!(net.lives());
        let genesis = net.genesis().to_owned();
        assert_eq!(net.terminate().await.code(), Some(0));
        let net = Net::start(&folder, LOG);
        assert_eq!(net.genesis(), genesis);
        shell.turn_to(net.rpc());
        assert_eq!(shell.json(&["query", &flipper, "get"]).await.done()["result"], false);
        assert_eq!(shell.json(&["send", &flipper, "flip", "--suri", "//Bob"]).await.done()["reverted"], false);
        assert_eq!(shell.json(&["query", &flipper, "get"]).await.done()["result"], true);
    });
}

async fn accounts(shell: &Shell, genesis: &str) {
    let doctor = shell.json(&["doctor"]).await;
    let report = doctor.json();
    assert_eq!(doctor.code == 0, report["ok"].as_bool().unwrap(), "{doctor:?}");
    let network = report["checks"].as_array().unwrap().iter().find(|check| check["check"] == "network").unwrap();
    assert!(network["ok"] == true && network["found"].as_str().unwrap().contains(genesis), "{network}");

    let alice = shell.json(&["account", "//Alice"]).await.done();
    assert_eq!(alice["generic_address"], "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY");
    assert_eq!(alice["public_key"], "0xd43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27d");
    let balance = |account: &Value| number(&account["free"]);
    let (alice_before, bob) = (balance(&alice), shell.json(&["account", "//Bob"]).await.done());
    let done = shell.json(&["transfer", "//Bob", "12.5", "--suri", "//Alice"]).await.done();
    assert_eq!((number(&done["amount"]), &done["to"]), (PHA * 25 / 2, &bob["address"]));
    assert!(done["block"].as_u64().unwrap() > 0 && done["block_hash"].as_str().unwrap().starts_with("0x"), "{done}");
    let bob_after = shell.json(&["account", bob["address"].as_str().unwrap()]).await.done();
    assert_eq!(balance(&bob_after) - balance(&bob), PHA * 25 / 2);
    let alice_after = shell.json(&["account", "//Alice"]).await.done();
    let paid = alice_before - balance(&alice_after);
    assert!(paid > PHA * 25 / 2 && paid < PHA * 13, "a fee, but no large one: {paid}");
    assert_eq!(alice_after["nonce"].as_u64().unwrap(), alice["nonce"].as_u64().unwrap() + 1);

    // Somebody new.
    let new = shell.json(&["account", "--new"]).await.done();
    let words = new["words"].as_str().unwrap();
    assert_eq!(words.split(' ').count(), 12);
    let address = new["address"].as_str().unwrap();
    assert_eq!(shell.json(&["account", address]).await.done()["free"], "0");
    shell.json(&["transfer", address, "1", "--suri", "//Bob"]).await.done();
    assert_eq!(number(&shell.json(&["account", address]).await.done()["free"]), PHA);
}

/// Deploys, reads, writes and reads again. Returns the address.
async fn flipper(shell: &Shell, genesis: &str) -> String {
    let bundle = fixture("flipper.contract");
    let deployed = shell.json(&["deploy", bundle.to_str().unwrap(), "new", "true", "--genesis", genesis]).await.done();
    let address = deployed["address"].as_str().unwrap().to_owned();
    assert!(deployed["code_hash"].as_str().unwrap().starts_with("0x") && deployed["gas"].as_u64().unwrap() > 0);
    assert_eq!((&deployed["cluster"], deployed["height"].as_u64().unwrap() > 0), (&json!(0), true));

    let read = shell.phala(&["query", &address, "get"]).await;
    assert_eq!((read.code, read.out.as_str()), (0, "true\n"), "{read:?}");
    assert_eq!(shell.json(&["query", &address, "get"]).await.done(), json!({ "result": true, "reverted": false }));
    let sent = shell.json(&["send", &address, "flip", "--receipt", "--suri", "//Charlie"]).await.done();
    assert_eq!(sent["reverted"], false);
    let receipt = &sent["receipt"];
    assert!(receipt["signatures"].as_u64().unwrap() >= 3 && receipt["gas"].as_u64().unwrap() > 0, "{receipt}");
    let read = shell.json(&["query", &address, "get", "--receipt"]).await.done();
    assert_eq!(read["result"], false);
    assert!(read["receipt"]["height"].as_u64() >= receipt["height"].as_u64(), "{read} after {receipt}");
    address
}

async fn token(shell: &Shell) {
    let bundle = fixture("psp22.contract");
    let arguments = ["deploy", bundle.to_str().unwrap(), "new", "1000", "Some(\"Gold\")", "Some(\"GLD\")", "12"];
    let deployed = shell.json(&arguments).await.done();
    let address = deployed["address"].as_str().unwrap();
    let sent = shell.phala(&["send", address, "PSP22::transfer", "//Bob", "100", "[]"]).await;
    assert_eq!(sent.code, 0, "{sent:?}");
    let balance = shell.json(&["query", address, "PSP22::balance_of", "//Bob"]).await.done();
    assert_eq!(balance["result"], 100);
    // The contract refuses: nothing of the tool failed.
    let refused = shell.json(&["send", address, "PSP22::transfer", "//Bob", "100", "[]", "--suri", "//Eve"]).await;
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.json()["result"].to_string().contains("InsufficientBalance"), "{refused:?}");
    let balance = shell.json(&["query", address, "PSP22::balance_of", "//Bob"]).await.done();
    assert_eq!(balance["result"], 100);
}

async fn errors(shell: &Shell, flipper: &str) {
    let bundle = fixture("flipper.contract");
    let bundle = bundle.to_str().unwrap();
    let content = std::fs::read(bundle).unwrap();
    // An address at which nothing is.
    let nobody = shell.json(&["account", "--new"]).await.done();
    let nobody = nobody["address"].as_str().unwrap();
    fails(shell, "P2001", &["query", nobody, "get", "--bundle", bundle]).await;
    fails(shell, "P2001", &["send", nobody, "flip", "--bundle", bundle]).await;
    fails(shell, "P5004", &["query", nobody, "get"]).await;
    fails(shell, "P5003", &["query", "5Grw", "get"]).await;
    // Arguments that do not fit.
    for wrong in [&["new", "12"][..], &["new"], &["new", "true", "true"], &["nosuch"]] {
        fails(shell, "P5003", &[&["deploy", bundle], wrong].concat()).await;
    }
    fails(shell, "P5003", &["query", flipper, "nosuch"]).await;
    fails(shell, "P5003", &["transfer", "//Bob", "lots"]).await;
    fails(shell, "P5006", &["transfer", "//Bob", "1", "--suri", "not a key"]).await;
    // Bundles that are none.
    let truncated = shell.file("truncated.contract", &content[..content.len() / 2]);
    fails(shell, "P5004", &["deploy", &truncated, "new", "true"]).await;
    let mut altered: Value = serde_json::from_slice(&content).unwrap();
    let wasm = altered["source"]["wasm"].as_str().unwrap().to_owned();
    altered["source"]["wasm"] = json!(wasm.replacen("00", "01", 1));
    let altered = shell.file("altered.contract", altered.to_string());
    fails(shell, "P5004", &["deploy", &altered, "new", "true"]).await;
    let ink6 = json!({
        "source": { "hash": format!("0x{:064}", 0), "language": "ink! 6.0.0", "compiler": "rustc 1.86.0",
                    "contract_binary": "0x50564d0000" },
        "contract": { "name": "six", "version": "0.1.0", "authors": ["x"] }, "spec": {}, "types": [], "version": 6,
    });
    fails(shell, "P2004", &["deploy", &shell.file("six.contract", ink6.to_string()), "new", "true"]).await;
    // Another network than the one that was meant, and none.
    let wrong = format!("0x{}", "42".repeat(32));
    fails(shell, "P4007", &["account", "//Alice", "--genesis", &wrong]).await;
    fails(shell, "P4007", &["query", flipper, "get", "--genesis", &wrong]).await;
    fails(shell, "P4003", &["account", "//Alice", "--url", "ws://127.0.0.1:1"]).await;
    // More than there is; the same address twice; not enough gas.
    fails(shell, "P4008", &["transfer", "//Bob", "900000000", "--suri", "//Ferdie"]).await;
    let again = ["deploy", bundle, "new", "true", "--salt", "0x0102"];
    shell.json(&again).await.done();
    fails(shell, "P2013", &again).await;
    fails(shell, "P2005", &["send", flipper, "flip", "--gas", "1000"]).await;
    // A network that cannot be.
    fails(shell, "P5003", &["dev", "--workers", "2", "--rpc-port", "0", "--worker-port", "0"]).await;
    // Wrong usage is told apart from failure.
    assert_eq!(shell.phala(&["frobnicate"]).await.code, 2);
    assert_eq!(shell.phala(&["dev", "--workers", "99"]).await.code, 2);
    // Nothing of all that has changed anything.
    assert_eq!(shell.json(&["query", flipper, "get"]).await.done()["result"], false);
}

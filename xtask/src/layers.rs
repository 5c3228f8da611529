//! The law of layers: who may depend on whom. Folders are roles of trust, so an edge that this table lacks is either
//! a mistake or a decision that belongs into ARCHITECTURE.md.

use crate::repo::{Repo, program_lines};
use anyhow::{Context, Result};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path};

/// A folder of crates and the folders that these may depend on; tests are free. The first row that fits is the law.
const LAW: &[(&str, &[&str])] = &[
    ("chain/primitives", &[]),
    ("net/consensus", &["chain/primitives"]),
    ("enclave/replica", &["chain/primitives", "enclave"]),
    ("enclave/keys", &["chain/primitives", "enclave/attest"]),
    ("enclave/pink", &["chain/primitives", "enclave/vm"]),
    ("enclave/", &["chain/primitives"]),
    ("simtee", &["chain/primitives", "enclave/attest"]),
    ("chain/pallets/", &["chain/primitives", "chain/pallets", "enclave/attest"]),
    ("chain/runtime", &["chain/primitives", "chain/pallets", "enclave/attest"]),
    ("chain/rpc", &["chain/primitives"]),
    ("chain/node", &["chain", "net/consensus", "enclave/attest"]),
    ("client/abi", &["chain/primitives"]),
    ("client/build", &["chain/primitives"]),
    ("client/rust", &["chain/primitives", "enclave/session", "enclave/light"]),
    ("contracts/testkit", &["chain/primitives", "client/abi", "client/build", "enclave"]),
    ("edge/devnet", &["chain", "enclave", "net/consensus", "client/rust", "edge/worker", "simtee"]),
    ("edge/", &["chain/primitives", "enclave", "net/consensus", "client/rust"]),
    ("cli", &["chain", "enclave", "net/consensus", "client", "contracts/testkit", "edge", "simtee"]),
    ("sim", &["chain", "enclave", "net/consensus", "simtee"]),
    ("tests", &["chain/primitives", "enclave/session", "client", "edge/devnet"]),
    ("benches/interpreter", &["chain/primitives", "enclave/vm"]),
    ("benches/kernels", &[]),
    (
        "benches",
        &[
            "chain/primitives",
            "enclave/session",
            "enclave/state",
            "enclave/vm",
            "client/rust",
            "edge/devnet",
            "benches",
        ],
    ),
    ("xtask", &[]),
];

/// Libraries that only some folders may name, even in tests.
const KEEPERS: &[(&str, &[&str], &str)] = &[
    ("commonware-", &["net/consensus"], "its generic types are instantiated in one crate"),
    ("wasmtime", &["enclave/vm"], "the engine lies behind one interface"),
    ("wasmi", &["benches/interpreter"], "one set of host functions serves tests and benchmarks"),
];

/// What an enclave crate may not depend on outside of its tests.
const HOST_LIBRARIES: &[&str] = &["axum", "hyper", "jsonrpsee", "mio", "reqwest", "socket2", "tokio", "tower"];

/// What the source of an enclave crate may not name outside of its tests, and the reason.
const HOST_NAMES: &[(&str, &str)] = &[
    ("tokio", "tasks and sockets are the host's"),
    ("axum", "servers are the host's"),
    ("std::net", "sockets are the host's"),
    ("std::fs", "storage is passed in"),
    ("std::process", "processes are the host's"),
    ("std::env", "configuration is passed in"),
    ("std::thread", "threads are the host's"),
    ("SystemTime", "time is passed in"),
];

/// Compares the manifests with the law.
pub(crate) fn crates(repo: &Repo) -> Result<Vec<String>> {
    let metadata =
        repo.output("cargo", &["metadata", "--no-deps", "--format-version", "1", "--locked", "--offline"])?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists packages")?;
    let folders: BTreeMap<&str, &str> = packages.iter().filter_map(|package| folder(repo, package)).collect();

    let mut findings = Vec::new();
    for package in packages {
        let Some((_, from)) = folder(repo, package) else { continue };
        let Some((_, allowed)) = LAW.iter().find(|(row, _)| from.starts_with(row)) else {
            findings.push(format!("{from}: this folder has no row in the law of layers"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let name = dependency["name"].as_str().unwrap_or_default();
            let for_tests = dependency["kind"] == "dev";
            match folders.get(name) {
                Some(to) if !for_tests && !allowed.iter().any(|folder| within(to, folder)) => {
                    findings.push(format!("{from} must not depend on {to}"));
                }
                Some(_) => {}
                None => findings.extend(library(from, name, for_tests)),
            }
        }
    }
    Ok(findings)
}

/// Looks for names of the host in the sources of enclave crates.
pub(crate) fn enclave_sources(repo: &Repo) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for path in repo.files("enclave/", &[".rs"]) {
        let Some(text) = repo.text(path)? else { continue };
        for (number, line) in program_lines(path, &text) {
            let code = line.split("//").next().unwrap_or_default();
            let named = HOST_NAMES.iter().filter(|(name, _)| names(code, name));
            findings.extend(named.map(|(name, reason)| format!("{path}:{number}: names {name}: {reason}")));
        }
    }
    Ok(findings)
}

fn folder<'a>(repo: &Repo, package: &'a Value) -> Option<(&'a str, &'a str)> {
    let manifest = Path::new(package["manifest_path"].as_str()?);
    Some((package["name"].as_str()?, manifest.parent()?.strip_prefix(&repo.root).ok()?.to_str()?))
}

fn within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn library(from: &str, name: &str, for_tests: bool) -> Option<String> {
    let kept = KEEPERS.iter().find(|(prefix, ..)| name.starts_with(prefix));
    if let Some((_, keepers, reason)) = kept.filter(|(_, keepers, _)| !keepers.contains(&from)) {
        return Some(format!("{from} must not depend on {name}, which belongs to {}: {reason}", keepers.join(", ")));
    }
    let hosted = from.starts_with("enclave/") && !for_tests && HOST_LIBRARIES.contains(&name);
    hosted.then(|| format!("{from} must not depend on {name}: it is pure, and effects are the host's"))
}

/// Whether `code` holds `path` as a whole word, written out or, for `std::x`, as a member of a group `std::{…}`.
fn names(code: &str, path: &str) -> bool {
    let word = |text: &str, word: &str| {
        text.match_indices(word).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + word.len()..].chars().next();
            let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            !inside(before) && !inside(after)
        })
    };
    let group = path.strip_prefix("std::").zip(code.split_once("std::{"));
    word(code, path) || group.is_some_and(|(member, (_, members))| word(members, member))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_whole_words() {
        assert!(names("use std::fs;", "std::fs"));
        assert!(names("use std::{fs::File, sync::Arc};", "std::fs"));
        assert!(names("let now = std::time::SystemTime::now();", "SystemTime"));
        assert!(names("tokio::spawn(async {})", "tokio"));
        assert!(!names("let tokio_like = 1;", "tokio"));
        assert!(!names("use std::{sync::Arc, fmt};", "std::fs"));
    }

    #[test]
    fn folders_hold_what_lies_below_them() {
        assert!(within("enclave/vm", "enclave"));
        assert!(within("enclave/vm", "enclave/vm"));
        assert!(!within("enclave/vmm", "enclave/vm"));
    }
}

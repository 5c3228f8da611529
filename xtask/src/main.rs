//! Checks of the repository itself, for people and machines: `cargo xtask verify`.
//!
//! A check reads the tracked files, changes nothing, and returns what it found, one sentence each; none found is a
//! pass. Whatever is easier to get wrong than to notice in review belongs here, as long as it takes milliseconds.

mod documents;
mod errors;
mod features;
mod layers;
mod repo;
mod sources;

use anyhow::{Result, bail};
use repo::Repo;
use std::process::ExitCode;

/// Runs over the repository and returns its findings.
type Check = fn(&Repo) -> Result<Vec<String>>;

/// Name, what it holds, and the function; in the order of a run.
const CHECKS: &[(&str, &str, Check)] = &[
    ("layers", "crates depend on each other only as the law of layers allows", layers::crates),
    ("pure", "enclave crates name no runtime, socket, file or clock", layers::enclave_sources),
    ("features", "tests ask no other features of a dependency than the program does", features::unified),
    ("sizes", "no file is longer than a reader's patience", sources::sizes),
    ("words", "no marks of unfinished work and no paths of one machine", sources::words),
    ("errors", "docs/errors.md says what the table of codes says", errors::check),
    ("commands", "commands shown in documents exist", documents::commands),
    ("links", "links between documents lead somewhere", documents::links),
];

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> Result<bool> {
    let repo = Repo::open()?;
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["verify"] => report(&repo, CHECKS),
        ["errors", "--write"] => errors::write(&repo).map(|()| true),
        [name] if CHECKS.iter().any(|(check, ..)| check == name) => {
            report(&repo, &CHECKS.iter().filter(|(check, ..)| check == name).copied().collect::<Vec<_>>())
        }
        [] | ["help" | "--help"] => {
            println!("cargo xtask verify           all of the checks below");
            println!("cargo xtask errors --write   write docs/errors.md from the table of codes");
            for (name, holds, _) in CHECKS {
                println!("cargo xtask {name:<16} {holds}");
            }
            Ok(true)
        }
        _ => bail!("no such task: {}; `cargo xtask help` lists them", arguments.join(" ")),
    }
}

fn report(repo: &Repo, checks: &[(&str, &str, Check)]) -> Result<bool> {
    let mut clean = true;
    for (name, holds, check) in checks {
        let findings = check(repo)?;
        println!("{} {name:<9} {holds}", if findings.is_empty() { "ok  " } else { "FAIL" });
        for finding in &findings {
            println!("       {finding}");
        }
        clean &= findings.is_empty();
    }
    Ok(clean)
}

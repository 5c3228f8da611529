//! `phala test`: a contract's unit tests, and its tests on the real engine.
//!
//! The bundle is built first, so that tests which use the crate `testkit` find it, then Cargo runs all tests. Their
//! output is Cargo's.

use crate::{
    args::Test,
    commands::{build, testkit},
    output::Output,
};
use anyhow::{Context, Result};
use phala_primitives::{Code, Coded};
use phala_testkit::Gas;
use serde_json::json;
use std::path::Path;

/// Builds, runs the tests, and shows what their commands cost.
pub(crate) fn run(options: &Test, output: Output) -> Result<()> {
    let built = build::run(&options.path, None, output)?;
    let gas = tempfile::tempdir()?;
    let program = std::env::current_exe().context("the path of this program")?;
    let mut variables = vec![("PHALA", program.as_os_str()), ("PHALA_BUNDLE", built.contract.as_os_str())];
    if options.gas {
        variables.push((testkit::GAS, gas.path().as_os_str()));
    }
    let mut arguments = options.arguments.clone();
    if !options.last.is_empty() {
        arguments.push("--".into());
        arguments.extend(options.last.iter().cloned());
    }
    let passed = phala_build::test(&options.path, &arguments, &variables).map_err(|error| error.coded)?;
    if options.gas {
        let gas = gathered(gas.path())?;
        output.data(&gas.to_json(), gas.to_string().trim_end());
    }
    if !passed {
        return Err(Coded::from(Code::TestsFailed).into());
    }
    output.done(format!("{}: all tests passed", built.bundle.name));
    if !options.gas {
        output.json_only(&json!({ "name": built.bundle.name, "passed": true }));
    }
    Ok(())
}

/// What all processes of the tests used.
fn gathered(folder: &Path) -> Result<Gas> {
    let mut all = Gas::default();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let json = serde_json::from_slice(&std::fs::read(&path)?).with_context(|| path.display().to_string())?;
        all.join(&json);
    }
    Ok(all)
}

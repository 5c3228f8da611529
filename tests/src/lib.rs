//! Whole-system tests against the real binary. This library starts it, and has machines and wires for it.

pub mod tun;
pub mod wires;

use anyhow::{Context, Result, bail};
use serde_json::{Deserializer, Value};
use std::{
    env,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// A running `phala dev`; it is killed when this is dropped.
#[derive(Debug)]
pub struct Devnet {
    process: Child,
    facts: Value,
}

/// The binary under test: `$PHALA_BIN`, or `phala` in the folder of the profile that the test was built with.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("PHALA_BIN") {
        return Ok(path.into());
    }
    let test = env::current_exe()?;
    let profile = test.parent().and_then(|deps| deps.parent()).context("the test has no profile folder")?;
    let path = profile.join("phala");
    if !path.is_file() {
        bail!("{} is not there: build it first with `cargo build`", path.display());
    }
    Ok(path)
}

impl Devnet {
    /// Starts a network on free ports and waits until it says that it is ready. Blocks.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(binary()?);
        command.args(["--json", "dev", "--rpc-port", "0", "--worker-port", "0"]).args(arguments);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().context("no output")?;
        // From here on the process dies with this value, also if it says nothing sensible.
        let mut devnet = Self { process, facts: Value::Null };
        let said = Deserializer::from_reader(output).into_iter::<Value>().next();
        devnet.facts = said.context("`phala dev` ended before it was ready")??;
        Ok(devnet)
    }

    /// What it said of itself: `rpc`, `workers`, `genesis`, `accounts`, …
    pub fn facts(&self) -> &Value {
        &self.facts
    }

    /// URL of the chain's JSON-RPC.
    pub fn rpc(&self) -> Result<&str> {
        self.facts.get("rpc").and_then(Value::as_str).context("`phala dev` names no RPC")
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

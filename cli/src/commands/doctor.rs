//! `phala doctor`: what this machine has, what is missing, and how to mend it.

use crate::{
    args::Network,
    output::{Output, Tone},
};
use anyhow::Result;
use serde_json::json;
use std::{process::Stdio, time::Duration};
use tokio::{process::Command, time::timeout};

/// Time that one check may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Result of one check.
struct Check {
    name: &'static str,
    ok: bool,
    /// Without it nothing works; otherwise it is only better to have.
    needed: bool,
    found: String,
    fix: &'static str,
}

/// Runs every check. Succeeds unless something that is needed is missing.
pub(crate) async fn run(network: &Network, output: Output) -> Result<bool> {
    let (rust, target, optimiser, chain) = tokio::join!(rust(), wasm_target(), wasm_opt(), chain(network));
    let checks = vec![rust, target, optimiser, attestation_hardware(), shared_memory(), chain];
    let fine = checks.iter().all(|c| c.ok || !c.needed);
    let json: Vec<_> = checks
        .iter()
        .map(|c| json!({ "check": c.name, "ok": c.ok, "needed": c.needed, "found": c.found, "fix": (!c.ok).then_some(c.fix) }))
        .collect();
    output.data(&json!({ "ok": fine, "checks": json }), render(&checks, output));
    Ok(fine)
}

fn render(checks: &[Check], output: Output) -> String {
    let line = |c: &Check| {
        let mark = match (c.ok, c.needed) {
            (true, _) => output.paint(Tone::Good, "✓"),
            (false, true) => output.paint(Tone::Bad, "✗"),
            (false, false) => output.paint(Tone::Warn, "!"),
        };
        let fix = if c.ok { String::new() } else { format!("\n    fix: {}", c.fix) };
        format!("{mark} {:<22} {}{fix}", c.name, c.found)
    };
    checks.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What a program says first, if it is there, succeeds, and says it in time.
async fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.ok()?.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

async fn rust() -> Check {
    let found = first_line("cargo", &["--version"]).await;
    Check {
        name: "rust",
        ok: found.is_some(),
        needed: true,
        found: found.unwrap_or_else(|| "cargo is not on the PATH".into()),
        fix: "install Rust 1.95 or newer with rustup",
    }
}

async fn wasm_target() -> Check {
    let ok = first_line("rustc", &["--print", "target-libdir", "--target", "wasm32v1-none"])
        .await
        .is_some_and(|dir| std::path::Path::new(&dir).is_dir());
    Check {
        name: "target wasm32v1-none",
        ok,
        needed: true,
        found: if ok { "installed".into() } else { "missing: contracts cannot be built".into() },
        fix: "rustup target add wasm32v1-none",
    }
}

async fn wasm_opt() -> Check {
    let found = first_line("wasm-opt", &["--version"]).await;
    Check {
        name: "wasm-opt",
        ok: found.is_some(),
        needed: false,
        found: found.unwrap_or_else(|| "missing: contracts are larger than they need be".into()),
        fix: "install binaryen (Debian: apt-get install binaryen)",
    }
}

fn attestation_hardware() -> Check {
    let devices = ["/dev/tdx_guest", "/dev/sev-guest", "/dev/sgx_enclave"];
    let found = devices.iter().find(|d| std::path::Path::new(d).exists());
    Check {
        name: "attestation hardware",
        ok: found.is_some(),
        needed: false,
        found: found.map_or_else(|| "none: attestation is SIMULATED on this machine".into(), |d| (*d).to_string()),
        fix: "nothing to do for development; hardware evidence is not supported yet",
    }
}

fn shared_memory() -> Check {
    let ok = std::path::Path::new("/dev/shm").is_dir();
    Check {
        name: "shared memory",
        ok,
        needed: false,
        found: if ok { "/dev/shm".into() } else { "no /dev/shm: writes are slower".into() },
        fix: "mount a tmpfs at /dev/shm",
    }
}

async fn chain(network: &Network) -> Check {
    let asked = timeout(LIMIT, phala_client::Chain::connect(&network.url, None)).await;
    let found = match asked {
        Ok(Ok(chain)) => Ok(format!("answers at {}, genesis {}", network.url, chain.genesis())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("{} does not answer", network.url)),
    };
    Check {
        name: "network",
        ok: found.is_ok(),
        needed: false,
        found: found.unwrap_or_else(|error| error),
        fix: "start one with `phala dev`, or name one with --url",
    }
}

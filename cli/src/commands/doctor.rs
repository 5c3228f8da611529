//! `phala doctor`: what this machine has, what is missing, and how to mend it. With `--fix` it mends what a command can
//! mend, and says so before.

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
    /// A command that mends it.
    command: Option<&'static [&'static str]>,
}

/// Runs every check; with `fix`, mends what can be mended and checks again. Succeeds unless something that is needed is
/// missing.
pub(crate) async fn run(network: &Network, fix: bool, output: Output) -> Result<bool> {
    let mut checks = look(network).await;
    if fix {
        mend(&checks, output).await;
        checks = look(network).await;
    }
    let fine = checks.iter().all(|c| c.ok || !c.needed);
    let json: Vec<_> = checks
        .iter()
        .map(|c| json!({ "check": c.name, "ok": c.ok, "needed": c.needed, "found": c.found, "fix": (!c.ok).then_some(c.fix) }))
        .collect();
    output.data(&json!({ "ok": fine, "checks": json }), render(&checks, output));
    let offered = checks.iter().filter(|check| !check.ok && check.command.is_some()).count();
    if offered > 0 && !fix {
        output.say(format!(
            "\n`phala doctor --fix` does {}",
            if offered == 1 { "this".into() } else { format!("{offered} of these") }
        ));
    }
    Ok(fine)
}

/// Runs the commands that mend what is missing.
async fn mend(checks: &[Check], output: Output) {
    let mut did = false;
    for check in checks.iter().filter(|check| !check.ok) {
        let Some([program, arguments @ ..]) = check.command else { continue };
        did = true;
        output.say(output.paint(Tone::Bold, &format!("$ {program} {}", arguments.join(" "))));
        let ended = Command::new(program).args(arguments).stdin(Stdio::null()).status().await;
        match ended {
            Ok(status) if status.success() => output.done(check.name),
            Ok(status) => output.warn(format!("{}: {program} ended with {status}", check.name)),
            Err(error) => output.warn(format!("{}: {program} does not run: {error}", check.name)),
        }
    }
    if !did {
        output.say("there is nothing that this program can mend");
    }
}

async fn look(network: &Network) -> Vec<Check> {
    let (rust, target, optimiser, chain) = tokio::join!(rust(), wasm_target(), wasm_opt(), chain(network));
    vec![rust, target, optimiser, attestation_hardware(), shared_memory(), chain]
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
        fix: "install Rust 1.95 or newer with rustup: https://rustup.rs",
        command: None,
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
        command: Some(&["rustup", "target", "add", "wasm32v1-none"]),
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
        command: binaryen(),
    }
}

/// How binaryen gets here, where a package manager may install it without a question.
fn binaryen() -> Option<&'static [&'static str]> {
    let there = |name: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
    };
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    match (there("apt-get") && root, there("brew")) {
        (true, _) => Some(&["apt-get", "install", "--yes", "--no-install-recommends", "binaryen"]),
        (_, true) => Some(&["brew", "install", "binaryen"]),
        _ => None,
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
        command: None,
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
        command: None,
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
        command: None,
    }
}

//! Running the compiler, once for WebAssembly.
//!
//! The profile and flags come from here and not from the contract's `Cargo.toml`:
//! - `panic = "abort"`, `opt-level = "z"`, one codegen unit, fat link-time optimisation: small code;
//! - overflow checks, as arithmetic that wraps loses people's money;
//! - the first version of WebAssembly, with imported memory and a stack of 64 KiB;
//! - no path of the builder's machine in the code, or two people's builds would differ.
//!
//! Whatever in the profile concerns build scripts and macros too would compile them a second time for the metadata, and
//! a flag that differs between contracts would compile ink! for each of them. So link-time optimisation, overflow checks
//! and stripping are flags of the target, and what belongs to one contract is told to the compiler of its crate only.

use crate::{
    command,
    error::{Error, Result},
    project::{Project, cargo},
    target::{TARGET, Toolchain},
};
use phala_primitives::Code;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

const PROFILE: [(&str, &str); 4] = [
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "z"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
];
const FLAGS: [&str; 6] = [
    "-Clink-arg=-zstack-size=65536",
    "-Clink-arg=--import-memory",
    "-Ctarget-cpu=mvp",
    "-Coverflow-checks=on",
    "-Cstrip=symbols",
    // Cargo would leave it out, for it does not know of the link-time optimisation.
    "-Cembed-bitcode=yes",
];

/// What Cargo is run with.
pub(crate) struct Setting<'a> {
    pub(crate) project: &'a Project,
    pub(crate) toolchain: &'a Toolchain,
    /// Where Cargo puts its files.
    pub(crate) target: &'a Path,
    /// Never ask the network.
    pub(crate) offline: bool,
}

impl Setting<'_> {
    /// Compiles the contract; returns the module's path.
    pub(crate) fn wasm(&self, tell: &mut dyn FnMut(&str)) -> Result<PathBuf> {
        let manifest = self.project.directory.join("Cargo.toml");
        self.cargo(tell, |cargo| {
            cargo.args(["rustc", "--lib", "--crate-type", "cdylib", "--release", "--no-default-features"]);
            cargo.args(["--target", TARGET, "--manifest-path"]).arg(&manifest);
            cargo.envs(PROFILE).env("CARGO_ENCODED_RUSTFLAGS", self.flags().join("\x1f"));
            self.toolchain.apply_target(cargo);
            cargo.args(["--", "-Clto=fat"]).arg(remapped(&self.project.workspace, "."));
        })?;
        Ok(self.target.join(TARGET).join("release").join(format!("{}.wasm", self.project.library)))
    }

    /// Flags for all crates of the target, the same for all contracts.
    fn flags(&self) -> Vec<String> {
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
        let crates = home.map(|home| remapped(&home, "cargo"));
        FLAGS.iter().map(|flag| (*flag).to_owned()).chain(crates).collect()
    }

    /// Runs Cargo, first without the network: then it takes what is here, and is quick. Returns what it printed.
    pub(crate) fn cargo(&self, tell: &mut dyn FnMut(&str), arguments: impl Fn(&mut Command)) -> Result<Vec<u8>> {
        let mut run = |offline: bool| {
            let mut cargo = cargo();
            arguments(&mut cargo);
            cargo.current_dir(&self.project.directory).env("CARGO_TARGET_DIR", self.target);
            self.toolchain.apply(&mut cargo);
            if offline {
                cargo.env("CARGO_NET_OFFLINE", "true");
            }
            command::run(&mut cargo, &[], tell)
        };
        let mut outcome = run(true)?;
        // Cargo names this when something is missing that it may not fetch; a message of the compiler does not.
        let missing = ["--offline", "offline mode", "attempting to make an HTTP request"];
        if !outcome.success && !self.offline && missing.iter().any(|text| outcome.stderr.contains(text)) {
            outcome = run(false)?;
        }
        if outcome.success {
            return Ok(outcome.stdout);
        }
        let first = outcome.stderr.lines().find(|line| line.starts_with("error")).unwrap_or("cargo failed");
        Err(Error::new(Code::BuildFailed, first).with_output(outcome.stderr))
    }
}

fn remapped(path: &Path, name: &str) -> String {
    format!("--remap-path-prefix={}={name}", path.display())
}

//! Running the compiler, once for WebAssembly.
//!
//! The profile and flags come from here and not from the contract's `Cargo.toml`:
//! - `panic = "abort"`, `opt-level = "z"`, one codegen unit, fat link-time optimisation: small code;
//! - overflow checks, as arithmetic that wraps loses people's money;
//! - the first version of WebAssembly, with imported memory and a stack of 64 KiB;
//! - no path of the builder's machine in the code, or two people's builds would differ.
//!
//! A contract that computes much says so in its `Cargo.toml`, and gets `opt-level = 3` and all of WebAssembly that the
//! network runs: SIMD, copying and filling memory, sign extension, saturating conversions, several results. Its code is
//! larger, which makes its upload dearer, and each call a little.
//!
//! ```toml
//! [package.metadata.phala]
//! optimize = "speed"      # or "size", which is what is done otherwise
//! ```
//!
//! ink! passes what crosses to the host through a static buffer of 16 KiB. A contract that depends on `pink` gets
//! [`PINK_BUFFER`] bytes, for a server's response has to fit; `INK_STATIC_BUFFER_SIZE` in the environment overrides
//! both. The buffer is memory that a call does not touch unless it needs it, and no part of the code. ink! reads the
//! variable in a macro, of which Cargo does not know: so what is compiled with another size than ink!'s own has a target
//! folder of its own, and neither is taken for the other.
//!
//! Whatever in the profile concerns build scripts and macros too would compile them a second time for the metadata, and
//! a flag that differs between contracts would compile ink! for each of them. So link-time optimisation, overflow checks
//! and stripping are flags of the target, and what belongs to one contract is told to the compiler of its crate only.

use crate::{
    command,
    error::{Error, Result},
    project::{Optimize, Project, cargo},
    target::{TARGET, Toolchain},
};
use phala_primitives::Code;
use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Command,
};

const OPT_LEVEL: &str = "CARGO_PROFILE_RELEASE_OPT_LEVEL";
const PROFILE: [(&str, &str); 3] = [
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
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

/// What code that is made for speed may use beyond the first version of WebAssembly. The linker is not to know: it would
/// have an imported memory zeroed by a start function, which contracts must not have, and which would be work for
/// nothing at each call. Loops are unrolled further than LLVM does for this target, because the network's engine looks at
/// the clock or the gas in each round.
const FAST: [&str; 5] = [
    "-Ctarget-feature=+simd128,+bulk-memory,+sign-ext,+nontrapping-fptoint,+multivalue",
    "-Clink-arg=--no-check-features",
    "-Clink-arg=--features=mutable-globals",
    "-Cllvm-args=-unroll-partial-threshold=160",
    "-Cllvm-args=-unroll-runtime",
];

/// What of a builder's environment Cargo would heed in a build of the contract.
const LEAKS: [&str; 6] = [
    "CARGO_INCREMENTAL",
    "CARGO_PROFILE_RELEASE_LTO",
    "CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS",
    "CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS",
    "CARGO_TARGET_WASM32V1_NONE_RUSTFLAGS",
    "RUSTC_WRAPPER",
];

/// Where ink! looks for the size of its static buffer.
const BUFFER_VARIABLE: &str = "INK_STATIC_BUFFER_SIZE";
/// Size of the static buffer of contracts that use the functions of `pink`, in bytes.
const PINK_BUFFER: u32 = 256 << 10;
/// Sizes that an author may set. ink! writes arguments and answers there, and the memory has 64 MiB.
const BUFFERS: RangeInclusive<u32> = (1 << 10)..=(16 << 20);

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
        let buffer = buffer(std::env::var(BUFFER_VARIABLE).ok().as_deref(), self.project.pink)?;
        let mut target = self.target.to_owned();
        if self.project.optimize == Optimize::Speed {
            target.push("speed");
        }
        if let Some(size) = buffer {
            target.push(format!("buffer-{size}"));
        }
        let Setting { project, toolchain, offline, .. } = *self;
        Setting { project, toolchain, target: &target, offline }.cargo(tell, |cargo| {
            cargo.args(["rustc", "--lib", "--crate-type", "cdylib", "--release", "--no-default-features"]);
            cargo.args(["--target", TARGET, "--manifest-path"]).arg(&manifest);
            let level = match self.project.optimize {
                Optimize::Size => "z",
                Optimize::Speed => "3",
            };
            cargo.envs(PROFILE).env(OPT_LEVEL, level).env("CARGO_ENCODED_RUSTFLAGS", self.flags().join("\x1f"));
            cargo.envs(buffer.map(|size| (BUFFER_VARIABLE, size.to_string())));
            self.toolchain.apply_target(cargo);
            cargo.args(["--", "-Clto=fat"]).arg(remapped(&self.project.workspace, "."));
            LEAKS.iter().for_each(|name| {
                cargo.env_remove(name);
            });
        })?;
        Ok(target.join(TARGET).join("release").join(format!("{}.wasm", self.project.library)))
    }

    /// Flags for all crates of the target, the same for all contracts of one aim.
    fn flags(&self) -> Vec<String> {
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
        let crates = home.map(|home| remapped(&home, "cargo"));
        let fast = if self.project.optimize == Optimize::Speed { &FAST[..] } else { &[] };
        // Where `rust-src` is installed, what is generic in the standard library names files of it.
        let library =
            self.toolchain.sysroot(&self.project.directory).map(|sysroot| sysroot.join("lib/rustlib/src/rust"));
        let library = library.filter(|library| library.is_dir()).map(|library| remapped(&library, "rust"));
        FLAGS.iter().chain(fast).map(|flag| (*flag).to_owned()).chain(crates).chain(library).collect()
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

/// Size of the static buffer: what the author set, or what a contract with `pink` needs. `None` leaves it to ink!.
fn buffer(set: Option<&str>, pink: bool) -> Result<Option<u32>> {
    let Some(text) = set else { return Ok(pink.then_some(PINK_BUFFER)) };
    let size = text.parse().ok().filter(|size| BUFFERS.contains(size));
    let detail = || format!("{BUFFER_VARIABLE}={text}: give bytes, from {} to {}", BUFFERS.start(), BUFFERS.end());
    size.map(Some).ok_or_else(|| Error::new(Code::BadArgument, detail()))
}

fn remapped(path: &Path, name: &str) -> String {
    format!("--remap-path-prefix={}={name}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_is_what_the_author_set_or_what_pink_needs() {
        let size = |set, pink| buffer(set, pink).ok();
        assert_eq!((size(None, false), size(None, true)), (Some(None), Some(Some(262_144))));
        assert_eq!((size(Some("65536"), false), size(Some("65536"), true)), (Some(Some(65_536)), Some(Some(65_536))));
        for bad in ["", "0", "-1", "64K", "99999999999"] {
            assert_eq!(buffer(Some(bad), true).unwrap_err().coded.known(), Some(Code::BadArgument), "{bad}");
        }
    }
}

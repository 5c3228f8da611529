//! Where the standard library for `wasm32v1-none` comes from.
//!
//! `wasm32-unknown-unknown` will not do: since Rust 1.82 its standard library uses WebAssembly beyond the first version.
//! The ways to get the right one are in `deploy/wasm-target.sh`, which `make` calls and this crate carries.

use crate::{
    command,
    error::{Error, Result},
};
use phala_primitives::Code;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The target that contracts are compiled for.
pub(crate) const TARGET: &str = "wasm32v1-none";
const SCRIPT: &str = include_str!("../../../deploy/wasm-target.sh");

/// The way that was taken to the target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Toolchain {
    /// It was installed.
    Installed,
    /// rustup fetched it.
    Rustup,
    /// Debian's `rustc-web`, unpacked into this folder, compiles `core` and `alloc` from source.
    Debian(PathBuf),
}

impl Toolchain {
    /// Finds the target, or fetches it.
    pub(crate) fn ensure(directory: &Path, tell: &mut dyn FnMut(&str)) -> Result<Self> {
        let mut shell = Command::new("sh");
        // Without an argument to the script, `-s` alone would do; the toolchain may depend on the folder.
        shell.arg("-s").current_dir(directory);
        let outcome = command::run(&mut shell, SCRIPT.as_bytes(), tell)?;
        let text = outcome.text();
        let found = match text.split_once(' ').unwrap_or((&text, "")) {
            ("installed", "") => Some(Self::Installed),
            ("rustup", "") => Some(Self::Rustup),
            ("debian", folder) => Some(Self::Debian(folder.into())),
            _ => None,
        };
        let found = found.filter(|_| outcome.success);
        found.ok_or_else(|| Error::new(Code::NoWasmTarget, "").with_output(outcome.stderr))
    }

    /// Makes Cargo use it. What is compiled for the host needs the same compiler.
    pub(crate) fn apply(&self, cargo: &mut Command) {
        if let Self::Debian(folder) = self {
            cargo.env("RUSTC", folder.join("rustc")).env("RUSTC_BOOTSTRAP", "1");
        }
    }

    /// What Cargo needs besides to compile for the target.
    pub(crate) fn apply_target(&self, cargo: &mut Command) {
        if let Self::Debian(folder) = self {
            cargo.arg("-Zbuild-std=core,alloc").env("CARGO_TARGET_WASM32V1_NONE_LINKER", folder.join("rust-lld"));
        }
    }

    /// The compiler's version, as `1.95.0`.
    pub(crate) fn version(&self, directory: &Path) -> Result<String> {
        let mut rustc = match self {
            Self::Debian(folder) => Command::new(folder.join("rustc")),
            _ => Command::new("rustc"),
        };
        let outcome = command::run(rustc.arg("--version").current_dir(directory), &[], &mut |_| ())?;
        let text = outcome.text();
        let version = text.split_whitespace().nth(1).map(str::to_owned);
        version.ok_or_else(|| Error::new(Code::BuildFailed, "rustc has no version").with_output(outcome.stderr))
    }

    /// Where the compiler's own files are.
    pub(crate) fn sysroot(&self, directory: &Path) -> Option<PathBuf> {
        let mut rustc = match self {
            Self::Debian(folder) => Command::new(folder.join("rustc")),
            _ => Command::new("rustc"),
        };
        let outcome = command::run(rustc.args(["--print", "sysroot"]).current_dir(directory), &[], &mut |_| ());
        outcome.ok().filter(|outcome| outcome.success).map(|outcome| outcome.text().into())
    }

    /// The way, in a few words.
    pub(crate) fn note(&self) -> String {
        match self {
            Self::Installed => format!("{TARGET} is installed"),
            Self::Rustup => format!("rustup installed {TARGET}"),
            Self::Debian(folder) => format!("Debian's compiler in {}", folder.display()),
        }
    }
}

//! What Cargo says about a contract's package.

use crate::{
    command,
    error::{Error, Result},
};
use phala_primitives::Code;
use semver::{Version, VersionReq};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

/// The releases of ink! 5. There will be no more of them.
const INK_5: [Version; 3] = [Version::new(5, 0, 0), Version::new(5, 1, 0), Version::new(5, 1, 1)];

/// A contract's package.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    /// Its name, which names the bundle too.
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) authors: Vec<String>,
    /// Where its `Cargo.toml` is.
    pub(crate) directory: PathBuf,
    /// Where its lock file and target folder are.
    pub(crate) workspace: PathBuf,
    /// Name of the library, as in file names.
    pub(crate) library: String,
    /// Whether the library can be linked into a program of the host.
    pub(crate) linkable: bool,
    /// Whether there is a feature `std`.
    pub(crate) std_feature: bool,
    /// Whether it uses the functions that Phala adds.
    pub(crate) pink: bool,
    /// What its code is made good at.
    pub(crate) optimize: Optimize,
}

/// What the compiler aims at: `optimize` in the manifest's `[package.metadata.phala]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Optimize {
    /// Small code, which is what uploads and short calls cost.
    #[default]
    Size,
    /// Fast code, for contracts that compute.
    Speed,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    authors: Vec<String>,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
    features: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    metadata: Option<Tables>,
}

/// What a manifest says to tools other than Cargo.
#[derive(Deserialize)]
struct Tables {
    #[serde(default)]
    phala: Settings,
}

/// What it says to this one.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default)]
    optimize: Optimize,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    req: String,
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Project {
    /// The package at this path: a folder with a `Cargo.toml`, or that file.
    pub(crate) fn find(path: &Path) -> Result<Self> {
        let manifest = if path.is_dir() { path.join("Cargo.toml") } else { path.to_owned() };
        let manifest = manifest
            .canonicalize()
            .map_err(|error| Error::new(Code::BadArgument, format!("{}: {error}", manifest.display())))?;
        let mut cargo = cargo();
        cargo.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(&manifest);
        let outcome = command::run(&mut cargo, &[], &mut |_| ())?;
        if !outcome.success {
            let detail = format!("cargo cannot read {}", manifest.display());
            return Err(Error::new(Code::BuildFailed, detail).with_output(outcome.stderr));
        }
        let metadata: Metadata = serde_json::from_slice(&outcome.stdout)
            .map_err(|error| Error::new(Code::BuildFailed, format!("cargo metadata: {error}")))?;
        Self::select(metadata, &manifest)
    }

    fn select(metadata: Metadata, manifest: &Path) -> Result<Self> {
        let names: Vec<_> = metadata.packages.iter().map(|package| package.name.clone()).collect();
        let mut packages = metadata.packages.into_iter();
        let Some(package) = packages.find(|package| package.manifest_path == manifest) else {
            let detail = format!("this is a workspace; give the folder of one contract: {}", names.join(", "));
            return Err(Error::new(Code::BadArgument, detail));
        };
        check_ink(&package)?;
        let kinds = ["lib", "rlib", "cdylib"];
        let library = package.targets.iter().find(|target| target.kind.iter().any(|kind| kinds.contains(&&**kind)));
        let Some(library) = library else {
            let detail = format!("package {} has no library", package.name);
            return Err(Error::new(Code::BuildFailed, detail));
        };
        let directory = package.manifest_path.parent().unwrap_or(Path::new(".")).to_owned();
        Ok(Self {
            library: library.name.replace('-', "_"),
            linkable: library.kind.iter().any(|kind| kind == "lib" || kind == "rlib"),
            std_feature: package.features.contains_key("std"),
            pink: package.dependencies.iter().any(|dependency| dependency.name == "pink" && dependency.kind.is_none()),
            optimize: package.metadata.map(|tables| tables.phala.optimize).unwrap_or_default(),
            name: package.name,
            version: package.version,
            authors: package.authors,
            directory,
            workspace: metadata.workspace_root,
        })
    }

    /// The version that the lock file gives a crate; the lock file is there once the contract was compiled.
    pub(crate) fn locked(&self, name: &str) -> Result<Option<String>> {
        let path = self.workspace.join("Cargo.lock");
        let text = std::fs::read_to_string(&path).map_err(|error| Error::file(&path, &error))?;
        let lock: Lock = toml::from_str(&text)
            .map_err(|error| Error::new(Code::BuildFailed, format!("{}: {error}", path.display())))?;
        Ok(lock.package.into_iter().find(|package| package.name == name).map(|package| package.version))
    }
}

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
}

fn check_ink(package: &Package) -> Result<()> {
    let mut dependencies = package.dependencies.iter();
    let Some(ink) = dependencies.find(|dependency| dependency.name == "ink" && dependency.kind.is_none()) else {
        let detail = format!("package {} does not depend on ink; add ink = \"=5.1.1\"", package.name);
        return Err(Error::new(Code::BuildFailed, detail));
    };
    let wanted = VersionReq::parse(&ink.req)
        .map_err(|error| Error::new(Code::BuildFailed, format!("ink = \"{}\": {error}", ink.req)))?;
    if INK_5.iter().any(|version| wanted.matches(version)) {
        return Ok(());
    }
    let detail = format!("package {} wants ink {}; use ink = \"=5.1.1\"", package.name, ink.req);
    let newer = wanted.comparators.iter().any(|comparator| comparator.major >= 6);
    Err(Error::new(if newer { Code::Ink6 } else { Code::BuildFailed }, detail))
}

/// Cargo, without what the caller's environment would change in a contract's build.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_RUSTFLAGS",
        "INK_STATIC_BUFFER_SIZE",
    ] {
        command.env_remove(name);
    }
    // Variables of the package under way, if this runs below `cargo run` or `cargo test`.
    command.env_remove("CARGO_MANIFEST_DIR").env("CARGO_TERM_COLOR", "never");
    command
}

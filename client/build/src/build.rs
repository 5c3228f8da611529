//! The stages of a build, one after the other.

use crate::{
    bundle::Bundle,
    command,
    compile::Setting,
    error::{Error, Result},
    module,
    progress::{Event, Reporter, Stage},
    project::{Optimize, Project},
    target::Toolchain,
};
use phala_primitives::blake2_256;
use serde_json::{Map, Value};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// What `wasm-opt` may use in code that is made for speed: what the compiler may.
const FAST_FEATURES: [&str; 6] = [
    "--mvp-features",
    "--enable-simd",
    "--enable-bulk-memory",
    "--enable-sign-ext",
    "--enable-nontrapping-float-to-int",
    "--enable-multivalue",
];

/// How to build.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder for the files of the bundle. Default: `target/ink/NAME` beside the contract's lock file.
    pub output: Option<PathBuf>,
    /// Folder for what Cargo compiles, shared by all contracts. Default: `contracts` in `CARGO_TARGET_DIR`, or in
    /// `target` beside the contract's lock file.
    pub target: Option<PathBuf>,
    /// Use `wasm-opt`, if it is installed.
    pub optimise: bool,
    /// Never ask the network for crates. Otherwise it is asked when something is missing.
    pub offline: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { output: None, target: None, optimise: true, offline: false }
    }
}

/// A bundle and where its files are.
#[derive(Clone, Debug)]
pub struct Built {
    /// The bundle.
    pub bundle: Bundle,
    /// `NAME.contract`: code and metadata.
    pub contract: PathBuf,
    /// `NAME.wasm`: the code.
    pub wasm: PathBuf,
    /// `NAME.json`: the metadata.
    pub metadata: PathBuf,
    /// Where the WebAssembly target came from.
    pub toolchain: Toolchain,
}

/// Builds the contract at `path`, the folder of its `Cargo.toml` or that file, and tells how it goes.
///
/// # Errors
/// `BadArgument` if there is no contract, `Ink6`, `NoWasmTarget`, `BuildFailed` with the compiler's output, `BadModule`
/// or `CodeTooLarge` if what was compiled cannot run on the network.
pub fn build(path: impl AsRef<Path>, options: &Options, tell: &mut dyn FnMut(Event)) -> Result<Built> {
    let mut reporter = Reporter::new(tell);
    let project = reporter.stage(Stage::Inspect, |_| {
        let project = Project::find(path.as_ref())?;
        let note = format!("{} {}", project.name, project.version);
        Ok::<_, Error>((project, note))
    })?;
    let (toolchain, compiler) = reporter.stage(Stage::Target, |tell| {
        let toolchain = Toolchain::ensure(&project.directory, tell)?;
        let version = toolchain.version(&project.directory)?;
        let note = toolchain.note();
        Ok::<_, Error>(((toolchain, version), note))
    })?;
    let target = target_folder(options, &project)?;
    let setting = Setting { project: &project, toolchain: &toolchain, target: &target, offline: options.offline };
    let raw = reporter.stage(Stage::Compile, |tell| {
        let path = setting.wasm(tell)?;
        let raw = std::fs::read(&path).map_err(|error| Error::file(&path, &error))?;
        let note = size(&raw);
        Ok::<_, Error>((raw, note))
    })?;
    let mut build_info = Map::new();
    build_info.insert("builder".into(), format!("phala-build {}", env!("CARGO_PKG_VERSION")).into());
    let optimised = reporter.stage(Stage::Optimise, |tell| {
        let (wasm, version) = optimise(raw, &target, project.optimize, options.optimise, tell)?;
        let note = if version.is_null() { "wasm-opt is not used".to_owned() } else { size(&wasm) };
        build_info.insert("wasm_opt".into(), version);
        Ok::<_, Error>((wasm, note))
    })?;
    let code = reporter.stage(Stage::Clean, |_| {
        let code = module::clean(&optimised)?;
        module::inspect(&code)?;
        let note = size(&code);
        Ok::<_, Error>((code, note))
    })?;
    let metadata = reporter.stage(Stage::Metadata, |tell| {
        let metadata = setting.metadata(tell)?;
        Ok::<_, Error>((metadata, String::new()))
    })?;
    let ink = project.locked("ink")?.unwrap_or_else(|| "5.1.1".into());
    let bundle = Bundle {
        name: project.name.clone(),
        version: project.version.clone(),
        authors: project.authors.clone(),
        language: format!("ink! {ink}"),
        compiler: format!("rustc {compiler}"),
        build_info,
        code_hash: blake2_256(&code),
        code,
        metadata,
    };
    bundle.check()?;
    reporter.stage(Stage::Write, |_| {
        let folder = match &options.output {
            Some(folder) => folder.clone(),
            None => project.workspace.join("target").join("ink").join(&project.name),
        };
        let built = write(bundle, &folder, toolchain.clone())?;
        let note = built.contract.display().to_string();
        Ok((built, note))
    })
}

fn size(code: &[u8]) -> String {
    format!("{} bytes", code.len())
}

pub(crate) fn target_folder(options: &Options, project: &Project) -> Result<PathBuf> {
    let folder = match (&options.target, std::env::var_os("CARGO_TARGET_DIR")) {
        (Some(folder), _) => folder.clone(),
        (None, Some(folder)) => Path::new(&folder).join("contracts"),
        (None, None) => project.workspace.join("target").join("contracts"),
    };
    std::fs::create_dir_all(&folder).map_err(|error| Error::file(&folder, &error))?;
    folder.canonicalize().map_err(|error| Error::file(&folder, &error))
}

/// The code after `wasm-opt` and that program's version; the code as it was and null if it is not there or fails.
fn optimise(
    raw: Vec<u8>,
    target: &Path,
    aim: Optimize,
    wanted: bool,
    tell: &mut dyn FnMut(&str),
) -> Result<(Vec<u8>, Value)> {
    let version = Command::new("wasm-opt").arg("--version").output();
    let Some(version) = version.ok().filter(|output| wanted && output.status.success()) else {
        return Ok((raw, Value::Null));
    };
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let name = blake2_256(&raw).to_string();
    let (before, after) = (target.join(format!("{name}.wasm")), target.join(format!("{name}.opt.wasm")));
    std::fs::write(&before, &raw).map_err(|error| Error::file(&before, &error))?;
    let mut wasm_opt = Command::new("wasm-opt");
    match aim {
        Optimize::Size => wasm_opt.args(["-Oz", "--mvp-features"]),
        Optimize::Speed => wasm_opt.arg("-O3").args(FAST_FEATURES),
    };
    wasm_opt.arg("--zero-filled-memory").arg(&before).arg("-o").arg(&after);
    let outcome = command::run(&mut wasm_opt, &[], tell)?;
    let optimised = std::fs::read(&after).ok().filter(|_| outcome.success);
    for path in [before, after] {
        std::fs::remove_file(path).ok();
    }
    Ok(match optimised {
        Some(wasm) => (wasm, version.into()),
        None => (raw, Value::Null),
    })
}

fn write(bundle: Bundle, folder: &Path, toolchain: Toolchain) -> Result<Built> {
    std::fs::create_dir_all(folder).map_err(|error| Error::file(folder, &error))?;
    let file = |extension: &str, bytes: &[u8]| {
        let path = folder.join(format!("{}.{extension}", bundle.name));
        // Renamed when complete: `phala dev` watches for this file.
        let new = folder.join(format!("{}.{extension}.tmp", bundle.name));
        std::fs::write(&new, bytes).map_err(|error| Error::file(&new, &error))?;
        std::fs::rename(&new, &path).map_err(|error| Error::file(&path, &error))?;
        Ok::<_, Error>(path)
    };
    let wasm = file("wasm", &bundle.code)?;
    let metadata = file("json", &bundle.metadata_json())?;
    let contract = file("contract", &bundle.to_json())?;
    Ok(Built { contract, wasm, metadata, toolchain, bundle })
}

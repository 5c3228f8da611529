//! Compiles the kernels as `phala build` compiles contracts that say `optimize = "speed"`.

use anyhow::{Context, Result, bail, ensure};
use std::{
    path::Path,
    process::{Command, Stdio},
};

const TARGET: &str = "wasm32v1-none";
const FLAGS: &str = "-Clink-arg=-zstack-size=65536 -Clink-arg=--import-memory -Ctarget-cpu=mvp -Cstrip=symbols -Cembed-bitcode=yes \
    -Ctarget-feature=+simd128,+bulk-memory,+sign-ext,+nontrapping-fptoint,+multivalue \
    -Clink-arg=--no-check-features -Clink-arg=--features=mutable-globals \
    -Cllvm-args=-unroll-partial-threshold=160 -Cllvm-args=-unroll-runtime";

/// The module, compiled now if its sources changed. Its files lie beside those of this program.
pub(crate) fn compile(checkout: &Path) -> Result<Vec<u8>> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).context("the program lies in a target folder")?.join("kernels");
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--quiet", "--locked", "--release", "--target", TARGET, "--manifest-path"])
        .arg(checkout.join("contracts/bench-kernels/Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", FLAGS);
    toolchain(checkout, &mut cargo)?;
    ensure!(cargo.status().context("running cargo")?.success(), "the kernels do not compile as a contract");
    let path = target.join(TARGET).join("release/bench_kernels.wasm");
    std::fs::read(&path).with_context(|| format!("reading {}", path.display()))
}

/// Finds the target's library, and tells Cargo where it is if Rust itself does not know.
fn toolchain(checkout: &Path, cargo: &mut Command) -> Result<()> {
    let found = Command::new("sh").arg(checkout.join("deploy/wasm-target.sh")).stderr(Stdio::inherit()).output()?;
    ensure!(found.status.success(), "there is no way to compile for {TARGET}");
    let way = String::from_utf8(found.stdout)?;
    match way.trim().split_once(' ') {
        None => Ok(()),
        Some(("debian", folder)) => {
            cargo.env("RUSTC", Path::new(folder).join("rustc")).env("RUSTC_BOOTSTRAP", "1");
            cargo.env("CARGO_TARGET_WASM32V1_NONE_LINKER", Path::new(folder).join("rust-lld"));
            cargo.arg("-Zbuild-std=core,alloc");
            Ok(())
        }
        Some(_) => bail!("deploy/wasm-target.sh says {way}"),
    }
}

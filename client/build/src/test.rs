//! Running a contract's tests.

use crate::{
    build::{Options, target_folder},
    error::{Error, Result},
    project::{Project, cargo},
};
use phala_primitives::Code;
use std::{ffi::OsStr, os::fd::AsFd, path::Path, process::Stdio};

/// Runs `cargo test` for the contract at `path`, with these arguments and variables. What it prints goes to standard
/// error, for it is no data. Returns whether all tests passed.
///
/// What is compiled goes where builds put theirs, so that ink! is compiled once for all contracts.
///
/// # Errors
/// Those of finding the contract; `TestsFailed` if Cargo cannot be run.
pub fn test(path: impl AsRef<Path>, arguments: &[String], variables: &[(&str, &OsStr)]) -> Result<bool> {
    let project = Project::find(path.as_ref())?;
    let target = target_folder(&Options::default(), &project)?;
    let failed = |error: std::io::Error| Error::new(Code::TestsFailed, format!("cannot run cargo: {error}"));
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().map_err(failed)?;
    let mut cargo = cargo();
    cargo.env_remove("CARGO_TERM_COLOR").arg("test").arg("--quiet").args(arguments);
    cargo.current_dir(&project.directory).env("CARGO_TARGET_DIR", target).envs(variables.iter().copied());
    let status = cargo.stdin(Stdio::null()).stdout(Stdio::from(stderr)).status().map_err(failed)?;
    Ok(status.success())
}

//! Tests must not ask other features of a dependency than the program does: `make demo` and `make test` would each
//! compile it, and everything above it, for themselves. Such a dependency belongs among the ordinary ones of a crate
//! that is only built for tests, as `tests/Cargo.toml` does it.

use crate::repo::Repo;
use anyhow::Result;
use std::collections::BTreeSet;

/// Compares the features of all packages with and without dependencies of tests.
pub(crate) fn unified(repo: &Repo) -> Result<Vec<String>> {
    let program = packages(repo, "normal,build")?;
    let tests = packages(repo, "normal,build,dev")?;
    let finding = |package: &String| format!("a dependency of tests changes the features of {package}");
    Ok(program.difference(&tests).map(finding).collect())
}

/// Every package of the workspace's tree, with its version and features.
fn packages(repo: &Repo, edges: &str) -> Result<BTreeSet<String>> {
    let format = ["--prefix", "none", "--format", "{p} with {f}"];
    let tree = repo.output("cargo", &[&["tree", "--locked", "--workspace", "--edges", edges], &format[..]].concat())?;
    Ok(tree.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).filter(|line| !line.is_empty()).collect())
}

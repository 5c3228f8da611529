//! The checkout: where it lies, which files it tracks, what they say.

use anyhow::{Context, Result, ensure};
use std::{path::PathBuf, process::Command};

/// An opened checkout.
pub(crate) struct Repo {
    /// Folder of the workspace.
    pub(crate) root: PathBuf,
    files: Vec<String>,
}

impl Repo {
    /// The checkout that cargo runs this program for, with files that are tracked or new but not ignored.
    pub(crate) fn open() -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").context("run this through `cargo xtask`")?;
        let root = PathBuf::from(manifest).parent().context("xtask lies in the workspace")?.to_owned();
        let mut repo = Self { root, files: Vec::new() };
        let listing = repo.output("git", &["ls-files", "--cached", "--others", "--exclude-standard"])?;
        repo.files = listing.lines().filter(|path| repo.root.join(path).is_file()).map(str::to_owned).collect();
        repo.files.sort();
        Ok(repo)
    }

    /// Paths below `folder` ("" is all) that end in one of `endings`, relative to the root.
    pub(crate) fn files<'a>(&'a self, folder: &'a str, endings: &'a [&str]) -> impl Iterator<Item = &'a str> {
        let within = move |path: &&str| path.starts_with(folder) && endings.iter().any(|end| path.ends_with(end));
        self.files.iter().map(String::as_str).filter(within)
    }

    /// The text of a file, `None` if it is not text.
    pub(crate) fn text(&self, path: &str) -> Result<Option<String>> {
        let bytes = std::fs::read(self.root.join(path)).with_context(|| format!("reading {path}"))?;
        Ok(String::from_utf8(bytes).ok())
    }

    /// What a program prints when run in the root; an error if it fails.
    pub(crate) fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(&self.root)
            .output()
            .with_context(|| format!("starting {program}"))?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {}: {complaint}", arguments.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// Numbered lines of a Rust source that are part of the program: neither comments nor its test module, which by habit
/// is the last thing in a file. A file of tests or an example has none.
pub(crate) fn program_lines<'a>(path: &str, text: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let folders = ["/tests/", "/examples/", "/benches/"];
    let tests_only = path.ends_with("tests.rs") || folders.iter().any(|folder| format!("/{path}").contains(folder));
    let lines: Vec<&str> = if tests_only { Vec::new() } else { text.lines().collect() };
    let test_module = |at: usize| {
        lines[at].trim() == "#[cfg(test)]" && lines.get(at + 1).is_some_and(|next| next.trim_end().ends_with('{'))
    };
    let end = (0..lines.len()).find(|at| test_module(*at)).unwrap_or(lines.len());
    lines.into_iter().take(end).enumerate().map(|(at, line)| (at + 1, line))
}

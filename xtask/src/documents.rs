//! What the documents show must work: commands exist, links lead to files.

use crate::{CHECKS, repo::Repo};
use anyhow::Result;
use std::{collections::BTreeSet, path::Path, process::Command};

/// Commands in blocks marked `sh`: targets of the Makefile, tasks of this program, subcommands of `phala`. The last
/// are asked of the binary when it has been built; before that they are not checked.
pub(crate) fn commands(repo: &Repo) -> Result<Vec<String>> {
    let makefile = repo.text("Makefile")?.unwrap_or_default();
    let targets: BTreeSet<&str> = makefile.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    let target_dir = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| repo.root.join("target").into());
    let binary = Path::new(&target_dir).join("debug/phala");
    let mut asked = BTreeSet::new();
    let mut findings = Vec::new();
    for path in repo.files("", &[".md"]) {
        let text = repo.text(path)?.unwrap_or_default();
        for (number, command) in shell_lines(&text) {
            let known = match command.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["make", goals @ ..] => goals.iter().all(|goal| goal.contains('=') || targets.contains(goal)),
                ["cargo", "xtask", task, ..] => *task == "verify" || CHECKS.iter().any(|(name, ..)| name == task),
                ["phala", subcommand, ..] if !subcommand.starts_with('-') && asked.insert((*subcommand).to_owned()) => {
                    !binary.is_file() || has_subcommand(&binary, subcommand)
                }
                _ => true,
            };
            if !known {
                findings.push(format!("{path}:{number}: no such command: {command}"));
            }
        }
    }
    Ok(findings)
}

/// Links to files of the repository.
pub(crate) fn links(repo: &Repo) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for path in repo.files("", &[".md"]) {
        let text = repo.text(path)?.unwrap_or_default();
        let folder = repo.root.join(path).parent().map(Path::to_owned).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            let local = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
            let lost = local.filter(|target| !folder.join(target.split('#').next().unwrap_or(target)).exists());
            findings.extend(lost.map(|target| format!("{path}:{}: nothing at {target}", number + 1)));
        }
    }
    Ok(findings)
}

/// Numbered commands of the blocks that are marked `sh`, without comments; `a && b` are two.
fn shell_lines(text: &str) -> Vec<(usize, &str)> {
    let mut commands = Vec::new();
    let mut inside = false;
    for (at, line) in text.lines().enumerate() {
        if let Some(language) = line.trim().strip_prefix("```") {
            inside = language == "sh";
        } else if inside {
            let line = line.split(" #").next().unwrap_or_default();
            let parts = line.split("&&").map(str::trim).filter(|part| !part.is_empty() && !part.starts_with('#'));
            commands.extend(parts.map(|part| (at + 1, part)));
        }
    }
    commands
}

fn has_subcommand(binary: &Path, name: &str) -> bool {
    Command::new(binary).args([name, "--help"]).output().is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_from_shell_blocks_only() {
        let text = "make no\n```sh\nmake demo   # says so\ncd x && phala build\n# words\n```\n```text\nmake no\n```\n";
        assert_eq!(shell_lines(text), [(3, "make demo"), (4, "cd x"), (4, "phala build")]);
    }
}

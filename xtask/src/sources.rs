//! How sources look: short files, no unfinished work, nothing that only one machine has.

use crate::repo::{Repo, program_lines};
use anyhow::Result;

/// Most lines of a source file, tests aside.
const LONGEST_FILE: usize = 800;

/// Marks of unfinished work, and of machines and folders that a reader does not have. Written in halves, so that this
/// table does not find itself.
const UNWELCOME: &[(&str, &str)] = &[
    (concat!("to", "do!("), "finish it or leave it out"),
    (concat!("unimple", "mented!("), "finish it or leave it out"),
    (concat!("TO", "DO"), "finish it, or write down what is missing in the README's table"),
    (concat!("FIX", "ME"), "mend it, or write down what is wrong in the README's table"),
    (concat!("..", "/shared"), "the repository stands alone"),
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ro", "ot/."), "a path of one machine"),
    (concat!("/var", "/tmp/phala"), "a path of one machine"),
];

/// Files that are too long.
pub(crate) fn sizes(repo: &Repo) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for path in repo.files("", &[".rs", ".ts", ".tsx", ".svelte", ".py", ".sh"]) {
        let lines = repo.text(path)?.map_or(0, |text| program_lines(path, &text).count());
        if lines > LONGEST_FILE {
            findings.push(format!("{path}: {lines} lines; more than {LONGEST_FILE} are two things in one file"));
        }
    }
    Ok(findings)
}

/// Words that should not be there.
pub(crate) fn words(repo: &Repo) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for path in repo.files("", &[""]).filter(|path| !path.ends_with("Cargo.lock")) {
        let Some(text) = repo.text(path)? else { continue };
        for (number, line) in text.lines().enumerate().filter(|(_, line)| line.len() < 2000) {
            let found = UNWELCOME.iter().filter(|(word, _)| line.contains(word));
            findings.extend(found.map(|(word, reason)| format!("{path}:{}: \"{word}\": {reason}", number + 1)));
        }
    }
    Ok(findings)
}

//! `docs/errors.md` is written from the table in `chain/primitives/src/codes.rs`, so that what a tool prints and what
//! the page says are one text.

use crate::repo::Repo;
use anyhow::{Context, Result, ensure};
use std::fmt::Write;

const TABLE: &str = "chain/primitives/src/codes.rs";
const PAGE: &str = "docs/errors.md";

/// Thousands of a code's number, and who is concerned.
const GROUPS: &[(u16, &str, &str)] = &[
    (1, "Requests", "A replica refused a request before any contract saw it."),
    (2, "Contracts", "A contract, or the attempt to make one, failed."),
    (3, "Clusters", "The replicas of a cluster could not do what was asked."),
    (4, "Chain", "The chain, or a proof about it, is at fault."),
    (5, "Tools", "Something on this machine stands in the way."),
];

const HEAD: &str = "# Errors\n\n\
    Whatever goes wrong carries a code, the same on the wire, in the log, in `--json` and in the page that you read. \
    A code never changes its meaning and is never used twice. What a message adds in brackets describes the case at \
    hand; it never holds secrets.\n\n\
    This file is written by `cargo xtask errors --write` from `chain/primitives/src/codes.rs`.\n";

/// One line of the table.
#[derive(Debug, PartialEq)]
struct Entry {
    number: u16,
    name: String,
    meaning: String,
    way_out: String,
}

/// Compares the page with the table.
pub(crate) fn check(repo: &Repo) -> Result<Vec<String>> {
    let (page, entries) = generate(repo)?;
    let mut findings: Vec<String> = entries
        .windows(2)
        .filter(|pair| pair[0].number >= pair[1].number)
        .map(|pair| format!("{TABLE}: {} stands after {}", pair[1].number, pair[0].number))
        .collect();
    if std::fs::read_to_string(repo.root.join(PAGE)).unwrap_or_default() != page {
        findings.push(format!("{PAGE} differs from {TABLE}: run `cargo xtask errors --write`"));
    }
    Ok(findings)
}

/// Writes the page.
pub(crate) fn write(repo: &Repo) -> Result<()> {
    let (page, entries) = generate(repo)?;
    std::fs::write(repo.root.join(PAGE), page).with_context(|| format!("writing {PAGE}"))?;
    println!("{PAGE}: {} codes", entries.len());
    Ok(())
}

fn generate(repo: &Repo) -> Result<(String, Vec<Entry>)> {
    let source = repo.text(TABLE)?.context("the table of codes is text")?;
    let entries: Vec<Entry> = source.lines().filter_map(parse).collect();
    ensure!(entries.len() > 10, "{TABLE}: its lines are not understood any more");
    Ok((render(&entries)?, entries))
}

/// Reads `1001 Name "meaning" => "way out";`. The texts hold no quotation marks, so quotes separate them.
fn parse(line: &str) -> Option<Entry> {
    let (head, texts) = line.trim().strip_suffix(';')?.split_once('"')?;
    let mut head = head.split_whitespace();
    let number = head.next()?.parse().ok()?;
    let name = head.next()?.to_owned();
    let (meaning, way_out) = texts.strip_suffix('"')?.split_once("\" => \"")?;
    Some(Entry { number, name, meaning: meaning.to_owned(), way_out: way_out.to_owned() })
}

fn render(entries: &[Entry]) -> Result<String> {
    let mut page = HEAD.to_owned();
    for (thousand, title, about) in GROUPS {
        write!(page, "\n## {title}\n\n{about}\n")?;
        for Entry { number, name, meaning, way_out } in entries.iter().filter(|e| e.number / 1000 == *thousand) {
            write!(page, "\n### P{number}\n\n`{name}`: {meaning}.\n\n**Way out:** {}\n", sentence(way_out))?;
        }
    }
    let grouped = entries.iter().filter(|e| GROUPS.iter().any(|(thousand, ..)| e.number / 1000 == *thousand)).count();
    ensure!(grouped == entries.len(), "{TABLE}: a code belongs to no group");
    Ok(page)
}

/// A way out is a sentence, or a bare command, which is then shown as one.
fn sentence(way_out: &str) -> String {
    if way_out.ends_with(['.', '!', '`']) { way_out.to_owned() } else { format!("`{way_out}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_table_are_read() {
        let entry = parse("    2015 ReadOnly \"a query wrote\" => \"Send it: `phala send`.\";").unwrap();
        assert_eq!((entry.number, entry.name.as_str()), (2015, "ReadOnly"));
        assert_eq!((entry.meaning.as_str(), entry.way_out.as_str()), ("a query wrote", "Send it: `phala send`."));
        assert_eq!(parse("    ($($number:literal $name:ident $text:literal => $way_out:literal;)*) => {"), None);
        assert_eq!(parse("use codec::Encode;"), None);
    }
}

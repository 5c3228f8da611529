//! A fresh contract to start from.

use crate::error::{Error, Result};
use phala_primitives::Code;
use std::path::{Path, PathBuf};

/// Versions that are known to fit ink! 5.1.1, which nobody maintains: a fresh resolution might not compile one day.
const LOCK: &str = include_str!("../../../contracts/Cargo.lock");
const FILES: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("template/Cargo.toml.in")),
    ("lib.rs", include_str!("template/lib.rs.in")),
    ("README.md", include_str!("template/README.md.in")),
    (".gitignore", "/target\n"),
];
/// Names that Rust or ink! cannot take for a module, and `test`, which Cargo refuses.
const RESERVED: &[&str] = &[
    "abstract", "alloc", "as", "async", "await", "become", "box", "break", "const", "continue", "core", "crate", "do",
    "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "ink", "let", "loop",
    "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "std",
    "struct", "super", "test", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual",
    "where", "while", "yield",
];

/// Makes the folder `parent/name` with a contract that builds alone, and returns it.
///
/// # Errors
/// `BadArgument` for a name that cannot name a package, and for a folder that is there already.
pub fn new_project(name: &str, parent: impl AsRef<Path>) -> Result<PathBuf> {
    check_name(name)?;
    let folder = parent.as_ref().join(name);
    if folder.exists() {
        return Err(Error::new(Code::BadArgument, format!("{} is there already", folder.display())));
    }
    std::fs::create_dir_all(&folder).map_err(|error| Error::file(&folder, &error))?;
    let write = |file: &str, text: String| {
        let path = folder.join(file);
        std::fs::write(&path, text).map_err(|error| Error::file(&path, &error))
    };
    let module = name.replace('-', "_");
    for (file, text) in FILES {
        let text = text.replace("{{name}}", name).replace("{{module}}", &module).replace("{{type}}", &type_name(name));
        write(file, text)?;
    }
    write("Cargo.lock", lock(name))?;
    Ok(folder)
}

fn check_name(name: &str) -> Result<()> {
    let fits = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'));
    if fits && !RESERVED.contains(&name) {
        return Ok(());
    }
    let detail = format!("{name:?} cannot name a contract: use a-z, 0-9, - and _, beginning with a letter");
    Err(Error::new(Code::BadArgument, detail))
}

/// `my-first_contract` is `MyFirstContract`.
fn type_name(name: &str) -> String {
    let upper = |part: &str| {
        let mut letters = part.chars();
        letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
    };
    name.split(['-', '_']).filter_map(upper).collect()
}

/// The lock file of the examples with one package, this, in their place.
fn lock(name: &str) -> String {
    let blocks = LOCK.split("\n[[package]]\n");
    let mut result: Vec<_> = blocks.enumerate().filter(|(i, block)| *i == 0 || block.contains("\nsource = ")).collect();
    let own = format!("name = \"{name}\"\nversion = \"0.1.0\"\ndependencies = [\n \"ink\",\n]\n");
    let packages = result.get(1..).unwrap_or_default();
    let place = packages.partition_point(|(_, block)| package_name(block) < name).saturating_add(1);
    result.insert(place.min(result.len()), (0, &own));
    let blocks: Vec<_> = result.into_iter().map(|(_, block)| block).collect();
    blocks.join("\n[[package]]\n")
}

fn package_name(block: &str) -> &str {
    block.strip_prefix("name = \"").and_then(|rest| rest.split('"').next()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["", "1st", "Upper", "a b", "../up", "mod", "-x", "ä", &"a".repeat(65)] {
            let error = new_project(name, folder.path()).unwrap_err();
            assert_eq!(error.coded.known(), Some(Code::BadArgument), "{name}");
        }
        new_project("mine", folder.path()).unwrap();
        assert_eq!(new_project("mine", folder.path()).unwrap_err().coded.known(), Some(Code::BadArgument));
    }

    #[test]
    fn nothing_is_left_to_fill_in() {
        let folder = tempfile::tempdir().unwrap();
        let project = new_project("my-first_contract", folder.path()).unwrap();
        for (file, _) in FILES {
            assert!(!std::fs::read_to_string(project.join(file)).unwrap().contains("{{"), "{file}");
        }
        let source = std::fs::read_to_string(project.join("lib.rs")).unwrap();
        assert!(source.contains("mod my_first_contract {") && source.contains("pub struct MyFirstContract {"));
    }

    #[test]
    fn lock_holds_the_new_package_in_its_place_and_no_example() {
        let lock: toml::Table = lock("zz-last").parse().unwrap();
        let packages = lock["package"].as_array().unwrap();
        let own: Vec<_> = packages.iter().filter(|package| package.get("source").is_none()).collect();
        assert_eq!(own.len(), 1);
        assert_eq!(own[0]["name"].as_str(), Some("zz-last"));
        let names: Vec<_> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
        assert!(names.is_sorted());
    }
}

//! A fresh contract to start from.
//!
//! A project builds alone and without this repository. The crates `testkit` and, for templates that use it, `pink` are
//! not on crates.io: their sources are carried here and copied into the project.

use crate::error::{Error, Result};
use phala_primitives::Code;
use std::path::{Path, PathBuf};

include!(concat!(env!("OUT_DIR"), "/crates.rs"));

/// Versions that are known to fit ink! 5.1.1, which nobody maintains: a fresh resolution might not compile one day.
const LOCK: &str = include_str!("../../../contracts/Cargo.lock");
const MANIFEST: &str = include_str!("template/Cargo.toml.in");
const README: &str = include_str!("template/README.md.in");
/// What is generated, and what `phala watch` remembers.
const IGNORED: &str = "/target\n/.phala\n";

/// Something to start from.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    /// Its name.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// Constructor and arguments to begin with.
    pub constructor: &'static str,
    /// What to do with it then.
    usage: &'static str,
    /// Whether it uses the functions that Phala adds.
    pink: bool,
    source: &'static str,
    tests: &'static str,
}

macro_rules! template {
    ($name:literal, $about:literal, $constructor:literal, $pink:literal, $usage:literal) => {
        Template {
            name: $name,
            about: $about,
            constructor: $constructor,
            usage: $usage,
            pink: $pink,
            source: include_str!(concat!("template/", $name, "/lib.rs.in")),
            tests: include_str!(concat!("template/", $name, "/engine.rs.in")),
        }
    };
}

/// All templates; the first is the default.
pub const TEMPLATES: [Template; 7] = [
    template!(
        "flipper",
        "One bit that anyone flips.",
        "new true",
        false,
        "phala send ADDRESS flip\nphala query ADDRESS get"
    ),
    template!(
        "token",
        "A fungible token whose balances only their owners see.",
        "new 1000000",
        false,
        "phala send ADDRESS transfer //Bob 10\nphala query ADDRESS balance --suri //Bob"
    ),
    template!(
        "nft",
        "Unique tokens with content that only their owner can read.",
        "new",
        false,
        "phala send ADDRESS mint //Bob \"the treasure lies under the oak\"\nphala query ADDRESS content 0 --suri //Bob"
    ),
    template!(
        "oracle",
        "A number from the web on which all replicas agree.",
        "new https://example.com/number",
        true,
        "phala send ADDRESS refresh\nphala query ADDRESS value"
    ),
    template!("http", "Answers from the web, cached.", "new", true, "phala query ADDRESS fetch https://example.com/"),
    template!(
        "tick",
        "A game that runs by itself, ten times a second.",
        "new",
        true,
        "phala send ADDRESS join\nphala send ADDRESS join --suri //Bob\nphala query ADDRESS court"
    ),
    template!(
        "map",
        "A query over many inputs, each for itself, whose results are joined.",
        "new",
        false,
        "phala query ADDRESS count '[\"one two\", \"two\"]'"
    ),
];

/// Names that Rust or ink! cannot take for a module, and names of crates that a project uses.
const RESERVED: &[&str] = &[
    "abstract", "alloc", "as", "async", "await", "become", "box", "break", "const", "continue", "core", "crate", "do",
    "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "ink", "let", "loop",
    "macro", "match", "mod", "move", "mut", "override", "pink", "priv", "pub", "ref", "return", "self", "static",
    "std", "struct", "super", "test", "testkit", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use",
    "virtual", "where", "while", "yield",
];

/// Makes the folder `parent/name` with a contract that builds alone, and returns it.
///
/// # Errors
/// `BadArgument` for a name that cannot name a package, for an unknown template, and for a folder that is there already.
pub fn new_project(name: &str, template: &str, parent: impl AsRef<Path>) -> Result<PathBuf> {
    check_name(name)?;
    let known = TEMPLATES.iter().find(|known| known.name == template);
    let template = known.ok_or_else(|| {
        let names: Vec<_> = TEMPLATES.iter().map(|template| template.name).collect();
        Error::new(Code::BadArgument, format!("there is no template {template:?}, but {}", names.join(", ")))
    })?;
    let folder = parent.as_ref().join(name);
    if folder.exists() {
        return Err(Error::new(Code::BadArgument, format!("{} is there already", folder.display())));
    }
    for (file, text) in files(name, template) {
        let path = folder.join(file);
        let parent = path.parent().unwrap_or(&folder);
        std::fs::create_dir_all(parent).map_err(|error| Error::file(parent, &error))?;
        std::fs::write(&path, text).map_err(|error| Error::file(&path, &error))?;
    }
    Ok(folder)
}

/// What a project holds.
fn files(name: &str, template: &Template) -> Vec<(String, String)> {
    let (pink, pink_std) = match template.pink {
        true => ("pink = { path = \"pink\", default-features = false }\n", ", \"pink/std\""),
        false => ("", ""),
    };
    let crates = if template.pink { "and `pink/` are" } else { "is" };
    let fill = |text: &str| {
        [
            ("{{name}}", name),
            ("{{module}}", &name.replace('-', "_")),
            ("{{type}}", &type_name(name)),
            ("{{about}}", template.about),
            ("{{constructor}}", template.constructor),
            ("{{usage}}", template.usage),
            ("{{crates}}", crates),
            ("{{pink}}", pink),
            ("{{pink_std}}", pink_std),
        ]
        .into_iter()
        .fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    };
    let mut files = vec![
        ("Cargo.toml".into(), fill(MANIFEST)),
        ("lib.rs".into(), fill(template.source)),
        ("tests/engine.rs".into(), fill(template.tests)),
        ("README.md".into(), fill(README)),
        (".gitignore".into(), IGNORED.into()),
        ("Cargo.lock".into(), lock(name, template.pink)),
    ];
    copy(&mut files, "testkit", TESTKIT, "[dependencies]\nserde_json = \"1\"\n");
    if template.pink {
        let ink = "[dependencies]\nink = { version = \"=5.1.1\", default-features = false }\n\n\
                   [features]\ndefault = [\"std\"]\nstd = [\"ink/std\"]\n\n\
                   [lints.rust]\nunexpected_cfgs = \"allow\"\n";
        copy(&mut files, "pink", PINK, ink);
    }
    files
}

/// A crate that is copied.
fn copy(files: &mut Vec<(String, String)>, name: &str, sources: &[(&str, &str)], rest: &str) {
    let head = "version = \"0.1.0\"\nedition = \"2021\"\nlicense = \"Apache-2.0\"\npublish = false\n";
    files.push((format!("{name}/Cargo.toml"), format!("[package]\nname = \"{name}\"\n{head}\n{rest}")));
    files.extend(sources.iter().map(|(file, text)| (format!("{name}/src/{file}"), (*text).to_owned())));
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

/// The lock file of the examples with the packages of a project in their place.
fn lock(name: &str, pink: bool) -> String {
    let package = |name: &str, dependencies: &[&str]| {
        let dependencies: String = dependencies.iter().map(|dependency| format!(" \"{dependency}\",\n")).collect();
        format!("name = \"{name}\"\nversion = \"0.1.0\"\ndependencies = [\n{dependencies}]\n")
    };
    let mut own = vec![package("testkit", &["serde_json"])];
    if pink {
        own.push(package("pink", &["ink"]));
    }
    own.push(package(name, if pink { &["ink", "pink", "testkit"] } else { &["ink", "testkit"] }));
    let (head, packages) = LOCK.split_once("\n[[package]]\n").unwrap_or((LOCK, ""));
    let foreign = packages.split("\n[[package]]\n").filter(|block| block.contains("\nsource = ")).map(str::to_owned);
    // Each ends with one line break, so that the next begins after an empty line.
    let mut packages: Vec<_> = foreign.chain(own).map(|block| block.trim_end().to_owned() + "\n").collect();
    packages.sort_by(|one, two| package_name(one).cmp(package_name(two)));
    [head.to_owned()].into_iter().chain(packages).collect::<Vec<_>>().join("\n[[package]]\n")
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
        for name in ["", "1st", "Upper", "a b", "../up", "mod", "pink", "-x", "ä", &"a".repeat(65)] {
            let error = new_project(name, "flipper", folder.path()).unwrap_err();
            assert_eq!(error.coded.known(), Some(Code::BadArgument), "{name}");
        }
        let error = new_project("mine", "nothing", folder.path()).unwrap_err();
        assert_eq!(error.coded.known(), Some(Code::BadArgument));
        new_project("mine", "flipper", folder.path()).unwrap();
        let again = new_project("mine", "flipper", folder.path()).unwrap_err();
        assert_eq!(again.coded.known(), Some(Code::BadArgument));
    }

    #[test]
    fn nothing_is_left_to_fill_in() {
        for template in &TEMPLATES {
            let files = files("my-first_contract", template);
            for (file, text) in files.iter().filter(|(file, _)| !file.contains("/src/")) {
                assert!(!text.contains("{{"), "{file} of {}", template.name);
            }
            let source = &files.iter().find(|(file, _)| file == "lib.rs").unwrap().1;
            assert!(source.contains("mod my_first_contract {") && source.contains("pub struct MyFirstContract {"));
            assert_eq!(files.iter().any(|(file, _)| file == "pink/src/http.rs"), template.pink);
        }
    }

    #[test]
    fn lock_holds_the_new_packages_in_their_places_and_no_example() {
        for (pink, expected) in [(true, vec!["pink", "testkit", "zz-last"]), (false, vec!["testkit", "zz-last"])] {
            let lock: toml::Table = lock("zz-last", pink).parse().unwrap();
            let packages = lock["package"].as_array().unwrap();
            let name = |package: &toml::Value| package["name"].as_str().unwrap().to_owned();
            let own = packages.iter().filter(|package| package.get("source").is_none());
            assert_eq!(own.map(name).collect::<Vec<_>>(), expected);
            assert!(packages.iter().map(name).collect::<Vec<_>>().is_sorted());
        }
    }
}

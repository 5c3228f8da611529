//! All functions of the host, read from where they are defined, so that tests leave none out.

use std::fmt::Write;

const SOURCES: [&str; 6] = [
    include_str!("../../../src/host/call.rs"),
    include_str!("../../../src/host/chain.rs"),
    include_str!("../../../src/host/crypto.rs"),
    include_str!("../../../src/host/event.rs"),
    include_str!("../../../src/host/extension.rs"),
    include_str!("../../../src/host/storage.rs"),
];

/// A function of the host.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) module: &'static str,
    pub(crate) name: &'static str,
    /// Names of its arguments, and whether they are of 64 bits.
    pub(crate) arguments: Vec<(&'static str, bool)>,
    /// Type of its result, if it has one.
    pub(crate) result: Option<&'static str>,
}

impl Function {
    /// Whether no call of it returns to the contract.
    pub(crate) fn ends(&self) -> bool {
        matches!(self.name, "return" | "terminate" | "call_chain_extension")
    }

    /// Its import as text, under the identifier `$h` with this number.
    pub(crate) fn import(&self, number: usize) -> String {
        self.import_as(&format!("$h{number}"))
    }

    /// Its import as text, under this identifier.
    pub(crate) fn import_as(&self, name: &str) -> String {
        let mut text = format!(r#"(import "{}" "{}" (func {name}"#, self.module, self.name);
        for (_, wide) in &self.arguments {
            let _ = write!(text, " (param {})", if *wide { "i64" } else { "i32" });
        }
        text + &self.result.map_or(String::new(), |ty| format!(" (result {ty})")) + "))"
    }
}

/// Every function, once.
pub(crate) fn functions() -> Vec<Function> {
    let tables = SOURCES.iter().map(|source| {
        let (_, table) = source.split_once("define! { linker;").unwrap();
        table.split_once("\n    }\n").unwrap().0
    });
    let functions: Vec<_> =
        tables.flat_map(|table| table.split(';')).filter(|line| line.contains('"')).map(function).collect();
    assert!(functions.len() > 50, "only {} functions were found", functions.len());
    functions
}

fn function(line: &'static str) -> Function {
    let mut names = line.split('"').skip(1).step_by(2);
    let (_, rest) = line.split_once('(').unwrap();
    let (arguments, result) = rest.rsplit_once("->").unwrap();
    let arguments = arguments.trim().trim_end_matches(')').split(',').filter_map(|argument| argument.split_once(':'));
    Function {
        module: names.next().unwrap(),
        name: names.next().unwrap(),
        arguments: arguments.map(|(name, ty)| (name.trim(), ty.trim() == "u64")).collect(),
        result: match result.trim() {
            "u32" => Some("i32"),
            "u64" => Some("i64"),
            _ => None,
        },
    }
}

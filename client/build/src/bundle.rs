//! The `.contract` file: one JSON object with the code and all that is needed to talk to it.
//!
//! It is the format of cargo-contract 5, so that bundles go both ways:
//!
//! ```text
//! { "source":   { "hash": "0x…", "language": "ink! 5.1.1", "compiler": "rustc 1.95.0", "wasm": "0x…", "build_info": {…} },
//!   "contract": { "name": "flipper", "version": "0.1.0", "authors": ["…"] },
//!   "spec": {…}, "storage": {…}, "types": […], "version": 5 }
//! ```
//! `hash` is BLAKE2b-256 of the code. Bundles of ink! 6 have RISC-V code (`contract_binary`) and metadata of version 6:
//! they are refused with a code of their own, as is all that does not fit together.

use crate::{
    error::{Error, Result},
    module,
};
use phala_primitives::{Code, Hash, blake2_256, limits::MAX_CODE};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// Largest bundle, in bytes: the largest code in hexadecimal, and 8 MiB for all else.
pub const MAX_BUNDLE: usize = 2 * MAX_CODE + (8 << 20);
/// The version of ink! 5's metadata.
const METADATA_VERSION: u64 = 5;

/// A contract, ready to be deployed.
#[derive(Clone, PartialEq, Debug)]
pub struct Bundle {
    /// Name of its package.
    pub name: String,
    /// Version of its package.
    pub version: String,
    /// Who wrote it.
    pub authors: Vec<String>,
    /// As `ink! 5.1.1`.
    pub language: String,
    /// As `rustc 1.95.0`.
    pub compiler: String,
    /// How it was built, in the builder's words.
    pub build_info: Map<String, Value>,
    /// The WebAssembly module.
    pub code: Vec<u8>,
    /// BLAKE2b-256 of the code: its name on the chain.
    pub code_hash: Hash,
    /// ink!'s metadata: `spec`, `storage`, `types` and `version`.
    pub metadata: Map<String, Value>,
}

/// A constructor or message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name, with its trait's for messages of one: `get`, `PSP22::transfer`.
    pub label: String,
    /// The first four bytes of a call's data.
    pub selector: [u8; 4],
    /// Whether it writes, and so must be sent as a command. True for constructors.
    pub mutates: bool,
    /// Whether it takes money.
    pub payable: bool,
    /// What it takes.
    pub arguments: Vec<Argument>,
    /// Its documentation, line by line.
    pub docs: Vec<String>,
}

/// An argument of a constructor or message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Argument {
    /// Its name.
    pub label: String,
    /// Its type as written, such as `Option` or `AccountId`.
    pub type_name: String,
}

#[derive(Serialize, Deserialize)]
struct File {
    source: Source,
    contract: Contract,
    #[serde(flatten)]
    metadata: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct Source {
    hash: String,
    language: String,
    compiler: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    wasm: Option<String>,
    #[serde(default)]
    build_info: Option<Map<String, Value>>,
}

#[derive(Serialize, Deserialize)]
struct Contract {
    name: String,
    version: String,
    #[serde(default)]
    authors: Vec<String>,
}

fn bad(detail: impl std::fmt::Display) -> Error {
    Error::new(Code::BadBundle, detail.to_string())
}

impl Bundle {
    /// Reads a bundle from a file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let size = std::fs::metadata(path).map_err(|error| bad(format!("{}: {error}", path.display())))?.len();
        if size > MAX_BUNDLE as u64 {
            return Err(bad(format!("{} has {size} bytes, more than {MAX_BUNDLE}", path.display())));
        }
        Self::parse(&std::fs::read(path).map_err(|error| bad(format!("{}: {error}", path.display())))?)
    }

    /// Reads a bundle.
    ///
    /// # Errors
    /// `Ink6` for bundles of ink! 6, `CodeTooLarge`, `BadModule` if the code is no contract, `BadBundle` for the rest.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MAX_BUNDLE {
            return Err(bad(format!("it has {} bytes, more than {MAX_BUNDLE}", bytes.len())));
        }
        let value: Value = serde_json::from_slice(bytes).map_err(bad)?;
        refuse_ink_6(&value)?;
        let file: File = serde_json::from_value(value).map_err(bad)?;
        let Some(wasm) = file.source.wasm else {
            return Err(bad("it has metadata only; give the .contract file, not the .json"));
        };
        let code =
            hex::decode(wasm.strip_prefix("0x").unwrap_or(&wasm)).map_err(|error| bad(format!("wasm: {error}")))?;
        let stated: Hash = file.source.hash.parse().map_err(|error| bad(format!("hash: {error}")))?;
        let mut metadata = file.metadata;
        // A picture's address, which nothing here needs.
        metadata.remove("image");
        let bundle = Self {
            name: file.contract.name,
            version: file.contract.version,
            authors: file.contract.authors,
            language: file.source.language,
            compiler: file.source.compiler,
            build_info: file.source.build_info.unwrap_or_default(),
            code_hash: blake2_256(&code),
            code,
            metadata,
        };
        if stated != bundle.code_hash {
            return Err(bad(format!("its code has the hash {}, not {stated}", bundle.code_hash)));
        }
        bundle.check()?;
        Ok(bundle)
    }

    /// Checks that the code is a contract and that the metadata are of ink! 5.
    pub(crate) fn check(&self) -> Result<()> {
        if self.code.len() > MAX_CODE {
            return Err(Error::new(Code::CodeTooLarge, format!("{} bytes, more than {MAX_CODE}", self.code.len())));
        }
        module::inspect(&self.code)?;
        match self.metadata.get("version").and_then(Value::as_u64) {
            Some(METADATA_VERSION) => (),
            _ => return Err(bad("its metadata are not of version 5; build it with ink! 5.1.1")),
        }
        if !self.metadata.get("types").is_some_and(Value::is_array) {
            return Err(bad("its metadata have no types"));
        }
        if self.constructors()?.is_empty() {
            return Err(bad("it has no constructor"));
        }
        self.messages().map(|_| ())
    }

    /// The bundle as a `.contract` file holds it.
    pub fn to_json(&self) -> Vec<u8> {
        self.json(Some(format!("0x{}", hex::encode(&self.code))))
    }

    /// The same without the code, as a `.json` file holds it: enough to talk to a deployed contract.
    pub fn metadata_json(&self) -> Vec<u8> {
        self.json(None)
    }

    fn json(&self, wasm: Option<String>) -> Vec<u8> {
        let source = Source {
            hash: self.code_hash.to_string(),
            language: self.language.clone(),
            compiler: self.compiler.clone(),
            wasm,
            build_info: Some(self.build_info.clone()),
        };
        let contract =
            Contract { name: self.name.clone(), version: self.version.clone(), authors: self.authors.clone() };
        let file = File { source, contract, metadata: self.metadata.clone() };
        // Maps with text for keys and values that were JSON before: this cannot fail, and would leave an empty file.
        serde_json::to_vec_pretty(&file).unwrap_or_default()
    }

    /// What makes an instance.
    pub fn constructors(&self) -> Result<Vec<Entry>> {
        self.entries("constructors")
    }

    /// What can be asked of an instance.
    pub fn messages(&self) -> Result<Vec<Entry>> {
        self.entries("messages")
    }

    fn entries(&self, kind: &str) -> Result<Vec<Entry>> {
        let list = self.metadata.get("spec").and_then(|spec| spec.get(kind)).and_then(Value::as_array);
        let list = list.ok_or_else(|| bad(format!("its metadata have no {kind}")))?;
        list.iter().map(|value| entry(value).ok_or_else(|| bad(format!("one of its {kind} cannot be read")))).collect()
    }
}

fn entry(value: &Value) -> Option<Entry> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut selector = [0; 4];
    hex::decode_to_slice(value.get("selector")?.as_str()?.strip_prefix("0x")?, &mut selector).ok()?;
    let argument = |value: &Value| {
        let path = value.get("type")?.get("displayName")?.as_array()?;
        Some(Argument {
            label: text(value.get("label")?)?,
            type_name: path.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("::"),
        })
    };
    Some(Entry {
        label: text(value.get("label")?)?,
        selector,
        mutates: value.get("mutates").and_then(Value::as_bool).unwrap_or(true),
        payable: value.get("payable").and_then(Value::as_bool).unwrap_or(false),
        arguments: value.get("args")?.as_array()?.iter().map(argument).collect::<Option<_>>()?,
        docs: value.get("docs").and_then(Value::as_array).into_iter().flatten().filter_map(text).collect(),
    })
}

/// Tells the unsupported from the unreadable, before anything else is asked of the file.
fn refuse_ink_6(value: &Value) -> Result<()> {
    let source = value.get("source");
    let text = |name| source.and_then(|source| source.get(name)).and_then(Value::as_str).unwrap_or_default();
    let version = value.get("version").and_then(|v| v.as_u64().or_else(|| v.as_str()?.parse().ok())).unwrap_or(0);
    let reason = if version > METADATA_VERSION {
        format!("metadata of version {version}")
    } else if text("language").strip_prefix("ink! ").is_some_and(|v| v.starts_with(|c| ('6'..='9').contains(&c))) {
        text("language").to_owned()
    } else if source.is_some_and(|source| source.get("contract_binary").is_some()) {
        "contract_binary".to_owned()
    // "PVM", how PolkaVM's code begins.
    } else if text("wasm").trim_start_matches("0x").starts_with("50564d") {
        "code for PolkaVM".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(Code::Ink6, reason))
}

#[cfg(test)]
mod tests;

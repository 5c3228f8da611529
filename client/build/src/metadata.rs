//! ink!'s description of a contract: its constructors, messages, events, types and storage.
//!
//! With the feature `std`, ink! generates a function `__ink_generate_metadata` into the contract's library. A package
//! with a program that calls it is written into the target folder, linked with the contract, and run. The package gets
//! a copy of the contract's lock file, so that both are compiled with the same ink!, and its build needs no network.

use crate::{
    compile::Setting,
    error::{Error, Result},
};
use phala_primitives::Code;
use serde_json::{Map, Value};
use std::path::Path;

const PROGRAM: &str = "//! Prints what ink! says about a contract.
extern crate contract as _;

unsafe extern \"Rust\" {
    fn __ink_generate_metadata() -> ink::metadata::InkProject;
}

fn main() {
    // SAFETY: ink! defines this function in every contract; it has no preconditions.
    let project = unsafe { __ink_generate_metadata() };
    println!(\"{}\", serde_json::to_string(&project).expect(\"metadata are JSON\"));
}
";

impl Setting<'_> {
    /// The metadata of the contract, which must have been compiled before: that makes its lock file.
    pub(crate) fn metadata(&self, tell: &mut dyn FnMut(&str)) -> Result<Map<String, Value>> {
        if !self.project.linkable {
            let detail = "the library has crate-type cdylib only; remove the line crate-type from Cargo.toml";
            return Err(Error::new(Code::BuildFailed, detail));
        }
        let directory = self.target.join("metadata").join(&self.project.name);
        write(&directory.join("src/main.rs"), PROGRAM.as_bytes())?;
        write(&directory.join("Cargo.toml"), self.manifest()?.as_bytes())?;
        let lock = self.project.workspace.join("Cargo.lock");
        write(&directory.join("Cargo.lock"), &std::fs::read(&lock).map_err(|error| Error::file(&lock, &error))?)?;
        let manifest = directory.join("Cargo.toml");
        let json = self.cargo(tell, |cargo| {
            cargo.args(["run", "--release", "--manifest-path"]).arg(&manifest);
        })?;
        serde_json::from_slice(&json).map_err(|error| Error::new(Code::BuildFailed, format!("metadata: {error}")))
    }

    fn manifest(&self) -> Result<String> {
        let exactly = |version: Option<String>, otherwise: &str| match version {
            Some(version) => format!("={version}"),
            None => otherwise.to_owned(),
        };
        let ink = exactly(self.project.locked("ink")?, "=5.1.1");
        let serde_json = exactly(self.project.locked("serde_json")?, "1");
        let mut contract = toml::Table::new();
        contract.insert("package".into(), self.project.name.clone().into());
        contract.insert("path".into(), self.project.directory.to_string_lossy().into_owned().into());
        if self.project.std_feature {
            contract.insert("features".into(), vec!["std"].into());
        }
        // What the program is linked with runs once, for a millisecond: it is not worth optimising.
        Ok(format!(
            "[package]\nname = \"metadata-{}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
             [dependencies]\nink = \"{ink}\"\nserde_json = \"{serde_json}\"\n\n\
             [profile.release]\nopt-level = 0\ndebug = 0\nincremental = false\n\n\
             [workspace]\n\n[dependencies.contract]\n{contract}",
            self.project.name
        ))
    }
}

/// Writes a file unless it holds this already, for Cargo compiles again what was written again.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|error| Error::file(folder, &error))?;
    std::fs::write(path, bytes).map_err(|error| Error::file(path, &error))
}

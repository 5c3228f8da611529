//! What `deploy` remembers, so that `query` and `send` need only an address: the metadata of each contract, in
//! `$XDG_DATA_HOME/phala/contracts/ADDRESS.json` (`~/.local/share` by default). Nothing in it is secret.

use anyhow::{Context, Result};
use phala_primitives::{AccountId, Code, Coded};
use std::{fs, path::PathBuf};

fn folder() -> PathBuf {
    let base = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")))
        .unwrap_or_else(std::env::temp_dir);
    base.join("phala/contracts")
}

/// Remembers a contract's metadata.
pub(crate) fn remember(address: &AccountId, metadata: &serde_json::Value) -> Result<()> {
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join(format!("{address}.json"));
    fs::write(&path, serde_json::to_vec(metadata)?).with_context(|| format!("cannot write {}", path.display()))
}

/// The metadata of a contract that was deployed from this machine.
pub(crate) fn recall(address: &AccountId) -> Result<serde_json::Value> {
    let path = folder().join(format!("{address}.json"));
    let bytes = fs::read(&path).map_err(|_| {
        Coded::new(Code::BadBundle, format!("no metadata is remembered for {address}: name its bundle with --bundle"))
    })?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
}

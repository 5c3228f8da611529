//! The folder that holds a development network between two runs.
//!
//! ```text
//! FORMAT            name and version of this layout
//! lock              held by the process that uses the folder
//! secrets           seeds of the validators and of the SIMULATED machines, mode 0600
//! spec              what the genesis is made of
//! chain/            validators' databases and consensus journals
//! workers/N/        sealed state and entry log of worker N
//! keys              the SIMULATED key service's sealed master secret
//! ```

use codec::{Decode, Encode};
use phala_primitives::{Code, Coded};
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use zeroize::{Zeroize, ZeroizeOnDrop};

const FORMAT: &str = "phala devnet 2\n";

/// Seeds from which the network's simulated and validators' keys are made.
#[derive(Encode, Decode, Zeroize, ZeroizeOnDrop)]
pub struct Secrets {
    /// ed25519 seed of each validator.
    pub validators: Vec<[u8; 32]>,
    /// Seed of the SIMULATED vendor of trusted hardware.
    pub vendor: [u8; 32],
    /// What makes each SIMULATED machine's sealing key its own; one for each worker, the last for the key service.
    pub machines: Vec<[u8; 32]>,
}

impl Secrets {
    /// Draws fresh seeds.
    pub fn draw(validators: usize, machines: usize) -> Result<Self, Coded> {
        let seed = || {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|e| Coded::new(Code::Internal, format!("no randomness: {e}")))?;
            Ok(seed)
        };
        let seeds = |count: usize| (0..count).map(|_| seed()).collect::<Result<Vec<_>, Coded>>();
        Ok(Self { validators: seeds(validators)?, vendor: seed()?, machines: seeds(machines)? })
    }
}

/// An opened and locked folder.
pub struct Folder {
    path: PathBuf,
    _lock: File,
    /// Removes the folder when the network ends, if nobody asked to keep it.
    _temporary: Option<tempfile::TempDir>,
}

fn unusable(path: &Path, error: impl std::fmt::Display) -> Coded {
    Coded::new(Code::DataDir, format!("{}: {error}", path.display()))
}

impl Folder {
    /// Opens `path`, which may be new, or a temporary folder.
    pub fn open(path: Option<&Path>) -> Result<Self, Coded> {
        let temporary = match path {
            Some(_) => None,
            None => Some(
                tempfile::Builder::new()
                    .prefix("phala-dev-")
                    .tempdir()
                    .map_err(|e| unusable(&std::env::temp_dir(), e))?,
            ),
        };
        let path =
            temporary.as_ref().map_or_else(|| path.unwrap_or(Path::new(".")), tempfile::TempDir::path).to_owned();
        make(&path)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .map_err(|e| unusable(&path, e))?;
        lock.try_lock().map_err(|_| unusable(&path, "another process uses this folder"))?;
        let format = path.join("FORMAT");
        match fs::read_to_string(&format) {
            Ok(text) if text == FORMAT => {}
            Ok(_) => return Err(Coded::new(Code::UnknownFormat, path.display().to_string())),
            Err(_) => fs::write(&format, FORMAT).map_err(|e| unusable(&format, e))?,
        }
        Ok(Self { path, _lock: lock, _temporary: temporary })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder below, created if needed.
    pub fn below(&self, name: &str) -> Result<PathBuf, Coded> {
        let path = self.path.join(name);
        make(&path)?;
        Ok(path)
    }

    /// Reads a small file, or makes its content and writes it for good before it is used.
    pub fn read_or_make<T: Encode + Decode>(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<T, Coded>,
    ) -> Result<T, Coded> {
        let path = self.path.join(name);
        if path.exists() {
            let bytes = fs::read(&path).map_err(|e| unusable(&path, e))?;
            return T::decode(&mut bytes.as_slice()).map_err(|e| unusable(&path, e));
        }
        let made = make()?;
        write_new(&path, &made.encode()).map_err(|e| unusable(&path, e))?;
        Ok(made)
    }
}

/// Makes a folder that only its owner may look into, unless it is there.
pub(crate) fn make(path: &Path) -> Result<(), Coded> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| unusable(path, e))
}

/// Writes a file that did not exist so that it is there whole or not at all.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_used_by_one_process_and_keeps_what_it_made() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("net");
        let folder = Folder::open(Some(&path)).unwrap();
        assert!(Folder::open(Some(&path)).is_err());
        assert_eq!(folder.read_or_make("x", || Ok(7u32)).unwrap(), 7);
        drop(folder);
        let folder = Folder::open(Some(&path)).unwrap();
        assert_eq!(folder.read_or_make("x", || Ok(8u32)).unwrap(), 7);
        drop(folder);
        fs::write(path.join("FORMAT"), "another").unwrap();
        assert_eq!(Folder::open(Some(&path)).err().unwrap().known(), Some(Code::UnknownFormat));
    }
}

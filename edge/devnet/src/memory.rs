//! A folder in memory for what need not outlive the process. A process that was killed leaves its folder behind; the
//! next one to start removes it.

use phala_primitives::{Code, Coded};
use std::{
    fs::{self, File},
    io,
    path::Path,
};
use tempfile::TempDir;

const PREFIX: &str = "phala-cluster-";
/// File in each folder that its process keeps locked.
const LOCK: &str = "lock";

/// A folder that goes when this value does.
pub(crate) struct Memory {
    folder: TempDir,
    /// Shows others that the folder is in use.
    _lock: File,
}

impl Memory {
    /// Makes a folder in memory, or among the temporary files of a machine that has none in memory.
    pub(crate) fn open() -> Result<Self, Coded> {
        let base = Path::new("/dev/shm");
        let base = if base.is_dir() { base.to_owned() } else { std::env::temp_dir() };
        remove_left(&base);
        Self::below(&base).map_err(|error| Coded::new(Code::DataDir, format!("{}: {error}", base.display())))
    }

    fn below(base: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(base)?;
        // It gets its name after it is locked: nobody finds it without.
        let unnamed = folder.path().join("unlocked");
        let lock = File::create(&unnamed)?;
        lock.try_lock()?;
        fs::rename(unnamed, folder.path().join(LOCK))?;
        Ok(Self { folder, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes folders whose process has ended. What cannot be read or removed belongs to somebody else.
fn remove_left(base: &Path) {
    let entries = fs::read_dir(base).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    for folder in ours.map(|entry| entry.path()).filter(|folder| is_left(folder)) {
        match fs::remove_dir_all(&folder) {
            Ok(()) => tracing::info!(folder = %folder.display(), "removed what a killed process left"),
            Err(error) => tracing::warn!(folder = %folder.display(), %error, "cannot remove what a process left"),
        }
    }
}

fn is_left(folder: &Path) -> bool {
    File::open(folder.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_is_in_use_is_not() {
        let base = tempfile::tempdir().unwrap();
        let used = Memory::below(base.path()).unwrap();
        // Killed: the lock goes, the folder stays.
        let Memory { folder, _lock } = Memory::below(base.path()).unwrap();
        let left = folder.keep();
        drop(_lock);
        let other = base.path().join("phala-other");
        fs::create_dir(&other).unwrap();
        remove_left(base.path());
        assert!(used.path().exists() && !left.exists() && other.exists());
    }
}

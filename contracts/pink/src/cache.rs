//! What a contract keeps in the memory of one worker: gone with its process, and other workers have their own.
//!
//! It is for what may be lost and fetched again. A query reads and writes the cache of the worker that answers it. A
//! command reads nothing; what it writes reaches the cache of every worker when its entry is executed, and not at all
//! if it fails. A contract has 4 MiB; a value lives for seven days unless [`set_expiration`] says otherwise.

use crate::{ext, StorageQuotaExceeded};
use ink::prelude::vec::Vec;

/// Keeps a value.
///
/// # Errors
/// In a query, `StorageQuotaExceeded`: the old value, if there is one, stays. A command is not told.
///
/// ```
/// # let _mock = pink::mock::install();
/// pink::cache::set(b"rate", b"12")?;
/// assert_eq!(pink::cache::get(b"rate").as_deref(), Some(&b"12"[..]));
/// # Ok::<(), pink::StorageQuotaExceeded>(())
/// ```
pub fn set(key: &[u8], value: &[u8]) -> Result<(), StorageQuotaExceeded> {
    ext().cache_set(key, value).0
}

/// A value that is kept and not past its time; `None` in a command.
///
/// ```
/// # let _mock = pink::mock::install();
/// assert_eq!(pink::cache::get(b"nothing"), None);
/// ```
pub fn get(key: &[u8]) -> Option<Vec<u8>> {
    ext().cache_get(key)
}

/// Forgets a value after some seconds from now; 0 forgets it now.
///
/// ```
/// # let _mock = pink::mock::install();
/// pink::cache::set(b"rate", b"12")?;
/// pink::cache::set_expiration(b"rate", 60);
/// # Ok::<(), pink::StorageQuotaExceeded>(())
/// ```
pub fn set_expiration(key: &[u8], seconds: u64) {
    ext().cache_set_expiration(key, seconds);
}

/// Forgets a value and returns it; a command is told `None`.
///
/// ```
/// # let _mock = pink::mock::install();
/// pink::cache::set(b"rate", b"12")?;
/// assert_eq!(pink::cache::remove(b"rate").as_deref(), Some(&b"12"[..]));
/// assert_eq!(pink::cache::get(b"rate"), None);
/// # Ok::<(), pink::StorageQuotaExceeded>(())
/// ```
pub fn remove(key: &[u8]) -> Option<Vec<u8>> {
    ext().cache_remove(key)
}

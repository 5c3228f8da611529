//! Keys of epochs: what a start needs, when the next one's are learned, and when old ones are of no use any more.

use crate::{
    Replica,
    journal::{self, EntryLog},
    layout::Note,
};
use phala_keys::ClusterKeys;
use phala_primitives::{Code, Coded};
use phala_state::StorageBackend;

/// The oldest epoch whose keys a replica needs that opens this state and this log, to go on from where they are: what the
/// host's files say themselves.
pub fn oldest_epoch(state: &dyn StorageBackend, log: &dyn EntryLog) -> Result<u64, Coded> {
    let of_state = phala_state::oldest_epoch(state);
    let of_state = of_state.map_err(|error| Coded::new(Code::StorageFailed, format!("the state: {error}")))?;
    Ok(journal::oldest_epoch(log)?.map_or(of_state, |of_log| of_log.min(of_state)))
}

impl Replica {
    /// The newest epoch whose keys it knows.
    pub fn newest_keys(&self) -> u64 {
        self.entries.cipher.newest()
    }

    /// Knows the keys of further epochs as well, and writes its state under the newest from now on. To be done before
    /// [`Replica::enter`], and before a reader asks in a new epoch.
    pub fn learn(&self, keys: &ClusterKeys) -> Result<(), Coded> {
        self.entries.cipher.learn(keys)?;
        if let Some(newest) = keys.epochs().max()
            && let Some(value) = keys.state_value(newest)
        {
            self.state.rekey(newest, value.expose())?;
        }
        Ok(())
    }

    /// Seals some of the state that is from earlier epochs anew, which takes some milliseconds. Returns whether there is
    /// more to do. Queries and commands go on meanwhile.
    pub fn reseal(&self) -> Result<bool, Coded> {
        // Entries that lead on from here are of this epoch or a later one.
        let applied = Note::read(self.state.snapshot().note())?.epoch;
        self.state.reseal(applied).map_err(Coded::from)
    }
}

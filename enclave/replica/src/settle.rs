//! When the state goes to the disk: seldom, so that what many entries change in one place is written once, and never in
//! the way of an entry, unless memory runs out.

use crate::{Replica, layout::Note};
use phala_primitives::Coded;
use phala_state::State;

/// Entries after which the state is written.
const ENTRIES: u64 = 1024;
/// Time after which it is, by the entries' clock, in milliseconds.
const TIME_MS: u64 = 2_000;

impl Replica {
    /// Writes the state to the disk, if there is much to be written or the last time is long ago. For the host to call
    /// several times a second; entries and queries go on meanwhile. On an error the replica has stopped.
    pub fn settle(&self) -> Result<(), Coded> {
        self.guard(|| if self.is_unsettled()? { self.write_state() } else { Ok(()) })
    }

    fn is_unsettled(&self) -> Result<bool, Coded> {
        let state = self.state.snapshot();
        let entries = state.applied().height.saturating_sub(self.state.durable_height());
        let time = Note::read(state.note())?.time_ms.saturating_sub(*self.settled_ms.lock());
        Ok(entries >= ENTRIES || (entries > 0 && time >= TIME_MS) || self.state.unsettled() >= State::MUCH)
    }

    /// Waits until there is memory for what an entry changes.
    pub(crate) fn make_room(&self) -> Result<(), Coded> {
        self.state.make_room(State::MOST, || self.journal.sync())
    }

    /// A state on the disk must not be ahead of the log there.
    fn write_state(&self) -> Result<(), Coded> {
        let now = Note::read(self.state.snapshot().note())?.time_ms;
        self.state.settle(|| self.journal.sync())?;
        *self.settled_ms.lock() = now;
        Ok(())
    }
}

//! The other nodes, as far as the pool needs them.

use bytes::Bytes;
use phala_consensus::{LogHandle, Recipient};

/// A way to the other nodes.
pub trait Network: Send + Sync {
    /// Sends a message to all of them, who take it in by `Application::received`. May lose it; never blocks.
    fn broadcast(&self, message: Bytes);

    /// How many of them are heard.
    fn peers(&self) -> usize;

    /// Greatest height that is known to be final somewhere.
    fn tip(&self) -> u64;
}

impl Network for LogHandle {
    fn broadcast(&self, message: Bytes) {
        self.send(Recipient::All, message);
    }

    fn peers(&self) -> usize {
        LogHandle::peers(self)
    }

    fn tip(&self) -> u64 {
        LogHandle::tip(self)
    }
}

//! What was seen in a run, in order. Checks read nothing else, so that a forged history can show that they bite.

use crate::plan::{Log, Villainy};
use codec::Encode;
use parking_lot::Mutex;
use phala_primitives::Hash;
use std::sync::Arc;

/// Something that was seen.
#[derive(Clone, PartialEq, Eq, Debug, Encode)]
pub enum Event {
    /// A member was told that a block is final, and what its state then was.
    Final {
        /// Which log.
        log: Log,
        /// Which member.
        member: u32,
        /// Height of the block.
        height: u64,
        /// Its digest.
        digest: Hash,
        /// Root of the member's state after it; `None` if the member had taken it before.
        root: Option<Hash>,
    },
    /// How far a member's state went, after a block or as found at a start.
    Height {
        /// Which log.
        log: Log,
        /// Which member.
        member: u32,
        /// The height.
        height: u64,
    },
    /// What an account had when a log began.
    Endowed {
        /// Which log's ledger: the chain's balances, or the token of the cluster.
        log: Log,
        /// The account's number in it.
        account: u32,
        /// How much.
        amount: u128,
    },
    /// A client sends a transfer for the first time.
    Sent {
        /// Which log's ledger.
        log: Log,
        /// Number of the transfer in its log.
        number: u32,
        /// Who pays.
        from: u32,
        /// Who gets it.
        to: u32,
        /// How much.
        amount: u128,
    },
    /// A client was told that its transfer is done.
    Acknowledged {
        /// Which log's ledger.
        log: Log,
        /// Number of the transfer.
        number: u32,
        /// Hash of the outcome that it was told; zero on the chain.
        outcome: Hash,
        /// Whether the receipt proved it; a block is its own receipt.
        proven: bool,
        /// Height of the entry that holds it; zero on the chain.
        height: u64,
    },
    /// A client read what an account of the cluster has, with everything that was acknowledged before.
    Read {
        /// When it asked.
        since_ms: u64,
        /// Whose.
        account: u32,
        /// What it was told.
        amount: u128,
        /// Height of the state, by the receipt.
        height: u64,
    },
    /// A member of the cluster goes on from another disk than it had: an older one, or, if another worker takes its place,
    /// an empty one.
    OtherDisk {
        /// Of which cluster's log.
        log: Log,
        /// Which member.
        member: u32,
    },
    /// A worker turned hostile.
    Turned {
        /// Which.
        worker: u32,
        /// What it does.
        villainy: Villainy,
    },
    /// A member was shown that a worker voted against itself.
    Proven {
        /// Which.
        worker: u32,
    },
    /// The chain has convicted a worker, and wants another in its place.
    Convicted {
        /// Which.
        worker: u32,
    },
    /// The last fault is over.
    Healed,
    /// Clients start nothing new from here on.
    Quiet,
    /// Something that must happen in a run did not.
    Stuck {
        /// What.
        what: String,
    },
    /// What a member's state tells of a transfer at the end.
    Found {
        /// Which log's ledger.
        log: Log,
        /// Which member.
        member: u32,
        /// Number of the transfer.
        number: u32,
        /// In how many places of the log it is.
        times: u32,
        /// Hash of its outcome, if it is there; zero on the chain.
        outcome: Hash,
        /// Whether it moved what it was to move.
        moved: bool,
    },
    /// What an account paid in fees, by the events of a member's blocks.
    Fees {
        /// Which log's ledger.
        log: Log,
        /// Which member.
        member: u32,
        /// The account.
        account: u32,
        /// How much in all.
        amount: u128,
    },
    /// What an account has at the end, by a member's state.
    Balance {
        /// Which log's ledger.
        log: Log,
        /// Which member.
        member: u32,
        /// The account.
        account: u32,
        /// How much, held amounts included.
        amount: u128,
    },
    /// A client has a contract ask for a request or a timer.
    Asked {
        /// Number of it.
        number: u32,
    },
    /// The client was told that the contract asked.
    Promised {
        /// Number of it.
        number: u32,
    },
    /// How often the contract was called back for it at the end, by a member's state.
    Called {
        /// Which member.
        member: u32,
        /// Number of it.
        number: u32,
        /// How often.
        times: u64,
    },
    /// What the contract that writes to the one of the other cluster has sent and got at the end, by a member's state.
    Letters {
        /// Which log.
        log: Log,
        /// Which member.
        member: u32,
        /// How many it has sent.
        sent: u64,
        /// The number of the last that it got.
        got: u64,
        /// How many of those it got did not follow upon the one before.
        amiss: u64,
    },
    /// What the contract that wanders between the clusters has counted, as a client was told, or as a member's state tells at
    /// the end.
    Counted {
        /// The log of the cluster that it is in.
        log: Log,
        /// How many calls the client was told to be done, this one included.
        acknowledged: u64,
        /// How many the contract counted.
        counted: u64,
    },
    /// How much there is in all, by a member's own account of it.
    Supply {
        /// Which log's ledger.
        log: Log,
        /// Which member.
        member: u32,
        /// The sum.
        total: u128,
    },
}

/// An event and when it was seen, in milliseconds of the simulation's clock.
pub type Seen = (u64, Event);

/// A growing list of what was seen. Clones are the same list.
#[derive(Clone, Default)]
pub(crate) struct History(Arc<Mutex<Vec<Seen>>>);

impl History {
    pub(crate) fn add(&self, now_ms: u64, event: Event) {
        self.0.lock().push((now_ms, event));
    }

    pub(crate) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.0.lock())
    }

    /// Greatest height of any member, and the least of all members' greatest ones.
    pub(crate) fn heights(&self, log: Log) -> (u64, u64) {
        let mut each = [0u64; crate::plan::MEMBERS];
        for (_, event) in self.0.lock().iter() {
            if let Event::Height { log: of, member, height } = event
                && *of == log
                && let Some(own) = each.get_mut(*member as usize)
            {
                *own = (*own).max(*height);
            }
        }
        (each.iter().copied().max().unwrap_or(0), each.iter().copied().min().unwrap_or(0))
    }
}

/// A hash over a whole history.
pub(crate) fn trace(history: &[Seen]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    for seen in history {
        hasher.update(&seen.encode());
    }
    Hash(*hasher.finalize().as_bytes())
}

//! What lies where in the state of a cluster.

use crate::check::Key;
use codec::{Decode, DecodeAll, Encode};
use phala_primitives::{AccountId, Code, Coded, EntryHeader, Hash, blake2_256, records::Seal};
use phala_session::Outcome;
use phala_state::{Snapshot, Space};
use std::sync::LazyLock;

fn space(name: &str) -> Space {
    blake2_256(&("phala/space/v1", name).encode()).0
}

/// Code by its hash.
pub(crate) static CODE: LazyLock<Space> = LazyLock::new(|| space("code"));
/// [`Contract`] by its address.
pub(crate) static CONTRACTS: LazyLock<Space> = LazyLock::new(|| space("contracts"));
/// [`Done`] by account and id of the command.
pub(crate) static OUTCOMES: LazyLock<Space> = LazyLock::new(|| space("outcomes"));
/// [`Batch`] by its number.
pub(crate) static BATCHES: LazyLock<Space> = LazyLock::new(|| space("batches"));
/// Spaces of contracts that ended, by number.
pub(crate) static ENDED: LazyLock<Space> = LazyLock::new(|| space("ended"));
/// [`LogState`](crate::logs::LogState) by contract; the records lie in a space of each contract's own.
pub(crate) static LOGS: LazyLock<Space> = LazyLock::new(|| space("logs"));
/// [`Wanted`](crate::jobs::Wanted) by its id.
pub(crate) static REQUESTS: LazyLock<Space> = LazyLock::new(|| space("requests"));
/// [`Timer`](crate::jobs::Timer) by its id.
pub(crate) static TIMERS: LazyLock<Space> = LazyLock::new(|| space("timers"));
/// Balance by account: the ledger.
pub(crate) static LEDGER: LazyLock<Space> = LazyLock::new(|| space("ledger"));
/// [`Traffic`](crate::bridge::Traffic), under the empty key.
pub(crate) static BRIDGE: LazyLock<Space> = LazyLock::new(|| space("bridge"));
/// Messages to the chain by number.
pub(crate) static OUTBOX: LazyLock<Space> = LazyLock::new(|| space("outbox"));
/// How many of them are an account's.
pub(crate) static OUTBOX_OF: LazyLock<Space> = LazyLock::new(|| space("outbox-of"));
/// [`Message`](crate::parcels::Message) to a contract, by its sender and number: those for which the way is not known.
pub(crate) static PARCELS: LazyLock<Space> = LazyLock::new(|| space("parcels"));
/// Whose messages these are, under the empty key.
pub(crate) static PARCELS_WAITING: LazyLock<Space> = LazyLock::new(|| space("parcels-waiting"));
/// Cluster of a contract that is elsewhere, by its address, once somebody wrote to it.
pub(crate) static ROUTES: LazyLock<Space> = LazyLock::new(|| space("routes"));
/// Keys to which parcels are sealed, by cluster; the own one, once the chain was told.
pub(crate) static MAILBOXES: LazyLock<Space> = LazyLock::new(|| space("mailboxes"));
/// Contracts that leave for other clusters, and those that come: all [`Departure`](crate::departures::Departure)s and all
/// [`Arrival`](crate::arrivals::Arrival)s, each under the empty key.
pub(crate) static DEPARTURES: LazyLock<Space> = LazyLock::new(|| space("departures"));
/// See [`DEPARTURES`].
pub(crate) static ARRIVALS: LazyLock<Space> = LazyLock::new(|| space("arrivals"));
/// Secrets of contracts that have come from another cluster, by address.
pub(crate) static SECRETS: LazyLock<Space> = LazyLock::new(|| space("secrets"));
/// The cluster's policy, under the empty key.
pub(crate) static POLICY: LazyLock<Space> = LazyLock::new(|| space("policy"));
/// Codes that come in parts: all [`Upload`](crate::upload::Upload)s, under the empty key.
pub(crate) static UPLOADS: LazyLock<Space> = LazyLock::new(|| space("uploads"));
/// Parts of codes by hash of the code and number.
pub(crate) static CODE_PARTS: LazyLock<Space> = LazyLock::new(|| space("code-parts"));
/// The same for inputs of calls, all together and by name and number.
pub(crate) static INPUTS_UNDER_WAY: LazyLock<Space> = LazyLock::new(|| space("inputs"));
/// See [`INPUTS_UNDER_WAY`].
pub(crate) static INPUT_PARTS: LazyLock<Space> = LazyLock::new(|| space("input-parts"));
/// Bytes of large outcomes that are kept, under the empty key.
pub(crate) static LARGE: LazyLock<Space> = LazyLock::new(|| space("large-outcomes"));
/// Hooks of a contract, by its address.
pub(crate) static HOOKS: LazyLock<Space> = LazyLock::new(|| space("hooks"));
/// A [`Queue`] for batches, one for ended spaces, one for the parcels of each contract.
pub(crate) static QUEUES: LazyLock<Space> = LazyLock::new(|| space("queues"));

/// A contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct Contract {
    /// Its code; `None` if it has ended.
    pub(crate) code: Option<Hash>,
    /// How many contracts had this address before.
    pub(crate) generation: u32,
    /// Who deployed it, or made the command in which another contract did.
    pub(crate) owner: AccountId,
    /// Which of the versions that the chain decided it runs, or ran last.
    pub(crate) version: u32,
    /// Whether it works here.
    pub(crate) standing: Standing,
    /// Whether it came from another cluster, with a secret of its own.
    pub(crate) foreign: bool,
}

/// How a contract stands in a cluster that has all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) enum Standing {
    /// It does what it is commanded.
    Works,
    /// It is about to go to another cluster, and is only read.
    Leaves,
    /// It came from another cluster, which has not let go of it, and is only read.
    Waits,
}

impl Contract {
    /// A contract that works, where none was before.
    pub(crate) fn new(code: Option<Hash>, owner: AccountId) -> Self {
        Self { code, generation: 0, owner, version: 0, standing: Standing::Works, foreign: false }
    }

    /// What is kept of one that is in another cluster: how many there were.
    pub(crate) fn gone(self) -> Self {
        Self { code: None, standing: Standing::Works, foreign: false, ..self }
    }

    /// Whether it can be commanded.
    pub(crate) fn works(&self) -> bool {
        self.code.is_some() && self.standing == Standing::Works
    }

    /// Where it is said who besides its owner may read its log.
    pub(crate) fn readers(&self, address: &AccountId) -> Space {
        blake2_256(&("phala/space/v1/log-readers", address, self.generation).encode()).0
    }

    /// Where its storage lies. A contract that is made anew where one ended sees nothing of the old one's.
    pub(crate) fn space(&self, address: &AccountId) -> Space {
        blake2_256(&("phala/space/v1/contract", address, self.generation).encode()).0
    }
}

/// A command that was executed.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct Done {
    /// Hash of the signed command.
    pub(crate) command: Hash,
    /// Height of its entry.
    pub(crate) height: u64,
    /// Place in the entry.
    pub(crate) index: u32,
    /// What came of it.
    pub(crate) outcome: Outcome,
}

/// Commands of one entry, to be forgotten together.
#[derive(Encode, Decode)]
pub(crate) struct Batch {
    /// Time of the entry.
    pub(crate) time_ms: u64,
    /// What was executed.
    pub(crate) keys: Vec<Key>,
    /// Bytes of those outcomes that are large.
    pub(crate) large: u64,
}

/// Numbers of a queue: the first that is there, and the next.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct Queue {
    pub(crate) first: u64,
    pub(crate) next: u64,
}

/// Noted beside the state: of the last entry.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct Note {
    pub(crate) epoch: u64,
    pub(crate) time_ms: u64,
    /// Whether it finished its epoch's log.
    pub(crate) sealed: bool,
}

impl Note {
    pub(crate) fn of(header: &EntryHeader) -> Self {
        Self { epoch: header.epoch, time_ms: header.time_ms, sealed: header.seal != Seal::Open }
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Coded> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        decode(bytes)
    }
}

/// Reads what this crate wrote.
pub(crate) fn decode<T: Decode>(bytes: &[u8]) -> Result<T, Coded> {
    T::decode_all(&mut &*bytes)
        .map_err(|_| Coded::new(Code::Internal, "the state holds what this program does not read"))
}

/// Reads a value of a state.
pub(crate) fn read<T: Decode>(snapshot: &Snapshot, space: &Space, key: &[u8]) -> Result<Option<T>, Coded> {
    let stored = snapshot.get(space, key)?;
    stored.map(|bytes| decode(&bytes)).transpose()
}

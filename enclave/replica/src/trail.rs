//! How a reader follows the log: by what each entry changed in the state, without executing anything.
//!
//! As long as readers ask, a member remembers what its newest entries changed. A reader asks for what came above its own
//! state. It gets the changes up to an entry whose root a later entry names, and the headers from the one to the other
//! with the certificate of the latter: a quorum's word for the root. It applies the changes, and the state that results
//! counts only if it has that root. So a broken member can keep a reader waiting, but never make it believe anything.
//!
//! One that is so far behind that nobody remembers what it lacks takes the state in pieces, see [`crate::copies`].
//!
//! Invariant: a reader's state is one that a quorum vouches for.

use crate::{
    Replica,
    copies::{self, Word},
    layout::Note,
};
use codec::{Decode, Encode};
use phala_primitives::{Code, Coded, EntryHeader, Finality, PublicKey};
use phala_state::{Applied, Change};
use std::collections::VecDeque;

/// Time after the last question for which changes are remembered.
const UNASKED_MS: u64 = 60_000;
/// Most that is remembered: entries, and bytes of their changes.
const MAX_ENTRIES: usize = 4096;
const MAX_BYTES: usize = 64 << 20;
/// An answer ends with the entry at which it holds so many bytes.
const ANSWER: usize = 4 << 20;

/// An entry that was executed here.
struct Step {
    header: EntryHeader,
    finality: Finality,
    changes: Vec<Change>,
    size: usize,
}

/// What the newest entries changed.
#[derive(Default)]
pub(crate) struct Trail {
    asked_ms: Option<u64>,
    /// Of consecutive heights.
    steps: VecDeque<Step>,
    bytes: usize,
}

/// What leads from a reader's state to a newer one.
#[derive(Encode, Decode)]
pub struct Steps {
    word: Word,
    /// In the order in which they were made.
    changes: Vec<Change>,
}

impl Steps {
    /// The epoch whose members vouch for it.
    pub fn epoch(&self) -> u64 {
        self.word.finality.certificate.epoch
    }
}

impl Trail {
    /// Whether a reader asked lately.
    pub(crate) fn is_wanted(&self) -> bool {
        self.asked_ms.is_some()
    }

    /// Forgets everything when nobody asks any more.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        if self.asked_ms.is_some_and(|asked| now_ms > asked.saturating_add(UNASKED_MS)) {
            *self = Self::default();
        }
    }

    /// Remembers an entry that was executed.
    pub(crate) fn executed(&mut self, header: &EntryHeader, finality: &Finality, changes: Vec<Change>) {
        let size = changes.encoded_size();
        if self.steps.back().is_some_and(|last| last.header.height.saturating_add(1) != header.height) {
            (self.steps, self.bytes) = (VecDeque::new(), 0);
        }
        self.steps.push_back(Step { header: header.clone(), finality: finality.clone(), changes, size });
        self.bytes = self.bytes.saturating_add(size);
        while self.steps.len() > MAX_ENTRIES || (self.bytes > MAX_BYTES && self.steps.len() > 1) {
            let Some(step) = self.steps.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(step.size);
        }
    }

    /// What leads on from the state after the entry of a height; `None` if there is nothing to come from yet. `applied` is
    /// the height of the member's own state.
    pub(crate) fn steps(&mut self, above: u64, applied: u64, now_ms: u64) -> Result<Option<Steps>, Coded> {
        self.asked_ms = Some(now_ms);
        if above >= applied {
            return Ok(None);
        }
        let first = self.steps.front().map_or(u64::MAX, |step| step.header.height);
        let skip = above.saturating_add(1).checked_sub(first).and_then(|skip| usize::try_from(skip).ok());
        let skip = skip.ok_or_else(|| Coded::new(Code::NotReady, "what changed is not known here any more"))?;
        // The last state whose root is named and that fits, or the first if none fits.
        let (mut best, mut size) = (None, 0usize);
        let mut sizes = self.steps.iter().skip(skip).map(|step| (step.header.height, step.size)).peekable();
        for (at, step) in self.steps.iter().enumerate().skip(skip) {
            let named = step.header.executed.height;
            if named <= above {
                continue;
            }
            while let Some((_, more)) = sizes.next_if(|(height, _)| *height <= named) {
                size = size.saturating_add(more);
            }
            if best.is_some() && size > ANSWER {
                break;
            }
            best = Some((at, named));
        }
        let Some((at, named)) = best else { return Ok(None) };
        let upto = || self.steps.iter().skip(skip).take_while(|step| step.header.height <= named);
        let changes = upto().flat_map(|step| step.changes.iter().cloned()).collect();
        let headers = self.steps.iter().take(at.saturating_add(1)).map(|step| &step.header);
        let headers = headers.filter(|header| header.height >= named).cloned().collect();
        let finality = self.steps.get(at).ok_or(Code::Internal)?.finality.clone();
        Ok(Some(Steps { word: Word { headers, finality }, changes }))
    }
}

impl Replica {
    /// What a reader asks a member next, sealed under the cluster's key of an epoch. A member answers with steps, in its
    /// own time.
    pub fn ask_changes(&self, epoch: u64, now_ms: u64) -> Result<Vec<u8>, Coded> {
        copies::ask_changes(&self.entries.cipher, epoch, self.applied().height, now_ms)
    }

    /// The steps in a member's answer. What they are worth is for [`Replica::advance`] to say.
    pub fn steps(&self, answer: &[u8]) -> Result<Steps, Coded> {
        copies::answer(&self.entries.cipher, answer)
    }

    /// Goes on to a newer state, as a reader does. `members` are the identities of the steps' epoch. Returns its height.
    ///
    /// Errors: `BadFinality` if no quorum vouches for the state, or it is not newer; `OtherHistory` if the changes do not
    /// lead there from here; `StorageFailed`. Nothing has changed then.
    pub fn advance(&self, steps: &Steps, members: &[PublicKey]) -> Result<u64, Coded> {
        let bad = || Coded::new(Code::BadFinality, "a member gives a state that no quorum vouches for");
        let (header, root) = steps.word.check(&self.genesis_hash, self.entries.cluster, members).ok_or_else(bad)?;
        let _one = self.applying.lock();
        if header.height <= self.applied().height {
            return Err(bad());
        }
        let to = Applied { height: header.height, root, digest: header.anchor().digest };
        let note = Note::of(header).encode();
        self.make_room()?;
        self.state.advance(&to, &steps.changes, note)?;
        *self.reading.write() = Some(steps.epoch());
        self.wake(header.height);
        Ok(header.height)
    }
}

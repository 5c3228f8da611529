//! How a replica that has nothing, or fell far behind, gets the state from the others instead of executing their log.
//!
//! # Giving
//! 1. A newcomer asks members for the state of the first entry from a time on, a little ahead ([`Ask::Offer`]).
//! 2. From then on a member keeps the states after such entries, until an entry that is final names one of them. As all
//!    members see the same entries, those that were asked in time keep the same state.
//! 3. It offers that state: the headers from the state's entry to the one that names its root, the certificate of the
//!    latter, and the state's outline. The state is kept until nobody has asked for a piece of it for a minute.
//! 4. It gives pieces of the state on demand ([`Ask::Pieces`]), any member those that the newcomer still lacks.
//!
//! All of it is sealed under the cluster's log key, so only workers that were given the cluster's keys can ask, and
//! nobody else can read the answers.
//!
//! # Taking
//! The newcomer believes an offer for the certificate of the epoch's members ([`Newcomer::offer`]) and a piece for the
//! offer's outline ([`phala_state::Restore`]). One broken member can thus make it waste time, but believe nothing. What
//! is above the offered state it takes from the log, as ever.
//!
//! Invariant: a state is kept for others for [`LONGEST_MS`] at most, and one at a time.

use crate::{
    Replica,
    cipher::{LogCipher, What},
    entry::MAX_LAG,
    layout::Note,
};
use codec::{Decode, DecodeAll, Encode};
use futures::channel::oneshot;
use phala_keys::ClusterKeys;
use phala_primitives::{
    ClusterId, Code, Coded, EntryHeader, Finality, Hash, PublicKey,
    records::{Anchor, cluster_namespace},
};
use phala_state::{Item, Outline, PIECES, Restore, Snapshot, StateKeys, StorageBackend};
use std::{collections::VecDeque, ops::Range, sync::Arc};

/// Time after the last piece for which a state is kept.
const UNUSED_MS: u64 = 60_000;
/// Longest time for which one is kept.
pub const LONGEST_MS: u64 = 20 * 60_000;
/// Longest time to wait for an entry that names a state, and how far ahead one may ask.
const WAIT_MS: u64 = 30_000;
/// How old a question may be.
const FRESH_MS: u64 = 60_000;
/// An answer with pieces ends once it holds so many bytes.
const ANSWER: usize = 4 << 20;
/// Largest question, in bytes.
const MAX_ASK: usize = 256;

/// A question of a newcomer or a reader.
#[derive(Encode, Decode)]
enum Ask {
    /// Keep and offer the state after the first entry from this time on.
    Offer { from_ms: u64 },
    /// Pieces from the first up to the second, as many as an answer holds.
    Pieces { height: u64, from: u16, to: u16 },
    /// What entries above this height changed, see [`crate::trail`].
    Changes { above: u64 },
}

/// A quorum's word for a state.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct Word {
    /// The entry that the state is the result of, and those above it up to the one that names the state's root.
    pub(crate) headers: Vec<EntryHeader>,
    /// Why the last of them is final.
    pub(crate) finality: Finality,
}

impl Word {
    /// The entry that the state is the result of, and the state's root, if a quorum of `members` vouches for them.
    pub(crate) fn check(
        &self,
        genesis: &Hash,
        cluster: ClusterId,
        members: &[PublicKey],
    ) -> Option<(&EntryHeader, Hash)> {
        let (first, last) = self.headers.first().zip(self.headers.last())?;
        let linked = self.headers.windows(2).all(|pair| match pair {
            [below, above] => above.follows(&below.anchor(), below.epoch),
            _ => false,
        });
        let vouched = linked
            && self.headers.len() > 1
            && self.headers.iter().all(|header| header.cluster == cluster)
            && last.executed.height == first.height
            && last.is_subject_of(&self.finality)
            && self.finality.certificate.verify(&cluster_namespace(genesis, cluster), members).is_ok();
        vouched.then_some((first, last.executed.state_root))
    }
}

/// What a member offers.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Offer {
    word: Word,
    outline: Outline,
}

impl Offer {
    /// The entry that the state is the result of.
    pub fn of(&self) -> Anchor {
        self.word.headers.first().map(EntryHeader::anchor).unwrap_or_default()
    }

    /// The entry that names the state's root.
    pub fn named_by(&self) -> Anchor {
        self.word.headers.last().map(EntryHeader::anchor).unwrap_or_default()
    }
}

/// The answer to a question.
pub enum Answer {
    /// Here it is.
    Now(Vec<u8>),
    /// To be asked again when this completes.
    Later(oneshot::Receiver<()>),
}

/// A state that is kept for others.
struct Copy {
    snapshot: Snapshot,
    offer: Offer,
    made_ms: u64,
    used_ms: u64,
}

/// States that are, or are about to be, kept for others.
#[derive(Default)]
pub(crate) struct Copies {
    /// From which time on a state is wanted.
    wanted_ms: Option<u64>,
    /// The states since, of which an entry is to name one.
    recent: VecDeque<(Snapshot, EntryHeader)>,
    kept: Option<Copy>,
}

impl Copies {
    /// Drops what nobody asks for any more.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        let over = |copy: &Copy| now_ms > copy.used_ms + UNUSED_MS || now_ms > copy.made_ms + LONGEST_MS;
        if self.kept.as_ref().is_some_and(over) {
            self.kept = None;
        }
        if self.wanted_ms.is_some_and(|from_ms| now_ms > from_ms.saturating_add(WAIT_MS)) {
            self.wanted_ms = None;
            self.recent.clear();
        }
    }

    /// Height of the state that is kept.
    fn height(&self) -> Option<u64> {
        self.kept.as_ref().map(|copy| copy.snapshot.applied().height)
    }

    /// An entry was executed: `snapshot` is the state after it.
    pub(crate) fn executed(
        &mut self,
        header: &EntryHeader,
        finality: &Finality,
        snapshot: impl FnOnce() -> Snapshot,
    ) -> Result<(), Coded> {
        let Some(from_ms) = self.wanted_ms else { return Ok(()) };
        if header.time_ms < from_ms {
            return Ok(());
        }
        self.recent.push_back((snapshot(), header.clone()));
        let named = header.executed.height;
        if let Some(at) = self.recent.iter().position(|(_, header)| header.height == named) {
            let headers = self.recent.iter().skip(at).map(|(_, header)| header.clone()).collect();
            let snapshot = self.recent.drain(..).nth(at).map(|(snapshot, _)| snapshot);
            let snapshot = snapshot.ok_or(Code::Internal)?;
            let outline = snapshot.outline()?;
            let offer = Offer { word: Word { headers, finality: finality.clone() }, outline };
            let (made_ms, used_ms) = (header.time_ms, header.time_ms);
            self.kept = Some(Copy { snapshot, offer, made_ms, used_ms });
            self.wanted_ms = None;
        } else if self.recent.len() > MAX_LAG as usize + 1 {
            self.recent.pop_front();
        }
        Ok(())
    }
}

/// A question or an answer: the epoch (u64, little endian) whose key it is under, its time likewise, then ciphertext.
fn seal(cipher: &LogCipher, what: What, epoch: u64, time_ms: u64, text: &[u8]) -> Result<Vec<u8>, Coded> {
    let mut sealed = [epoch.to_le_bytes(), time_ms.to_le_bytes()].concat();
    sealed.extend(cipher.seal(what, epoch, time_ms, text)?);
    Ok(sealed)
}

fn open(cipher: &LogCipher, what: What, sealed: &[u8]) -> Option<(u64, u64, Vec<u8>)> {
    let (epoch, rest) = sealed.split_first_chunk::<8>()?;
    let (time, text) = rest.split_first_chunk::<8>()?;
    let (epoch, time_ms) = (u64::from_le_bytes(*epoch), u64::from_le_bytes(*time));
    Some((epoch, time_ms, cipher.open(what, epoch, time_ms, text)?))
}

/// Asks for what entries above a height changed.
pub(crate) fn ask_changes(cipher: &LogCipher, epoch: u64, above: u64, now_ms: u64) -> Result<Vec<u8>, Coded> {
    seal(cipher, What::Ask, epoch, now_ms, &Ask::Changes { above }.encode())
}

/// What a sealed answer holds.
pub(crate) fn answer<T: Decode>(cipher: &LogCipher, sealed: &[u8]) -> Result<T, Coded> {
    let (.., text) = open(cipher, What::Copy, sealed).ok_or(Code::Malformed)?;
    T::decode_all(&mut text.as_slice()).map_err(|_| Code::Malformed.into())
}

#[cfg(test)]
pub(crate) fn seal_answer(cipher: &LogCipher, epoch: u64, time_ms: u64, text: &[u8]) -> Vec<u8> {
    seal(cipher, What::Copy, epoch, time_ms, text).unwrap()
}

impl Replica {
    /// Answers a newcomer or a reader, see the module's documentation. For hostile input.
    ///
    /// Errors: `Malformed` if it was not asked with the cluster's keys; `Expired` if that was a while ago, or in another
    /// epoch; `NotReady` if the state is not kept
    /// here, or not any more, or what was changed.
    pub fn asked(&self, message: &[u8], now_ms: u64) -> Result<Answer, Coded> {
        let known = (message.len() <= MAX_ASK).then(|| open(&self.entries.cipher, What::Ask, message)).flatten();
        let (epoch, sent_ms, ask) = known.ok_or(Code::Malformed)?;
        if sent_ms.abs_diff(now_ms) > FRESH_MS {
            return Err(Code::Expired.into());
        }
        // Who was a member of an earlier epoch knows its keys for ever.
        let present = self.ready_epoch().map_err(|_| Code::Busy)?;
        if epoch != present {
            return Err(Coded::new(Code::Expired, format!("asked in epoch {epoch}, this is {present}")));
        }
        let answer = match Ask::decode_all(&mut ask.as_slice()).map_err(|_| Code::Malformed)? {
            Ask::Offer { from_ms } => {
                let next = self.reached(self.applied().height.saturating_add(1))?;
                let Some(offer) = self.offer(from_ms, now_ms)? else { return Ok(Answer::Later(next)) };
                offer.encode()
            }
            Ask::Pieces { height, from, to } => self.pieces(height, from..to.min(PIECES), now_ms)?,
            Ask::Changes { above } => {
                let next = self.reached(self.applied().height.saturating_add(1))?;
                let Some(steps) = self.trail.lock().steps(above, self.applied().height, now_ms)? else {
                    return Ok(Answer::Later(next));
                };
                steps.encode()
            }
        };
        seal(&self.entries.cipher, What::Copy, epoch, sent_ms, &answer).map(Answer::Now)
    }

    fn offer(&self, from_ms: u64, now_ms: u64) -> Result<Option<Offer>, Coded> {
        let mut copies = self.copies.lock();
        copies.expire(now_ms);
        if let Some(copy) = &mut copies.kept {
            copy.used_ms = now_ms;
            return Ok(Some(copy.offer.clone()));
        }
        if from_ms > now_ms.saturating_add(WAIT_MS) {
            return Err(Coded::new(Code::Expired, "it asks for a state too far ahead"));
        }
        copies.wanted_ms.get_or_insert(from_ms.max(now_ms.saturating_sub(WAIT_MS)));
        drop(copies);
        // An idle cluster need not wait for its heartbeat.
        self.urge();
        Ok(None)
    }

    fn pieces(&self, height: u64, wanted: Range<u16>, now_ms: u64) -> Result<Vec<u8>, Coded> {
        let mut copies = self.copies.lock();
        copies.expire(now_ms);
        let copy = copies.kept.as_mut().filter(|copy| copy.snapshot.applied().height == height);
        let copy = copy.ok_or_else(|| Coded::new(Code::NotReady, "that state is not kept here"))?;
        copy.used_ms = now_ms;
        let snapshot = copy.snapshot.clone();
        drop(copies);
        let (mut pieces, mut size): (Vec<(u16, Vec<Item>)>, usize) = (vec![], 0);
        for piece in wanted {
            let items = snapshot.piece(piece)?;
            size += items.encoded_size();
            pieces.push((piece, items));
            if size >= ANSWER {
                break;
            }
        }
        Ok(pieces.encode())
    }

    /// Lets entries go that lie below a height that the chain was shown, as far as the state is on the disk and nobody
    /// copies a state below. Returns the height below which they may be gone.
    pub fn prune(&self, below: u64) -> Result<u64, Coded> {
        let copied = self.copies.lock().height().unwrap_or(u64::MAX);
        let below = below.min(self.state.durable_height()).min(copied);
        self.journal.prune(below)?;
        if let Some(oldest) = self.journal.oldest_epoch()?
            && let Ok(present) = self.ready_epoch()
        {
            self.entries.cipher.forget(oldest.min(present));
        }
        Ok(below)
    }

    /// What this replica needs to take a state from others. The replica itself is of no use then: its state is replaced.
    pub fn newcomer(&self) -> Newcomer {
        Newcomer {
            genesis: self.genesis_hash,
            cluster: self.entries.cluster,
            cipher: self.entries.cipher.clone(),
            state: self.state.keys().clone(),
        }
    }
}

/// One that takes a state from members of the cluster.
pub struct Newcomer {
    genesis: Hash,
    cluster: ClusterId,
    cipher: Arc<LogCipher>,
    state: StateKeys,
}

impl Newcomer {
    /// Knows the keys of further epochs as well: it asks under those of the present one.
    pub fn learn(&self, keys: &ClusterKeys) -> Result<(), Coded> {
        for epoch in keys.epochs() {
            self.state.learn(epoch, keys.state_value(epoch).ok_or(Code::Internal)?.expose());
        }
        self.cipher.learn(keys)
    }

    /// The newest epoch whose keys it knows.
    pub fn newest_keys(&self) -> u64 {
        self.cipher.newest()
    }

    fn ask(&self, epoch: u64, now_ms: u64, ask: &Ask) -> Result<Vec<u8>, Coded> {
        seal(&self.cipher, What::Ask, epoch, now_ms, &ask.encode())
    }

    fn answer<T: Decode>(&self, sealed: &[u8]) -> Result<T, Coded> {
        answer(&self.cipher, sealed)
    }

    /// Asks for the state after the first entry from a time on, in milliseconds since 1970. `epoch` is the present one.
    pub fn ask_offer(&self, epoch: u64, from_ms: u64, now_ms: u64) -> Result<Vec<u8>, Coded> {
        self.ask(epoch, now_ms, &Ask::Offer { from_ms })
    }

    /// Asks for pieces of the state of an offer.
    pub fn ask_pieces(&self, epoch: u64, offer: &Offer, wanted: Range<u16>, now_ms: u64) -> Result<Vec<u8>, Coded> {
        self.ask(epoch, now_ms, &Ask::Pieces { height: offer.of().height, from: wanted.start, to: wanted.end })
    }

    /// The offer in an answer, if a quorum of `members`, those of that epoch, vouches for it, and it is not below what
    /// the chain was shown.
    pub fn offer(&self, answer: &[u8], epoch: u64, members: &[PublicKey], shown: &Anchor) -> Result<Offer, Coded> {
        let offer: Offer = self.answer(answer)?;
        let place = offer.of();
        let newer = place.height > shown.height || place == *shown;
        let vouched = offer.word.check(&self.genesis, self.cluster, members).map(|(_, root)| root);
        let present = offer.word.finality.certificate.epoch == epoch;
        if !present || !newer || vouched.is_none() || offer.outline.root() != vouched {
            return Err(Coded::new(Code::BadFinality, "a member offers a state that no quorum vouches for"));
        }
        Ok(offer)
    }

    /// Pieces in an answer. What they are worth is for [`Restore::put`] to say.
    pub fn pieces(&self, answer: &[u8]) -> Result<Vec<(u16, Vec<Item>)>, Coded> {
        self.answer(answer)
    }

    /// Begins, or goes on, to put the state together in a file of the host.
    pub fn restore(&self, offer: &Offer, file: impl StorageBackend) -> Result<Restore, Coded> {
        Restore::open(file, self.state.clone(), offer.outline.clone()).map_err(Coded::from)
    }

    /// Makes what was put together the state of a replica.
    pub fn finish(&self, offer: &Offer, restore: Restore) -> Result<(), Coded> {
        let header = offer.word.headers.first().ok_or(Code::Internal)?;
        let Anchor { height, digest } = header.anchor();
        restore.finish(height, digest, Note::of(header).encode()).map_err(Coded::from)
    }
}

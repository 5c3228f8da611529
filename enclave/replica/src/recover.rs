//! From what a start finds on its disk to membership in an epoch.

use crate::{
    Replica,
    block::{make_block, open_block},
    layout::Note,
};
use phala_primitives::{
    Block, Code, Coded, EntryHeader, Finality, Hash, PublicKey, Verdict,
    records::{Anchor, Seal, cluster_namespace},
};
use phala_state::Applied;

/// The highest entry that a replica holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// Its height and digest; 0 and zero if there is none.
    pub anchor: Anchor,
    /// Its header and why it is final, unless there is no entry or the log has lost it.
    pub proof: Option<(EntryHeader, Finality)>,
}

/// The epoch that a replica is a member of.
pub(crate) struct Epoch {
    pub(crate) number: u64,
    pub(crate) genesis: Block,
    pub(crate) floor: u64,
    /// Time of the entry at the floor: all later ones are later.
    pub(crate) floor_time_ms: u64,
}

/// Whether an entry follows directly upon a state.
pub(crate) fn follows(header: &EntryHeader, applied: &Applied, note: &Note) -> bool {
    header.follows(&Anchor { height: applied.height, digest: applied.digest }, note.epoch)
}

impl Replica {
    /// Replays what the entry log holds above the state. What does not follow, or was not sealed by a member of the
    /// cluster, is cut off: peers have it, if it ever was final.
    ///
    /// `known` is an epoch and its members: entries of that epoch must carry their certificate.
    pub(crate) fn replay(&self, known: Option<&(u64, Vec<PublicKey>)>) -> Result<(), Coded> {
        let applied = self.state.applied();
        if let Some(record) = self.journal.read(applied.height)?
            && record.block().0.digest() != applied.digest
        {
            return Err(Coded::new(Code::StorageFailed, "state and entry log are of different histories"));
        }
        let namespace = cluster_namespace(&self.genesis_hash, self.entries.cluster);
        let mut height = applied.height + 1;
        while let Some(record) = self.journal.read(height)? {
            let (block, finality) = record.block();
            let proven = match known {
                Some((epoch, members)) if *epoch == finality.certificate.epoch => {
                    finality.certificate.verify(&namespace, members).is_ok()
                }
                _ => true,
            };
            if !proven || !self.extends(&block, &finality)? {
                break;
            }
            self.apply_final(&block, &finality)?;
            height += 1;
        }
        self.journal.truncate(height)
    }

    /// Whether a block follows directly upon the state, with a certificate that is about it.
    fn extends(&self, block: &Block, finality: &Finality) -> Result<bool, Coded> {
        let Some(header) = open_block(block, self.entries.cluster) else { return Ok(false) };
        let snapshot = self.state.snapshot();
        let note = Note::read(snapshot.note())?;
        let certified = header.is_subject_of(finality);
        Ok(certified && follows(&header, &snapshot.applied(), &note))
    }

    /// The highest entry that this replica holds, to be reported to the chain.
    pub fn anchor(&self) -> Result<Held, Coded> {
        let applied = self.state.applied();
        let anchor = Anchor { height: applied.height, digest: applied.digest };
        let block = self.journal.read(applied.height)?.map(|record| record.block());
        let proof = block.filter(|(block, _)| block.digest() == applied.digest);
        let header = |block: &Block| open_block(block, self.entries.cluster);
        Ok(Held { anchor, proof: proof.and_then(|(block, finality)| Some((header(&block)?, finality))) })
    }

    /// Headers of entries from this height on, at most [`phala_session::MAX_HEADERS`], as far as the log goes.
    pub fn history(&self, from: u64) -> Result<Vec<EntryHeader>, Coded> {
        let (last, mut headers) = (self.applied().height, vec![]);
        for height in (from.max(1)..=last).take(phala_session::MAX_HEADERS) {
            let record = self.journal.read(height)?;
            let Some(header) = record.and_then(|record| open_block(&record.block().0, self.entries.cluster)) else {
                break;
            };
            headers.push(header);
        }
        Ok(headers)
    }

    /// Takes entries from a peer's entry log, from the height above the own one, as that log holds them; at most up to
    /// `floor`. Returns the height reached. Each must have been sealed by a member of the cluster and follow the one
    /// before; whether they lead to the floor is for [`Replica::enter`] to find.
    ///
    /// Errors: `BadFinality` if the next one is not such an entry: ask another peer.
    pub fn catch_up(&self, entries: &[Vec<u8>], floor: &Anchor) -> Result<u64, Coded> {
        let bad = || Coded::new(Code::BadFinality, "a peer's entry does not follow the own log");
        for sealed in entries {
            let height = self.state.applied().height + 1;
            if height > floor.height {
                break;
            }
            let (block, finality) = self.journal.open(height, sealed).ok_or_else(bad)?.block();
            if !self.extends(&block, &finality)? || (height == floor.height && block.digest() != floor.digest) {
                return Err(bad());
            }
            self.guard(|| self.apply_final(&block, &finality))?;
        }
        Ok(self.state.applied().height)
    }

    /// Makes the replica a member of an epoch whose log starts at `floor`. `members` are the identities that vote.
    ///
    /// Errors: `NotMember`; `NotReady` if the replica is below the floor ([`Replica::catch_up`]), or was not told the
    /// epoch's keys ([`Replica::learn`]); `StorageFailed` if it holds another history than the floor's, so that its folder
    /// is of no use.
    pub fn enter(&self, epoch: u64, members: &[PublicKey], floor: &Anchor) -> Result<(), Coded> {
        let place = members.iter().position(|member| *member == self.identity()).ok_or(Code::NotMember)?;
        let snapshot = self.state.snapshot();
        let applied = snapshot.applied();
        if applied.height < floor.height {
            let detail = format!("it holds entries up to {}, the epoch starts at {}", applied.height, floor.height);
            return Err(Coded::new(Code::NotReady, detail));
        }
        let digest = if applied.height == 0 { Hash::ZERO } else { applied.digest };
        if applied.height > floor.height || digest != floor.digest {
            return Err(Coded::new(Code::StorageFailed, "this replica holds another history than the epoch's floor"));
        }
        let note = Note::read(snapshot.note())?;
        if applied.height > 0 && epoch <= note.epoch {
            return Err(Coded::new(Code::Internal, format!("epoch {epoch} is not newer than {}", note.epoch)));
        }
        if !self.entries.cipher.knows(epoch) {
            return Err(Coded::new(Code::NotReady, format!("it has no keys of epoch {epoch}")));
        }
        let block = make_block(&EntryHeader::genesis(self.entries.cluster, epoch, floor), vec![]);
        let entered = Epoch { number: epoch, genesis: block, floor: floor.height, floor_time_ms: note.time_ms };
        self.entries.checker.set_members(members);
        self.executor.jobs().set_member(place as u64, members.len() as u64);
        *self.sealing.write() = None;
        *self.epoch.write() = Some(entered);
        // What the old log's proposals held that were left behind waits again.
        self.pool.lock().finalized(u64::MAX);
        Ok(())
    }

    /// Finishes the log of the epoch with an entry that carries this seal, which the chain has planned: see
    /// `phala_primitives::records::seal`. A member votes for such an entry only once it was told the same.
    pub fn seal(&self, seal: Hash) {
        let mut sealing = self.sealing.write();
        if sealing.replace(seal) != Some(seal) {
            drop(sealing);
            self.urge();
        }
    }

    /// The entry that finished the epoch's log and why it is final, once it was executed: to be reported to the chain.
    pub fn sealed(&self) -> Result<Option<Held>, Coded> {
        let note = Note::read(self.state.snapshot().note())?;
        let present = self.epoch.read().as_ref().is_some_and(|epoch| epoch.number == note.epoch);
        if note.sealed && present { self.anchor().map(Some) } else { Ok(None) }
    }

    /// Whether the log is finished by an entry of `ancestry` or one below; `None` if this member cannot tell yet.
    fn is_over(&self, ancestry: &[Block]) -> Option<bool> {
        let headers: Vec<EntryHeader> =
            ancestry.iter().map(|block| open_block(block, self.entries.cluster)).collect::<Option<_>>()?;
        let snapshot = self.state.snapshot();
        let (applied, note) = (snapshot.applied().height, Note::read(snapshot.note()).ok()?);
        let below = self.below(ancestry, applied);
        let lowest = below.last().map(|decoded| &decoded.header).or(headers.first())?;
        let present = self.epoch.read().as_ref().map(|epoch| epoch.number)?;
        let last = |header: &EntryHeader| header.seal != Seal::Open;
        let seen = headers.iter().any(last) || below.iter().any(|decoded| last(&decoded.header));
        let over = seen || (note.sealed && note.epoch == present);
        // Between what was executed and what is known there may be an entry that is not.
        (over || lowest.height <= applied.saturating_add(1)).then_some(over)
    }

    /// The seal of an entry upon `ancestry`; `None`: not now.
    pub(crate) fn seal_upon(&self, ancestry: &[Block]) -> Option<Seal> {
        let Some(seal) = *self.sealing.read() else { return Some(Seal::Open) };
        Some(if self.is_over(ancestry)? { Seal::Behind } else { Seal::Last(seal) })
    }

    /// Judges the seal that an entry carries. A member that knows of no plan leaves it to those who do: a log is
    /// finished by a quorum, and a quorum has to go on from there.
    pub(crate) fn check_seal(&self, ancestry: &[Block], header: &EntryHeader) -> Verdict {
        let sealing = *self.sealing.read();
        if header.seal == Seal::Behind && header.count > 0 {
            return Verdict::Reject;
        }
        let Some(own) = sealing else {
            return if matches!(header.seal, Seal::Last(_)) { Verdict::Later } else { Verdict::Accept };
        };
        match (self.is_over(ancestry), header.seal) {
            (None, _) => Verdict::Later,
            (Some(true), Seal::Behind) | (Some(false), Seal::Open) => Verdict::Accept,
            (Some(false), Seal::Last(seal)) if seal == own => Verdict::Accept,
            // The chain may be further than this member knows.
            (Some(false), Seal::Last(_)) => Verdict::Later,
            (Some(true), _) | (Some(false), Seal::Behind) => Verdict::Reject,
        }
    }
}

//! Making and judging entries.

use crate::{
    block::make_block,
    bridge::Memory,
    check::{Checker, Key, is_hook},
    cipher::{LogCipher, What},
    execute::Ordered,
    pool::Pool,
};
use codec::{Compact, DecodeAll, Encode};
use phala_primitives::{
    Block, ClusterId, Coded, EntryHeader, Executed, Hash, Position, Verdict, blake2_256,
    limits::{MAX_ENTRY, MAX_ENTRY_COMMANDS},
    merkle,
    records::Seal,
};
use phala_session::SignedCommand;
use phala_state::{EMPTY_ROOT, Snapshot};
use std::{collections::BTreeSet, sync::Arc};

/// How far a leader's clock may be from a voter's, in milliseconds.
pub(crate) const DRIFT_MS: u64 = 2_000;
/// How many entries the state that a leader names may be behind. A cluster that executes slower than it orders waits.
pub(crate) const MAX_LAG: u64 = 64;
/// Most HTTP requests of hooks in one entry: the others need room.
const MAX_HOOKS: usize = 64;
/// What the count in front of a body may take.
const COUNT: usize = 4;

/// What entries are made and judged with.
pub(crate) struct Entries {
    pub(crate) cluster: ClusterId,
    pub(crate) cipher: Arc<LogCipher>,
    pub(crate) checker: Checker,
}

/// What a new entry follows.
pub(crate) struct Before {
    pub(crate) header: EntryHeader,
    pub(crate) digest: Hash,
    /// Time that a child must exceed.
    pub(crate) time_ms: u64,
}

fn root(commands: &[Ordered]) -> Hash {
    let hashes: Vec<Hash> = commands.iter().map(|ordered| ordered.hash).collect();
    merkle::root(&hashes)
}

impl Entries {
    /// Makes an entry of what waits, without what `excluded` holds.
    pub(crate) fn build(
        &self,
        at: Position,
        parent: &Before,
        executed: Executed,
        seal: Seal,
        (pool, excluded): (&Pool, &BTreeSet<Key>),
    ) -> Result<(EntryHeader, Block, Vec<Ordered>), Coded> {
        let height = parent.header.height + 1;
        let time_ms = at.now_ms.max(parent.time_ms + 1);
        let (commands, body) = match seal {
            Seal::Behind => (vec![], Vec::<SignedCommand>::new().encode()),
            Seal::Open | Seal::Last(_) => self.choose(pool, excluded, time_ms),
        };
        let body = self.cipher.seal(What::Body, at.epoch, height, &body)?;
        let header = EntryHeader {
            cluster: self.cluster,
            epoch: at.epoch,
            height,
            view: at.view,
            parent: parent.digest,
            seal,
            time_ms,
            executed,
            commands_root: root(&commands),
            count: commands.len() as u32,
            body_hash: blake2_256(&body),
        };
        let block = make_block(&header, body);
        Ok((header, block, commands))
    }

    /// Commands that fit into one entry, and the entry's plaintext.
    fn choose(&self, pool: &Pool, excluded: &BTreeSet<Key>, time_ms: u64) -> (Vec<Ordered>, Vec<u8>) {
        let (mut commands, mut room, mut hooks) = (vec![], MAX_ENTRY - COUNT, 0);
        for (_, pending) in pool.waiting(excluded) {
            if commands.len() == MAX_ENTRY_COMMANDS {
                break;
            }
            if is_hook(&pending.command) {
                hooks += 1;
                if hooks > MAX_HOOKS {
                    continue;
                }
            }
            // A large one that does not fit any more must not be overtaken for ever: it ends the entry.
            let Some(left) = room.checked_sub(pending.size) else { if commands.is_empty() { continue } else { break } };
            if self.checker.check(&pending.command, &pending.hash, time_ms).is_ok() {
                room = left;
                commands.push(Ordered { command: pending.command.clone(), hash: pending.hash });
            }
        }
        let mut body = Compact(commands.len() as u32).encode();
        commands.iter().for_each(|ordered| ordered.command.encode_to(&mut body));
        (commands, body)
    }

    /// The commands of an entry, if its body is what its header says. For hostile input.
    pub(crate) fn decode(&self, header: &EntryHeader, block: &Block) -> Option<Vec<Ordered>> {
        let body = self.cipher.open(What::Body, header.epoch, header.height, &block.body)?;
        if body.len() > MAX_ENTRY || header.count as usize > MAX_ENTRY_COMMANDS {
            return None;
        }
        let commands = Vec::<SignedCommand>::decode_all(&mut body.as_slice()).ok()?;
        let commands: Vec<Ordered> =
            commands.into_iter().map(|c| Ordered { hash: c.hash(), command: Arc::new(c) }).collect();
        let binds = commands.len() == header.count as usize && root(&commands) == header.commands_root;
        binds.then_some(commands)
    }

    /// Judges place and time of an entry.
    pub(crate) fn check_place(&self, at: Position, parent: &Before, header: &EntryHeader) -> Verdict {
        let follows = header.cluster == self.cluster
            && header.epoch == at.epoch
            && header.view == at.view
            && parent.header.height.checked_add(1) == Some(header.height)
            && header.parent == parent.digest
            && header.time_ms > parent.time_ms;
        if !follows || header.time_ms.saturating_add(DRIFT_MS) < at.now_ms {
            return Verdict::Reject;
        }
        // A parent that is ahead of this clock makes its children so, too.
        if header.time_ms > at.now_ms.saturating_add(DRIFT_MS) && header.time_ms > parent.time_ms + 1 {
            return Verdict::Later;
        }
        Verdict::Accept
    }

    /// Judges the state that the leader names by this replica's own.
    pub(crate) fn check_executed(
        parent: &EntryHeader,
        header: &EntryHeader,
        state: &Snapshot,
        memory: &Memory,
    ) -> Verdict {
        let named = header.executed;
        let recent = named.height.saturating_add(MAX_LAG) >= header.height;
        if named.height < parent.executed.height || named.height >= header.height || !recent {
            return Verdict::Reject;
        }
        if named.height > state.applied().height {
            return Verdict::Later;
        }
        let own = if named.height == 0 { Ok(Some(EMPTY_ROOT)) } else { state.root_at(named.height) };
        match own {
            Ok(Some(own)) if own == named.state_root && memory.at(named.height) == Some(named.crossing) => {
                Verdict::Accept
            }
            Ok(_) => Verdict::Reject,
            // The own disk says nothing about the leader.
            Err(_) => Verdict::Later,
        }
    }

    /// Judges the commands of an entry.
    pub(crate) fn check_commands(&self, header: &EntryHeader, commands: &[Ordered]) -> Verdict {
        let mut seen = BTreeSet::new();
        let good = commands.iter().all(|ordered| {
            seen.insert(ordered.key()) && self.checker.check(&ordered.command, &ordered.hash, header.time_ms).is_ok()
        });
        if good { Verdict::Accept } else { Verdict::Reject }
    }
}

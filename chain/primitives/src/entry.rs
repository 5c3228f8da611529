//! The header of an entry in a cluster's log, as its members sign it, and the chain, replicas and clients read it.

use crate::{
    ClusterId, Finality, Hash, blake2_256,
    bridge::Crossing,
    records::{Anchor, Seal},
};
use codec::{Decode, DecodeAll, Encode};

/// A state that a replica has computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct Executed {
    /// Height of the last entry in it.
    pub height: u64,
    /// Root of the state after that entry.
    pub state_root: Hash,
    /// Traffic with the chain in that state.
    pub crossing: Crossing,
}

/// Header of an entry of a cluster's command log. Its hash is what the members sign.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct EntryHeader {
    /// The cluster.
    pub cluster: ClusterId,
    /// Epoch of the cluster.
    pub epoch: u64,
    /// Height in the log; grows by one with each entry, through all epochs.
    pub height: u64,
    /// View of the consensus in which it was proposed.
    pub view: u64,
    /// Digest of the entry below.
    pub parent: Hash,
    /// Whether it is the last one of its epoch.
    pub seal: Seal,
    /// The leader's clock, in milliseconds since 1970; greater than the parent's.
    pub time_ms: u64,
    /// Newest state that the leader knew, which every voter compared with its own.
    pub executed: Executed,
    /// Merkle root over the hashes of the signed commands.
    pub commands_root: Hash,
    /// Number of commands.
    pub count: u32,
    /// BLAKE2b-256 of the encrypted body.
    pub body_hash: Hash,
}

impl EntryHeader {
    /// The header that an epoch's log starts from: it names the floor and holds nothing.
    pub fn genesis(cluster: ClusterId, epoch: u64, floor: &Anchor) -> Self {
        Self {
            cluster,
            epoch,
            height: floor.height,
            view: 0,
            parent: floor.digest,
            seal: Seal::Open,
            time_ms: 0,
            executed: Executed::default(),
            commands_root: Hash::ZERO,
            count: 0,
            body_hash: blake2_256(&[]),
        }
    }

    /// Its place in the log.
    pub fn anchor(&self) -> Anchor {
        Anchor { height: self.height, digest: self.digest() }
    }

    /// Whether it follows directly upon an entry of that epoch: in the same epoch, or as the first of a later one.
    pub fn follows(&self, below: &Anchor, epoch: u64) -> bool {
        if below.height.checked_add(1) != Some(self.height) || self.epoch < epoch {
            return false;
        }
        // Before the first entry there is none that the first could name.
        let same = self.epoch == epoch && below.height > 0;
        let genesis = || Self::genesis(self.cluster, self.epoch, below).digest();
        self.parent == if same { below.digest } else { genesis() }
    }

    /// What the members sign.
    pub fn digest(&self) -> Hash {
        blake2_256(&self.encode())
    }

    /// Whether a proof of finality is about this entry. Who signed it is for the caller to check.
    pub fn is_subject_of(&self, finality: &Finality) -> bool {
        let parent = |bytes: &[u8]| {
            let child = Self::decode_all(&mut &*bytes).ok();
            child.filter(|child| child.epoch == self.epoch).map(|child| child.parent)
        };
        finality.certificate.epoch == self.epoch && finality.leads_from(self.digest(), parent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_follows_the_one_below_or_the_floor_of_its_epoch() {
        let floor = Anchor { height: 7, digest: Hash([7; 32]) };
        let above = |epoch, parent| EntryHeader { epoch, height: 8, parent, ..EntryHeader::genesis(1, epoch, &floor) };
        let started = |epoch| EntryHeader::genesis(1, epoch, &floor).digest();
        assert!(above(2, floor.digest).follows(&floor, 2));
        assert!(above(3, started(3)).follows(&floor, 2));
        assert!(above(5, started(5)).follows(&floor, 2), "an epoch may end without an entry");
        assert!(!above(3, floor.digest).follows(&floor, 2), "a new epoch begins with its own genesis");
        assert!(!above(3, started(4)).follows(&floor, 2));
        assert!(!above(2, started(2)).follows(&floor, 2));
        assert!(!above(1, started(1)).follows(&floor, 2), "an epoch never goes back");
        let skipping = EntryHeader { height: 9, ..above(2, floor.digest) };
        assert!(!skipping.follows(&floor, 2));
        // Below the first entry there is none.
        let (none, first) = (Anchor::default(), EntryHeader::genesis(1, 0, &Anchor::default()));
        assert!(EntryHeader { height: 1, parent: first.digest(), ..first.clone() }.follows(&none, 0));
        assert!(!EntryHeader { height: 1, parent: Hash::ZERO, ..first }.follows(&none, 0));
    }
}

//! The proof that a cluster's log reached an entry.

use codec::{Decode, Encode};
use phala_primitives::{ClusterId, Finality, Hash, PublicKey, blake2_256, records};

/// Shows that a height of a cluster's log has a digest: the certificate signs the digest, and the header behind the
/// digest names the height.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct AnchorProof {
    /// SCALE encoding of the entry's header. It begins with cluster (u32), epoch (u64), height (u64), view (u64), the
    /// parent's digest, and its [`records::Seal`].
    pub header: Vec<u8>,
    /// Why the entry is final.
    pub finality: Finality,
}

fn parent(header: &[u8]) -> Option<Hash> {
    <(ClusterId, u64, u64, u64, Hash)>::decode(&mut &*header).ok().map(|(.., parent)| parent)
}

impl AnchorProof {
    /// Whether the entry is the last of its epoch's log; `None` if that cannot be read.
    pub fn seal(&self) -> Option<records::Seal> {
        <(ClusterId, u64, u64, u64, Hash, records::Seal)>::decode(&mut &*self.header).ok().map(|(.., seal)| seal)
    }

    /// Whether the epoch's members, who vote with `identities`, finalised the entry that `anchor` names.
    pub fn proves(
        &self,
        genesis: &Hash,
        cluster: ClusterId,
        epoch: u64,
        identities: &[PublicKey],
        anchor: &records::Anchor,
    ) -> bool {
        let place = <(ClusterId, u64, u64)>::decode(&mut self.header.as_slice());
        place == Ok((cluster, epoch, anchor.height))
            && blake2_256(&self.header) == anchor.digest
            && self.finality.leads_from(anchor.digest, parent)
            && self.finality.certificate.epoch == epoch
            && self.finality.certificate.verify(&records::cluster_namespace(genesis, cluster), identities).is_ok()
    }
}

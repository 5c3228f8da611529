//! The proof that a cluster's log reached an entry.

use codec::{Decode, Encode};
use phala_primitives::{EntryHeader, Finality, Hash, records};

/// Shows that an entry is in a cluster's log, and with it all that its header says.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct AnchorProof {
    /// The entry's header.
    pub header: EntryHeader,
    /// Why the entry is final.
    pub finality: Finality,
}

impl AnchorProof {
    /// Whether the members of the cluster's present epoch finalised the entry in that epoch.
    pub fn proves(&self, genesis: &Hash, record: &records::ClusterRecord) -> bool {
        let identities: Vec<_> = record.members.iter().map(|member| member.identity).collect();
        let namespace = records::cluster_namespace(genesis, self.header.cluster);
        self.header.epoch == record.epoch
            && self.header.is_subject_of(&self.finality)
            && self.finality.certificate.verify(&namespace, &identities).is_ok()
    }
}

//! The proof that a cluster's log reached an entry.

use crate::{
    limits::MAX_PROOF,
    pallet::{Clusters, Config, Error, Pallet, StuckSince},
};
use codec::{Decode, DecodeAll, Encode};
use frame_support::ensure;
use pallet_registry::Pallet as Registry;
use phala_primitives::{
    ClusterId, EntryHeader, Finality, Hash,
    records::{self, Checkpoint, ClusterRecord, Seal},
};
use sp_runtime::SaturatedConversion;

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

impl<T: Config> Pallet<T> {
    /// What an encoded [`AnchorProof`] shows of the log of the present epoch. It is the new checkpoint if it is the
    /// newest that was shown; `lives` says whether that means that the cluster goes on.
    pub(crate) fn shown(
        cluster: ClusterId,
        record: &mut ClusterRecord,
        proof: &[u8],
        lives: bool,
    ) -> Result<AnchorProof, Error<T>> {
        ensure!(proof.len() <= MAX_PROOF, Error::<T>::NoProof);
        let proof = AnchorProof::decode_all(&mut &*proof).map_err(|_| Error::<T>::BadProof)?;
        let header = &proof.header;
        // Behind the end of a log there is nothing that a replica would keep.
        let here = header.cluster == cluster && header.seal != Seal::Behind;
        ensure!(here && proof.proves(&Registry::<T>::genesis_hash(), record), Error::<T>::BadProof);
        if header.height > record.checkpoint.anchor.height {
            let block = frame_system::Pallet::<T>::block_number().saturated_into();
            let alive_ms = if lives { Self::now_ms() } else { record.checkpoint.alive_ms };
            record.checkpoint = Checkpoint { anchor: header.anchor(), epoch: header.epoch, block, alive_ms };
            Clusters::<T>::insert(cluster, &*record);
        }
        if lives {
            StuckSince::<T>::remove(cluster);
        }
        Ok(proof)
    }
}

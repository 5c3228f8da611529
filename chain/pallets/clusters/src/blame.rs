//! Members that are proven to be faulty or hostile.
//!
//! Anyone may bring a [proof](phala_primitives::misbehaviour) that a member voted against itself, or vouched for a state
//! that its cluster does not have ([`convict`](crate::Call::convict)). It is judged by the members that the epoch named in
//! it had, however long ago, and recorded against the worker, once for each offence. The worker then
//! - loses its seat, present or promised, to a worker of the pool, as a silent member does. If there is nobody to take it,
//!   or too many would leave at once, it stays until another member [accuses](crate::Call::accuse) it: of a worker that
//!   is barred one accusation is enough. A reader loses its place at once.
//! - gets no seat and waits in no pool for [`BARRED`] blocks, under whatever identity. Each further offence begins
//!   that time anew.
//!
//! Deliberately absent: a pardon, which would need somebody whose word counts more than the proof; and slashing, which
//! needs a stake.
//!
//! Invariant: nobody is convicted by anyone's word, only by its own signatures.

use crate::{
    limits::BARRED,
    pallet::{Clusters, Config, Convictions, Epochs, Error, Event, Offences, Pallet, Placement, Pool},
};
use frame_support::ensure;
use pallet_registry::Pallet as Registry;
use phala_primitives::{
    AccountId, ClusterId,
    misbehaviour::{Misbehaviour, MisbehaviourError},
    records::ConvictionRecord,
};
use sp_runtime::AccountId32;

impl<T> From<MisbehaviourError> for Error<T> {
    fn from(error: MisbehaviourError) -> Self {
        match error {
            MisbehaviourError::NotMember => Self::NotMember,
            MisbehaviourError::NoConflict => Self::NoOffence,
            MisbehaviourError::Elsewhere | MisbehaviourError::Signature | MisbehaviourError::Finality(_) => {
                Self::BadProof
            }
        }
    }
}

impl<T: Config> Pallet<T> {
    pub(crate) fn do_convict(cluster: ClusterId, proof: &[u8]) -> Result<(), Error<T>> {
        let proof = Misbehaviour::read(proof).ok_or(Error::<T>::BadProof)?;
        let offence = proof.offence(cluster);
        ensure!(!Offences::<T>::contains_key(&offence), Error::<T>::NothingNew);
        let members = Epochs::<T>::get(cluster, offence.epoch).ok_or(Error::<T>::NoEpoch)?;
        let identities: Vec<_> = members.iter().map(|member| member.identity).collect();
        proof.verify(&Registry::<T>::genesis_hash(), cluster, &identities)?;
        let guilty = members.iter().find(|member| member.identity == offence.identity);
        let worker = guilty.ok_or(Error::<T>::NotMember)?.worker;

        let key = AccountId32::new(worker.0);
        Offences::<T>::insert(&offence, Self::now());
        Convictions::<T>::mutate(&key, |known| {
            let count = known.as_ref().map_or(0, |known| known.count).saturating_add(1);
            let barred_until = Self::now().saturating_add(BARRED);
            *known = Some(ConvictionRecord { count, barred_until, latest: offence.clone() });
        });
        Self::deposit_event(Event::Convicted { worker, offence });
        Pool::<T>::remove(&key);
        if let Some(place) = Placement::<T>::get(&key)
            && let Some(mut record) = Clusters::<T>::get(place)
        {
            if let Some(at) = record.readers.iter().position(|reader| *reader == worker) {
                Self::replace_reader(place, &mut record, at);
            } else {
                // If it cannot be now, the next accusation tries again.
                let _ = Self::expel(place, &mut record, &worker);
            }
        }
        Ok(())
    }

    /// Whether a worker was convicted not long ago.
    pub(crate) fn is_barred(worker: &AccountId32) -> bool {
        Convictions::<T>::get(worker).is_some_and(|record| Self::now() < record.barred_until)
    }

    /// The same for one whose account is in the form of records.
    pub(crate) fn is_barred_member(worker: &AccountId) -> bool {
        Self::is_barred(&AccountId32::new(worker.0))
    }
}

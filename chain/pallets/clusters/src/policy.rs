//! What contracts of a cluster may use, and whose queries get more of the processor.

use crate::pallet::{Clusters, Config, Contracts, Creators, Error, Event, Pallet, Policies, Weights};
use frame_support::{ensure, pallet_prelude::DispatchResult};
use phala_primitives::{
    AccountId, ClusterId, ClusterPolicy,
    limits::{MAX_WEIGHT, MAX_WEIGHTS},
};
use sp_runtime::AccountId32;

impl<T: Config> Pallet<T> {
    /// Takes over a policy from the cluster's creator, or from root (`None`), under the next version.
    pub(crate) fn change_policy(
        caller: Option<AccountId32>,
        cluster: ClusterId,
        mut policy: ClusterPolicy,
    ) -> DispatchResult {
        Self::ensure_creator(caller, cluster)?;
        ensure!(policy.out_of_range().is_none(), Error::<T>::PolicyRange);
        let before = Policies::<T>::get(cluster).unwrap_or_default();
        policy.version = before.version.saturating_add(1);
        Policies::<T>::insert(cluster, policy);
        Self::deposit_event(Event::PolicySet { cluster, policy });
        Ok(())
    }

    /// Gives a contract of the cluster a weight.
    pub(crate) fn do_set_weight(
        caller: Option<AccountId32>,
        cluster: ClusterId,
        contract: AccountId,
        weight: u32,
    ) -> DispatchResult {
        Self::ensure_creator(caller, cluster)?;
        ensure!((1..=MAX_WEIGHT).contains(&weight), Error::<T>::PolicyRange);
        let placed = Contracts::<T>::get(contract).is_some_and(|record| record.cluster == cluster);
        ensure!(placed, Error::<T>::NoContract);
        let mut weights = Weights::<T>::get(cluster);
        weights.retain(|(other, _)| *other != contract);
        if weight > 1 {
            ensure!(weights.len() < MAX_WEIGHTS, Error::<T>::TooManyWeights);
            weights.push((contract, weight));
        }
        Weights::<T>::insert(cluster, weights);
        Self::deposit_event(Event::WeightSet { cluster, contract, weight });
        Ok(())
    }

    fn ensure_creator(caller: Option<AccountId32>, cluster: ClusterId) -> Result<(), Error<T>> {
        ensure!(Clusters::<T>::contains_key(cluster), Error::<T>::NoCluster);
        ensure!(caller.is_none() || caller == Creators::<T>::get(cluster), Error::<T>::NotCreator);
        Ok(())
    }
}

//! What contracts of a cluster may use.

use crate::pallet::{Clusters, Config, Creators, Error, Event, Pallet, Policies};
use frame_support::{ensure, pallet_prelude::DispatchResult};
use phala_primitives::{ClusterId, ClusterPolicy};
use sp_runtime::AccountId32;

impl<T: Config> Pallet<T> {
    /// Takes over a policy from the cluster's creator, or from root (`None`), under the next version.
    pub(crate) fn change_policy(
        caller: Option<AccountId32>,
        cluster: ClusterId,
        mut policy: ClusterPolicy,
    ) -> DispatchResult {
        ensure!(Clusters::<T>::contains_key(cluster), Error::<T>::NoCluster);
        ensure!(caller.is_none() || caller == Creators::<T>::get(cluster), Error::<T>::NotCreator);
        ensure!(policy.out_of_range().is_none(), Error::<T>::PolicyRange);
        let before = Policies::<T>::get(cluster).unwrap_or_default();
        policy.version = before.version.saturating_add(1);
        Policies::<T>::insert(cluster, policy);
        Self::deposit_event(Event::PolicySet { cluster, policy });
        Ok(())
    }
}

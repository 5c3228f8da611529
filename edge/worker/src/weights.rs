//! Whose queries get more of the processor: the account that made the cluster says so on the chain, and each worker follows
//! by itself. Which queries run when is no part of any state.

use phala_client::Chain;
use phala_primitives::{AccountId, ClusterId, storage};
use phala_replica::Replica;
use std::{collections::BTreeMap, sync::Weak, time::Duration};

/// How often the chain is asked.
const ROUND: Duration = Duration::from_secs(5);

/// Follows until the replica is gone.
pub(crate) async fn follow(chain: std::sync::Arc<Chain>, cluster: ClusterId, replica: Weak<Replica>) {
    let mut known = BTreeMap::<AccountId, u32>::new();
    loop {
        let said = chain.read::<Vec<(AccountId, u32)>>(&storage::weights(cluster)).await;
        let Some(replica) = replica.upgrade() else { return };
        if let Ok(said) = said {
            let weights: BTreeMap<_, _> = said.unwrap_or_default().into_iter().collect();
            for contract in known.keys().filter(|contract| !weights.contains_key(contract)) {
                replica.set_weight(*contract, 1);
            }
            for (contract, weight) in weights.iter().filter(|(contract, weight)| known.get(contract) != Some(weight)) {
                replica.set_weight(*contract, *weight);
            }
            known = weights;
        }
        drop(replica);
        tokio::time::sleep(ROUND).await;
    }
}

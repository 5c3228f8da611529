//! Brings to the chain what proves that a member of a cluster is faulty or hostile.
//!
//! All members see the same lies, so they take turns: who finds that the chain knows of the offence is done. What the
//! chain refuses is tried again for a while, as a block may have been full, and then given up.

use phala_client::{Account, Chain};
use phala_primitives::{AccountId, ClusterId, Code, misbehaviour::Misbehaviour, records::ConvictionRecord, storage};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// Proofs that may wait: one for each member is enough.
pub(crate) const WAITING: usize = 64;
/// How long a member leaves it to the one before it.
const TURN: Duration = Duration::from_secs(4);
/// How often, and after what time, it is tried.
const TRIES: usize = 10;
const AGAIN: Duration = Duration::from_secs(5);

/// What is to be brought.
pub(crate) struct Blame {
    pub(crate) cluster: ClusterId,
    pub(crate) proof: Misbehaviour,
    /// How many members are to try it before.
    pub(crate) turn: usize,
}

/// Brings one after the other, until nobody is left who could find more.
pub(crate) async fn bring(chain: Arc<Chain>, account: Arc<Account>, mut found: mpsc::Receiver<Blame>) {
    while let Some(blame) = found.recv().await {
        let turn = u32::try_from(blame.turn).unwrap_or(u32::MAX);
        tokio::time::sleep(TURN.saturating_mul(turn)).await;
        for _ in 0..TRIES {
            if convict(&chain, &account, &blame).await {
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Whether a worker was convicted not long ago, as far as the chain can be read.
pub(crate) async fn is_barred(chain: &Chain, worker: &AccountId) -> bool {
    let convicted = chain.read::<ConvictionRecord>(&storage::conviction(worker)).await;
    matches!(convicted, Ok(Some(record)) if chain.head().0 < record.barred_until)
}

/// Whether the chain knows it now.
async fn convict(chain: &Chain, account: &Account, Blame { cluster, proof, .. }: &Blame) -> bool {
    match chain.convict(account, *cluster, proof).await {
        Err(error) if error.known() == Some(Code::AlreadyConvicted) => true,
        Ok(_) => {
            tracing::warn!(by = %account.id(), cluster, identity = hex::encode(proof.identity()), "convicted a member");
            true
        }
        Err(error) => {
            tracing::info!(%error, "a member that misbehaved is not convicted yet");
            false
        }
    }
}

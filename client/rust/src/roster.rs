//! Who may answer for a cluster, as the chain says.

use crate::Chain;
use futures::future::{try_join, try_join_all};
use phala_primitives::{
    AccountId, ClusterId, ClusterPolicy, Code, Coded, PublicKey,
    records::{Anchor, Appraisal, Checkpoint},
};

/// A member of a cluster that can be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replica {
    /// The worker's account.
    pub worker: AccountId,
    /// ed25519 key that signs its session keys and receipts in this epoch.
    pub identity: PublicKey,
    /// Base URL, without a slash at the end.
    pub endpoint: String,
    /// What the chain found its machine to be worth.
    pub appraisal: Appraisal,
}

/// A cluster in one epoch.
#[derive(Clone, Debug)]
pub(crate) struct Roster {
    pub(crate) epoch: u64,
    /// Where the epoch's log begins.
    pub(crate) floor: Anchor,
    /// What the chain was shown of its log.
    pub(crate) checkpoint: Checkpoint,
    /// Identities of all members.
    pub(crate) identities: Vec<PublicKey>,
    /// Members that can be asked.
    pub(crate) replicas: Vec<Replica>,
    /// What contracts may use.
    pub(crate) policy: ClusterPolicy,
}

impl Roster {
    /// Reads it from the chain. A member is left out if its appraisal has ended, or if it has restarted since the
    /// epoch began: its new identity has no vote yet. A node that shows an old chain is not believed.
    pub(crate) async fn fetch(chain: &Chain, cluster: ClusterId, now_ms: u64) -> Result<Self, Coded> {
        let missing = || Coded::new(Code::NoSuchCluster, format!("cluster {cluster}"));
        let record = chain.cluster(cluster).await?.ok_or_else(missing)?;
        let workers = try_join_all(record.members.iter().map(|member| chain.worker(&member.worker)));
        let (workers, policy) = try_join(workers, chain.policy(cluster)).await?;
        chain.check_age()?;
        let replicas = record.members.iter().zip(workers).filter_map(|(member, worker)| {
            let worker = worker?;
            if worker.identity != member.identity || worker.appraisal.expires <= now_ms {
                return None;
            }
            let endpoint = String::from_utf8(worker.endpoint).ok()?.trim_end_matches('/').to_owned();
            let (worker, identity, appraisal) = (member.worker, member.identity, worker.appraisal);
            Some(Replica { worker, identity, endpoint, appraisal })
        });
        let replicas = replicas.collect();
        let identities = record.members.iter().map(|member| member.identity).collect();
        Ok(Self {
            epoch: record.epoch,
            floor: record.floor,
            checkpoint: record.checkpoint,
            identities,
            replicas,
            policy,
        })
    }
}

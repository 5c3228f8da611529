//! Who may answer for a cluster, as the chain says.

use crate::Chain;
use futures::future::{try_join_all, try_join3};
use phala_primitives::{
    AccountId, ClusterId, ClusterPolicy, Code, Coded, PublicKey,
    records::{Anchor, Appraisal, Checkpoint, WorkerRecord},
};

/// A member or reader of a cluster that can be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replica {
    /// The worker's account.
    pub worker: AccountId,
    /// ed25519 key that signs its session keys and receipts: of a member, in this epoch.
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
    /// Readers that can be asked: with queries.
    pub(crate) readers: Vec<Replica>,
    /// What contracts may use.
    pub(crate) policy: ClusterPolicy,
}

impl Roster {
    /// Who can be asked: members, and readers by those who only read.
    pub(crate) fn askable(&self, reads: bool) -> Vec<Replica> {
        self.replicas.iter().chain(self.readers.iter().filter(|_| reads)).cloned().collect()
    }

    /// Whether this is a reader's identity.
    pub(crate) fn reads(&self, identity: &PublicKey) -> bool {
        self.readers.iter().any(|reader| reader.identity == *identity)
    }

    /// Reads it from the chain. A member is left out if its appraisal has ended, or if it has restarted since the
    /// epoch began: its new identity has no vote yet. A node that shows an old chain is not believed.
    pub(crate) async fn fetch(chain: &Chain, cluster: ClusterId, now_ms: u64) -> Result<Self, Coded> {
        let missing = || Coded::new(Code::NoSuchCluster, format!("cluster {cluster}"));
        // Before anything is read: a node could prove one thing by the present, and the others by the past.
        chain.present().await?;
        let record = chain.cluster(cluster).await?.ok_or_else(missing)?;
        let workers = try_join_all(record.members.iter().map(|member| chain.worker(&member.worker)));
        let readers = try_join_all(record.readers.iter().map(|reader| chain.worker(reader)));
        let (workers, readers, policy) = try_join3(workers, readers, chain.policy(cluster)).await?;
        let replica = |account: &AccountId, worker: WorkerRecord| {
            let endpoint = String::from_utf8(worker.endpoint).ok()?.trim_end_matches('/').to_owned();
            let (identity, appraisal) = (worker.identity, worker.appraisal);
            (appraisal.expires > now_ms).then_some(Replica { worker: *account, identity, endpoint, appraisal })
        };
        let replicas = record.members.iter().zip(workers).filter_map(|(member, worker)| {
            let votes = worker.filter(|worker| worker.identity == member.identity);
            replica(&member.worker, votes?)
        });
        let replicas = replicas.collect();
        let readers = record.readers.iter().zip(readers).filter_map(|(reader, worker)| replica(reader, worker?));
        let readers = readers.collect();
        let identities = record.members.iter().map(|member| member.identity).collect();
        Ok(Self {
            epoch: record.epoch,
            floor: record.floor,
            checkpoint: record.checkpoint,
            identities,
            replicas,
            readers,
            policy,
        })
    }
}

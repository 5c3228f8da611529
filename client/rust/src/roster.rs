//! Who may answer for a cluster, as the chain says.

use crate::Chain;
use futures::future::{try_join_all, try_join3};
use parking_lot::Mutex;
use phala_primitives::{
    AccountId, ClusterId, ClusterPolicy, Code, Coded, PublicKey,
    records::{Anchor, Appraisal, Checkpoint, WorkerRecord},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Age at which what the chain said of the cluster is asked again.
const OLD: Duration = Duration::from_secs(60);
/// The same once an answer was of a later epoch: a node may need a moment to hear of that.
const OUTDATED: Duration = Duration::from_secs(1);

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

/// The newest roster that a client knows.
pub(crate) struct Newest {
    known: Mutex<Known>,
    /// Held by who asks the chain. When it was asked in vain last, and what came of it.
    asking: tokio::sync::Mutex<Option<(Instant, Coded)>>,
}

struct Known {
    roster: Arc<Roster>,
    /// When the chain was asked for it.
    since: Instant,
    until: Instant,
}

impl Known {
    fn new(roster: Arc<Roster>, since: Instant) -> Self {
        Self { roster, since, until: since + OLD }
    }
}

impl Newest {
    pub(crate) fn new(roster: Roster) -> Self {
        Self { known: Mutex::new(Known::new(Arc::new(roster), Instant::now())), asking: Default::default() }
    }

    /// It, however old.
    pub(crate) fn known(&self) -> Arc<Roster> {
        self.known.lock().roster.clone()
    }

    /// Notes that an answer is of this epoch.
    pub(crate) fn notice(&self, epoch: u64) {
        let mut known = self.known.lock();
        if epoch > known.roster.epoch {
            known.until = known.until.min(known.since + OUTDATED);
        }
    }

    /// It, asked of the chain by `ask` if it is old, or if `fresh` is wanted: not known before this was called. Of many
    /// who want it at once, one asks. `news` is told what was known before and what is now.
    pub(crate) async fn get(
        &self,
        fresh: bool,
        ask: impl AsyncFnOnce() -> Result<Roster, Coded>,
        news: impl FnOnce(&Roster, &Roster) -> Result<(), Coded>,
    ) -> Result<Arc<Roster>, Coded> {
        let now = Instant::now();
        let usable = || {
            let known = self.known.lock();
            let usable = if fresh { known.since >= now } else { Instant::now() < known.until };
            usable.then(|| known.roster.clone())
        };
        if let Some(roster) = usable() {
            return Ok(roster);
        }
        let mut failed = self.asking.lock().await;
        if let Some(roster) = usable() {
            return Ok(roster);
        }
        if let Some((_, error)) = failed.as_ref().filter(|(since, _)| *since >= now) {
            return Err(error.clone());
        }
        let since = Instant::now();
        let roster = match ask().await {
            Ok(roster) => Arc::new(roster),
            Err(error) => {
                *failed = Some((since, error.clone()));
                return Err(error);
            }
        };
        let before = std::mem::replace(&mut *self.known.lock(), Known::new(roster.clone(), since));
        news(&before.roster, &roster)?;
        Ok(roster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn roster(epoch: u64) -> Roster {
        let (floor, checkpoint, policy) = (Anchor::default(), Checkpoint::default(), ClusterPolicy::DEFAULT);
        Roster { epoch, floor, checkpoint, identities: vec![], replicas: vec![], readers: vec![], policy }
    }

    async fn epoch(newest: &Newest, fresh: bool, asked: &AtomicU64) -> Result<u64, Coded> {
        let ask = async || {
            tokio::task::yield_now().await;
            Ok(roster(asked.fetch_add(1, Ordering::Relaxed) + 1))
        };
        newest.get(fresh, ask, |_, _| Ok(())).await.map(|roster| roster.epoch)
    }

    #[tokio::test]
    async fn of_many_who_want_it_fresh_one_asks() {
        let (newest, asked) = (Newest::new(roster(0)), AtomicU64::new(0));
        assert_eq!(epoch(&newest, false, &asked).await, Ok(0));
        let all = futures::future::join_all((0..100).map(|_| epoch(&newest, true, &asked))).await;
        // What the first gets may be older than the wish of those who came while it asked. One of them asks for all.
        let (first, rest) = all.split_first().unwrap();
        assert_eq!((first, rest), (&Ok(1), &vec![Ok(2); 99][..]));
        assert_eq!(epoch(&newest, true, &asked).await, Ok(3));
    }

    #[tokio::test]
    async fn who_waits_for_one_that_asks_in_vain_does_not_ask_again() {
        let (newest, asked) = (Newest::new(roster(0)), AtomicU64::new(0));
        let fail = || async {
            let ask = async || {
                tokio::task::yield_now().await;
                asked.fetch_add(1, Ordering::Relaxed);
                Err(Code::NoNode.into())
            };
            newest.get(true, ask, |_, _| Ok(())).await.map(|roster| roster.epoch)
        };
        let all = futures::future::join_all((0..100).map(|_| fail())).await;
        assert_eq!((all, asked.load(Ordering::Relaxed)), (vec![Err(Code::NoNode.into()); 100], 2));
        assert_eq!(epoch(&newest, false, &asked).await, Ok(0));
    }

    #[test]
    fn an_answer_of_a_later_epoch_makes_it_old() {
        let newest = Newest::new(roster(3));
        let until = || {
            let known = newest.known.lock();
            known.until - known.since
        };
        newest.notice(3);
        assert_eq!(until(), OLD);
        newest.notice(4);
        assert_eq!(until(), OUTDATED);
    }
}

//! Looks after the other members of the cluster, and its readers: whoever gives no sign of life for as long as the policy
//! allows is accused on the chain, which has it replaced once a quorum says so. Whoever was convicted of worse and still
//! has its seat is accused at once.
//!
//! A sign of life is a session key that the worker's present identity has signed: a worker that runs but does not serve
//! gives none.

use crate::{blame, service::now_ms, start::Start};
use futures::future::join_all;
use phala_client::{Call, Chain, Replica as Peer, session_key};
use phala_primitives::{AccountId, Coded};
use phala_replica::Replica;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// How often the others are asked.
const ROUND: Duration = Duration::from_secs(2);
/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// When an accusation is made again, as long as nobody has taken the place: after the first time, and at most, since each
/// costs a fee and there may be nobody to take it.
const AGAIN: Duration = Duration::from_secs(10);
const AT_MOST: Duration = Duration::from_secs(30);
/// The same of one that was convicted: nothing but the pool changes for it.
const AT_MOST_BARRED: Duration = Duration::from_secs(30 * 60);
/// Time for a reader that has not served yet to copy the state.
const COPY: Duration = Duration::from_secs(30 * 60);

/// What is known of another worker of the cluster.
struct Known {
    alive: Instant,
    /// It has served since it is known.
    served: bool,
    /// When it was accused last, and how long that is to do.
    accused: Option<(Instant, Duration)>,
}

/// Watches over the other workers, until the replica fails.
pub(crate) async fn over(start: &Start, chain: &Arc<Chain>, replica: &Replica) -> Coded {
    let http = reqwest::Client::new();
    let mut known = BTreeMap::<AccountId, Known>::new();
    loop {
        tokio::time::sleep(ROUND).await;
        let Ok(Some(record)) = chain.cluster(start.cluster).await else { continue };
        let members = record.members.iter().map(|member| member.worker);
        let others = members.chain(record.readers.iter().copied()).filter(|worker| *worker != start.worker());
        let others: Vec<AccountId> = others.collect();
        known.retain(|worker, _| others.contains(worker));
        let answers = join_all(others.iter().map(|worker| standing(&http, chain, worker))).await;
        let patience = match replica.policy() {
            Ok(policy) => Duration::from_millis(policy.replace_ms),
            Err(error) => return error,
        };
        for (worker, standing) in others.into_iter().zip(answers) {
            let now = Instant::now();
            let other = known.entry(worker).or_insert(Known { alive: now, served: false, accused: None });
            let (barred, reads) = (standing == Standing::Barred, record.readers.contains(&worker));
            let (patience, most) = match barred {
                true => (Duration::ZERO, AT_MOST_BARRED),
                false if reads && !other.served => (patience.max(COPY), AT_MOST),
                false => (patience, AT_MOST),
            };
            // The chain has found another for its place.
            let leaves = !reads && !record.wanted.is_empty() && !record.wanted.contains(&worker);
            let (due, again) = match other.accused {
                None => (!(barred && leaves), AGAIN),
                Some((at, pause)) => (at.elapsed() >= pause, pause.saturating_mul(2).min(most)),
            };
            if standing == Standing::Lives {
                *other = Known { alive: now, served: true, accused: None };
            } else if other.alive.elapsed() >= patience && due {
                other.accused = Some((now, again));
                tracing::warn!(by = %start.worker(), %worker, ?standing, "a worker of the cluster has to go");
                if let Err(error) = chain.submit(&start.config.account, &Call::accuse(start.cluster, &worker)).await {
                    tracing::info!(%error, "it is accused again later");
                }
            }
        }
    }
}

/// What is to be said of a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Lives,
    Silent,
    Barred,
}

async fn standing(http: &reqwest::Client, chain: &Chain, worker: &AccountId) -> Standing {
    if blame::is_barred(chain, worker).await {
        return Standing::Barred;
    }
    if lives(http, chain, worker).await { Standing::Lives } else { Standing::Silent }
}

async fn lives(http: &reqwest::Client, chain: &Chain, worker: &AccountId) -> bool {
    let ask = async {
        let record = chain.worker(worker).await.ok()??;
        let endpoint = String::from_utf8(record.endpoint).ok()?.trim_end_matches('/').to_owned();
        let replica = Peer { worker: *worker, identity: record.identity, endpoint, appraisal: record.appraisal };
        session_key(http, &replica, &chain.genesis(), now_ms()).await.ok()
    };
    matches!(tokio::time::timeout(ANSWER, ask).await, Ok(Some(_)))
}

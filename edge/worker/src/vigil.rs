//! Looks after the other members of the cluster: whoever gives no sign of life for as long as the policy allows is
//! accused on the chain, which has it replaced once a quorum says so. Whoever was convicted of worse and still has its
//! seat is accused at once.
//!
//! A sign of life is a session key that the worker's present identity has signed: a worker that runs but does not serve
//! gives none.

use crate::{service::now_ms, start::Start};
use futures::future::join_all;
use phala_client::{Call, Chain, Replica as Peer, session_key};
use phala_primitives::{AccountId, Coded, records::ConvictionRecord, storage};
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
/// How often an accusation is made again, as long as nobody has taken the place.
const AGAIN: Duration = Duration::from_secs(10);

/// What is known of another member.
struct Known {
    alive: Instant,
    accused: Option<Instant>,
}

/// Watches over the other members, until the replica fails.
pub(crate) async fn over(start: &Start, chain: &Arc<Chain>, replica: &Replica) -> Coded {
    let http = reqwest::Client::new();
    let mut known = BTreeMap::<AccountId, Known>::new();
    loop {
        tokio::time::sleep(ROUND).await;
        let Ok(Some(record)) = chain.cluster(start.cluster).await else { continue };
        let others = record.members.iter().map(|member| member.worker).filter(|worker| *worker != start.worker());
        let others: Vec<AccountId> = others.collect();
        known.retain(|worker, _| others.contains(worker));
        let answers = join_all(others.iter().map(|worker| standing(&http, chain, worker))).await;
        let patience = match replica.policy() {
            Ok(policy) => Duration::from_millis(policy.replace_ms),
            Err(error) => return error,
        };
        for (worker, standing) in others.into_iter().zip(answers) {
            let now = Instant::now();
            let member = known.entry(worker).or_insert(Known { alive: now, accused: None });
            let patience = if standing == Standing::Barred { Duration::ZERO } else { patience };
            if standing == Standing::Lives {
                *member = Known { alive: now, accused: None };
            } else if member.alive.elapsed() >= patience && member.accused.is_none_or(|at| at.elapsed() >= AGAIN) {
                member.accused = Some(now);
                tracing::warn!(by = %start.worker(), %worker, ?standing, "a member has to go");
                if let Err(error) = chain.submit(&start.config.account, &Call::accuse(start.cluster, &worker)).await {
                    tracing::info!(%error, "it is accused again later");
                }
            }
        }
    }
}

/// What is to be said of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Lives,
    Silent,
    Barred,
}

async fn standing(http: &reqwest::Client, chain: &Chain, worker: &AccountId) -> Standing {
    let convicted = chain.read::<ConvictionRecord>(&storage::conviction(worker)).await;
    if let Ok(Some(record)) = convicted
        && chain.head().0 < record.barred_until
    {
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

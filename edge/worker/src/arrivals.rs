//! Fetches contracts that come from other clusters, part by part, when it is this member's turn.
//!
//! What is fetched proves itself: a member that gives something else, or nothing, is passed over for the next.

use crate::{service::now_ms, start::read};
use phala_client::Chain;
use phala_primitives::{Code, Coded};
use phala_replica::{Coming, Replica};
use std::{sync::Arc, time::Duration};

/// How often it is looked whether a contract comes.
const LOOK: Duration = Duration::from_millis(500);
/// A member's turn to bring a part, and the longest wait for its execution.
const TURN_MS: u64 = 4_000;
const TURN: Duration = Duration::from_millis(TURN_MS);
/// Time for one answer, and its largest size in bytes.
const FETCH: Duration = Duration::from_secs(10);
const MAX_PART: usize = 2 << 20;

/// Where a part is to be had from a worker, below its URL.
fn place(coming: &Coming) -> String {
    format!("v1/parts/{}/{}/{}", coming.contract, coming.number, coming.next)
}

/// Fetches what comes. Ends with the task.
pub(crate) async fn fetch(chain: Arc<Chain>, replica: Arc<Replica>) {
    let http = reqwest::Client::new();
    loop {
        let coming = replica.coming().unwrap_or_default();
        for one in coming {
            if let Err(error) = bring(&chain, &replica, &http, one).await {
                tracing::debug!(%error, contract = %one.contract, "a contract that comes waits for another turn");
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Brings one part after the other for as long as it is this member's turn.
async fn bring(chain: &Chain, replica: &Replica, http: &reqwest::Client, coming: Coming) -> Result<(), Coded> {
    let mine = |coming: &Coming| replica.is_turn(coming.number.into(), TURN_MS, now_ms());
    if !mine(&coming) {
        return Ok(());
    }
    let record = chain.cluster(coming.from).await?.ok_or(Code::NoSuchCluster)?;
    let mut sources = vec![];
    for member in record.members {
        let worker = chain.worker(&member.worker).await?;
        sources.extend(worker.and_then(|worker| String::from_utf8(worker.endpoint).ok()));
    }
    let mut next = Some(coming);
    let mut from = 0;
    while let Some(coming) = next.filter(mine) {
        let none = || Coded::new(Code::NotReady, "no member of the other cluster has the part");
        let source = sources.get(from).ok_or_else(none)?;
        let url = format!("{}/{}", source.trim_end_matches('/'), place(&coming));
        let sealed = match http.get(url).timeout(FETCH).send().await {
            Ok(response) => read(response, MAX_PART).await,
            Err(_) => None,
        };
        match sealed.map(|sealed| replica.bring_part(&coming, &sealed, now_ms())) {
            Some(Ok(ticket)) => {
                // If it takes longer, somebody's next turn comes.
                let _ = tokio::time::timeout(TURN, ticket).await;
            }
            Some(Err(error)) if error.known() != Some(Code::NotAuthentic) => return Err(error),
            Some(Err(_)) | None => from += 1,
        }
        next = replica.coming()?.into_iter().find(|one| one.contract == coming.contract);
    }
    Ok(())
}

//! HTTP to one replica: its session key, and single sealed requests.

use crate::{node::from_hex, roster::Replica};
use codec::DecodeAll;
use phala_primitives::{Code, Coded, Hash, limits::MAX_MESSAGE};
use phala_session::{Client as Seal, Credentials, SessionKey, SignedSessionKey};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};

/// Time to reach a replica. Replicas are near or dead.
const CONNECT: Duration = Duration::from_secs(3);
/// Time for an answer; a replica gives a command ten seconds.
pub(crate) const ANSWER: Duration = Duration::from_secs(15);
/// Largest `/v1/info`, which may hold evidence.
const MAX_INFO: usize = 256 << 10;

pub(crate) fn http() -> Result<reqwest::Client, Coded> {
    reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .timeout(ANSWER)
        .tcp_nodelay(true)
        .build()
        .map_err(|error| Coded::new(Code::Internal, error.to_string()))
}

/// A replica that does not answer as it should.
pub(crate) fn lost(replica: &Replica, error: impl std::fmt::Display) -> Coded {
    Coded::new(Code::NoReplica, format!("{} at {}: {error}", replica.worker, replica.endpoint))
}

/// What seals to a replica.
pub(crate) async fn seal_for(
    http: &reqwest::Client,
    replica: &Replica,
    genesis: &Hash,
    credentials: &Arc<Credentials>,
    now_ms: u64,
) -> Result<Seal, Coded> {
    Seal::new(session_key(http, replica, genesis, now_ms).await?, credentials.clone())
}

/// Fetches the replica's newest session key and verifies it against its identity.
///
/// Errors: `NoReplica` if it cannot be reached, `NotReady` if it does not serve.
pub async fn session_key(
    http: &reqwest::Client,
    replica: &Replica,
    genesis: &Hash,
    now_ms: u64,
) -> Result<SessionKey, Coded> {
    #[derive(Deserialize)]
    struct Info {
        session_key: String,
    }
    let request = http.get(format!("{}/v1/info", replica.endpoint)).send().await;
    let response = request.map_err(|error| lost(replica, error))?;
    if !response.status().is_success() {
        return Err(Coded::new(Code::NotReady, format!("{}: {}", replica.worker, response.status())));
    }
    let bytes = body(response, MAX_INFO, replica).await?;
    let info: Info = serde_json::from_slice(&bytes).map_err(|error| lost(replica, error))?;
    let key = SignedSessionKey::decode_all(&mut &*from_hex(&info.session_key)?)
        .map_err(|_| Coded::new(Code::Malformed, "the replica's session key"))?;
    key.verify(&replica.identity, genesis, &replica.worker, now_ms).cloned()
}

/// Sends an envelope and returns the response, both encoded.
pub(crate) async fn exchange(
    http: &reqwest::Client,
    replica: &Replica,
    envelope: Vec<u8>,
    patience: Duration,
) -> Result<Vec<u8>, Coded> {
    let url = format!("{}/v1/call", replica.endpoint);
    let request = http.post(url).timeout(patience).header("content-type", "application/octet-stream").body(envelope);
    // The status says nothing that the response does not say better.
    let response = request.send().await.map_err(|error| lost(replica, error))?;
    body(response, MAX_MESSAGE, replica).await
}

async fn body(mut response: reqwest::Response, limit: usize, replica: &Replica) -> Result<Vec<u8>, Coded> {
    let mut bytes = vec![];
    while let Some(chunk) = response.chunk().await.map_err(|error| lost(replica, error))? {
        if bytes.len() + chunk.len() > limit {
            return Err(lost(replica, "the answer is too long"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

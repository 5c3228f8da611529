//! The SIMULATED key service with a socket, and how workers ask it.
//!
//! A request is signed by the worker's identity and answered to its recipient key alone, so plain HTTP will do: who
//! listens learns which worker asks for which cluster, and who meddles makes the worker ask again: it takes no refusal
//! for the last word.

use super::{Plan, Secret, connect};
use crate::{folder::Folder, keys::KeyHouse};
use axum::{Router, body::Bytes, extract::DefaultBodyLimit, extract::State, routing::post};
use codec::{DecodeAll, Encode};
use futures::future::BoxFuture;
use phala_keys::{KeyRequest, SealedKeys};
use phala_primitives::{Code, Coded};
use phala_worker::KeyDelivery;
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};

/// Largest request, and largest answer, which holds the keys of many epochs, in bytes.
const MAX_REQUEST: usize = 4 << 10;
const MAX_ANSWER: usize = 128 << 10;
/// Requests under way at once: each reads the chain twice.
const AT_ONCE: usize = 64;
/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(20);

/// A running key service.
pub struct KeyServicePart {
    address: SocketAddr,
    serving: JoinHandle<()>,
    _folder: Folder,
}

struct House {
    keys: KeyHouse,
    at_once: Semaphore,
}

impl KeyServicePart {
    /// Starts the service on the machine of this secret, once a node of the chain answers. The folder holds the master
    /// secret, sealed to the machine; whoever loses it loses the network's contracts.
    pub async fn start(
        plan: &Plan,
        secret: &Secret,
        folder: &Path,
        chain_url: &str,
        listen: SocketAddr,
    ) -> Result<Self, Coded> {
        let taken = |e: std::io::Error| Coded::new(Code::PortInUse, format!("{listen}: {e}"));
        let folder = Folder::open(Some(folder))?;
        let chain = connect(chain_url, plan.genesis()?).await?;
        let keys = KeyHouse::open(&folder, secret.machine()?.as_ref(), chain)?;
        let listener = TcpListener::bind(listen).await.map_err(taken)?;
        let address = listener.local_addr().map_err(taken)?;
        let house = Arc::new(House { keys, at_once: Semaphore::new(AT_ONCE) });
        let router =
            Router::new().route("/v1/keys", post(answer)).layer(DefaultBodyLimit::max(MAX_REQUEST)).with_state(house);
        let serving = tokio::spawn(async move {
            // It ends only with the task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, serving, _folder: folder })
    }

    /// Where workers ask.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops.
    pub async fn stop(self) {
        self.serving.abort();
        // It was aborted.
        let _ = self.serving.await;
    }
}

async fn answer(State(house): State<Arc<House>>, body: Bytes) -> Vec<u8> {
    let released: Result<SealedKeys, Coded> = async {
        let _permit = house.at_once.try_acquire().map_err(|_| Code::Busy)?;
        let request = KeyRequest::decode_all(&mut &body[..]).map_err(|_| Code::Malformed)?;
        house.keys.request(request).await
    }
    .await;
    if let Err(error) = &released {
        tracing::info!(%error, "no keys are released");
    }
    released.encode()
}

/// Keys of a service elsewhere.
pub(super) struct RemoteKeys {
    http: reqwest::Client,
    url: String,
}

impl RemoteKeys {
    pub(super) fn new(url: &str) -> Self {
        Self { http: reqwest::Client::new(), url: format!("{}/v1/keys", url.trim_end_matches('/')) }
    }

    async fn ask(&self, request: &KeyRequest) -> Result<SealedKeys, Coded> {
        let away = |error: reqwest::Error| Coded::new(Code::Busy, format!("{}: {error}", self.url));
        let post = self.http.post(&self.url).timeout(ANSWER).body(request.encode());
        let mut response = post.send().await.and_then(reqwest::Response::error_for_status).map_err(away)?;
        let mut bytes = vec![];
        while let Some(chunk) = response.chunk().await.map_err(away)? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(Code::Malformed.into());
            }
            bytes.extend_from_slice(&chunk);
        }
        Result::decode_all(&mut bytes.as_slice()).map_err(|_| Coded::from(Code::Malformed))?
    }
}

impl KeyDelivery for RemoteKeys {
    fn request(&self, request: KeyRequest) -> BoxFuture<'_, Result<SealedKeys, Coded>> {
        Box::pin(async move { self.ask(&request).await })
    }
}

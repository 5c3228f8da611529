//! The connection to a node: JSON-RPC over a WebSocket that is made anew when it breaks.

use jsonrpsee::{
    core::{
        ClientError,
        client::{ClientT, Subscription, SubscriptionClientT},
        params::ArrayParams,
    },
    types::ErrorObjectOwned,
    ws_client::{PingConfig, WsClient, WsClientBuilder},
};
use phala_primitives::{Code, Coded};
use serde::{Deserialize, de::DeserializeOwned};
use std::{sync::Arc, time::Duration};
use tokio::sync::Mutex;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Node {
    url: String,
    client: Mutex<Option<Arc<WsClient>>>,
}

impl Node {
    pub(crate) fn new(url: &str) -> Self {
        let url = match url.split_once("://") {
            Some(("http", rest)) => format!("ws://{rest}"),
            Some(("https", rest)) => format!("wss://{rest}"),
            Some(_) => url.to_owned(),
            None => format!("ws://{url}"),
        };
        Self { url, client: Mutex::new(None) }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    async fn client(&self) -> Result<Arc<WsClient>, Coded> {
        let mut slot = self.client.lock().await;
        if let Some(client) = slot.as_ref().filter(|client| client.is_connected()) {
            return Ok(client.clone());
        }
        let builder = WsClientBuilder::default()
            .connection_timeout(PATIENCE)
            .request_timeout(PATIENCE)
            .max_response_size(16 << 20)
            .enable_ws_ping(PingConfig::new());
        let client = Arc::new(builder.build(&self.url).await.map_err(|error| self.unreachable(&error))?);
        *slot = Some(client.clone());
        Ok(client)
    }

    fn unreachable(&self, error: &dyn std::fmt::Display) -> Coded {
        Coded::new(Code::NoNode, format!("{}: {error}", self.url))
    }

    fn coded(&self, error: ClientError) -> Coded {
        match error {
            ClientError::Call(error) => refusal(&error),
            other => self.unreachable(&other),
        }
    }

    /// Asks the node; once more over a fresh connection if the old one has broken.
    pub(crate) async fn request<T: DeserializeOwned>(&self, method: &str, params: ArrayParams) -> Result<T, Coded> {
        let client = self.client().await?;
        match client.request(method, params.clone()).await {
            Err(ClientError::RestartNeeded(_) | ClientError::ServiceDisconnect) => {
                self.client().await?.request(method, params).await
            }
            result => result,
        }
        .map_err(|error| self.coded(error))
    }

    /// Like [`Self::request`], for hex of bytes.
    pub(crate) async fn bytes(&self, method: &str, params: ArrayParams) -> Result<Vec<u8>, Coded> {
        from_hex(&self.request::<String>(method, params).await?)
    }

    pub(crate) async fn subscribe<T: DeserializeOwned>(
        &self,
        (subscribe, unsubscribe): (&str, &str),
        params: ArrayParams,
    ) -> Result<Subscription<T>, Coded> {
        let client = self.client().await?;
        client.subscribe(subscribe, params, unsubscribe).await.map_err(|error| self.coded(error))
    }
}

/// A node's refusal, in our codes if it is a node of ours.
fn refusal(error: &ErrorObjectOwned) -> Coded {
    #[derive(Deserialize)]
    struct Data {
        code: u16,
        detail: String,
    }
    let data = error.data().and_then(|data| serde_json::from_str::<Data>(data.get()).ok());
    match data {
        Some(Data { code, detail }) => match Code::from_number(code) {
            Some(code) => Coded::new(code, detail),
            None => Coded::new(Code::Internal, format!("the node answers P{code}: {detail}")),
        },
        None => Coded::new(Code::Malformed, format!("the node answers {}: {}", error.code(), error.message())),
    }
}

/// Bytes from `0x…`.
pub(crate) fn from_hex(text: &str) -> Result<Vec<u8>, Coded> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    hex::decode(digits).map_err(|_| Coded::new(Code::Malformed, "the answer is not hex"))
}

/// `0x…` of bytes.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

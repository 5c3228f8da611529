//! A node's JSON-RPC seen through somebody who means ill. Told to, it shows the chain as it was in one block for ever
//! after: facts are proven under that block, it is announced as the newest again and again, and what is submitted is
//! taken and never heard of. All of it is signed by the validators: only its age gives it away.

use futures::{SinkExt, StreamExt};
use phala_primitives::FinalizedHead;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_tungstenite::{accept_async, connect_async, tungstenite::Message};

/// The chain in one block.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    /// The encoded head, in hex.
    head: String,
    /// Hash of the block.
    block: String,
}

impl Past {
    /// The chain as a node shows it now.
    pub(crate) async fn now(rpc: &str) -> Self {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "phala_finalizedHead", "params": [] });
        let url = rpc.replacen("ws", "http", 1);
        let answer = reqwest::Client::new().post(url).header("content-type", "application/json");
        let answer: Value = answer.body(request.to_string()).send().await.unwrap().json().await.unwrap();
        let head = answer["result"].as_str().unwrap().to_owned();
        let bytes = hex::decode(head.trim_start_matches("0x")).unwrap();
        let decoded: FinalizedHead = codec::DecodeAll::decode_all(&mut bytes.as_slice()).unwrap();
        Self { block: decoded.hash().to_string(), head }
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    address: SocketAddr,
    shown: Arc<Mutex<Option<Past>>>,
    task: JoinHandle<()>,
}

impl Gateway {
    /// An honest one in front of a node, which need not run yet.
    pub(crate) async fn start(rpc: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shown) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(None)));
        let (rpc, pinned) = (rpc.to_owned(), shown.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, rpc.clone(), pinned.clone()));
            }
        });
        Self { address, shown, task }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// From now on shows the past.
    pub(crate) fn show(&self, past: &Past) {
        *self.shown.lock().unwrap() = Some(past.clone());
    }

    /// From now on shows the present again.
    pub(crate) fn mend(&self) {
        *self.shown.lock().unwrap() = None;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What becomes of a request.
enum Way {
    On(Value),
    Back(Value),
    Nowhere,
}

fn request(mut request: Value, past: Option<&Past>) -> Way {
    let Some(past) = past else { return Way::On(request) };
    let method = request["method"].as_str().unwrap_or_default().to_owned();
    match method.as_str() {
        "phala_finalizedHead" => Way::Back(json!({ "jsonrpc": "2.0", "id": request["id"], "result": past.head })),
        "phala_fact" => {
            let key = request["params"][0].clone();
            request["params"] = json!([key, past.block]);
            Way::On(request)
        }
        _ if method.starts_with("author_") => Way::Nowhere,
        _ => Way::On(request),
    }
}

async fn carry(stream: TcpStream, rpc: String, shown: Arc<Mutex<Option<Past>>>) {
    let Ok((node, _)) = connect_async(&rpc).await else { return };
    let Ok(client) = accept_async(stream).await else { return };
    let ((mut to_node, mut from_node), (mut to_client, mut from_client)) = (node.split(), client.split());
    loop {
        let sent = tokio::select! {
            message = from_client.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let past = shown.lock().unwrap().clone();
                    match request(serde_json::from_str(&text).unwrap(), past.as_ref()) {
                        Way::On(request) => to_node.send(Message::text(request.to_string())).await,
                        Way::Back(answer) => to_client.send(Message::text(answer.to_string())).await,
                        Way::Nowhere => Ok(()),
                    }
                }
                Some(Ok(_)) => Ok(()),
                _ => return,
            },
            message = from_node.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let mut said: Value = serde_json::from_str(&text).unwrap();
                    let past = shown.lock().unwrap().clone();
                    if let Some(past) = past.filter(|_| said["method"] == "phala_head") {
                        said["params"]["result"] = past.head.into();
                    }
                    to_client.send(Message::text(said.to_string())).await
                }
                Some(Ok(_)) => Ok(()),
                _ => return,
            },
        };
        if sent.is_err() {
            return;
        }
    }
}

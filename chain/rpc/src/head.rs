//! `chainHead_v1_*`: the new JSON-RPC interface for following the chain and reading at its blocks.
//!
//! `chainHead_v1_follow` reports each block as new, best and finalised at once. Bodies, runtime calls and storage are
//! asked for by methods that answer with an operation's id; what they find comes as events of the subscription.
//! Blocks need no pinning: what the node still has can be read, so `unpin` has nothing to do.

use crate::{
    backend::BlockId,
    error::{Failure, within},
    shared::Node,
    types::{OneOrMany, h256},
};
use jsonrpsee::{
    PendingSubscriptionSink, ResponsePayload,
    core::{RpcResult, SubscriptionResult, async_trait, server::SubscriptionMessage},
    proc_macros::rpc,
};
use parking_lot::Mutex;
use phala_primitives::{Code, Coded, Hash};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sp_core::{Bytes, H256};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Operations under way at once in one subscription.
const MAX_OPERATIONS: usize = 16;
/// Events that wait for a slow reader; operations wait with them.
const EVENTS: usize = 64;
/// Storage items in one event, and items in one request.
const PAGE: usize = 256;
/// Most keys below one prefix that one operation reads.
const MAX_DESCENDANTS: usize = 100_000;

#[rpc(server)]
pub(crate) trait ChainHead {
    #[subscription(
        name = "chainHead_v1_follow" => "chainHead_v1_followEvent",
        unsubscribe = "chainHead_v1_unfollow",
        item = Value
    )]
    async fn follow(&self, with_runtime: bool) -> SubscriptionResult;

    #[method(name = "chainHead_v1_header", blocking)]
    fn header(&self, follow: String, hash: H256) -> RpcResult<Option<Bytes>>;

    #[method(name = "chainHead_v1_body")]
    fn body(&self, follow: String, hash: H256) -> ResponsePayload<'static, Value>;

    #[method(name = "chainHead_v1_call")]
    fn call(&self, follow: String, hash: H256, function: String, data: Bytes) -> ResponsePayload<'static, Value>;

    #[method(name = "chainHead_v1_storage")]
    fn storage(
        &self,
        follow: String,
        hash: H256,
        items: Vec<Item>,
        child: Option<Bytes>,
    ) -> ResponsePayload<'static, Value>;

    #[method(name = "chainHead_v1_continue")]
    fn resume(&self, follow: String, operation: String) -> RpcResult<()>;

    #[method(name = "chainHead_v1_stopOperation")]
    fn stop_operation(&self, follow: String, operation: String) -> RpcResult<()>;

    #[method(name = "chainHead_v1_unpin")]
    fn unpin(&self, follow: String, hashes: OneOrMany<H256>) -> RpcResult<()>;
}

/// What of a storage entry is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Kind {
    Value,
    Hash,
    ClosestDescendantMerkleValue,
    DescendantsValues,
    DescendantsHashes,
}

/// A storage entry that is asked for, or all below a prefix.
#[derive(Clone, Deserialize)]
pub(crate) struct Item {
    key: Bytes,
    #[serde(rename = "type")]
    kind: Kind,
}

/// The subscriptions that are open.
#[derive(Clone)]
pub(crate) struct Head {
    node: Node,
    follows: Arc<Mutex<BTreeMap<String, Arc<Follow>>>>,
}

struct Follow {
    events: mpsc::Sender<Value>,
    operations: Arc<Semaphore>,
    next: AtomicU64,
}

/// What an operation says with, until it is dropped.
struct Operation {
    id: String,
    events: mpsc::Sender<Value>,
    _permit: OwnedSemaphorePermit,
}

impl Operation {
    /// Blocks while the reader is slow. Fails when the subscription has ended.
    fn say(&self, event: &str, mut fields: Map<String, Value>) -> Result<(), Failure> {
        fields.insert("event".into(), event.into());
        fields.insert("operationId".into(), self.id.clone().into());
        let gone = |_| Failure(Coded::new(Code::Internal, "the subscription has ended"));
        self.events.blocking_send(Value::Object(fields)).map_err(gone)
    }

    fn say_one(&self, event: &str, field: &str, value: Value) -> Result<(), Failure> {
        self.say(event, [(field.to_owned(), value)].into_iter().collect())
    }
}

impl Head {
    pub(crate) fn new(node: Node) -> Self {
        Self { node, follows: Arc::default() }
    }

    fn find(&self, follow: &str) -> Result<Arc<Follow>, Failure> {
        let unknown = || Failure(Coded::new(Code::Malformed, "no such chainHead_v1_follow"));
        self.follows.lock().get(follow).cloned().ok_or_else(unknown)
    }

    /// Answers with an operation's id, and does its work once that answer is on its way.
    fn start(
        &self,
        follow: &str,
        work: impl FnOnce(&Node, &Operation) -> Result<(), Failure> + Send + 'static,
    ) -> ResponsePayload<'static, Value> {
        let follow = match self.find(follow) {
            Ok(follow) => follow,
            Err(failure) => return ResponsePayload::error(failure),
        };
        let Ok(permit) = follow.operations.clone().try_acquire_owned() else {
            return ResponsePayload::success(json!({ "result": "limitReached" }));
        };
        let id = follow.next.fetch_add(1, Ordering::Relaxed).to_string();
        let started = json!({ "result": "started", "operationId": id, "discardedItems": 0 });
        let (answer, sent) = ResponsePayload::success(started).notify_on_completion();
        let (node, events) = (self.node.clone(), follow.events.clone());
        let operation = Operation { id: id.clone(), events: events.clone(), _permit: permit };
        tokio::spawn(async move {
            if sent.await.is_err() {
                return;
            }
            // Also if runtime code panicked.
            if let Err(Failure(error)) = node.blocking(move |node| work(node, &operation)).await {
                let event = json!({ "event": "operationError", "operationId": id, "error": error.to_string() });
                // Nobody reads it if the subscription has ended.
                let _ = events.send(event).await;
            }
        });
        answer
    }

    fn runtime(&self) -> Result<Value, serde_json::Error> {
        let mut spec = serde_json::to_value(self.node.0.runtime_version())?;
        // A list of pairs in the old interface, an object in the new one.
        let pairs = spec.get("apis").and_then(Value::as_array).cloned().unwrap_or_default();
        let apis: Map<_, _> =
            pairs.iter().filter_map(|pair| Some((pair.get(0)?.as_str()?.to_owned(), pair.get(1)?.clone()))).collect();
        if let Some(spec) = spec.as_object_mut() {
            spec.insert("apis".into(), apis.into());
        }
        Ok(json!({ "type": "valid", "spec": spec }))
    }

    /// The events of the blocks above `last`, up to this one.
    fn announce(node: &Node, last: BlockId, block: BlockId) -> Result<Vec<Value>, Failure> {
        let (mut events, mut parent) = (vec![], last.hash);
        for number in last.number.saturating_add(1)..=block.number {
            let hash = node.0.block_hash(number)?.ok_or_else(|| Coded::from(Code::UnknownBlock))?;
            let (new, old) = (h256(hash), h256(parent));
            events.push(json!({ "event": "newBlock", "blockHash": new, "parentBlockHash": old, "newRuntime": null }));
            events.push(json!({ "event": "bestBlockChanged", "bestBlockHash": new }));
            events.push(json!({ "event": "finalized", "finalizedBlockHashes": [new], "prunedBlockHashes": [] }));
            parent = hash;
        }
        Ok(events)
    }
}

#[async_trait]
impl ChainHeadServer for Head {
    async fn follow(&self, pending: PendingSubscriptionSink, with_runtime: bool) -> SubscriptionResult {
        let sink = pending.accept().await?;
        let id = match sink.subscription_id() {
            jsonrpsee::types::SubscriptionId::Str(text) => text.into_owned(),
            jsonrpsee::types::SubscriptionId::Num(number) => number.to_string(),
        };
        let (events, mut operations) = mpsc::channel(EVENTS);
        let follow = Follow { events, operations: Arc::new(Semaphore::new(MAX_OPERATIONS)), next: AtomicU64::new(0) };
        self.follows.lock().insert(id.clone(), Arc::new(follow));
        let _end = End { head: self, id };
        let message = |event: &Value| serde_json::value::to_raw_value(event).map(SubscriptionMessage::from);
        let mut heads = self.node.heads();
        let Some(mut last) = heads.next().await else { return Ok(()) };
        let mut first = json!({ "event": "initialized", "finalizedBlockHashes": [h256(last.hash)] });
        if let (true, Some(first)) = (with_runtime, first.as_object_mut()) {
            first.insert("finalizedBlockRuntime".into(), self.runtime()?);
        }
        sink.send(message(&first)?).await?;
        loop {
            tokio::select! {
                () = sink.closed() => return Ok(()),
                Some(event) = operations.recv() => sink.send(message(&event)?).await?,
                head = heads.next() => {
                    let Some(block) = head else { return Ok(()) };
                    let news = self.node.blocking(move |node| Self::announce(node, last, block)).await;
                    for event in news.map_err(|failure| failure.0.to_string())? {
                        sink.send(message(&event)?).await?;
                    }
                    last = block;
                }
            }
        }
    }

    fn header(&self, follow: String, hash: H256) -> RpcResult<Option<Bytes>> {
        self.find(&follow)?;
        Ok(self.node.0.header(&Hash(hash.0)).map_err(Failure)?.map(Bytes))
    }

    fn body(&self, follow: String, hash: H256) -> ResponsePayload<'static, Value> {
        self.start(&follow, move |node, operation| match node.0.body(&Hash(hash.0))? {
            Some(body) => {
                operation.say_one("operationBodyDone", "value", json!(body.into_iter().map(Bytes).collect::<Vec<_>>()))
            }
            None => operation.say("operationInaccessible", Map::new()),
        })
    }

    fn call(&self, follow: String, hash: H256, function: String, data: Bytes) -> ResponsePayload<'static, Value> {
        self.start(&follow, move |node, operation| {
            let output = node.0.call(&Hash(hash.0), &function, &data)?;
            operation.say_one("operationCallDone", "output", json!(Bytes(output)))
        })
    }

    fn storage(
        &self,
        follow: String,
        hash: H256,
        items: Vec<Item>,
        child: Option<Bytes>,
    ) -> ResponsePayload<'static, Value> {
        self.start(&follow, move |node, operation| {
            within(items.len(), PAGE, "items")?;
            if child.is_some() {
                return Err(Failure(Coded::new(Code::Malformed, "this chain has no child tries")));
            }
            for item in items {
                read(node, operation, &Hash(hash.0), &item)?;
            }
            operation.say("operationStorageDone", Map::new())
        })
    }

    fn resume(&self, follow: String, _operation: String) -> RpcResult<()> {
        Ok(self.find(&follow).map(drop)?)
    }

    fn stop_operation(&self, follow: String, _operation: String) -> RpcResult<()> {
        Ok(self.find(&follow).map(drop)?)
    }

    fn unpin(&self, follow: String, _hashes: OneOrMany<H256>) -> RpcResult<()> {
        Ok(self.find(&follow).map(drop)?)
    }
}

/// Forgets a subscription when it ends.
struct End<'a> {
    head: &'a Head,
    id: String,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.head.follows.lock().remove(&self.id);
    }
}

/// Reads one item and reports what is there, in pages.
fn read(node: &Node, operation: &Operation, at: &Hash, item: &Item) -> Result<(), Failure> {
    let hashed = matches!(item.kind, Kind::Hash | Kind::DescendantsHashes);
    let result = |key: Vec<u8>, value: Vec<u8>| match hashed {
        true => json!({ "key": Bytes(key), "hash": h256(phala_primitives::blake2_256(&value)) }),
        false => json!({ "key": Bytes(key), "value": Bytes(value) }),
    };
    let say = |items: Vec<Value>| match items.is_empty() {
        true => Ok(()),
        false => operation.say_one("operationStorageItems", "items", items.into()),
    };
    match item.kind {
        Kind::Value | Kind::Hash => {
            let value = node.0.storage(at, &item.key)?;
            say(value.map(|value| result(item.key.0.clone(), value)).into_iter().collect())
        }
        Kind::ClosestDescendantMerkleValue => {
            Err(Failure(Coded::new(Code::Malformed, "closestDescendantMerkleValue is not served")))
        }
        Kind::DescendantsValues | Kind::DescendantsHashes => {
            let mut start: Option<Vec<u8>> = None;
            for _ in 0..MAX_DESCENDANTS / PAGE {
                let keys = node.0.storage_keys(at, &item.key, PAGE, start.as_deref())?;
                let Some(last) = keys.last().cloned() else { return Ok(()) };
                let mut found = vec![];
                for key in keys {
                    found.extend(node.0.storage(at, &key)?.map(|value| result(key, value)));
                }
                say(found)?;
                start = Some(last);
            }
            Err(Failure(Coded::new(Code::TooLarge, format!("more than {MAX_DESCENDANTS} entries below the prefix"))))
        }
    }
}

//! The server over its real port, in front of a node of two blocks.

use crate::*;
use codec::{Decode, Encode};
use jsonrpsee::{
    core::client::{ClientT, SubscriptionClientT, error::Error as ClientError},
    rpc_params,
    ws_client::{WsClient, WsClientBuilder},
};
use parking_lot::RwLock;
use phala_primitives::{AccountId, Certificate, Code, Coded, Fact, Finality, FinalizedHead, Hash, blake2_256};
use serde_json::{Value, json};
use sp_runtime::{generic, traits::BlakeTwo256};
use sp_version::RuntimeVersion;
use std::{sync::Arc, time::Duration};
use tokio::sync::{broadcast, mpsc};

type Header = generic::Header<u32, BlakeTwo256>;
type Storage = Vec<(Vec<u8>, Vec<u8>)>;

/// A chain of headers, each with its whole storage.
struct Mock {
    info: NodeInfo,
    blocks: RwLock<Vec<(Header, Storage)>>,
    news: broadcast::Sender<BlockId>,
}

fn header(number: u32, parent: Hash) -> Header {
    Header {
        parent_hash: sp_core::H256(parent.0),
        number,
        state_root: sp_core::H256([number as u8; 32]),
        extrinsics_root: Default::default(),
        digest: Default::default(),
    }
}

impl Mock {
    fn new() -> Arc<Self> {
        let genesis = header(0, Hash::ZERO);
        let info = NodeInfo {
            name: "phala".into(),
            version: "1".into(),
            chain: "test".into(),
            development: true,
            genesis: blake2_256(&genesis.encode()),
            peer_id: "me".into(),
            listen: vec![],
            validator: true,
        };
        let storage = vec![(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"1".to_vec())];
        Arc::new(Self { info, blocks: RwLock::new(vec![(genesis, storage)]), news: broadcast::channel(16).0 })
    }

    fn grow(&self, change: (&[u8], &[u8])) -> BlockId {
        let BlockId { number, hash } = self.finalized();
        let mut storage = self.blocks.read().last().unwrap().1.clone();
        storage.iter_mut().filter(|(key, _)| key == change.0).for_each(|(_, value)| *value = change.1.to_vec());
        self.blocks.write().push((header(number + 1, hash), storage));
        let block = self.finalized();
        let _ = self.news.send(block);
        block
    }

    fn find<T>(&self, hash: &Hash, read: impl Fn(&(Header, Storage)) -> T) -> Option<T> {
        self.blocks.read().iter().find(|block| blake2_256(&block.0.encode()) == *hash).map(read)
    }
}

impl Backend for Mock {
    fn info(&self) -> &NodeInfo {
        &self.info
    }
    fn finalized(&self) -> BlockId {
        let blocks = self.blocks.read();
        let header = &blocks.last().unwrap().0;
        BlockId { number: header.number, hash: blake2_256(&header.encode()) }
    }
    fn subscribe(&self) -> broadcast::Receiver<BlockId> {
        self.news.subscribe()
    }
    fn block_hash(&self, number: u32) -> Result<Option<Hash>, Coded> {
        Ok(self.blocks.read().get(number as usize).map(|block| blake2_256(&block.0.encode())))
    }
    fn header(&self, hash: &Hash) -> Result<Option<Vec<u8>>, Coded> {
        Ok(self.find(hash, |block| block.0.encode()))
    }
    fn body(&self, hash: &Hash) -> Result<Option<Vec<Vec<u8>>>, Coded> {
        Ok(self.find(hash, |_| vec![vec![1u8, 2, 3].encode()]))
    }
    fn finality(&self, hash: &Hash) -> Result<Option<Finality>, Coded> {
        Ok(Some(Certificate { epoch: 0, view: 1, parent_view: 0, digest: *hash, votes: vec![] }.into()))
    }
    fn storage(&self, at: &Hash, key: &[u8]) -> Result<Option<Vec<u8>>, Coded> {
        let read = |block: &(Header, Storage)| block.1.iter().find(|entry| entry.0 == key).map(|entry| entry.1.clone());
        self.find(at, read).ok_or(Code::UnknownBlock.into())
    }
    fn storage_keys(&self, _: &Hash, prefix: &[u8], count: usize, start: Option<&[u8]>) -> Result<Vec<Vec<u8>>, Coded> {
        let keys = [b"a".to_vec(), b"b".to_vec()];
        let wanted = |key: &Vec<u8>| key.starts_with(prefix) && start.is_none_or(|start| key.as_slice() > start);
        Ok(keys.into_iter().filter(wanted).take(count).collect())
    }
    fn read_proof(&self, _: &Hash, keys: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Coded> {
        Ok(keys.to_vec())
    }
    fn call(&self, _: &Hash, method: &str, _: &[u8]) -> Result<Vec<u8>, Coded> {
        match method {
            "Metadata_metadata" => Ok(b"meta".to_vec().encode()),
            // A `RuntimeDispatchInfo` in FRAME's encoding.
            "TransactionPaymentApi_query_info" => Ok([[4 * 7, 4 * 9, 1].to_vec(), 5u128.encode()].concat()),
            _ => Err(Code::Malformed.into()),
        }
    }
    fn runtime_version(&self) -> RuntimeVersion {
        RuntimeVersion { spec_version: 3, ..Default::default() }
    }
    fn next_index(&self, account: &AccountId) -> Result<u32, Coded> {
        Ok(u32::from(account.0[0]))
    }
    fn submit(&self, extrinsic: &[u8]) -> Result<Hash, Coded> {
        if extrinsic.is_empty() {
            return Err(Coded::new(Code::BadExtrinsic, "empty"));
        }
        Ok(blake2_256(extrinsic))
    }
    fn submit_and_watch(&self, extrinsic: &[u8]) -> Result<(Hash, mpsc::Receiver<ExtrinsicStatus>), Coded> {
        let hash = self.submit(extrinsic)?;
        let (sender, receiver) = mpsc::channel(4);
        sender.try_send(ExtrinsicStatus::Ready).unwrap();
        let block = self.finalized().hash;
        sender.try_send(ExtrinsicStatus::Finalized { block, index: 0 }).unwrap();
        Ok((hash, receiver))
    }
    fn pending(&self) -> Vec<Vec<u8>> {
        vec![]
    }
    fn health(&self) -> Health {
        Health { peers: 0, syncing: false, needs_peers: false }
    }
    fn peers(&self) -> Vec<Peer> {
        vec![]
    }
}

async fn start() -> (Arc<Mock>, Server, WsClient) {
    let mock = Mock::new();
    let server = serve("127.0.0.1:0".parse().unwrap(), Limits::default(), mock.clone()).await.unwrap();
    let client = WsClientBuilder::default().build(format!("ws://{}", server.address())).await.unwrap();
    (mock, server, client)
}

async fn next(subscription: &mut jsonrpsee::core::client::Subscription<Value>) -> Value {
    tokio::time::timeout(Duration::from_secs(5), subscription.next()).await.unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn blocks_have_substrates_shape() {
    let (mock, _server, client) = start().await;
    let genesis = mock.info.genesis.to_string();
    let best = mock.grow((b"a", b"2")).hash.to_string();
    let block: Value = client.request("chain_getBlock", rpc_params![]).await.unwrap();
    let expected = json!({
        "block": {
            "header": {
                "parentHash": genesis,
                "number": "0x1",
                "stateRoot": format!("0x{}", "01".repeat(32)),
                "extrinsicsRoot": format!("0x{}", "00".repeat(32)),
                "digest": { "logs": [] },
            },
            "extrinsics": ["0x0c010203"],
        },
        "justifications": null,
    });
    assert_eq!(block, expected);
    for (number, hash) in
        [(json!(0), json!(genesis)), (json!("0x1"), json!(best)), (json!([0, 9]), json!([genesis, null]))]
    {
        let found: Value = client.request("chain_getBlockHash", rpc_params![number]).await.unwrap();
        assert_eq!(found, hash);
    }
    let newest: Value = client.request("chain_getBlockHash", rpc_params![]).await.unwrap();
    assert_eq!(newest, json!(best));
}

#[tokio::test]
async fn heads_come_in_order_and_once() {
    let (mock, _server, client) = start().await;
    let method = ("chain_subscribeFinalizedHeads", "chain_unsubscribeFinalizedHeads");
    let mut heads = client.subscribe::<Value, _>(method.0, rpc_params![], method.1).await.unwrap();
    assert_eq!(next(&mut heads).await["number"], "0x0");
    for number in ["0x1", "0x2", "0x3"] {
        mock.grow((b"a", b"2"));
        assert_eq!(next(&mut heads).await["number"], number);
    }
}

#[tokio::test]
async fn storage_subscription_tells_changes_only() {
    let (mock, _server, client) = start().await;
    let keys = json!(["0x61", "0x62"]);
    let method = ("state_subscribeStorage", "state_unsubscribeStorage");
    let mut changes = client.subscribe::<Value, _>(method.0, rpc_params![keys], method.1).await.unwrap();
    assert_eq!(next(&mut changes).await["changes"], json!([["0x61", "0x31"], ["0x62", "0x31"]]));
    mock.grow((b"c", b"2"));
    let block = mock.grow((b"b", b"2"));
    let change = next(&mut changes).await;
    assert_eq!(change, json!({ "block": block.hash.to_string(), "changes": [["0x62", "0x32"]] }));
}

#[tokio::test]
async fn extrinsics_are_watched_to_the_end_and_refusals_carry_codes() {
    let (mock, _server, client) = start().await;
    let hash = mock.info.genesis.to_string();
    let method = ("author_submitAndWatchExtrinsic", "author_unwatchExtrinsic");
    let mut status = client.subscribe::<Value, _>(method.0, rpc_params!["0x00"], method.1).await.unwrap();
    for expected in [json!("ready"), json!({ "inBlock": hash }), json!({ "finalized": hash })] {
        assert_eq!(next(&mut status).await, expected);
    }
    let refused = [
        client.subscribe::<Value, _>(method.0, rpc_params!["0x"], method.1).await.map(|_| ()),
        client.request::<Value, _>("author_submitExtrinsic", rpc_params!["0x"]).await.map(|_| ()),
    ];
    for result in refused {
        let Err(ClientError::Call(error)) = result else { panic!("{result:?}") };
        assert_eq!(error.code(), 1010);
        let data: Value = serde_json::from_str(error.data().unwrap().get()).unwrap();
        assert_eq!(data, json!({ "code": Code::BadExtrinsic as u16, "detail": "empty" }));
    }
}

#[tokio::test]
async fn light_clients_get_heads_and_facts() {
    let (mock, _server, client) = start().await;
    let block = mock.grow((b"a", b"2"));
    let fact: sp_core::Bytes = client.request("phala_fact", rpc_params!["0x61"]).await.unwrap();
    let fact = Fact::decode(&mut &*fact.0).unwrap();
    assert_eq!((fact.head.hash(), fact.key, fact.proof), (block.hash, b"a".to_vec(), vec![b"a".to_vec()]));
    let fact: sp_core::Bytes = client.request("phala_genesisFact", rpc_params!["0x61"]).await.unwrap();
    assert_eq!(Fact::decode(&mut &*fact.0).unwrap().head.hash(), mock.info.genesis);
    let head: sp_core::Bytes = client.request("phala_finalizedHead", rpc_params![]).await.unwrap();
    assert_eq!(FinalizedHead::decode(&mut &*head.0).unwrap().finality.certificate.digest, block.hash);
    let missing = client.request::<Value, _>("phala_fact", rpc_params!["0x61", Hash::ZERO.to_string()]).await;
    assert!(matches!(missing, Err(ClientError::Call(error)) if error.code() == Code::UnknownBlock as i32));
}

#[tokio::test]
async fn state_and_accounts_answer_as_wallets_expect() {
    let (mock, _server, client) = start().await;
    let request = async |method: &str, params: Vec<Value>| client.request::<Value, _>(method, params).await.unwrap();
    assert_eq!(request("state_getMetadata", vec![]).await, json!("0x6d657461"));
    assert_eq!(request("state_getKeysPaged", vec![json!("0x"), json!(1), json!("0x61")]).await, json!(["0x62"]));
    let best = mock.info.genesis.to_string();
    let values = request("state_queryStorageAt", vec![json!(["0x61", "0x63"])]).await;
    assert_eq!(values, json!([{ "block": best, "changes": [["0x61", "0x31"], ["0x63", null]] }]));
    let alice = json!("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY");
    assert_eq!(request("system_accountNextIndex", vec![alice]).await, json!(0xd4));
    let cost = json!({ "weight": { "ref_time": 7, "proof_size": 9 }, "class": "operational", "partialFee": "5" });
    assert_eq!(request("payment_queryInfo", vec![json!("0x00")]).await, cost);
    let version = request("state_getRuntimeVersion", vec![]).await;
    assert_eq!((&version["specVersion"], version["apis"].is_array()), (&json!(3), true));
    let methods = request("rpc_methods", vec![]).await;
    assert!(methods["methods"].as_array().unwrap().contains(&json!("state_subscribeRuntimeVersion")));
    let many = client.request::<Value, _>("state_getKeysPaged", rpc_params!["0x", 1001]).await;
    assert!(matches!(many, Err(ClientError::Call(error)) if error.code() == -32602));
}

#[tokio::test]
async fn the_new_interface_follows_and_reads() {
    let (mock, _server, client) = start().await;
    let method = ("chainHead_v1_follow", "chainHead_v1_unfollow");
    let mut events = client.subscribe::<Value, _>(method.0, rpc_params![true], method.1).await.unwrap();
    let jsonrpsee::core::client::SubscriptionKind::Subscription(id) = events.kind() else { panic!("no id") };
    let id = serde_json::to_value(id).unwrap();
    let first = next(&mut events).await;
    assert_eq!(first["finalizedBlockHashes"], json!([mock.info.genesis.to_string()]));
    let spec = &first["finalizedBlockRuntime"]["spec"];
    assert_eq!((&spec["specVersion"], spec["apis"].is_object()), (&json!(3), true));

    let block = mock.grow((b"a", b"2")).hash.to_string();
    let parent = mock.info.genesis.to_string();
    let new = json!({ "event": "newBlock", "blockHash": block, "parentBlockHash": parent, "newRuntime": null });
    assert_eq!(next(&mut events).await, new);
    assert_eq!(next(&mut events).await["bestBlockHash"], json!(block));
    assert_eq!(next(&mut events).await["finalizedBlockHashes"], json!([block]));

    let items = json!([{ "key": "0x61", "type": "value" }, { "key": "0x", "type": "descendantsValues" }]);
    let params = rpc_params![id.clone(), block.clone(), items, Value::Null];
    let started: Value = client.request("chainHead_v1_storage", params).await.unwrap();
    let operation = json!(started["operationId"].as_str().unwrap());
    assert_eq!(next(&mut events).await["items"], json!([{ "key": "0x61", "value": "0x32" }]));
    let all = json!([{ "key": "0x61", "value": "0x32" }, { "key": "0x62", "value": "0x31" }]);
    assert_eq!(next(&mut events).await["items"], all);
    assert_eq!(next(&mut events).await, json!({ "event": "operationStorageDone", "operationId": operation }));

    let params = rpc_params![id.clone(), block.clone(), "No_such", "0x"];
    let _: Value = client.request("chainHead_v1_call", params).await.unwrap();
    assert_eq!(next(&mut events).await["event"], json!("operationError"));
    let _: Value = client.request("chainHead_v1_body", rpc_params![id, block]).await.unwrap();
    assert_eq!(next(&mut events).await["value"], json!(["0x0c010203"]));
    let foreign = client.request::<Value, _>("chainHead_v1_body", rpc_params!["x", parent]).await;
    assert!(matches!(foreign, Err(ClientError::Call(error)) if error.code() == -32602));
}

//! A chain of one validator with whatever storage it is given, and a cluster of four workers that reverse bytes.

use crate::{cluster::now_ms, keys};
use axum::{
    Router,
    body::Bytes,
    extract::{State, WebSocketUpgrade, ws::Message},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use codec::Encode;
use ed25519_dalek::{Signer, SigningKey};
use jsonrpsee::{RpcModule, server::ServerHandle};
use parking_lot::Mutex;
use phala_light::Header;
use phala_primitives::{
    AccountId, Certificate, Code, Coded, ENGINE, EntryHeader, Executed, Fact, FinalizedHead, Hash, Proposed, PublicKey,
    RequestId, blake2_256, merkle,
    misbehaviour::QueryClaim,
    quorum,
    records::{
        Anchor, Appraisal, Checkpoint, ClusterRecord, ContractRecord, Member, Seal, Tier, WorkerRecord,
        chain_namespace, cluster_namespace,
    },
    storage,
};
use phala_session::{
    Acceptor, Answer, Call, CertificateCache, CommandId, CommandReceipt, EventChain, Incoming, LogPage, LogRecord,
    Outcome, Output, Place, Query, QueryReceipt, Said, SignedCommand, SystemRng,
};
use sp_core::{Blake2Hasher, H256};
use sp_runtime::{Digest, DigestItem};
use sp_trie::{LayoutV1, MemoryDB, Recorder, Trie, TrieDBBuilder, TrieMut, trie_types::TrieDBMutBuilderV1};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
};
use tokio::task::JoinHandle;

pub(super) const CONTRACT: AccountId = AccountId([77; 32]);
const CLUSTER: u32 = 0;

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

pub(super) struct FakeChain {
    validator: SigningKey,
    entries: Mutex<Entries>,
    number: AtomicU32,
    age_ms: AtomicU64,
    /// Age of the blocks under which it proves anything but a policy, and the number of blocks in between.
    past: Mutex<Option<(u64, u32)>>,
    server: Mutex<Option<(String, ServerHandle)>>,
}

/// Certifies a digest for these members; `count` of them sign.
fn certify(keys: &[SigningKey], count: usize, namespace: &[u8], epoch: u64, digest: Hash) -> Certificate {
    let mut certificate = Certificate { epoch, view: 9, parent_view: 8, digest, votes: vec![] };
    let message = certificate.message(namespace);
    let mut keys: Vec<_> = keys.iter().collect();
    keys.sort_by_key(|key| key.verifying_key().to_bytes());
    let votes = keys.iter().take(count).enumerate();
    certificate.votes = votes.map(|(index, key)| (index as u16, key.sign(&message).to_bytes())).collect();
    certificate
}

fn trie(entries: &Entries) -> (MemoryDB<Blake2Hasher>, H256) {
    let (mut db, mut root) = (MemoryDB::default(), H256::zero());
    let mut trie = TrieDBMutBuilderV1::<Blake2Hasher>::new(&mut db, &mut root).build();
    entries.iter().for_each(|(key, value)| drop(trie.insert(key, value).unwrap()));
    drop(trie);
    (db, root)
}

fn header(number: u32, state_root: H256, time_ms: u64) -> Vec<u8> {
    let (parent_hash, extrinsics_root) = (H256::zero(), H256::zero());
    let item = DigestItem::PreRuntime(ENGINE, Proposed { view: 9, time_ms }.encode());
    Header { parent_hash, number, state_root, extrinsics_root, digest: Digest { logs: vec![item] } }.encode()
}

impl FakeChain {
    pub(super) async fn start() -> Arc<Self> {
        let validator = SigningKey::from_bytes(&[1; 32]);
        let (entries, number, server) = (Mutex::default(), AtomicU32::new(10), Mutex::default());
        let chain =
            Arc::new(Self { validator, entries, number, age_ms: AtomicU64::new(0), past: Mutex::default(), server });
        let hex = |bytes: Vec<u8>| format!("0x{}", hex::encode(bytes));
        let key = |params: jsonrpsee::types::Params<'_>| {
            let text: String = params.sequence().next().unwrap();
            hex::decode(text.trim_start_matches("0x")).unwrap()
        };
        let mut module = RpcModule::new(chain.clone());
        let genesis = move |params: jsonrpsee::types::Params<'_>, chain: &Arc<Self>, _: &_| {
            let head =
                FinalizedHead { header: chain.genesis_header(), finality: chain.sign(chain.genesis(), 0).into() };
            hex(chain.prove(&chain.genesis_entries(), head, key(params)).encode())
        };
        module.register_method("phala_genesisFact", move |p, chain, x| genesis(p, chain, x)).unwrap();
        let fact = move |params: jsonrpsee::types::Params<'_>, chain: &Arc<Self>, _: &_| {
            let (entries, key) = (chain.entries.lock().clone(), key(params));
            let head = if key == storage::policy(CLUSTER) { chain.newest() } else { chain.head() };
            hex(chain.prove(&entries, head, key).encode())
        };
        module.register_method("phala_fact", move |p, chain, x| fact(p, chain, x)).unwrap();
        module.register_method("phala_finalizedHead", move |_, chain, _| hex(chain.head().encode())).unwrap();
        let server = jsonrpsee::server::Server::builder().build("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", server.local_addr().unwrap());
        *chain.server.lock() = Some((url, server.start(module)));
        chain
    }

    fn genesis_entries(&self) -> Entries {
        [(storage::validators(), vec![self.validator.verifying_key().to_bytes()].encode())].into()
    }

    fn genesis_header(&self) -> Vec<u8> {
        header(0, trie(&self.genesis_entries()).1, 0)
    }

    pub(super) fn genesis(&self) -> Hash {
        blake2_256(&self.genesis_header())
    }

    pub(super) fn url(&self) -> String {
        self.server.lock().as_ref().unwrap().0.clone()
    }

    pub(super) fn set_number(&self, number: u32) {
        self.number.store(number, Ordering::Relaxed);
    }

    /// From now on its newest block is so old.
    pub(super) fn set_age(&self, age_ms: u64) {
        self.age_ms.store(age_ms, Ordering::Relaxed);
    }

    fn sign(&self, digest: Hash, count: usize) -> Certificate {
        certify(std::slice::from_ref(&self.validator), count, &chain_namespace(&self.genesis()), 0, digest)
    }

    /// From now on it proves policies under its newest block, and all else under one that is so much older.
    pub(super) fn split(&self, age_ms: u64, blocks: u32) {
        *self.past.lock() = Some((age_ms, blocks));
    }

    fn newest(&self) -> FinalizedHead {
        self.head_before(0, 0)
    }

    fn head(&self) -> FinalizedHead {
        let (age_ms, blocks) = self.past.lock().unwrap_or_default();
        self.head_before(age_ms, blocks)
    }

    fn head_before(&self, age_ms: u64, blocks: u32) -> FinalizedHead {
        let time_ms = now_ms().saturating_sub(self.age_ms.load(Ordering::Relaxed) + age_ms);
        let header = header(self.number.load(Ordering::Relaxed) - blocks, trie(&self.entries.lock()).1, time_ms);
        FinalizedHead { finality: self.sign(blake2_256(&header), 1).into(), header }
    }

    fn prove(&self, entries: &Entries, head: FinalizedHead, key: Vec<u8>) -> Fact {
        let (db, root) = trie(entries);
        let mut recorder = Recorder::<LayoutV1<Blake2Hasher>>::new();
        let trie = TrieDBBuilder::<LayoutV1<Blake2Hasher>>::new(&db, &root).with_recorder(&mut recorder).build();
        trie.get(&key).unwrap();
        Fact { head, key, proof: recorder.drain().into_iter().map(|node| node.data).collect() }
    }

    pub(super) fn put(&self, key: Vec<u8>, value: impl Encode) {
        self.entries.lock().insert(key, value.encode());
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Behaviour {
    Honest,
    /// Nothing listens.
    Dead,
    /// Has not executed what created the contract.
    Behind,
    /// Answers 503.
    NotReady,
    /// Signs for another answer than it gives.
    WrongAnswer,
    /// Makes up answer and state, and stands for both.
    Invents,
    /// Executes commands and answers with rubbish.
    Swallows,
    /// Shows entries that too few members signed.
    NoQuorum,
    /// Opens sessions, and takes what comes without a word.
    Hangs,
    /// Says three records to whoever follows, and breaks the connection.
    Drops,
}

/// What the replicas agree on.
struct Log {
    genesis: Hash,
    identities: Vec<SigningKey>,
    epoch: AtomicU64,
    done: Mutex<BTreeMap<CommandId, (EntryHeader, Outcome)>>,
    executions: AtomicUsize,
}

struct Worker {
    account: AccountId,
    identity: SigningKey,
    behaviour: Behaviour,
    acceptor: Acceptor,
    log: Arc<Log>,
    asked: AtomicUsize,
    connections: Mutex<Vec<JoinHandle<()>>>,
}

pub(super) struct FakeCluster {
    log: Arc<Log>,
    workers: Vec<(Arc<Worker>, JoinHandle<()>)>,
}

impl FakeCluster {
    pub(super) async fn start(chain: &FakeChain, behaviours: [Behaviour; 4]) -> Arc<Self> {
        let genesis = chain.genesis();
        let identities: Vec<_> = (0..4).map(|index| SigningKey::from_bytes(&[50 + index; 32])).collect();
        let log = Log {
            genesis,
            identities: identities.clone(),
            epoch: AtomicU64::new(3),
            done: Mutex::default(),
            executions: Default::default(),
        };
        let log = Arc::new(log);
        let mut workers = vec![];
        for (index, (identity, behaviour)) in identities.into_iter().zip(behaviours).enumerate() {
            let account = AccountId([index as u8 + 1; 32]);
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let endpoint = format!("http://{}/", listener.local_addr().unwrap()).into_bytes();
            let key: PublicKey = identity.verifying_key().to_bytes();
            let appraisal = Appraisal { tier: Tier::S, measurement: Hash::ZERO, expires: u64::MAX };
            let (operator, recipient, peer) = (account, [0; 32], vec![]);
            chain.put(
                storage::worker(&account),
                WorkerRecord { operator, identity: key, recipient, endpoint, peer, appraisal },
            );
            let place = Place { genesis, worker: account, cluster: CLUSTER, replay_window: 1000 };
            let cache = Arc::new(CertificateCache::new(10));
            let acceptor = Acceptor::new(place, Arc::new(identity.clone()), cache, now_ms(), &mut SystemRng);
            let (asked, connections) = (AtomicUsize::new(0), Mutex::default());
            let worker = Worker { account, identity, behaviour, acceptor, log: log.clone(), asked, connections };
            let worker = Arc::new(worker);
            let router = Router::new()
                .route("/v1/info", get(info))
                .route("/v1/call", post(call))
                .route("/v1/session", get(session))
                .with_state(worker.clone());
            let dead = behaviour == Behaviour::Dead;
            let task = tokio::spawn(async move {
                if !dead {
                    axum::serve(listener, router).await.unwrap();
                }
            });
            workers.push((worker, task));
        }
        let deployer = AccountId::default();
        chain.put(storage::contract(&CONTRACT), ContractRecord::new(CLUSTER, Hash::ZERO, deployer, false));
        let cluster = Self { log, workers };
        cluster.begin(chain, 3, Anchor::default());
        Arc::new(cluster)
    }

    /// Begins an epoch above this entry.
    pub(super) fn begin(&self, chain: &FakeChain, epoch: u64, floor: Anchor) {
        let member = |(worker, _): &(Arc<Worker>, _)| Member {
            worker: worker.account,
            identity: worker.identity.verifying_key().to_bytes(),
        };
        let members: Vec<_> = self.workers.iter().map(member).collect();
        self.log.epoch.store(epoch, Ordering::Relaxed);
        chain.put(keys::epoch(CLUSTER, epoch), &members);
        let checkpoint = Checkpoint { anchor: floor, ..Checkpoint::default() };
        let record = ClusterRecord { epoch, members, floor, checkpoint, wanted: vec![], readers: vec![] };
        chain.put(storage::cluster(CLUSTER), record);
    }

    pub(super) fn worker(&self, index: usize) -> AccountId {
        self.workers[index].0.account
    }

    /// How many requests a worker answered.
    pub(super) fn asked(&self, index: usize) -> usize {
        self.workers[index].0.asked.load(Ordering::Relaxed)
    }

    /// How many commands were executed.
    pub(super) fn executions(&self) -> usize {
        self.log.executions.load(Ordering::Relaxed)
    }

    pub(super) fn kill(&self, index: usize) {
        let (worker, task) = &self.workers[index];
        task.abort();
        worker.connections.lock().iter().for_each(JoinHandle::abort);
    }
}

fn reversed(data: &[u8]) -> Output {
    Output { flags: 0, data: data.iter().rev().copied().collect() }
}

/// An entry that confirms the state below it: they all have the same.
fn above(height: u64) -> EntryHeader {
    EntryHeader {
        cluster: CLUSTER,
        epoch: 3,
        height,
        view: height,
        parent: Hash::ZERO,
        seal: Seal::Open,
        time_ms: now_ms(),
        executed: Executed { height: height.saturating_sub(1), ..Executed::default() },
        commands_root: Hash::ZERO,
        count: 0,
        body_hash: Hash::ZERO,
    }
}

impl Worker {
    fn answer(&self, request_id: RequestId, call: &Call) -> Result<Answer, Coded> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match call {
            Call::Query(query) => self.query(request_id, query),
            Call::Command(command) => Ok(self.execute(command)),
            Call::Follow(query) => Ok(Answer::Logs(self.page(query.from))),
            Call::Final(height) => Ok(self.entry(*height)),
            Call::Outcome(_)
            | Call::Logs(_)
            | Call::Balance(_)
            | Call::Part(_)
            | Call::History(_)
            | Call::Rehearse(_)
            | Call::Unfollow(_) => Err(Code::Malformed.into()),
        }
    }

    /// Three records of an endless log.
    fn page(&self, from: u64) -> LogPage {
        let said = Said::Line { level: 3, text: "line".into() };
        let record = |number| LogRecord { number, height: number, time_ms: 0, said: said.clone() };
        LogPage { records: (from..from + 3).map(record).collect(), next: from + 3, events: EventChain::default() }
    }

    fn query(&self, request_id: RequestId, query: &Query) -> Result<Answer, Coded> {
        if query.contract != CONTRACT || self.behaviour == Behaviour::Behind {
            return Err(Code::NoContract.into());
        }
        let mut output = reversed(&query.data);
        let invents = self.behaviour == Behaviour::Invents;
        if invents {
            output.data.push(0);
        }
        let claim = QueryClaim {
            contract: query.contract,
            request_id,
            query_hash: query.hash(),
            cluster: CLUSTER,
            epoch: self.log.epoch.load(Ordering::Relaxed),
            height: query.min_height,
            entry: Hash::ZERO,
            entry_time_ms: now_ms(),
            state_root: if invents { Hash([7; 32]) } else { Hash::ZERO },
            time_ms: now_ms(),
            reply_hash: output.hash(),
        };
        if self.behaviour == Behaviour::WrongAnswer {
            output.data.push(0);
        }
        Ok(Answer::Query { output, receipt: QueryReceipt::sign(claim, &self.log.genesis, &self.identity) })
    }

    fn certify(&self, header: &EntryHeader) -> Certificate {
        let signers = if self.behaviour == Behaviour::NoQuorum { quorum(4) - 1 } else { quorum(4) };
        let namespace = cluster_namespace(&self.log.genesis, CLUSTER);
        certify(&self.log.identities, signers, &namespace, 3, header.digest())
    }

    fn entry(&self, height: u64) -> Answer {
        let header = above(height);
        let finality = self.certify(&header).into();
        Answer::Final(Box::new((header, finality)))
    }

    fn execute(&self, command: &SignedCommand) -> Answer {
        let phala_session::Action::Call { data, .. } = &command.command.action else { panic!("only calls") };
        let (header, outcome) = self
            .log
            .done
            .lock()
            .entry(command.command.id)
            .or_insert_with(|| {
                let height = self.log.executions.fetch_add(1, Ordering::Relaxed) as u64 + 1;
                let commands_root = merkle::root(&[command.hash()]);
                let header = EntryHeader { commands_root, count: 1, ..above(height) };
                (header, Outcome { result: Ok(reversed(data)), gas_used: 1 })
            })
            .clone();
        let receipt = CommandReceipt {
            descendants: vec![],
            certificate: self.certify(&header),
            header,
            index: 0,
            path: vec![],
            state_root: Hash::ZERO,
            outcome_hash: outcome.hash(),
            identity: [0; 32],
            signature: [0; 64],
        };
        let receipt = Box::new(receipt.sign(&self.log.genesis, &command.hash(), &self.identity));
        Answer::Command { outcome, receipt }
    }
}

async fn info(State(worker): State<Arc<Worker>>) -> Response {
    if worker.behaviour == Behaviour::NotReady {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let key = hex::encode(worker.acceptor.session_key().encode());
    axum::Json(serde_json::json!({ "session_key": format!("0x{key}"), "else": 1 })).into_response()
}

async fn call(State(worker): State<Arc<Worker>>, body: Bytes) -> Vec<u8> {
    match worker.acceptor.open(&body, now_ms(), 10) {
        Err(refusal) => refusal.into_response(&mut SystemRng),
        Ok(opened) => {
            let Incoming::Call(call) = &opened.incoming else { panic!("no session here") };
            let answer = worker.answer(opened.request_id, call);
            if worker.behaviour == Behaviour::Swallows {
                return vec![1, 2, 3];
            }
            opened.reply.seal(&answer, &mut SystemRng)
        }
    }
}

async fn session(State(worker): State<Arc<Worker>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async move |mut socket| {
        let serve = {
            let worker = worker.clone();
            async move {
                let Some(Ok(Message::Binary(envelope))) = socket.recv().await else { return };
                let Ok(opened) = worker.acceptor.open(&envelope, now_ms(), 10) else { return };
                let Incoming::Open(session) = opened.incoming else { return };
                let confirmed = opened.reply.seal(&Ok(Answer::Opened(session.opening)), &mut SystemRng);
                socket.send(Message::Binary(confirmed.into())).await.unwrap();
                let (mut receiver, mut sender) = (session.receiver, session.sender);
                let mut held = vec![];
                while let Some(Ok(Message::Binary(frame))) = socket.recv().await {
                    let asked = receiver.open(&frame, now_ms()).unwrap();
                    let call = asked.call.unwrap();
                    if worker.behaviour == Behaviour::Hangs {
                        worker.asked.fetch_add(1, Ordering::Relaxed);
                        std::future::pending::<()>().await;
                    }
                    held.push((asked.request_id, worker.answer(asked.request_id, &call)));
                    // Queries come in twos and are answered in the other order.
                    if held.len() == 2 || !matches!(call, Call::Query(_)) {
                        for (request_id, reply) in held.drain(..).rev() {
                            let frame = sender.reply(request_id, reply).unwrap();
                            socket.send(Message::Binary(frame.into())).await.unwrap();
                        }
                    }
                    if worker.behaviour == Behaviour::Drops {
                        return;
                    }
                }
            }
        };
        worker.connections.lock().push(tokio::spawn(serve));
    })
}

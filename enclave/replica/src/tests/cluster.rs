//! Four replicas and no network: the tests carry blocks from one to the other.

use super::chain::{Chain, certify};
use crate::{block::open_block, *};
use ed25519_dalek::SigningKey;
use parking_lot::Mutex;
use phala_keys::{ChainView, ClusterKeys, DevKeyService, KeyRequest, KeyService, RecipientKey};
use phala_pink::{HttpError, HttpRequest, HttpResult, Outside, Pink};
use phala_primitives::{
    AccountId, AccountSignature, Block, Certificate, ClusterId, Coded, EntryHeader, Fact, Hash, Position,
    SIGNING_CONTEXT, Verdict, blake2_256,
    records::{
        Anchor, Appraisal, Checkpoint, ClusterRecord, ContractRecord, Member, Tier, WorkerRecord, cluster_namespace,
        contract_address,
    },
};
use phala_session::{
    Action, Answer, CertificateCache, Command, CommandReceipt, Credentials, Freshness, Outcome, Output, Query, Scope,
    SignedCommand, SystemRng,
};
use phala_vm::{Capacity, Engine};
use schnorrkel::{ExpansionMode, Keypair, MiniSecretKey};
use std::{io, sync::Arc, sync::LazyLock};

pub(super) const CLUSTER: ClusterId = 3;
pub(super) const START_MS: u64 = 1_800_000_000_000;
pub(super) const GAS: u64 = phala_primitives::limits::MAX_COMMAND_GAS;

/// Two engines, so that agreement is not that of one cache with itself.
static ENGINES: LazyLock<[Engine; 2]> = LazyLock::new(|| {
    [(); 2].map(|()| {
        let pink = Pink::new([7; 32], [9; 32], Arc::new(Nowhere), Arc::default());
        Engine::with_extension(Capacity::default(), Arc::new(pink)).unwrap()
    })
});

/// No outside world: these tests ask for it in commands only.
struct Nowhere;

impl Outside for Nowhere {
    fn http(&self, _: &AccountId, requests: Vec<HttpRequest>, _: u64) -> Vec<HttpResult> {
        requests.iter().map(|_| Err(HttpError::NetworkError)).collect()
    }
    fn random(&self, bytes: &mut [u8]) {
        bytes.fill(4);
    }
    fn now_ms(&self) -> u64 {
        START_MS
    }
    fn log(&self, _: &AccountId, _: u8, _: &str) {}
}

/// A disk that forgets what was not synced.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<(Vec<u8>, Vec<u8>)>>);

impl Disk {
    pub(super) fn crash(&self) -> Self {
        let synced = self.0.lock().1.clone();
        Self(Arc::new(Mutex::new((synced.clone(), synced))))
    }
}

impl phala_state::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().0.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        out.copy_from_slice(&self.0.lock().0[offset as usize..offset as usize + out.len()]);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().0.resize(len as usize, 0);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.1 = disk.0.clone();
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.lock().0[offset as usize..offset as usize + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// The chain as the key service sees it.
struct Registry(SigningKey, [u8; 32], u64);

const WORKER: AccountId = AccountId([2; 32]);

impl ChainView for Registry {
    fn genesis(&self) -> Hash {
        Chain::genesis()
    }
    fn now_ms(&self) -> u64 {
        START_MS
    }
    fn worker(&self, _: &AccountId) -> Option<WorkerRecord> {
        let (identity, recipient) = (self.0.verifying_key().to_bytes(), self.1);
        let appraisal = Appraisal { tier: Tier::S, measurement: Hash::ZERO, expires: u64::MAX };
        Some(WorkerRecord { operator: WORKER, identity, recipient, endpoint: vec![], peer: vec![], appraisal })
    }
    fn cluster(&self, _: ClusterId) -> Option<ClusterRecord> {
        let members = vec![Member { worker: WORKER, identity: self.0.verifying_key().to_bytes() }];
        Some(ClusterRecord {
            epoch: self.2,
            members,
            floor: Anchor::default(),
            checkpoint: Checkpoint::default(),
            wanted: vec![],
            readers: vec![],
        })
    }
}

/// Someone who sends commands.
pub(super) struct User {
    pair: Keypair,
    credentials: Credentials,
}

impl User {
    pub(super) fn new(seed: u8) -> Self {
        let pair = MiniSecretKey::from_bytes(&[seed; 32]).unwrap().expand_to_keypair(ExpansionMode::Ed25519);
        let account = AccountId(pair.public.to_bytes());
        let (from, until) = (START_MS - 1000, START_MS + 24 * 3600 * 1000);
        let sign =
            |text: &str| AccountSignature::Sr25519(pair.sign_simple(SIGNING_CONTEXT, text.as_bytes()).to_bytes());
        let credentials = Credentials::issue(Chain::genesis(), account, Scope::All, from, until, &mut SystemRng, sign);
        Self { pair, credentials }
    }

    pub(super) fn id(&self) -> AccountId {
        AccountId(self.pair.public.to_bytes())
    }

    pub(super) fn command_as(&self, command: Command) -> SignedCommand {
        self.credentials.sign(command)
    }

    pub(super) fn command(&self, id: u8, action: Action, gas_limit: u64, deadline_ms: u64) -> SignedCommand {
        self.command_to(CLUSTER, id, action, gas_limit, deadline_ms)
    }

    pub(super) fn command_to(
        &self,
        cluster: ClusterId,
        id: u8,
        action: Action,
        gas_limit: u64,
        deadline_ms: u64,
    ) -> SignedCommand {
        let genesis = Chain::genesis();
        let (id, value) = ([id; 16], 0);
        self.credentials.sign(Command { id, genesis, cluster, action, value, gas_limit, deadline_ms })
    }
}

pub(super) struct Cluster {
    pub(super) id: ClusterId,
    /// With the secrets of the cluster's contracts, if it is not the only one.
    engine: Option<Engine>,
    pub(super) chain: Chain,
    pub(super) replicas: Vec<Arc<Replica>>,
    pub(super) identities: Vec<SigningKey>,
    pub(super) disks: Vec<Disk>,
    pub(super) logs: Vec<Arc<MemoryLog>>,
    pub(super) now: u64,
    pub(super) epoch: u64,
    pub(super) last: Block,
    service: DevKeyService,
    view: u64,
    starts: u8,
}

impl Cluster {
    /// Four replicas in epoch 1.
    pub(super) fn new() -> Self {
        let mut cluster = Self::stopped(CLUSTER);
        cluster.start();
        cluster.enter(Anchor::default());
        cluster
    }

    /// The same of one of several clusters.
    pub(super) fn of(id: ClusterId) -> Self {
        let mut cluster = Self::stopped(id);
        let root = *cluster.keys_of(id).contracts().expose();
        let pink = Pink::new(root, [9; 32], Arc::new(Nowhere), Arc::default());
        cluster.engine = Some(Engine::with_extension(Capacity::default(), Arc::new(pink)).unwrap());
        cluster.start();
        cluster.enter(Anchor::default());
        cluster
    }

    fn stopped(id: ClusterId) -> Self {
        Self {
            id,
            engine: None,
            chain: Chain::new(),
            replicas: vec![],
            identities: vec![],
            disks: (0..4).map(|_| Disk::default()).collect(),
            logs: (0..4).map(|_| Arc::default()).collect(),
            now: START_MS,
            epoch: 0,
            last: Block { header: vec![].into(), body: vec![].into() },
            service: DevKeyService::generate(&mut SystemRng),
            view: 0,
            starts: 0,
        }
    }

    /// What the key service gives to another cluster.
    pub(super) fn keys_of(&self, cluster: ClusterId) -> ClusterKeys {
        self.keys(cluster, 0, self.epoch)
    }

    fn keys(&self, cluster: ClusterId, since: u64, epoch: u64) -> ClusterKeys {
        let (identity, recipient) = (SigningKey::from_bytes(&[9; 32]), RecipientKey::generate(&mut SystemRng));
        let epochs = since.min(epoch)..=epoch;
        let request = KeyRequest::sign(Chain::genesis(), cluster, epochs, WORKER, recipient.public(), &identity);
        let registry = Registry(identity, recipient.public(), epoch);
        self.service.release(&request, &registry, &mut SystemRng).unwrap().open(&request, &recipient).unwrap()
    }

    /// Tells a replica the keys of the epochs from the last that it knows up to this one.
    pub(super) fn teach(&self, replica: &Replica, epoch: u64) {
        replica.learn(&self.keys(self.id, replica.newest_keys() + 1, epoch)).unwrap();
    }

    pub(super) fn open(&self, at: usize, identity: &SigningKey) -> Result<Replica, Coded> {
        let config = Config {
            genesis: Chain::genesis(),
            cluster: self.id,
            identity: Arc::new(identity.clone()),
            validators: self.chain.validators(),
            keys: self.keys(self.id, oldest_epoch(&self.disks[at], self.logs[at].as_ref())?, self.epoch),
            certificates: Arc::new(CertificateCache::new(100)),
            engine: self.engine.clone().unwrap_or_else(|| ENGINES[at % 2].clone()),
            cache: Arc::default(),
            tick_ms: 100,
        };
        let known = (self.epoch, self.members());
        let known = (!self.identities.is_empty()).then_some(&known);
        Replica::open(config, self.disks[at].clone(), self.logs[at].clone(), known)
    }

    pub(super) fn members(&self) -> Vec<[u8; 32]> {
        self.identities.iter().map(|key| key.verifying_key().to_bytes()).collect()
    }

    /// Starts all replicas from what their disks hold, with fresh identities.
    pub(super) fn start(&mut self) {
        self.replicas.clear();
        self.starts += 1;
        let fresh: Vec<_> = (0..4).map(|at| SigningKey::from_bytes(&[self.starts * 10 + at; 32])).collect();
        let open = |at: usize| Arc::new(self.open(at, &fresh[at]).unwrap());
        self.replicas = (0..4).map(open).collect();
        self.identities = fresh;
    }

    /// Begins a new epoch at a floor.
    pub(super) fn enter(&mut self, floor: Anchor) {
        self.epoch += 1;
        for replica in &self.replicas {
            self.teach(replica, self.epoch);
            replica.enter(self.epoch, &self.members(), &floor).unwrap();
        }
        self.last = self.replicas[0].genesis().unwrap();
        assert!(self.replicas.iter().all(|replica| replica.genesis().unwrap() == self.last));
    }

    pub(super) fn at(&self, leader: usize) -> Position {
        let leader = self.identities[leader].verifying_key().to_bytes();
        Position { epoch: self.epoch, view: self.view, leader, now_ms: self.now }
    }

    pub(super) fn certificate(&self, block: &Block) -> Certificate {
        let namespace = cluster_namespace(&Chain::genesis(), self.id);
        certify(&self.identities, &namespace, self.epoch, block.digest(), 3)
    }

    /// What a replica would propose now.
    pub(super) fn propose(&mut self, leader: usize) -> (Position, Block) {
        self.now += 5;
        self.view += 1;
        let at = self.at(leader);
        let block = self.replicas[leader].propose(at, std::slice::from_ref(&self.last)).unwrap();
        (at, block)
    }

    pub(super) fn judge(&self, at: Position, block: &Block) -> Vec<Verdict> {
        let judge = |replica: &Arc<Replica>| replica.verify(at, std::slice::from_ref(&self.last), block);
        self.replicas.iter().map(judge).collect()
    }

    pub(super) fn finalize(&mut self, block: &Block) {
        let certificate = self.certificate(block);
        for replica in &self.replicas {
            replica.finalized(block, &certificate.clone().into()).unwrap();
            replica.settle().unwrap();
        }
        self.last = block.clone();
        let applied = self.replicas[0].applied();
        assert!(self.replicas.iter().all(|replica| replica.applied() == applied), "the replicas differ");
    }

    /// One entry by this leader, which all accept.
    pub(super) fn step(&mut self, leader: usize) -> EntryHeader {
        let (at, block) = self.propose(leader);
        assert_eq!(self.judge(at, &block), [Verdict::Accept; 4]);
        self.finalize(&block);
        open_block(&block, self.id).unwrap()
    }

    /// Sends a command to one replica and has another order it.
    pub(super) fn send(&mut self, command: SignedCommand) -> Outcome {
        let mut ticket = self.replicas[0].submit(command.clone(), self.now).unwrap();
        self.replicas[1].received(&codec::Encode::encode(&vec![&command]), self.now);
        self.step(1);
        let answer = ticket.try_recv().unwrap().expect("executed").unwrap();
        self.check(&command, answer).0
    }

    /// What a client checks of an answer.
    pub(super) fn check(&self, command: &SignedCommand, answer: Answer) -> (Outcome, CommandReceipt) {
        let Answer::Command { outcome, receipt } = answer else { panic!("another kind of answer") };
        let members = self.members();
        assert!(members.contains(&receipt.identity));
        receipt.verify(&Chain::genesis(), self.id, &members, &receipt.identity, &command.hash(), &outcome).unwrap();
        (outcome, *receipt)
    }

    pub(super) fn deadline(&self) -> u64 {
        self.now + 60_000
    }

    pub(super) fn call(&mut self, user: &User, id: u8, contract: AccountId, data: &[u8]) -> Outcome {
        let action = Action::Call { contract, data: data.to_vec() };
        self.send(user.command(id, action, GAS, self.deadline()))
    }

    /// Asks every replica and checks what a client checks.
    pub(super) fn query(&self, user: &User, contract: AccountId, data: &[u8]) -> Result<Output, Coded> {
        let query = Query { contract, data: data.to_vec(), value: 0, min_height: 0, freshness: Freshness::Any };
        let mut outputs: Vec<_> = self
            .replicas
            .iter()
            .map(|replica| {
                let Answer::Query { output, receipt } = replica.query(user.id(), [4; 16], &query, self.now)? else {
                    panic!("another kind of answer")
                };
                let identity = replica.identity.verifying_key().to_bytes();
                receipt.verify(&identity, &Chain::genesis(), &[4; 16], &query, &output).unwrap();
                Ok(output)
            })
            .collect();
        outputs.dedup();
        assert_eq!(outputs.len(), 1, "the replicas answer differently");
        outputs.remove(0)
    }

    /// Address, code hash and proof of a contract that the chain has placed here.
    pub(super) fn place(&self, deployer: &User, code: &[u8], salt: &[u8]) -> (AccountId, Hash, Fact) {
        let code_hash = blake2_256(code);
        let address = contract_address(&deployer.id(), self.id, &code_hash, salt);
        let record = ContractRecord::new(self.id, code_hash, deployer.id(), true);
        (address, code_hash, self.chain.contract(&address, &record))
    }

    /// Uploads code and instantiates it. Takes the ids `id` and `id + 1`.
    pub(super) fn deploy(&mut self, user: &User, id: u8, code: &[u8], data: &[u8]) -> AccountId {
        let upload = Action::Upload { code: code.to_vec(), proof: self.chain.code(code) };
        let uploaded = self.send(user.command(id, upload, GAS, self.deadline()));
        assert!(uploaded.result.is_ok(), "{uploaded:?}");
        let (contract, code_hash, proof) = self.place(user, code, &[id]);
        let (salt, data) = (vec![id], data.to_vec());
        let create = Action::Instantiate { contract, code_hash, salt, data, proof };
        let created = self.send(user.command(id + 1, create, GAS, self.deadline()));
        assert!(created.result.as_ref().is_ok_and(|output| !output.reverted()), "{created:?}");
        contract
    }
}

/// The module in a bundle: the text of its field `wasm`.
fn bundle(json: &str) -> Vec<u8> {
    let (_, rest) = json.split_once(r#""wasm":"#).unwrap();
    hex::decode(rest.trim_start().trim_start_matches("\"0x").split('"').next().unwrap()).unwrap()
}

pub(super) fn flipper() -> Vec<u8> {
    bundle(include_str!("../../../../contracts/fixtures/flipper.contract"))
}

pub(super) fn psp22() -> Vec<u8> {
    bundle(include_str!("../../../../contracts/fixtures/psp22.contract"))
}

pub(super) const NEW: [u8; 4] = [0x9b, 0xae, 0x9d, 0x5e];
pub(super) const FLIP: [u8; 4] = [0x63, 0x3a, 0xa5, 0x51];
pub(super) const GET: [u8; 4] = [0x2f, 0x86, 0x5b, 0xd9];

/// Puts a flipper there, set to `false`.
pub(super) fn with_flipper(user: &User) -> (Cluster, AccountId) {
    let mut cluster = Cluster::new();
    let contract = cluster.deploy(user, 1, &flipper(), &[&NEW[..], &[0]].concat());
    (cluster, contract)
}

/// What a flipper says: `Ok(value)` of ink's language errors.
pub(super) fn flipped(cluster: &Cluster, user: &User, contract: AccountId) -> bool {
    match cluster.query(user, contract, &GET).unwrap().data[..] {
        [0, value] => value == 1,
        ref other => panic!("{other:?}"),
    }
}

use super::*;
use codec::{Decode, Encode};
use ed25519_dalek::SigningKey;
use phala_attest::SealKey;
use phala_primitives::{
    AccountId, ClusterId, Code, Coded, Hash,
    records::{Anchor, Appraisal, Checkpoint, ClusterRecord, Member, Tier, WorkerRecord},
};
use rand_core::{TryCryptoRng, TryRng};
use std::convert::Infallible;

const GENESIS: Hash = Hash([1; 32]);
const WORKER: AccountId = AccountId([2; 32]);
const NOW: u64 = 1_800_000_000_000;

struct OsRng;

impl TryRng for OsRng {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(getrandom::u32().unwrap())
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(getrandom::u64().unwrap())
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        getrandom::fill(bytes).unwrap();
        Ok(())
    }
}

impl TryCryptoRng for OsRng {}

#[derive(Clone)]
struct Chain {
    now_ms: u64,
    record: Option<WorkerRecord>,
    cluster: Option<ClusterRecord>,
}

impl ChainView for Chain {
    fn genesis(&self) -> Hash {
        GENESIS
    }
    fn now_ms(&self) -> u64 {
        self.now_ms
    }
    fn worker(&self, worker: &AccountId) -> Option<WorkerRecord> {
        self.record.clone().filter(|_| *worker == WORKER)
    }
    fn cluster(&self, cluster: ClusterId) -> Option<ClusterRecord> {
        self.cluster.clone().filter(|_| cluster < 2)
    }
}

struct World {
    service: DevKeyService,
    identity: SigningKey,
    recipient: RecipientKey,
    chain: Chain,
}

impl World {
    fn new() -> Self {
        let identity = SigningKey::from_bytes(&[3; 32]);
        let recipient = RecipientKey::generate(&mut OsRng);
        let key = identity.verifying_key().to_bytes();
        let record = WorkerRecord {
            operator: WORKER,
            identity: key,
            recipient: recipient.public(),
            endpoint: vec![],
            peer: vec![],
            appraisal: Appraisal { tier: Tier::S, measurement: Hash::ZERO, expires: NOW + 1 },
        };
        let members = vec![Member { worker: WORKER, identity: key }];
        let cluster = ClusterRecord {
            epoch: 5,
            members,
            floor: Anchor::default(),
            checkpoint: Checkpoint::default(),
            wanted: vec![],
            readers: vec![],
        };
        let chain = Chain { now_ms: NOW, record: Some(record), cluster: Some(cluster) };
        Self { service: DevKeyService::generate(&mut OsRng), identity, recipient, chain }
    }

    fn request(&self, cluster: ClusterId) -> KeyRequest {
        KeyRequest::sign(GENESIS, cluster, 4..=5, WORKER, self.recipient.public(), &self.identity)
    }

    fn refused(&self, request: &KeyRequest, change: impl FnOnce(&mut Chain)) -> Option<Code> {
        let mut chain = self.chain.clone();
        change(&mut chain);
        code(self.service.release(request, &chain, &mut OsRng))
    }

    fn keys(&self, service: &DevKeyService, cluster: ClusterId) -> ClusterKeys {
        let request = self.request(cluster);
        let sealed = service.release(&request, &self.chain, &mut OsRng).unwrap();
        sealed.open(&request, &self.recipient).ok().unwrap()
    }
}

fn code<T>(result: Result<T, Coded>) -> Option<Code> {
    result.err().and_then(|error| error.known())
}

fn exposed(keys: &ClusterKeys) -> Vec<[u8; 32]> {
    let stay = [keys.state_path(), keys.state_commit(), keys.contracts()];
    let change = keys.epochs().flat_map(|epoch| [keys.state_value(epoch), keys.log(epoch)]).flatten();
    stay.into_iter().chain(change).map(|key| *key.expose()).collect()
}

#[test]
fn keys_are_stable_across_restarts_and_differ_by_cluster_and_use() {
    let world = World::new();
    let machine = SealKey::new([7; 32]);
    let stored = world.service.seal(&machine, &mut OsRng).unwrap();
    let restarted = DevKeyService::unseal(&machine, &stored).ok().unwrap();
    let first = exposed(&world.keys(&world.service, 0));
    let mailbox = |service, cluster| world.keys(service, cluster).mailbox().public();
    assert_eq!(mailbox(&world.service, 0), mailbox(&restarted, 0));
    assert_ne!(mailbox(&world.service, 0), mailbox(&world.service, 1));
    assert_eq!(first, exposed(&world.keys(&restarted, 0)));
    let mut all = [first, exposed(&world.keys(&world.service, 1))].concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 14, "no two keys are alike");
}

#[test]
fn derivation_is_frozen() {
    let keys = ClusterKeys::derive(&Key::new([9; 32]), &GENESIS, 3, 0..=1).ok().unwrap();
    let found: Vec<u8> = exposed(&keys).concat();
    let hash = phala_primitives::blake2_256(&found);
    assert_eq!(hash.to_string(), "0x8a2559d2d8ed99327c85cb5f9f2f49e96d4879e5e11abf59e30841fedaea597f");
}

#[test]
fn the_master_secret_opens_on_its_machine_only() {
    let world = World::new();
    let sealed = world.service.seal(&SealKey::new([7; 32]), &mut OsRng).unwrap();
    assert_eq!(code(DevKeyService::unseal(&SealKey::new([8; 32]), &sealed)), Some(Code::Unsealable));
    for bit in 0..sealed.len() * 8 {
        let mut bad = sealed.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(code(DevKeyService::unseal(&SealKey::new([7; 32]), &bad)), Some(Code::Unsealable), "bit {bit}");
    }
    for length in 0..sealed.len() {
        assert!(DevKeyService::unseal(&SealKey::new([7; 32]), &sealed[..length]).is_err());
    }
    assert_eq!(code(unseal(&SealKey::new([7; 32]), "another use", &sealed)), Some(Code::Unsealable));
}

#[test]
fn keys_are_refused_to_whom_the_chain_does_not_name() {
    let world = World::new();
    let request = world.request(0);
    assert_eq!(world.refused(&request, |_| ()), None);
    assert_eq!(world.refused(&request, |c| c.now_ms = NOW + 1), Some(Code::AppraisalExpired));
    assert_eq!(world.refused(&request, |c| c.record = None), Some(Code::NotMember));
    assert_eq!(world.refused(&request, |c| c.cluster = None), Some(Code::NoSuchCluster));
    assert_eq!(world.refused(&request, |c| c.cluster.as_mut().unwrap().members.clear()), Some(Code::NotMember));
    let reads = |c: &mut Chain| {
        let cluster = c.cluster.as_mut().unwrap();
        cluster.readers = cluster.members.drain(..).map(|member| member.worker).collect();
    };
    assert_eq!(world.refused(&request, reads), None);
    assert_eq!(world.refused(&request, |c| c.cluster.as_mut().unwrap().epoch = 6), Some(Code::NotMember));
    // The worker restarted: the old life's request is worth nothing, the new life's is good before it has a vote.
    let restarted = |c: &mut Chain| c.record.as_mut().unwrap().recipient = [4; 32];
    assert_eq!(world.refused(&request, restarted), Some(Code::AppraisalExpired));
    let restarted = |c: &mut Chain| c.record.as_mut().unwrap().identity = [4; 32];
    assert_eq!(world.refused(&request, restarted), Some(Code::BadSignature));
    let restarted = |c: &mut Chain| c.cluster.as_mut().unwrap().members[0].identity = [4; 32];
    assert_eq!(world.refused(&request, restarted), None);
    assert_eq!(world.refused(&KeyRequest { since: 6, ..request.clone() }, |_| ()), Some(Code::Malformed));
    assert_eq!(world.refused(&KeyRequest { since: 3, ..request.clone() }, |_| ()), Some(Code::BadSignature));
    assert_eq!(world.refused(&KeyRequest { genesis: Hash::ZERO, ..request.clone() }, |_| ()), Some(Code::WrongNetwork));
    assert_eq!(world.refused(&KeyRequest { cluster: 1, ..request }, |_| ()), Some(Code::BadSignature));
    let thief =
        KeyRequest::sign(GENESIS, 0, 4..=5, WORKER, world.recipient.public(), &SigningKey::from_bytes(&[8; 32]));
    assert_eq!(world.refused(&thief, |_| ()), Some(Code::BadSignature));
}

#[test]
fn sealed_keys_open_for_their_recipient_and_request_only() {
    let world = World::new();
    let request = world.request(0);
    let sealed = world.service.release(&request, &world.chain, &mut OsRng).unwrap();
    let thief = RecipientKey::generate(&mut OsRng);
    assert_eq!(code(sealed.open(&request, &thief)), Some(Code::NotAuthentic));
    assert_eq!(code(sealed.open(&world.request(1), &world.recipient)), Some(Code::NotAuthentic));
    let good = sealed.encode();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let bad = SealedKeys::decode(&mut bad.as_slice());
        assert!(bad.is_err() || bad.unwrap().open(&request, &world.recipient).is_err(), "bit {bit}");
    }
}

#[test]
fn keys_of_many_epochs_come_in_parts_and_are_those_of_each() {
    let mut world = World::new();
    let last = 2 * MAX_EPOCHS + 5;
    world.chain.cluster.as_mut().unwrap().epoch = last;
    let ask = |since: u64| {
        let request = KeyRequest::sign(GENESIS, 0, since..=last, WORKER, world.recipient.public(), &world.identity);
        world.service.release(&request, &world.chain, &mut OsRng).unwrap().open(&request, &world.recipient).unwrap()
    };
    let (mut keys, mut since, mut parts) = (ask(0), MAX_EPOCHS, 1);
    assert_eq!(keys.epochs().max(), Some(MAX_EPOCHS - 1));
    while since <= last {
        keys.add(ask(since));
        (since, parts) = (since + MAX_EPOCHS, parts + 1);
    }
    assert_eq!((parts, keys.epochs().collect::<Vec<_>>()), (3, (0..=last).collect()));
    let alone = ask(last);
    assert_eq!(alone.epochs().collect::<Vec<_>>(), [last]);
    for of in [ClusterKeys::state_value, ClusterKeys::log] {
        assert_eq!(of(&alone, last).unwrap().expose(), of(&keys, last).unwrap().expose());
        assert!(of(&alone, last - 1).is_none());
    }
    assert_eq!(alone.state_path().expose(), keys.state_path().expose());
}

#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "tests read files and clocks, and print")]

mod forgery;
mod golden;
mod life;
mod receipts;
mod speed;

use crate::*;
use ed25519_dalek::SigningKey;
use phala_primitives::{AccountId, AccountSignature, Certificate, Code, Coded, Fact, FinalizedHead, Hash, blake2_256};
use rand_core::{TryCryptoRng, TryRng};
use std::{convert::Infallible, sync::Arc};

pub(crate) const NOW: u64 = 1_800_000_000_000;
pub(crate) const HEIGHT: u32 = 1000;
pub(crate) const GENESIS: Hash = Hash([0x11; 32]);
pub(crate) const WORKER: AccountId = AccountId([0x22; 32]);
pub(crate) const CONTRACT: AccountId = AccountId([0x33; 32]);
pub(crate) const CLUSTER: u32 = 7;
const HOUR: u64 = 3_600_000;

/// Block `n` is the BLAKE2b-256 hash of the seed and `n`, both u64 little endian. For tests only.
pub(crate) struct TestRng {
    seed: u64,
    blocks: u64,
    left: Vec<u8>,
}

impl TestRng {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, blocks: 0, left: vec![] }
    }
}

impl TryRng for TestRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes).map(|()| u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes).map(|()| u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            if self.left.is_empty() {
                self.left = blake2_256(&[self.seed.to_le_bytes(), self.blocks.to_le_bytes()].concat()).0.to_vec();
                self.left.reverse();
                self.blocks += 1;
            }
            *byte = self.left.pop().unwrap();
        }
        Ok(())
    }
}

impl TryCryptoRng for TestRng {}

/// One replica and one account.
pub(crate) struct World {
    pub(crate) rng: TestRng,
    pub(crate) identity: Arc<SigningKey>,
    pub(crate) acceptor: Acceptor,
    pub(crate) credentials: Arc<Credentials>,
}

pub(crate) fn account() -> schnorrkel::Keypair {
    schnorrkel::MiniSecretKey::from_bytes(&[9; 32]).unwrap().expand_to_keypair(schnorrkel::ExpansionMode::Ed25519)
}

/// Credentials of the test's account, signed without randomness so that vectors are stable.
pub(crate) fn credentials(genesis: Hash, scope: Scope, from: u64, until: u64, rng: &mut TestRng) -> Arc<Credentials> {
    let key = SigningKey::from_bytes(&[9; 32]);
    let account = AccountId(key.verifying_key().to_bytes());
    Arc::new(Credentials::issue(genesis, account, scope, from, until, rng, |text| {
        AccountSignature::Ed25519(ed25519_dalek::Signer::sign(&key, text.as_bytes()).to_bytes())
    }))
}

pub(crate) fn place() -> Place {
    Place { genesis: GENESIS, worker: WORKER, cluster: CLUSTER, replay_window: 100 }
}

impl World {
    pub(crate) fn new() -> Self {
        let mut rng = TestRng::new(1);
        let identity = Arc::new(SigningKey::from_bytes(&[4; 32]));
        let cache = Arc::new(CertificateCache::new(16));
        let acceptor = Acceptor::new(place(), identity.clone(), cache, NOW, &mut rng);
        let credentials = credentials(GENESIS, Scope::All, NOW, NOW + 24 * HOUR, &mut rng);
        Self { rng, identity, acceptor, credentials }
    }

    pub(crate) fn client(&self) -> Client {
        self.client_of(self.credentials.clone())
    }

    pub(crate) fn client_of(&self, credentials: Arc<Credentials>) -> Client {
        Client::new(self.acceptor.session_key().body, credentials).unwrap()
    }

    pub(crate) fn query(&mut self) -> Sealed<PendingReply> {
        self.client().query(query(), HEIGHT + 20, &mut self.rng).unwrap()
    }

    pub(crate) fn refusal(&self, envelope: &[u8]) -> Option<Code> {
        self.acceptor.open(envelope, NOW, HEIGHT).err().and_then(|refusal| refusal.error.known())
    }
}

pub(crate) fn query() -> Query {
    Query { contract: CONTRACT, data: vec![1, 2, 3, 4], value: 0, min_height: 5, freshness: Freshness::Any }
}

pub(crate) fn call() -> Command {
    Command {
        id: [5; 16],
        genesis: GENESIS,
        cluster: CLUSTER,
        action: Action::Call { contract: CONTRACT, data: vec![6; 40] },
        value: 0,
        gas_limit: 1_000_000,
        deadline_ms: NOW + 60_000,
    }
}

pub(crate) fn fact() -> Fact {
    let certificate = Certificate { epoch: 0, view: 0, parent_view: 0, digest: Hash::ZERO, votes: vec![] };
    Fact { head: FinalizedHead { header: vec![1], finality: certificate.into() }, key: vec![2], proof: vec![] }
}

pub(crate) fn code<T>(result: Result<T, Coded>) -> Option<Code> {
    result.err().and_then(|error| error.known())
}

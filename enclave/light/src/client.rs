//! The light client's state: genesis, validators, newest head, and which hashes were found final.

use crate::proof;
use codec::{Decode, DecodeAll, Encode};
use phala_primitives::{
    Code, Coded, ENGINE, Fact, FinalizedHead, Hash, Proposed, PublicKey, blake2_256, limits::MAX_MEMBERS,
    records::chain_namespace, storage,
};
use sp_runtime::{DigestItem, generic, traits::BlakeTwo256};
use std::collections::{BTreeSet, VecDeque};

/// The chain's header.
pub type Header = generic::Header<u32, BlakeTwo256>;

/// Largest encoded header that is looked at, in bytes.
const MAX_HEADER: usize = 16 << 10;
/// How many hashes of final blocks are remembered, so that facts under the same head cost one check of signatures.
const REMEMBERED: usize = 1024;

/// A finalised block's place and state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Head {
    number: u32,
    hash: Hash,
    time_ms: u64,
}

/// When a block was proposed, in milliseconds since 1970; 0 for a header that does not say it, as that of the genesis.
fn time_of(header: &Header) -> u64 {
    let proposed = header.digest.logs.iter().find_map(|item| match item {
        DigestItem::PreRuntime(ENGINE, item) => Proposed::decode_all(&mut item.as_slice()).ok(),
        _ => None,
    });
    proposed.map_or(0, |proposed| proposed.time_ms)
}

/// A FRAME header begins with the hash of its parent.
fn parent_hash(header: &[u8]) -> Option<Hash> {
    header.first_chunk::<32>().map(|hash| Hash(*hash))
}

/// Follows the chain by certificates. See the crate's documentation.
#[derive(Clone, Debug)]
pub struct LightClient {
    genesis: Hash,
    namespace: Vec<u8>,
    validators: Vec<PublicKey>,
    head: Head,
    verified: BTreeSet<Hash>,
    order: VecDeque<Hash>,
}

impl LightClient {
    /// A client of the chain with this genesis hash, whose validators are known already.
    pub fn new(genesis: Hash, validators: Vec<PublicKey>) -> Self {
        let head = Head { number: 0, hash: genesis, time_ms: 0 };
        let namespace = chain_namespace(&genesis);
        Self { genesis, namespace, validators, head, verified: BTreeSet::new(), order: VecDeque::new() }
    }

    /// A client that knows only the genesis hash, given a fact about `Registry::Validators` under the genesis block.
    ///
    /// Errors: `GenesisChanged` if the fact is about another block, `BadReadProof` if it does not prove validators.
    pub fn bootstrap(genesis: Hash, fact: &Fact) -> Result<Self, Coded> {
        if fact.head.hash() != genesis {
            return Err(Coded::new(Code::GenesisChanged, format!("expected {genesis}, got {}", fact.head.hash())));
        }
        if fact.key != storage::validators() {
            return Err(Coded::new(Code::BadReadProof, "the fact is not about the validators"));
        }
        let header = decode_header(&fact.head.header)?;
        let value = proof::read(&header.state_root.0, &fact.key, &fact.proof)?
            .ok_or_else(|| Coded::new(Code::BadReadProof, "the genesis block names no validators"))?;
        let validators =
            decode_validators(&value).ok_or_else(|| Coded::new(Code::BadReadProof, "the validators do not decode"))?;
        Ok(Self::new(genesis, validators))
    }

    /// Hash of the chain's first block.
    pub fn genesis(&self) -> Hash {
        self.genesis
    }

    /// The validators, as ed25519 keys.
    pub fn validators(&self) -> &[PublicKey] {
        &self.validators
    }

    /// Number of the newest block that was shown to be final; 0 at the start.
    pub fn number(&self) -> u32 {
        self.head.number
    }

    /// Hash of that block.
    pub fn hash(&self) -> Hash {
        self.head.hash
    }

    /// When that block was proposed, in milliseconds since 1970, as a quorum of validators agreed with their clocks at
    /// hand; 0 at the start. Whoever withholds newer blocks cannot make it younger.
    pub fn time_ms(&self) -> u64 {
        self.head.time_ms
    }

    /// Takes a head that is final. One that is not newer than the present one changes nothing.
    ///
    /// Errors: `BadFinality` if the certificate does not prove it.
    pub fn update(&mut self, head: &FinalizedHead) -> Result<Header, Coded> {
        let hash = head.hash();
        let header = decode_header(&head.header)?;
        self.check_final(hash, &header, head)?;
        if header.number > self.head.number {
            self.head = Head { number: header.number, hash, time_ms: time_of(&header) };
        }
        Ok(header)
    }

    /// The value that the fact proves, or `None` if it proves that there is none. The head of the fact counts as an
    /// update. `key` must be that of the fact, and its block at least `oldest`.
    ///
    /// Errors: `BadFinality`, `BadReadProof`; `StaleHead` if the block is older than `oldest`.
    pub fn check(&mut self, fact: &Fact, key: &[u8], oldest: u32) -> Result<Option<Vec<u8>>, Coded> {
        if fact.key != key {
            return Err(Coded::new(Code::BadReadProof, "the fact is about another key"));
        }
        let header = self.update(&fact.head)?;
        if header.number < oldest {
            let detail = format!("block {} is shown, {oldest} is the oldest accepted", header.number);
            return Err(Coded::new(Code::StaleHead, detail));
        }
        proof::read(&header.state_root.0, key, &fact.proof)
    }

    /// Like [`Self::check`], for a value of a known type.
    pub fn check_value<T: Decode>(&mut self, fact: &Fact, key: &[u8], oldest: u32) -> Result<Option<T>, Coded> {
        let Some(bytes) = self.check(fact, key, oldest)? else { return Ok(None) };
        let mut input = bytes.as_slice();
        match T::decode(&mut input) {
            Ok(value) if input.is_empty() => Ok(Some(value)),
            _ => Err(Coded::new(Code::BadReadProof, "the proven value has another form: is the client too old?")),
        }
    }

    fn check_final(&mut self, hash: Hash, header: &Header, head: &FinalizedHead) -> Result<(), Coded> {
        if hash == self.genesis || self.verified.contains(&hash) {
            return Ok(());
        }
        let bad = |detail: String| Coded::new(Code::BadFinality, detail);
        if !head.finality.leads_from(hash, parent_hash) {
            return Err(bad("the certificate is for another block".into()));
        }
        if header.number == 0 {
            return Err(bad("another genesis block".into()));
        }
        head.finality.certificate.verify(&self.namespace, &self.validators).map_err(|error| bad(error.to_string()))?;
        self.remember(hash);
        Ok(())
    }

    fn remember(&mut self, hash: Hash) {
        if self.order.len() >= REMEMBERED
            && let Some(old) = self.order.pop_front()
        {
            self.verified.remove(&old);
        }
        if self.verified.insert(hash) {
            self.order.push_back(hash);
        }
    }
}

fn decode_header(bytes: &[u8]) -> Result<Header, Coded> {
    let bad = || Coded::new(Code::BadFinality, "the header does not decode");
    if bytes.len() > MAX_HEADER {
        return Err(bad());
    }
    let header = Header::decode(&mut &*bytes).map_err(|_| bad())?;
    // What was signed is the hash of these bytes: no other encoding of the same header may pass.
    if blake2_256(&header.encode()) != blake2_256(bytes) {
        return Err(bad());
    }
    Ok(header)
}

fn decode_validators(value: &[u8]) -> Option<Vec<PublicKey>> {
    let mut input = value;
    let validators = Vec::<PublicKey>::decode(&mut input).ok()?;
    let fits = input.is_empty() && !validators.is_empty() && validators.len() <= MAX_MEMBERS as usize;
    fits.then_some(validators)
}

//! The session keys of a replica.

use crate::{KeyId, SessionKey, SignedSessionKey, crypto, replay::ReplayWindow};
use ed25519_dalek::SigningKey;
use phala_primitives::{AccountId, Hash};
use rand_core::CryptoRng;
use std::sync::{Arc, Mutex};

/// How long a session key is the newest, in milliseconds.
pub const ROTATE_MS: u64 = 60 * 60 * 1000;
/// How long it is kept after that.
pub const GRACE_MS: u64 = 10 * 60 * 1000;

/// A session key and what was opened with it.
pub(crate) struct Slot {
    pub(crate) id: KeyId,
    pub(crate) secret: crypto::Secret,
    pub(crate) seen: Mutex<ReplayWindow>,
    published: SignedSessionKey,
}

/// The newest session key and those in their grace. A key leaves memory when it ends.
pub(crate) struct KeyRing {
    genesis: Hash,
    worker: AccountId,
    identity: Arc<SigningKey>,
    window: usize,
    /// Newest last; never empty.
    slots: Vec<Arc<Slot>>,
    newest: Arc<Slot>,
}

impl KeyRing {
    pub(crate) fn new(
        genesis: Hash,
        worker: AccountId,
        identity: Arc<SigningKey>,
        window: usize,
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let newest = Arc::new(Slot::new(genesis, worker, &identity, window, now_ms, rng));
        Self { genesis, worker, identity, window, slots: vec![newest.clone()], newest }
    }

    /// Makes the next key if it is time, and wipes what has ended. Says whether there is a new key.
    pub(crate) fn tick(&mut self, now_ms: u64, rng: &mut impl CryptoRng) -> bool {
        let due = now_ms >= self.newest.published.body.not_before_ms.saturating_add(ROTATE_MS);
        if due {
            self.newest = Arc::new(Slot::new(self.genesis, self.worker, &self.identity, self.window, now_ms, rng));
            self.slots.push(self.newest.clone());
        }
        self.slots.retain(|slot| now_ms < slot.published.body.not_after_ms);
        due
    }

    /// The newest key as it is published.
    pub(crate) fn published(&self) -> &SignedSessionKey {
        &self.newest.published
    }

    /// The key of this name, unless it has ended.
    pub(crate) fn find(&self, id: &KeyId, now_ms: u64) -> Option<Arc<Slot>> {
        self.slots.iter().find(|slot| slot.id == *id && now_ms < slot.published.body.not_after_ms).cloned()
    }
}

impl Slot {
    fn new(
        genesis: Hash,
        worker: AccountId,
        identity: &SigningKey,
        window: usize,
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let (secret, key) = crypto::generate(rng);
        let not_after_ms = now_ms.saturating_add(ROTATE_MS + GRACE_MS);
        let body = SessionKey { key, genesis, worker, not_before_ms: now_ms, not_after_ms };
        let id = body.id();
        Self { id, secret, seen: Mutex::new(ReplayWindow::new(window)), published: body.sign(identity) }
    }
}

//! A configuration, examined and put in the engine's form.

use crate::{
    Application, LogConfig, StartError,
    block::{Digest, Item, Rules},
};
use commonware_codec::{Copying, DecodeExt as _};
use commonware_consensus::{
    marshal::{self, standard::Standard},
    simplex::{self, scheme::ed25519::Scheme},
};
use commonware_cryptography::{Signer as _, ed25519};
use commonware_runtime::Quota;
use commonware_utils::{
    NZU32, Participant,
    ordered::{Quorum as _, Set},
};
use phala_primitives::PublicKey;
use std::{num::NonZeroU32, sync::Arc};

/// Channels of a log's network.
pub(crate) const VOTES: u64 = 0;
pub(crate) const CERTIFICATES: u64 = 1;
pub(crate) const REQUESTS: u64 = 2;
pub(crate) const BLOCKS: u64 = 3;
pub(crate) const BACKFILL: u64 = 4;
pub(crate) const AUXILIARY: u64 = 5;

/// A configuration that was found sound, with its keys in the engine's form.
pub(crate) struct Checked {
    pub(crate) config: LogConfig,
    pub(crate) key: ed25519::PrivateKey,
    pub(crate) members: Set<ed25519::PublicKey>,
    pub(crate) rules: Rules,
    pub(crate) app: Arc<dyn Application>,
    pub(crate) scheme: Scheme,
    pub(crate) me: Participant,
}

impl Checked {
    pub(crate) fn new(config: LogConfig, app: Arc<dyn Application>) -> Result<Self, StartError> {
        let wrong = StartError::Config;
        let key =
            ed25519::PrivateKey::decode(Copying(config.me.expose())).map_err(|_| wrong("the key cannot be read"))?;
        let keys = config.members.iter().map(|peer| public(&peer.key)).collect::<Option<Vec<_>>>();
        let keys = keys.ok_or(wrong("a member's key is no ed25519 key"))?;
        let members = Set::try_from(keys).map_err(|_| wrong("a member is named twice"))?;
        let scheme = Scheme::signer(&config.namespace, members.clone(), key.clone())
            .ok_or(wrong("the own key is not among the members"))?;
        let me = members.index(&key.public_key()).ok_or(wrong("the own key is not among the members"))?;
        let times = &config.timeouts;
        if times.leader <= config.pacing.heartbeat || config.pacing.heartbeat < config.pacing.min_interval {
            return Err(wrong("the leader's timeout must exceed the heartbeat, and that the shortest interval"));
        }
        if times.certification <= times.leader || times.skip <= times.certification.max(times.retry) {
            return Err(wrong("each timeout must exceed the one before: leader, certification, skip"));
        }
        if times.retry.is_zero() || times.fetch.is_zero() || config.max_rate == 0 || config.messages_per_second == 0 {
            return Err(wrong("timeouts and rates must not be zero"));
        }
        if config.partition.is_empty()
            || !config.partition.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        {
            return Err(wrong("a partition is named by letters, digits, - and _"));
        }
        if config.max_block > 64 << 20 || config.max_message > 64 << 20 || config.prune_step == 0 {
            return Err(wrong("blocks and messages are at most 64 MiB, and the pruning step is not zero"));
        }
        let rules = Rules::new(app.clone(), config.max_block).ok_or(wrong("the application refuses its genesis"))?;
        Ok(Self { config, key, members, rules, app, scheme, me })
    }

    /// Largest message on the log's network.
    pub(crate) fn max_size(&self) -> u32 {
        let n = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        commonware_p2p::max_message_size(&[
            simplex::max_payload_size::<Scheme, Digest>(n),
            marshal::max_payload_size::<Standard<Item>, Scheme>(n, &self.rules),
            self.config.max_message,
        ])
    }

    /// What each member may send to another on a channel. The engine's queues are sized by the burst, in advance.
    pub(crate) fn quota(&self, channel: u64) -> Quota {
        let rate = self.config.max_rate;
        let per_second = match channel {
            VOTES | CERTIFICATES => rate.saturating_mul(4).max(64),
            REQUESTS | BLOCKS | BACKFILL => rate.saturating_mul(2).max(128),
            _ => self.config.messages_per_second,
        };
        let per_second = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
        Quota::per_second(per_second).allow_burst(per_second.min(NZU32!(512)))
    }
}

/// A member's key in the engine's form.
pub(crate) fn public(key: &PublicKey) -> Option<ed25519::PublicKey> {
    ed25519::PublicKey::decode(Copying(key)).ok()
}

/// The plain form of a member's key.
pub(crate) fn plain_key(key: &ed25519::PublicKey) -> PublicKey {
    let mut out = [0; 32];
    out.copy_from_slice(key.as_ref());
    out
}

//! One epoch of a log: simplex decides digests, buffered broadcast carries blocks, marshal puts them in order and
//! fetches what is missing, one task calls the application.
//!
//! ```text
//!   p2p ─ votes, certificates, requests ─▶ simplex ──▶ Listener ──▶ marshal ──▶ Delivery ─┐
//!   p2p ─ blocks ────────────────────────▶ buffer ─────────────────▶   │                   ▼
//!   p2p ─ backfill ──────────────────────▶ resolver ───────────────▶   │               Caller ─▶ Application
//!                       simplex ─▶ Inline ─▶ Glue (pacing, ancestry) ──┘                   ▲
//!   p2p ─ messages ────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A member votes for a block when it holds it, its parent, and the application's `Accept`. Upon a restart over the
//! same storage, simplex replays its journal, so that it never votes twice in a view, and marshal delivers again
//! from the first block that the application had not taken.

use crate::{
    Application, LogConfig, Recipient, StartError,
    block::{Item, Rules},
    caller::{Caller, MESSAGES},
    glue::Glue,
    handle::{Order, Shared},
    report::{Delivery, Listener, Recent, Tail},
};
use bytes::Bytes;
use commonware_broadcast::buffered;
use commonware_codec::{Copying, DecodeExt as _};
use commonware_consensus::{
    marshal::{
        self, Start,
        core::{Actor, Mailbox, Processed},
        resolver::p2p as backfill,
        standard::{Inline, Standard},
    },
    simplex::{
        self, ForwardPolicy, SkipBudget, SkipPolicy,
        elector::{Config as _, RoundRobin},
        scheme::ed25519::Scheme,
    },
    types::{Epoch, EpochInfo, Epocher, Height, TermLength, View, ViewDelta},
};
use commonware_cryptography::{
    Digested, Digestible as _, Sha256, Signer as _,
    certificate::{ConstantProvider, Verifier as _},
    ed25519,
};
use commonware_macros::select;
use commonware_p2p::{Blocker, Provider, Receiver, Recipients, Sender};
use commonware_parallel::Sequential;
use commonware_runtime::{Clock, Handle, Metrics, Quota, Spawner, Storage, buffer::paged::CacheRef};
use commonware_storage::{archive::prunable, translator::EightCap};
use commonware_utils::{
    NZDuration, NZU16, NZU32, NZU64, NZUsize, Participant,
    ordered::{Quorum as _, Set},
};
use parking_lot::Mutex;
use phala_primitives::PublicKey;
use rand_core::CryptoRng;
use std::{
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::{mpsc, watch};

/// Views of a stable leader's term: practically, until it fails.
const TERM: TermLength = TermLength::new(NZU32!(1_000_000));
/// Messages that wait inside the engine before its own overflow rules apply.
const MAILBOX: usize = 256;
/// Views kept below the last final one for members that lag.
const RETAINED: ViewDelta = ViewDelta::new(128);

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
    scheme: Scheme,
    me: Participant,
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
            simplex::max_payload_size::<Scheme, crate::block::Digest>(n),
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

/// A log's network: one pair of ends for each channel, who the peers are, and the means to shut one out.
pub(crate) struct Network<S, R, P, B> {
    pub(crate) votes: (S, R),
    pub(crate) certificates: (S, R),
    pub(crate) requests: (S, R),
    pub(crate) blocks: (S, R),
    pub(crate) backfill: (S, R),
    pub(crate) auxiliary: (S, R),
    pub(crate) provider: P,
    pub(crate) blocker: B,
}

/// The near ends of a log's handle.
pub(crate) struct Ends {
    pub(crate) shared: Arc<Shared>,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) stop: mpsc::UnboundedReceiver<()>,
}

/// All heights belong to the one epoch of this log.
#[derive(Clone)]
struct Whole(Epoch);

/// The last height; one below the greatest number, so that the number of heights is a number.
const LAST: Height = Height::new(u64::MAX - 1);

impl Epocher for Whole {
    fn containing(&self, height: Height) -> Option<EpochInfo> {
        (height <= LAST).then(|| EpochInfo::new(self.0, height, Height::zero(), LAST))
    }

    fn first(&self, epoch: Epoch) -> Option<Height> {
        (epoch == self.0).then(Height::zero)
    }

    fn last(&self, epoch: Epoch) -> Option<Height> {
        (epoch == self.0).then_some(LAST)
    }
}

/// Runs a log until it is told to stop, or a part of it fails.
pub(crate) async fn run<E, S, R, P, B>(context: E, network: Network<S, R, P, B>, checked: Checked, mut ends: Ends)
where
    E: CryptoRng + Spawner + Metrics + Clock + Storage,
    S: Sender<PublicKey = ed25519::PublicKey>,
    R: Receiver<PublicKey = ed25519::PublicKey>,
    P: Provider<PublicKey = ed25519::PublicKey>,
    B: Blocker<PublicKey = ed25519::PublicKey>,
{
    let Network { votes, certificates, requests, blocks, backfill: fill, auxiliary, provider, blocker } = network;
    let shared = ends.shared.clone();
    let epoch = Epoch::new(checked.config.epoch);
    let pages = CacheRef::new(NZU16!(4084), NZUsize!(64));
    let Some(genesis) = checked.rules.admit(checked.app.genesis()) else { return };
    let genesis_digest = genesis.digest();

    let resolver = backfill::init(
        context.child("backfill"),
        backfill::Config {
            public_key: checked.key.public_key(),
            peer_provider: provider.clone(),
            blocker: blocker.clone(),
            mailbox_size: NZUsize!(MAILBOX),
            fetch_timeout: NZDuration!(checked.config.timeouts.fetch),
            fetch_retry_delay: checked.config.timeouts.fetch / 8,
            priority_requests: false,
            priority_responses: false,
        },
        fill,
    );
    let (broadcast, buffer) = buffered::Engine::new(
        context.child("broadcast"),
        buffered::Config {
            public_key: checked.key.public_key(),
            mailbox_size: NZUsize!(MAILBOX),
            deque_size: 8,
            priority: false,
            codec_config: checked.rules.clone(),
            peer_provider: provider,
            strategy: Sequential,
        },
    );
    let mut parts = vec![broadcast.start(blocks)];

    let Some((actor, mailbox, floor)) = order(&context, &checked, genesis, pages.clone()).await else { return };
    let taken = floor.processed().map_or(0, |p: Processed| p.height().get());
    shared.height.store(checked.rules.genesis().saturating_add(taken), Ordering::SeqCst);
    shared.tip.fetch_max(checked.rules.genesis().saturating_add(taken), Ordering::SeqCst);

    let recent = Recent::default();
    let (calls, waiting) = mpsc::unbounded_channel();
    let (tail, delivered) = mpsc::unbounded_channel();
    let (head, known) = watch::channel(taken);
    let (inbox, messages) = mpsc::channel(MESSAGES);

    parts.push(actor.start(
        Tail { shared: shared.clone(), genesis: checked.rules.genesis(), blocks: tail },
        buffer,
        resolver,
    ));
    let delivery = Delivery {
        clock: context.child("delivery"),
        marshal: mailbox.clone(),
        recent: recent.clone(),
        blocks: delivered,
        calls: calls.clone(),
    };
    parts.push(context.child("delivery").spawn(|_| delivery.run()));
    let (app, genesis_height, caller_shared) = (checked.app.clone(), checked.rules.genesis(), shared.clone());
    parts.push(context.child("caller").dedicated().spawn(move |context| {
        let shared = caller_shared;
        Caller { context, app, shared, genesis: genesis_height, taken: head, head: None, calls: waiting, messages }
            .run()
    }));
    let (mut sender, receiver) = auxiliary;
    parts.push(context.child("inbox").spawn(move |_| receive(receiver, inbox)));

    let glue = Glue {
        app: checked.app.clone(),
        rules: checked.rules.clone(),
        calls,
        taken: known,
        pacing: checked.config.pacing,
        last: Arc::new(Mutex::new(context.current())),
    };
    let inline = Inline::new(context.child("inline"), glue, mailbox.clone(), Whole(epoch));
    let config = engine(&checked, blocker, inline, recent, shared.clone(), pages, genesis_digest);
    parts.push(simplex::Engine::new(context.child("simplex"), config).start(votes, certificates, requests));

    let mut ended = Box::pin(Handle::select(parts));
    loop {
        select! {
            _ = ends.stop.recv() => return,
            result = &mut ended => {
                tracing::error!(?result, "a part of a log ended");
                return;
            },
            order = next(&mut ends.orders) => match order {
                Order::Send(to, message) => {
                    if let Some(to) = recipients(to, &shared, &checked.key) {
                        let _ = sender.send(to, message, false);
                    }
                }
                Order::Prune(below) => {
                    mailbox.prune(Height::new(below.saturating_sub(checked.rules.genesis())));
                }
            },
        }
    }
}

/// The next order; never, once all handles are gone.
async fn next(orders: &mut mpsc::Receiver<Order>) -> Order {
    match orders.recv().await {
        Some(order) => order,
        None => std::future::pending().await,
    }
}

fn recipients(to: Recipient, shared: &Shared, me: &ed25519::PrivateKey) -> Option<Recipients<ed25519::PublicKey>> {
    let one = match to {
        Recipient::All => return Some(Recipients::All),
        Recipient::Leader => (*shared.leader.lock())?,
        Recipient::One(key) => key,
    };
    public(&one).filter(|key| *key != me.public_key()).map(Recipients::One)
}

/// Takes auxiliary messages off the network. What the application cannot take in time is dropped.
async fn receive<R>(mut receiver: R, inbox: mpsc::Sender<(PublicKey, Bytes)>)
where
    R: Receiver<PublicKey = ed25519::PublicKey>,
{
    while let Ok((from, message)) = receiver.recv().await {
        let mut key = [0; 32];
        key.copy_from_slice(from.as_ref());
        let _ = inbox.try_send((key, message.into()));
    }
}

type Store<E, V> = prunable::Archive<EightCap, E, crate::block::Digest, V>;
type Finalization = simplex::types::Finalization<Scheme, crate::block::Digest>;
type Ordering_<E> = Actor<
    E,
    Standard<Item>,
    ConstantProvider<Scheme, Epoch>,
    Store<E, Finalization>,
    Store<E, Arc<Item>>,
    Whole,
    Sequential,
>;

/// Opens marshal over its archives of final blocks and certificates.
async fn order<E>(
    context: &E,
    checked: &Checked,
    genesis: Digested<Item>,
    pages: CacheRef,
) -> Option<(Ordering_<E>, Mailbox<Scheme, Standard<Item>>, marshal::core::Floor)>
where
    E: CryptoRng + Spawner + Metrics + Clock + Storage,
{
    let prefix = &checked.config.partition;
    let step = std::num::NonZeroU64::new(checked.config.prune_step)?;
    let buffer = NZUsize!(64 << 10);
    let finalizations = prunable::Archive::init(
        context.child("finalizations"),
        prunable::Config {
            translator: EightCap,
            metadata_partition: format!("{prefix}-certificates-metadata"),
            key_partition: format!("{prefix}-certificates-key"),
            key_page_cache: pages.clone(),
            value_partition: format!("{prefix}-certificates-value"),
            compression: None,
            codec_config: Scheme::certificate_codec_config_unbounded(),
            items_per_section: step,
            key_write_buffer: buffer,
            value_write_buffer: buffer,
            replay_buffer: buffer,
        },
    )
    .await;
    let blocks = prunable::Archive::init(
        context.child("blocks"),
        prunable::Config {
            translator: EightCap,
            metadata_partition: format!("{prefix}-blocks-metadata"),
            key_partition: format!("{prefix}-blocks-key"),
            key_page_cache: pages.clone(),
            value_partition: format!("{prefix}-blocks-value"),
            compression: None,
            codec_config: checked.rules.clone(),
            items_per_section: step,
            key_write_buffer: buffer,
            value_write_buffer: buffer,
            replay_buffer: buffer,
        },
    )
    .await;
    let (finalizations, blocks) = match (finalizations, blocks) {
        (Ok(finalizations), Ok(blocks)) => (finalizations, blocks),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, partition = prefix, "the storage of a log cannot be opened");
            return None;
        }
    };
    let config = marshal::Config {
        provider: ConstantProvider::new(checked.scheme.clone()),
        epocher: Whole(Epoch::new(checked.config.epoch)),
        start: Start::Genesis(genesis),
        partition_prefix: format!("{prefix}-marshal"),
        mailbox_size: NZUsize!(MAILBOX),
        view_retention: RETAINED,
        prunable_items_per_section: NZU64!(256),
        page_cache: pages,
        replay_buffer: buffer,
        key_write_buffer: buffer,
        value_write_buffer: buffer,
        block_codec_config: checked.rules.clone(),
        max_repair: NZUsize!(32),
        max_pending_acks: NZUsize!(16),
        strategy: Sequential,
    };
    Some(Actor::init(context.child("marshal"), finalizations, blocks, config).await)
}

type Config<B, A> = simplex::Config<Scheme, RoundRobin<Sha256>, B, crate::block::Digest, A, A, Listener<A>, Sequential>;

/// The configuration of simplex.
fn engine<B, A>(
    checked: &Checked,
    blocker: B,
    inline: A,
    recent: Recent,
    shared: Arc<Shared>,
    page_cache: CacheRef,
    genesis: crate::block::Digest,
) -> Config<B, A>
where
    B: Blocker<PublicKey = ed25519::PublicKey>,
    A: commonware_consensus::CertifiableAutomaton<
            Context = simplex::types::Context<crate::block::Digest, ed25519::PublicKey>,
            Digest = crate::block::Digest,
        > + commonware_consensus::Relay
        + commonware_consensus::Reporter<Activity = simplex::types::Activity<Scheme, crate::block::Digest>>,
{
    let config = &checked.config;
    let times = config.timeouts;
    let mut elector = RoundRobin::<Sha256>::default();
    if config.stable_leader {
        let stall = times.certification.saturating_mul(4).max(Duration::from_millis(100));
        elector = elector.with_term(TERM, stall, ViewDelta::new(0));
    }
    let listener = Listener {
        next: inline.clone(),
        shared,
        recent,
        elector: elector.clone().build(&checked.members),
        members: checked.members.clone(),
        epoch: Epoch::new(config.epoch),
        me: checked.me,
        heard: Arc::new(Mutex::new((vec![0; checked.members.len()], View::zero()))),
    };
    listener.begin();
    simplex::Config {
        scheme: checked.scheme.clone(),
        elector,
        blocker,
        automaton: inline.clone(),
        relay: inline,
        reporter: listener,
        track_historical_votes: false,
        strategy: Sequential,
        partition: format!("{}-votes", config.partition),
        mailbox_size: NZUsize!(MAILBOX),
        epoch: Epoch::new(config.epoch),
        floor: simplex::Floor::Genesis(genesis),
        replay_buffer: NZUsize!(64 << 10),
        write_buffer: NZUsize!(64 << 10),
        page_cache,
        leader_timeout: times.leader,
        certification_timeout: times.certification,
        timeout_retry: times.retry,
        view_retention: RETAINED,
        skip: SkipPolicy::Enabled { timeout: times.skip, budget: SkipBudget::Participants },
        fetch_timeout: NZDuration!(times.fetch),
        fetch_retry_delay: times.fetch / 8,
        forward: if config.stable_leader { ForwardPolicy::Disabled } else { ForwardPolicy::SilentLeader },
    }
}

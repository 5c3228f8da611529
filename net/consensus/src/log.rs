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
    Recipient,
    block::Digest,
    caller::{Caller, MESSAGES},
    check::{Checked, plain_key, public},
    eager::{Eager, Seen},
    glue::Glue,
    handle::{Order, Shared},
    report::{Delivery, Listener, Recent, Tail},
    store::{self, BUFFER, MAILBOX, RETAINED, Whole},
    witness::Witness,
};
use bytes::Bytes;
use commonware_broadcast::buffered;
use commonware_consensus::{
    CertifiableAutomaton, Relay, Reporter,
    marshal::{core::Processed, resolver::p2p as backfill, standard::Inline},
    simplex::{
        self, ForwardPolicy, SkipBudget, SkipPolicy,
        elector::{Config as _, RoundRobin},
        scheme::ed25519::Scheme,
        types::{Activity, Context},
    },
    types::{Epoch, Height, TermLength, View, ViewDelta},
};
use commonware_cryptography::{Digestible as _, Sha256, Signer as _, ed25519};
use commonware_macros::select;
use commonware_p2p::{Blocker, Provider, Receiver, Recipients, Sender};
use commonware_parallel::Sequential;
use commonware_runtime::{Clock, Handle, Metrics, Spawner, Storage, buffer::paged::CacheRef};
use commonware_utils::{NZDuration, NZU16, NZU32, NZUsize};
use parking_lot::Mutex;
use phala_primitives::PublicKey;
use rand_core::CryptoRng;
use std::sync::{Arc, atomic::Ordering};
use tokio::sync::{mpsc, watch};

/// Views of a stable leader's term: practically, until it fails.
const TERM: TermLength = TermLength::new(NZU32!(1_000_000));
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
    pub(crate) stop: mpsc::Receiver<()>,
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

    let Some((actor, mailbox, floor)) = store::open(&context, &checked, genesis, pages.clone()).await else { return };
    let taken = floor.processed().map_or(0, |p: Processed| p.height().get());
    shared.height.store(checked.rules.genesis().saturating_add(taken), Ordering::SeqCst);
    shared.tip.fetch_max(checked.rules.genesis().saturating_add(taken), Ordering::SeqCst);

    let recent = Recent::default();
    let (calls, waiting) = mpsc::unbounded_channel();
    let (tail, delivered) = mpsc::unbounded_channel();
    let (head, known) = watch::channel(taken);
    let (finals, hurried) = mpsc::unbounded_channel();
    let seen = Seen::default();
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
        seen: seen.clone(),
        blocks: delivered,
        finals: hurried,
        calls: calls.clone(),
        taken: Height::new(taken),
        head: (taken == 0).then_some(genesis_digest),
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
        seen: seen.clone(),
        calls: calls.clone(),
        taken: known,
        pacing: checked.config.pacing,
        last: Arc::new(Mutex::new(context.current())),
    };
    let inline = Inline::new(context.child("inline"), glue, mailbox.clone(), Whole(epoch));
    let eager = checked.config.eager;
    let automaton = Eager { inner: inline, seen: eager.then_some(seen) };
    let listener = Listener {
        next: automaton.clone(),
        shared: shared.clone(),
        recent,
        finals: eager.then(|| finals.clone()),
        elector: elector(&checked).build(&checked.members),
        members: checked.members.clone(),
        epoch,
        me: checked.me,
        heard: Arc::new(Mutex::new((vec![0; checked.members.len()], View::zero()))),
        witness: Arc::new(Mutex::new(Witness::new(
            checked.config.namespace.clone(),
            checked.config.epoch,
            checked.members.iter().map(plain_key).collect(),
        ))),
        calls: calls.clone(),
    };
    listener.begin();
    let config = engine(&checked, blocker, automaton, listener, pages, genesis_digest);
    parts.push(simplex::Engine::new(context.child("simplex"), config).start(votes, certificates, requests));

    let mut ended = Box::pin(Handle::select(parts));
    loop {
        select! {
            () = next(&mut ends.stop) => return,
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

/// The next word of a handle; never, once all handles are gone.
async fn next<T>(words: &mut mpsc::Receiver<T>) -> T {
    match words.recv().await {
        Some(word) => word,
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
        let _ = inbox.try_send((plain_key(&from), message.into()));
    }
}

type Config<B, A> = simplex::Config<Scheme, RoundRobin<Sha256>, B, Digest, A, A, Listener<A>, Sequential>;

/// Who leads when.
fn elector(checked: &Checked) -> RoundRobin<Sha256> {
    if !checked.config.stable_leader {
        return RoundRobin::default();
    }
    let stall = checked.config.timeouts.certification.saturating_mul(4);
    RoundRobin::default().with_term(TERM, stall, ViewDelta::new(0))
}

/// The configuration of simplex.
fn engine<B, A>(
    checked: &Checked,
    blocker: B,
    automaton: A,
    listener: Listener<A>,
    page_cache: CacheRef,
    genesis: Digest,
) -> Config<B, A>
where
    B: Blocker<PublicKey = ed25519::PublicKey>,
    A: CertifiableAutomaton<Context = Context<Digest, ed25519::PublicKey>, Digest = Digest>
        + Relay
        + Reporter<Activity = Activity<Scheme, Digest>>,
{
    let config = &checked.config;
    let times = config.timeouts;
    simplex::Config {
        scheme: checked.scheme.clone(),
        elector: elector(checked),
        blocker,
        automaton: automaton.clone(),
        relay: automaton,
        reporter: listener,
        // What convicts a member may come after the certificate.
        track_historical_votes: true,
        strategy: Sequential,
        partition: format!("{}-votes", config.partition),
        mailbox_size: NZUsize!(MAILBOX),
        epoch: Epoch::new(config.epoch),
        floor: simplex::Floor::Genesis(genesis),
        replay_buffer: BUFFER,
        write_buffer: BUFFER,
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

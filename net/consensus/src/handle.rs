//! The handle of a running log.

use crate::log::Ends;
use bytes::Bytes;
use parking_lot::Mutex;
use phala_primitives::PublicKey;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::sync::{mpsc, watch};

/// Orders that may wait for the log's own task.
const ORDERS: usize = 1024;

/// Whom a message of [`LogHandle::send`] is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recipient {
    /// Every other member.
    All,
    /// The member that leads now; nobody, if that is this one or unknown.
    Leader,
    /// One member.
    One(PublicKey),
}

/// What a running log and its handles share.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) stopping: AtomicBool,
    pub(crate) failed: AtomicBool,
    pub(crate) height: AtomicU64,
    pub(crate) tip: AtomicU64,
    pub(crate) peers: AtomicU64,
    pub(crate) leader: Mutex<Option<PublicKey>>,
}

impl Shared {
    /// Notes that the log has ended, which is a failure unless it was asked to.
    pub(crate) fn end(&self) {
        if !self.stopping.load(Ordering::SeqCst) {
            self.failed.store(true, Ordering::SeqCst);
        }
    }
}

/// What a handle asks of the log's own task.
pub(crate) enum Order {
    Send(Recipient, Bytes),
    Prune(u64),
}

/// A running log. Clones are handles of the same log, which goes on when all are dropped.
#[derive(Clone)]
pub struct LogHandle {
    shared: Arc<Shared>,
    max_message: usize,
    orders: mpsc::Sender<Order>,
    stop: mpsc::Sender<()>,
    ended: watch::Receiver<bool>,
}

impl LogHandle {
    /// A handle, its near ends, and the means to tell that all is over.
    pub(crate) fn new(max_message: usize, genesis: u64) -> (Self, Ends, watch::Sender<bool>) {
        let shared = Arc::new(Shared::default());
        shared.height.store(genesis, Ordering::SeqCst);
        shared.tip.store(genesis, Ordering::SeqCst);
        let (orders, waiting) = mpsc::channel(ORDERS);
        let (stop, stopped) = mpsc::channel(1);
        let (over, ended) = watch::channel(false);
        let ends = Ends { shared: shared.clone(), orders: waiting, stop: stopped };
        (Self { shared, max_message, orders, stop, ended }, ends, over)
    }

    /// What the log and its handles share.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Whether the log was told to stop.
    pub(crate) fn stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::SeqCst)
    }

    /// Whether the log has ended.
    pub(crate) fn ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Stops the log. A call of the application that is under way is finished; none begins after it. Returns at once:
    /// [`LogHandle::stopped`] tells when all is over and the address is free.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = self.stop.try_send(());
    }

    /// Completes when the log has ended, by `stop` or because it failed.
    pub async fn stopped(&self) {
        let mut ended = self.ended.clone();
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Whether the log ended without having been asked to, for instance because its storage failed.
    pub fn failed(&self) -> bool {
        self.shared.failed.load(Ordering::SeqCst)
    }

    /// Sends a message to other members, who get it by `Application::received`. Never blocks. The message may be
    /// lost: this returns `false` when it surely is, because it is too large or too much waits already.
    pub fn send(&self, to: Recipient, message: Bytes) -> bool {
        message.len() <= self.max_message && self.orders.try_send(Order::Send(to, message)).is_ok()
    }

    /// The member that leads now, as far as is known here.
    pub fn leader(&self) -> Option<PublicKey> {
        *self.shared.leader.lock()
    }

    /// How many other members were heard voting lately.
    pub fn peers(&self) -> usize {
        usize::try_from(self.shared.peers.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    /// Height of the last block that the application has taken, or of the genesis.
    pub fn height(&self) -> u64 {
        self.shared.height.load(Ordering::SeqCst)
    }

    /// Greatest height known to be final. It is above [`LogHandle::height`] while blocks are fetched.
    pub fn tip(&self) -> u64 {
        self.shared.tip.load(Ordering::SeqCst)
    }

    /// Allows the log to forget blocks below this height. Members that lag further behind can no longer catch up
    /// from this one. Heights that the application has not taken yet are ignored.
    pub fn prune(&self, below: u64) {
        let _ = self.orders.try_send(Order::Prune(below));
    }
}

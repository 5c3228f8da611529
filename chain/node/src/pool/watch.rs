//! Who wants to know what becomes of an extrinsic.

use phala_primitives::{Code, Coded, Hash};
use phala_rpc::ExtrinsicStatus;
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Most watchers of all extrinsics.
const MAX_WATCHERS: usize = 16_384;
/// Messages that wait for one watcher: ready, future and a last word, with room.
const MESSAGES: usize = 8;

#[derive(Default)]
pub(super) struct Watchers {
    by_hash: BTreeMap<Hash, Watched>,
    count: usize,
}

#[derive(Default)]
struct Watched {
    ready: bool,
    senders: Vec<mpsc::Sender<ExtrinsicStatus>>,
}

impl Watchers {
    /// A new watcher, told at once how things stand; nothing follows unless the extrinsic is `present`.
    pub(super) fn watch(
        &mut self,
        hash: &Hash,
        now: ExtrinsicStatus,
        present: bool,
    ) -> mpsc::Receiver<ExtrinsicStatus> {
        let (sender, receiver) = mpsc::channel(MESSAGES);
        let ready = now == ExtrinsicStatus::Ready;
        let _ = sender.try_send(now);
        if self.count >= MAX_WATCHERS {
            let _ = sender.try_send(ExtrinsicStatus::Dropped(Coded::new(Code::PoolFull, "too many watchers")));
        } else if present {
            let watched = self.by_hash.entry(*hash).or_default();
            watched.ready |= ready;
            watched.senders.push(sender);
            self.count = self.count.saturating_add(1);
        }
        receiver
    }

    /// The extrinsic became ready, or still is.
    pub(super) fn ready(&mut self, hash: &Hash) {
        if let Some(watched) = self.by_hash.get_mut(hash)
            && !watched.ready
        {
            watched.ready = true;
            watched.senders.iter().for_each(|sender| drop(sender.try_send(ExtrinsicStatus::Ready)));
        }
    }

    /// The extrinsic left the pool.
    pub(super) fn last_word(&mut self, hash: &Hash, status: impl FnOnce() -> ExtrinsicStatus) {
        let Some(watched) = self.by_hash.remove(hash) else { return };
        self.count = self.count.saturating_sub(watched.senders.len());
        let status = status();
        watched.senders.iter().for_each(|sender| drop(sender.try_send(status.clone())));
    }
}

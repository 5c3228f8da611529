//! What a log keeps: blocks and certificates in archives by height, put in order by marshal.

use crate::{
    block::{Digest, Item},
    check::Checked,
};
use commonware_consensus::{
    marshal::{
        self, Start,
        core::{Actor, Floor, Mailbox},
        standard::Standard,
    },
    simplex::{self, scheme::ed25519::Scheme},
    types::{Epoch, EpochInfo, Epocher, Height, ViewDelta},
};
use commonware_cryptography::{
    Digested,
    certificate::{ConstantProvider, Verifier as _},
};
use commonware_parallel::Sequential;
use commonware_runtime::{Clock, Metrics, Spawner, Storage, buffer::paged::CacheRef};
use commonware_storage::{archive::prunable, translator::EightCap};
use commonware_utils::{NZU64, NZUsize};
use rand_core::CryptoRng;
use std::{
    num::{NonZeroU64, NonZeroUsize},
    sync::Arc,
};

/// Messages that wait inside an actor before its own overflow rules apply.
pub(crate) const MAILBOX: usize = 256;
/// Views kept below the last final one for members that lag.
pub(crate) const RETAINED: ViewDelta = ViewDelta::new(128);

/// Bytes buffered before they are written.
pub(crate) const BUFFER: NonZeroUsize = NZUsize!(64 << 10);

/// All heights belong to the one epoch of this log.
#[derive(Clone)]
pub(crate) struct Whole(pub(crate) Epoch);

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

type Store<E, V> = prunable::Archive<EightCap, E, Digest, V>;
type Finalization = simplex::types::Finalization<Scheme, Digest>;
type Order<E> = Actor<
    E,
    Standard<Item>,
    ConstantProvider<Scheme, Epoch>,
    Store<E, Finalization>,
    Store<E, Arc<Item>>,
    Whole,
    Sequential,
>;

/// Opens marshal over its archives of final blocks and certificates.
pub(crate) async fn open<E>(
    context: &E,
    checked: &Checked,
    genesis: Digested<Item>,
    pages: CacheRef,
) -> Option<(Order<E>, Mailbox<Scheme, Standard<Item>>, Floor)>
where
    E: CryptoRng + Spawner + Metrics + Clock + Storage,
{
    let prefix = &checked.config.partition;
    let step = NonZeroU64::new(checked.config.prune_step)?;
    let certificates = archive(prefix, "certificates", Scheme::certificate_codec_config_unbounded(), step, &pages);
    let finalizations = prunable::Archive::init(context.child("certificates"), certificates).await;
    let blocks = archive(prefix, "blocks", checked.rules.clone(), step, &pages);
    let blocks = prunable::Archive::init(context.child("blocks"), blocks).await;
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
        replay_buffer: BUFFER,
        key_write_buffer: BUFFER,
        value_write_buffer: BUFFER,
        block_codec_config: checked.rules.clone(),
        max_repair: NZUsize!(32),
        max_pending_acks: NZUsize!(16),
        strategy: Sequential,
    };
    Some(Actor::init(context.child("marshal"), finalizations, blocks, config).await)
}

fn archive<C>(prefix: &str, name: &str, codec: C, step: NonZeroU64, pages: &CacheRef) -> prunable::Config<EightCap, C> {
    prunable::Config {
        translator: EightCap,
        metadata_partition: format!("{prefix}-{name}-metadata"),
        key_partition: format!("{prefix}-{name}-key"),
        key_page_cache: pages.clone(),
        value_partition: format!("{prefix}-{name}-value"),
        compression: None,
        codec_config: codec,
        items_per_section: step,
        key_write_buffer: BUFFER,
        value_write_buffer: BUFFER,
        replay_buffer: BUFFER,
    }
}

//! Runs the runtime on a state: builds blocks, checks blocks, validates extrinsics, calls runtime APIs.
//!
//! Runtime code may panic on hostile input; each entry catches that, and what the code has changed is dropped.

use crate::{
    block::{self, Extrinsic, Parsed},
    error::NodeError,
    pool::{Candidate, Queue},
    trie::{Delta, State},
};
use codec::Encode;
use phala_primitives::{Hash, Proposed};
use phala_runtime::{AccountId, Executive, Header, Runtime, System, Timestamp};
use sp_core::storage::StateVersion;
use sp_core::{Blake2Hasher, H256};
use sp_externalities::set_and_run_with_externalities;
use sp_runtime::{
    traits::Header as _,
    transaction_validity::{InvalidTransaction, TransactionSource, TransactionValidityError, ValidTransaction},
};
use sp_state_machine::{Ext, OverlayedChanges};
use std::{
    cell::Cell,
    collections::BinaryHeap,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

/// How many extrinsics that do not fit any more are passed over before a block counts as full.
const MISFITS: u32 = 16;

/// Runs code of the runtime on a state, and catches its panics.
fn run<R>(
    state: &State,
    overlay: &mut OverlayedChanges<Blake2Hasher>,
    code: impl FnOnce() -> R,
) -> Result<R, NodeError> {
    let mut ext = Ext::new(overlay, state, None);
    catch_unwind(AssertUnwindSafe(|| set_and_run_with_externalities(&mut ext, code))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        NodeError::Panicked(text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).into())).unwrap_or_default())
    })
}

/// Reads through the runtime; what it changes is dropped.
pub(crate) fn read<R>(state: &State, code: impl FnOnce() -> R) -> Result<R, NodeError> {
    run(state, &mut OverlayedChanges::default(), code)
}

fn changes(state: &State, mut overlay: OverlayedChanges<Blake2Hasher>) -> Result<Delta, NodeError> {
    let changes = overlay.drain_storage_changes(state, StateVersion::V1).map_err(NodeError::State)?;
    Ok(changes.transaction.into())
}

/// Why a block is not valid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the block has no timestamp, or something else that nobody signed")]
    Unsigned,
    #[error("extrinsic {0} does not decode")]
    Undecodable(usize),
    #[error("extrinsic {0} is invalid: {1}")]
    Invalid(usize, &'static str),
    #[error("its header does not fit it, or its parent")]
    Header,
    #[error("its time is {time}, ours {now}")]
    Time { time: u64, now: u64 },
    #[error(transparent)]
    Failed(#[from] NodeError),
}

/// Runs a block on its parent's state and compares what comes out with the block's header.
pub(crate) fn verify(parent: &State, block: &Parsed) -> Result<Delta, Refusal> {
    let mut extrinsics = vec![];
    for (index, bytes) in block.extrinsics.iter().enumerate() {
        let extrinsic = Extrinsic::decode(bytes).map_err(|_| Refusal::Undecodable(index))?;
        let allowed = if index == 0 { extrinsic.timestamp().is_some() } else { extrinsic.signer().is_some() };
        if !allowed {
            return Err(Refusal::Unsigned);
        }
        extrinsics.push(extrinsic.decoded);
    }
    if extrinsics.is_empty() {
        return Err(Refusal::Unsigned);
    }
    let mut overlay = OverlayedChanges::default();
    let header = run(parent, &mut overlay, || {
        Executive::initialize_block(&block.header);
        for (index, extrinsic) in extrinsics.into_iter().enumerate() {
            Executive::apply_extrinsic(extrinsic).map_err(|error| Refusal::Invalid(index, error.into()))?.ok();
        }
        Ok::<_, Refusal>(Executive::finalize_block())
    })??;
    if header != block.header {
        return Err(Refusal::Header);
    }
    Ok(changes(parent, overlay)?)
}

/// A block that this node made.
pub(crate) struct Built {
    pub(crate) header: Header,
    pub(crate) extrinsics: Vec<Vec<u8>>,
    pub(crate) delta: Delta,
    /// Extrinsics that turned out to be invalid, and why.
    pub(crate) invalid: Vec<(Hash, &'static str)>,
}

/// What a new block is to be like.
pub(crate) struct Plan {
    pub(crate) number: u32,
    pub(crate) parent: Hash,
    pub(crate) view: u64,
    pub(crate) now_ms: u64,
    /// Longest time for applying extrinsics.
    pub(crate) time: Duration,
}

/// Why no block was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// The runtime panicked on this extrinsic. The state that it leaves is of no use: drop it and build again.
    #[error("extrinsic {0}: {1}")]
    Culprit(Hash, String),
    #[error(transparent)]
    Failed(#[from] NodeError),
}

/// Makes a block of the best candidates on its parent's state.
pub(crate) fn build(parent: &State, plan: &Plan, queues: Vec<Queue>) -> Result<Built, BuildError> {
    let mut overlay = OverlayedChanges::default();
    let current = Cell::new(None);
    let (mut extrinsics, mut invalid) = (vec![], vec![]);
    let header = run(parent, &mut overlay, || {
        let now = plan.now_ms.max(Timestamp::get().saturating_add(1));
        let digest = block::digest(Proposed { view: plan.view, time_ms: now });
        let parent = H256(plan.parent.0);
        let header = Header::new(plan.number, Default::default(), Default::default(), parent, digest);
        Executive::initialize_block(&header);
        let timestamp = block::timestamp(now);
        extrinsics.push(timestamp.encode());
        // The mandatory inherent: its failure would be an error of the runtime.
        let applied = Executive::apply_extrinsic(timestamp);
        debug_assert!(matches!(applied, Ok(Ok(_))), "the timestamp is refused: {applied:?}");
        fill(plan.time, queues, &mut extrinsics, &mut invalid, &current);
        Executive::finalize_block()
    });
    let header = header.map_err(|error| match current.get() {
        Some(culprit) => BuildError::Culprit(culprit, error.to_string()),
        None => BuildError::Failed(error),
    })?;
    Ok(Built { header, extrinsics, delta: changes(parent, overlay)?, invalid })
}

/// Applies candidates, the best first but those of an account in order, until the block is full or time is up.
fn fill(
    time: Duration,
    queues: Vec<Queue>,
    into: &mut Vec<Vec<u8>>,
    invalid: &mut Vec<(Hash, &'static str)>,
    current: &Cell<Option<Hash>>,
) {
    let start = Instant::now();
    let mut queues: Vec<_> = queues.into_iter().map(|queue| queue.into_iter().peekable()).collect();
    let mut heap: BinaryHeap<_> = queues
        .iter_mut()
        .enumerate()
        .filter_map(|(index, queue)| queue.peek().map(|first| (first.rank(), index)))
        .collect();
    let mut misfits = 0;
    while let Some((_, index)) = heap.pop() {
        if misfits >= MISFITS || start.elapsed() >= time {
            break;
        }
        let Some(queue) = queues.get_mut(index) else { continue };
        let Some(candidate) = queue.next() else { continue };
        current.set(Some(candidate.hash));
        let outcome = apply(&candidate);
        current.set(None);
        match outcome {
            Outcome::Included => into.push(candidate.bytes.to_vec()),
            // In a block that is not final yet; the next of the account may go on from there.
            Outcome::Stale => {}
            Outcome::TooMuch => {
                misfits += 1;
                continue;
            }
            Outcome::Early => continue,
            Outcome::Invalid(reason) => {
                invalid.push((candidate.hash, reason));
                continue;
            }
        }
        heap.extend(queue.peek().map(|next| (next.rank(), index)));
    }
}

enum Outcome {
    Included,
    Stale,
    Early,
    TooMuch,
    Invalid(&'static str),
}

/// Applies one candidate; nothing is left of it unless it is included.
fn apply(candidate: &Candidate) -> Outcome {
    let nonce = System::account_nonce(&candidate.account);
    if candidate.nonce < nonce {
        return Outcome::Stale;
    }
    if candidate.nonce > nonce {
        return Outcome::Early;
    }
    let Ok(extrinsic) = Extrinsic::decode(&candidate.bytes) else { return Outcome::Invalid("it does not decode") };
    sp_io::storage::start_transaction();
    match Executive::apply_extrinsic(extrinsic.decoded) {
        Ok(_) => {
            sp_io::storage::commit_transaction();
            Outcome::Included
        }
        Err(error) => {
            sp_io::storage::rollback_transaction();
            match error {
                TransactionValidityError::Invalid(InvalidTransaction::ExhaustsResources) => Outcome::TooMuch,
                error => Outcome::Invalid(error.into()),
            }
        }
    }
}

/// What the runtime says of an extrinsic, on the state after block `at`, and the next nonce of its signer.
pub(crate) fn validate(
    state: &State,
    at: &Hash,
    extrinsic: &Extrinsic,
    signer: &AccountId,
) -> Result<Result<(ValidTransaction, u32), TransactionValidityError>, NodeError> {
    let (at, decoded) = (H256(at.0), extrinsic.decoded.clone());
    read(state, || {
        let nonce = frame_system::Pallet::<Runtime>::account_nonce(signer);
        let valid = Executive::validate_transaction(TransactionSource::External, decoded, at)?;
        Ok((valid, nonce))
    })
}

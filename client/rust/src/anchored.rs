//! Ties receipts to the chain.
//!
//! A receipt names an entry of the cluster's log and the state after it. Members show the chain a newer entry every few
//! seconds. Headers of the entries from the one to the other prove that the first is part of the history that the
//! second ends; and one of them may carry the root of the state, which a quorum has compared with its own.

use crate::cluster::{Ask, Cluster, Link};
use phala_primitives::{
    Code, Coded, Hash,
    misbehaviour::QueryClaim,
    records::{Anchor, Checkpoint},
};
use phala_session::{Answer, CommandReceipt, QueryReceipt};
use std::{sync::Arc, time::Duration};

/// How long to wait for the chain to be shown a newer entry.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a receipt names, and what of it the chain vouches for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Anchored {
    /// The entry that the chain was shown, at or above the receipt's.
    pub checkpoint: Checkpoint,
    /// Height of the entry with which a quorum confirmed the receipt's state; `None` if none of those up to the
    /// checkpoint says anything of just this state. They confirm later ones.
    pub confirmed: Option<u64>,
}

impl Cluster {
    /// Waits until the chain vouches for the entry of a query's receipt, and checks its state's root.
    ///
    /// Errors: `BadReceipt` if the chain or a quorum says otherwise: the replica that answered is faulty or hostile.
    /// `NoQuorum` if the chain is shown nothing new.
    pub async fn anchor(self: &Arc<Self>, receipt: &QueryReceipt) -> Result<Anchored, Coded> {
        let QueryClaim { height, entry, epoch, state_root, .. } = receipt.claim;
        self.tie(Link { anchor: Anchor { height, digest: entry }, epoch }, Some(state_root)).await
    }

    /// The same for a command's receipt. That its entry is final was known before.
    pub async fn anchor_command(self: &Arc<Self>, receipt: &CommandReceipt) -> Result<Anchored, Coded> {
        self.tie(Link { anchor: receipt.header.anchor(), epoch: receipt.header.epoch }, None).await
    }

    async fn tie(self: &Arc<Self>, start: Link, root: Option<Hash>) -> Result<Anchored, Coded> {
        // Nothing is above the state that the log began with.
        if start.anchor.height == 0 {
            let checkpoint = self.roster(true).await?.checkpoint;
            return Ok(Anchored { checkpoint, confirmed: None });
        }
        let wait = tokio::time::timeout(PATIENCE, self.checkpoint_from(start.anchor.height));
        let late = |_| Coded::new(Code::NoQuorum, "nobody shows the chain how far the log has got");
        let checkpoint = wait.await.map_err(late)??;
        let (mut link, mut confirmed) = (start, None);
        let other = |what| Err(Coded::new(Code::BadReceipt, what));
        while link.anchor != checkpoint.anchor {
            if link.anchor.height >= checkpoint.anchor.height {
                return other("the chain was shown another history");
            }
            let Answer::History(headers) = self.ask(Ask::History(&link)).await?.1 else {
                return other("the answer is to another question");
            };
            for header in headers {
                if root.is_some() && header.executed.height == start.anchor.height && confirmed.is_none() {
                    if root != Some(header.executed.state_root) {
                        return other("a quorum has another state at this height");
                    }
                    confirmed = Some(header.height);
                }
                link = Link { anchor: header.anchor(), epoch: header.epoch };
                if link.anchor.height == checkpoint.anchor.height {
                    break;
                }
            }
        }
        Ok(Anchored { checkpoint, confirmed })
    }

    /// The checkpoint, once it is at this height or above.
    async fn checkpoint_from(&self, height: u64) -> Result<Checkpoint, Coded> {
        let mut heads = self.chain().heads().await?;
        loop {
            let checkpoint = self.roster(true).await?.checkpoint;
            if checkpoint.anchor.height >= height {
                return Ok(checkpoint);
            }
            heads.next().await?;
        }
    }
}

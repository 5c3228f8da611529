//! What all groups of methods use: the backend, block lookup, and a stream of heads.

use crate::{
    backend::{Backend, BlockId},
    error::Failure,
    types::Header,
};
use codec::Decode;
use phala_primitives::{Code, Coded, Hash};
use sp_core::H256;
use std::sync::Arc;
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// The node, shared by all methods.
#[derive(Clone)]
pub(crate) struct Node(pub(crate) Arc<dyn Backend>);

impl Node {
    /// The block that a request names, or the newest one.
    pub(crate) fn at(&self, block: Option<H256>) -> Hash {
        block.map_or_else(|| self.0.finalized().hash, |hash| Hash(hash.0))
    }

    /// The header of a block, decoded.
    pub(crate) fn header(&self, hash: &Hash) -> Result<Option<Header>, Failure> {
        let Some(bytes) = self.0.header(hash)? else { return Ok(None) };
        let header = Header::decode(&mut &*bytes);
        header.map(Some).map_err(|_| Coded::new(Code::StorageFailed, "a stored header does not decode").into())
    }

    /// Runs what may block on a thread for that.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let node = self.clone();
        match tokio::task::spawn_blocking(move || work(&node)).await {
            Ok(result) => result,
            Err(_) => Err(Failure(Coded::new(Code::Internal, "a method of the server failed"))),
        }
    }

    /// The newest block now, then each newer one. A reader that is too slow misses some.
    pub(crate) fn heads(&self) -> Heads {
        let news = self.0.subscribe();
        Heads { news, last: None, node: self.clone() }
    }
}

/// See [`Node::heads`].
pub(crate) struct Heads {
    news: Receiver<BlockId>,
    last: Option<u32>,
    node: Node,
}

impl Heads {
    /// The next head, or `None` when the node stops.
    pub(crate) async fn next(&mut self) -> Option<BlockId> {
        let next = match self.last {
            None => self.node.0.finalized(),
            Some(last) => loop {
                match self.news.recv().await {
                    Ok(block) if block.number > last => break block,
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            },
        };
        self.last = Some(next.number);
        Some(next)
    }
}

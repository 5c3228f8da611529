//! Who waits for a query's answer.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Whoever waits for the answer to a query. Once they have left, the query ends with `Abandoned` at the next tick.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    left: Arc<AtomicBool>,
    on_behalf: Option<Arc<Caller>>,
}

impl Caller {
    /// One that waits on behalf of another, and leaves with it at the latest.
    pub fn on_behalf_of(other: &Self) -> Self {
        Self { left: Arc::default(), on_behalf: Some(Arc::new(other.clone())) }
    }

    /// Nobody waits any more.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// Whether nobody waits any more.
    pub fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed) || self.on_behalf.as_ref().is_some_and(|other| other.has_left())
    }
}

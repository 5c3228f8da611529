//! Which requests were seen. A request id is remembered until the chain is higher than the request's highest height,
//! after which the request is refused for its age; so the window is bounded by the rate of requests, and by a limit.

use phala_primitives::{Code, Coded, RequestId};
use std::collections::{BTreeMap, HashSet};

/// The requests seen under one session key.
pub(crate) struct ReplayWindow {
    /// Ids that are remembered. Never iterated.
    seen: HashSet<RequestId>,
    /// The same, by the height at which each is forgotten.
    by_height: BTreeMap<u32, Vec<RequestId>>,
    /// Requests for less than this height are refused, even if the caller's height should fall.
    floor: u32,
    /// Most ids.
    capacity: usize,
}

impl ReplayWindow {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { seen: HashSet::new(), by_height: BTreeMap::new(), floor: 0, capacity }
    }

    /// Whether the id is remembered, without remembering it.
    pub(crate) fn contains(&self, id: &RequestId) -> bool {
        self.seen.contains(id)
    }

    /// Remembers a request that may be opened up to `max_height`, now that the chain has `height`.
    pub(crate) fn insert(&mut self, id: RequestId, max_height: u32, height: u32) -> Result<(), Coded> {
        self.floor = self.floor.max(height);
        while let Some(entry) = self.by_height.first_entry().filter(|entry| *entry.key() < self.floor) {
            for id in entry.remove() {
                self.seen.remove(&id);
            }
        }
        if max_height < self.floor {
            return Err(Coded::new(Code::Expired, "the request's highest block"));
        }
        if self.seen.contains(&id) {
            return Err(Code::Replayed.into());
        }
        if self.seen.len() >= self.capacity {
            return Err(Coded::new(Code::Busy, "the window of request ids is full"));
        }
        self.seen.insert(id);
        self.by_height.entry(max_height).or_default().push(id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(result: Result<(), Coded>) -> Option<Code> {
        result.err().and_then(|error| error.known())
    }

    #[test]
    fn an_id_is_refused_as_seen_and_then_for_its_age() {
        let mut window = ReplayWindow::new(10);
        assert_eq!(code(window.insert([1; 16], 20, 10)), None);
        assert_eq!(code(window.insert([1; 16], 20, 20)), Some(Code::Replayed));
        assert_eq!(code(window.insert([1; 16], 20, 21)), Some(Code::Expired));
        assert_eq!(code(window.insert([1; 16], 20, 15)), Some(Code::Expired), "the height fell back");
        assert!(window.seen.is_empty() && window.by_height.is_empty());
    }

    #[test]
    fn the_window_is_bounded_and_frees_itself() {
        let mut window = ReplayWindow::new(3);
        for id in 0..3 {
            assert_eq!(code(window.insert([id; 16], 20, 10)), None);
        }
        assert_eq!(code(window.insert([3; 16], 30, 20)), Some(Code::Busy));
        assert_eq!(code(window.insert([3; 16], 30, 21)), None);
    }
}

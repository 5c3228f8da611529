//! When a request that one replica leaves unanswered goes to another, too.
//!
//! If the replica is dead, another answers at once. If all of them are slow because there is much to do, asking more of
//! them makes it worse: every request costs twice, and they never catch up. So it is free to pass over a replica that
//! has said nothing at all while others spoke, and otherwise a client may do so with few of its requests: enough to
//! find out, too few to matter.

use parking_lot::Mutex;
use phala_primitives::AccountId;
use std::{collections::BTreeMap, time::Instant};

/// What a request earns, and what it costs to ask one more replica: it may happen with one request in ten.
const EARNED: u32 = 1;
const COST: u32 = 10;
/// Most that is saved: so many requests at once may go to a second replica.
const MOST: u32 = 16 * COST;

/// What a client knows of its replicas' silence, all requests together.
pub(crate) struct Hedging(Mutex<Known>);

struct Known {
    credit: u32,
    heard: BTreeMap<AccountId, Instant>,
}

impl Default for Hedging {
    fn default() -> Self {
        Self(Mutex::new(Known { credit: MOST, heard: BTreeMap::new() }))
    }
}

impl Hedging {
    /// A request begins.
    pub(crate) fn begun(&self) {
        let mut known = self.0.lock();
        known.credit = known.credit.saturating_add(EARNED).min(MOST);
    }

    /// A worker has answered something, whatever it said.
    pub(crate) fn heard(&self, worker: AccountId, now: Instant) {
        self.0.lock().heard.insert(worker, now);
    }

    /// Whether a request that the `asked` were given and have not answered `since` then may go to one more. If so it is
    /// counted.
    pub(crate) fn may(&self, asked: &[AccountId], since: Instant) -> bool {
        let mut known = self.0.lock();
        let mut spoke = known.heard.iter().filter(|(_, at)| **at >= since).map(|(worker, _)| worker).peekable();
        if spoke.peek().is_some() && spoke.all(|worker| !asked.contains(worker)) {
            return true;
        }
        let left = known.credit.checked_sub(COST);
        known.credit = left.unwrap_or(known.credit);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const ONE: AccountId = AccountId([1; 32]);
    const OTHER: AccountId = AccountId([2; 32]);

    #[test]
    fn slow_replicas_are_not_asked_for_twice_as_much() {
        let (hedging, begin) = (Hedging::default(), Instant::now());
        let mut again = 0;
        for second in 0..100 {
            let now = begin + Duration::from_secs(second);
            (0..500).for_each(|_| hedging.begun());
            hedging.heard(ONE, now);
            hedging.heard(OTHER, now);
            again += (0..500).filter(|_| hedging.may(&[ONE], now)).count();
        }
        // One in ten, but for what was saved.
        assert!((1_000..=5_000).contains(&again), "{again}");
        assert!(!hedging.may(&[ONE], begin));
    }

    #[test]
    fn a_dead_replica_is_passed_over_by_all_as_soon_as_another_speaks() {
        let (hedging, begin) = (Hedging::default(), Instant::now());
        let later = begin + Duration::from_secs(1);
        hedging.heard(ONE, begin);
        hedging.heard(OTHER, begin);
        // Nobody knows yet whether it is that one or all.
        assert_eq!((0..500).filter(|_| hedging.may(&[ONE], later)).count(), 16);
        hedging.heard(OTHER, later);
        assert_eq!((0..500).filter(|_| hedging.may(&[ONE], later)).count(), 500);
        assert!(!hedging.may(&[ONE, OTHER], later));
    }
}

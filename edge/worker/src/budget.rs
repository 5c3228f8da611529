//! Bytes that requests and replies under way hold in this process.
//!
//! Each is counted as it is on the wire, from its first byte to the last of its reply; while it is opened, decoded and
//! run there are up to four times as many. Who holds little gets more as long as there is any, who holds much only while
//! a quarter is free, so that large requests do not keep small ones out.

use phala_primitives::{Code, Coded};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Up to so many bytes a request is small.
const SMALL: usize = 64 << 10;

/// What there is.
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

/// What one request holds. Goes back when dropped.
pub(crate) struct Lease {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// So many bytes for all.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    /// A request that holds nothing yet.
    pub(crate) fn lease(self: &Arc<Self>) -> Lease {
        Lease { budget: self.clone(), bytes: 0 }
    }

    /// Bytes that are held.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Lease {
    /// Takes more bytes.
    ///
    /// Errors: `BytesBusy`.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Coded> {
        let held = self.bytes.saturating_add(bytes);
        let limit = self.budget.limit - if held > SMALL { self.budget.limit / 4 } else { 0 };
        let add = |used: usize| used.checked_add(bytes).filter(|used| *used <= limit);
        let full = |_| Coded::from(Code::BytesBusy);
        self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).map_err(full)?;
        self.bytes = held;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_requests_leave_room_for_small_ones() {
        let budget = Budget::new(8 << 20);
        let mut large: Vec<Lease> = (0..8).map(|_| budget.lease()).collect();
        let granted = large.iter_mut().filter_map(|lease| lease.grow(1 << 20).ok()).count();
        assert_eq!((granted, budget.used()), (6, 6 << 20));
        assert_eq!(large[6].grow(1 << 20).unwrap_err().known(), Some(Code::BytesBusy));
        let mut small: Vec<Lease> = (0..40).map(|_| budget.lease()).collect();
        assert_eq!(small.iter_mut().filter_map(|lease| lease.grow(SMALL).ok()).count(), 32);
        assert!(small[0].grow(1).is_err());
        drop((large, small));
        assert_eq!(budget.used(), 0);
    }
}

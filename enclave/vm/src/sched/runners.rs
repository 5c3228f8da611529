//! Threads that run queries which have not begun, one after the other.
//!
//! Whoever ends a query on a runner takes the next one along, under the lock under which it gives the slot back. Were each
//! run by the thread that asks it, each end would have to wake one, and a core would be idle meanwhile: on a virtual
//! machine, for half the time that a short query takes.
//!
//! A runner whose query is pre-empted, or waits for something outside, waits with it; another is started for the slot.
//! So there are no more of them than queries that were started, and as many as slots that wait for work. The host lends
//! the threads; where it does not, whoever asks runs its own query.

use super::{Scheduler, Turn, Woken, locked};
use crate::error::Reason;
use phala_primitives::Code;
use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

/// What a query does once it has a slot, or when it is known that it gets none. It gives the slot back before it tells
/// what came of it, so that who asks again at once finds room.
pub(super) type Work = Box<dyn FnOnce(Result<Turn, Reason>) + Send>;

/// How the host lends a thread: it runs what it is given there, or says that it has none.
pub(crate) type Lend = Box<dyn Fn(Box<dyn FnOnce() + Send>) -> bool + Send + Sync>;

/// A query that has not begun.
pub(super) struct Fresh {
    pub(super) turn: Turn,
    pub(super) work: Work,
    /// The thread that waits for it, which can run it as well.
    pub(super) asker: Option<Box<dyn FnOnce(Turn, Work) + Send>>,
}

impl Fresh {
    fn run(self, scheduler: &Arc<Scheduler>, hand: &Arc<Hand>) {
        let Self { mut turn, work, .. } = self;
        turn.runner = Some(Arc::clone(hand));
        // A panic is the query's own: who waits for it finds that nothing comes, and the runner goes on with the next.
        let _ = catch_unwind(AssertUnwindSafe(|| work(Ok(turn))));
        let woken = std::mem::take(&mut *locked(&hand.woken));
        scheduler.wake(woken);
    }
}

/// What a runner does when it has told what a query came to.
#[derive(Default)]
pub(super) struct Hand {
    next: Mutex<Option<Fresh>>,
    /// Others that may go on. Woken before, they might have the core for long, and who was told would wait behind them.
    woken: Mutex<Woken>,
}

impl Hand {
    pub(super) fn is_empty(&self) -> bool {
        locked(&self.next).is_none()
    }

    pub(super) fn put(&self, fresh: Fresh) {
        *locked(&self.next) = Some(fresh);
    }

    pub(super) fn take(&self) -> Option<Fresh> {
        locked(&self.next).take()
    }

    /// Has the runner wake them.
    pub(super) fn wake_later(&self, woken: Woken) {
        *locked(&self.woken) = woken;
    }
}

/// The runners that wait for work, and the work that was given to them.
pub(super) struct Runners {
    most: usize,
    waiting: usize,
    jobs: VecDeque<Fresh>,
    closed: bool,
}

impl Runners {
    /// At most so many wait for work.
    pub(super) fn new(most: usize) -> Self {
        Self { most, waiting: 0, jobs: VecDeque::new(), closed: false }
    }

    /// Gives work to a runner that has none, which then has to be woken; or gives it back, since there is no such.
    pub(super) fn assign(&mut self, fresh: Fresh) -> Option<Fresh> {
        let Some(left) = self.waiting.checked_sub(1) else { return Some(fresh) };
        self.waiting = left;
        self.jobs.push_back(fresh);
        None
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }
}

/// Starts a runner that begins with this query. If the host has no thread, whoever asked runs it, or it fails.
pub(super) fn start(scheduler: &Arc<Scheduler>, fresh: Fresh) {
    let hand = Arc::new(Hand::default());
    hand.put(fresh);
    let (runner, own) = (Arc::clone(scheduler), Arc::clone(&hand));
    let lent = scheduler.lend.get().is_some_and(|lend| lend(Box::new(move || serve(&runner, &own))));
    if lent {
        return;
    }
    let Some(Fresh { turn, work, asker }) = hand.take() else { return };
    match asker {
        Some(asker) => asker(turn, work),
        None => {
            drop(turn);
            work(Err(Reason::fault(Code::Busy, "the host has no thread for a query")));
        }
    }
}

fn serve(scheduler: &Arc<Scheduler>, hand: &Arc<Hand>) {
    while let Some(job) = hand.take().or_else(|| scheduler.next_job()) {
        job.run(scheduler, hand);
    }
}

impl Scheduler {
    /// Waits for work. `None` if the runner is one too many.
    fn next_job(&self) -> Option<Fresh> {
        let mut state = self.state();
        if state.runners.waiting >= state.runners.most {
            return None;
        }
        state.runners.waiting = state.runners.waiting.saturating_add(1);
        loop {
            if let Some(job) = state.runners.jobs.pop_front() {
                return Some(job);
            }
            if state.runners.closed {
                return None;
            }
            state = self.work_there.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

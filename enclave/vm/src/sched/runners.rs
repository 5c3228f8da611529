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
    /// Runs it, unless nobody waits for it any more or its time is over.
    fn run(self, scheduler: &Arc<Scheduler>, hand: &Arc<Hand>) {
        let Self { mut turn, work, .. } = self;
        turn.runner = Some(Arc::clone(hand));
        match turn.may_go_on() {
            Ok(()) => conclude(work, Ok(turn)),
            Err(reason) => {
                drop(turn);
                conclude(work, Err(reason));
            }
        }
        scheduler.wake(hand.to_wake());
    }

    /// What becomes of it if the host has no thread: whoever asked runs it, or it fails. Returns whom to wake then.
    fn refuse(self, hand: &Arc<Hand>) -> Woken {
        let Self { mut turn, work, asker } = self;
        match asker {
            Some(asker) => asker(turn, work),
            None => {
                turn.runner = Some(Arc::clone(hand));
                drop(turn);
                conclude(work, Err(Reason::fault(Code::Busy, "the host has no thread for a query")));
            }
        }
        let mut woken = hand.to_wake();
        woken.jobs.extend(hand.take());
        woken
    }
}

/// A panic is the query's own: who waits for it finds that nothing comes, and this thread goes on.
pub(super) fn conclude(work: Work, turn: Result<Turn, Reason>) {
    let _ = catch_unwind(AssertUnwindSafe(|| work(turn)));
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
        locked(&self.woken).append(woken);
    }

    fn to_wake(&self) -> Woken {
        std::mem::take(&mut *locked(&self.woken))
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

/// Starts a runner that begins with this query. Returns whom to wake if the host has no thread for it.
pub(super) fn start(scheduler: &Arc<Scheduler>, fresh: Fresh) -> Woken {
    let hand = Arc::new(Hand::default());
    hand.put(fresh);
    let (runner, own) = (Arc::clone(scheduler), Arc::clone(&hand));
    let work = Box::new(move || serve(&runner, &own));
    let lent = scheduler.lend.get().is_some_and(|lend| catch_unwind(AssertUnwindSafe(|| lend(work))).unwrap_or(false));
    if lent {
        return Woken::default();
    }
    hand.take().map_or_else(Woken::default, |fresh| fresh.refuse(&hand))
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

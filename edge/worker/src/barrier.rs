//! Entries that do nothing, for queries that have to see all that was acknowledged before them.
//!
//! Such a query waits for an entry that was ordered after it arrived. One entry serves all who wait for it: while one is
//! under way, newcomers gather for the next.

use crate::service::now_ms;
use parking_lot::Mutex;
use phala_primitives::{Code, Coded};
use phala_replica::Replica;
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// Most queries that gather.
const MAX_GATHERED: usize = 4096;
/// How long the entry may take.
const PATIENCE: Duration = Duration::from_secs(5);

type Caller = oneshot::Sender<Result<(), Coded>>;

#[derive(Default)]
struct Gathered {
    callers: Vec<Caller>,
    /// Whether somebody orders entries for them.
    served: bool,
}

/// Those who wait for the next entry.
#[derive(Default)]
pub(crate) struct Barrier(Mutex<Gathered>);

impl Barrier {
    /// Completes when the replica has executed an entry that was ordered after this was called.
    ///
    /// Errors: `NoQuorum` if the cluster does not decide in time, `Busy` if too many wait.
    pub(crate) async fn pass(self: &Arc<Self>, replica: &Arc<Replica>) -> Result<(), Coded> {
        let passed = self.gather()?;
        if let Some(callers) = self.next_if_unserved() {
            let (barrier, replica) = (self.clone(), replica.clone());
            tokio::spawn(async move { barrier.serve(callers, || order(&replica)).await });
        }
        passed.await.unwrap_or_else(|_| Err(Coded::new(Code::NoQuorum, "the replica stops")))
    }

    fn gather(&self) -> Result<oneshot::Receiver<Result<(), Coded>>, Coded> {
        let mut gathered = self.0.lock();
        if gathered.callers.len() >= MAX_GATHERED {
            return Err(Code::Busy.into());
        }
        let (caller, passed) = oneshot::channel();
        gathered.callers.push(caller);
        Ok(passed)
    }

    /// Those who have gathered, to be served by whoever asks, if nobody serves them.
    fn next_if_unserved(&self) -> Option<Vec<Caller>> {
        let mut gathered = self.0.lock();
        let mine = !std::mem::replace(&mut gathered.served, true);
        mine.then(|| std::mem::take(&mut gathered.callers))
    }

    /// Those who have gathered meanwhile; if there are none, nobody serves any more.
    fn next(&self) -> Option<Vec<Caller>> {
        let mut gathered = self.0.lock();
        gathered.served = !gathered.callers.is_empty();
        gathered.served.then(|| std::mem::take(&mut gathered.callers))
    }

    /// Orders an entry for these, and then for those who have gathered meanwhile, until there are none.
    async fn serve<F: Future<Output = Result<(), Coded>>>(&self, first: Vec<Caller>, order: impl Fn() -> F) {
        let mut next = Some(first);
        while let Some(callers) = next {
            let outcome = order().await;
            for caller in callers {
                // Whoever waited may be gone.
                let _ = caller.send(outcome.clone());
            }
            next = self.next();
        }
    }
}

async fn order(replica: &Replica) -> Result<(), Coded> {
    let ticket = replica.barrier(now_ms())?;
    match tokio::time::timeout(PATIENCE, ticket).await {
        Ok(Ok(answer)) => answer.map(|_| ()),
        Ok(Err(_)) => Err(Coded::new(Code::NoQuorum, "the replica stops")),
        Err(_) => Err(Coded::new(Code::NoQuorum, format!("within {} s", PATIENCE.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn one_entry_serves_all_who_gathered_before_it_and_nobody_who_came_after() {
        let barrier = Arc::new(Barrier::default());
        let (orders, ready) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
        let mut first = barrier.gather().unwrap();
        let callers = barrier.next_if_unserved().unwrap();
        let (serving, counted, gate) = (barrier.clone(), orders.clone(), ready.clone());
        let task = tokio::spawn(async move {
            let order = || async {
                counted.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                Ok(())
            };
            serving.serve(callers, order).await;
        });
        while orders.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // The first one's entry is under way.
        let mut late: Vec<_> = (0..3).map(|_| barrier.gather().unwrap()).collect();
        assert!(barrier.next_if_unserved().is_none());
        ready.add_permits(1);
        (&mut first).await.unwrap().unwrap();
        assert!(late.iter_mut().all(|passed| passed.try_recv().is_err()), "its entry was ordered before they came");
        ready.add_permits(1);
        for passed in late {
            passed.await.unwrap().unwrap();
        }
        task.await.unwrap();
        assert_eq!(orders.load(Ordering::SeqCst), 2);
        drop(barrier.gather().unwrap());
        assert!(barrier.next_if_unserved().is_some(), "nobody serves when nobody waits");
    }
}

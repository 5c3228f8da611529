//! Subscriptions to contracts' logs inside a session.
//!
//! A subscription sends a page as soon as there are records, and the next one only when that page was written to the
//! socket. So it holds one page, whatever its reader does; one that does not take a page for [`SLOW`] is ended with an
//! error, and asks again from where it is. Nothing is kept for it here: the records are the replica's.

use crate::service::Service;
use phala_primitives::{AccountId, Code, Coded, RequestId};
use phala_session::{Answer, LogPage, LogQuery};
use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    task::{AbortHandle, JoinSet},
};

/// Most subscriptions of one session.
const MAX_FOLLOWS: usize = 16;
/// How long a reader may take for a page.
const SLOW: Duration = Duration::from_secs(10);
/// How often the right to read and the replica's own health are looked at, if nothing is said.
const LOOK: Duration = Duration::from_secs(5);

/// A reply on its way to the socket.
pub(crate) struct Reply {
    pub(crate) request_id: RequestId,
    pub(crate) answer: Result<Answer, Coded>,
    /// Told when it was written.
    pub(crate) written: Option<oneshot::Sender<()>>,
}

impl Reply {
    pub(crate) fn new(request_id: RequestId, answer: Result<Answer, Coded>) -> Self {
        Self { request_id, answer, written: None }
    }
}

/// The subscriptions of one session; they end with this.
#[derive(Default)]
pub(crate) struct Follows {
    tasks: JoinSet<()>,
    by_request: BTreeMap<RequestId, AbortHandle>,
}

impl Follows {
    /// Begins one, unless there are as many as there may be.
    pub(crate) fn begin(
        &mut self,
        follow: impl Future<Output = ()> + Send + 'static,
        request: RequestId,
    ) -> Result<(), Coded> {
        while self.tasks.try_join_next().is_some() {}
        self.by_request.retain(|_, task| !task.is_finished());
        if self.by_request.len() >= MAX_FOLLOWS {
            return Err(Coded::new(Code::Busy, format!("{MAX_FOLLOWS} subscriptions in one session")));
        }
        self.by_request.insert(request, self.tasks.spawn(follow));
        Ok(())
    }

    /// Ends the one that a request began.
    pub(crate) fn end(&mut self, request: &RequestId) {
        if let Some(task) = self.by_request.remove(request) {
            task.abort();
        }
    }
}

/// Serves one subscription of an account that may read the contract's log.
pub(crate) async fn run(
    service: Arc<Service>,
    account: AccountId,
    request: RequestId,
    query: LogQuery,
    replies: mpsc::Sender<Reply>,
) {
    let from = query.from;
    let next = move |from| {
        let (service, query) = (service.clone(), LogQuery { from, ..query.clone() });
        async move { service.log_page(&account, &query, LOOK).await }
    };
    push(next, request, from, SLOW, replies).await;
}

/// Sends pages until one cannot be had or the reader takes longer than `slow` for one, and then the error.
async fn push<F: Future<Output = Result<LogPage, Coded>>>(
    next: impl Fn(u64) -> F,
    request_id: RequestId,
    mut from: u64,
    slow: Duration,
    replies: mpsc::Sender<Reply>,
) {
    let error = loop {
        let page = match next(from).await {
            Ok(page) => page,
            Err(error) => break error,
        };
        from = page.next;
        if page.records.is_empty() {
            continue;
        }
        let (written, taken) = oneshot::channel();
        let reply = Reply { request_id, answer: Ok(Answer::Logs(page)), written: Some(written) };
        let sent = async {
            replies.send(reply).await.ok()?;
            taken.await.ok()
        };
        match tokio::time::timeout(slow, sent).await {
            Ok(Some(())) => {}
            // The session has ended.
            Ok(None) => return,
            Err(_) => break Code::SlowReader.into(),
        }
    };
    let _ = replies.send(Reply::new(request_id, Err(error))).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use phala_session::{EventChain, LogRecord, Said};

    fn record(number: u64) -> LogRecord {
        LogRecord { number, height: number, time_ms: 0, said: Said::Line { level: 3, text: "line".into() } }
    }

    /// A log that always has three more records.
    async fn endless(from: u64) -> Result<LogPage, Coded> {
        Ok(LogPage { records: (from..from + 3).map(record).collect(), next: from + 3, events: EventChain::default() })
    }

    #[tokio::test]
    async fn pages_go_on_where_the_last_one_ended_and_one_at_a_time() {
        let (replies, mut queue) = mpsc::channel(8);
        let task = tokio::spawn(push(endless, [1; 16], 5, SLOW, replies));
        let mut expected = 5;
        for _ in 0..4 {
            let reply = queue.recv().await.unwrap();
            let Ok(Answer::Logs(page)) = reply.answer else { panic!("no page") };
            assert_eq!((page.records[0].number, page.next), (expected, expected + 3));
            expected = page.next;
            tokio::task::yield_now().await;
            assert!(queue.is_empty(), "the next page waits until this one was written");
            reply.written.unwrap().send(()).unwrap();
        }
        drop(queue);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_told_why_it_ends() {
        let (replies, mut queue) = mpsc::channel(8);
        let task = tokio::spawn(push(endless, [1; 16], 0, Duration::from_millis(30), replies));
        let held = queue.recv().await.unwrap();
        let ended = queue.recv().await.unwrap();
        assert_eq!(ended.answer.unwrap_err().known(), Some(Code::SlowReader));
        assert!(held.answer.is_ok());
        task.await.unwrap();
    }

    #[tokio::test]
    async fn an_error_ends_the_subscription() {
        let (replies, mut queue) = mpsc::channel(8);
        push(|_| async { Err(Code::LogDenied.into()) }, [1; 16], 0, SLOW, replies).await;
        assert_eq!(queue.recv().await.unwrap().answer.unwrap_err().known(), Some(Code::LogDenied));
        assert!(queue.recv().await.is_none());
    }
}

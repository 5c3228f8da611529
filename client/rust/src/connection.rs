//! One WebSocket to one replica, with many requests in flight.

use crate::{
    cluster::{Ask, Cluster},
    link::{ANSWER, lost},
    roster::Replica,
};
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use parking_lot::Mutex;
use phala_primitives::{Code, Coded, RequestId, limits::MAX_MESSAGE};
use phala_session::{
    Answer, Call, FrameReply, FrameRequest, LogPage, LogQuery, Receiver, Sender, SystemRng, random_id,
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Bytes, Message, protocol::WebSocketConfig},
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Pending = Arc<Mutex<Waiting>>;

/// Requests that wait to be written.
const QUEUE: usize = 1024;
/// Time to connect and open the session.
const OPENING: Duration = Duration::from_secs(10);

/// Pages of a subscription that its reader has not taken yet. Beyond that it is ended, and goes on from where it is.
const PAGES: usize = 16;
/// How often a quiet replica is asked for a sign of life, and how long it may be silent then.
const PING: Duration = Duration::from_secs(2);
const DEAF: Duration = Duration::from_secs(10);

/// Who waits for answers to a request.
enum Waiter {
    Once(oneshot::Sender<Result<Answer, Coded>>),
    /// Of a subscription; until one is an error.
    Pages(mpsc::Sender<Result<LogPage, Coded>>),
}

impl Waiter {
    /// Hands an answer on. Whether more may come.
    fn tell(&self, answer: Result<Answer, Coded>) -> bool {
        match (self, answer) {
            (Self::Pages(pages), Ok(Answer::Logs(page))) => pages.try_send(Ok(page)).is_ok(),
            (Self::Pages(pages), Err(error)) => {
                // A reader that is behind notices that there is no more.
                let _ = pages.try_send(Err(error));
                false
            }
            _ => false,
        }
    }
}

/// Who waits for which answer; nothing more once the connection has ended.
#[derive(Default)]
struct Waiting {
    requests: BTreeMap<RequestId, Waiter>,
    ended: Option<Coded>,
    /// When the replica was heard last.
    heard: Option<Instant>,
}

/// A session with one replica. All methods may run at once. When the connection breaks they fail with `NoReplica`.
pub(crate) struct Connection {
    cluster: Arc<Cluster>,
    replica: Replica,
    expires_ms: u64,
    pending: Pending,
    outgoing: mpsc::Sender<FrameRequest>,
    tasks: [JoinHandle<()>; 2],
}

/// A subscription to a contract's log over one connection. It ends with this value.
pub(crate) struct Subscription {
    connection: Arc<Connection>,
    request_id: RequestId,
    pages: mpsc::Receiver<Result<LogPage, Coded>>,
}

impl Subscription {
    /// The next page.
    pub(crate) async fn next(&mut self) -> Result<LogPage, Coded> {
        // The reader of the connection lets go of those that do not keep up.
        self.pages.recv().await.unwrap_or_else(|| Err(self.connection.ended().unwrap_or(Code::SlowReader.into())))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.connection.pending.lock().requests.remove(&self.request_id);
        let request_id = random_id(&mut SystemRng);
        // If there is no room to say so, the replica finds out when it writes.
        let _ = self.connection.outgoing.try_send(FrameRequest { request_id, call: Call::Unfollow(self.request_id) });
    }
}

impl Connection {
    /// Connects to a replica and opens a session.
    pub(crate) async fn open(cluster: &Arc<Cluster>, replica: Replica) -> Result<Self, Coded> {
        let seal = cluster.seal(&replica).await?;
        let opening = seal.open_session(cluster.max_height().await, &mut SystemRng)?;
        let opened = async {
            let mut socket = connect(&replica).await?;
            socket.send(Message::Binary(opening.envelope.into())).await.map_err(|error| lost(&replica, error))?;
            loop {
                match socket.next().await {
                    Some(Ok(Message::Binary(response))) => return Ok((socket, response)),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Err(error)) => return Err(lost(&replica, error)),
                    Some(Ok(_)) | None => return Err(lost(&replica, "it closed the connection")),
                }
            }
        };
        let (socket, response) = timeout(OPENING, opened).await.map_err(|_| lost(&replica, "no answer"))??;
        let session = opening.pending.finish(&response)?;
        let (sink, stream) = socket.split();
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let pending = Pending::default();
        let reader = read(stream, session.receiver, pending.clone(), replica.clone());
        let writer = write(sink, session.sender, queue, pending.clone(), replica.clone());
        let tasks = [tokio::spawn(reader), tokio::spawn(writer)];
        let expires_ms = session.opening.expires_ms;
        Ok(Self { cluster: cluster.clone(), replica, expires_ms, pending, outgoing, tasks })
    }

    /// The replica at the other end.
    pub(crate) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// When the session ends, in milliseconds since 1970.
    pub(crate) fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    /// Why it has ended, if it has.
    pub(crate) fn ended(&self) -> Option<Coded> {
        self.pending.lock().ended.clone()
    }

    /// Ends it: its replica does not answer.
    pub(crate) fn give_up(&self) {
        end(&self.pending, &lost(&self.replica, "it is silent"));
        self.tasks.iter().for_each(JoinHandle::abort);
    }

    /// Whether the replica has said anything since then.
    pub(crate) fn heard_since(&self, then: Instant) -> bool {
        self.pending.lock().heard.is_some_and(|heard| heard >= then)
    }

    /// Has a request written whose answers go to `waiter`.
    async fn begin(&self, call: Call, waiter: Waiter) -> Result<Forget<'_>, Coded> {
        let request_id = random_id(&mut SystemRng);
        {
            let mut pending = self.pending.lock();
            if let Some(error) = &pending.ended {
                return Err(error.clone());
            }
            pending.requests.insert(request_id, waiter);
        }
        let forget = Forget { pending: &self.pending, request_id };
        self.outgoing.send(FrameRequest { request_id, call }).await.map_err(|_| self.gone())?;
        Ok(forget)
    }

    fn gone(&self) -> Coded {
        lost(&self.replica, "the session has ended")
    }

    /// Asks, and verifies the answer.
    pub(crate) async fn ask(&self, ask: Ask<'_>) -> Result<Answer, Coded> {
        let call = match ask {
            Ask::Query(query) => Call::Query(query.clone()),
            Ask::Command(command) => Call::Command(command.clone()),
            Ask::Outcome(command) => Call::Outcome(command.command.id),
            Ask::Logs(query) => Call::Logs(query.clone()),
            Ask::History(link) => Call::History(link.anchor.height),
            Ask::Final(height) => Call::Final(height),
            Ask::Balance(query) => Call::Balance(*query),
            Ask::Part(part) => Call::Part(part.clone()),
            Ask::Rehearse(rehearsal) => Call::Rehearse(rehearsal.clone()),
        };
        let (sender, answer) = oneshot::channel();
        let forget = self.begin(call, Waiter::Once(sender)).await?;
        let patience = if matches!(ask, Ask::Query(_)) { self.cluster.patience() } else { ANSWER };
        let answer = timeout(patience, answer).await.map_err(|_| lost(&self.replica, "no answer"))?;
        let answer = answer.map_err(|_| self.gone())??;
        self.cluster.verify(&self.replica.identity, &forget.request_id, ask, &answer).await?;
        Ok(answer)
    }

    /// Subscribes to a contract's log.
    pub(crate) async fn follow(self: &Arc<Self>, query: &LogQuery) -> Result<Subscription, Coded> {
        let (sender, pages) = mpsc::channel(PAGES);
        let forget = self.begin(Call::Follow(query.clone()), Waiter::Pages(sender)).await?;
        let request_id = forget.request_id;
        // The subscription takes it off the list from now on.
        std::mem::forget(forget);
        Ok(Subscription { connection: self.clone(), request_id, pages })
    }
}

/// Takes a request off the list when its caller is gone.
struct Forget<'a> {
    pending: &'a Pending,
    request_id: RequestId,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.pending.lock().requests.remove(&self.request_id);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn connect(replica: &Replica) -> Result<Socket, Coded> {
    let url = match replica.endpoint.split_once("://") {
        Some(("https", rest)) => format!("wss://{rest}/v1/session"),
        Some((_, rest)) => format!("ws://{rest}/v1/session"),
        None => return Err(lost(replica, "its endpoint is no URL")),
    };
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let (socket, _) = connect_async_with_config(url, Some(config), true).await.map_err(|error| lost(replica, error))?;
    Ok(socket)
}

/// Ends the session: nobody is left waiting, and nobody will.
fn end(pending: &Pending, error: &Coded) {
    let mut pending = pending.lock();
    let error = pending.ended.get_or_insert_with(|| error.clone()).clone();
    for (_, waiting) in std::mem::take(&mut pending.requests) {
        match waiting {
            // Whoever does not wait any more does not mind.
            Waiter::Once(once) => drop(once.send(Err(error.clone()))),
            pages => drop(pages.tell(Err(error.clone()))),
        }
    }
}

/// Hands an answer to whoever waits for it.
fn tell(pending: &Pending, request_id: RequestId, answer: Result<Answer, Coded>) {
    let mut pending = pending.lock();
    match pending.requests.remove(&request_id) {
        Some(Waiter::Once(once)) => drop(once.send(answer)),
        Some(pages) if pages.tell(answer) => drop(pending.requests.insert(request_id, pages)),
        Some(_) | None => {}
    }
}

async fn read(mut stream: SplitStream<Socket>, mut frames: Receiver<FrameReply>, pending: Pending, replica: Replica) {
    let error = loop {
        // The writer asks for a sign of life well before.
        let Ok(message) = timeout(DEAF, stream.next()).await else { break lost(&replica, "it is silent") };
        pending.lock().heard = Some(Instant::now());
        let frame = match message {
            Some(Ok(Message::Binary(frame))) => frame,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(_)) | None => break lost(&replica, "it closed the session"),
            Some(Err(error)) => break lost(&replica, error),
        };
        match frames.open(&frame) {
            Ok(FrameReply { request_id, reply }) => tell(&pending, request_id, reply),
            Err(error) => break lost(&replica, error),
        }
    };
    end(&pending, &error);
}

async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut frames: Sender<FrameRequest>,
    mut queue: mpsc::Receiver<FrameRequest>,
    pending: Pending,
    replica: Replica,
) {
    loop {
        let message = match timeout(PING, queue.recv()).await {
            Ok(Some(request)) => match frames.seal(&request) {
                Ok(frame) => Message::Binary(frame.into()),
                Err(error) => {
                    // A request that is too large; the others go on.
                    tell(&pending, request.request_id, Err(error));
                    continue;
                }
            },
            Ok(None) => return,
            Err(_) => Message::Ping(Bytes::new()),
        };
        // Requests that wait already go out with one flush.
        let sent = if queue.is_empty() { sink.send(message).await } else { sink.feed(message).await };
        if let Err(error) = sent {
            return end(&pending, &lost(&replica, error));
        }
    }
}

//! A session: one WebSocket to one replica, with many requests in flight.

use crate::{
    cluster::{Answered, Ask, Cluster, Executed, answered, executed, try_elsewhere},
    link::{ANSWER, lost},
    roster::Replica,
};
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use parking_lot::Mutex;
use phala_primitives::{
    AccountId, Code, Coded, RequestId,
    limits::{MAX_MESSAGE, MAX_SESSION_REQUEST},
};
use phala_session::{Answer, Call, FrameReply, FrameRequest, Receiver, Sender, SignedCommand, SystemRng, random_id};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Pending = Arc<Mutex<Waiting>>;

/// Requests that wait to be written.
const QUEUE: usize = 1024;
/// What encoding, padding and sealing may add to a query, in bytes.
const ROOM: usize = 256 << 10;
/// Time to connect and open the session.
const OPENING: Duration = Duration::from_secs(10);

/// Who waits for which answer; nothing more once the connection has ended.
#[derive(Default)]
struct Waiting {
    requests: BTreeMap<RequestId, oneshot::Sender<Result<Answer, Coded>>>,
    ended: Option<Coded>,
}

/// A session with one replica. All methods may run at once. When the connection breaks they fail with `NoReplica`:
/// open another session, and send a command again as it was signed; it is executed at most once.
pub struct Session {
    cluster: Arc<Cluster>,
    replica: Replica,
    expires_ms: u64,
    pending: Pending,
    outgoing: mpsc::Sender<FrameRequest>,
    tasks: [JoinHandle<()>; 2],
}

impl Session {
    /// Opens a session with the first replica of the cluster that answers.
    pub async fn open(cluster: &Arc<Cluster>) -> Result<Self, Coded> {
        let mut last = Coded::new(Code::NoReplica, "no member of the cluster can be asked");
        for replica in cluster.in_order().await? {
            match Self::open_with(cluster, replica).await {
                Ok(session) => return Ok(session),
                Err(error) if try_elsewhere(&error) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Opens a session with this worker.
    pub async fn open_at(cluster: &Arc<Cluster>, worker: &AccountId) -> Result<Self, Coded> {
        Self::open_with(cluster, cluster.replica(worker).await?).await
    }

    async fn open_with(cluster: &Arc<Cluster>, replica: Replica) -> Result<Self, Coded> {
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
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// When the session ends, in milliseconds since 1970.
    pub fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    /// Asks a contract; verified like [`Cluster::query`].
    pub async fn query(&self, contract: AccountId, data: Vec<u8>) -> Result<Answered, Coded> {
        let query = self.cluster.query_of(contract, data);
        let answer = if query.data.len() > MAX_SESSION_REQUEST - ROOM {
            // So large a request goes by itself.
            self.cluster.ask_replica(&self.replica, Ask::Query(&query)).await?
        } else {
            self.ask(Call::Query(query.clone()), Ask::Query(&query)).await?
        };
        answered(self.replica.worker, answer)
    }

    /// Has a command executed; verified like [`Cluster::send`].
    pub async fn send(&self, command: &SignedCommand) -> Result<Executed, Coded> {
        let answer = self.ask(Call::Command(command.clone()), Ask::Command(command)).await?;
        executed(self.replica.worker, answer)
    }

    /// What became of a command; verified like [`Cluster::outcome`].
    pub async fn outcome(&self, command: &SignedCommand) -> Result<Executed, Coded> {
        let answer = self.ask(Call::Outcome(command.command.id), Ask::Outcome(command)).await?;
        executed(self.replica.worker, answer)
    }

    async fn ask(&self, call: Call, ask: Ask<'_>) -> Result<Answer, Coded> {
        let request_id = random_id(&mut SystemRng);
        let (sender, answer) = oneshot::channel();
        {
            let mut pending = self.pending.lock();
            if let Some(error) = &pending.ended {
                return Err(error.clone());
            }
            pending.requests.insert(request_id, sender);
        }
        let _forget = Forget { pending: &self.pending, request_id };
        let gone = || lost(&self.replica, "the session has ended");
        self.outgoing.send(FrameRequest { request_id, call }).await.map_err(|_| gone())?;
        let patience = if matches!(ask, Ask::Query(_)) { self.cluster.patience() } else { ANSWER };
        let answer = timeout(patience, answer).await.map_err(|_| lost(&self.replica, "no answer"))?;
        let answer = answer.map_err(|_| gone())??;
        self.cluster.verify(&self.replica.identity, &request_id, ask, &answer).await?;
        Ok(answer)
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

impl Drop for Session {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session {{ {:?} with {} }}", self.cluster, self.replica.worker)
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
        // Whoever does not wait any more does not mind.
        let _ = waiting.send(Err(error.clone()));
    }
}

async fn read(mut stream: SplitStream<Socket>, mut frames: Receiver<FrameReply>, pending: Pending, replica: Replica) {
    let error = loop {
        let frame = match stream.next().await {
            Some(Ok(Message::Binary(frame))) => frame,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(_)) | None => break lost(&replica, "it closed the session"),
            Some(Err(error)) => break lost(&replica, error),
        };
        match frames.open(&frame) {
            Ok(FrameReply { request_id, reply }) => {
                if let Some(waiting) = pending.lock().requests.remove(&request_id) {
                    let _ = waiting.send(reply);
                }
            }
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
    while let Some(request) = queue.recv().await {
        let frame = match frames.seal(&request) {
            Ok(frame) => frame,
            Err(error) => {
                // A request that is too large; the others go on.
                if let Some(waiting) = pending.lock().requests.remove(&request.request_id) {
                    let _ = waiting.send(Err(error));
                }
                continue;
            }
        };
        // Requests that wait already go out with one flush.
        let message = Message::Binary(frame.into());
        let sent = if queue.is_empty() { sink.send(message).await } else { sink.feed(message).await };
        if let Err(error) = sent {
            return end(&pending, &lost(&replica, error));
        }
    }
}

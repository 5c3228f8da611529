//! The worker's door for clients and peers: HTTP/1.1, HTTP/2 and WebSocket on one port.
//!
//! | path | what |
//! | --- | --- |
//! | `GET /v1/info` | who the worker is, its newest session key, its place in the cluster (JSON) |
//! | `POST /v1/call` | an envelope; answered with a response, both as octets |
//! | `GET /v1/session` | WebSocket: first message an envelope that opens a session, answered with a response, then frames |
//! | `GET /v1/entries?from=&to=` | entries of the command log for a replica that lags: certified headers, encrypted bodies |
//! | `POST /v1/copy` | a newcomer's or reader's sealed question for the state or what changed in it, answered sealed |
//! | `/v1/hooks/{contract}/{path}` | any HTTP request for a contract, in the clear, see [`crate::hooks`] |
//! | `GET /livez`, `/readyz`, `/metrics` | for whoever runs it |
//!
//! Sizes are bounded before anything is read. A request that cannot be opened is answered with status 200 and a
//! refusal inside, so that a proxy sees no difference between requests that were opened and those that were not.

use crate::{
    budget::Lease,
    follow::{self, Follows, Reply},
    hooks,
    service::{Reception, Service, now_ms},
    start::{AbortOnDrop, blocking},
    worker::Status,
};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Query, State, WebSocketUpgrade, ws},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use codec::Encode;
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use phala_primitives::{
    AccountId, Code, Coded,
    limits::{MAX_MESSAGE, MAX_SESSION_REQUEST},
};
use phala_replica::Answer;
use phala_session::{Call, FrameCall, Sender, ServerReceiver, ServerSession};
use serde::Deserialize;
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

/// Requests of one session under way at once; the session is not read on until one is answered.
const MAX_IN_FLIGHT: usize = 256;
/// Time for the first message of a session.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);
/// A request that is too large is read on for so many bytes before it is refused.
const DRAINED: usize = 4 << 20;
/// Time for a request to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Sessions open at once.
const MAX_SESSIONS: i64 = 1024;
/// Most entries in one answer to a peer.
const MAX_ENTRIES: u64 = 64;
/// Answers to a peer end once they hold this much.
const MAX_ENTRIES_BYTES: usize = 4 << 20;

/// Time for an answer to a newcomer.
const COPY_TIMEOUT: Duration = Duration::from_secs(35);

/// The routes of a worker.
pub(crate) fn router(status: Arc<Status>) -> Router {
    Router::new()
        .route("/v1/info", get(info))
        .route("/v1/call", post(call))
        .route("/v1/session", get(session))
        .route("/v1/entries", get(entries))
        .route("/v1/copy", post(copy))
        .route("/v1/parts/{contract}/{number}/{index}", get(part))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .layer(tower_http::cors::CorsLayer::permissive())
        // Who may read a contract's answers, the contract says.
        .route("/v1/hooks/{contract}", any(hooks::hook))
        .route("/v1/hooks/{contract}/", any(hooks::hook))
        .route("/v1/hooks/{contract}/{*path}", any(hooks::hook))
        .with_state(status)
}

fn service(status: &Status) -> Result<Arc<Service>, Box<Response>> {
    status.service().ok_or_else(|| {
        let error = Coded::new(Code::NotReady, status.waiting_for());
        Box::new(
            (StatusCode::SERVICE_UNAVAILABLE, octets(phala_session::Response::Refused(error).encode())).into_response(),
        )
    })
}

fn octets(bytes: Vec<u8>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/octet-stream")], bytes)
}

async fn info(State(status): State<Arc<Status>>) -> Response {
    let service = match service(&status) {
        Ok(service) => service,
        Err(response) => return *response,
    };
    let key = service.acceptor().session_key();
    let parts = service.parts();
    let applied = service.replica().applied();
    Json(json!({
        "protocol": phala_session::VERSION,
        "genesis": parts.genesis.to_string(),
        "worker": parts.worker.to_string(),
        "identity": format!("0x{}", hex::encode(parts.identity)),
        "cluster": parts.cluster,
        "epoch": service.replica().ready_epoch().ok(),
        "reads_only": service.only_reads(),
        "leads": service.leads(),
        "height": applied.height,
        "state_root": applied.root.to_string(),
        "session_key": format!("0x{}", hex::encode(key.encode())),
        "attestation": status.attestation(),
        "limits": {
            "message_bytes": MAX_MESSAGE,
            "command_bytes": phala_primitives::limits::MAX_COMMAND,
            "code_bytes": phala_primitives::limits::MAX_CODE,
        },
    }))
    .into_response()
}

/// The body of a request. What is too large, or more than there is memory for, is read on for a while, so that its sender
/// gets to read the answer.
pub(crate) async fn collect(body: Body, limit: usize, lease: &mut Lease) -> Result<Vec<u8>, Coded> {
    let (mut stream, mut bytes, mut passed) = (body.into_data_stream(), vec![], 0usize);
    let mut refused = None;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Code::Malformed)?;
        passed = passed.saturating_add(chunk.len());
        if passed > limit.saturating_add(DRAINED) {
            break;
        }
        if refused.is_none() {
            refused = if passed > limit { Some(Code::TooLarge.into()) } else { lease.grow(chunk.len()).err() };
        }
        match refused {
            None => bytes.extend_from_slice(&chunk),
            Some(_) => bytes = vec![],
        }
    }
    refused.map_or(Ok(bytes), Err)
}

/// A reply that holds its bytes of the budget until it is sent.
struct Leased(Vec<u8>, #[expect(dead_code, reason = "held")] Lease);

impl AsRef<[u8]> for Leased {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn refuse(status: &Status, error: Coded) -> Response {
    let http = match error.known() {
        Some(Code::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
        Some(Code::BytesBusy | Code::TooManySessions) => StatusCode::SERVICE_UNAVAILABLE,
        Some(Code::Expired) => StatusCode::REQUEST_TIMEOUT,
        _ => StatusCode::BAD_REQUEST,
    };
    if let Some(code) = error.known() {
        status.metrics().reached(code);
    }
    (http, octets(phala_session::Response::Refused(error).encode())).into_response()
}

async fn call(State(status): State<Arc<Status>>, body: Body) -> Response {
    let service = match service(&status) {
        Ok(service) => service,
        Err(response) => return *response,
    };
    let mut lease = service.budget().lease();
    let collected = tokio::time::timeout(BODY_TIMEOUT, collect(body, MAX_MESSAGE, &mut lease)).await;
    let body = match collected.unwrap_or_else(|_| Err(Code::Expired.into())) {
        Ok(body) => body,
        Err(error) => return refuse(&status, error),
    };
    match service.receive(&body).await {
        Reception::Response(bytes) => match lease.grow(bytes.len()) {
            Ok(()) => {
                let bytes = Bytes::from_owner(Leased(bytes, lease));
                ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response()
            }
            Err(error) => refuse(&status, error),
        },
        Reception::Session(..) => {
            let error = Coded::new(Code::Malformed, "a session is opened at /v1/session");
            octets(phala_session::Response::Refused(error).encode()).into_response()
        }
    }
}

async fn session(State(status): State<Arc<Status>>, upgrade: WebSocketUpgrade) -> Response {
    let service = match service(&status) {
        Ok(service) => service,
        Err(response) => return *response,
    };
    let metrics = status.metrics().clone();
    if metrics.sessions.get() >= MAX_SESSIONS {
        return refuse(&status, Code::TooManySessions.into());
    }
    let upgrade = upgrade.max_message_size(MAX_SESSION_REQUEST).max_frame_size(MAX_SESSION_REQUEST);
    upgrade.on_upgrade(move |socket| async move {
        metrics.sessions.inc();
        tokio::select! {
            ended = serve_session(socket, service.clone()) => if let Err(error) = ended {
                tracing::debug!(code = %error, "a session ended");
            },
            () = status.replaced(&service) => tracing::debug!("a session ended with its service"),
        }
        metrics.sessions.dec();
    })
}

async fn serve_session(mut socket: ws::WebSocket, service: Arc<Service>) -> Result<(), Coded> {
    let first = tokio::time::timeout(OPENING_TIMEOUT, socket.recv()).await.map_err(|_| Code::Expired)?;
    let Some(Ok(ws::Message::Binary(envelope))) = first else { return Err(Code::Malformed.into()) };
    let session = match service.receive(&envelope).await {
        Reception::Session(response, session) => {
            socket.send(ws::Message::Binary(response.into())).await.map_err(closed)?;
            session
        }
        Reception::Response(response) => {
            let _ = socket.send(ws::Message::Binary(response.into())).await;
            return Ok(());
        }
    };
    let ServerSession { receiver, sender, .. } = *session;
    let (sink, stream) = socket.split();
    let (replies, queue) = mpsc::channel(MAX_IN_FLIGHT);
    let _writing = AbortOnDrop(tokio::spawn(write_frames(sink, sender, queue)));
    read_frames(stream, receiver, service, replies).await
}

fn closed(error: axum::Error) -> Coded {
    Coded::new(Code::Malformed, format!("the connection ended: {error}"))
}

async fn read_frames(
    mut stream: SplitStream<ws::WebSocket>,
    mut receiver: ServerReceiver,
    service: Arc<Service>,
    replies: mpsc::Sender<Reply>,
) -> Result<(), Coded> {
    let in_flight = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let mut follows = Follows::default();
    // Queries end with their session.
    let mut answering = JoinSet::new();
    while let Some(message) = stream.next().await {
        let frame = match message.map_err(closed)? {
            ws::Message::Binary(frame) => frame,
            ws::Message::Close(_) => return Ok(()),
            ws::Message::Text(_) => return Err(Code::Malformed.into()),
            ws::Message::Ping(_) | ws::Message::Pong(_) => continue,
        };
        let FrameCall { account, request_id, call } = receiver.open(&frame, crate::service::now_ms())?;
        let call = match call {
            Ok(Call::Follow(query)) => {
                if let Err(error) =
                    follows.begin(follow::run(service.clone(), account, request_id, query, replies.clone()), request_id)
                {
                    let _ = replies.send(Reply::new(request_id, Err(error))).await;
                }
                continue;
            }
            Ok(Call::Unfollow(request)) => {
                follows.end(&request);
                continue;
            }
            other => other,
        };
        let Ok(permit) = in_flight.clone().acquire_owned().await else { return Ok(()) };
        while answering.try_join_next().is_some() {}
        let (service, replies) = (service.clone(), replies.clone());
        answering.spawn(async move {
            let mut lease = service.budget().lease();
            let answer = match call.and_then(|call| lease.grow(frame.len()).map(|()| call)) {
                Ok(call) => service.answer(account, request_id, call).await,
                Err(error) => Err(error),
            };
            let answer = match answer.as_ref().map_or(Ok(()), |answer| lease.grow(answer.encoded_size())) {
                Ok(()) => answer,
                Err(error) => Err(error),
            };
            drop(permit);
            let _ = replies.send(Reply::new(request_id, answer).holding(lease)).await;
        });
    }
    Ok(())
}

async fn write_frames(
    mut sink: SplitSink<ws::WebSocket, ws::Message>,
    mut sender: Sender<phala_session::FrameReply>,
    mut queue: mpsc::Receiver<Reply>,
) {
    while let Some(Reply { request_id, answer, written, lease: _held }) = queue.recv().await {
        let Ok(frame) = sender.reply(request_id, answer) else { return };
        // Replies that wait already go out with one flush.
        let sent = if queue.is_empty() || written.is_some() {
            sink.send(ws::Message::Binary(frame.into())).await
        } else {
            sink.feed(ws::Message::Binary(frame.into())).await
        };
        if sent.is_err() {
            return;
        }
        if let Some(written) = written {
            // Whoever wrote it may be gone.
            let _ = written.send(());
        }
    }
}

#[derive(Deserialize)]
struct Range {
    from: u64,
    to: u64,
}

async fn entries(State(status): State<Arc<Status>>, Query(range): Query<Range>) -> Response {
    let Some(log) = status.entries() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let to = range.to.min(range.from.saturating_add(MAX_ENTRIES));
    let read = move || {
        let (mut found, mut bytes): (Vec<Vec<u8>>, usize) = (vec![], 0);
        for height in range.from..to {
            match log.read(height) {
                Ok(Some(entry)) if bytes < MAX_ENTRIES_BYTES => {
                    bytes += entry.len();
                    found.push(entry);
                }
                _ => break,
            }
        }
        found.encode()
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(bytes) => octets(bytes).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Answers a newcomer or a reader; in its own time, if what it asks for is yet to come.
async fn copy(State(status): State<Arc<Status>>, question: Bytes) -> Response {
    let Some(service) = status.service() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let answered = async {
        loop {
            let (replica, question) = (service.replica().clone(), question.clone());
            let turn = status.copying.acquire().await.map_err(|_| Code::Internal)?;
            let answer = blocking(move || replica.asked(&question, now_ms())).await?;
            drop(turn);
            match answer {
                Answer::Now(bytes) => return Ok::<_, Coded>(bytes),
                // It may be cancelled with the replica.
                Answer::Later(next) => drop(next.await),
            }
        }
    };
    match tokio::time::timeout(COPY_TIMEOUT, answered).await {
        Ok(Ok(bytes)) => octets(bytes).into_response(),
        Ok(Err(error)) if error.known() == Some(Code::NotReady) => {
            (StatusCode::GONE, error.to_string()).into_response()
        }
        Ok(Err(error)) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Gives a member of another cluster a part of a contract that goes there. Only such a member can read it.
async fn part(
    State(status): State<Arc<Status>>,
    Path((contract, number, index)): Path<(String, u32, u32)>,
) -> Response {
    let Some(service) = status.service() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let Ok(contract) = contract.parse::<AccountId>() else { return StatusCode::BAD_REQUEST.into_response() };
    let Ok(_turn) = status.copying.acquire().await else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let replica = service.replica().clone();
    match blocking(move || replica.part_of(&contract, number, index)).await {
        Ok(bytes) => octets(bytes).into_response(),
        Err(error) => (StatusCode::GONE, error.to_string()).into_response(),
    }
}

async fn ready(State(status): State<Arc<Status>>) -> Response {
    match status.service() {
        Some(_) => "ready\n".into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, format!("waits for {}\n", status.waiting_for())).into_response(),
    }
}

async fn metrics(State(status): State<Arc<Status>>) -> Response {
    status.refresh_metrics();
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], status.metrics().render())
        .into_response()
}

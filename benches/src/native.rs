//! The baseline: what a developer writes who keeps no secrets.

use crate::load::{Account, Client, Connect, account, balance};
use anyhow::{Context, Result, bail, ensure};
use axum::{
    Router,
    body::Bytes,
    extract::{
        State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    http::StatusCode,
    response::Response,
    routing::{any, post},
};
use futures::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use std::{collections::BTreeMap, net::SocketAddr, process::Stdio, sync::Arc};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite};

type Balances = Arc<BTreeMap<Account, u128>>;

/// Serves the token until the process is stopped. The first line on stdout is the address.
pub(crate) async fn serve(accounts: usize) -> Result<()> {
    let balances: Balances = Arc::new((0..accounts).map(|number| (account(number), balance(number))).collect());
    let router = Router::new().route("/balance_of", post(over_http)).route("/ws", any(over_ws)).with_state(balances);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(axum::serve::ListenerExt::tap_io(listener, |io| drop(io.set_nodelay(true))), router).await?;
    Ok(())
}

async fn over_http(State(balances): State<Balances>, body: Bytes) -> Result<Vec<u8>, StatusCode> {
    lookup(&balances, &body).ok_or(StatusCode::BAD_REQUEST)
}

async fn over_ws(State(balances): State<Balances>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|mut socket: WebSocket| async move {
        while let Some(Ok(Message::Binary(question))) = socket.recv().await {
            let Some(answer) = lookup(&balances, &question) else { return };
            if socket.send(Message::Binary(answer.into())).await.is_err() {
                return;
            }
        }
    })
}

/// The balance of the account in `question`, little endian.
fn lookup(balances: &BTreeMap<Account, u128>, question: &[u8]) -> Option<Vec<u8>> {
    let account: Account = question.try_into().ok()?;
    Some(balances.get(&account).copied().unwrap_or(0).to_le_bytes().to_vec())
}

/// The native server in a process of its own; it ends with this value.
pub(crate) struct Native {
    address: SocketAddr,
    _process: Child,
}

impl Native {
    /// Starts this program again, as the server.
    pub(crate) async fn start(accounts: usize) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["native", &accounts.to_string()])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting the native server")?;
        let stdout = process.stdout.take().context("the server's stdout is piped")?;
        let line = BufReader::new(stdout).lines().next_line().await?.context("the native server ended")?;
        Ok(Self { address: line.parse()?, _process: process })
    }

    /// Its HTTP side.
    pub(crate) fn http(&self) -> Http {
        Http(self.address)
    }

    /// Its WebSocket side.
    pub(crate) fn ws(&self) -> Ws {
        Ws(self.address)
    }
}

/// Asks over HTTP/1.1, one connection that is kept.
pub(crate) struct Http(SocketAddr);

/// A kept connection.
pub(crate) struct HttpClient {
    sender: hyper::client::conn::http1::SendRequest<axum::body::Body>,
    host: String,
}

impl Connect for Http {
    type Client = HttpClient;

    async fn connect(&self) -> Result<HttpClient> {
        let stream = TcpStream::connect(self.0).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(HttpClient { sender, host: self.0.to_string() })
    }
}

impl Client for HttpClient {
    async fn balance_of(&mut self, account: &Account) -> Result<u128> {
        self.sender.ready().await?;
        let request = hyper::Request::post("/balance_of")
            .header("host", &self.host)
            .body(axum::body::Body::from(account.to_vec()))?;
        let response = self.sender.send_request(request).await?;
        ensure!(response.status().is_success(), "the server answered {}", response.status());
        let body = axum::body::to_bytes(axum::body::Body::new(response.into_body()), 64).await?;
        Ok(u128::from_le_bytes(body.as_ref().try_into()?))
    }
}

/// Asks over a WebSocket.
pub(crate) struct Ws(SocketAddr);

/// An open WebSocket.
pub(crate) struct WsClient(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Connect for Ws {
    type Client = WsClient;

    async fn connect(&self) -> Result<WsClient> {
        let url = format!("ws://{}/ws", self.0);
        let (socket, _) = tokio_tungstenite::connect_async_with_config(url, None, true).await?;
        Ok(WsClient(socket))
    }
}

impl Client for WsClient {
    async fn balance_of(&mut self, account: &Account) -> Result<u128> {
        self.0.send(tungstenite::Message::Binary(account.to_vec().into())).await?;
        match self.0.next().await.context("the server closed the connection")?? {
            tungstenite::Message::Binary(answer) => Ok(u128::from_le_bytes(answer.as_ref().try_into()?)),
            other => bail!("an unexpected message: {other}"),
        }
    }
}

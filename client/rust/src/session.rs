//! A session with a cluster: one WebSocket to a replica, and another replica when that one fails.
//!
//! Requests go through the connection that there is. If it breaks, or says nothing for a second, the request is sent to
//! the other replicas, too, each as it was signed, so that a command is executed once; the first answer that verifies
//! counts. A connection whose replica said nothing meanwhile is given up, and the next request opens one elsewhere.

use crate::{
    cluster::{Answered, Ask, Cluster, Executed, SILENCE, answered, executed, now_ms, others_may_know},
    connection::Connection,
    roster::Replica,
};
use futures::{StreamExt, future::Either, stream::FuturesUnordered};
use parking_lot::Mutex;
use phala_primitives::{AccountId, Code, Coded, limits::MAX_SESSION_REQUEST};
use phala_session::{Answer, SignedCommand};
use std::{fmt, pin::pin, sync::Arc, time::Instant};
use tokio::time::timeout;

/// A session is opened anew this long before it ends, in milliseconds.
const MARGIN_MS: u64 = 10_000;
/// What encoding, padding and sealing may add to a query, in bytes.
const ROOM: usize = 256 << 10;

/// A session with a cluster, or, of [`Session::open_at`], with one worker only: that one fails with `NoReplica` when
/// the connection breaks. All methods may run at once.
pub struct Session {
    cluster: Arc<Cluster>,
    connection: Mutex<Arc<Connection>>,
    /// Held while another connection is opened.
    opening: tokio::sync::Mutex<()>,
    only: Option<AccountId>,
}

impl Session {
    /// Opens a session with the first replica of the cluster that answers.
    pub async fn open(cluster: &Arc<Cluster>) -> Result<Self, Coded> {
        let connection = connect(cluster, None).await?;
        Ok(Self::new(cluster, connection, None))
    }

    /// Opens a session with this worker.
    pub async fn open_at(cluster: &Arc<Cluster>, worker: &AccountId) -> Result<Self, Coded> {
        let connection = Connection::open(cluster, cluster.replica(worker).await?).await?;
        Ok(Self::new(cluster, Arc::new(connection), Some(*worker)))
    }

    fn new(cluster: &Arc<Cluster>, connection: Arc<Connection>, only: Option<AccountId>) -> Self {
        Self {
            cluster: cluster.clone(),
            connection: Mutex::new(connection),
            opening: tokio::sync::Mutex::new(()),
            only,
        }
    }

    /// The replica at the other end, as things are.
    pub fn replica(&self) -> Replica {
        self.connection.lock().replica().clone()
    }

    /// When the session with that replica ends, in milliseconds since 1970.
    pub fn expires_ms(&self) -> u64 {
        self.connection.lock().expires_ms()
    }

    /// Asks a contract; verified like [`Cluster::query`]. If several replicas have to agree, it asks them all, one by one
    /// besides the session.
    pub async fn query(&self, contract: AccountId, data: Vec<u8>) -> Result<Answered, Coded> {
        let query = self.cluster.query_of(contract, data);
        let members = self.cluster.audit(&contract).await?;
        if members > 1 && self.only.is_none() {
            return self.cluster.agreed(query, members).await?.into_iter().next().ok_or_else(|| Code::NoReplica.into());
        }
        let (worker, answer) = if query.data.len() > MAX_SESSION_REQUEST - ROOM {
            // So large a request goes by itself.
            match self.only {
                Some(worker) => {
                    let replica = self.cluster.replica(&worker).await?;
                    (worker, self.cluster.ask_replica(&replica, Ask::Query(&query)).await?)
                }
                None => self.cluster.ask(Ask::Query(&query)).await?,
            }
        } else {
            self.ask(Ask::Query(&query)).await?
        };
        answered(worker, answer)
    }

    /// Has a command executed; verified like [`Cluster::send`].
    pub async fn send(&self, command: &SignedCommand) -> Result<Executed, Coded> {
        let (worker, answer) = self.ask(Ask::Command(command)).await?;
        executed(worker, answer)
    }

    /// What became of a command; verified like [`Cluster::outcome`].
    pub async fn outcome(&self, command: &SignedCommand) -> Result<Executed, Coded> {
        let (worker, answer) = self.ask(Ask::Outcome(command)).await?;
        executed(worker, answer)
    }

    /// A connection that has not ended.
    async fn connection(&self) -> Result<Arc<Connection>, Coded> {
        let usable = |connection: &Connection| {
            connection.ended().is_none() && connection.expires_ms() > now_ms().saturating_add(MARGIN_MS)
        };
        let known = self.connection.lock().clone();
        if self.only.is_some() || usable(&known) {
            return Ok(known);
        }
        let _one = self.opening.lock().await;
        let known = self.connection.lock().clone();
        if usable(&known) {
            return Ok(known);
        }
        let opened = connect(&self.cluster, Some(known.replica().worker)).await?;
        *self.connection.lock() = opened.clone();
        Ok(opened)
    }

    async fn ask(&self, ask: Ask<'_>) -> Result<(AccountId, Answer), Coded> {
        let asked = Instant::now();
        let connection = self.connection().await?;
        let worker = connection.replica().worker;
        let mut first = pin!(connection.ask(ask));
        if self.only.is_some() {
            return Ok((worker, first.await?));
        }
        self.cluster.hedging.begun();
        let answer = loop {
            let answer = timeout(SILENCE, &mut first).await.ok();
            if connection.heard_since(asked) {
                self.cluster.hedging.heard(worker, Instant::now());
            }
            if answer.is_some() || self.cluster.hedging.may(&[worker], asked) {
                break answer;
            }
        };
        let failed = match answer {
            Some(Ok(answer)) => return Ok((worker, answer)),
            Some(Err(error)) if !elsewhere(&error) => return Err(error),
            Some(Err(error)) => {
                // It has lost the chain, and answers nothing until it finds it again.
                if error.known() == Some(Code::StaleHead) {
                    connection.give_up();
                }
                Some(error)
            }
            None => None,
        };
        let others = pin!(self.cluster.ask_others(ask, &worker));
        if let Some(error) = failed {
            return others.await.map_err(|_| error);
        }
        match futures::future::select(first, others).await {
            Either::Left((Ok(answer), _)) => Ok((worker, answer)),
            Either::Left((Err(error), others)) if elsewhere(&error) => others.await,
            Either::Left((Err(error), _)) => Err(error),
            Either::Right((Ok(answer), _)) => {
                if !connection.heard_since(asked) {
                    connection.give_up();
                }
                Ok(answer)
            }
            Either::Right((Err(error), first)) if elsewhere(&error) => Ok((worker, first.await?)),
            Either::Right((Err(error), _)) => Err(error),
        }
    }
}

/// Whether another replica, or another connection, may do better.
fn elsewhere(error: &Coded) -> bool {
    others_may_know(error) || error.known() == Some(Code::SessionLimit)
}

/// Opens a connection with the first replica that answers, the one that is `last` after all others. One that is silent
/// is not given up, but the next is tried, too.
pub(crate) async fn connect(cluster: &Arc<Cluster>, last: Option<AccountId>) -> Result<Arc<Connection>, Coded> {
    let mut replicas = cluster.in_order().await?;
    replicas.sort_by_key(|replica| Some(replica.worker) == last);
    let mut next = replicas.into_iter().map(|replica| Connection::open(cluster, replica));
    let mut opening: FuturesUnordered<_> = next.next().into_iter().collect();
    let mut failed = Coded::new(Code::NoReplica, "no member of the cluster can be asked");
    while !opening.is_empty() {
        match timeout(SILENCE, opening.next()).await {
            Ok(Some(Ok(connection))) => return Ok(Arc::new(connection)),
            Ok(Some(Err(error))) if !elsewhere(&error) => return Err(error),
            Ok(Some(Err(error))) => failed = error,
            Ok(None) | Err(_) => {}
        }
        opening.extend(next.next());
    }
    Err(failed)
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session {{ {:?} with {} }}", self.cluster, self.replica().worker)
    }
}

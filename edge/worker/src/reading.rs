//! A reader: a worker that follows a cluster without a vote, and answers queries. It asks one member after the other for
//! what the newest entries changed, see [`phala_replica::Steps`], and executes nothing.

use crate::{
    copies::MAX_ANSWER,
    service::now_ms,
    start::{Keys, RECONNECT, Start, blocking, read},
};
use phala_client::Chain;
use phala_primitives::{Code, Coded, PublicKey};
use phala_replica::Replica;
use reqwest::StatusCode;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a member may say nothing. A cluster makes an entry several times a second.
const SILENCE: Duration = Duration::from_secs(2);
/// How often the members that are not asked are reminded that somebody reads: they remember what changed for readers only.
const REMIND: Duration = Duration::from_secs(20);
/// Epochs whose members are remembered.
const KNOWN: usize = 4;

/// How a reader's time ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    /// The members do not remember what it lacks: it needs their state.
    Behind,
    /// It has no place any more.
    Over,
}

/// What a member answered.
enum Told {
    /// Here is what leads on.
    Steps(Vec<u8>),
    /// It does not remember so much.
    Forgotten,
    /// Nothing.
    Silent,
}

/// What follows the log for a reader.
pub(crate) struct Follower<'a> {
    start: &'a Start,
    chain: &'a Arc<Chain>,
    keys: &'a Keys,
    replica: Arc<Replica>,
    http: reqwest::Client,
    /// Where members serve; the first is asked.
    peers: Vec<String>,
    /// Newest epoch that is known.
    epoch: u64,
    /// Identities by epoch.
    members: BTreeMap<u64, Arc<Vec<PublicKey>>>,
    /// When the other members were reminded.
    reminded: Option<Instant>,
}

impl<'a> Follower<'a> {
    pub(crate) fn new(start: &'a Start, chain: &'a Arc<Chain>, keys: &'a Keys, replica: Arc<Replica>) -> Self {
        let http = reqwest::Client::builder().read_timeout(SILENCE).connect_timeout(SILENCE).build();
        let (http, members) = (http.unwrap_or_default(), BTreeMap::new());
        Self { start, chain, keys, replica, http, peers: vec![], epoch: 0, members, reminded: None }
    }

    /// Follows for as long as members remember what is next.
    pub(crate) async fn run(&mut self) -> Result<(), Coded> {
        while self.step().await? {}
        Ok(())
    }

    /// Goes on to a newer state. `false`: none of the members that answer remembers what leads there.
    pub(crate) async fn step(&mut self) -> Result<bool, Coded> {
        loop {
            self.remind()?;
            let mut forgotten = 0;
            for _ in 0..self.peers.len() {
                let Some(peer) = self.peers.first().cloned() else { break };
                match self.ask(&peer).await? {
                    Told::Steps(answer) => match self.advance(answer).await {
                        Ok(()) => return Ok(true),
                        Err(error) => {
                            tracing::info!(%peer, %error, "what a member says is not believed");
                            // Or it is right, and what this reader holds was given up in a recovery.
                            forgotten += usize::from(error.known() == Some(Code::OtherHistory));
                        }
                    },
                    Told::Forgotten => forgotten += 1,
                    Told::Silent => tracing::debug!(%peer, "a member says nothing"),
                }
                self.peers.rotate_left(1);
            }
            if forgotten > 0 {
                return Ok(false);
            }
            // There may be others by now, or another epoch.
            let before = self.epoch;
            if let Err(error) = self.find().await {
                tracing::info!(%error, "the members are asked for again");
            }
            if self.epoch == before {
                tokio::time::sleep(RECONNECT).await;
            }
        }
    }

    /// Has the members that are not asked now remember what changes, as one of them may have to be asked next. Nobody waits
    /// for what they say.
    fn remind(&mut self) -> Result<(), Coded> {
        if self.peers.len() < 2 || self.reminded.is_some_and(|at| at.elapsed() < REMIND) {
            return Ok(());
        }
        self.reminded = Some(Instant::now());
        let question = self.replica.ask_changes(self.epoch, now_ms())?;
        for peer in self.peers.iter().skip(1) {
            let asked = self.http.post(format!("{peer}/v1/copy")).body(question.clone()).send();
            tokio::spawn(async move { drop(asked.await) });
        }
        Ok(())
    }

    /// Asks the chain who the members are, and for the keys of their epoch.
    async fn find(&mut self) -> Result<(), Coded> {
        let record = self.chain.cluster(self.start.cluster).await?.ok_or(Code::NoSuchCluster)?;
        self.peers = self.start.peers(self.chain, &record).await?;
        self.start.learn(self.keys, &self.replica, record.epoch).await?;
        self.epoch = self.epoch.max(record.epoch);
        // Not all readers ask the same member.
        let [first, ..] = self.start.worker().0;
        let turn = usize::from(first).checked_rem(self.peers.len()).unwrap_or(0);
        self.peers.rotate_left(turn);
        Ok(())
    }

    async fn ask(&self, peer: &str) -> Result<Told, Coded> {
        let question = self.replica.ask_changes(self.epoch, now_ms())?;
        let Ok(response) = self.http.post(format!("{peer}/v1/copy")).body(question).send().await else {
            return Ok(Told::Silent);
        };
        if response.status() == StatusCode::GONE {
            return Ok(Told::Forgotten);
        }
        Ok(read(response, MAX_ANSWER).await.map_or(Told::Silent, Told::Steps))
    }

    async fn advance(&mut self, answer: Vec<u8>) -> Result<(), Coded> {
        let replica = self.replica.clone();
        let steps = blocking(move || replica.steps(&answer)).await?;
        let epoch = steps.epoch();
        let members = self.members(epoch).await?;
        let replica = self.replica.clone();
        blocking(move || replica.advance(&steps, &members)).await?;
        if epoch > self.epoch {
            self.find().await?;
        }
        Ok(())
    }

    /// Identities of the members in an epoch. They never change, so they are asked for once.
    async fn members(&mut self, epoch: u64) -> Result<Arc<Vec<PublicKey>>, Coded> {
        if let Some(members) = self.members.get(&epoch) {
            return Ok(members.clone());
        }
        let members = self.chain.epoch(self.start.cluster, epoch).await?.ok_or(Code::BadFinality)?;
        let members: Arc<Vec<_>> = Arc::new(members.iter().map(|member| member.identity).collect());
        self.members.insert(epoch, members.clone());
        while self.members.len() > KNOWN {
            self.members.pop_first();
        }
        Ok(members)
    }
}

//! A cluster, asked through whichever replica answers.
//!
//! Every request is sealed to one replica, whose session key its identity signed, which the chain names. Every answer
//! is verified before it is returned: the receipt of a query against the identity of the replica, that of a command
//! against the cluster's members of the epoch that decided it. A replica that is dead, not ready, or gives an answer
//! that does not verify is passed over for the next; one that is silent for a while is not given up, but the next is
//! asked, too, and the first good answer counts. A command keeps its id and signature on the way from one replica to the
//! next, so it is executed at most once.

use crate::{
    Account, Chain, Contract,
    hedging::Hedging,
    link::{ANSWER, exchange, http, seal_for},
    roster::{Newest, Replica, Roster},
};
use futures::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use phala_primitives::{
    AccountId, Balance, ClusterId, ClusterPolicy, Code, Coded, PublicKey, RequestId,
    records::{Anchor, Checkpoint, cluster_namespace},
};
use phala_session::{
    Action, Answer, BalanceQuery, Client as Seal, Command, CommandReceipt, Credentials, Freshness, LogPage, LogQuery,
    Outcome, Output, PartQuery, PendingReply, Query, QueryReceipt, Rehearsal, Rehearsed, Scope, Sealed, SignedCommand,
    SystemRng, random_id,
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Contracts of which it is known how many replicas have to agree, and the age at which the chain is asked again.
const MAX_AUDITS: usize = 1024;
const AUDIT_AGE: Duration = Duration::from_secs(60);
/// How many blocks ahead of the newest known head a request may be opened.
const BLOCKS_AHEAD: u32 = 300;
/// How long a command may wait for its execution.
const COMMAND_LIFE_MS: u64 = 5 * 60 * 1000;
/// How often all replicas are tried, and the pause in between. The second time is at once: it may be that all have
/// restarted since the chain was asked.
const ROUNDS: usize = 5;
const PAUSE: Duration = Duration::from_millis(500);
/// How long a replica may be silent before another is asked, too.
pub(crate) const SILENCE: Duration = Duration::from_secs(1);
/// Most replicas that work on one query at the same time: a slow query is slow everywhere.
const QUERIED_AT_ONCE: usize = 2;
/// What a query may take beyond its own time, for its way.
const GRACE: Duration = Duration::from_secs(5);
/// A session key is replaced this long before it ends.
const KEY_MARGIN_MS: u64 = 60 * 1000;
/// Clocks differ: a certificate begins a little in the past.
const CLOCK_MARGIN_MS: u64 = 60 * 1000;
/// The same for the age of a state: an answer is on its way for a while, and leaders' clocks may be as far off.
const CLOCK_MS: u64 = 2_000;
/// How often replicas are asked that are to agree.
const AGREEMENTS: usize = 8;

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

impl Account {
    /// Signs a session certificate for a fresh key that acts for the account: for `scope`, as long as `life`, at most
    /// 30 days.
    pub fn certify(&self, chain: &Chain, scope: Scope, life: Duration) -> Arc<Credentials> {
        let begin = now_ms().saturating_sub(CLOCK_MARGIN_MS);
        let life = u64::try_from(life.as_millis()).unwrap_or(u64::MAX).saturating_add(CLOCK_MARGIN_MS);
        let end = begin.saturating_add(life.min(phala_primitives::limits::MAX_CERTIFICATE_LIFE_MS));
        let sign = |text: &str| self.sign(text.as_bytes());
        let rng = &mut SystemRng;
        Arc::new(Credentials::issue(chain.genesis(), self.id(), scope, begin, end, rng, sign))
    }
}

/// A verified answer to a query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answered {
    /// What the contract returned.
    pub output: Output,
    /// The replica's word for it.
    pub receipt: QueryReceipt,
    /// Who answered.
    pub worker: AccountId,
}

/// A verified outcome of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Executed {
    /// What came of it.
    pub outcome: Outcome,
    /// Proof of its place in the log, and a replica's word for the outcome.
    pub receipt: Box<CommandReceipt>,
    /// Who answered.
    pub worker: AccountId,
}

/// A question to a replica.
#[derive(Clone, Copy)]
pub(crate) enum Ask<'a> {
    Query(&'a Query),
    Command(&'a SignedCommand),
    Outcome(&'a SignedCommand),
    Logs(&'a LogQuery),
    Balance(&'a BalanceQuery),
    Part(&'a PartQuery),
    Rehearse(&'a Rehearsal),
    History(&'a Link),
    Final(u64),
}

impl Ask<'_> {
    /// Whether a reader can answer it.
    fn reads(&self) -> bool {
        matches!(self, Ask::Query(query) if query.freshness != Freshness::Linearizable)
    }
}

/// An entry, and the epoch that it is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    pub(crate) anchor: Anchor,
    pub(crate) epoch: u64,
}

/// A cluster as one account sees it. Cheap to share; all methods may run at once.
pub struct Cluster {
    chain: Arc<Chain>,
    id: ClusterId,
    credentials: Arc<Credentials>,
    pub(crate) http: reqwest::Client,
    roster: Newest,
    seals: Mutex<BTreeMap<PublicKey, Arc<Seal>>>,
    epochs: Mutex<BTreeMap<u64, Arc<Vec<PublicKey>>>>,
    preferred: AtomicUsize,
    pub(crate) hedging: Hedging,
    /// Answers of late that others contradict.
    pub(crate) contradicted: Mutex<Vec<Answered>>,
    /// How many replicas have to agree on what contracts answer, and when the chain was asked.
    audits: Mutex<BTreeMap<AccountId, (usize, Instant)>>,
    /// Height of the newest entry that this client knows of: it reads what it wrote, and what the chain was shown.
    height: AtomicU64,
}

impl Cluster {
    /// Reads from the chain who the members are.
    ///
    /// Errors: `NoSuchCluster`, and those of reading the chain.
    pub async fn connect(chain: Arc<Chain>, id: ClusterId, credentials: Arc<Credentials>) -> Result<Arc<Self>, Coded> {
        let roster = Roster::fetch(&chain, id, now_ms()).await?;
        let height = roster.checkpoint.anchor.height;
        let [first, ..] = random_id(&mut SystemRng);
        Ok(Arc::new(Self {
            chain,
            id,
            credentials,
            http: http()?,
            roster: Newest::new(roster),
            seals: Mutex::default(),
            epochs: Mutex::default(),
            preferred: AtomicUsize::new(usize::from(first)),
            hedging: Hedging::default(),
            contradicted: Mutex::default(),
            audits: Mutex::default(),
            height: AtomicU64::new(height),
        }))
    }

    /// Number of the cluster.
    pub fn id(&self) -> ClusterId {
        self.id
    }

    /// The chain that it is on.
    pub fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    /// With which it is asked.
    pub(crate) fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    /// The account for which it is asked.
    pub fn account(&self) -> AccountId {
        self.credentials.certificate().body.account
    }

    /// The replicas that can be asked, in the order of the cluster's members.
    pub fn replicas(&self) -> Vec<Replica> {
        self.roster.known().replicas.clone()
    }

    /// The readers that can be asked: with queries.
    pub fn readers(&self) -> Vec<Replica> {
        self.roster.known().readers.clone()
    }

    /// The same as [`Cluster::replicas`], asked of the chain again if what is known is old.
    pub async fn reachable(&self) -> Result<Vec<Replica>, Coded> {
        Ok(self.roster(false).await?.replicas.clone())
    }

    /// Asks this one of [`Cluster::replicas`] first, or, of those who only read, one of [`Cluster::readers`], which come
    /// behind them.
    pub fn prefer(&self, index: usize) {
        self.preferred.store(index, Ordering::Relaxed);
    }

    /// A contract of this cluster.
    pub fn contract(self: &Arc<Self>, address: AccountId) -> Contract {
        Contract::new(self.clone(), address)
    }

    /// Signs a command. Give it to [`Cluster::send`] or a session, as often as needed: it is executed at most once.
    pub fn sign(&self, action: Action, gas_limit: u64) -> SignedCommand {
        self.sign_paying(action, 0, gas_limit)
    }

    /// The same, with money of the account in the cluster that goes to the contract with a call or instantiation.
    pub fn sign_paying(&self, action: Action, value: Balance, gas_limit: u64) -> SignedCommand {
        self.credentials.sign(Command {
            id: random_id(&mut SystemRng),
            genesis: self.chain.genesis(),
            cluster: self.id,
            action,
            value,
            gas_limit,
            deadline_ms: now_ms().saturating_add(COMMAND_LIFE_MS),
        })
    }

    /// A query that sees what this client wrote.
    pub(crate) fn query_of(&self, contract: AccountId, data: Vec<u8>) -> Query {
        let min_height = self.height.load(Ordering::Relaxed);
        Query { contract, data, value: 0, min_height, freshness: Freshness::Any }
    }

    /// Lets this client's queries see the entry of this height and all before it, such as one that another client's
    /// receipt names.
    pub fn observe(&self, height: u64) {
        self.height.fetch_max(height, Ordering::Relaxed);
    }

    /// Asks a contract. Its state is at least as new as the last command that this client sent.
    pub async fn query(&self, contract: AccountId, data: Vec<u8>) -> Result<Answered, Coded> {
        self.query_paying(contract, data, 0).await
    }

    /// The same, as if the account paid `value` along. Nothing is moved.
    pub async fn query_paying(&self, contract: AccountId, data: Vec<u8>, value: Balance) -> Result<Answered, Coded> {
        self.query_fresh(contract, data, value, Freshness::Any).await
    }

    /// The same, of a state that is as new as asked for. If the contract's deployer wants it so, several replicas have to
    /// agree on the answer, see [`Cluster::query_quorum`]. That it is at most so old is checked by this client's clock.
    ///
    /// Errors: `StaleState`; `NoQuorum` if the cluster does not decide, which a linearizable query needs.
    pub async fn query_fresh(
        &self,
        contract: AccountId,
        data: Vec<u8>,
        value: Balance,
        freshness: Freshness,
    ) -> Result<Answered, Coded> {
        let query = Query { value, freshness, ..self.query_of(contract, data) };
        match self.audit(&contract).await? {
            0 | 1 => {
                let (worker, answer) = self.ask(Ask::Query(&query)).await?;
                answered(worker, answer)
            }
            members => self.agreed(query, members).await?.into_iter().next().ok_or_else(unasked),
        }
    }

    /// How many replicas have to agree on what a contract answers, as its deployer has said on the chain.
    pub(crate) async fn audit(&self, contract: &AccountId) -> Result<usize, Coded> {
        let known = self.audits.lock().get(contract).copied();
        if let Some((members, asked)) = known
            && asked.elapsed() < AUDIT_AGE
        {
            return Ok(members);
        }
        let record = match (self.chain.contract(contract).await, known) {
            (Err(_), Some((members, _))) => return Ok(members),
            (record, _) => record?,
        };
        let members = record.map_or(1, |record| record.audit) as usize;
        let mut audits = self.audits.lock();
        if audits.len() >= MAX_AUDITS {
            audits.clear();
        }
        audits.insert(*contract, (members, Instant::now()));
        Ok(members)
    }

    /// Asks until `members` different replicas have given the same answer, and returns all of their answers, each from
    /// the state of one entry or another. One that is wrong is caught as long as all others are asked, too.
    ///
    /// Errors: `NoReplica` if fewer answer; `Contradiction` if they say different things, again and again. Then
    /// [`Cluster::proofs`] may find out who lies.
    pub async fn query_quorum(
        &self,
        contract: AccountId,
        data: Vec<u8>,
        value: Balance,
        members: usize,
    ) -> Result<Vec<Answered>, Coded> {
        self.agreed(Query { value, ..self.query_of(contract, data) }, members).await
    }

    pub(crate) async fn agreed(&self, mut query: Query, members: usize) -> Result<Vec<Answered>, Coded> {
        let mut last = vec![];
        for _ in 0..AGREEMENTS {
            let answers = self.answers(&query, members).await?;
            let mut outputs = answers.iter().map(|answered| &answered.output);
            let first = outputs.next();
            if outputs.all(|output| Some(output) == first) {
                return Ok(answers);
            }
            // They may have answered from the states of different entries.
            let heights = answers.iter().map(|answered| answered.receipt.claim.height);
            query.min_height = heights.max().unwrap_or(query.min_height);
            last = answers;
        }
        self.suspect(last);
        Err(Coded::new(Code::Contradiction, format!("{members} replicas, asked {AGREEMENTS} times")))
    }

    /// The first answers of so many replicas.
    async fn answers(&self, query: &Query, members: usize) -> Result<Vec<Answered>, Coded> {
        let replicas = self.in_order().await?;
        if members == 0 || members > replicas.len() {
            let detail = format!("{members} of {} replicas are to agree", replicas.len());
            return Err(Coded::new(Code::BadArgument, detail));
        }
        let mut asked: FuturesUnordered<_> = replicas
            .iter()
            .map(async |replica| answered(replica.worker, self.ask_replica(replica, Ask::Query(query)).await?))
            .collect();
        let (mut answers, mut failed) = (vec![], None);
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(error) if !others_may_know(&error) => return Err(error),
                Err(error) => failed = Some(error),
            }
            if answers.len() == members {
                return Ok(answers);
            }
        }
        let why = failed.map(|error| format!(": {error}")).unwrap_or_default();
        Err(Coded::new(Code::NoReplica, format!("{} of {members} answered{why}", answers.len())))
    }

    /// Has a command executed and waits for its outcome.
    ///
    /// Errors: `NoQuorum` if the cluster did not decide in time; it may still be executed.
    pub async fn send(&self, command: &SignedCommand) -> Result<Executed, Coded> {
        let (worker, answer) = self.ask(Ask::Command(command)).await?;
        executed(worker, answer)
    }

    /// What became of a command.
    pub async fn outcome(&self, command: &SignedCommand) -> Result<Executed, Coded> {
        let (worker, answer) = self.ask(Ask::Outcome(command)).await?;
        executed(worker, answer)
    }

    /// Records of a contract's log, which its owner may read and whom the contract allows. With `queries`, what queries
    /// said to the replica that was asked last, see [`Cluster::log_of`]; otherwise what commands said, which is the same
    /// everywhere. [`Cluster::follow`] tells what comes. Waits up to
    /// `query.wait_ms`, at most 20 s and less than the client's own patience of 15 s, if there is none yet.
    pub async fn log(&self, query: &LogQuery) -> Result<LogPage, Coded> {
        match self.ask(Ask::Logs(&self.log_query(query))).await?.1 {
            Answer::Logs(page) => Ok(page),
            _ => Err(unasked()),
        }
    }

    /// With what this client's commands said.
    fn log_query(&self, query: &LogQuery) -> LogQuery {
        let min_height = query.min_height.max(self.height.load(Ordering::Relaxed));
        LogQuery { min_height, ..query.clone() }
    }

    /// What an account owns in the cluster: the own one, or a contract that it owns. It is a replica's word.
    ///
    /// Errors: `BalanceDenied`.
    pub async fn balance(&self, account: AccountId) -> Result<Balance, Coded> {
        let min_height = self.height.load(Ordering::Relaxed);
        match self.ask(Ask::Balance(&BalanceQuery { account, min_height })).await?.1 {
            Answer::Balance(balance) => Ok(balance),
            _ => Err(unasked()),
        }
    }

    /// Tries a command on one replica, with the meter on, and leaves nothing. With `code`, a contract is tried that would
    /// be created at the address. `value` is paid along. It is the replica's word, without a receipt.
    pub async fn rehearse(
        &self,
        contract: AccountId,
        code: Option<Vec<u8>>,
        data: Vec<u8>,
        value: Balance,
        gas_limit: u64,
    ) -> Result<Rehearsed, Coded> {
        let rehearsal = Rehearsal { contract, code, data, value, gas_limit };
        match self.ask(Ask::Rehearse(&rehearsal)).await?.1 {
            Answer::Rehearsed(rehearsed) => Ok(rehearsed),
            _ => Err(unasked()),
        }
    }

    /// Has a member answer a part of another member's query. The account must be the identity of a member, and believes
    /// the one that answers.
    pub async fn part(&self, replica: &Replica, part: &PartQuery) -> Result<Output, Coded> {
        match self.ask_replica(replica, Ask::Part(part)).await? {
            Answer::Part(output) => Ok(output),
            _ => Err(unasked()),
        }
    }

    /// What contracts may use, as the chain says.
    pub fn policy(&self) -> ClusterPolicy {
        self.roster.known().policy
    }

    /// How long an answer to a query may take.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(self.policy().query_ms).saturating_add(GRACE).max(ANSWER)
    }

    /// The same of one worker's replica. What its queries said, no other knows.
    pub async fn log_of(&self, worker: &AccountId, query: &LogQuery) -> Result<LogPage, Coded> {
        match self.ask_replica(&self.replica(worker).await?, Ask::Logs(&self.log_query(query))).await? {
            Answer::Logs(page) => Ok(page),
            _ => Err(unasked()),
        }
    }

    /// Asks the replicas, the one that answered last first, until one gives an answer that verifies.
    pub(crate) async fn ask(&self, ask: Ask<'_>) -> Result<(AccountId, Answer), Coded> {
        self.hedging.begun();
        self.ask_rounds(ask, None).await
    }

    /// The same, but this worker after all others: it was asked already.
    pub(crate) async fn ask_others(&self, ask: Ask<'_>, worker: &AccountId) -> Result<(AccountId, Answer), Coded> {
        self.ask_rounds(ask, Some(worker)).await
    }

    async fn ask_rounds(&self, ask: Ask<'_>, asked: Option<&AccountId>) -> Result<(AccountId, Answer), Coded> {
        let mut last = Coded::new(Code::NoReplica, "no member of the cluster can be asked");
        for round in 0..ROUNDS {
            if round > 1 {
                tokio::time::sleep(PAUSE).await;
            }
            let roster = match self.roster(round > 0).await {
                Ok(roster) => roster,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            match self.ask_all(&roster.askable(ask.reads()), ask, asked).await {
                Some(Err(error)) if try_elsewhere(&error) => last = error,
                Some(answer) => return answer,
                None => {}
            }
        }
        Err(last)
    }

    /// Asks one replica after the other: the next when one fails, or is silent for [`SILENCE`] and [`Hedging`] allows it.
    /// The first answer that verifies wins, or an error that another replica would give, too; otherwise it is the last
    /// error. `None`: there is nobody to ask.
    async fn ask_all(
        &self,
        replicas: &[Replica],
        ask: Ask<'_>,
        asked: Option<&AccountId>,
    ) -> Option<Result<(AccountId, Answer), Coded>> {
        let at_once = match ask {
            Ask::Command(_) | Ask::Outcome(_) => replicas.len(),
            Ask::Query(_) | Ask::Rehearse(_) => QUERIED_AT_ONCE,
            // It waits for news on purpose.
            Ask::Logs(_) | Ask::Part(_) => 1,
            Ask::Balance(_) | Ask::History(_) | Ask::Final(_) => QUERIED_AT_ONCE,
        };
        let first = self.preferred.load(Ordering::Relaxed);
        let mut order: Vec<_> = (0..replicas.len()).map(|step| first.wrapping_add(step) % replicas.len()).collect();
        order.sort_by_key(|index| asked.is_some() && replicas.get(*index).map(|replica| &replica.worker) == asked);
        let mut next = order.into_iter().filter_map(|index| Some((index, replicas.get(index)?))).peekable();
        let since = Instant::now();
        let (mut silent, mut asked, mut last, mut one_more) = (vec![], FuturesUnordered::new(), None, true);
        loop {
            if one_more && let Some((index, replica)) = next.next() {
                silent.push(replica.worker);
                asked.push(async move { (index, replica.worker, self.ask_replica(replica, ask).await) });
            }
            one_more = match tokio::time::timeout(SILENCE, asked.next()).await {
                Ok(Some((index, worker, Ok(answer)))) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Some(Ok((worker, answer)));
                }
                Ok(Some((_, _, Err(error)))) if !others_may_know(&error) => return Some(Err(error)),
                Ok(Some((_, worker, Err(error)))) => {
                    silent.retain(|one| *one != worker);
                    last = Some(Err(error));
                    true
                }
                Ok(None) => return last,
                Err(_) => asked.len() < at_once && next.peek().is_some() && self.hedging.may(&silent, since),
            };
        }
    }

    pub(crate) async fn ask_replica(&self, replica: &Replica, ask: Ask<'_>) -> Result<Answer, Coded> {
        let (answer, request_id) = match self.ask_once(replica, ask).await {
            // It has made a new key, or restarted.
            Err(error) if error.known() == Some(Code::UnknownKey) => {
                self.seals.lock().remove(&replica.identity);
                self.ask_once(replica, ask).await?
            }
            result => result?,
        };
        self.verify(&replica.identity, &request_id, ask, &answer).await?;
        Ok(answer)
    }

    async fn ask_once(&self, replica: &Replica, ask: Ask<'_>) -> Result<(Answer, RequestId), Coded> {
        let seal = self.seal(replica).await?;
        let max_height = self.max_height().await;
        let rng = &mut SystemRng;
        let Sealed::<PendingReply> { envelope, pending } = match ask {
            Ask::Query(query) => seal.query(query.clone(), max_height, rng)?,
            Ask::Command(command) => seal.command(command.clone(), max_height, rng)?,
            Ask::Outcome(command) => seal.outcome(command.command.id, max_height, rng)?,
            Ask::Logs(query) => seal.logs(query.clone(), max_height, rng)?,
            Ask::Balance(account) => seal.balance(*account, max_height, rng)?,
            Ask::History(link) => seal.history(link.anchor.height, max_height, rng)?,
            Ask::Final(height) => seal.entry(height, max_height, rng)?,
            Ask::Part(part) => seal.part(part.clone(), max_height, rng)?,
            Ask::Rehearse(rehearsal) => seal.rehearse(rehearsal.clone(), max_height, rng)?,
        };
        let patience = match ask {
            Ask::Query(_) => self.patience(),
            Ask::Part(part) => Duration::from_millis(part.patience_ms).saturating_add(ANSWER),
            _ => ANSWER,
        };
        let response = exchange(&self.http, replica, envelope, patience).await?;
        self.hedging.heard(replica.worker, Instant::now());
        Ok((pending.open(&response)?, *pending.request_id()))
    }

    /// Highest chain height at which a request made now may be opened.
    pub(crate) async fn max_height(&self) -> u32 {
        self.chain.recent_head().await.0.saturating_add(BLOCKS_AHEAD)
    }

    /// What seals to a replica.
    pub(crate) async fn seal(&self, replica: &Replica) -> Result<Arc<Seal>, Coded> {
        let now = now_ms();
        let known = self.seals.lock().get(&replica.identity).cloned();
        if let Some(seal) = known.filter(|seal| seal.session_key().not_after_ms > now.saturating_add(KEY_MARGIN_MS)) {
            return Ok(seal);
        }
        let seal = seal_for(&self.http, replica, &self.chain.genesis(), &self.credentials, now).await?;
        let seal = Arc::new(seal);
        self.seals.lock().insert(replica.identity, seal.clone());
        Ok(seal)
    }

    /// The members, asked of the chain again if they are old or `fresh` is wanted.
    ///
    /// Errors: `HistoryLost`, once, if the cluster was recovered without entries that this client knows of.
    pub(crate) async fn roster(&self, fresh: bool) -> Result<Arc<Roster>, Coded> {
        let ask = async || Roster::fetch(&self.chain, self.id, now_ms()).await;
        self.roster.get(fresh, ask, |before, now| self.learn(before, now)).await
    }

    /// Takes note of what is new in a roster.
    fn learn(&self, before: &Roster, now: &Roster) -> Result<(), Coded> {
        let lost = now.epoch > before.epoch && now.floor.height < self.height.load(Ordering::Relaxed);
        if lost {
            self.height.store(now.floor.height, Ordering::Relaxed);
        }
        self.observe(now.checkpoint.anchor.height);
        let known = |identity: &PublicKey| now.identities.contains(identity) || now.reads(identity);
        self.seals.lock().retain(|identity, _| known(identity));
        if lost {
            let detail = format!("epoch {} begins at entry {}", now.epoch, now.floor.height);
            return Err(Coded::new(Code::HistoryLost, detail));
        }
        Ok(())
    }

    /// Checks that an answer fits the question and that its receipt holds against the chain.
    pub(crate) async fn verify(
        &self,
        identity: &PublicKey,
        request_id: &RequestId,
        ask: Ask<'_>,
        answer: &Answer,
    ) -> Result<(), Coded> {
        let genesis = self.chain.genesis();
        match (ask, answer) {
            (Ask::Query(query), Answer::Query { output, receipt }) => {
                receipt.verify(identity, &genesis, request_id, query, output)?;
                if let Freshness::Bounded(most) = query.freshness
                    && now_ms().saturating_sub(receipt.claim.entry_time_ms) > most.saturating_add(CLOCK_MS)
                {
                    return Err(Coded::new(Code::StaleState, "by this client's clock"));
                }
                let roster = self.roster.known();
                let Checkpoint { anchor, .. } = roster.checkpoint;
                if receipt.claim.height == anchor.height && receipt.claim.entry != anchor.digest {
                    return Err(Coded::new(Code::BadReceipt, "it is of another history than the chain was shown"));
                }
                // A replica that was cut off may still answer from an epoch that has ended.
                let answers = roster.reads(identity) || self.members(receipt.claim.epoch).await?.contains(identity);
                if receipt.claim.cluster != self.id || receipt.claim.epoch < roster.epoch || !answers {
                    return Err(Coded::new(Code::BadReceipt, "it is of another cluster or epoch"));
                }
                self.roster.notice(receipt.claim.epoch);
                Ok(())
            }
            (Ask::Command(command) | Ask::Outcome(command), Answer::Command { outcome, receipt }) => {
                let members = self.members(receipt.header.epoch).await?;
                receipt.verify(&genesis, self.id, &members, identity, &command.hash(), outcome)?;
                self.height.fetch_max(receipt.header.height, Ordering::Relaxed);
                self.roster.notice(receipt.header.epoch);
                Ok(())
            }
            (Ask::History(link), Answer::History(headers)) => {
                let behind = || Coded::new(Code::NotReady, "the replica is behind the chain");
                let (first, rest) = headers.split_first().filter(|(_, rest)| !rest.is_empty()).ok_or_else(behind)?;
                let chained = rest
                    .iter()
                    .try_fold(first, |below, header| header.follows(&below.anchor(), below.epoch).then_some(header));
                let here = headers.iter().all(|header| header.cluster == self.id);
                if !here || first.anchor() != link.anchor || first.epoch != link.epoch || chained.is_none() {
                    return Err(Coded::new(Code::BadReceipt, "the replica has another history"));
                }
                Ok(())
            }
            (Ask::Final(height), Answer::Final(entry)) => {
                let (header, finality) = &**entry;
                if header.cluster != self.id || header.height != height || !header.is_subject_of(finality) {
                    return Err(unasked());
                }
                let namespace = cluster_namespace(&genesis, self.id);
                let members = self.members(header.epoch).await?;
                let proven = finality.certificate.verify(&namespace, &members);
                proven.map_err(|error| Coded::new(Code::BadReceipt, error.to_string()))
            }
            // Nobody but this replica could seal it. It is the replica's word.
            (Ask::Logs(_), Answer::Logs(_))
            | (Ask::Balance(_), Answer::Balance(_))
            | (Ask::Part(_), Answer::Part(_))
            | (Ask::Rehearse(_), Answer::Rehearsed(_)) => Ok(()),
            _ => Err(unasked()),
        }
    }

    /// Identities of the members in an epoch. They never change, so they are asked for once.
    pub(crate) async fn members(&self, epoch: u64) -> Result<Arc<Vec<PublicKey>>, Coded> {
        if let Some(members) = self.epochs.lock().get(&epoch) {
            return Ok(members.clone());
        }
        let unknown = || Coded::new(Code::BadReceipt, format!("the cluster has no epoch {epoch}"));
        let members = self.chain.epoch(self.id, epoch).await?.ok_or_else(unknown)?;
        let members = Arc::new(members.iter().map(|member| member.identity).collect::<Vec<_>>());
        self.epochs.lock().insert(epoch, members.clone());
        Ok(members)
    }

    /// The replica of this worker.
    pub(crate) async fn replica(&self, worker: &AccountId) -> Result<Replica, Coded> {
        let roster = self.roster(false).await?;
        let found = roster.askable(true).into_iter().find(|replica| replica.worker == *worker);
        found.ok_or_else(|| Coded::new(Code::NoReplica, format!("{worker} is no member that can be asked")))
    }

    /// The replicas, the one that answered last first.
    pub(crate) async fn in_order(&self) -> Result<Vec<Replica>, Coded> {
        let mut replicas = self.roster(false).await?.replicas.clone();
        if !replicas.is_empty() {
            let first = self.preferred.load(Ordering::Relaxed) % replicas.len();
            replicas.rotate_left(first);
        }
        Ok(replicas)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster {{ {} for {} }}", self.id, self.account())
    }
}

/// Whether another replica may do better.
pub(crate) fn try_elsewhere(error: &Coded) -> bool {
    use Code::{
        BadReceipt, BadSignature, Busy, BytesBusy, ContractBusy, Internal, Malformed, MemoryBusy, NoNode, NoQuorum,
        NoReplica, NotAuthentic, NotReady, OnlyReads, QueueFull, StaleHead, StaleState, StorageFailed, TooManySessions,
        UnknownKey, WrongAddress,
    };
    matches!(
        error.known(),
        None | Some(
            BadReceipt
                | BadSignature
                | Busy
                | BytesBusy
                | ContractBusy
                | Internal
                | Malformed
                | MemoryBusy
                | NoNode
                | NoQuorum
                | NoReplica
                | OnlyReads
                | NotAuthentic
                | NotReady
                | QueueFull
                | StaleHead
                | StaleState
                | StorageFailed
                | TooManySessions
                | UnknownKey
                | WrongAddress
        )
    )
}

/// Whether a replica that has executed more may say otherwise: a contract may have been created by an entry that this
/// one has yet to execute. The client that created it says so by a height, others cannot.
pub(crate) fn may_be_behind(error: &Coded) -> bool {
    error.known() == Some(Code::NoContract)
}

/// Whether it is worth it to ask another replica.
pub(crate) fn others_may_know(error: &Coded) -> bool {
    try_elsewhere(error) || may_be_behind(error)
}

/// An answer that is none to what was asked.
fn unasked() -> Coded {
    Coded::new(Code::BadReceipt, "the answer is to another question")
}

pub(crate) fn answered(worker: AccountId, answer: Answer) -> Result<Answered, Coded> {
    match answer {
        Answer::Query { output, receipt } => Ok(Answered { output, receipt, worker }),
        _ => Err(unasked()),
    }
}

pub(crate) fn executed(worker: AccountId, answer: Answer) -> Result<Executed, Coded> {
    match answer {
        Answer::Command { outcome, receipt } => Ok(Executed { outcome, receipt, worker }),
        _ => Err(unasked()),
    }
}

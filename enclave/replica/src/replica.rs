//! The replica as its host sees it.

use crate::{
    EntryLog,
    block::open_block,
    bridge::{Memory, Traffic},
    check::{Checker, Key, id_taken, is_hook, key},
    cipher::LogCipher,
    copies::Copies,
    entry::{Before, Entries, MAX_LAG},
    execute::{Executor, Ordered},
    jobs::{Jobs, Wanted},
    journal::Journal,
    layout::{CODE, Note},
    part::Kept,
    pool::{Pending, Pool, Reply},
    query::Final,
    recover::{Epoch, follows},
    trail::Trail,
    world::Layer,
};
use bytes::Bytes;
use codec::{DecodeAll, Encode};
use ed25519_dalek::{Signer, SigningKey};
use futures::{channel::oneshot, future::BoxFuture};
use lru::LruCache;
use parking_lot::{Mutex, RwLock};
use phala_keys::ClusterKeys;
use phala_pink::{Cache, Secrets};
use phala_primitives::{
    AccountId, AccountSignature, Block, ClusterId, Code, Coded, EntryHeader, Executed, Finality, Hash, Position,
    PublicKey, Shape, Verdict, blake2_256, limits::MAX_ENTRY, records::Seal,
};
use phala_session::{Action, CertificateCache, Command, CommandId, Credentials, Outcome, Scope, SignedCommand};
use phala_state::{Applied, Commit, State, StateKeys, StorageBackend};
use phala_vm::Engine;
use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    sync::{Arc, atomic::AtomicU64},
    task::Poll,
};

/// Decoded entries that are kept between proposal and execution.
const DECODED: NonZeroUsize = NonZeroUsize::new(16).unwrap();
/// How often the pool is looked through for what is overdue, in milliseconds.
const LOOK_MS: u64 = 250;
/// How long an own command may wait for its execution, in milliseconds.
const OWN_MS: u64 = 60_000;
/// Life of a certificate for own commands, in milliseconds.
const CREDENTIALS_MS: u64 = 24 * 3600 * 1000;
/// Most callers that wait for a height.
const MAX_WAITING: usize = 4096;

/// Resolves to the answer to a command, or is cancelled when the replica ends.
pub type Ticket = oneshot::Receiver<Reply>;

/// Hands a message to all other members.
type Forward = Box<dyn Fn(Bytes) + Send + Sync>;

/// Gets code that is about to be uploaded.
type OnUpload = Box<dyn Fn(Vec<u8>) + Send + Sync>;

/// What a replica is made of.
pub struct Config {
    /// Genesis hash of the network.
    pub genesis: Hash,
    /// The cluster.
    pub cluster: ClusterId,
    /// The worker's key of this start.
    pub identity: Arc<SigningKey>,
    /// Validators of the chain, by which commands prove what the chain holds.
    pub validators: Vec<PublicKey>,
    /// Keys of the cluster, of all epochs since [`oldest_epoch`](crate::oldest_epoch) up to the present one.
    pub keys: ClusterKeys,
    /// Session certificates that were checked; to be shared with the acceptor of requests.
    pub certificates: Arc<CertificateCache>,
    /// Runs contracts.
    pub engine: Engine,
    /// What contracts keep in this worker's memory.
    pub cache: Arc<Cache>,
    /// Time between two ticks of the engine, in milliseconds.
    pub tick_ms: u64,
}

/// A decoded entry.
pub(crate) struct Decoded {
    pub(crate) header: EntryHeader,
    commands: Vec<Ordered>,
}

/// The id of a command of the cluster's own that is about this: there is one such command.
pub(crate) fn command_id(about: &impl Encode) -> CommandId {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = blake2_256(&about.encode()).0;
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// One member of a cluster. See the crate's documentation.
pub struct Replica {
    pub(crate) genesis_hash: Hash,
    pub(crate) identity: Arc<SigningKey>,
    pub(crate) engine: Engine,
    cache: Arc<Cache>,
    pub(crate) tick_ms: u64,
    /// What parts of others' queries are about.
    pub(crate) kept: Kept,
    pub(crate) state: State,
    pub(crate) journal: Journal,
    pub(crate) entries: Entries,
    pub(crate) epoch: RwLock<Option<Epoch>>,
    /// With which this member sends commands of its own.
    credentials: Mutex<Option<Credentials>>,
    pub(crate) executor: Executor,
    pub(crate) memory: Memory,
    pub(crate) pool: Arc<Mutex<Pool>>,
    decoded: Mutex<LruCache<Hash, Arc<Decoded>>>,
    /// Held while an entry is applied.
    pub(crate) applying: Mutex<()>,
    /// Time of the last entry when the state was last written to the disk, in milliseconds.
    pub(crate) settled_ms: Mutex<u64>,
    /// When the pool was last looked through, in milliseconds.
    looked_ms: Mutex<u64>,
    fault: RwLock<Option<Coded>>,
    forward: RwLock<Option<Forward>>,
    on_upload: RwLock<Option<OnUpload>>,
    heights: Mutex<Vec<(u64, oneshot::Sender<()>)>>,
    /// Barriers that this start has ordered: each has a name of its own.
    pub(crate) barriers: AtomicU64,
    /// With what the epoch's log is to be finished.
    pub(crate) sealing: RwLock<Option<Hash>>,
    /// What is kept for newcomers.
    pub(crate) copies: Mutex<Copies>,
    /// What is remembered for readers.
    pub(crate) trail: Mutex<Trail>,
    /// The epoch whose members last vouched for the state, if this is a reader.
    pub(crate) reading: RwLock<Option<u64>>,
}

impl Replica {
    /// Opens state and log as a start finds them, and replays the log. `known` is an epoch and its members, if the
    /// caller knows one: entries of that epoch must then carry their certificate.
    pub fn open(
        config: Config,
        state: impl StorageBackend,
        log: Arc<dyn EntryLog>,
        known: Option<&(u64, Vec<PublicKey>)>,
    ) -> Result<Self, Coded> {
        let Config { genesis, cluster, identity, validators, keys, certificates, engine, cache, tick_ms } = config;
        let values = keys.epochs().filter_map(|epoch| Some((epoch, *keys.state_value(epoch)?.expose())));
        let state_keys = StateKeys::new(*keys.state_path().expose(), *keys.state_commit().expose(), values);
        let state = State::open(state, state_keys)?;
        let (mailbox, secrets) = (keys.mailbox(), Secrets::new(*keys.contracts().expose()));
        let cipher = Arc::new(LogCipher::new(cluster, &keys)?);
        let snapshot = state.snapshot();
        let jobs = Jobs::load(&snapshot, Note::read(snapshot.note())?.time_ms)?;
        let (traffic, memory) = (Traffic::load(&snapshot)?, Memory::default());
        memory.note(snapshot.applied().height, traffic.crossing());
        drop(snapshot);
        let replica = Self {
            genesis_hash: genesis,
            identity,
            tick_ms,
            kept: Kept::default(),
            state,
            journal: Journal::new(log, cipher.clone()),
            entries: Entries { cluster, cipher, checker: Checker::new(genesis, cluster, certificates) },
            epoch: RwLock::default(),
            credentials: Mutex::default(),
            executor: Executor::new(genesis, cluster, validators, engine.clone(), (jobs, traffic), (mailbox, secrets)),
            memory,
            engine,
            cache,
            pool: Arc::default(),
            decoded: Mutex::new(LruCache::new(DECODED)),
            applying: Mutex::default(),
            settled_ms: Mutex::default(),
            looked_ms: Mutex::default(),
            fault: RwLock::default(),
            forward: RwLock::default(),
            on_upload: RwLock::default(),
            heights: Mutex::default(),
            barriers: AtomicU64::new(0),
            sealing: RwLock::default(),
            copies: Mutex::default(),
            trail: Mutex::default(),
            reading: RwLock::default(),
        };
        replica.replay(known)?;
        Ok(replica)
    }

    /// The entry that the newest state is the result of.
    pub fn applied(&self) -> Applied {
        self.state.applied()
    }

    /// Time of that entry by its leader's clock, in milliseconds since 1970; 0 before the first.
    pub fn entry_time(&self) -> Result<u64, Coded> {
        Ok(Note::read(self.state.snapshot().note())?.time_ms)
    }

    /// Number of commands that wait.
    pub fn waiting(&self) -> usize {
        self.pool.lock().len()
    }

    /// Why the replica has stopped, if it has.
    pub fn fault(&self) -> Option<Coded> {
        self.fault.read().clone()
    }

    /// The epoch, if the replica serves.
    ///
    /// Errors: `NotReady`.
    pub fn ready_epoch(&self) -> Result<u64, Coded> {
        if let Some(fault) = self.fault() {
            return Err(Coded::new(Code::NotReady, fault.to_string()));
        }
        let member = self.epoch.read().as_ref().map(|epoch| epoch.number);
        member.or(*self.reading.read()).ok_or_else(|| Coded::new(Code::NotReady, "it is in no epoch yet"))
    }

    /// Sets what hands a message to all other members, who pass it to [`Replica::received`]. Must not block.
    pub fn on_forward(&self, forward: impl Fn(Bytes) + Send + Sync + 'static) {
        *self.forward.write() = Some(Box::new(forward));
    }

    /// Sets what gets code that waits to be uploaded, as soon as the chain's word for it was checked: to compile it
    /// before a contract with it is called. Must not block.
    pub fn on_upload(&self, compile: impl Fn(Vec<u8>) + Send + Sync + 'static) {
        *self.on_upload.write() = Some(Box::new(compile));
    }

    /// Code that contracts have, at most so many: to be compiled before they are called.
    pub fn codes(&self, limit: usize) -> Result<Vec<Vec<u8>>, Coded> {
        self.state.snapshot().values(&CODE, limit).map_err(Coded::from)
    }

    /// Tells of code that came with a command, if the chain knows it.
    fn tell_of_code(&self, command: &SignedCommand) {
        let Action::Upload { code, proof } = &command.command.action else { return };
        if let Some(compile) = &*self.on_upload.read()
            && self.executor.knows(code, proof)
        {
            compile(code.clone());
        }
    }

    fn forward(&self, commands: &[&SignedCommand]) {
        if let Some(forward) = &*self.forward.read() {
            forward(commands.encode().into());
        }
    }

    /// Completes when the state has reached a height. At most 4096 callers wait; more get `Busy`.
    pub fn reached(&self, height: u64) -> Result<oneshot::Receiver<()>, Coded> {
        let (sender, receiver) = oneshot::channel();
        let mut heights = self.heights.lock();
        if self.state.applied().height >= height {
            // The receiver is here.
            let _ = sender.send(());
            return Ok(receiver);
        }
        heights.retain(|(_, sender)| !sender.is_canceled());
        if heights.len() >= MAX_WAITING {
            return Err(Code::Busy.into());
        }
        heights.push((height, sender));
        Ok(receiver)
    }

    /// Takes a client's command. The ticket resolves when it was executed, at once if it already was.
    pub fn submit(&self, command: SignedCommand, now_ms: u64) -> Result<Ticket, Coded> {
        self.ready_epoch()?;
        let (hash, key) = (command.hash(), key(&command));
        self.entries.checker.check(&command, &hash, now_ms)?;
        let mut pool = self.pool.lock();
        // Under the pool's lock: what is executed from now on finds the ticket.
        let snapshot = self.state.snapshot();
        if let Some(done) = self.done(&snapshot, &key)? {
            drop(pool);
            let (sender, ticket) = oneshot::channel();
            let same = done.command == hash || is_hook(&command);
            let reply = if same { self.prove(&snapshot, done)? } else { return Err(id_taken()) };
            // The receiver is here.
            let _ = sender.send(Ok(reply));
            return Ok(ticket);
        }
        let encoded = command.clone();
        let new = pool.insert(command, hash, now_ms)?;
        let ticket = pool.ticket(&key)?;
        drop(pool);
        if new {
            self.forward(&[&encoded]);
            self.tell_of_code(&encoded);
        }
        Ok(ticket)
    }

    /// Takes commands that another member forwarded. What is not in order is dropped without a word.
    pub fn received(&self, message: &[u8], now_ms: u64) {
        if message.len() > MAX_ENTRY || self.ready_epoch().is_err() {
            return;
        }
        let Ok(commands) = Vec::<SignedCommand>::decode_all(&mut &*message) else { return };
        for command in commands {
            let (hash, key) = (command.hash(), key(&command));
            if self.entries.checker.check(&command, &hash, now_ms).is_err() {
                continue;
            }
            let mut pool = self.pool.lock();
            if matches!(self.done(&self.state.snapshot(), &key), Ok(None)) {
                let upload = matches!(command.command.action, Action::Upload { .. }).then(|| command.clone());
                // A full pool drops it; the replica that the client talks to sends it again.
                let new = pool.insert(command, hash, now_ms);
                drop(pool);
                if let Some(upload) = upload.filter(|_| new == Ok(true)) {
                    self.tell_of_code(&upload);
                }
            }
        }
    }

    /// Requests that this member should perform now. Members take turns, each for a while longer than the request may
    /// take; a request is told once in each of this member's turns.
    pub fn take_turns(&self, now_ms: u64) -> Vec<Arc<Wanted>> {
        self.executor.jobs().take_turns(now_ms)
    }

    /// When this member's next turn begins, in milliseconds since 1970.
    pub fn next_turn(&self) -> Option<u64> {
        self.executor.jobs().next_turn()
    }

    /// Whether a request still waits, and it is this member's turn.
    pub fn is_mine(&self, request: u64, now_ms: u64) -> bool {
        self.executor.jobs().is_mine(request, now_ms)
    }

    /// Sends what came of a request to the cluster, as the word of this member. The ticket resolves when it was
    /// executed, whether it was the first or not.
    pub fn deliver(&self, request: u64, response: Vec<u8>, now_ms: u64) -> Result<Ticket, Coded> {
        self.command(&("phala/deliver/v1", request), Action::Deliver { request, response }, now_ms)
    }

    /// The worker's key of this start.
    pub(crate) fn identity(&self) -> PublicKey {
        self.identity.verifying_key().to_bytes()
    }

    /// With which this member acts on its own account, its identity.
    pub fn own_credentials(&self, now_ms: u64) -> Credentials {
        let account = AccountId(self.identity());
        let (begin, end) = (now_ms.saturating_sub(OWN_MS), now_ms.saturating_add(CREDENTIALS_MS));
        let sign = |text: &str| AccountSignature::Ed25519(self.identity.sign(text.as_bytes()).to_bytes());
        let secret = self.identity.as_bytes();
        Credentials::derive(self.genesis_hash, account, Scope::All, begin, end, secret, sign)
    }

    /// Sends a command as the word of this member. `name` is what it is about: of one name, one is executed.
    pub(crate) fn command(&self, name: &impl Encode, action: Action, now_ms: u64) -> Result<Ticket, Coded> {
        let command = self.own_command(command_id(&(name, self.identity())), action, now_ms)?;
        self.submit(command, now_ms)
    }

    /// A command of this member.
    pub(crate) fn own_command(&self, id: CommandId, action: Action, now_ms: u64) -> Result<SignedCommand, Coded> {
        let command = Command {
            id,
            genesis: self.genesis_hash,
            cluster: self.entries.cluster,
            action,
            value: 0,
            gas_limit: 0,
            deadline_ms: now_ms.saturating_add(OWN_MS),
        };
        let mut credentials = self.credentials.lock();
        let ends = credentials.as_ref().map_or(0, |own| own.certificate().body.not_after_ms);
        if ends <= now_ms.saturating_add(2 * OWN_MS) {
            *credentials = Some(self.own_credentials(now_ms));
        }
        credentials.as_ref().map(|own| own.sign(command)).ok_or_else(|| Code::Internal.into())
    }

    /// Timers by when they are due, and requests.
    #[cfg(test)]
    pub(crate) fn waiting_jobs(&self) -> (BTreeSet<(u64, u64)>, BTreeSet<u64>) {
        self.executor.jobs().table()
    }

    /// Commands that wait.
    #[cfg(test)]
    pub(crate) fn pool_commands(&self) -> Vec<SignedCommand> {
        self.pool.lock().waiting(&BTreeSet::new()).map(|(_, pending)| (*pending.command).clone()).collect()
    }

    /// When the next timer is due, in milliseconds since 1970.
    pub fn next_due(&self) -> Option<u64> {
        self.executor.jobs().next_due()
    }

    /// Makes a leader propose, with commands or without: a timer is due.
    pub fn urge(&self) {
        self.pool.lock().urge();
    }

    /// Is a member of no epoch any more: it answers nothing.
    pub fn leave(&self) {
        *self.epoch.write() = None;
    }

    /// The block that the epoch's log starts from.
    pub fn genesis(&self) -> Result<Block, Coded> {
        self.ready_epoch()?;
        let epoch = self.epoch.read();
        epoch.as_ref().map(|epoch| epoch.genesis.clone()).ok_or_else(|| Code::NotReady.into())
    }

    /// Height and parent of a block whose header binds its body; `None` refuses it. For hostile input.
    pub fn inspect(&self, block: &Block) -> Option<Shape> {
        let header = open_block(block, self.entries.cluster)?;
        Some(Shape { height: header.height, parent: header.parent })
    }

    /// Completes when a command waits that no proposal holds.
    pub fn ready(&self) -> BoxFuture<'static, ()> {
        let pool = self.pool.clone();
        Box::pin(std::future::poll_fn(move |context| match pool.lock().poll_free(context.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }))
    }

    /// Makes an entry on top of the last of `ancestry`, which runs from the child of the last final block, or is only
    /// that block. `None`: not now.
    pub fn propose(&self, at: Position, ancestry: &[Block]) -> Option<Block> {
        self.look(at.now_ms);
        if self.ready_epoch() != Ok(at.epoch) {
            return None;
        }
        let before = self.parent(ancestry)?;
        let parent = &before.header;
        let Applied { height, root, .. } = self.state.applied();
        let lags = height < parent.executed.height || height.saturating_add(MAX_LAG) <= parent.height;
        if lags || height > parent.height {
            return None;
        }
        let executed = Executed { height, state_root: root, crossing: self.memory.at(height)? };
        let excluded = self.held(ancestry, height);
        let seal = self.seal_upon(ancestry)?;
        let mut pool = self.pool.lock();
        match self.entries.build(at, &before, executed, seal, (&pool, &excluded)) {
            Ok((header, block, commands)) => {
                let keys: Vec<Key> = commands.iter().map(Ordered::key).collect();
                pool.proposed(header.height, keys.iter());
                pool.calm();
                drop(pool);
                self.decoded.lock().put(block.digest(), Arc::new(Decoded { header, commands }));
                Some(block)
            }
            Err(error) => {
                tracing::error!(%error, "no entry can be made");
                None
            }
        }
    }

    /// Judges another member's entry; `ancestry` as in [`Replica::propose`].
    pub fn verify(&self, at: Position, ancestry: &[Block], block: &Block) -> Verdict {
        self.look(at.now_ms);
        if self.ready_epoch() != Ok(at.epoch) {
            return Verdict::Later;
        }
        let Some(before) = self.parent(ancestry) else { return Verdict::Reject };
        let Some(header) = open_block(block, self.entries.cluster) else { return Verdict::Reject };
        let verdict = self.entries.check_place(at, &before, &header);
        if verdict != Verdict::Accept {
            return verdict;
        }
        let verdict = self.check_seal(ancestry, &header);
        if verdict != Verdict::Accept {
            return verdict;
        }
        let verdict = Entries::check_executed(&before.header, &header, &self.state.snapshot(), &self.memory);
        if verdict != Verdict::Accept {
            return verdict;
        }
        let Some(decoded) = self.decode(header, block) else { return Verdict::Reject };
        let verdict = self.entries.check_commands(&decoded.header, &decoded.commands);
        if verdict == Verdict::Accept {
            let keys: Vec<Key> = decoded.commands.iter().map(Ordered::key).collect();
            self.pool.lock().proposed(decoded.header.height, keys.iter());
        }
        verdict
    }

    /// Takes a final entry. Must be called in order of height; what was taken before is skipped. On an error the
    /// replica has stopped, see [`Replica::fault`].
    pub fn finalized(&self, block: &Block, finality: &Finality) -> Result<(), Coded> {
        self.guard(|| self.apply_final(block, finality))
    }

    /// Stops the replica if `work` fails.
    pub(crate) fn guard(&self, work: impl FnOnce() -> Result<(), Coded>) -> Result<(), Coded> {
        if let Some(fault) = self.fault() {
            return Err(fault);
        }
        work().inspect_err(|error| {
            tracing::error!(%error, "the replica stops");
            *self.fault.write() = Some(error.clone());
        })
    }

    /// Logs, executes, commits and answers a final entry.
    pub(crate) fn apply_final(&self, block: &Block, finality: &Finality) -> Result<(), Coded> {
        let _one = self.applying.lock();
        let wrong = |what: &str| Coded::new(Code::Internal, format!("a final entry {what}"));
        let header = open_block(block, self.entries.cluster).ok_or_else(|| wrong("is malformed"))?;
        let snapshot = self.state.snapshot();
        let applied = snapshot.applied();
        let note = Note::read(snapshot.note())?;
        if header.height <= applied.height || (note.sealed && header.seal == Seal::Behind) {
            return Ok(());
        }
        if !follows(&header, &applied, &note) {
            return Err(wrong("does not follow the one before"));
        }
        if !header.is_subject_of(finality) {
            return Err(wrong("has another's certificate"));
        }
        let decoded = self.decode(header, block).ok_or_else(|| wrong("does not decrypt"))?;
        let header = &decoded.header;
        self.make_room()?;
        self.journal.append(header.height, block, finality)?;
        let layer = Arc::new(Layer::new(snapshot));
        let effects = self.executor.entry(&layer, header, &decoded.commands)?;
        drop(layer);
        let commit = Commit {
            height: header.height,
            digest: block.digest(),
            changes: effects.changes,
            removals: effects.removals,
            note: Note::of(header).encode(),
            ..Commit::default()
        };
        let changes = self.trail.lock().is_wanted().then(|| self.state.changes(&commit));
        // Before anyone can see the state.
        self.memory.note(header.height, self.executor.traffic().crossing());
        let root = self.state.commit(commit)?;
        for (contract, op) in &effects.cache {
            self.cache.apply(*contract, op, header.time_ms);
        }
        if let Some(changes) = changes {
            self.trail.lock().executed(header, finality, changes);
        }
        self.copies.lock().executed(header, finality, || self.state.snapshot())?;
        self.memory.vouch(header, finality);
        if effects.packing {
            self.urge();
        }
        self.answer(&Final::new(header, finality, &decoded.commands, root), &effects.done, effects.reached);
        Ok(())
    }

    /// Takes the first `reached` of the entry's commands out of the pool and answers those who wait.
    fn answer(&self, entry: &Final<'_>, done: &[(u32, Outcome)], reached: usize) {
        let mut pool = self.pool.lock();
        let mut done = done.iter().peekable();
        for (index, ordered) in (0u32..).zip(entry.commands).take(reached) {
            let key = ordered.key();
            let outcome = done.next_if(|(at, _)| *at == index).map(|(_, outcome)| outcome);
            let same = |pending: &Pending| pending.hash == ordered.hash || is_hook(&pending.command);
            let Some(same) = pool.get(&key).map(same) else { continue };
            let tickets = pool.remove(&key);
            if tickets.is_empty() {
                continue;
            }
            let reply = match outcome {
                Some(outcome) if same => Ok(self.receipt(entry, ordered, index, outcome.clone())),
                // Executed before, and submitted here in between.
                None if same => self.outcome(&key.0, &key.1),
                _ => Err(id_taken()),
            };
            for ticket in tickets {
                // Whoever waited may be gone.
                let _ = ticket.send(reply.clone());
            }
        }
        pool.finalized(entry.header.height);
        drop(pool);
        self.wake(entry.header.height);
    }

    /// Tells those who wait for a height that it is reached.
    pub(crate) fn wake(&self, reached: u64) {
        let mut heights = self.heights.lock();
        for (_, sender) in heights.extract_if(.., |(height, _)| *height <= reached) {
            // Whoever waited may be gone.
            let _ = sender.send(());
        }
    }

    /// Gives up what is over and sends again what is overdue, if it was not done lately.
    fn look(&self, now_ms: u64) {
        let mut looked = self.looked_ms.lock();
        if now_ms.saturating_sub(*looked) < LOOK_MS {
            return;
        }
        *looked = now_ms;
        drop(looked);
        self.kept.expire(now_ms);
        self.copies.lock().expire(now_ms);
        self.trail.lock().expire(now_ms);
        let mut pool = self.pool.lock();
        pool.expire(now_ms);
        let overdue = pool.overdue(now_ms);
        drop(pool);
        for command in overdue {
            self.forward(&[&command]);
        }
    }

    /// The parent of a proposal.
    fn parent(&self, ancestry: &[Block]) -> Option<Before> {
        let block = ancestry.last()?;
        let header = open_block(block, self.entries.cluster)?;
        let epoch = self.epoch.read();
        let epoch = epoch.as_ref()?;
        let time_ms = if header.height == epoch.floor { epoch.floor_time_ms } else { header.time_ms };
        Some(Before { header, digest: block.digest(), time_ms })
    }

    /// Commands in entries above a height, as far as they are known here.
    fn held(&self, ancestry: &[Block], above: u64) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        for block in ancestry {
            let Some(header) = open_block(block, self.entries.cluster) else { continue };
            if header.height > above
                && header.count > 0
                && let Some(decoded) = self.decode(header, block)
            {
                keys.extend(decoded.commands.iter().map(Ordered::key));
            }
        }
        let below = self.below(ancestry, above);
        keys.extend(below.iter().flat_map(|decoded| decoded.commands.iter().map(Ordered::key)));
        keys
    }

    /// Entries below `ancestry` that are final but not executed yet, as far as they are known here.
    pub(crate) fn below(&self, ancestry: &[Block], above: u64) -> Vec<Arc<Decoded>> {
        let first = ancestry.first().and_then(|block| open_block(block, self.entries.cluster));
        let (mut parent, mut found) = (first.map(|header| header.parent), vec![]);
        let mut cache = self.decoded.lock();
        while let Some(decoded) = parent.and_then(|digest| cache.get(&digest)).filter(|d| d.header.height > above) {
            found.push(decoded.clone());
            parent = Some(decoded.header.parent);
        }
        found
    }

    fn decode(&self, header: EntryHeader, block: &Block) -> Option<Arc<Decoded>> {
        let digest = block.digest();
        if let Some(decoded) = self.decoded.lock().get(&digest) {
            return Some(decoded.clone());
        }
        let commands = self.entries.decode(&header, block)?;
        let decoded = Arc::new(Decoded { header, commands });
        self.decoded.lock().put(digest, decoded.clone());
        Some(decoded)
    }
}

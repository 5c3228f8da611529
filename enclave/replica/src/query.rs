//! Reads: queries, and what became of commands. Any number of threads at once; each sees one snapshot.

use crate::{
    Replica, Ticket,
    block::open_block,
    check::Key,
    departures::gone,
    execute::Ordered,
    layout::{Done, Note, OUTCOMES, read},
    world::Layer,
};
use codec::{DecodeAll, Encode};
use phala_primitives::{
    AccountId, Code, Coded, EntryHeader, Finality, Hash, RequestId, merkle, misbehaviour::QueryClaim,
};
use phala_session::{Action, Answer, CommandId, CommandReceipt, Freshness, Outcome, Output, Query, QueryReceipt};
use phala_state::Snapshot;
use phala_vm::{BlockInfo, Caller, Entry, Execution, Failure, Invocation, Mode, QueryLoad};
use std::{
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering},
};

impl Replica {
    /// Answers a read-only call of an account that may make it. What the contract writes is discarded. Blocks the
    /// thread for as long as the contract runs.
    ///
    /// Errors: `NotReady` if the replica is in no epoch, has stopped, or is below the height that the query asks for
    /// (see [`Replica::reached`]); `StaleState` if its state is older than the query allows; `ContractMoved`; otherwise
    /// those of the contract.
    pub fn query(
        &self,
        account: AccountId,
        request_id: RequestId,
        query: &Query,
        now_ms: u64,
    ) -> Result<Answer, Coded> {
        let (world, invocation, claim) = self.prepare(account, request_id, query, now_ms)?;
        self.conclude(claim, self.engine.execute(world, invocation))
    }

    /// The same on a thread that the host lends the engine, for a caller who may leave before the answer is there. Meanwhile no thread
    /// waits. Nothing is told if there is a defect.
    pub fn submit_query(
        self: &Arc<Self>,
        account: AccountId,
        request_id: RequestId,
        query: &Query,
        now_ms: u64,
        caller: &Caller,
        tell: impl FnOnce(Result<Answer, Coded>) + Send + 'static,
    ) {
        let (world, invocation, claim) = match self.prepare(account, request_id, query, now_ms) {
            Ok(prepared) => prepared,
            Err(error) => return tell(Err(error)),
        };
        let replica = Arc::clone(self);
        self.engine.submit(world, invocation, caller, move |result| replica.conclude(claim, result), tell);
    }

    /// What a query runs on, and what its receipt says; the hash of the reply is still to come.
    fn prepare(
        &self,
        account: AccountId,
        request_id: RequestId,
        query: &Query,
        now_ms: u64,
    ) -> Result<(Arc<Layer>, Invocation, QueryClaim), Coded> {
        // In this order: the receipt must not name an epoch for a state of a later one, see
        // `phala_primitives::misbehaviour`.
        let snapshot = self.state.snapshot();
        let epoch = self.ready_epoch()?;
        let applied = snapshot.applied();
        if applied.height < query.min_height {
            let detail = format!("it is at height {}, asked for was {}", applied.height, query.min_height);
            return Err(Coded::new(Code::NotReady, detail));
        }
        let time_ms = Note::read(snapshot.note())?.time_ms;
        if let Freshness::Bounded(most) = query.freshness
            && now_ms.saturating_sub(time_ms) > most
        {
            let detail = format!("{} ms old, {most} ms are allowed", now_ms.saturating_sub(time_ms));
            return Err(Coded::new(Code::StaleState, detail));
        }
        let world = Arc::new(Layer::for_queries(snapshot));
        if let Some(error) = gone(&world, &query.contract)? {
            return Err(error);
        }
        let invocation = Invocation {
            mode: Mode::Query { ticks: self.ticks(world.policy()?.query_ms) },
            entry: Entry::Call,
            contract: query.contract,
            caller: account,
            origin: account,
            value: query.value,
            data: query.data.clone(),
            block: BlockInfo { height: applied.height, time_ms, index: 0 },
            cluster: self.entries.cluster,
        };
        let claim = QueryClaim {
            contract: query.contract,
            request_id,
            query_hash: query.hash(),
            cluster: self.entries.cluster,
            epoch,
            height: applied.height,
            entry: applied.digest,
            entry_time_ms: time_ms,
            state_root: applied.root,
            time_ms: now_ms,
            reply_hash: Hash::ZERO,
        };
        Ok((world, invocation, claim))
    }

    fn conclude(&self, claim: QueryClaim, result: Result<Execution, Failure>) -> Result<Answer, Coded> {
        let Execution { flags, data, .. } = result.map_err(|failure| failure.coded())?;
        let output = Output { flags, data };
        let claim = QueryClaim { reply_hash: output.hash(), ..claim };
        Ok(Answer::Query { output, receipt: QueryReceipt::sign(claim, &self.genesis_hash, &self.identity) })
    }

    /// Orders an entry that does nothing. When the ticket resolves, this replica has executed everything that was final
    /// anywhere when this was called, which is how a [`Freshness::Linearizable`] query begins.
    pub fn barrier(&self, now_ms: u64) -> Result<Ticket, Coded> {
        let number = self.barriers.fetch_add(1, Ordering::Relaxed);
        self.command(&("phala/barrier/v1", number), Action::Barrier, now_ms)
    }

    /// Ticks of the engine in this time.
    pub(crate) fn ticks(&self, time_ms: u64) -> u64 {
        time_ms.checked_div(self.tick_ms).unwrap_or(time_ms).max(1)
    }

    /// How many queries are under way.
    pub fn query_load(&self) -> QueryLoad {
        self.engine.query_load()
    }

    /// Gives the queries of a contract so many times the processor time of one of weight 1, on this replica.
    pub fn set_weight(&self, contract: AccountId, weight: u32) {
        self.engine.set_weight(contract, NonZeroU32::new(weight).unwrap_or(NonZeroU32::MIN));
    }

    /// What became of a command of an account, for at least ten minutes after it was executed.
    ///
    /// Errors: `NoQuorum` if it was not executed here up to now, which says nothing about the future before its
    /// deadline.
    pub fn outcome(&self, account: &AccountId, id: &CommandId) -> Result<Answer, Coded> {
        self.ready_epoch()?;
        let snapshot = self.state.snapshot();
        match self.done(&snapshot, &(*account, *id))? {
            Some(done) => self.prove(&snapshot, done),
            None => Err(Coded::new(Code::NoQuorum, "no command of this id was executed up to now")),
        }
    }

    /// The same by the state alone, without proof: for simulations, which look into replicas that copied their state and so
    /// have no old entries.
    pub fn executed(&self, account: &AccountId, id: &CommandId) -> Result<Option<Outcome>, Coded> {
        Ok(self.done(&self.state.snapshot(), &(*account, *id))?.map(|done| done.outcome))
    }

    /// Header of the entry of a height, and why it is final.
    ///
    /// Errors: `NotReady` if this replica does not have it, or does not have it any more.
    pub fn entry(&self, height: u64) -> Result<Answer, Coded> {
        self.ready_epoch()?;
        let missing = || Coded::new(Code::NotReady, format!("it has no entry {height} in its log"));
        let (block, finality) = self.journal.read(height)?.ok_or_else(missing)?.block();
        let header = open_block(&block, self.entries.cluster).ok_or_else(missing)?;
        Ok(Answer::Final(Box::new((header, finality))))
    }

    pub(crate) fn done(&self, snapshot: &Snapshot, key: &Key) -> Result<Option<Done>, Coded> {
        read(snapshot, &OUTCOMES, &key.encode())
    }

    /// The answer to a command that was executed some time ago, from the entry log.
    pub(crate) fn prove(&self, snapshot: &Snapshot, done: Done) -> Result<Answer, Coded> {
        let gone = || Coded::new(Code::Internal, "the entry is no longer in this replica's log: ask another");
        let (block, finality) = self.journal.read(done.height)?.ok_or_else(gone)?.block();
        let header = open_block(&block, self.entries.cluster).ok_or_else(gone)?;
        let commands = self.entries.decode(&header, &block).ok_or_else(gone)?;
        let root = snapshot.root_at(done.height)?.ok_or_else(gone)?;
        let ordered = commands.get(done.index as usize).filter(|o| o.hash == done.command).ok_or_else(gone)?;
        let entry = Final::new(&header, &finality, &commands, root);
        Ok(self.receipt(&entry, ordered, done.index, done.outcome))
    }

    /// The answer to a command of a final entry.
    pub(crate) fn receipt(&self, entry: &Final<'_>, ordered: &Ordered, index: u32, outcome: Outcome) -> Answer {
        let receipt = CommandReceipt {
            header: entry.header.clone(),
            descendants: entry.descendants(),
            certificate: entry.finality.certificate.clone(),
            index,
            path: entry.tree.prove(index as usize).unwrap_or_default(),
            state_root: entry.root,
            outcome_hash: outcome.hash(),
            identity: [0; 32],
            signature: [0; 64],
        }
        .sign(&self.genesis_hash, &ordered.hash, &self.identity);
        Answer::Command { outcome, receipt: Box::new(receipt) }
    }
}

/// An executed entry.
pub(crate) struct Final<'a> {
    pub(crate) header: &'a EntryHeader,
    pub(crate) finality: &'a Finality,
    pub(crate) commands: &'a [Ordered],
    /// Root of the state after it.
    pub(crate) root: Hash,
    /// Over the commands.
    tree: merkle::Tree,
}

impl<'a> Final<'a> {
    pub(crate) fn new(header: &'a EntryHeader, finality: &'a Finality, commands: &'a [Ordered], root: Hash) -> Self {
        let hashes: Vec<Hash> = commands.iter().map(|ordered| ordered.hash).collect();
        Self { header, finality, commands, root, tree: merkle::Tree::new(&hashes) }
    }

    /// Headers up to the certified one. They were decoded when the entry was taken.
    fn descendants(&self) -> Vec<EntryHeader> {
        self.finality.descendants.iter().filter_map(|bytes| EntryHeader::decode_all(&mut &**bytes).ok()).collect()
    }
}

//! What an entry does to the state. Everything here is the same at every replica to the last bit.
//!
//! Upon an entry, timers that are due call back, and then, for each of its commands in order:
//! 1. if the state holds an outcome of the account and id: nothing, it was executed before;
//! 2. `Upload`: the chain must have the code's record with its length, proven by the command's fact, and the code must
//!    be a valid module; it is stored under its hash, for gas by its size. Uploading again what is there changes nothing.
//!    A large code comes in parts, see [`upload`];
//! 3. `Instantiate`: the chain must have placed the contract in this cluster with this code and the command's account
//!    as deployer, and there must be no such contract; the constructor runs;
//! 4. `Call`: the message runs; an input that is too large for a command comes in parts, as `InputPart` and
//!    `CallInParts`;
//! 5. `Deliver`: the request that it is about leaves the state and its contract is called back; if there is no such
//!    request, nothing happens;
//! 6. `Upgrade`: the chain must name the code as the contract's present one, in a version above the one that the
//!    contract runs, and the code must be here; from now on the contract runs it, on the state that it has;
//! 7. `Inbox`, `Withdraw`, `Acknowledge`: traffic with the chain, see [`crate::crossing`];
//! 8. `Policy`: what the chain says that contracts may use counts from the next command on, if it is newer;
//!    `Route`, `Mailbox`: the way of messages to other clusters, see [`crate::parcels`]; `Import`: a part of a contract
//!    that comes from one, see [`crate::arrivals`];
//! 9. `Barrier`: nothing;
//! 10. the outcome is stored. If it is an error, or the contract reverted, nothing else is;
//! 11. once the timers and commands so far have used [`MAX_ENTRY_GAS`], the rest is left alone, as if the entry did not
//!     hold it: it waits in the pools to be ordered again.
//!
//! Then, whether or not there were commands: at most two batches of outcomes that are older than commands may live are
//! removed, at most [`SWEEP`] values of contracts that ended, and some parts of a code that never came whole; and some of
//! a contract that leaves is packed, see [`crate::departures`].
//!
//! A new contract whose address once belonged to one that ended has a storage space of its own.

use crate::{
    bridge::{self, Traffic},
    check::{Key, key},
    hooks,
    jobs::Jobs,
    layout::{BATCHES, Batch, CODE, Contract, Done, ENDED, LARGE, OUTCOMES, QUEUES, Queue},
    logs,
    parcels::{Message, Post},
    upload::{self, CODES, INPUTS, Part},
    world::Layer,
};
use codec::{DecodeAll, Encode};
use parking_lot::{Mutex, MutexGuard};
use phala_keys::Mailbox;
use phala_light::LightClient;
use phala_pink::{CacheOp, Callback, Effect, HookRequest, HttpError, HttpResult, Secrets};
use phala_primitives::{
    AccountId, ClusterId, ClusterPolicy, Code, Coded, EntryHeader, Fact, Hash, PublicKey, blake2_256,
    limits::{MAX_COMMAND_LIFE_MS, MAX_ENTRY_COMMANDS, MAX_ENTRY_GAS},
    records::{CodeRecord, ContractRecord, contract_address},
    storage,
};
use phala_session::{Action, Outcome, Output, SignedCommand};
use phala_state::{Changes, Path, Space};
use phala_vm::{BlockInfo, Engine, Entry, Execution, Failure, Invocation, Mode};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A reply of a command that has more bytes is large: outcomes are kept for minutes, so it takes gas for each byte above.
pub const SMALL_REPLY: usize = 64 << 10;
const REPLY_BYTE_GAS: u64 = 40;
/// How many of the largest replies that the policy allows are kept at once.
const LARGE_KEPT: u64 = 16;
/// Most values of ended contracts that are removed with one entry.
pub const SWEEP: usize = 256;
/// Most timers that call back in one entry, and the gas after which the others wait for the next: commands need some.
const MAX_FIRED: u32 = 256;
const MAX_TIMER_GAS: u64 = MAX_ENTRY_GAS / 2;
/// Most batches of old outcomes that are removed with one entry. More than one, so that a backlog shrinks.
const SWEEP_BATCHES: usize = 2;

/// A command of an entry.
pub(crate) struct Ordered {
    pub(crate) command: Arc<SignedCommand>,
    pub(crate) hash: Hash,
}

impl Ordered {
    pub(crate) fn key(&self) -> Key {
        key(&self.command)
    }
}

/// What an entry came to, to be committed.
pub(crate) struct Effects {
    pub(crate) changes: Changes,
    pub(crate) removals: Vec<(Space, Path)>,
    /// What was executed now: place in the entry and outcome.
    pub(crate) done: Vec<(u32, Outcome)>,
    /// What contracts asked of the workers' caches.
    pub(crate) cache: Vec<(AccountId, CacheOp)>,
    /// How many of the entry's commands it got to; those behind are as if they had not been in it.
    pub(crate) reached: usize,
    /// Whether a contract is being packed: entries are wanted, with commands or without.
    pub(crate) packing: bool,
}

/// Why a command has no effect: the command's own fault, or this replica's.
pub(crate) enum Stop {
    Refused(Coded),
    Fault(Coded),
}

impl From<Coded> for Stop {
    /// Errors of the state and of the engine that are not explicitly the command's.
    fn from(error: Coded) -> Self {
        Self::Fault(error)
    }
}

/// What was refused has that for its outcome; a fault of this replica's has none.
pub(crate) fn outcome_of(result: Result<Outcome, Stop>) -> Result<Outcome, Coded> {
    match result {
        Ok(outcome) => Ok(outcome),
        Err(Stop::Refused(error)) => Ok(Outcome { result: Err(error), gas_used: 0 }),
        Err(Stop::Fault(error)) => Err(error),
    }
}

/// The outcome of what returns nothing.
pub(crate) fn done(gas_used: u64) -> Outcome {
    Outcome { result: Ok(Output { flags: 0, data: vec![] }), gas_used }
}

/// Gas for what a command returns, besides that of making it.
pub(crate) fn reply_gas(reply: &[u8]) -> u64 {
    REPLY_BYTE_GAS.saturating_mul(reply.len().saturating_sub(SMALL_REPLY) as u64)
}

/// The outcome if that is more than there is left.
pub(crate) fn reply_too_dear(reply: &[u8], gas_used: u64, gas_limit: u64) -> Option<Outcome> {
    let wanted = reply_gas(reply);
    let error = || Coded::new(Code::OutOfGas, format!("a reply of {} bytes takes {wanted}", reply.len()));
    (wanted > gas_limit.saturating_sub(gas_used)).then(|| Outcome { result: Err(error()), gas_used: gas_limit })
}

/// Bytes of an outcome that count as large.
fn large(outcome: &Outcome) -> u64 {
    let bytes = outcome.result.as_ref().map_or(0, |output| output.data.len());
    if bytes > SMALL_REPLY { bytes as u64 } else { 0 }
}

/// An outbox that is full is the command's own matter, a state that cannot be read is not.
pub(crate) fn full(error: Coded) -> Stop {
    match error.known() {
        Some(Code::OutboxFull) => Stop::Refused(error),
        _ => Stop::Fault(error),
    }
}

pub(crate) fn refused(code: Code, detail: impl Into<String>) -> Stop {
    Stop::Refused(Coded::new(code, detail))
}

/// Executes entries of one cluster.
pub(crate) struct Executor {
    pub(crate) cluster: ClusterId,
    engine: Engine,
    genesis: Hash,
    validators: Vec<PublicKey>,
    /// What the state holds of requests and timers.
    jobs: Mutex<Jobs>,
    /// What it holds of the traffic with the chain.
    traffic: Mutex<Traffic>,
    /// What seals and opens messages between contracts.
    pub(crate) post: Post,
    /// From which the secrets of contracts are made that began here.
    pub(crate) secrets: Secrets,
}

impl Executor {
    pub(crate) fn new(
        genesis: Hash,
        cluster: ClusterId,
        validators: Vec<PublicKey>,
        engine: Engine,
        (jobs, traffic): (Jobs, Traffic),
        (mailbox, secrets): (Mailbox, Secrets),
    ) -> Self {
        let post = Post::new(genesis, cluster, mailbox);
        Self {
            cluster,
            engine,
            genesis,
            validators,
            jobs: Mutex::new(jobs),
            traffic: Mutex::new(traffic),
            post,
            secrets,
        }
    }

    /// Traffic with the chain.
    pub(crate) fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock()
    }

    /// Requests and timers that wait.
    pub(crate) fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock()
    }

    /// Executes an entry on top of a state. An error is this replica's fault: the entry has no effect.
    pub(crate) fn entry(
        &self,
        layer: &Arc<Layer>,
        header: &EntryHeader,
        commands: &[Ordered],
    ) -> Result<Effects, Coded> {
        let mut done = vec![];
        let (mut keys, mut larges) = (vec![], 0u64);
        let (mut reached, mut gas) = (0, self.fire(layer, header)?);
        for (index, ordered) in (0u32..).zip(commands) {
            if gas >= MAX_ENTRY_GAS {
                break;
            }
            reached += 1;
            let key = ordered.key();
            if layer.get(&OUTCOMES, &key.encode())?.is_some() {
                continue;
            }
            let block = BlockInfo { height: header.height, time_ms: header.time_ms, index };
            let outcome = self.command(layer, block, &ordered.command)?;
            gas = gas.saturating_add(outcome.gas_used);
            if large(&outcome) > 0 {
                larges = larges.saturating_add(large(&outcome));
                let kept: u64 = layer.read(&LARGE, &[])?.unwrap_or_default();
                layer.write(&LARGE, &[], &kept.saturating_add(large(&outcome)));
            }
            let record = Done { command: ordered.hash, height: header.height, index, outcome };
            layer.write(&OUTCOMES, &key.encode(), &record);
            keys.push(key);
            done.push((index, record.outcome));
        }
        if !keys.is_empty() {
            push(layer, &BATCHES, &Batch { time_ms: header.time_ms, keys, large: larges })?;
        }
        forget(layer, header.time_ms)?;
        upload::sweep(layer, header.time_ms)?;
        let packing = self.pack(layer, header.height)?;
        let removals = sweep(layer)?;
        Ok(Effects { changes: layer.take(), removals, done, cache: layer.take_cache(), reached, packing })
    }

    fn command(&self, layer: &Arc<Layer>, block: BlockInfo, signed: &SignedCommand) -> Result<Outcome, Coded> {
        let (account, command) = (*signed.account(), &signed.command);
        let run = |entry, contract, data: Vec<u8>, gas_limit| {
            let (mode, cluster) = (Mode::Command { gas_limit }, self.cluster);
            let (caller, origin, value) = (account, account, command.value);
            self.run(layer, Invocation { mode, entry, contract, caller, origin, value, data, block, cluster })
        };
        let result = match &command.action {
            Action::Call { contract, data } => run(Entry::Call, *contract, data.clone(), command.gas_limit),
            Action::InputPart { input, size, part, bytes } => {
                let name = upload::input_name(&account, input);
                let part = (Some(*part), bytes.as_slice());
                self.input_part(layer, block, (account, name, *size), part, command.gas_limit, |_, _| {
                    Err(refused(Code::WrongPart, "the last part comes with the call"))
                })
            }
            Action::CallInParts { contract, input, size, last } => {
                let name = upload::input_name(&account, input);
                let part = (None, last.as_slice());
                self.input_part(layer, block, (account, name, *size), part, command.gas_limit, |data, gas_limit| {
                    run(Entry::Call, *contract, data, gas_limit)
                })
            }
            Action::Instantiate { contract, code_hash, salt, data, proof } => {
                self.may_instantiate(&account, contract, code_hash, salt, proof).and_then(|()| {
                    run(Entry::Deploy { code_hash: *code_hash }, *contract, data.clone(), command.gas_limit)
                })
            }
            Action::Upload { code, proof } => self.upload(layer, code, proof, command.gas_limit),
            Action::Deliver { request, response } => self.deliver(layer, block, *request, response),
            Action::Inbox { messages, proof } => self.inbox(layer, block, messages, proof),
            Action::Withdraw { to, amount } => self.withdraw(layer, account, *to, *amount),
            Action::Acknowledge { proof } => self.acknowledge(layer, proof),
            Action::Policy { proof } => self.policy(layer, proof),
            Action::Barrier => Ok(done(0)),
            Action::Route { contract, place, mailbox } => self.route(layer, block, contract, place, mailbox.as_ref()),
            Action::Mailbox => self.open_mailbox(layer),
            Action::Import { contract, number, index, bytes, path } => {
                self.import(layer, (*contract, *number), *index, (bytes, path))
            }
            Action::UploadPart { code_hash, part, bytes, proof } => {
                self.upload_part(layer, block, code_hash, (*part, bytes), (proof, command.gas_limit))
            }
            Action::Hook { contract, request } => self.hook(layer, block, *contract, request),
            Action::Upgrade { contract, code_hash, proof } => self.upgrade(layer, contract, code_hash, proof),
        };
        outcome_of(result)
    }

    /// Calls back for timers that are due, as long as there is gas for them. Returns the gas used.
    fn fire(&self, layer: &Arc<Layer>, header: &EntryHeader) -> Result<u64, Coded> {
        let mut gas = 0u64;
        for number in 0..MAX_FIRED {
            if gas >= MAX_TIMER_GAS {
                break;
            }
            let Some(timer) = self.jobs.lock().fire(layer, header.time_ms) else { break };
            // After the places of all commands that an entry may hold.
            let index = MAX_ENTRY_COMMANDS as u32 + number;
            let block = BlockInfo { height: header.height, time_ms: header.time_ms, index };
            let arguments = (timer.id, &timer.callback.tag).encode();
            gas = gas.saturating_add(self.call_back(layer, block, timer.contract, &timer.callback, &arguments)?);
        }
        self.jobs.lock().keep_late(layer, header.time_ms);
        Ok(gas)
    }

    /// Brings a contract what came of its request, unless somebody has done so before.
    fn deliver(&self, layer: &Arc<Layer>, block: BlockInfo, request: u64, response: &[u8]) -> Result<Outcome, Stop> {
        let wanted = self.jobs.lock().answered(layer, request);
        let Some(wanted) = wanted else { return Ok(done(0)) };
        let result = HttpResult::decode_all(&mut &*response).unwrap_or(Err(HttpError::NetworkError));
        let arguments = (wanted.id, &wanted.callback.tag, result).encode();
        Ok(done(self.call_back(layer, block, wanted.contract, &wanted.callback, &arguments)?))
    }

    /// Brings a contract an HTTP request; what it returns is the outcome.
    fn hook(&self, layer: &Arc<Layer>, block: BlockInfo, contract: AccountId, request: &[u8]) -> Result<Outcome, Stop> {
        let read = HookRequest::decode_all(&mut &*request).map_err(|_| refused(Code::Malformed, "an HTTP request"))?;
        self.expect_works(layer, &contract)?;
        let hooks = hooks::of(layer, &contract)?;
        let hook = hooks::find(&hooks, &read.path).ok_or_else(|| refused(Code::NoHook, ""))?;
        let outcome = self.on_behalf(layer, block, contract, (hook.selector, hook.gas), request)?;
        outcome.ok_or_else(|| refused(Code::NoContract, contract.to_string()))
    }

    /// Calls a contract back. Returns the gas used.
    fn call_back(
        &self,
        layer: &Arc<Layer>,
        block: BlockInfo,
        contract: AccountId,
        callback: &Callback,
        arguments: &[u8],
    ) -> Result<u64, Coded> {
        let outcome = self.on_behalf(layer, block, contract, (callback.selector, callback.gas), arguments)?;
        Ok(outcome.map_or(0, |outcome| outcome.gas_used))
    }

    /// Calls a message of a contract on behalf of itself, with so much gas. What goes wrong in it is told in the
    /// contract's log. `None`: there is no such contract.
    pub(crate) fn on_behalf(
        &self,
        layer: &Arc<Layer>,
        block: BlockInfo,
        contract: AccountId,
        (selector, gas_limit): ([u8; 4], u64),
        arguments: &[u8],
    ) -> Result<Option<Outcome>, Coded> {
        let Some(record) = layer.contract(&contract)?.filter(Contract::works) else { return Ok(None) };
        let invocation = Invocation {
            mode: Mode::Command { gas_limit },
            entry: Entry::Call,
            contract,
            caller: contract,
            origin: record.owner,
            value: 0,
            data: [&selector[..], arguments].concat(),
            block,
            cluster: self.cluster,
        };
        let text = |why: &Coded| format!("the message 0x{} failed: {why}", hex::encode(selector));
        Ok(Some(self.report(layer, invocation, text)?))
    }

    /// Runs what the contract did not ask for at this moment. What goes wrong is told in its log, if there is one.
    pub(crate) fn report(
        &self,
        layer: &Arc<Layer>,
        invocation: Invocation,
        text: impl FnOnce(&Coded) -> String,
    ) -> Result<Outcome, Coded> {
        let (contract, block) = (invocation.contract, invocation.block);
        let outcome = outcome_of(self.run(layer, invocation))?;
        let why = match &outcome.result {
            Ok(output) if !output.reverted() => return Ok(outcome),
            Ok(_) => Coded::from(Code::Reverted),
            Err(error) => error.clone(),
        };
        if why.known() != Some(Code::NoContract) {
            logs::line(layer, &contract, block, logs::ERROR, text(&why))?;
        }
        Ok(outcome)
    }

    /// Takes over what an execution asked its extension for.
    fn settle(
        &self,
        layer: &Layer,
        block: BlockInfo,
        effects: Vec<(AccountId, Effect)>,
        ended: &BTreeSet<AccountId>,
    ) -> Result<(), Coded> {
        let mut jobs = self.jobs.lock();
        for (contract, effect) in effects {
            match effect {
                Effect::Log { level, text } => logs::line(layer, &contract, block, level, text)?,
                Effect::Cache(op) => layer.ask_cache(contract, op),
                effect @ (Effect::Withdraw { .. } | Effect::ChainCall { .. }) => {
                    if let Some(order) = bridge::order(&effect) {
                        self.traffic().send(layer, contract, order)?;
                    }
                }
                Effect::Message { to, input, value } => {
                    let message = Message { from: contract, to, input, value };
                    self.post.post(layer, &mut self.traffic(), block, message)?;
                }
                Effect::LogReader { who, allowed } => logs::set_reader(layer, &contract, who.as_ref(), allowed)?,
                Effect::OpenHook(hook) => hooks::open(layer, &contract, hook)?,
                Effect::CloseHook { path } => hooks::close(layer, &contract, &path)?,
                job => jobs.take(layer, contract, job, block.time_ms),
            }
        }
        for contract in ended {
            jobs.end(layer, contract);
            hooks::end(layer, contract)?;
        }
        Ok(())
    }

    /// A record of the chain that a command proves.
    pub(crate) fn fact<T: codec::Decode>(&self, fact: &Fact, key: &[u8]) -> Result<Option<T>, Stop> {
        self.dated_fact(fact, key).map(|(value, _)| value)
    }

    /// The same, and when the block was proposed that says so.
    pub(crate) fn dated_fact<T: codec::Decode>(&self, fact: &Fact, key: &[u8]) -> Result<(Option<T>, u64), Stop> {
        // A client of its own for each fact: one that remembers which heads it found final would pass another's
        // certificate on, and replicas that started at different times would come to different outcomes.
        let mut chain = LightClient::new(self.genesis, self.validators.clone());
        let value = chain.check_value(fact, key, 0);
        let value = value.map_err(|error| Stop::Refused(Coded::new(Code::BadProof, error.to_string())))?;
        Ok((value, chain.time_ms()))
    }

    /// Whether the chain has a record of this code, by the command's word for it.
    pub(crate) fn knows(&self, code: &[u8], proof: &Fact) -> bool {
        self.code_record(&blake2_256(code), proof).is_ok_and(|record| record.size as usize == code.len())
    }

    fn code_record(&self, hash: &Hash, proof: &Fact) -> Result<CodeRecord, Stop> {
        let record = self.fact(proof, &storage::code(hash))?;
        record.ok_or_else(|| refused(Code::BadProof, "the chain has no record of this code"))
    }

    fn upload(&self, layer: &Layer, code: &[u8], proof: &Fact, gas_limit: u64) -> Result<Outcome, Stop> {
        let hash = blake2_256(code);
        if self.code_size(layer, &hash, proof)? != code.len() {
            return Err(refused(Code::BadProof, "the chain has no record of this code"));
        }
        if layer.has_code(&hash)? {
            return Ok(done(0));
        }
        if let Some(dear) = CODES.too_dear(code, gas_limit) {
            return Ok(dear);
        }
        self.store(layer, hash, code, CODES.gas(code))
    }

    fn upload_part(
        &self,
        layer: &Layer,
        block: BlockInfo,
        code_hash: &Hash,
        (number, bytes): (u32, &[u8]),
        (proof, gas_limit): (&Fact, u64),
    ) -> Result<Outcome, Stop> {
        let size = self.code_size(layer, code_hash, proof)?;
        if let Some(dear) = CODES.too_dear(bytes, gas_limit) {
            return Ok(dear);
        }
        let (owner, number) = (AccountId::default(), Some(number));
        if layer.has_code(code_hash)? {
            return Ok(done(CODES.gas(bytes)));
        }
        let part = Part { kind: &CODES, owner, name: *code_hash, size, number, bytes };
        let Some(code) = part.take(layer, block.time_ms)? else { return Ok(done(CODES.gas(bytes))) };
        if blake2_256(&code) != *code_hash {
            return Err(refused(Code::WrongPart, "the parts are not those of the code"));
        }
        self.store(layer, *code_hash, &code, CODES.gas(bytes))
    }

    /// Takes in a part of an input of an account. `whole` is told the input once all of it is there, and the gas that is
    /// left; until then nothing more happens.
    fn input_part(
        &self,
        layer: &Layer,
        block: BlockInfo,
        (owner, name, size): (AccountId, Hash, u32),
        (number, bytes): (Option<u32>, &[u8]),
        gas_limit: u64,
        whole: impl FnOnce(Vec<u8>, u64) -> Result<Outcome, Stop>,
    ) -> Result<Outcome, Stop> {
        let most = layer.policy()?.message_bytes;
        if u64::from(size) > most {
            return Err(refused(Code::TooLarge, format!("{size} bytes of input of at most {most}")));
        }
        if let Some(dear) = INPUTS.too_dear(bytes, gas_limit) {
            return Ok(dear);
        }
        let part = Part { kind: &INPUTS, owner, name, size: size as usize, number, bytes };
        let gas = INPUTS.gas(bytes);
        let input = match part.take(layer, block.time_ms)? {
            Some(input) => input,
            None if number.is_some() => return Ok(done(gas)),
            None => return Err(refused(Code::WrongPart, "the parts are those of a longer input")),
        };
        let outcome = whole(input, gas_limit.saturating_sub(gas))?;
        Ok(Outcome { gas_used: outcome.gas_used.saturating_add(gas), ..outcome })
    }

    /// What the chain says of the length of a code, which must be within the cluster's limit.
    fn code_size(&self, layer: &Layer, hash: &Hash, proof: &Fact) -> Result<usize, Stop> {
        let size = self.code_record(hash, proof)?.size;
        let most = layer.policy()?.code_bytes;
        if u64::from(size) > most {
            return Err(refused(Code::CodeTooLarge, format!("{size} bytes of at most {most}")));
        }
        Ok(size as usize)
    }

    /// Checks a code and keeps it.
    pub(crate) fn store(&self, layer: &Layer, hash: Hash, code: &[u8], gas_used: u64) -> Result<Outcome, Stop> {
        match self.engine.validate(code) {
            Ok(_) => layer.set(&CODE, hash.as_ref().to_vec(), Some(code.to_vec())),
            Err(error) if error.code() == Code::Internal => {
                return Err(Stop::Fault(Coded::new(Code::Internal, error.to_string())));
            }
            Err(error) => return Ok(Outcome { result: Err(Coded::new(error.code(), error.to_string())), gas_used }),
        }
        Ok(done(gas_used))
    }

    /// Follows the chain's word for what contracts may use, if it is newer than what the state holds.
    fn policy(&self, layer: &Layer, proof: &Fact) -> Result<Outcome, Stop> {
        let policy: Option<ClusterPolicy> = self.fact(proof, &storage::policy(self.cluster))?;
        let policy = policy.ok_or_else(|| refused(Code::BadProof, "the chain has no policy of this cluster"))?;
        if policy.out_of_range().is_some() {
            return Err(refused(Code::BadPolicy, "the chain's policy is one that this program does not know"));
        }
        if policy.version > layer.policy()?.version {
            layer.set_policy(policy);
        }
        Ok(done(0))
    }

    /// Replaces a contract's code by what the chain decided. The version keeps an older decision, which can be proven for
    /// ever, from taking a newer one back, and from undoing what the contract does to its own code.
    fn upgrade(&self, layer: &Layer, contract: &AccountId, code_hash: &Hash, proof: &Fact) -> Result<Outcome, Stop> {
        let record: Option<ContractRecord> = self.fact(proof, &storage::contract(contract))?;
        let record = record.ok_or_else(|| refused(Code::BadProof, "the chain has no record of this contract"))?;
        if record.cluster != self.cluster {
            return Err(refused(Code::WrongAddress, format!("the contract belongs to cluster {}", record.cluster)));
        }
        if record.present_code != *code_hash {
            return Err(refused(Code::BadProof, "the chain decided on other code"));
        }
        self.expect_works(layer, contract)?;
        let present = layer.contract(contract)?.filter(Contract::works);
        let present = present.ok_or_else(|| refused(Code::NoContract, contract.to_string()))?;
        if record.version <= present.version {
            let detail = format!("version {} where {} runs", record.version, present.version);
            return Err(refused(Code::OldVersion, detail));
        }
        if !layer.has_code(code_hash)? {
            return Err(refused(Code::NoCode, code_hash.to_string()));
        }
        layer.set_contract(contract, Contract { code: Some(*code_hash), version: record.version, ..present });
        Ok(done(0))
    }

    fn may_instantiate(
        &self,
        account: &AccountId,
        contract: &AccountId,
        code_hash: &Hash,
        salt: &[u8],
        proof: &Fact,
    ) -> Result<(), Stop> {
        let record: Option<ContractRecord> = self.fact(proof, &storage::contract(contract))?;
        let record = record.ok_or_else(|| refused(Code::BadProof, "the chain has no record of this contract"))?;
        if record.deployer != *account {
            return Err(refused(Code::NotDeployer, ""));
        }
        if record.cluster != self.cluster {
            return Err(refused(Code::WrongAddress, format!("the contract belongs to cluster {}", record.cluster)));
        }
        let address = contract_address(account, self.cluster, code_hash, salt);
        if record.code_hash != *code_hash || address != *contract {
            return Err(refused(Code::BadProof, "the chain placed the contract with other code or another salt"));
        }
        Ok(())
    }

    fn run(&self, layer: &Arc<Layer>, invocation: Invocation) -> Result<Outcome, Stop> {
        let (account, contract, block) = (invocation.origin, invocation.contract, invocation.block);
        let Mode::Command { gas_limit } = invocation.mode else {
            return Err(Stop::Fault(Coded::new(Code::Internal, "an entry holds commands only")));
        };
        self.expect_works(layer, &contract)?;
        let failed = |failure: Failure| match failure.is_fault() {
            true => Err(Stop::Fault(failure.coded())),
            false => Ok(Outcome { result: Err(failure.coded()), gas_used: failure.gas_used }),
        };
        let execution = match self.engine.execute(layer.clone(), invocation) {
            Ok(execution) => execution,
            Err(failure) => return failed(failure),
        };
        if let Some(dear) = reply_too_dear(&execution.data, execution.gas_used, gas_limit) {
            return Ok(dear);
        }
        let gas_used = execution.gas_used.saturating_add(reply_gas(&execution.data));
        if execution.data.len() > SMALL_REPLY {
            let kept = layer.read::<u64>(&LARGE, &[])?.unwrap_or_default();
            let most = layer.policy()?.message_bytes.saturating_mul(LARGE_KEPT);
            if kept.saturating_add(execution.data.len() as u64) > most {
                let detail = format!("{kept} bytes of large replies are kept already, for some minutes");
                return Ok(Outcome { result: Err(Coded::new(Code::ReplyTooLarge, detail)), gas_used });
            }
        }
        if !execution.reverted() {
            let effects = decode_effects(&execution)?;
            let asked = || effects.iter().map(|(contract, effect)| (contract, effect));
            let most = layer.policy()?.jobs as usize;
            let room = self.jobs.lock().has_room(asked(), most);
            if let Err(full) = room.and(hooks::has_room(layer, asked())?) {
                return Ok(Outcome { result: Err(full), gas_used });
            }
            let mut senders: BTreeMap<AccountId, u64> = BTreeMap::new();
            for (contract, _) in effects.iter().filter(|(_, effect)| bridge::leaves(effect)) {
                *senders.entry(*contract).or_default() += 1;
            }
            match self.traffic().has_room(layer, &senders).map_err(full) {
                Err(Stop::Refused(full)) => return Ok(Outcome { result: Err(full), gas_used }),
                other => other?,
            }
            apply(layer, &execution, &account)?;
            logs::take(layer, &contract, block, &execution.events, &execution.debug)?;
            self.settle(layer, block, effects, &execution.terminated)?;
        }
        Ok(Outcome { result: Ok(Output { flags: execution.flags, data: execution.data }), gas_used })
    }
}

/// What an execution asked its extension for.
fn decode_effects(execution: &Execution) -> Result<Vec<(AccountId, Effect)>, Coded> {
    let decode = |effect: &phala_vm::Effect| {
        let unread = || Coded::new(Code::Internal, "an effect that this program does not read");
        Ok((effect.contract, Effect::decode_all(&mut &*effect.data).map_err(|_| unread())?))
    };
    execution.effects.iter().map(decode).collect()
}

/// Takes over what a contract did, by a command of `account`.
fn apply(layer: &Layer, execution: &Execution, account: &AccountId) -> Result<(), Coded> {
    for (address, code) in &execution.instantiated {
        let code = Some(*code);
        let contract = match layer.contract(address)? {
            // It replaces its own code.
            Some(contract) if contract.code.is_some() => Contract { code, ..contract },
            // The version stays: what the chain decided for the one before is not for this one.
            Some(Contract { generation, version, .. }) => {
                let generation = generation.saturating_add(1);
                Contract { generation, version, ..Contract::new(code, *account) }
            }
            None => Contract::new(code, *account),
        };
        layer.set_contract(address, contract);
    }
    for ((address, key), value) in &execution.changes {
        let contract = layer.contract(address)?.ok_or_else(|| lost("a contract that wrote"))?;
        layer.set(&contract.space(address), key.clone(), value.clone());
    }
    for (account, balance) in &execution.balances {
        layer.set_owned(account, *balance);
    }
    for address in &execution.terminated {
        // One that was made and ended within the command was never stored.
        let Some(contract) = layer.contract(address)? else { continue };
        end_space(layer, &contract.space(address))?;
        end_space(layer, &contract.readers(address))?;
        layer.set_contract(address, Contract { code: None, ..contract });
    }
    Ok(())
}

pub(crate) fn lost(what: &str) -> Coded {
    Coded::new(Code::Internal, format!("the state has lost {what}"))
}

/// Has a space emptied, in time.
pub(crate) fn end_space(layer: &Layer, space: &Space) -> Result<(), Coded> {
    push(layer, &ENDED, space)
}

/// Appends to a queue in the state.
fn push(layer: &Layer, space: &Space, item: &impl Encode) -> Result<(), Coded> {
    let mut queue: Queue = layer.read(&QUEUES, space)?.unwrap_or_default();
    layer.write(space, &queue.next.to_be_bytes(), item);
    queue.next += 1;
    layer.write(&QUEUES, space, &queue);
    Ok(())
}

/// Forgets commands that were executed longer ago than any deadline may lie ahead.
fn forget(layer: &Layer, time_ms: u64) -> Result<(), Coded> {
    let Some(mut queue) = layer.read::<Queue>(&QUEUES, &*BATCHES)? else { return Ok(()) };
    let (before, mut large) = (queue, 0u64);
    while queue.first < queue.next && (queue.first - before.first) < SWEEP_BATCHES as u64 {
        let number = queue.first.to_be_bytes();
        let batch: Batch = layer.read(&BATCHES, &number)?.ok_or_else(|| lost("a batch of outcomes"))?;
        if batch.time_ms.saturating_add(MAX_COMMAND_LIFE_MS) >= time_ms {
            break;
        }
        for key in batch.keys {
            layer.set(&OUTCOMES, key.encode(), None);
        }
        layer.set(&BATCHES, number.to_vec(), None);
        large = large.saturating_add(batch.large);
        queue.first += 1;
    }
    if large > 0 {
        let kept: u64 = layer.read(&LARGE, &[])?.unwrap_or_default();
        layer.write(&LARGE, &[], &kept.saturating_sub(large));
    }
    if queue != before {
        layer.write(&QUEUES, &*BATCHES, &queue);
    }
    Ok(())
}

/// Chooses values of ended contracts to remove.
fn sweep(layer: &Layer) -> Result<Vec<(Space, Path)>, Coded> {
    let Some(mut queue) = layer.read::<Queue>(&QUEUES, &*ENDED)? else { return Ok(vec![]) };
    if queue.first == queue.next {
        return Ok(vec![]);
    }
    let number = queue.first.to_be_bytes();
    let space: Space = layer.read(&ENDED, &number)?.ok_or_else(|| lost("an ended contract"))?;
    // The contract may have ended in this entry, with writes of this entry before: those are not in the snapshot yet,
    // so its space leaves the queue only when an entry finds it empty.
    let paths = layer.base().paths(&space, SWEEP)?;
    let written_now = layer.has_changes_in(&space);
    if paths.is_empty() && !written_now {
        layer.set(&ENDED, number.to_vec(), None);
        queue.first += 1;
        layer.write(&QUEUES, &*ENDED, &queue);
    }
    let removals = paths.into_iter().map(|path| (space, path));
    Ok(if written_now { vec![] } else { removals.collect() })
}

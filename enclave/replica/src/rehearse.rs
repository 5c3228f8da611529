//! Commands that are tried: metered and executed as in an entry, on one replica's snapshot, leaving nothing.
//!
//! A person learns what a command would cost and answer before it is sent, and why it would fail. Nothing is ordered,
//! written or asked of the outside. The trial stands behind all places that commands and callbacks of an entry have, so
//! the random numbers that it sees are never those of a command.
//!
//! What a contract would have said is told to those who may read its log, to others the outcome only: what they see by
//! sending the command is no more.

use crate::{
    Replica,
    execute::{outcome_of, reply_gas, reply_too_dear},
    layout::{CODE, Note},
    logs,
    world::Layer,
};
use codec::DecodeAll;
use phala_pink::Effect;
use phala_primitives::{AccountId, Code, Coded, blake2_256, limits::MAX_COMMAND_GAS};
use phala_session::{Answer, Outcome, Output, Rehearsal, Rehearsed, Said};
use phala_vm::{BlockInfo, Entry, Event, Invocation, Mode};
use std::sync::Arc;

/// A place that nothing in an entry has.
const NOWHERE: u32 = u32::MAX;
/// Most that is told of what a contract said.
const MAX_SAID: usize = 64;

impl Replica {
    /// Tries a command of an account that may make it. Blocks the thread for as long as the contract runs, at most as
    /// long as a command may.
    ///
    /// Errors: `NotReady`; this replica's own faults. Errors of the contract are in the outcome.
    pub fn rehearse(&self, account: AccountId, rehearsal: &Rehearsal, now_ms: u64) -> Result<Answer, Coded> {
        self.ready_epoch()?;
        let snapshot = self.state.snapshot();
        let height = snapshot.applied().height;
        if rehearsal.gas_limit > MAX_COMMAND_GAS {
            return Err(Coded::new(Code::GasLimitTooHigh, format!("at most {MAX_COMMAND_GAS}")));
        }
        let time_ms = Note::read(snapshot.note())?.time_ms.max(now_ms);
        let layer = Arc::new(Layer::new(snapshot));
        let entry = match &rehearsal.code {
            None => Entry::Call,
            Some(code) => {
                let known = |error: phala_vm::VmError| Coded::new(error.code(), error.to_string());
                self.engine.validate(code).map_err(known)?;
                let code_hash = blake2_256(code);
                layer.set(&CODE, code_hash.as_ref().to_vec(), Some(code.clone()));
                Entry::Deploy { code_hash }
            }
        };
        let invocation = Invocation {
            mode: Mode::Command { gas_limit: rehearsal.gas_limit },
            entry,
            contract: rehearsal.contract,
            caller: account,
            origin: account,
            value: rehearsal.value,
            data: rehearsal.data.clone(),
            block: BlockInfo { height: height.saturating_add(1), time_ms, index: NOWHERE },
            cluster: self.entries.cluster,
        };
        if let Err(stop) = self.executor.expect_works(&layer, &rehearsal.contract) {
            let outcome = outcome_of(Err(stop))?;
            return Ok(Answer::Rehearsed(Rehearsed { outcome, said: vec![], height }));
        }
        let (outcome, events, effects, debug) = match self.engine.execute(layer, invocation) {
            Ok(done) => {
                let gas_used = done.gas_used.saturating_add(reply_gas(&done.data));
                let outcome = match reply_too_dear(&done.data, done.gas_used, rehearsal.gas_limit) {
                    Some(dear) => dear,
                    None => Outcome { result: Ok(Output { flags: done.flags, data: done.data }), gas_used },
                };
                (outcome, done.events, done.effects, done.debug)
            }
            Err(failure) if failure.is_fault() => return Err(failure.coded()),
            Err(failure) => {
                let outcome = Outcome { result: Err(failure.coded()), gas_used: failure.gas_used };
                (outcome, vec![], vec![], failure.debug)
            }
        };
        // Who creates a contract owns it.
        let may_read = |contract: &AccountId| {
            (rehearsal.code.is_some() && *contract == rehearsal.contract)
                || self.may_read_log(&account, contract).is_ok()
        };
        let mut said = vec![];
        for Event { contract, topics, data } in events {
            if may_read(&contract) {
                said.push(Said::Event { topics, data });
            }
        }
        for effect in effects {
            if let Ok(Effect::Log { level, text }) = Effect::decode_all(&mut &*effect.data)
                && may_read(&effect.contract)
            {
                said.push(Said::Line { level, text });
            }
        }
        if !debug.is_empty() && may_read(&rehearsal.contract) {
            said.push(logs::debug_line(&debug));
        }
        said.truncate(MAX_SAID);
        Ok(Answer::Rehearsed(Rehearsed { outcome, said, height }))
    }
}

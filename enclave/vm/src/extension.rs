//! The door for functions beyond the common interface: what contracts reach by `call_chain_extension`.
//!
//! The engine knows nothing of what an extension offers. It hands over number and input, and takes back an output;
//! whatever lasts is an [`Effect`], which counts only if the execution does, like a change of storage.

use crate::{BlockInfo, Fork, Limits};
use phala_primitives::{AccountId, Balance, Code, Hash};
use zeroize::Zeroizing;

/// Functions that the host adds to those of the common interface. One extension serves all contracts of an engine.
pub trait Extension: Send + Sync + 'static {
    /// Answers a call of `function`. In a command, the same scope and input must give the same answer and effects on
    /// every replica.
    ///
    /// It must charge by [`Scope::charge`] before it works.
    fn call(&self, function: u32, input: &[u8], scope: &mut dyn Scope) -> Result<Reply, Refusal>;
}

/// Where a call of an extension comes from, and what it may do there.
pub trait Scope {
    /// The contract that calls.
    fn contract(&self) -> AccountId;
    /// Whether it is a command: to be the same everywhere, and not to touch the outside.
    fn is_command(&self) -> bool;
    /// Whether nothing may be written: a caller has asked for that.
    fn is_read_only(&self) -> bool;
    /// Height and time.
    fn block(&self) -> BlockInfo;
    /// What the execution may use.
    fn limits(&self) -> Limits;
    /// The right to split a query into parts. Commands and parts have none.
    fn fork(&self) -> Result<Fork, Refusal>;
    /// Takes gas; queries pay none.
    fn charge(&mut self, gas: u64) -> Result<(), Refusal>;
    /// A number that no other call of this function gives during this execution.
    fn number(&mut self) -> u64;
    /// Share of a query's time that is left, from 0 to 1000; 1000 in a command.
    fn time_left(&self) -> u64;
    /// Whether the cluster holds this code.
    fn has_code(&mut self, hash: &Hash) -> Result<bool, Refusal>;
    /// What the contract owns now.
    fn balance(&mut self) -> Result<Balance, Refusal>;
    /// Takes money of the contract out of the world; what becomes of it is for an effect to say. `false`: it has too
    /// little, or would be left with dust.
    fn pay_out(&mut self, amount: Balance) -> Result<bool, Refusal>;
    /// The contract's secret, if it has one of its own, because it began elsewhere.
    fn secret(&mut self) -> Result<Option<Zeroizing<[u8; 32]>>, Refusal>;
    /// How many events the contract has emitted before this execution, and the head of the chain of their hashes.
    fn events(&mut self) -> Result<(u64, Hash), Refusal>;
    /// Leaves something to be done if the execution counts.
    ///
    /// Errors: limits of the engine.
    fn effect(&mut self, data: Vec<u8>) -> Result<(), Refusal>;
}

/// What an extension answers.
pub enum Reply {
    /// This output.
    Now(Vec<u8>),
    /// An output that takes waiting for something outside. In queries only. Others may compute in the meantime.
    Wait(Box<dyn FnOnce() -> Vec<u8> + Send>),
}

/// Why there is no answer: the contract traps, or the execution ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The contract's own doing.
    Contract(Code, String),
    /// This replica's state.
    Fault(Code, String),
}

impl Refusal {
    /// Something that the contract must not do.
    pub fn trap(detail: impl Into<String>) -> Self {
        Self::Contract(Code::Trapped, detail.into())
    }
}

/// Something to be done for a contract when the execution counts, as its extension encoded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Who asks for it.
    pub contract: AccountId,
    /// What, in the extension's own terms.
    pub data: Vec<u8>,
}

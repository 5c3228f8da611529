//! Contracts as tests call them.

use crate::{Chain, Work};
use anyhow::{Result, anyhow};
use phala_abi::Abi;
use phala_build::Bundle;
use phala_primitives::{AccountId, Balance, Hash};
use phala_vm::{Entry, Execution};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

/// What a message answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The value as the command line shows it.
    pub text: String,
    /// The value for programs.
    pub json: Value,
    /// The bytes, in SCALE.
    pub data: Vec<u8>,
    /// Whether the contract answered with its own error (`Err(…)`).
    pub is_err: bool,
    /// Whether it took everything back. ink! does so when a message answers with an error.
    pub reverted: bool,
    /// Gas used; zero for a query.
    pub gas: u64,
}

/// Something that a contract said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// An event.
    Event {
        /// What it may be searched by.
        topics: Vec<Hash>,
        /// Its content, in SCALE.
        data: Vec<u8>,
    },
    /// A line of text.
    Line {
        /// 1 (error) to 5 (trace).
        level: u8,
        /// The text.
        text: String,
    },
}

/// What a bundle says of its contract.
pub(crate) struct Interface {
    name: String,
    abi: Abi,
    labels: BTreeMap<[u8; 4], String>,
}

impl Interface {
    pub(crate) fn new(bundle: &Bundle) -> Result<Self> {
        let messages = bundle.messages().map_err(|error| anyhow!(error.coded))?;
        let labels = messages.into_iter().map(|message| (message.selector, message.label)).collect();
        let abi = Abi::new(&Value::Object(bundle.metadata.clone()))?;
        Ok(Self { name: bundle.name.clone(), abi, labels })
    }

    /// Names of the contract and of the message with this selector.
    pub(crate) fn label(&self, selector: &[u8; 4]) -> (String, String) {
        let label = self.labels.get(selector).cloned().unwrap_or_else(|| "callback".into());
        (self.name.clone(), label)
    }

    pub(crate) fn encode(&self, label: &str, arguments: &[&str]) -> Result<Vec<u8>> {
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self.abi.encode(label, &arguments)
    }

    pub(crate) fn answer(&self, label: &str, execution: &Execution) -> Result<Answer> {
        let decoded = self.abi.decode(label, &execution.data)?;
        Ok(Answer {
            text: decoded.text,
            json: decoded.json,
            data: execution.data.clone(),
            is_err: decoded.is_err,
            reverted: execution.reverted(),
            gas: execution.gas_used,
        })
    }
}

/// A contract, called by one account.
#[derive(Clone)]
pub struct Contract {
    chain: Chain,
    address: AccountId,
    interface: Option<Arc<Interface>>,
}

impl Contract {
    pub(crate) fn new(chain: Chain, address: AccountId, interface: Option<Arc<Interface>>) -> Self {
        Self { chain, address, interface }
    }

    /// Its address.
    pub fn address(&self) -> AccountId {
        self.address
    }

    /// The same contract, called by another account: `token.by("//Bob")?.call(…)`.
    ///
    /// # Errors
    /// `BadKey` if it is no name.
    pub fn by(&self, name: &str) -> Result<Self> {
        Ok(Self { chain: self.chain.by(name)?, ..self.clone() })
    }

    /// The same contract, to which the caller pays so much with each call.
    pub fn paying(&self, value: Balance) -> Self {
        Self { chain: self.chain.paying(value), ..self.clone() }
    }

    /// What it owns.
    pub fn balance(&self) -> Balance {
        self.chain.balance(self.address)
    }

    /// Sends a command, with arguments as on the command line. An error that the contract answers with is an answer.
    ///
    /// # Errors
    /// The arguments do not fit, or the contract trapped.
    pub fn call(&self, message: &str, arguments: &[&str]) -> Result<Answer> {
        let interface = self.interface()?;
        let data = interface.encode(message, arguments)?;
        interface.answer(message, &self.chain.command(self.work(data, (&interface.name, message)))?)
    }

    /// Asks a query. What it writes is forgotten.
    ///
    /// # Errors
    /// The arguments do not fit, or the contract trapped.
    pub fn query(&self, message: &str, arguments: &[&str]) -> Result<Answer> {
        let interface = self.interface()?;
        let data = interface.encode(message, arguments)?;
        interface.answer(message, &self.chain.query(self.work(data, (&interface.name, message)))?)
    }

    /// Sends a command: selector and arguments in SCALE.
    ///
    /// # Errors
    /// The contract trapped.
    pub fn call_raw(&self, data: Vec<u8>) -> Result<Execution> {
        self.chain.command(self.work(data, ("code", "raw")))
    }

    /// Asks a query: selector and arguments in SCALE.
    ///
    /// # Errors
    /// The contract trapped.
    pub fn query_raw(&self, data: Vec<u8>) -> Result<Execution> {
        self.chain.query(self.work(data, ("code", "raw")))
    }

    /// What its commands said, in order.
    pub fn said(&self) -> Vec<Said> {
        self.chain.inner.state.lock().said(&self.address)
    }

    /// What its queries said, in order.
    pub fn said_by_queries(&self) -> Vec<Said> {
        self.chain.inner.town.said(&self.address)
    }

    /// Its events so far, by name; those that the metadata do not describe are left out.
    pub fn events(&self) -> Vec<(String, Value)> {
        let Some(interface) = &self.interface else { return Vec::new() };
        let decode = |said| match said {
            Said::Event { topics, data } => interface.abi.event(&topics, &data).ok(),
            Said::Line { .. } => None,
        };
        self.said().into_iter().filter_map(decode).map(|(name, decoded)| (name, decoded.json)).collect()
    }

    /// Lines that its commands wrote into its log: levels from 1 (error) to 5 (trace), and texts.
    pub fn lines(&self) -> Vec<(u8, String)> {
        let line = |said| match said {
            Said::Line { level, text } => Some((level, text)),
            Said::Event { .. } => None,
        };
        self.said().into_iter().filter_map(line).collect()
    }

    /// Whether an account may read its log: its owner, and whom it allowed.
    pub fn may_read_log(&self, who: AccountId) -> bool {
        let state = self.chain.inner.state.lock();
        let allowed = |who| state.readers.contains(&(self.address, who));
        state.owners.get(&self.address) == Some(&who) || allowed(Some(who)) || allowed(None)
    }

    fn interface(&self) -> Result<&Interface> {
        self.interface.as_deref().ok_or_else(|| anyhow!("the contract was deployed without a bundle: call it raw"))
    }

    fn work<'a>(&self, data: Vec<u8>, label: (&'a str, &'a str)) -> Work<'a> {
        Work { entry: Entry::Call, contract: self.address, data, label }
    }
}

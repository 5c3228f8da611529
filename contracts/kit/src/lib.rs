//! Tests of contracts on the real engine, without a network.
//!
//! ```no_run
//! use testkit::Testkit;
//!
//! let net = Testkit::new();
//! let token = net.deploy("new", (1000,));
//! assert_eq!(token.call("transfer", ("//Bob", 10)), "Ok(())");
//! assert_eq!(token.query("balance_of", ("//Bob",)), "10");
//! assert_eq!(token.by("//Bob").call("transfer", ("//Alice", 11)), "Err(TooLittle)");
//! ```
//!
//! Each [`Testkit`] is a cluster of its own, in a process of the installed `phala`: engine, limits, gas, keys and the
//! functions of `pink` are those of a replica. This crate only speaks to it, so a test compiles in seconds. Arguments
//! and answers are written as on the command line. What a test does not foresee is a panic; a contract's own error is an
//! answer.
//!
//! Time stands still: every command is an entry one second after the last, and more passes by [`Testkit::advance`]. The
//! outside world answers what the test says by [`Testkit::respond`] and [`Testkit::fail`]. Timers fire when their time has
//! come; requests that commands asked for are performed by [`Testkit::settle`] and [`Testkit::advance`], and then their
//! callbacks run.
//!
//! `phala test` builds the contract and runs the tests. Plain `cargo test` works, too, if `phala` is on the `PATH`: the
//! first test builds the contract.

#![warn(missing_docs)]

mod link;

use link::Link;
use serde_json::json;
pub use serde_json::Value;
use std::{
    fmt,
    path::Path,
    sync::Arc,
    time::Duration,
};

/// A cluster in memory, called by `//Alice`. Clones are the same cluster.
#[derive(Clone)]
pub struct Testkit {
    link: Arc<Link>,
    caller: String,
}

impl Testkit {
    /// An empty cluster.
    ///
    /// # Panics
    /// `phala` does not run, or the contract under test does not build.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { link: Arc::new(Link::start()), caller: "//Alice".into() }
    }

    /// The same cluster, called by another account.
    pub fn by(&self, name: &str) -> Self {
        Self { caller: name.into(), ..self.clone() }
    }

    /// Address of an account, such as `//Bob`.
    pub fn account(&self, name: &str) -> String {
        text(&self.link.ask(json!({ "do": "account", "name": name })))
    }

    /// Creates the contract under test.
    ///
    /// # Panics
    /// The arguments do not fit, or the constructor failed or refused.
    pub fn deploy(&self, constructor: &str, arguments: impl Arguments) -> Contract {
        self.deploy_bundle(link::bundle(), constructor, arguments)
    }

    /// Creates a contract from another bundle, such as one that the contract under test calls.
    ///
    /// # Panics
    /// The bundle cannot be read, the arguments do not fit, or the constructor failed or refused.
    pub fn deploy_bundle(&self, bundle: impl AsRef<Path>, constructor: &str, arguments: impl Arguments) -> Contract {
        self.try_deploy(bundle, constructor, arguments).unwrap_or_else(|why| panic!("{constructor}: {why}"))
    }

    /// The same, if it may fail.
    ///
    /// # Errors
    /// What the engine or the constructor said.
    pub fn try_deploy(
        &self,
        bundle: impl AsRef<Path>,
        constructor: &str,
        arguments: impl Arguments,
    ) -> Result<Contract, String> {
        let answer = self.link.try_ask(json!({
            "do": "deploy", "bundle": bundle.as_ref(), "constructor": constructor,
            "arguments": arguments.texts(), "caller": self.caller,
        }))?;
        Ok(Contract { net: self.clone(), address: text(&answer) })
    }

    /// Lets time pass: entries follow each other, timers fire when they are due, requests are performed.
    pub fn advance(&self, time: Duration) {
        self.link.ask(json!({ "do": "advance", "ms": u64::try_from(time.as_millis()).unwrap_or(u64::MAX) }));
    }

    /// Performs requests that commands asked for, and runs their callbacks, until none is left. Returns how many.
    pub fn settle(&self) -> u64 {
        self.link.ask(json!({ "do": "settle" })).as_u64().unwrap_or_default()
    }

    /// Requests and timers that wait.
    pub fn waiting(&self) -> u64 {
        self.link.ask(json!({ "do": "waiting" })).as_u64().unwrap_or_default()
    }

    /// Time of the next entry, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.link.ask(json!({ "do": "block" }))["time_ms"].as_u64().unwrap_or_default()
    }

    /// Height of the next entry.
    pub fn height(&self) -> u64 {
        self.link.ask(json!({ "do": "block" }))["height"].as_u64().unwrap_or_default()
    }

    /// Answers requests of this URL from now on.
    pub fn respond(&self, url: &str, status: u16, body: impl AsRef<[u8]>) {
        let body: String = body.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        self.link.ask(json!({ "do": "respond", "url": url, "status": status, "body": body }));
    }

    /// Lets requests of this URL time out from now on.
    pub fn time_out(&self, url: &str) {
        self.link.ask(json!({ "do": "fail", "url": url, "error": "Timeout" }));
    }

    /// Lets requests of this URL fail from now on, as if the server could not be reached.
    pub fn fail(&self, url: &str) {
        self.link.ask(json!({ "do": "fail", "url": url, "error": "NetworkError" }));
    }

    /// Remembers state, logs and time.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.link.ask(json!({ "do": "snapshot" })).as_u64().unwrap_or_default())
    }

    /// Goes back to what was.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.link.ask(json!({ "do": "restore", "snapshot": snapshot.0 }));
    }

    /// Gas of all commands so far, by contract and message, as a table.
    pub fn gas_report(&self) -> String {
        text(&self.link.ask(json!({ "do": "gas" })))
    }
}

/// A state to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(u64);

/// A contract, called by one account.
#[derive(Clone)]
pub struct Contract {
    net: Testkit,
    address: String,
}

impl Contract {
    /// Its address, which can be an argument of other contracts.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The same contract, called by another account: `token.by("//Bob").call(…)`.
    pub fn by(&self, name: &str) -> Self {
        Self { net: self.net.by(name), address: self.address.clone() }
    }

    /// Sends a command.
    ///
    /// # Panics
    /// The arguments do not fit, or the contract trapped.
    pub fn call(&self, message: &str, arguments: impl Arguments) -> Answer {
        self.try_call(message, arguments).unwrap_or_else(|why| panic!("{message}: {why}"))
    }

    /// Sends a command that may trap.
    ///
    /// # Errors
    /// What the engine said.
    pub fn try_call(&self, message: &str, arguments: impl Arguments) -> Result<Answer, String> {
        self.ask("call", message, &arguments)
    }

    /// Asks a query; what it writes is forgotten.
    ///
    /// # Panics
    /// The arguments do not fit, or the contract trapped.
    pub fn query(&self, message: &str, arguments: impl Arguments) -> Answer {
        self.try_query(message, arguments).unwrap_or_else(|why| panic!("{message}: {why}"))
    }

    /// Asks a query that may trap.
    ///
    /// # Errors
    /// What the engine said.
    pub fn try_query(&self, message: &str, arguments: impl Arguments) -> Result<Answer, String> {
        self.ask("query", message, &arguments)
    }

    fn ask(&self, what: &str, message: &str, arguments: &impl Arguments) -> Result<Answer, String> {
        let answer = self.net.link.try_ask(json!({
            "do": what, "contract": self.address, "message": message,
            "arguments": arguments.texts(), "caller": self.net.caller,
        }))?;
        Ok(Answer {
            text: text(&answer["text"]),
            json: answer["json"].clone(),
            is_err: answer["is_err"] == true,
            reverted: answer["reverted"] == true,
            gas: answer["gas"].as_u64().unwrap_or_default(),
        })
    }

    /// Its events so far: names and fields.
    pub fn events(&self) -> Vec<(String, Value)> {
        let events = self.net.link.ask(json!({ "do": "events", "contract": self.address }));
        let event = |event: &Value| (text(&event["event"]), event["fields"].clone());
        events.as_array().into_iter().flatten().map(event).collect()
    }

    /// Lines that its commands wrote into its log.
    pub fn lines(&self) -> Vec<String> {
        let lines = self.net.link.ask(json!({ "do": "lines", "contract": self.address }));
        lines.as_array().into_iter().flatten().map(text).collect()
    }
}

/// What a message answered. It compares with what the command line would print: `assert_eq!(answer, "Some(3)")`.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The value as the command line shows it.
    pub text: String,
    /// The value for programs.
    pub json: Value,
    /// Whether the contract answered with its own error.
    pub is_err: bool,
    /// Whether it took everything back.
    pub reverted: bool,
    /// Gas used; zero for a query.
    pub gas: u64,
}

impl PartialEq<&str> for Answer {
    fn eq(&self, other: &&str) -> bool {
        self.text == *other
    }
}

impl PartialEq<String> for Answer {
    fn eq(&self, other: &String) -> bool {
        self.text == *other
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Arguments of a constructor or message: nothing, a tuple, an array or a vector of what can be printed.
pub trait Arguments {
    /// As on the command line.
    fn texts(&self) -> Vec<String>;
}

impl Arguments for () {
    fn texts(&self) -> Vec<String> {
        Vec::new()
    }
}

impl<T: fmt::Display, const N: usize> Arguments for [T; N] {
    fn texts(&self) -> Vec<String> {
        self.iter().map(ToString::to_string).collect()
    }
}

impl<T: fmt::Display> Arguments for Vec<T> {
    fn texts(&self) -> Vec<String> {
        self.iter().map(ToString::to_string).collect()
    }
}

macro_rules! tuples {
    ($($($name:ident)+;)+) => {$(
        impl<$($name: fmt::Display),+> Arguments for ($($name,)+) {
            fn texts(&self) -> Vec<String> {
                #[allow(non_snake_case)]
                let ($($name,)+) = self;
                vec![$($name.to_string()),+]
            }
        }
    )+};
}

tuples! { A; A B; A B C; A B C D; A B C D E; A B C D E F; A B C D E F G; A B C D E F G H; }

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

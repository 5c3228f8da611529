//! The whole network as one real process, reached over its sockets like anyone reaches it, and treated badly.
//!
//! - [`main_job`]: what people do, on the command line, with its errors and exit codes;
//! - [`clusters`]: several on one chain, and messages between their contracts while workers die;
//! - [`crash`]: SIGKILL again and again under writes, on one data folder;
//! - [`drills`]: a clone, old disks, and a gateway that shows the past;
//! - [`namespaces`]: processes on machines of their own, with bad wires between them;
//! - [`devloop`]: from a template to a watched contract, upgrades, costs, collections;
//! - [`failover`]: a worker dies, then too many;
//! - [`hostile`]: requests that nobody means well by, over HTTP and WebSocket;
//! - [`canary`]: no secret in any file, log, metric or packet;
//! - [`bad_contracts`]: modules and calls that misbehave;
//! - [`later`]: answers and timers that call contracts back, while servers fail and a worker dies;
//! - [`limits`]: each limit and its code, large requests and codes, a query spread over the cluster while a worker dies;
//! - [`later`]: answers and timers that call contracts back, while servers fail and workers die, one or all;
//! - [`hooks`]: HTTP requests of others that reach contracts;
//! - [`follow`]: logs that are followed while workers die;
//! - [`copies`]: newcomers that take the state of the others;
//! - [`readers`]: workers without a vote that answer queries;
//! - [`full_disk`]: a worker whose disk is full;
//! - [`money`]: from the chain into the cluster and back, while a worker dies;
//! - [`oracle`]: what Phala adds to contracts: HTTP, keys, the log, random numbers.
//!
//! Tests take turns: each runs a network of its own on a machine that may have two cores. Nothing sleeps in place of a
//! signal; every wait has a deadline. Random choices come from a seed that is printed; `PHALA_SEED` sets it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod bad_contracts;
mod canary;
mod clusters;
mod contracts;
mod copies;
mod crash;
mod devloop;
mod drills;
mod failover;
mod follow;
mod forge;
mod freshness;
mod full_disk;
mod gateway;
mod harness;
mod hooks;
mod hostile;
mod hpke;
mod later;
mod limits;
mod load;
mod main_job;
mod members;
mod money;
mod moves;
mod namespaces;
mod oracle;
mod parts;
mod person;
mod readers;
mod recover;
mod restart;

//! Closed-loop load: each client waits for its answer before it asks again.

use anyhow::{Result, ensure};
use std::{
    future::Future,
    time::{Duration, Instant},
};

/// An account, by its public key.
pub(crate) type Account = [u8; 32];

/// A server that clients can connect to.
pub(crate) trait Connect {
    /// A connection.
    type Client: Client + 'static;

    /// Opens a connection; not measured.
    fn connect(&self) -> impl Future<Output = Result<Self::Client>>;
}

/// One connection, one question at a time.
pub(crate) trait Client: Send {
    /// Asks for a balance.
    fn balance_of(&mut self, account: &Account) -> impl Future<Output = Result<u128>> + Send;
}

/// How hard and how long.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Connections that ask at the same time.
    pub(crate) clients: usize,
    /// How long to measure.
    pub(crate) time: Duration,
    /// How many accounts there are to ask for.
    pub(crate) accounts: usize,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stats {
    /// Answers per second, all clients together.
    pub(crate) per_second: f64,
    /// Median time of an answer, in microseconds.
    pub(crate) p50_us: f64,
    /// 99th percentile, in microseconds.
    pub(crate) p99_us: f64,
}

/// The account with this number.
pub(crate) fn account(number: usize) -> Account {
    let mut account = [7; 32];
    account[..8].copy_from_slice(&(number as u64).to_le_bytes());
    account
}

/// What the account with this number holds.
pub(crate) fn balance(number: usize) -> u128 {
    1_000 + number as u128
}

/// Connects, warms up, measures. Wrong answers are an error.
pub(crate) async fn run<C: Connect>(target: &C, load: Load) -> Result<Stats> {
    let mut clients = Vec::new();
    for _ in 0..load.clients {
        clients.push(target.connect().await?);
    }
    Ok(drive(clients, load.time, load.accounts).await?.0)
}

/// Lets connected clients ask, first for a tenth of the time to warm up, and returns them in their order.
pub(crate) async fn drive<C: Client + 'static>(
    clients: Vec<C>,
    time: Duration,
    accounts: usize,
) -> Result<(Stats, Vec<C>)> {
    let begin = Instant::now() + time / 10;
    let end = begin + time;
    let asking = clients.into_iter().enumerate();
    let asking: Vec<_> = asking.map(|(index, client)| tokio::spawn(ask(client, index, accounts, begin, end))).collect();
    let (mut clients, mut times) = (Vec::new(), Vec::new());
    for asked in asking {
        let (client, its) = asked.await??;
        clients.push(client);
        times.extend(its);
    }
    ensure!(!times.is_empty(), "no answer came in time");
    times.sort_unstable();
    let percentile = |p: usize| times[(times.len() - 1) * p / 100] as f64 / 1e3;
    let per_second = times.len() as f64 / time.as_secs_f64();
    Ok((Stats { per_second, p50_us: percentile(50), p99_us: percentile(99) }, clients))
}

/// Asks until `end`; the client, and the times of answers that came after `begin`, in nanoseconds.
async fn ask<C: Client>(
    mut client: C,
    index: usize,
    accounts: usize,
    begin: Instant,
    end: Instant,
) -> Result<(C, Vec<u64>)> {
    let mut times = Vec::new();
    let mut number = index;
    loop {
        number = (number * 31 + 17) % accounts;
        let asked = Instant::now();
        let answer = client.balance_of(&account(number)).await?;
        let answered = Instant::now();
        ensure!(answer == balance(number), "the balance of account {number} is wrong: {answer}");
        if answered >= end {
            return Ok((client, times));
        }
        if answered >= begin {
            times.push((answered - asked).as_nanos() as u64);
        }
    }
}

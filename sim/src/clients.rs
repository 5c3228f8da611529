//! Clients: each has one transfer under way at a time, sends it to a member that is up, and to another, with the same
//! id, when no answer comes. Requests and answers are lost as messages between members are.

use crate::{
    account::Account,
    audit,
    chain::Chain,
    copies::Reader,
    history::{Event, History},
    plan::{Log, Mistake},
    rng::Seeded,
    served::Served,
};
use codec::{DecodeAll, Encode};
use futures::future::{Either, select};
use parking_lot::Mutex;
use phala_consensus::Sim;
use phala_primitives::{AccountId, Hash};
use phala_replica::Replica;
use phala_runtime::RuntimeCall;
use phala_session::{
    Action, Answer, Command, CommandReceipt, Credentials, Freshness, Outcome, Output, Query, SignedCommand,
};
use rand_core::Rng as _;
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Clients of each log.
pub(crate) const CLIENTS: usize = 3;
/// How long a client waits for the answer to a command, in milliseconds.
const ANSWER_MS: u64 = 2_000;
/// How long a client waits for a transfer on the chain to be final before it submits it again, in milliseconds.
const BLOCK_MS: u64 = 6_000;
/// How often it looks, in milliseconds.
const LOOK_MS: u64 = 300;
/// How long a client waits before it asks again after a refusal, in milliseconds.
const REFUSED_MS: u64 = 150;
/// Gas of any command of the simulation.
const GAS: u64 = phala_primitives::limits::MAX_COMMAND_GAS;
/// Life of a command in milliseconds: longer than a run has left, so that no retry is too late.
const LIFE_MS: u64 = 500_000;
/// `PSP22::transfer`.
const TRANSFER: [u8; 4] = [0xdb, 0x20, 0xf9, 0xf5];

/// `PSP22::balance_of`.
const BALANCE_OF: [u8; 4] = [0x65, 0x68, 0x38, 0x2f];

/// What all clients share.
pub(crate) struct Office {
    pub(crate) sim: Sim,
    pub(crate) seed: u64,
    pub(crate) loss: f64,
    pub(crate) mistake: Option<Mistake>,
    /// Whether clients believe only what two replicas tell.
    pub(crate) suspicious: bool,
    pub(crate) history: History,
    pub(crate) chain: Arc<Chain>,
    pub(crate) served: Arc<Served>,
    /// The second cluster, if there is one.
    pub(crate) neighbour: Option<Arc<Served>>,
    /// Who follows the cluster without a vote.
    pub(crate) reader: Arc<Reader>,
    pub(crate) token: Mutex<AccountId>,
    /// Accounts in the order of their numbers: clients first, then the owner of the token, then carriers.
    pub(crate) accounts: Vec<Account>,
    pub(crate) credentials: Vec<Credentials>,
    /// Transfers on the chain, by number.
    pub(crate) extrinsics: Mutex<Vec<Vec<u8>>>,
    /// Commands that move the token, by number: whose, and the id.
    pub(crate) commands: Mutex<Vec<(AccountId, [u8; 16])>>,
    /// The contract that asks for requests and timers.
    pub(crate) errand: Mutex<AccountId>,
    /// One for each that a client had it ask for.
    pub(crate) asked: Mutex<Vec<()>>,
    /// The contracts that write to each other, of this cluster and of the second.
    pub(crate) writers: Mutex<[AccountId; 2]>,
    /// The contract that wanders between them, and how many calls of it were done.
    pub(crate) nomad: Mutex<(AccountId, u64)>,
    pub(crate) quiet: AtomicBool,
}

/// Adds to a list and returns the number of what was added.
pub(crate) fn push<T>(list: &Mutex<Vec<T>>, item: T) -> u32 {
    let mut list = list.lock();
    list.push(item);
    list.len() as u32 - 1
}

impl Office {
    /// The number of the account that owns the token at first.
    pub(crate) const OWNER: usize = CLIENTS;
    /// The first of those who carry messages between chain and clusters.
    pub(crate) const CARRIER: usize = CLIENTS + 1;

    fn lost(&self) -> bool {
        // 20 bits are as fine as a loss is ever given.
        let part = self.sim.random() % (1 << 20);
        (part as f64) < self.loss * f64::from(1u32 << 20)
    }

    pub(crate) fn between(&self, low: u64, high: u64) -> u64 {
        low + self.sim.random() % (high - low)
    }

    pub(crate) fn see(&self, event: Event) {
        self.history.add(self.sim.now_ms(), event);
    }

    /// A command of an account to a cluster, signed.
    pub(crate) fn command(&self, to: &Served, account: usize, action: Action) -> SignedCommand {
        let mut id = [0; 16];
        Seeded::new(self.seed, &format!("command {}", self.sim.random())).fill_bytes(&mut id);
        let (genesis, deadline_ms) = (self.chain.genesis, self.sim.now_ms() + LIFE_MS);
        self.credentials[account].sign(Command {
            id,
            genesis,
            cluster: to.id,
            action,
            value: 0,
            gas_limit: GAS,
            deadline_ms,
        })
    }

    /// Has a command executed, however often it must be sent. Returns the outcome, and whether its receipt proves it.
    pub(crate) async fn order(&self, of: &Served, command: SignedCommand) -> (Outcome, bool, u64) {
        let mut last = None;
        loop {
            let Some((member, replica)) = of.any(&self.sim, last) else {
                self.sim.sleep_ms(REFUSED_MS).await;
                continue;
            };
            last = Some(member);
            if of.comes_twice(&self.sim)
                && let Some((_, other)) = of.any(&self.sim, None)
            {
                // Whoever hears of it: the answer is not waited for.
                drop(other.submit(command.clone(), self.sim.now_ms()));
            }
            let ticket = if self.lost() { None } else { Some(replica.submit(command.clone(), self.sim.now_ms())) };
            drop(replica);
            let given = match ticket {
                Some(Ok(ticket)) => match select(ticket, pin!(self.sim.sleep_ms(ANSWER_MS))).await {
                    Either::Left((answer, _)) => answer.ok(),
                    Either::Right(_) => None,
                },
                Some(Err(_)) => {
                    self.sim.sleep_ms(REFUSED_MS).await;
                    None
                }
                None => {
                    self.sim.sleep_ms(ANSWER_MS).await;
                    None
                }
            };
            let answer = given.and_then(Result::ok).map(|answer| of.tell(member, answer, &command.hash()));
            if let Some(Answer::Command { outcome, receipt }) = answer
                && !self.lost()
                && (!self.suspicious || self.is_confirmed(of, member, &command, &outcome).await)
            {
                let proven = self.proven(of, &receipt, &command.hash(), &outcome);
                return (outcome, proven, receipt.header.height);
            }
        }
    }

    /// Whether another replica tells the same outcome, as soon as it tells any.
    async fn is_confirmed(&self, of: &Served, told_by: usize, command: &SignedCommand, outcome: &Outcome) -> bool {
        let account = command.certificate.body.account;
        for _ in 0..ANSWER_MS / REFUSED_MS {
            if let Some((member, replica)) = of.any(&self.sim, Some(told_by))
                && member != told_by
                && let Ok(answer) = replica.outcome(&account, &command.command.id)
                && let Answer::Command { outcome: other, .. } = of.tell(member, answer, &command.hash())
            {
                return other == *outcome;
            }
            self.sim.sleep_ms(REFUSED_MS).await;
        }
        false
    }

    /// Whether a receipt proves an outcome. One who asks again after a restart gets it signed by an identity of a later
    /// epoch than the entry's.
    fn proven(&self, of: &Served, receipt: &CommandReceipt, command: &Hash, outcome: &Outcome) -> bool {
        let signer = &receipt.identity;
        let (then, now) = (of.members(Some(receipt.header.epoch)), of.members(None));
        (then.contains(signer) || now.contains(signer))
            && receipt.verify(&self.chain.genesis, of.id, &then, signer, command, outcome).is_ok()
    }

    /// Moves tokens from one account to another, and tells the history.
    pub(crate) async fn pay(&self, from: usize, to: usize, amount: u128) {
        let data = (TRANSFER, self.accounts[to].id(), amount, Vec::<u8>::new()).encode();
        let command = self.command(&self.served, from, Action::Call { contract: *self.token.lock(), data });
        let number = push(&self.commands, (self.accounts[from].id(), command.command.id));
        let log = Log::Cluster;
        self.see(Event::Sent { log, number, from: from as u32, to: to as u32, amount });
        let (outcome, proven, height) = self.order(&self.served, command).await;
        self.see(Event::Acknowledged { log, number, outcome: outcome.hash(), proven, height });
    }

    /// Moves money of the chain from one account to another, and tells the history.
    async fn transfer(&self, from: usize, to: usize, amount: u128) {
        let dest = self.accounts[to].frame().into();
        let call = RuntimeCall::Balances(pallet_balances::Call::transfer_keep_alive { dest, value: amount });
        let (nonce, bytes) = self.accounts[from].extrinsic(&self.chain.genesis, call);
        let number = {
            let mut extrinsics = self.extrinsics.lock();
            extrinsics.push(bytes.clone());
            extrinsics.len() as u32 - 1
        };
        let log = Log::Chain;
        self.see(Event::Sent { log, number, from: from as u32, to: to as u32, amount });
        loop {
            // A node that has it in a block already refuses it.
            if !self.lost()
                && let Some(node) = self.chain.any()
            {
                drop(node.submit(&bytes));
            }
            for _ in 0..BLOCK_MS / LOOK_MS {
                self.sim.sleep_ms(LOOK_MS).await;
                let next = self.chain.any().and_then(|node| audit::account(&node, &self.accounts[from].id()));
                if next.is_some_and(|(next, _)| next > nonce) {
                    self.see(Event::Acknowledged { log, number, outcome: Hash::ZERO, proven: true, height: 0 });
                    return;
                }
            }
        }
    }

    /// What an account has, by a replica's state and the receipt's height.
    pub(crate) fn balance(&self, replica: &Replica, account: usize) -> Option<(u128, u64)> {
        self.balance_by(None, replica, account)
    }

    /// The same, as a member tells it.
    fn balance_by(&self, member: Option<usize>, replica: &Replica, account: usize) -> Option<(u128, u64)> {
        let data = (BALANCE_OF, self.accounts[account].id()).encode();
        let query = Query { contract: *self.token.lock(), data, value: 0, min_height: 0, freshness: Freshness::Any };
        let answer = replica.query(self.accounts[account].id(), [1; 16], &query, self.sim.now_ms()).ok()?;
        let answer = match member {
            Some(member) => self.served.tell(member, answer, &Hash::ZERO),
            None => answer,
        };
        match answer {
            Answer::Query { output, receipt } => Some((self.amount(&output)?, receipt.claim.height)),
            _ => None,
        }
    }

    /// The amount that the token tells. Ink puts `Ok` of its language errors in front.
    pub(crate) fn amount(&self, output: &Output) -> Option<u128> {
        let (0, amount) = output.data.split_first()? else { return None };
        u128::decode_all(&mut &*amount).ok()
    }

    /// A client that reads with everything that was acknowledged before, until all is quiet.
    pub(crate) async fn read(self: Arc<Self>) {
        while !self.quiet.load(Ordering::SeqCst) {
            self.sim.sleep_ms(self.between(50, 300)).await;
            let account = self.between(0, CLIENTS as u64) as usize;
            // A reader may be behind, but what it tells is true of its height.
            if let Some(replica) = self.reader.replica()
                && let Some((amount, height)) = self.balance(&replica, account)
            {
                self.see(Event::Read { since_ms: 0, account: account as u32, amount, height });
            }
            let Some((member, replica)) = self.served.any(&self.sim, None) else { continue };
            let since_ms = self.sim.now_ms();
            if self.mistake != Some(Mistake::StaleRead) {
                let Ok(ticket) = replica.barrier(since_ms) else { continue };
                let late = pin!(self.sim.sleep_ms(ANSWER_MS));
                if !matches!(select(ticket, late).await, Either::Left((Ok(Ok(_)), _))) {
                    continue;
                }
            }
            let second = if self.suspicious { self.served.any(&self.sim, Some(member)) } else { None };
            let second = second.filter(|(other, _)| *other != member);
            if let Some((amount, height)) = self.balance_by(Some(member), &replica, account) {
                let same = |(other, replica): (usize, Arc<Replica>)| {
                    self.balance_by(Some(other), &replica, account).is_some_and(|(second, _)| second == amount)
                };
                if self.suspicious && !second.is_some_and(same) {
                    continue;
                }
                self.see(Event::Read { since_ms, account: account as u32, amount, height });
            }
        }
    }

    /// One client of one log, until all is quiet.
    pub(crate) async fn serve(self: Arc<Self>, log: Log, client: usize) {
        while !self.quiet.load(Ordering::SeqCst) {
            let to = (client + 1 + self.between(0, CLIENTS as u64 - 1) as usize) % CLIENTS;
            let amount = u128::from(self.between(1, 1_000));
            match log {
                Log::Chain => self.transfer(client, to, amount * phala_primitives::PHA / 1_000).await,
                Log::Cluster | Log::Neighbour => self.pay(client, to, amount).await,
            }
            self.sim.sleep_ms(self.between(100, 600)).await;
        }
    }
}

//! Carries messages between the chain and the cluster, and so between clusters, when it is this member's turn.
//!
//! What is carried proves itself on the other side, and is executed there once: members that overlap, fall behind or
//! die in the middle cost time and a fee, nothing else.

use crate::service::now_ms;
use codec::Encode;
use parking_lot::Mutex;
use phala_client::{Account, Call, Chain};
use phala_primitives::{
    ClusterId, Code, Coded,
    bridge::{BridgeRecord, Inbound, Letter},
    limits::MAX_INBOX,
    storage,
};
use phala_replica::{Replica, Ticket};
use std::{sync::Arc, time::Duration};

/// How often it is looked whether there is something to carry.
const LOOK: Duration = Duration::from_millis(500);
/// A member's turn to bring the chain's messages to the cluster, and the longest wait for their execution.
const TURN_IN_MS: u64 = 2_000;
const TURN_IN: Duration = Duration::from_millis(TURN_IN_MS);
/// A member's turn to bring the cluster's messages to the chain: some blocks.
const TURN_OUT_MS: u64 = 8_000;
/// Most bytes of messages that are brought at once, either way. They become part of an entry or of a block.
const MAX_BYTES: usize = 64 << 10;
/// Messages that the cluster has taken, after which the chain is told even if there is nothing else to tell.
const UNTOLD: u64 = MAX_INBOX / 8;

/// One end of it.
pub(crate) struct Bridge {
    pub(crate) chain: Arc<Chain>,
    /// The worker's account; it pays the fee of what turns out to be no news.
    pub(crate) account: Arc<Account>,
    pub(crate) replica: Arc<Replica>,
    pub(crate) cluster: ClusterId,
    /// What the chain said last, and the head that was known then: there is no news before the next one.
    pub(crate) known: Mutex<Option<(u32, BridgeRecord)>>,
}

/// Carries messages both ways. Ends with the task.
pub(crate) async fn carry(bridge: Bridge) {
    let inward = async {
        loop {
            if let Err(error) = bridge.inward().await {
                tracing::debug!(%error, "messages of the chain wait for another turn");
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let outward = async {
        loop {
            if let Err(error) = bridge.outward().await {
                tracing::debug!(%error, "messages to the chain wait for another turn");
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let between = async {
        let mut looked = 0;
        loop {
            if let Err(error) = bridge.between(&mut looked).await {
                tracing::debug!(%error, "messages to other clusters wait for another turn");
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    futures::join!(inward, outward, between);
}

/// Waits for the execution of an own command.
async fn executed(ticket: Ticket) {
    // If it takes longer, somebody's next turn comes.
    let _ = tokio::time::timeout(TURN_IN, ticket).await;
}

impl Bridge {
    /// The chain's record, read once for each of its heads.
    async fn record(&self) -> Result<BridgeRecord, Coded> {
        let head = self.chain.head().0;
        let known = *self.known.lock();
        if let Some((_, record)) = known.filter(|(at, _)| *at == head) {
            return Ok(record);
        }
        let record = self.chain.read(&storage::bridge(self.cluster)).await?.unwrap_or_default();
        *self.known.lock() = Some((head, record));
        Ok(record)
    }

    /// Brings the cluster what the chain has for it, and what the chain has delivered.
    async fn inward(&self) -> Result<(), Coded> {
        loop {
            let record = self.record().await?;
            let traffic = self.replica.traffic();
            let mine = |number| self.replica.is_turn(number, TURN_IN_MS, now_ms());
            if record.outbox.next > traffic.first && mine(traffic.first) {
                let proof = self.chain.fact(&storage::bridge(self.cluster)).await?;
                executed(self.replica.acknowledge(record.outbox.next, proof, now_ms())?).await;
            }
            if record.inbox.next <= traffic.inbox.next || !mine(traffic.inbox.next) {
                return Ok(());
            }
            let messages = self.letters(traffic.inbox.next, record.inbox.next).await?;
            let Some(last) = (messages.len() as u64).checked_sub(1) else { return Ok(()) };
            let key = storage::letter(self.cluster, traffic.inbox.next.saturating_add(last));
            let proof = self.chain.fact(&key).await?;
            executed(self.replica.bring(messages, proof, now_ms())?).await;
            if self.replica.traffic().inbox == traffic.inbox {
                return Err(Coded::new(Code::NoQuorum, "they were not executed in time"));
            }
        }
    }

    /// Tells the cluster where contracts are for which messages wait, and has it publish its mailbox. `looked` is the
    /// head at which there was nobody to write to it.
    async fn between(&self, looked: &mut u32) -> Result<(), Coded> {
        let mine = |number| self.replica.is_turn(number, TURN_IN_MS, now_ms());
        if let Some((number, contract)) = self.replica.unrouted()?
            && mine(number)
        {
            let place = self.chain.fact(&storage::contract(&contract)).await?;
            let record = self.chain.contract(&contract).await?;
            let mailbox = match record {
                Some(record) => Some(self.chain.fact(&storage::mailbox(record.cluster)).await?),
                None => None,
            };
            executed(self.replica.show_route(number, contract, place, mailbox, now_ms())?).await;
        }
        // Where there is one cluster only, nobody writes to it.
        let head = self.chain.head().0;
        if head != *looked && !self.replica.has_mailbox()? && mine(0) {
            match self.chain.clusters().await? {
                0 | 1 => *looked = head,
                _ => executed(self.replica.open_mailbox(now_ms())?).await,
            }
        }
        Ok(())
    }

    /// The chain's messages from a number on, as many as one command takes.
    async fn letters(&self, from: u64, until: u64) -> Result<Vec<Inbound>, Coded> {
        let mut batch = self.replica.batch(MAX_BYTES)?;
        for number in from..until {
            let letter: Option<Letter> = self.chain.read(&storage::letter(self.cluster, number)).await?;
            if !letter.is_some_and(|letter| batch.push(letter.message)) {
                break;
            }
        }
        Ok(batch.messages)
    }

    /// Brings the chain what the cluster has for it.
    async fn outward(&self) -> Result<(), Coded> {
        let record = self.record().await?;
        let traffic = self.replica.traffic();
        let untold = traffic.inbox.next.saturating_sub(record.taken) >= UNTOLD;
        if traffic.outbox.next <= record.outbox.next && !untold {
            return Ok(());
        }
        self.replica.announce(&record);
        if !self.replica.is_turn(record.outbox.next, TURN_OUT_MS, now_ms()) {
            return Ok(());
        }
        let Some(delivery) = self.replica.delivery(&record, MAX_BYTES)? else { return Ok(()) };
        if delivery.messages.is_empty() && !untold {
            // The entry that vouches for the newest messages is still to come.
            return Ok(());
        }
        let proof = (&delivery.header, &delivery.finality).encode();
        let call = Call::deliver(self.cluster, &proof, &delivery.messages, &delivery.rest);
        let submitted = self.chain.submit(&self.account, &call).await;
        // Whatever came of it, the chain has gone on.
        *self.known.lock() = None;
        submitted?;
        tracing::info!(cluster = self.cluster, messages = delivery.messages.len(), "delivered to the chain");
        Ok(())
    }
}

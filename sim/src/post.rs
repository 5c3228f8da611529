//! Letters between contracts of two clusters: clients have contracts write, and someone at each cluster carries what
//! goes in and out by the chain, as workers do it.

use crate::{
    account::Account,
    audit,
    chain::{Chain, Stuck, stuck},
    clients::Office,
    history::Event,
    run,
    served::Served,
};
use codec::{DecodeAll, Encode};
use phala_node::Node;
use phala_primitives::{
    bridge::{BridgeRecord, Letter},
    records::ContractRecord,
    storage,
};
use phala_replica::Replica;
use phala_runtime::RuntimeCall;
use phala_session::{Action, Answer, Freshness, Query};
use std::sync::{Arc, atomic::Ordering};

/// A contract that writes, and sees whether what it gets comes once and in order.
const SOURCE: &str = include_str!("letters.wat");
/// How often someone looks whether there is something to carry, in milliseconds.
const LOOK_MS: u64 = 200;
/// Turns of members, into the cluster and out of it, in milliseconds.
const TURN_IN_MS: u64 = 1_000;
const TURN_OUT_MS: u64 = 2_000;
/// Most bytes that are carried at once.
const MAX_BYTES: usize = 16 << 10;

impl Office {
    /// Both clusters, each with the contract of it that writes to the other's.
    fn ends(&self) -> Vec<(Arc<Served>, usize)> {
        [Some(self.served.clone()), self.neighbour.clone()].into_iter().flatten().zip(0..).collect()
    }

    /// Puts the contracts there that write, and waits until both clusters can get letters: what is sent before goes back.
    pub(crate) async fn found_post(self: &Arc<Self>) -> Result<(), Stuck> {
        let ends = self.ends();
        if ends.len() < 2 {
            return Ok(());
        }
        for (served, end) in &ends {
            let code = wat::parse_str(SOURCE).map_err(stuck)?;
            let contract = run::place(self, served, "the contract that writes", code, vec![]).await?;
            self.writers.lock()[*end] = contract;
            self.sim.spawn(self.clone().carry(served.clone(), Self::CARRIER + end));
        }
        let open = |node: &Node| {
            let mut ids = ends.iter().map(|(served, _)| served.id);
            ids.all(|id| Chain::read::<[u8; 32]>(node, &storage::mailbox(id)).is_some()).then_some(())
        };
        self.chain.perform("the mailboxes", vec![], open).await
    }

    /// Someone who has a cluster's contract write to the other one, until all is quiet.
    pub(crate) async fn write(self: Arc<Self>, end: usize) {
        let Some((served, _)) = self.ends().into_iter().nth(end) else { return };
        while !self.quiet.load(Ordering::SeqCst) {
            let writers = *self.writers.lock();
            let data = [&[0xfe][..], &writers[1 - end].0].concat();
            let call = Action::Call { contract: writers[end], data };
            self.order(&served, self.command(&served, 0, call)).await;
            self.sim.sleep_ms(self.between(200, 1_200)).await;
        }
    }

    /// Carries what goes into a cluster and out of it, as long as the run lasts. The account signs what goes to the chain;
    /// nobody waits for anything.
    async fn carry(self: Arc<Self>, served: Arc<Served>, account: usize) {
        loop {
            for replica in served.members_now() {
                // One that is behind, or has just died: another's turn comes.
                drop(self.carry_once(&served, &replica, &self.accounts[account]));
            }
            self.sim.sleep_ms(self.between(LOOK_MS / 2, LOOK_MS * 2)).await;
        }
    }

    fn carry_once(&self, served: &Served, replica: &Replica, account: &Account) -> Result<(), Stuck> {
        let (now, id) = (self.sim.now_ms(), served.id);
        let node = self.chain.any().ok_or_else(|| stuck("no validator runs"))?;
        let record: BridgeRecord = Chain::read(&node, &storage::bridge(id)).unwrap_or_default();
        let traffic = replica.traffic();
        let mine = |number| replica.is_turn(number, TURN_IN_MS, now);
        if record.outbox.next > traffic.first && mine(traffic.first) {
            let proof = node.fact(&storage::bridge(id)).map_err(stuck)?;
            drop(replica.acknowledge(record.outbox.next, proof, now).map_err(stuck)?);
        }
        if record.inbox.next > traffic.inbox.next && mine(traffic.inbox.next) {
            let mut batch = replica.batch(MAX_BYTES).map_err(stuck)?;
            for number in traffic.inbox.next..record.inbox.next {
                let letter: Option<Letter> = Chain::read(&node, &storage::letter(id, number));
                if !letter.is_some_and(|letter| batch.push(letter.message)) {
                    break;
                }
            }
            if let Some(last) = (batch.messages.len() as u64).checked_sub(1) {
                let proof = node.fact(&storage::letter(id, traffic.inbox.next + last)).map_err(stuck)?;
                drop(replica.bring(batch.messages, proof, now).map_err(stuck)?);
            }
        }
        if let Some((number, contract)) = replica.unrouted().map_err(stuck)?
            && mine(number)
        {
            let place = node.fact(&storage::contract(&contract)).map_err(stuck)?;
            let home: Option<ContractRecord> = Chain::read(&node, &storage::contract(&contract));
            let mailbox = home.map(|home| node.fact(&storage::mailbox(home.cluster)));
            let mailbox = mailbox.transpose().map_err(stuck)?;
            drop(replica.show_route(number, contract, place, mailbox, now).map_err(stuck)?);
        }
        if !replica.has_mailbox().map_err(stuck)? && mine(0) {
            drop(replica.open_mailbox(now).map_err(stuck)?);
        }
        self.carry_out(&node, served, (replica, &record), account)
    }

    fn carry_out(
        &self,
        node: &Node,
        served: &Served,
        (replica, record): (&Replica, &BridgeRecord),
        account: &Account,
    ) -> Result<(), Stuck> {
        replica.announce(record);
        if !replica.is_turn(record.outbox.next, TURN_OUT_MS, self.sim.now_ms()) {
            return Ok(());
        }
        let Some(delivery) = replica.delivery(record, MAX_BYTES).map_err(stuck)? else { return Ok(()) };
        if delivery.messages.is_empty() {
            return Ok(());
        }
        let proof = (&delivery.header, &delivery.finality).encode();
        let (cluster, messages, rest) = (served.id, delivery.messages, delivery.rest);
        let call = RuntimeCall::Clusters(pallet_clusters::Call::deliver { cluster, proof, messages, rest });
        let (nonce, _) = audit::account(node, &account.id()).unwrap_or_default();
        let extrinsic = account.sign(&self.chain.genesis, nonce, call);
        // Whoever has it already refuses it; what is no news by then changes nothing.
        self.chain.live().iter().for_each(|node| drop(node.submit(&extrinsic)));
        Ok(())
    }

    /// What a cluster's contract has sent and got, by a replica's state.
    fn letters(&self, replica: &Replica, end: usize) -> Option<[u64; 3]> {
        let contract = self.writers.lock()[end];
        let query = Query { contract, data: vec![0; 4], value: 0, min_height: 0, freshness: Freshness::Any };
        let answer = replica.query(self.accounts[0].id(), [1; 16], &query, self.sim.now_ms());
        match answer {
            Ok(Answer::Query { output, .. }) => <[u64; 3]>::decode_all(&mut output.data.as_slice()).ok(),
            _ => None,
        }
    }

    /// Whether all letters have come, as far as members tell.
    pub(crate) fn all_delivered(&self) -> bool {
        let ends = self.ends();
        let told: Vec<Vec<_>> = ends
            .iter()
            .map(|(served, end)| served.members_now().iter().map(|replica| self.letters(replica, *end)).collect())
            .collect();
        let [here, there] = told.as_slice() else { return true };
        let come = |from: &[Option<[u64; 3]>], to: &[Option<[u64; 3]>]| {
            from.iter().all(|from| to.iter().all(|to| from.zip(*to).is_some_and(|(from, to)| from[0] == to[1])))
        };
        come(here, there) && come(there, here)
    }

    /// Tells the history what all members of both say of letters.
    pub(crate) fn count_letters(&self) -> Result<(), Stuck> {
        let ends = self.ends();
        if ends.len() < 2 {
            return Ok(());
        }
        for (served, end) in ends {
            for (replica, member) in served.all()?.iter().zip(0u32..) {
                let [sent, got, amiss] = self.letters(replica, end).ok_or_else(|| stuck("no word of letters"))?;
                self.see(Event::Letters { log: served.log(), member, sent, got, amiss });
            }
        }
        Ok(())
    }
}

//! What goes from one cluster to another: letters between contracts, and a contract that wanders. Clients have contracts
//! write and count, the deployer moves one, and someone at each cluster carries what goes in and out by the chain, and
//! fetches what comes, as workers do it.

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
    AccountId, ClusterId,
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
/// A contract that counts its calls.
const NOMAD: &str = include_str!("../../contracts/fixtures/mover.wat");
const COUNT: [u8; 4] = [1, 2, 3, 4];
/// How often a decision is submitted again, and how often at most.
const AGAIN_MS: u64 = 2_000;
const TRIES: usize = 20;
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
        let nomad = run::place(self, &self.served, "the nomad", wat::parse_str(NOMAD).map_err(stuck)?, vec![]).await?;
        self.nomad.lock().0 = nomad;
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

    /// What the chain says of the nomad, and whether a cluster has yet to let go of it.
    fn nomad(&self) -> Option<(ContractRecord, bool)> {
        let (contract, _) = *self.nomad.lock();
        let node = self.chain.any()?;
        let leaving: Option<(u32, u32)> = Chain::read(&node, &storage::leaving(&contract));
        Some((Chain::read(&node, &storage::contract(&contract))?, leaving.is_some()))
    }

    fn cluster(&self, id: ClusterId) -> Option<Arc<Served>> {
        self.ends().into_iter().map(|(served, _)| served).find(|served| served.id == id)
    }

    /// Someone who has the nomad count, wherever it is, until all is quiet.
    pub(crate) async fn count(self: Arc<Self>) {
        let contract = self.nomad.lock().0;
        while !self.quiet.load(Ordering::SeqCst) {
            let home = self.nomad().and_then(|(record, _)| self.cluster(record.cluster));
            if let Some(home) = home {
                let call = Action::Call { contract, data: COUNT.to_vec() };
                let (outcome, ..) = self.order(&home, self.command(&home, 1, call)).await;
                // What was refused was not done: it was on its way.
                if let Ok(output) = outcome.result {
                    let counted = u64::decode_all(&mut output.data.as_slice()).unwrap_or(0);
                    let acknowledged = {
                        let mut nomad = self.nomad.lock();
                        nomad.1 += 1;
                        nomad.1
                    };
                    self.see(Event::Counted { log: home.log(), acknowledged, counted });
                }
            }
            self.sim.sleep_ms(self.between(50, 400)).await;
        }
    }

    /// The deployer, who sends the nomad to the other cluster, and now and then calls it off, until all is quiet.
    pub(crate) async fn wander(self: Arc<Self>) {
        while !self.quiet.load(Ordering::SeqCst) {
            self.sim.sleep_ms(self.between(500, 3_000)).await;
            let Some((record, leaving)) = self.nomad() else { continue };
            match record.moving {
                None if !leaving => self.decide(Some(1 - record.cluster)).await,
                Some(_) if self.between(0, 5) == 0 => self.decide(None).await,
                _ => {}
            }
        }
    }

    async fn decide(&self, to: Option<ClusterId>) {
        let owner = &self.accounts[Self::OWNER];
        let nonce = |node: &Node| audit::account(node, &owner.id()).unwrap_or_default().0;
        let Some(node) = self.chain.any() else { return };
        let (address, next) = (self.nomad.lock().0, nonce(&node));
        drop(node);
        let call = RuntimeCall::Clusters(pallet_clusters::Call::move_contract { address, to });
        let extrinsic = owner.sign(&self.chain.genesis, next, call);
        for _ in 0..TRIES {
            // It may be in a block already, or another validator may have it.
            self.chain.live().iter().for_each(|node| drop(node.submit(&extrinsic)));
            self.sim.sleep_ms(AGAIN_MS).await;
            if self.chain.live().iter().any(|node| nonce(node) > next) {
                return;
            }
        }
    }

    /// Whether the nomad is where it is to be, and all there know what it counted.
    pub(crate) fn has_settled(&self) -> bool {
        if self.neighbour.is_none() {
            return true;
        }
        let Some((record, leaving)) = self.nomad() else { return false };
        let Some(home) = self.cluster(record.cluster) else { return false };
        let (contract, done) = *self.nomad.lock();
        let known = home.members_now().iter().all(|replica| self.counted(replica, contract) == Some(done));
        record.moving.is_none() && !leaving && known
    }

    fn counted(&self, replica: &Replica, contract: AccountId) -> Option<u64> {
        let query = Query { contract, data: b"\xfccall".to_vec(), value: 0, min_height: 0, freshness: Freshness::Any };
        match replica.query(self.accounts[0].id(), [1; 16], &query, self.sim.now_ms()) {
            Ok(Answer::Query { output, .. }) if output.data.is_empty() => Some(0),
            Ok(Answer::Query { output, .. }) => u64::decode_all(&mut output.data.as_slice()).ok(),
            _ => None,
        }
    }

    /// Fetches a part of a contract that comes to a cluster.
    fn fetch(&self, replica: &Replica, mine: impl Fn(u64) -> bool) -> Result<(), Stuck> {
        for coming in replica.coming().map_err(stuck)? {
            let source = self.cluster(coming.from).and_then(|served| served.any(&self.sim, None));
            if mine(coming.number.into())
                && let Some((_, source)) = source
                && let Ok(sealed) = source.part_of(&coming.contract, coming.number, coming.next)
            {
                drop(replica.bring_part(&coming, &sealed, self.sim.now_ms()).map_err(stuck)?);
            }
        }
        Ok(())
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
        self.fetch(replica, mine)?;
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

    /// Tells the history what all members of both say of letters, and those of the nomad's cluster of it.
    pub(crate) fn take_stock(&self) -> Result<(), Stuck> {
        let ends = self.ends();
        if ends.len() < 2 {
            return Ok(());
        }
        let home = self.nomad().and_then(|(record, _)| self.cluster(record.cluster));
        let home = home.ok_or_else(|| stuck("the nomad is nowhere"))?;
        let (contract, acknowledged) = *self.nomad.lock();
        for replica in home.all()? {
            let counted = self.counted(&replica, contract).ok_or_else(|| stuck("no word of the nomad"))?;
            self.see(Event::Counted { log: home.log(), acknowledged, counted });
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

//! Traffic with the chain and other clusters, as entries execute it: see [`crate::bridge`] and [`crate::parcels`].

use crate::{
    bridge::MAX_TAKEN,
    execute::{Executor, Stop, done, full, refused},
    layout::ROUTES,
    logs,
    money::after_withdrawal,
    parcels,
    world::Layer,
};
use codec::Encode;
use phala_primitives::{
    AccountId, Balance, ClusterId, Code, Coded, Fact,
    bridge::{BridgeRecord, Inbound, Letter, Order, Parcel, Undelivered},
    limits::CALL_GAS,
    records::ContractRecord,
    storage,
};
use phala_session::Outcome;
use phala_vm::{BlockInfo, Entry, Invocation, Mode};
use std::{collections::BTreeMap, sync::Arc};

/// Gas that a message between chain and cluster counts for: some values of the state are read and written.
const MESSAGE_GAS: u64 = 300_000;

impl Executor {
    /// Takes the next messages of the chain, unless another member has brought them before.
    pub(crate) fn inbox(
        &self,
        layer: &Arc<Layer>,
        block: BlockInfo,
        messages: &[Inbound],
        proof: &Fact,
    ) -> Result<Outcome, Stop> {
        let Some((last, before)) = messages.split_last() else { return Err(refused(Code::Malformed, "no messages")) };
        if messages.len() > MAX_TAKEN || before.iter().any(Inbound::is_call) {
            return Err(refused(Code::Malformed, "too many messages, or a call that is not the last"));
        }
        let mut traffic = *self.traffic();
        if matches!(last, Inbound::Parcel { .. }) && !traffic.can_return(parcels::queued(layer)?) {
            return Err(refused(Code::OutboxFull, "a message that fails could not go back"));
        }
        let number = traffic.inbox.next.saturating_add(before.len() as u64);
        let letter: Option<Letter> = self.fact(proof, &storage::letter(self.cluster, number))?;
        let inbox = letter.and_then(|letter| traffic.follow(messages, &letter));
        let inbox = inbox.ok_or_else(|| refused(Code::BadProof, "the chain's messages are others"))?;
        let mut amounts = 0 as Balance;
        for message in messages {
            let (to, amount) = message.money();
            layer.credit(to, amount)?;
            amounts = amounts.saturating_add(amount);
            if let Inbound::SentBack { to, number, why, .. } = message {
                if let Undelivered::Moving { contract } = why {
                    // Where it is now, the chain is asked for the next message.
                    layer.set(&ROUTES, contract.as_ref().to_vec(), None);
                }
                let (level, text) = parcels::news(*number, *why);
                logs::line(layer, to, block, level, text)?;
            }
        }
        traffic.took(layer, inbox, amounts);
        *self.traffic() = traffic;
        for message in messages {
            self.moves(layer, block, message)?;
        }
        let mut gas = MESSAGE_GAS.saturating_mul(messages.len() as u64);
        let text = |why: &Coded, from: &AccountId| format!("message {number} of the chain, by {from}, failed: {why}");
        match last {
            Inbound::Call { from, contract, value, data } => {
                let call = self.call(block, *from, *contract, *value, data.clone());
                gas = gas.saturating_add(self.report(layer, call, |why| text(why, from))?.gas_used);
            }
            Inbound::Parcel { cluster, number: parcels, from, parcel } => {
                let said = |why: &Coded| text(why, from);
                gas = gas.saturating_add(self.parcel(layer, block, (*cluster, *parcels), from, parcel, said)?);
            }
            Inbound::Event { contract, selector, kind, block: number, missed, data } => {
                let arguments = (kind, number, missed, data).encode();
                let called = self.on_behalf(layer, block, *contract, (*selector, CALL_GAS), &arguments)?;
                gas = gas.saturating_add(called.map_or(0, |outcome| outcome.gas_used));
            }
            _ => {}
        }
        Ok(done(gas))
    }

    /// A call by a message of the chain.
    fn call(
        &self,
        block: BlockInfo,
        from: AccountId,
        contract: AccountId,
        value: Balance,
        data: Vec<u8>,
    ) -> Invocation {
        Invocation {
            mode: Mode::Command { gas_limit: CALL_GAS },
            entry: Entry::Call,
            contract,
            caller: from,
            origin: from,
            value,
            data,
            block,
            cluster: self.cluster,
        }
    }

    /// Executes a message of another contract, whose money is its sender's in the ledger. If it has no effect, that
    /// money goes back. Returns the gas used.
    fn parcel(
        &self,
        layer: &Arc<Layer>,
        block: BlockInfo,
        (source, number): (ClusterId, u64),
        from: &AccountId,
        parcel: &Parcel,
        said: impl FnOnce(&Coded) -> String,
    ) -> Result<u64, Coded> {
        let opened = self.post.unseal(source, number, from, parcel);
        let (gas, why) = match opened {
            // Only a cluster that is broken as a whole sends what is sealed to nobody here.
            Err(_) => (0, Undelivered::Failed),
            Ok(input) => {
                let call = self.call(block, *from, parcel.contract, parcel.value, input);
                let outcome = self.report(layer, call, said)?;
                match &outcome.result {
                    Ok(output) if !output.reverted() => {
                        self.give_change(layer, (source, number), from)?;
                        return Ok(outcome.gas_used);
                    }
                    Err(error) if error.known() == Some(Code::NoContract) => {
                        (outcome.gas_used, Undelivered::NoContract)
                    }
                    Err(error) if matches!(error.known(), Some(Code::ContractMoving | Code::ContractMoved)) => {
                        (outcome.gas_used, Undelivered::Moving { contract: parcel.contract })
                    }
                    _ => (outcome.gas_used, Undelivered::Failed),
                }
            }
        };
        let lost = || Coded::new(Code::Internal, "the state has lost the money of a message");
        let left = layer.owned(from)?.checked_sub(parcel.value).ok_or_else(lost)?;
        layer.set_owned(from, left);
        let back = Order::SendBack { cluster: source, to: *from, amount: parcel.value, number, why };
        // It counts as its sender's, not as that of a contract which did not want it.
        self.traffic().send(layer, *from, back)?;
        Ok(gas)
    }

    /// Sends home what a contract of another cluster owns here: it has no way to it.
    fn give_change(&self, layer: &Layer, (source, number): (ClusterId, u64), from: &AccountId) -> Result<(), Coded> {
        let amount = layer.owned(from)?;
        if amount > 0 && source != self.cluster {
            layer.set_owned(from, 0);
            let why = Undelivered::Change;
            self.traffic().send(layer, *from, Order::SendBack { cluster: source, to: *from, amount, number, why })?;
        }
        Ok(())
    }

    /// Learns from the chain where the contract is for which messages wait.
    pub(crate) fn route(
        &self,
        layer: &Layer,
        block: BlockInfo,
        contract: &AccountId,
        place: &Fact,
        mailbox: Option<&Fact>,
    ) -> Result<Outcome, Stop> {
        let (record, placed_ms): (Option<ContractRecord>, u64) =
            self.dated_fact(place, &storage::contract(contract))?;
        let home = record.map(|record| record.cluster);
        let (key, known_ms) = match (home, mailbox) {
            (Some(cluster), Some(fact)) => {
                let (key, time_ms) = self.dated_fact(fact, &storage::mailbox(cluster))?;
                (Some(key), time_ms.min(placed_ms))
            }
            _ => (None, placed_ms),
        };
        self.post.learn(layer, &mut self.traffic(), block, contract, (home, key, known_ms))?;
        Ok(done(MESSAGE_GAS))
    }

    /// Has the chain publish the key for parcels to this cluster.
    pub(crate) fn open_mailbox(&self, layer: &Layer) -> Result<Outcome, Stop> {
        self.post.open(layer, &mut self.traffic())?;
        Ok(done(MESSAGE_GAS))
    }

    /// Pays money of an account out to the chain.
    pub(crate) fn withdraw(
        &self,
        layer: &Layer,
        account: AccountId,
        to: AccountId,
        amount: Balance,
    ) -> Result<Outcome, Stop> {
        let mut traffic = self.traffic();
        let left = after_withdrawal(layer.owned(&account)?, amount).map_err(Stop::Refused)?;
        traffic.has_room(layer, &BTreeMap::from([(account, 1)])).map_err(full)?;
        layer.set_owned(&account, left);
        traffic.send(layer, account, Order::Withdraw { to, amount })?;
        Ok(done(MESSAGE_GAS))
    }

    /// Forgets what the chain proves to have delivered.
    pub(crate) fn acknowledge(&self, layer: &Layer, proof: &Fact) -> Result<Outcome, Stop> {
        let record: Option<BridgeRecord> = self.fact(proof, &storage::bridge(self.cluster))?;
        let record = record.ok_or_else(|| refused(Code::BadProof, "the chain has delivered nothing"))?;
        self.traffic().forget(layer, &record)?;
        Ok(done(MESSAGE_GAS))
    }
}

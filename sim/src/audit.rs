//! What the chain's state and blocks tell at the end of a run.

use crate::{
    chain::{Stuck, stuck},
    history::Event,
    plan::Log,
};
use codec::DecodeAll;
use frame_system::{AccountInfo, EventRecord};
use pallet_balances::AccountData;
use pallet_transaction_payment::Event as Payment;
use phala_node::{Backend, Node};
use phala_primitives::{AccountId, Hash, blake2_256};
use phala_runtime::{Balance, RuntimeEvent};
use sp_core::H256;
use sp_crypto_hashing::{blake2_128, twox_128};
use std::collections::BTreeMap;

fn key(pallet: &str, item: &str) -> Vec<u8> {
    [twox_128(pallet.as_bytes()), twox_128(item.as_bytes())].concat()
}

fn account_key(account: &[u8; 32]) -> Vec<u8> {
    [key("System", "Account"), blake2_128(account).to_vec(), account.to_vec()].concat()
}

/// Nonce and balance of an account in a node's final state, what is held included.
pub(crate) fn account(node: &Node, account: &AccountId) -> Option<(u32, u128)> {
    let bytes = node.storage(&node.head().hash, &account_key(&account.0)).ok().flatten()?;
    let info = AccountInfo::<u32, AccountData<Balance>>::decode_all(&mut bytes.as_slice()).ok()?;
    Some((info.nonce, info.data.free + info.data.reserved))
}

/// Everything about one validator's ledger. `accounts` are all that ever had anything; `transfers` the extrinsics that
/// clients made, by their number.
pub(crate) fn audit(
    node: &Node,
    member: u32,
    accounts: &[AccountId],
    transfers: &[Vec<u8>],
) -> Result<Vec<Event>, Stuck> {
    let log = Log::Chain;
    let (mut fees, mut times) = (BTreeMap::<u32, u128>::new(), vec![0u32; transfers.len()]);
    let numbers: BTreeMap<Hash, usize> = transfers.iter().map(|bytes| blake2_256(bytes)).zip(0..).collect();
    let number_of: BTreeMap<_, _> = accounts.iter().map(|account| account.0).zip(0u32..).collect();
    for height in 1..=node.head().number {
        let hash = node.block_hash(height).map_err(stuck)?.ok_or_else(|| stuck("a block is gone"))?;
        let body = node.body(&hash).map_err(stuck)?.ok_or_else(|| stuck("a body is gone"))?;
        // The first sets the time.
        if body.len() < 2 {
            continue;
        }
        for number in body.iter().filter_map(|bytes| numbers.get(&blake2_256(bytes))) {
            times[*number] += 1;
        }
        let events = Node::storage(node, &hash, &key("System", "Events")).map_err(stuck)?.unwrap_or_default();
        let events = Vec::<EventRecord<RuntimeEvent, H256>>::decode_all(&mut events.as_slice()).map_err(stuck)?;
        for record in events {
            if let RuntimeEvent::TransactionPayment(Payment::TransactionFeePaid { who, actual_fee, tip }) = record.event
                && let Some(account) = number_of.get::<[u8; 32]>(&who.into())
            {
                *fees.entry(*account).or_default() += actual_fee + tip;
            }
        }
    }
    let total = node.storage(&node.head().hash, &key("Balances", "TotalIssuance")).map_err(stuck)?;
    let total = u128::decode_all(&mut total.unwrap_or_default().as_slice()).map_err(stuck)?;
    let mut events = vec![Event::Supply { log, member, total }];
    for (one, number) in accounts.iter().zip(0u32..) {
        let (_, amount) = account(node, one).ok_or_else(|| stuck("an account is gone"))?;
        events.push(Event::Balance { log, member, account: number, amount });
        let amount = fees.get(&number).copied().unwrap_or(0);
        events.push(Event::Fees { log, member, account: number, amount });
    }
    for (times, number) in times.into_iter().zip(0u32..) {
        events.push(Event::Found { log, member, number, times, outcome: Hash::ZERO, moved: times > 0 });
    }
    Ok(events)
}

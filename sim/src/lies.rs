//! What a worker tells that makes up states and answers: signed by its own identity, and good in every other way.

use bytes::Bytes;
use codec::{DecodeAll, Encode};
use ed25519_dalek::SigningKey;
use phala_primitives::{Block, EntryHeader, Hash, blake2_256, misbehaviour::QueryClaim};
use phala_session::{Answer, Output, QueryReceipt};

/// Where the upper half of an amount begins in what the token returns.
const AMOUNT: usize = 9;

fn root(root: Hash) -> Hash {
    blake2_256(&("invented", root).encode())
}

/// An entry that names a state which nobody has.
pub(crate) fn block(block: &Block) -> Option<Block> {
    let mut header = EntryHeader::decode_all(&mut &*block.header).ok()?;
    header.executed.state_root = root(header.executed.state_root);
    Some(Block { header: Bytes::from(header.encode()), body: block.body.clone() })
}

fn output(output: &mut Output) {
    match output.data.get_mut(AMOUNT) {
        Some(byte) => *byte ^= 1,
        None => output.data.push(1),
    }
}

/// Another answer than the true one. `command` is the hash of what was commanded.
pub(crate) fn answer(answer: Answer, command: &Hash, genesis: &Hash, identity: &SigningKey) -> Answer {
    match answer {
        Answer::Query { output: mut told, receipt } => {
            output(&mut told);
            let (reply_hash, state_root) = (told.hash(), root(receipt.claim.state_root));
            let claim = QueryClaim { reply_hash, state_root, ..receipt.claim };
            Answer::Query { output: told, receipt: QueryReceipt::sign(claim, genesis, identity) }
        }
        Answer::Command { mut outcome, mut receipt } => {
            if let Ok(told) = &mut outcome.result {
                output(told);
            }
            outcome.gas_used += 1;
            receipt.outcome_hash = outcome.hash();
            receipt.state_root = root(receipt.state_root);
            Answer::Command { outcome, receipt: Box::new(receipt.sign(genesis, command, identity)) }
        }
        other => other,
    }
}

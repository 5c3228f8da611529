//! Commands that are more than one step, or need something of the chain.

use crate::cluster::{Cluster, Executed};
use phala_primitives::{
    AccountId, Balance, Code, Coded, Hash, blake2_256,
    limits::{MAX_COMMAND, PART},
    records, storage,
};
use phala_session::{Action, SystemRng, random_id};

/// Largest input that goes to the cluster in one command: what else is in it has some room.
const MAX_INPUT: usize = MAX_COMMAND - (16 << 10);

impl Cluster {
    /// Pays money of the account out of the cluster to an account of the chain. It arrives there some blocks later.
    ///
    /// Errors in the outcome: `TooLittle`, `Dust`, `OutboxFull`.
    pub async fn withdraw(&self, to: AccountId, amount: Balance) -> Result<Executed, Coded> {
        self.send(&self.sign(Action::Withdraw { to, amount }, 0)).await
    }

    /// Calls a contract and pays `value` along; `progress` is told how many bytes of the input are there. A large input
    /// goes in parts, each of which takes gas of its own; if that breaks off, it has to be begun anew.
    ///
    /// Errors: `TooLarge`. In the outcome, besides the contract's: `TooLittle`, `UploadLimit` if too many are under way.
    pub async fn call_with(
        &self,
        contract: AccountId,
        data: Vec<u8>,
        value: Balance,
        gas_limit: u64,
        progress: impl Fn(usize),
    ) -> Result<Executed, Coded> {
        let most = self.policy().message_bytes;
        if data.len() as u64 > most {
            return Err(Coded::new(Code::TooLarge, format!("{} bytes of input of at most {most}", data.len())));
        }
        if data.len() <= MAX_INPUT {
            return self.send(&self.sign_paying(Action::Call { contract, data }, value, gas_limit)).await;
        }
        let (input, size) = (random_id(&mut SystemRng), data.len() as u32);
        let parts = data.len().div_ceil(PART);
        let mut there = 0;
        for (part, bytes) in (0u32..).zip(data.chunks(PART).take(parts.saturating_sub(1))) {
            let action = Action::InputPart { input, size, part, bytes: bytes.to_vec() };
            let executed = self.send(&self.sign(action, gas_limit)).await?;
            if executed.outcome.result.is_err() {
                return Ok(executed);
            }
            there += bytes.len();
            progress(there);
        }
        let last = data.get(there..).unwrap_or_default().to_vec();
        let action = Action::CallInParts { contract, input, size, last };
        self.send(&self.sign_paying(action, value, gas_limit)).await
    }

    /// Gives the cluster code for which the chain holds a deposit.
    pub async fn upload(&self, code: Vec<u8>, gas_limit: u64) -> Result<Executed, Coded> {
        self.upload_with(code, gas_limit, |_| {}).await
    }

    /// The same; `progress` is told how many bytes are there. A large code goes in parts; if it breaks off, it goes on
    /// with the next try.
    pub async fn upload_with(
        &self,
        code: Vec<u8>,
        gas_limit: u64,
        progress: impl Fn(usize),
    ) -> Result<Executed, Coded> {
        let code_hash = blake2_256(&code);
        let proof = self.chain().fact(&storage::code(&code_hash)).await?;
        if code.len() <= PART {
            return self.send(&self.sign(Action::Upload { code, proof }, gas_limit)).await;
        }
        let (mut there, mut last) = (0, None);
        for (part, bytes) in (0u32..).zip(code.chunks(PART)) {
            let (bytes, proof) = (bytes.to_vec(), proof.clone());
            there += bytes.len();
            let action = Action::UploadPart { code_hash, part, bytes, proof };
            let executed = self.send(&self.sign(action, gas_limit)).await?;
            if executed.outcome.result.is_err() {
                return Ok(executed);
            }
            progress(there);
            last = Some(executed);
        }
        last.ok_or_else(|| Coded::new(Code::CodeTooLarge, "the code is empty"))
    }

    /// Creates a contract that the chain has placed in this cluster for this account. `data` is the constructor's
    /// selector and arguments.
    pub async fn instantiate(
        &self,
        code_hash: Hash,
        salt: Vec<u8>,
        data: Vec<u8>,
        value: Balance,
        gas_limit: u64,
    ) -> Result<Executed, Coded> {
        let contract = records::contract_address(&self.account(), self.id(), &code_hash, &salt);
        let proof = self.chain().fact(&storage::contract(&contract)).await?;
        let action = Action::Instantiate { contract, code_hash, salt, data, proof };
        self.send(&self.sign_paying(action, value, gas_limit)).await
    }

    /// Has a contract run the code that the chain names as its present one, which the cluster must hold.
    pub async fn upgrade(&self, contract: AccountId, code_hash: Hash, gas_limit: u64) -> Result<Executed, Coded> {
        let proof = self.chain().fact(&storage::contract(&contract)).await?;
        self.send(&self.sign(Action::Upgrade { contract, code_hash, proof }, gas_limit)).await
    }
}

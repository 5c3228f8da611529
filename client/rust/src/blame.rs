//! Brings to the chain what convicts a replica of having made up a result.
//!
//! Every receipt names the root of the state that was read, under the replica's signature. Later entries name roots that
//! a quorum has compared. So who vouched for another root than that has signed its own conviction: the receipt and such
//! an entry, which the chain judges by itself (`phala_primitives::misbehaviour`).

use crate::{
    Account, Call, Chain, Included,
    cluster::{Answered, Ask, Cluster, Executed},
};
use codec::Encode;
use phala_primitives::{
    AccountId, ClusterId, Code, Coded,
    misbehaviour::{Claim, Misbehaviour, WrongResult},
    storage,
};
use phala_session::Answer;

/// Entries above a state in which it may be named: see `phala_replica`.
const MAX_LAG: u64 = 64;
/// Most answers that are kept for [`Cluster::proofs`].
const SUSPECTS: usize = 16;

impl Cluster {
    /// Has [`Cluster::proofs`] look at these answers, too.
    pub fn suspect(&self, answers: Vec<Answered>) {
        let mut kept = self.contradicted.lock();
        kept.extend(answers);
        let over = kept.len().saturating_sub(SUSPECTS);
        kept.drain(..over);
    }

    /// What convicts those who gave answers that others contradicted, of all answers since this was asked last. Empty if
    /// none of them vouched for a wrong state: then the contradiction proves nothing. Those that could not be looked at,
    /// for the reason that is returned besides, are kept for the next time.
    pub async fn proofs(&self) -> (Vec<(AccountId, Misbehaviour)>, Option<Coded>) {
        let suspects = std::mem::take(&mut *self.contradicted.lock());
        let (mut proofs, mut failed) = (vec![], None);
        for answered in suspects {
            match self.blame(&answered).await {
                Ok(proof) => proofs.extend(proof.map(|proof| (answered.worker, proof))),
                Err(error) => {
                    failed = Some(error);
                    self.suspect(vec![answered]);
                }
            }
        }
        (proofs, failed)
    }

    /// What convicts the worker that gave this answer, if a quorum of its epoch has another state at the receipt's height.
    /// Entries name states only some time after they were reached, and not all of them.
    pub async fn blame(&self, answered: &Answered) -> Result<Option<Misbehaviour>, Coded> {
        let claim = Claim::Query(answered.receipt.claim.clone());
        self.contradiction(&answered.worker, claim, answered.receipt.signature).await
    }

    /// The same of a command with this hash.
    pub async fn blame_command(
        &self,
        executed: &Executed,
        command: &phala_primitives::Hash,
    ) -> Result<Option<Misbehaviour>, Coded> {
        let claim = Claim::Command(Box::new(executed.receipt.claim(command)));
        self.contradiction(&executed.worker, claim, executed.receipt.signature).await
    }

    async fn contradiction(
        &self,
        worker: &AccountId,
        claim: Claim,
        signature: [u8; 64],
    ) -> Result<Option<Misbehaviour>, Coded> {
        let (_, epoch, height) = claim.place();
        let members = self.chain().epoch(self.id(), epoch).await?.unwrap_or_default();
        // One that came later may answer for an entry of an older epoch; nothing is proven of it.
        let Some(member) = members.iter().find(|member| member.worker == *worker) else { return Ok(None) };
        for above in (height.saturating_add(1)..).take(MAX_LAG as usize) {
            let entry = match self.ask(Ask::Final(above)).await {
                Ok((_, Answer::Final(entry))) => entry,
                Ok(_) => return Ok(None),
                // Nobody has it yet, or has it any more.
                Err(error) if error.known() == Some(Code::NotReady) => return Ok(None),
                Err(error) => return Err(error),
            };
            let (header, finality) = *entry;
            if header.epoch != epoch || header.executed.height > height {
                return Ok(None);
            }
            if header.executed.height == height {
                let identity = member.identity;
                let result = WrongResult { identity, claim, signature, header, finality };
                let proof = Misbehaviour::Result(Box::new(result));
                let identities = self.members(epoch).await?;
                let proven = proof.verify(&self.chain().genesis(), self.id(), &identities).is_ok();
                return Ok(proven.then_some(proof));
            }
        }
        Ok(None)
    }
}

impl Chain {
    /// Has the chain convict a member of a cluster.
    ///
    /// Errors: `AlreadyConvicted`; `NothingProven` if the proof is none; those of [`Chain::submit`].
    pub async fn convict(
        &self,
        account: &Account,
        cluster: ClusterId,
        proof: &Misbehaviour,
    ) -> Result<Included, Coded> {
        let offence = proof.offence(cluster);
        if self.read::<u32>(&storage::offence(&offence)).await?.is_some() {
            return Err(Code::AlreadyConvicted.into());
        }
        let members = self.epoch(cluster, offence.epoch).await?.unwrap_or_default();
        let identities: Vec<_> = members.iter().map(|member| member.identity).collect();
        let proven = proof.verify(&self.genesis(), cluster, &identities);
        proven.map_err(|error| Coded::new(Code::NothingProven, error.to_string()))?;
        self.submit(account, &Call::convict(cluster, &proof.encode())).await
    }
}

//! The ledger: what accounts and contracts own in this cluster.
//!
//! Money comes in by messages of the chain and goes out by messages to it (see [`crate::bridge`]); in between,
//! contracts move it, and the engine sees to it that nothing is made or lost on the way. An account owns nothing or at
//! least `MIN_BALANCE`; one that owns nothing takes no room.
//!
//! Invariant: the sum of the ledger is what came in, less what went out.

use crate::{
    Replica,
    layout::{CONTRACTS, Contract, LEDGER, decode, read},
    world::Layer,
};
use phala_primitives::{
    AccountId, Balance, Code, Coded,
    limits::{MIN_BALANCE, MIN_WITHDRAWAL},
};
use phala_session::Answer;
use phala_state::Snapshot;

impl Layer {
    /// What an account owns.
    pub(crate) fn owned(&self, account: &AccountId) -> Result<Balance, Coded> {
        Ok(self.read(&LEDGER, account.as_ref())?.unwrap_or(0))
    }

    pub(crate) fn set_owned(&self, account: &AccountId, balance: Balance) {
        match balance {
            0 => self.set(&LEDGER, account.as_ref().to_vec(), None),
            _ => self.write(&LEDGER, account.as_ref(), &balance),
        }
    }

    /// Gives an account money that came into the cluster.
    pub(crate) fn credit(&self, account: &AccountId, amount: Balance) -> Result<(), Coded> {
        let owned = self.owned(account)?.checked_add(amount);
        let owned = owned.ok_or_else(|| Coded::new(Code::Internal, "more money than there can be"))?;
        self.set_owned(account, owned);
        Ok(())
    }
}

/// What an account that owns `owned` has left when `amount` leaves the cluster.
///
/// Errors: `TooLittle`, `Dust`.
pub(crate) fn after_withdrawal(owned: Balance, amount: Balance) -> Result<Balance, Coded> {
    if amount < MIN_WITHDRAWAL {
        return Err(Coded::new(Code::Dust, format!("{amount} of at least {MIN_WITHDRAWAL} units")));
    }
    let Some(left) = owned.checked_sub(amount) else {
        return Err(Coded::new(Code::TooLittle, format!("{owned} units of {amount}")));
    };
    match left == 0 || left >= MIN_BALANCE {
        true => Ok(left),
        false => Err(Coded::new(Code::Dust, format!("{left} units would be left"))),
    }
}

/// Sum of a ledger of at most `limit` accounts.
fn sum(snapshot: &Snapshot, limit: usize) -> Result<Balance, Coded> {
    let values = snapshot.values(&LEDGER, limit)?;
    values.iter().try_fold(0, |sum: Balance, bytes| Ok(sum.saturating_add(decode(bytes)?)))
}

impl Replica {
    /// What `account` owns, asked by `who`: the account itself, or the owner of the contract that it is.
    ///
    /// Errors: `BalanceDenied`.
    pub fn balance(&self, who: &AccountId, account: &AccountId) -> Result<Answer, Coded> {
        self.ready_epoch()?;
        let snapshot = self.state.snapshot();
        if who != account {
            let contract: Option<Contract> = read(&snapshot, &CONTRACTS, account.as_ref())?;
            if contract.is_none_or(|contract| contract.owner != *who) {
                return Err(Coded::new(Code::BalanceDenied, account.to_string()));
            }
        }
        Ok(Answer::Balance(read(&snapshot, &LEDGER, account.as_ref())?.unwrap_or(0)))
    }

    /// Sum of what at most `limit` accounts own. For tests and simulations: it reads all of them.
    pub fn ledger_sum(&self, limit: usize) -> Result<Balance, Coded> {
        sum(&self.state.snapshot(), limit)
    }
}

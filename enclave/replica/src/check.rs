//! Checks of commands, each made once: a command is seen when it arrives, when it is proposed and when it is voted on,
//! and its signatures do not change in between.

use crate::hooks;
use lru::LruCache;
use parking_lot::{Mutex, RwLock};
use phala_primitives::{AccountId, ClusterId, Code, Coded, Hash, PublicKey, limits::MAX_COMMAND_LIFE_MS};
use phala_session::{Action, CertificateCache, CommandId, SignedCommand};
use std::{num::NonZeroUsize, sync::Arc};

/// Commands whose signatures are remembered as good.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(1 << 15).unwrap();

/// What names a command: within an account no two have the same id.
pub(crate) type Key = (AccountId, CommandId);

pub(crate) fn key(command: &SignedCommand) -> Key {
    match &command.command.action {
        Action::Hook { contract, .. } => (hooks::account(contract), command.command.id),
        _ => (*command.account(), command.command.id),
    }
}

/// Whether two commands of one key may differ: members sign the same HTTP request each for itself.
pub(crate) fn is_hook(command: &SignedCommand) -> bool {
    matches!(command.command.action, Action::Hook { .. })
}

/// Checks signatures, network, cluster, scope, size and deadline of commands.
pub(crate) struct Checker {
    genesis: Hash,
    cluster: ClusterId,
    certificates: Arc<CertificateCache>,
    good: Mutex<LruCache<Hash, ()>>,
    /// Identities of the epoch's members.
    members: RwLock<Vec<PublicKey>>,
}

impl Checker {
    pub(crate) fn new(genesis: Hash, cluster: ClusterId, certificates: Arc<CertificateCache>) -> Self {
        Self { genesis, cluster, certificates, good: Mutex::new(LruCache::new(REMEMBERED)), members: RwLock::default() }
    }

    /// Sets whose word counts for what came of requests.
    pub(crate) fn set_members(&self, members: &[PublicKey]) {
        *self.members.write() = members.to_vec();
    }

    /// Checks a command, whose hash is given, at a time. Gives the same answer as [`SignedCommand::verify`], and
    /// refuses what only members may send.
    pub(crate) fn check(&self, command: &SignedCommand, hash: &Hash, time_ms: u64) -> Result<(), Coded> {
        let members_only = matches!(command.command.action, Action::Deliver { .. } | Action::Hook { .. });
        if members_only && !self.members.read().contains(&command.account().0) {
            return Err(Coded::new(Code::NotMember, "only members bring what comes from outside"));
        }
        if self.good.lock().get(hash).is_some() && in_time(command, time_ms) {
            return Ok(());
        }
        command.verify(&self.certificates, &self.genesis, self.cluster, time_ms)?;
        self.good.lock().put(*hash, ());
        Ok(())
    }
}

/// All that time decides about a command.
fn in_time(command: &SignedCommand, time_ms: u64) -> bool {
    let (deadline, certificate) = (command.command.deadline_ms, &command.certificate.body);
    (certificate.not_before_ms..certificate.not_after_ms).contains(&time_ms)
        && deadline.checked_sub(time_ms).is_some_and(|left| left > 0 && left <= MAX_COMMAND_LIFE_MS)
}

/// The error of a command whose id its account has used for another.
pub(crate) fn id_taken() -> Coded {
    Coded::new(Code::Replayed, "the account has used this command id for another command")
}

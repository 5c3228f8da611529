//! The pool by itself.

use super::cluster::*;
use crate::pool::{MAX_POOL_PER_ACCOUNT, Pool};
use phala_primitives::{AccountId, Code};
use phala_session::{Action, SignedCommand};
use std::collections::BTreeSet;

fn command(user: &User, id: u16) -> SignedCommand {
    let action = Action::Call { contract: AccountId([1; 32]), data: vec![] };
    let mut command = user.command(0, action, 0, START_MS + 1000);
    command.command.id[..2].copy_from_slice(&id.to_be_bytes());
    command
}

fn insert(pool: &mut Pool, command: SignedCommand) -> Result<bool, Code> {
    let hash = command.hash();
    pool.insert(command, hash, START_MS).map_err(|error| error.known().unwrap())
}

#[test]
fn accounts_take_turns_and_are_bounded() {
    let (greedy, modest) = (User::new(1), User::new(2));
    let mut pool = Pool::default();
    for id in 0..MAX_POOL_PER_ACCOUNT as u16 {
        assert_eq!(insert(&mut pool, command(&greedy, id)), Ok(true));
    }
    assert_eq!(insert(&mut pool, command(&greedy, 0)), Ok(false));
    assert_eq!(insert(&mut pool, command(&greedy, 9999)), Err(Code::QueueFull));
    for id in 0..3 {
        assert_eq!(insert(&mut pool, command(&modest, id)), Ok(true));
    }
    let nothing = BTreeSet::new();
    let first: Vec<_> = pool.waiting(&nothing).take(8).map(|(key, _)| key.0 == modest.id()).collect();
    assert_eq!(first.iter().filter(|own| **own).count(), 3, "{first:?}");
    let ids: Vec<_> = pool.waiting(&nothing).filter(|(key, _)| key.0 == greedy.id()).map(|(key, _)| key.1).collect();
    assert!(ids.is_sorted(), "an account's commands keep their order");
}

#[test]
fn what_is_over_leaves_and_tells_who_waits() {
    let user = User::new(1);
    let mut pool = Pool::default();
    insert(&mut pool, command(&user, 1)).unwrap();
    let mut tickets: Vec<_> =
        (0..8).map(|_| pool.ticket(&(user.id(), command(&user, 1).command.id)).unwrap()).collect();
    assert!(pool.ticket(&(user.id(), command(&user, 1).command.id)).is_err());
    pool.expire(START_MS + 2000);
    assert_eq!(pool.len(), 1);
    pool.expire(START_MS + 7000);
    assert_eq!(pool.len(), 0);
    assert!(tickets.iter_mut().all(|ticket| ticket.try_recv().unwrap().unwrap().is_err()));
    assert_eq!(insert(&mut pool, command(&user, 1)), Ok(true));
}

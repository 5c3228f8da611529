use super::*;
use phala_primitives::blake2_256;

fn account(index: u8) -> AccountId {
    AccountId::new([index; 32])
}

fn entry(who: u8, nonce: u32, priority: u64) -> Candidate {
    let bytes = Bytes::from(vec![who, nonce as u8, priority as u8, 0]);
    Candidate { hash: blake2_256(&bytes), bytes, account: account(who), nonce, priority, until: u32::MAX, arrival: 0 }
}

fn pool(count: usize, bytes: usize, per_account: usize) -> Pool {
    Pool::new(PoolLimits { count, bytes, per_account })
}

fn nonces(pool: &Pool) -> Vec<Vec<u32>> {
    pool.queues().iter().map(|queue| queue.iter().map(|entry| entry.nonce).collect()).collect()
}

#[test]
fn what_follows_a_gap_waits_until_the_gap_is_filled() {
    let mut pool = pool(10, 1000, 10);
    pool.insert(entry(1, 7, 1), 5).unwrap();
    assert!(!pool.has_ready());
    assert_eq!(pool.next_nonce(&account(1), 5), 5);
    let mut watcher = pool.watch(&entry(1, 7, 1).hash);
    assert_eq!(watcher.try_recv(), Ok(ExtrinsicStatus::Future));
    pool.insert(entry(1, 5, 1), 5).unwrap();
    assert_eq!(nonces(&pool), [[5]]);
    pool.insert(entry(1, 6, 1), 5).unwrap();
    assert_eq!(nonces(&pool), [[5, 6, 7]]);
    assert_eq!(watcher.try_recv(), Ok(ExtrinsicStatus::Ready));
    assert_eq!(pool.next_nonce(&account(1), 5), 8);
    pool.invalid(&entry(1, 6, 1).hash, "bad", 1);
    assert_eq!(nonces(&pool), [[5]]);
    assert_eq!((pool.ready, pool.next_nonce(&account(1), 5)), (1, 6));
}

#[test]
fn the_same_nonce_is_replaced_by_a_tenth_more() {
    let mut pool = pool(10, 1000, 1);
    pool.insert(entry(1, 0, 100), 0).unwrap();
    assert_eq!(pool.insert(entry(1, 0, 110), 0).unwrap_err().known(), Some(Code::BadExtrinsic));
    let mut watcher = pool.watch(&entry(1, 0, 100).hash);
    pool.insert(entry(1, 0, 111), 0).unwrap();
    assert!(!pool.contains(&entry(1, 0, 100).hash) && pool.has_ready());
    assert_eq!(watcher.try_recv(), Ok(ExtrinsicStatus::Ready));
    assert!(matches!(watcher.try_recv(), Ok(ExtrinsicStatus::Dropped(_))));
    assert_eq!(pool.bytes, 4);
}

#[test]
fn a_full_pool_lets_the_worst_go_and_refuses_what_is_no_better() {
    let full = |result: Result<(), Coded>| assert_eq!(result.unwrap_err().known(), Some(Code::PoolFull));
    let mut small = pool(3, 1000, 2);
    small.insert(entry(1, 0, 5), 0).unwrap();
    small.insert(entry(1, 1, 9), 0).unwrap();
    full(small.insert(entry(1, 2, 9), 0));
    small.insert(entry(2, 3, 9), 0).unwrap();
    // The future one goes before the ready one of lower priority, and never the first of two.
    small.insert(entry(3, 0, 1), 0).unwrap();
    assert!(!small.contains(&entry(2, 3, 9).hash));
    full(small.insert(entry(4, 0, 1), 0));
    small.insert(entry(4, 0, 2), 0).unwrap();
    assert!(!small.contains(&entry(3, 0, 1).hash));
    assert_eq!(nonces(&small), [vec![0, 1], vec![0]]);

    let mut narrow = pool(10, 9, 10);
    narrow.insert(entry(1, 0, 5), 0).unwrap();
    narrow.insert(entry(2, 0, 5), 0).unwrap();
    full(narrow.insert(entry(3, 0, 5), 0));
    full(pool(10, 3, 10).insert(entry(1, 0, 5), 0));
}

#[test]
fn a_final_block_takes_out_what_it_holds_and_what_it_outdates() {
    let mut pool = pool(10, 1000, 10);
    for nonce in 0..3 {
        pool.insert(entry(1, nonce, 1), 0).unwrap();
    }
    pool.insert(Candidate { until: 9, ..entry(2, 0, 1) }, 0).unwrap();
    let mut included = pool.watch(&entry(1, 0, 1).hash);
    let mut outdated = pool.watch(&entry(1, 1, 1).hash);
    let block = blake2_256(b"block");
    pool.in_block(8, [entry(1, 0, 1).hash, entry(1, 1, 1).hash, entry(1, 2, 1).hash, block].into_iter());
    assert!(pool.has_ready());
    let other = blake2_256(b"another extrinsic with nonce 1");
    pool.finalized(8, block, &[(1, entry(1, 0, 1).hash, account(1), 0), (2, other, account(1), 1)]);
    assert_eq!(included.blocking_recv(), Some(ExtrinsicStatus::Ready));
    assert_eq!(included.blocking_recv(), Some(ExtrinsicStatus::Finalized { block, index: 1 }));
    assert_eq!(included.blocking_recv(), None);
    outdated.blocking_recv();
    assert!(matches!(outdated.blocking_recv(), Some(ExtrinsicStatus::Invalid(_))));
    assert_eq!(nonces(&pool), [[2], [0]]);
    pool.finalized(9, block, &[]);
    assert_eq!(nonces(&pool), [[2]]);
    assert_eq!((pool.ready, pool.bytes, pool.expiries.len(), pool.hashes.len()), (1, 4, 1, 1));
}

#[test]
fn the_invalid_is_banned_for_a_while() {
    let mut pool = pool(10, 1000, 10);
    let bad = entry(1, 0, 1).hash;
    pool.insert(entry(1, 0, 1), 0).unwrap();
    pool.invalid(&bad, "bad", 10);
    assert!(pool.banned(&bad) && !pool.contains(&bad) && pool.accounts.is_empty());
    pool.finalized(10 + BAN_BLOCKS, bad, &[]);
    assert!(!pool.banned(&bad));
}

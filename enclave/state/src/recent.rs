//! What was committed and does not lie on the disk yet. It is kept in memory in every version, so that readers of an
//! older state find theirs while newer ones are added.

use crate::{Path, Space, place::Place, row::Bytes};
use crossbeam_skiplist::SkipMap;
use std::{
    cmp::{Ordering, Reverse},
    iter,
    ops::Bound,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// What one entry of a map takes besides its content: the map's node with key and version, by estimate.
const OVERHEAD: usize = 128;

/// What an entry of [`Recent`] takes in memory, in bytes.
pub(crate) fn size(content: Option<&[u8]>) -> usize {
    OVERHEAD + content.map_or(0, <[u8]>::len)
}

/// Values by key, each in the versions that commits gave to it; `None` where one took it away. Commits are numbered from
/// 1 in the order in which they were made.
pub(crate) struct Versions<K, V>(SkipMap<(K, Reverse<u64>), Option<V>>);

impl<K, V> Default for Versions<K, V> {
    fn default() -> Self {
        Self(SkipMap::new())
    }
}

impl<K: Ord + Copy + Send + 'static, V: Clone + Send + 'static> Versions<K, V> {
    pub(crate) fn put(&self, commit: u64, key: K, value: Option<V>) {
        self.0.insert((key, Reverse(commit)), value);
    }

    /// What a key has after a commit; `None` if nothing here says so.
    pub(crate) fn get(&self, commit: u64, key: &K) -> Option<Option<V>> {
        let entry = self.0.lower_bound(Bound::Included(&(*key, Reverse(commit))))?;
        (entry.key().0 == *key).then(|| entry.value().clone())
    }

    /// What keys have after a commit, in their order.
    pub(crate) fn range(&self, commit: u64, (first, last): (Bound<K>, K)) -> impl Iterator<Item = (K, Option<V>)> {
        let first = match first {
            Bound::Included(key) => Bound::Included((key, Reverse(u64::MAX))),
            Bound::Excluded(key) => Bound::Excluded((key, Reverse(0))),
            Bound::Unbounded => Bound::Unbounded,
        };
        newest(commit, self.0.range((first, Bound::Included((last, Reverse(0))))))
    }

    /// What all keys have after a commit, in their order.
    pub(crate) fn all(&self, commit: u64) -> impl Iterator<Item = (K, Option<V>)> {
        newest(commit, self.0.iter())
    }
}

type Entry<'a, K, V> = crossbeam_skiplist::map::Entry<'a, (K, Reverse<u64>), Option<V>>;

fn newest<'a, K: Ord + Copy + 'a, V: Clone + 'a>(
    commit: u64,
    entries: impl Iterator<Item = Entry<'a, K, V>>,
) -> impl Iterator<Item = (K, Option<V>)> {
    let mut last = None;
    entries.filter_map(move |entry| {
        let (key, Reverse(version)) = *entry.key();
        if version > commit || last == Some(key) {
            return None;
        }
        last = Some(key);
        Some((key, entry.value().clone()))
    })
}

/// The commits since the disk was written.
#[derive(Default)]
pub(crate) struct Recent {
    /// Rows by path.
    pub(crate) values: Versions<Path, Bytes>,
    /// The same by space and path: see [`Recent::rows_of`].
    pub(crate) spaces: Versions<(Space, Path), Bytes>,
    /// Nodes of the tree.
    pub(crate) nodes: Versions<Place, Bytes>,
    /// Roots by height.
    pub(crate) roots: Versions<u64, [u8; 32]>,
    size: AtomicUsize,
}

impl Recent {
    /// Rows of a space by path.
    pub(crate) fn rows_of(
        &self,
        commit: u64,
        range: (Bound<(Space, Path)>, (Space, Path)),
    ) -> impl Iterator<Item = (Path, Option<Bytes>)> {
        self.spaces.range(commit, range).map(|((_, path), row)| (path, row))
    }

    /// Counts an entry.
    pub(crate) fn grow(&self, content: Option<&[u8]>) {
        self.size.fetch_add(size(content), Relaxed);
    }

    /// Counts so many bytes no more.
    pub(crate) fn shrink(&self, size: usize) {
        self.size.fetch_sub(size.min(self.size()), Relaxed);
    }

    /// Memory that it takes, by estimate, in bytes, without what is written to the disk already.
    pub(crate) fn size(&self) -> usize {
        self.size.load(Relaxed)
    }
}

/// What lies in `lower`, with what `upper` says of it. Both are in order of their keys.
pub(crate) fn over<K: Ord, V, E>(
    upper: impl Iterator<Item = (K, Option<V>)>,
    lower: impl Iterator<Item = Result<(K, V), E>>,
) -> impl Iterator<Item = Result<(K, V), E>> {
    let (mut upper, mut lower) = (upper.peekable(), lower.peekable());
    iter::from_fn(move || {
        loop {
            let order = match (upper.peek(), lower.peek()) {
                (Some((above, _)), Some(Ok((below, _)))) => above.cmp(below),
                (Some(_), None) => Ordering::Less,
                (None, _) | (_, Some(Err(_))) => Ordering::Greater,
            };
            match order {
                Ordering::Greater => return lower.next(),
                Ordering::Equal => drop(lower.next()),
                Ordering::Less => {}
            }
            if let Some((key, Some(value))) = upper.next() {
                return Some(Ok((key, value)));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_commit_sees_the_versions_of_its_time() {
        let versions = Versions::<u8, u8>::default();
        versions.put(1, 5, Some(51));
        versions.put(2, 3, Some(32));
        versions.put(3, 5, None);
        versions.put(4, 5, Some(54));
        let all = |commit| versions.all(commit).collect::<Vec<_>>();
        assert_eq!(all(0), []);
        assert_eq!(all(1), [(5, Some(51))]);
        assert_eq!(all(2), [(3, Some(32)), (5, Some(51))]);
        assert_eq!(all(3), [(3, Some(32)), (5, None)]);
        assert_eq!(all(9), [(3, Some(32)), (5, Some(54))]);
        assert_eq!(
            [0, 1, 3, 4].map(|commit| versions.get(commit, &5)),
            [None, Some(Some(51)), Some(None), Some(Some(54))]
        );
        assert_eq!(versions.get(9, &4), None);
        let range = |first, last| versions.range(9, (first, last)).map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(range(Bound::Included(3), 5), [3, 5]);
        assert_eq!(range(Bound::Excluded(3), 5), [5]);
        assert_eq!(range(Bound::Unbounded, 4), [3]);
    }

    #[test]
    fn what_lies_above_hides_what_lies_below() {
        let upper = [(1, Some('a')), (3, None), (4, Some('d')), (9, None)];
        let lower = [(2, 'x'), (3, 'x'), (4, 'x'), (5, 'x')].map(Ok::<_, ()>);
        let seen: Result<Vec<_>, ()> = over(upper.into_iter(), lower.into_iter()).collect();
        assert_eq!(seen, Ok(vec![(1, 'a'), (2, 'x'), (4, 'd'), (5, 'x')]));
        let broken = [Ok((2, 'x')), Err(())];
        let mut seen = over([(1, None), (7, Some('g'))].into_iter(), broken.into_iter());
        assert_eq!((seen.next(), seen.next()), (Some(Ok((2, 'x'))), Some(Err(()))));
    }
}

//! Values that many hold.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A value whose copies are one and the same in memory until somebody changes theirs: whoever does
/// so while others hold it, gets one of their own first.
#[derive(Debug, Default)]
pub struct Shared<T>(Arc<T>);

/// A map that is shared.
pub type SharedMap<K, V> = Shared<BTreeMap<K, V>>;

/// A key with what stood there before and what stands there now.
pub type Change<'a, K, V> = (&'a K, Option<&'a V>, Option<&'a V>);

impl<T> Shared<T> {
    /// Whether both are one in memory, and so have the same value.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<K: Ord, V> SharedMap<K, Arc<V>> {
    /// Where something else stands than before, in order. What is the same in memory isn't looked
    /// at.
    pub fn changes_from<'a>(&'a self, before: &'a Self) -> Vec<Change<'a, K, Arc<V>>> {
        let mut changes = Vec::new();
        if self.is(before) {
            return changes;
        }
        let (mut old, mut new) = (before.iter().peekable(), self.iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (Some((old, _)), Some((new, _))) => old.cmp(new),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => return changes,
            };
            let was = if order.is_le() { old.next() } else { None };
            let is = if order.is_ge() { new.next() } else { None };
            let (was_at, is_at) = (was.map(|(_, value)| value), is.map(|(_, value)| value));
            let same = matches!((was_at, is_at), (Some(was), Some(is)) if Arc::ptr_eq(was, is));
            if let (false, Some((key, _))) = (same, is.or(was)) {
                changes.push((key, was_at, is_at));
            }
        }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.is(other) || self.0 == other.0
    }
}

impl<T: Eq> Eq for Shared<T> {}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for SharedMap<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        BTreeMap::from(entries).into()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        BTreeMap::from_iter(entries).into()
    }
}

impl<'a, T> IntoIterator for &'a Shared<T>
where
    &'a T: IntoIterator,
{
    type Item = <&'a T as IntoIterator>::Item;
    type IntoIter = <&'a T as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_same_until_it_is_changed() {
        let one: SharedMap<u8, u8> = [(1, 1)].into();
        let mut other = one.clone();
        assert!(one.is(&other));
        other.insert(2, 2);
        assert!(!one.is(&other) && one != other);
        other.remove(&2);
        assert!(!one.is(&other) && one == other);
        assert_eq!(one.len(), 1);
    }

    #[test]
    fn changes_are_found_in_order() {
        let values: Vec<Arc<u8>> = (0..5).map(Arc::new).collect();
        let map = |entries: &[(u8, usize)]| -> SharedMap<u8, Arc<u8>> {
            entries.iter().map(|(key, value)| (*key, Arc::clone(&values[*value]))).collect()
        };
        let before = map(&[(1, 0), (2, 1), (4, 2), (9, 0)]);
        let now = map(&[(0, 3), (2, 4), (4, 2), (5, 0)]);
        let found: Vec<(u8, Option<u8>, Option<u8>)> = now
            .changes_from(&before)
            .into_iter()
            .map(|(key, was, is)| (*key, was.map(|value| **value), is.map(|value| **value)))
            .collect();
        let expected = [
            (0, None, Some(3)),
            (1, Some(0), None),
            (2, Some(1), Some(4)),
            (5, None, Some(0)),
            (9, Some(0), None),
        ];
        assert_eq!(found, expected);
        assert_eq!(now.changes_from(&now.clone()), []);
    }
}

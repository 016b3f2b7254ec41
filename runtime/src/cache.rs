//! A bounded cache with least-recently-used eviction.
//!
//! Comes in: keys, values and weights. Goes out: values, and those that were evicted. It has no lock.

use std::borrow::Borrow;
use std::hash::Hash;

use hashbrown::HashMap;

/// Values by their keys. Each has a weight; when their sum exceeds `bound`, the least recently used are evicted. The
/// newest always stays.
pub(crate) struct Cache<K, V> {
    entries: HashMap<K, Entry<V>>,
    bound: usize,
    weight: usize,
    /// Counts uses.
    now: u64,
}

struct Entry<V> {
    value: V,
    weight: usize,
    used: u64,
}

impl<K: Hash + Eq + Clone, V> Cache<K, V> {
    pub(crate) fn new(bound: usize) -> Self {
        Cache { entries: HashMap::new(), bound, weight: 0, now: 0 }
    }

    /// The value of `key`, marked as used.
    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.now += 1;
        let entry = self.entries.get_mut(key)?;
        entry.used = self.now;
        Some(&entry.value)
    }

    /// Inserts or replaces the value of `key`. Returns the evicted values, for the caller to drop outside of a lock.
    pub(crate) fn insert(&mut self, key: K, value: V, weight: usize) -> Vec<V> {
        self.now += 1;
        self.weight += weight;
        let before = self.entries.insert(key, Entry { value, weight, used: self.now });
        self.weight -= before.as_ref().map_or(0, |entry| entry.weight);
        let mut evicted = self.shrink();
        evicted.extend(before.map(|entry| entry.value));
        evicted
    }

    /// Sets the bound. Returns the evicted values.
    pub(crate) fn set_bound(&mut self, bound: usize) -> Vec<V> {
        self.bound = bound;
        self.shrink()
    }

    pub(crate) fn bound(&self) -> usize {
        self.bound
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn shrink(&mut self) -> Vec<V> {
        let mut evicted = Vec::new();
        while self.weight > self.bound && self.entries.len() > 1 {
            // Linear search: it happens next to a compilation, which takes a thousand times as long.
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            let Some(entry) = oldest.and_then(|key| self.entries.remove(&key)) else { break };
            self.weight -= entry.weight;
            evicted.push(entry.value);
        }
        evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_is_evicted() {
        let mut cache = Cache::new(2);
        assert!(cache.insert("a", 1, 1).is_empty() && cache.insert("b", 2, 1).is_empty());
        assert_eq!(cache.get("a"), Some(&1));
        assert_eq!(cache.insert("c", 3, 1), [2]);
        assert_eq!(cache.get("a"), Some(&1));
        assert_eq!(cache.get("b"), None);
        assert_eq!(cache.insert("d", 4, 1), [3]);
        assert_eq!(cache.len(), 2);
    }

    #[test]
    fn heavy_entries_evict_several_and_the_newest_stays() {
        let mut cache = Cache::new(10);
        for i in 0..10 {
            assert!(cache.insert(i, i, 1).is_empty());
        }
        assert_eq!(cache.insert(10, 10, 3), [0, 1, 2]);
        assert_eq!(cache.insert(11, 11, 99).len(), 8);
        assert_eq!(cache.get(&11), Some(&11));
        assert_eq!(cache.len(), 1);
        assert_eq!(cache.insert(12, 12, 1), [11]);
    }

    #[test]
    fn an_entry_replaces_one_with_its_key() {
        let mut cache = Cache::new(3);
        assert!(cache.insert(1, "old", 2).is_empty());
        assert_eq!(cache.insert(1, "new", 3), ["old"]);
        assert_eq!(cache.get(&1), Some(&"new"));
        assert_eq!(cache.len(), 1);
        assert!(cache.insert(2, "other", 1).contains(&"new"));
    }

    #[test]
    fn a_smaller_bound_takes_effect_at_once() {
        let mut cache = Cache::new(4);
        for i in 0..4 {
            cache.insert(i, i, 1);
        }
        assert_eq!(cache.set_bound(1), [0, 1, 2]);
        assert_eq!(cache.set_bound(0), Vec::<i32>::new());
        assert_eq!((cache.bound(), cache.len()), (0, 1));
    }
}

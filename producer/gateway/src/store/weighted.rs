//! Values with what they weigh, of which the one that was not asked for the longest goes first.

use lru::LruCache;

/// What an entry takes beside its key and its value, in bytes.
const OVERHEAD: usize = 256;

/// They are let go by whoever holds them: a limit may be for several such together.
pub(crate) struct Weighted<V> {
    known: LruCache<String, (V, usize)>,
    bytes: usize,
}

impl<V> Weighted<V> {
    pub(crate) fn new() -> Self {
        Self {
            known: LruCache::unbounded(),
            bytes: 0,
        }
    }

    /// One, which is now the last to go.
    pub(crate) fn get(&mut self, key: &str) -> Option<&V> {
        self.known.get(key).map(|(value, _)| value)
    }

    /// Puts one in the place of what there was.
    pub(crate) fn put(&mut self, key: String, value: V, bytes: usize) {
        self.remove(&key);
        let bytes = key.len() + bytes + OVERHEAD;
        self.bytes += bytes;
        self.known.put(key, (value, bytes));
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<V> {
        let (value, bytes) = self.known.pop(key)?;
        self.bytes -= bytes;
        Some(value)
    }

    /// Takes out the one that was not asked for the longest.
    pub(crate) fn remove_oldest(&mut self) -> Option<(String, V)> {
        let (key, (value, bytes)) = self.known.pop_lru()?;
        self.bytes -= bytes;
        Some((key, value))
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// What all weigh.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_weighs_is_what_is_in_it() {
        let mut weighted = Weighted::new();
        for number in 0..3 {
            weighted.put(number.to_string(), number, 1000);
        }
        weighted.put("1".into(), 7, 10);
        assert_eq!(weighted.get("0"), Some(&0));
        assert_eq!(weighted.remove_oldest(), Some(("2".into(), 2)));
        assert_eq!(weighted.remove("1"), Some(7));
        assert_eq!((weighted.len(), weighted.bytes()), (1, 1 + 1000 + OVERHEAD));
        assert_eq!(weighted.remove_oldest(), Some(("0".into(), 0)));
        assert_eq!((weighted.len(), weighted.bytes()), (0, 0));
    }
}

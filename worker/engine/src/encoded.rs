//! Which pictures the model holds the soft tokens of. Integers only: the soft tokens themselves
//! are the model's.
//!
//! A picture that many prompts hold is encoded once. The longest unused goes first when there is
//! no more room, but never one that a running sequence is about to read.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::sequence::Contents;

/// Encoded pictures by their last use.
#[derive(Debug, Default)]
pub(crate) struct EncodedViews {
    /// How many are kept where no more are needed at once.
    views_max: usize,
    last_use: HashMap<Contents, u64>,
    by_last_use: BTreeMap<u64, Contents>,
    /// Counts uses.
    clock: u64,
}

impl EncodedViews {
    /// Room for as many views of `view_bytes` as `bytes_max` holds.
    pub(crate) fn new(bytes_max: usize, view_bytes: usize) -> Self {
        Self {
            views_max: bytes_max / view_bytes.max(1),
            ..Self::default()
        }
    }

    /// Whether a picture is encoded.
    pub(crate) fn contains(&self, contents: &Contents) -> bool {
        self.last_use.contains_key(contents)
    }

    /// How many pictures are encoded.
    pub(crate) fn len(&self) -> usize {
        self.last_use.len()
    }

    /// Records the use of a picture, which is encoded from here on.
    pub(crate) fn use_now(&mut self, contents: Contents) {
        self.clock += 1;
        if let Some(before) = self.last_use.insert(contents, self.clock) {
            self.by_last_use.remove(&before);
        }
        self.by_last_use.insert(self.clock, contents);
    }

    /// Takes out the pictures that are to be forgotten to make room for `more`.
    pub(crate) fn make_room(&mut self, more: usize, needed: &HashSet<Contents>) -> Vec<Contents> {
        let excess = (self.len() + more).saturating_sub(self.views_max);
        let unneeded = self
            .by_last_use
            .iter()
            .filter(|(_, contents)| !needed.contains(*contents));
        let forgotten: Vec<(u64, Contents)> = unneeded
            .take(excess)
            .map(|(used, contents)| (*used, *contents))
            .collect();
        for (used, contents) in &forgotten {
            self.by_last_use.remove(used);
            self.last_use.remove(contents);
        }
        forgotten
            .into_iter()
            .map(|(_, contents)| contents)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(number: u8) -> Contents {
        [number; 32]
    }

    #[test]
    fn the_longest_unused_goes_first_and_never_one_that_is_needed() {
        let mut encoded = EncodedViews::new(30, 10);
        for number in [1, 2, 3, 1] {
            assert!(encoded.make_room(0, &HashSet::new()).is_empty());
            encoded.use_now(contents(number));
        }
        assert_eq!(encoded.len(), 3);
        let needed = HashSet::from([contents(2)]);
        assert_eq!(encoded.make_room(1, &needed), [contents(3)]);
        assert_eq!(encoded.make_room(2, &needed), [contents(1)]);
        assert!(encoded.make_room(3, &needed).is_empty());
        assert!(encoded.contains(&contents(2)));
    }
}

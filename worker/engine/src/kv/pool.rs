//! The blocks of one KV pool as integers: who holds them, and what they remember.
//!
//! A block is *free*, *held* by one or more sequences, or *idle*: held by nobody, but with
//! contents that a later sequence may take up again. Idle blocks are handed out when no free one
//! is left, the longest idle first.

use std::collections::{BTreeMap, HashMap};

use super::prefix::BlockHash;
use crate::batch::BlockId;

#[derive(Debug, Clone, Default)]
struct Block {
    /// Sequences whose tables name this block.
    holders: u32,
    /// What is stored in it, once it is full and may be shared.
    contents: Option<BlockHash>,
    /// Its place among the idle blocks, while nobody holds it.
    idle_since: u64,
}

/// The blocks of one kind of layer.
#[derive(Debug, Default)]
pub struct BlockPool {
    blocks: Vec<Block>,
    free: Vec<BlockId>,
    /// Idle blocks by the time they became so.
    idle: BTreeMap<u64, BlockId>,
    by_contents: HashMap<BlockHash, BlockId>,
    /// Counts releases; orders the idle blocks.
    clock: u64,
}

impl BlockPool {
    /// A pool of `total` free blocks.
    pub fn new(total: u32) -> Self {
        Self {
            blocks: vec![Block::default(); total as usize],
            free: (0..total).rev().map(BlockId).collect(),
            ..Self::default()
        }
    }

    /// Blocks that can be taken: free and idle ones.
    pub fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// All blocks.
    pub fn total(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks held by sequences.
    pub fn held(&self) -> usize {
        self.total() - self.available()
    }

    /// Takes a block for one holder; what an idle one remembered is forgotten.
    pub fn take(&mut self) -> Option<BlockId> {
        let id = match self.free.pop() {
            Some(id) => id,
            None => self.idle.pop_first()?.1,
        };
        let block = &mut self.blocks[id.0 as usize];
        debug_assert_eq!(block.holders, 0, "{id:?} was handed out while held");
        block.holders = 1;
        if let Some(contents) = block.contents.take() {
            self.by_contents.remove(&contents);
        }
        Some(id)
    }

    /// The block with these contents, if there still is one.
    pub fn find(&self, contents: &BlockHash) -> Option<BlockId> {
        self.by_contents.get(contents).copied()
    }

    /// Adds a holder to a block that was found.
    pub fn hold(&mut self, id: BlockId) {
        let block = &mut self.blocks[id.0 as usize];
        if block.holders == 0 {
            self.idle.remove(&block.idle_since);
        }
        block.holders += 1;
    }

    /// Removes a holder. The last one leaves the block idle if it can be shared, else free.
    ///
    /// # Panics
    /// If nobody holds the block.
    pub fn release(&mut self, id: BlockId) {
        let block = &mut self.blocks[id.0 as usize];
        assert!(
            block.holders > 0,
            "{id:?} was released while nobody held it"
        );
        block.holders -= 1;
        if block.holders > 0 {
            return;
        }
        if block.contents.is_some() {
            self.clock += 1;
            block.idle_since = self.clock;
            self.idle.insert(self.clock, id);
        } else {
            self.free.push(id);
        }
    }

    /// Records what a held block contains, so that others can find it. If another block already
    /// has these contents, this one stays private.
    pub fn seal(&mut self, id: BlockId, contents: BlockHash) {
        let block = &mut self.blocks[id.0 as usize];
        debug_assert!(block.holders > 0, "{id:?} was sealed while nobody held it");
        if block.contents.is_none() && !self.by_contents.contains_key(&contents) {
            block.contents = Some(contents);
            self.by_contents.insert(contents, id);
        }
    }

    /// Checks the pool against the number of holders each block should have, by block id.
    ///
    /// # Panics
    /// If a block is in two states, in none, or its holders do not match.
    pub fn check(&self, holders: &HashMap<BlockId, u32>) {
        let mut free = vec![false; self.blocks.len()];
        for id in &self.free {
            assert!(
                !std::mem::replace(&mut free[id.0 as usize], true),
                "{id:?} is free twice"
            );
        }
        for (index, block) in (0u32..).zip(&self.blocks) {
            let id = BlockId(index);
            let expected = holders.get(&id).copied().unwrap_or(0);
            assert_eq!(block.holders, expected, "holders of {id:?}");
            let idle = self.idle.get(&block.idle_since) == Some(&id);
            let states = [free[index as usize], block.holders > 0, idle];
            let count = states.iter().filter(|state| **state).count();
            assert_eq!(count, 1, "{id:?} is free, held, idle: {states:?}");
            if idle {
                assert!(
                    block.contents.is_some(),
                    "{id:?} is idle and remembers nothing"
                );
            }
            if let Some(contents) = &block.contents {
                assert_eq!(self.find(contents), Some(id), "{id:?} cannot be found");
            }
        }
        let remembered = self
            .blocks
            .iter()
            .filter(|block| block.contents.is_some())
            .count();
        assert_eq!(
            remembered,
            self.by_contents.len(),
            "contents without a block"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(token: u32) -> BlockHash {
        BlockHash::root().child(&[token], &[])
    }

    #[test]
    fn idle_blocks_are_found_again_until_they_are_needed() {
        let mut pool = BlockPool::new(2);
        let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
        assert_eq!(pool.take(), None);
        pool.seal(first, contents(1));
        pool.seal(second, contents(2));
        pool.release(second);
        pool.release(first);
        assert_eq!((pool.available(), pool.held()), (2, 0));
        assert_eq!(pool.find(&contents(1)), Some(first));

        // The longest idle goes first.
        assert_eq!(pool.take(), Some(second));
        assert_eq!(pool.find(&contents(2)), None);
        pool.hold(first);
        pool.check(&HashMap::from([(first, 1), (second, 1)]));
    }

    #[test]
    fn equal_contents_are_remembered_once() {
        let mut pool = BlockPool::new(2);
        let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
        pool.seal(first, contents(1));
        pool.seal(second, contents(1));
        pool.release(second);
        assert_eq!(pool.find(&contents(1)), Some(first));
        pool.check(&HashMap::from([(first, 1)]));
    }

    #[test]
    fn a_shared_block_stays_until_its_last_holder_leaves() {
        let mut pool = BlockPool::new(1);
        let id = pool.take().unwrap();
        pool.seal(id, contents(1));
        pool.hold(id);
        pool.release(id);
        assert_eq!(pool.take(), None);
        pool.release(id);
        assert_eq!(pool.take(), Some(id));
    }
}

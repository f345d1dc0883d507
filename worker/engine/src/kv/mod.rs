//! Where keys and values live: two pools of blocks, and the tables that name a sequence's own.
//!
//! Every [`BLOCK_TOKENS`] positions of a sequence take one block of the global pool, for the
//! layers that attend to everything, and one of the local pool, for the sliding layers. Local
//! blocks behind the window are given back.
//!
//! Accounting here is integers only.

pub mod cache;
pub mod pool;
pub mod prefix;
pub mod sizing;

use std::collections::HashMap;

use self::pool::BlockPool;
use self::prefix::{BlockHash, first_visible_block, longest_prefix};
use crate::batch::{BLOCK_TOKENS, BlockId};

/// One sequence's blocks, by the index of `BLOCK_TOKENS` positions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockTable {
    /// Blocks of the global pool.
    pub global: Vec<BlockId>,
    /// Blocks of the local pool, as many entries; `None` where the window has moved past.
    pub local: Vec<Option<BlockId>>,
}

impl BlockTable {
    /// Positions the table has room for.
    pub fn tokens(&self) -> usize {
        self.global.len() * BLOCK_TOKENS
    }
}

/// Blocks that hold `tokens` positions.
pub fn blocks_for(tokens: usize) -> usize {
    tokens.div_ceil(BLOCK_TOKENS)
}

/// Both pools, and the sharing of what they hold.
#[derive(Debug)]
pub struct KvBlocks {
    global: BlockPool,
    local: BlockPool,
    window: Option<usize>,
    sharing: bool,
}

impl KvBlocks {
    /// Pools of `global` and `local` blocks. Without a `window` the local pool is not used.
    /// `sharing`: whether a sequence may take up blocks that another one filled.
    pub fn new(global: u32, local: u32, window: Option<usize>, sharing: bool) -> Self {
        Self {
            global: BlockPool::new(global),
            local: BlockPool::new(local),
            window,
            sharing,
        }
    }

    /// The global pool.
    pub fn global(&self) -> &BlockPool {
        &self.global
    }

    /// The local pool.
    pub fn local(&self) -> &BlockPool {
        &self.local
    }

    /// Blocks that a table can grow by now.
    pub fn growth_available(&self) -> usize {
        match self.window {
            Some(_) => self.global.available().min(self.local.available()),
            None => self.global.available(),
        }
    }

    /// Local blocks that a sequence of `tokens` needs at once, if it is computed in small chunks.
    pub fn local_blocks_for(&self, tokens: usize) -> usize {
        self.window
            .map_or(0, |window| blocks_for(tokens).min(blocks_for(window) + 2))
    }

    /// Adds blocks to `table` until it has room for `tokens` positions; false, and nothing
    /// changed, if there are too few.
    pub fn grow(&mut self, table: &mut BlockTable, tokens: usize) -> bool {
        let missing = blocks_for(tokens).saturating_sub(table.global.len());
        if missing > self.growth_available() {
            return false;
        }
        for _ in 0..missing {
            let Some(global) = self.global.take() else {
                return false;
            };
            table.global.push(global);
            table
                .local
                .push(self.window.and_then(|_| self.local.take()));
        }
        true
    }

    /// Fills an empty `table` with blocks that hold the beginning of `hashes`; returns how many
    /// positions they cover.
    pub fn adopt_prefix(
        &mut self,
        table: &mut BlockTable,
        hashes: &[BlockHash],
        boundary_allowed: impl Fn(usize) -> bool,
    ) -> usize {
        debug_assert!(table.global.is_empty(), "a prefix comes first");
        let blocks = longest_prefix(
            hashes,
            self.window,
            |hash| self.global.find(hash).is_some(),
            |hash| self.local.find(hash).is_some(),
            boundary_allowed,
        );
        let tokens = blocks * BLOCK_TOKENS;
        let first_local = self
            .window
            .map_or(blocks, |window| first_visible_block(tokens, window));
        for (index, hash) in hashes[..blocks].iter().enumerate() {
            let Some(global) = self.global.find(hash) else {
                break;
            };
            self.global.hold(global);
            table.global.push(global);
            let local = if index < first_local {
                None
            } else {
                self.local.find(hash)
            };
            if let Some(local) = local {
                self.local.hold(local);
            }
            table.local.push(local);
        }
        tokens
    }

    /// Lets others find the blocks that `hashes` describe, all of them full and computed, from
    /// block `from` on.
    pub fn seal(&mut self, table: &BlockTable, hashes: &[BlockHash], from: usize) {
        if !self.sharing {
            return;
        }
        for (index, hash) in hashes.iter().enumerate().skip(from) {
            self.global.seal(table.global[index], *hash);
            if let Some(local) = table.local[index] {
                self.local.seal(local, *hash);
            }
        }
    }

    /// Gives back the local blocks that no query at `next_position` or later sees.
    pub fn give_back(&mut self, table: &mut BlockTable, next_position: usize) {
        let Some(window) = self.window else { return };
        let visible = first_visible_block(next_position, window).min(table.local.len());
        // Later blocks are released first, so that the ones a short prefix needs stay longest.
        for entry in table.local[..visible].iter_mut().rev() {
            match entry.take() {
                Some(local) => self.local.release(local),
                None => break,
            }
        }
    }

    /// Gives back all blocks, later ones first, so that the shared beginning stays longest.
    pub fn release(&mut self, table: &mut BlockTable) {
        for local in table.local.drain(..).rev().flatten() {
            self.local.release(local);
        }
        for global in table.global.drain(..).rev() {
            self.global.release(global);
        }
    }

    /// Checks both pools against all tables that hold blocks of them.
    ///
    /// # Panics
    /// If the books do not balance.
    pub fn check<'a>(&self, tables: impl Iterator<Item = &'a BlockTable>) {
        let mut global: HashMap<BlockId, u32> = HashMap::new();
        let mut local: HashMap<BlockId, u32> = HashMap::new();
        for table in tables {
            assert_eq!(
                table.global.len(),
                table.local.len(),
                "tables of unequal length"
            );
            for id in &table.global {
                *global.entry(*id).or_default() += 1;
            }
            for id in table.local.iter().flatten() {
                *local.entry(*id).or_default() += 1;
            }
        }
        self.global.check(&global);
        self.local.check(&local);
    }
}

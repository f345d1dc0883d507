//! Names of block contents. A block's hash covers its own tokens and all before it, so equal
//! hashes mean equal keys and values.

use sha2::{Digest, Sha256};

use crate::batch::{BLOCK_TOKENS, TokenId};
use crate::sequence::AtomicRange;

/// The hash of a full block and of everything before it. SHA-256, since a collision would show
/// one user's context to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockHash([u8; 32]);

impl BlockHash {
    /// The parent of the first block.
    pub fn root() -> Self {
        Self([0; 32])
    }

    /// The hash of a block that follows this one: its tokens, and the contents of the atomic
    /// ranges that reach into it.
    #[must_use]
    pub fn child(&self, tokens: &[TokenId], ranges: &[&AtomicRange]) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0);
        for token in tokens {
            hash.update(token.to_le_bytes());
        }
        for range in ranges {
            hash.update((range.positions.start as u64).to_le_bytes());
            hash.update((range.positions.end as u64).to_le_bytes());
            hash.update(range.contents);
        }
        Self(hash.finalize().into())
    }
}

/// Extends `hashes` to the full blocks of `tokens`.
pub fn extend_hashes(hashes: &mut Vec<BlockHash>, tokens: &[TokenId], atomic: &[AtomicRange]) {
    let known = hashes.len() * BLOCK_TOKENS;
    let mut parent = hashes.last().copied().unwrap_or_else(BlockHash::root);
    for (index, block) in tokens[known..].chunks_exact(BLOCK_TOKENS).enumerate() {
        let start = known + index * BLOCK_TOKENS;
        let end = start + BLOCK_TOKENS;
        let reaches_in =
            |range: &&AtomicRange| range.positions.start < end && start < range.positions.end;
        let ranges: Vec<&AtomicRange> = atomic.iter().filter(reaches_in).collect();
        parent = parent.child(block, &ranges);
        hashes.push(parent);
    }
}

/// The most leading blocks that may be shared, of the first `hashes.len()`.
///
/// `global` and `local` say whether a block's contents are still there; `boundary_allowed`
/// whether a prefix may end at a block count. A prefix serves only if the local blocks that the
/// next token's window reaches are all kept: `window - 1` positions before it.
pub fn longest_prefix(
    hashes: &[BlockHash],
    window: Option<usize>,
    global: impl Fn(&BlockHash) -> bool,
    local: impl Fn(&BlockHash) -> bool,
    boundary_allowed: impl Fn(usize) -> bool,
) -> usize {
    let mut best = 0;
    let mut local_run = 0;
    for (index, hash) in hashes.iter().enumerate() {
        if !global(hash) {
            break;
        }
        let blocks = index + 1;
        local_run = if local(hash) { local_run + 1 } else { 0 };
        let needed = match window {
            None => 0,
            Some(window) => blocks - first_visible_block(blocks * BLOCK_TOKENS, window),
        };
        if local_run >= needed && boundary_allowed(blocks) {
            best = blocks;
        }
    }
    best
}

/// The first block that a query at `position` sees through a window of `window` keys, its own
/// included.
pub fn first_visible_block(position: usize, window: usize) -> usize {
    (position + 1).saturating_sub(window) / BLOCK_TOKENS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(tokens: &[TokenId], atomic: &[AtomicRange]) -> Vec<BlockHash> {
        let mut hashes = Vec::new();
        extend_hashes(&mut hashes, tokens, atomic);
        hashes
    }

    #[test]
    fn a_hash_covers_all_tokens_before_it() {
        let tokens: Vec<TokenId> = (0..100).collect();
        let mut changed = tokens.clone();
        changed[0] = 7;
        let (a, b) = (hashes(&tokens, &[]), hashes(&changed, &[]));
        assert_eq!(a.len(), 3);
        assert!(a.iter().zip(&b).all(|(a, b)| a != b));
        let mut grown = hashes(&tokens[..40], &[]);
        extend_hashes(&mut grown, &tokens, &[]);
        assert_eq!(grown, a);
    }

    #[test]
    fn a_hash_covers_what_atomic_ranges_hold() {
        let tokens = vec![5; 96];
        let image = |byte| AtomicRange {
            positions: 40..70,
            contents: [byte; 32],
        };
        let (a, b) = (hashes(&tokens, &[image(1)]), hashes(&tokens, &[image(2)]));
        assert_eq!(a[0], b[0]);
        assert!(a[1] != b[1] && a[2] != b[2]);
    }

    #[test]
    fn the_window_counts_the_query_itself() {
        assert_eq!(first_visible_block(0, 32), 0);
        assert_eq!(first_visible_block(62, 32), 0); // sees 31 ..= 62
        assert_eq!(first_visible_block(63, 32), 1); // sees 32 ..= 63
    }

    #[test]
    fn a_prefix_needs_its_last_window_of_local_blocks() {
        let all = hashes(&vec![1; 5 * BLOCK_TOKENS], &[]);
        let longest = |window, kept: &[usize]| {
            let local = |hash: &BlockHash| kept.iter().any(|index| all[*index] == *hash);
            longest_prefix(&all, window, |_| true, local, |_| true)
        };
        assert_eq!(longest(None, &[]), 5);
        assert_eq!(longest(Some(33), &[4]), 5); // a query at 160 sees 128 ..= 160
        assert_eq!(longest(Some(34), &[4]), 0); // … and here 127 too
        assert_eq!(longest(Some(34), &[3, 4]), 5);
        assert_eq!(longest(Some(1000), &[0, 1, 3, 4]), 2);
    }

    #[test]
    fn a_prefix_ends_where_the_global_blocks_do_and_where_it_may() {
        let all = hashes(&vec![1; 4 * BLOCK_TOKENS], &[]);
        let global = |hash: &BlockHash| *hash != all[3];
        assert_eq!(longest_prefix(&all, None, global, |_| false, |_| true), 3);
        assert_eq!(
            longest_prefix(&all, None, global, |_| false, |blocks| blocks != 3),
            2
        );
    }
}

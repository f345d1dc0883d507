//! One request as the scheduler sees it: tokens, how far they are computed, and their blocks.

use std::ops::Range;

use crate::batch::TokenId;
use crate::kv::BlockTable;
use crate::kv::prefix::{BlockHash, extend_hashes};
use crate::prompt::PlacedView;

/// Names a sequence for as long as the engine runs; later ones are larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// Who waits for the answer. Interactive goes first and has slots of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Someone waits for it now.
    Interactive,
    /// Work that is done when there is room.
    Bulk,
}

/// Positions that are computed in one step or not at all, such as the tokens of an image, which
/// attend to each other in both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtomicRange {
    /// Where it lies in the prompt; not empty.
    pub positions: Range<usize>,
    /// SHA-256 of what the placeholder tokens stand for.
    pub contents: Contents,
}

/// Tokens of a sequence's first draft: what is cheap to be wrong about.
const DRAFT_TOKENS_FIRST: usize = 2;

/// SHA-256 of a view's pixels.
pub type Contents = [u8; 32];

impl From<&PlacedView> for AtomicRange {
    fn from(view: &PlacedView) -> Self {
        Self {
            positions: view.positions().clone(),
            contents: *view.view().sha256(),
        }
    }
}

/// The rows of a sequence whose logits are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitsWanted {
    /// The last one, to draw the next token from.
    Last,
    /// Every one, to score the tokens; at most this many a step.
    All {
        /// Bounds the memory for logits.
        rows_max: usize,
    },
}

/// A sequence and its state.
#[derive(Debug)]
pub struct Sequence {
    /// Its name.
    pub id: SequenceId,
    /// Who waits for it.
    pub class: Class,
    /// The rows whose logits are wanted.
    pub logits: LogitsWanted,
    /// The prompt, then what was generated.
    pub tokens: Vec<TokenId>,
    /// How many of `tokens` are the prompt.
    pub prompt_tokens: usize,
    /// Positions `0 .. computed` have their keys and values stored.
    pub computed: usize,
    /// Positions of the prompt that were taken over from other sequences when it first ran.
    pub cached_tokens: Option<usize>,
    /// Where its keys and values are.
    pub table: BlockTable,
    /// Ranges of the prompt that may not be split, ascending.
    pub atomic: Vec<AtomicRange>,
    /// How many tokens are drafted at once: more while drafts hold, fewer once they do not; 0 for
    /// never any.
    pub draft_tokens: usize,
    /// Names of its full blocks, as far as [`Sequence::update_hashes`] was called.
    pub hashes: Vec<BlockHash>,
}

impl Sequence {
    /// A sequence that continues `prompt`.
    pub fn new(id: SequenceId, class: Class, prompt: Vec<TokenId>, logits: LogitsWanted) -> Self {
        Self {
            id,
            class,
            logits,
            prompt_tokens: prompt.len(),
            tokens: prompt,
            computed: 0,
            cached_tokens: None,
            table: BlockTable::default(),
            atomic: Vec::new(),
            draft_tokens: DRAFT_TOKENS_FIRST,
            hashes: Vec::new(),
        }
    }

    /// Tokens that have no keys and values yet; at least one as long as it runs.
    pub fn uncomputed(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Whether the only thing left is the step from its last token.
    pub fn is_decoding(&self) -> bool {
        self.uncomputed() == 1 && self.tokens.len() > self.prompt_tokens
    }

    /// What was generated so far.
    pub fn output(&self) -> &[TokenId] {
        &self.tokens[self.prompt_tokens..]
    }

    /// The longest chunk of at most `budget` tokens from here that splits no atomic range.
    pub fn chunk_within(&self, budget: usize) -> usize {
        let end = self.computed + budget.min(self.uncomputed());
        let split = self
            .atomic
            .iter()
            .find(|range| range.positions.start < end && end < range.positions.end);
        split
            .map_or(end, |range| range.positions.start)
            .saturating_sub(self.computed)
    }

    /// Atomic ranges that are not computed yet, ascending.
    pub fn atomic_ahead(&self) -> impl Iterator<Item = &AtomicRange> {
        let first = self
            .atomic
            .partition_point(|range| range.positions.start < self.computed);
        self.atomic[first..].iter()
    }

    /// Tokens from here to the first atomic range whose contents are not `ready`.
    pub fn ready_tokens(&self, ready: impl Fn(&Contents) -> bool) -> usize {
        let unready = self.atomic_ahead().find(|range| !ready(&range.contents));
        unready.map_or(self.uncomputed(), |range| {
            range.positions.start - self.computed
        })
    }

    /// The shortest chunk that can be computed next.
    pub fn chunk_min(&self) -> usize {
        let here = self
            .atomic
            .iter()
            .find(|range| range.positions.contains(&self.computed));
        here.map_or(1, |range| range.positions.end - self.computed)
    }

    /// Whether a shared prefix may end at this position: not inside an atomic range.
    pub fn may_resume_at(&self, position: usize) -> bool {
        let inside = |range: &AtomicRange| {
            range.positions.start < position && position < range.positions.end
        };
        !self.atomic.iter().any(inside)
    }

    /// Names the full blocks of all tokens so far.
    pub fn update_hashes(&mut self) {
        extend_hashes(&mut self.hashes, &self.tokens, &self.atomic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(tokens: u32, atomic: &[Range<usize>]) -> Sequence {
        let prompt = (0..tokens).collect();
        let mut sequence = Sequence::new(SequenceId(1), Class::Bulk, prompt, LogitsWanted::Last);
        let range = |positions: &Range<usize>| AtomicRange {
            positions: positions.clone(),
            contents: [0; 32],
        };
        sequence.atomic = atomic.iter().map(range).collect();
        sequence
    }

    #[test]
    fn chunks_do_not_split_atomic_ranges() {
        let mut sequence = sequence(100, &[10..30, 30..50]);
        assert_eq!(sequence.chunk_within(5), 5);
        assert_eq!(sequence.chunk_within(29), 10);
        assert_eq!(sequence.chunk_within(30), 30);
        assert_eq!(sequence.chunk_within(500), 100);
        sequence.computed = 10;
        assert_eq!(sequence.chunk_min(), 20);
        assert_eq!(sequence.chunk_within(19), 0);
        assert_eq!(sequence.chunk_within(20), 20);
        sequence.computed = 50;
        assert_eq!(sequence.chunk_min(), 1);
    }

    #[test]
    fn prefixes_do_not_end_inside_atomic_ranges() {
        let sequence = sequence(100, &[10..30, 30..50]);
        assert!(
            [9, 10, 30, 50, 51]
                .iter()
                .all(|position| sequence.may_resume_at(*position))
        );
        assert!(
            [11, 29, 31, 49]
                .iter()
                .all(|position| !sequence.may_resume_at(*position))
        );
    }
}

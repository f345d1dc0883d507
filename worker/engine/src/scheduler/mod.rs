//! Which sequences compute which tokens in the next step. Integers only; knows no tensors, no
//! text and no clock.
//!
//! A sequence waits, runs, and leaves when the engine removes it. One that runs is sent back to
//! wait when blocks run out: it keeps its tokens and computes them again later.
//!
//! Order is by class, then by age, everywhere: who is admitted, who gets blocks, and, from the
//! other end, who is sent back. The first of that order can always take what it needs from the
//! others, and fits on its own, so every sequence ends.

mod draft;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;

use crate::batch::{BLOCK_TOKENS, StepBatch, TokenId};
use crate::kv::prefix::first_visible_block;
use crate::kv::{BlockTable, KvBlocks, blocks_for};
use crate::sequence::{AtomicRange, Class, Sequence, SequenceId};

/// Bounds of a step.
#[derive(Debug, Clone, Copy)]
pub struct SchedulerOptions {
    /// Sequences that run at once.
    pub slots_max: usize,
    /// How many of those bulk sequences may not take.
    pub interactive_slots_reserved: usize,
    /// Tokens of a step, all sequences together; at least `slots_max` and the longest atomic
    /// range together.
    pub step_tokens_max: usize,
    /// Keys a sliding layer sees; `None` if no layer slides.
    pub window: Option<usize>,
    /// Most tokens drafted for a sequence in a step; 0 for no drafts.
    pub draft_tokens_max: usize,
}

/// A sequence's share of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The sequence.
    pub sequence: SequenceId,
    /// Its rows of the step.
    pub rows: Range<usize>,
    /// Its rows of the logits.
    pub logit_rows: Range<usize>,
    /// How many of its rows, the last ones, are guesses at tokens that were not drawn yet.
    pub drafted: usize,
}

/// One step's work, and whose it is.
#[derive(Debug, Default)]
pub struct StepPlan {
    /// What the model computes.
    pub batch: StepBatch,
    /// The sequences, in the order of the batch's spans.
    pub parts: Vec<Part>,
    /// Sequences that run since this step.
    pub admitted: Vec<SequenceId>,
    /// How many of the tokens continue an answer; the others are drafted, or read prompts.
    pub decode_tokens: usize,
    /// How many of the tokens are drafted.
    pub drafted_tokens: usize,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchedulerCounts {
    /// Times a running sequence was sent back to wait.
    pub preemptions: u64,
    /// Prompt tokens of admitted sequences.
    pub prompt_tokens: u64,
    /// How many of those were taken over from other sequences.
    pub cached_tokens: u64,
    /// Tokens drafted for answers.
    pub drafted_tokens: u64,
    /// How many of those were then drawn.
    pub accepted_tokens: u64,
}

/// All sequences, waiting and running, and the blocks they hold.
#[derive(Debug)]
pub struct Scheduler {
    options: SchedulerOptions,
    kv: KvBlocks,
    /// By class, oldest first.
    waiting: [VecDeque<Sequence>; 2],
    /// By class, then by age.
    running: Vec<Sequence>,
    counts: SchedulerCounts,
}

impl Scheduler {
    /// A scheduler without sequences.
    pub fn new(options: SchedulerOptions, kv: KvBlocks) -> Self {
        let waiting = [VecDeque::new(), VecDeque::new()];
        Self {
            options,
            kv,
            waiting,
            running: Vec::new(),
            counts: SchedulerCounts::default(),
        }
    }

    /// Lets a sequence wait for its turn.
    pub fn submit(&mut self, sequence: Sequence) {
        debug_assert!(
            !sequence.tokens.is_empty(),
            "a sequence has at least one token"
        );
        self.waiting[sequence.class as usize].push_back(sequence);
    }

    /// Takes a sequence out, whatever its state, and gives its blocks back.
    pub fn remove(&mut self, id: SequenceId) -> Option<Sequence> {
        if let Some(index) = self.running.iter().position(|sequence| sequence.id == id) {
            let mut sequence = self.running.remove(index);
            self.kv.release(&mut sequence.table);
            return Some(sequence);
        }
        self.waiting.iter_mut().find_map(|queue| {
            let index = queue.iter().position(|sequence| sequence.id == id)?;
            queue.remove(index)
        })
    }

    /// A running sequence.
    pub fn running(&self, id: SequenceId) -> Option<&Sequence> {
        self.running.iter().find(|sequence| sequence.id == id)
    }

    /// How many sequences run.
    pub fn running_count(&self) -> usize {
        self.running.len()
    }

    /// How many sequences wait.
    pub fn waiting_count(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// Counts since the start.
    pub fn counts(&self) -> SchedulerCounts {
        self.counts
    }

    /// The blocks.
    pub fn kv(&self) -> &KvBlocks {
        &self.kv
    }

    /// The pictures that running sequences come to next, within a step's tokens: sequences in the
    /// order of their turns, pictures in that of their places.
    pub fn images_ahead(&self) -> impl Iterator<Item = (SequenceId, &AtomicRange)> {
        self.running.iter().flat_map(|sequence| {
            let end = sequence.computed + self.options.step_tokens_max;
            let ahead = sequence.atomic_ahead();
            ahead
                .take_while(move |range| range.positions.end <= end)
                .map(|range| (sequence.id, range))
        })
    }

    /// Records that the planned tokens have their keys and values stored, but for those that are
    /// drafted: see [`Scheduler::append`].
    pub fn commit(&mut self, plan: &StepPlan) {
        for part in &plan.parts {
            if let Some(sequence) = self.running.iter_mut().find(|s| s.id == part.sequence) {
                advance(&mut self.kv, sequence, part.rows.len() - part.drafted);
            }
        }
        self.counts.drafted_tokens += plan.drafted_tokens as u64;
    }

    /// Adds the tokens to a running sequence that were drawn from the logits of its part of a
    /// step. All but the last were drafted, and so have their keys and values already.
    pub fn append(&mut self, part: &Part, drawn: &[TokenId]) {
        let Some(sequence) = self.running.iter_mut().find(|s| s.id == part.sequence) else {
            return;
        };
        let accepted = drawn.len().saturating_sub(1);
        sequence.tokens.extend_from_slice(drawn);
        if part.drafted > 0 {
            advance(&mut self.kv, sequence, accepted);
            sequence.draft_tokens =
                draft::next_length(sequence.draft_tokens, part.drafted, accepted);
            self.counts.accepted_tokens += accepted as u64;
        }
    }

    /// Checks everything that must hold between steps.
    ///
    /// # Panics
    /// If something does not.
    pub fn check(&self) {
        let empty = BlockTable::default();
        for queue in &self.waiting {
            for sequence in queue {
                assert_eq!(
                    sequence.table, empty,
                    "{:?} waits and holds blocks",
                    sequence.id
                );
                assert_eq!(
                    sequence.computed, 0,
                    "{:?} waits and is computed",
                    sequence.id
                );
            }
            assert!(
                queue.iter().is_sorted_by_key(|s| s.id),
                "waiting out of order"
            );
        }
        let order = |sequence: &Sequence| (sequence.class, sequence.id);
        let strictly = self
            .running
            .windows(2)
            .all(|pair| order(&pair[0]) < order(&pair[1]));
        assert!(strictly, "running out of order, or a sequence twice");
        for queue in &self.waiting {
            let twice = queue.iter().find(|s| self.running(s.id).is_some());
            assert!(twice.is_none(), "{:?} waits and runs", twice.map(|s| s.id));
        }
        assert!(
            self.running.len() <= self.options.slots_max,
            "more sequences than slots"
        );
        let bulk = self.bulk_running();
        let bulk_max = self.options.slots_max - self.options.interactive_slots_reserved;
        assert!(bulk <= bulk_max, "bulk sequences in reserved slots");
        for sequence in &self.running {
            let (id, table) = (sequence.id, &sequence.table);
            assert!(
                sequence.computed <= sequence.tokens.len(),
                "{id:?} is ahead of its tokens"
            );
            assert!(
                table.tokens() >= sequence.computed,
                "{id:?} outgrew its table"
            );
            if let Some(window) = self.options.window {
                let visible = first_visible_block(sequence.computed, window);
                let kept = blocks_for(sequence.computed).max(visible);
                let missing = table.local[visible.min(kept)..kept]
                    .iter()
                    .any(Option::is_none);
                assert!(!missing, "{id:?} misses a local block within its window");
            }
        }
        self.kv
            .check(self.running.iter().map(|sequence| &sequence.table));
    }

    fn bulk_running(&self) -> usize {
        self.running
            .iter()
            .filter(|sequence| sequence.class == Class::Bulk)
            .count()
    }
}

/// Records that `tokens` more of a sequence have their keys and values stored: full blocks can be
/// shared from here on, and local blocks behind the window are given back.
fn advance(kv: &mut KvBlocks, sequence: &mut Sequence, tokens: usize) {
    let full_before = sequence.computed / BLOCK_TOKENS;
    sequence.computed += tokens;
    let full = sequence.computed / BLOCK_TOKENS;
    if full > full_before {
        sequence.update_hashes();
        kv.seal(&sequence.table, &sequence.hashes[..full], full_before);
    }
    kv.give_back(&mut sequence.table, sequence.computed);
}

impl StepPlan {
    /// The guesses among a part's tokens.
    pub fn draft(&self, part: &Part) -> &[TokenId] {
        &self.batch.tokens[part.rows.end - part.drafted..part.rows.end]
    }

    /// Checks that the plan is whole and within its budget.
    ///
    /// # Panics
    /// If it is not.
    pub fn check(&self, step_tokens_max: usize) {
        let batch = &self.batch;
        assert!(
            batch.tokens.len() <= step_tokens_max,
            "{} tokens",
            batch.tokens.len()
        );
        assert_eq!(batch.spans.len(), self.parts.len());
        let (mut row, mut logit_row) = (0, 0);
        for (span, part) in batch.spans.iter().zip(&self.parts) {
            assert_eq!(span.rows, part.rows);
            assert!(
                span.rows.start == row && !span.rows.is_empty(),
                "rows {:?}",
                span.rows
            );
            row = span.rows.end;
            let end = span.start + span.rows.len();
            assert_eq!(span.global_blocks.len(), blocks_for(end), "global table");
            assert_eq!(
                span.local_blocks.len(),
                span.global_blocks.len(),
                "local table"
            );
            assert_eq!(part.logit_rows.start, logit_row);
            logit_row = part.logit_rows.end;
            assert!(
                part.drafted < span.rows.len() && part.drafted <= part.logit_rows.len(),
                "{} drafted",
                part.drafted
            );
        }
        assert_eq!(row, batch.tokens.len(), "rows without a sequence");
        assert_eq!(
            logit_row,
            batch.logit_rows.len(),
            "logits without a sequence"
        );
        assert!(
            batch.logit_rows.is_sorted_by(|a, b| a < b),
            "logit rows out of order"
        );
    }
}

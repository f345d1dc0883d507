//! Filling a step: first the sequences that continue an answer, one token each and what is drafted
//! behind it, then prompts in chunks, then new bulk sequences, as long as the step's budget lasts. Interactive sequences
//! are let in before anything is planned, while bulk ones can still be sent back for them.

use super::draft::propose;
use super::{Part, Scheduler, StepPlan};
use crate::batch::{BLOCK_TOKENS, Span, TokenId};
use crate::kv::blocks_for;
use crate::sequence::{Class, Contents, LogitsWanted, Sequence};

/// A plan in the making.
struct Filling<'a> {
    plan: StepPlan,
    budget: usize,
    /// Whether a picture is encoded.
    ready: &'a dyn Fn(&Contents) -> bool,
    /// Rows of scored sequences so far.
    scored_rows: usize,
    /// Tokens that may still be drafted: the rows of slots that nobody has, so that a full batch is
    /// not slowed down and a step is never larger with drafts than without.
    drafts: usize,
}

impl Filling<'_> {
    fn contains(&self, sequence: &Sequence) -> bool {
        self.plan
            .parts
            .iter()
            .any(|part| part.sequence == sequence.id)
    }

    /// Tokens that this sequence may add.
    fn budget_for(&self, sequence: &Sequence) -> usize {
        let budget = match sequence.logits {
            LogitsWanted::Last => self.budget,
            LogitsWanted::All { rows_max } => {
                self.budget.min(rows_max.saturating_sub(self.scored_rows))
            }
        };
        budget.min(sequence.ready_tokens(self.ready))
    }

    /// Adds the next `chunk` tokens of a sequence whose table has room for them, and behind its
    /// last token those of a draft.
    fn add(&mut self, sequence: &Sequence, chunk: usize, draft: &[TokenId]) {
        let (start, known_end) = (sequence.computed, sequence.computed + chunk);
        let end = known_end + draft.len();
        let batch = &mut self.plan.batch;
        let first_row = batch.tokens.len();
        let rows = first_row..first_row + chunk + draft.len();
        batch
            .tokens
            .extend_from_slice(&sequence.tokens[start..known_end]);
        batch.tokens.extend_from_slice(draft);
        let first_logit = batch.logit_rows.len();
        match sequence.logits {
            LogitsWanted::All { .. } => {
                batch.logit_rows.extend(rows.clone());
                self.scored_rows += chunk;
            }
            LogitsWanted::Last if known_end == sequence.tokens.len() => {
                batch.logit_rows.extend(first_row + chunk - 1..rows.end);
            }
            LogitsWanted::Last => {}
        }
        let blocks = blocks_for(end);
        batch.spans.push(Span {
            rows: rows.clone(),
            start,
            global_blocks: sequence.table.global[..blocks].to_vec(),
            local_blocks: sequence.table.local[..blocks].to_vec(),
            images: sequence
                .atomic_ahead()
                .take_while(|range| range.positions.end <= end)
                .cloned()
                .collect(),
        });
        if sequence.is_decoding() {
            self.plan.decode_tokens += 1;
        }
        self.plan.drafted_tokens += draft.len();
        self.drafts -= draft.len();
        self.budget -= rows.len();
        self.plan.parts.push(Part {
            sequence: sequence.id,
            rows,
            logit_rows: first_logit..self.plan.batch.logit_rows.len(),
            drafted: draft.len(),
        });
    }
}

impl Scheduler {
    /// Plans the next step; `None` if there is nothing to compute. `ready`: whether a picture is
    /// encoded; a sequence waits before those that are not.
    pub fn plan(&mut self, ready: impl Fn(&Contents) -> bool) -> Option<StepPlan> {
        let budget = self.options.step_tokens_max;
        let mut filling = Filling {
            plan: StepPlan::default(),
            budget,
            ready: &ready,
            scored_rows: 0,
            drafts: 0,
        };
        while let Some(index) = self.admit(Class::Interactive) {
            filling.plan.admitted.push(self.running[index].id);
        }
        filling.drafts = self.options.slots_max - self.running.len();
        for decoding in [true, false] {
            let mut index = 0;
            // Only sequences behind `index` are sent back, so it stays valid.
            while index < self.running.len() {
                if self.running[index].is_decoding() == decoding {
                    self.extend(index, &mut filling);
                }
                index += 1;
            }
        }
        while filling.budget > 0
            && let Some(index) = self.admit(Class::Bulk)
        {
            filling.plan.admitted.push(self.running[index].id);
            self.extend(index, &mut filling);
        }
        let Filling { plan, .. } = filling;
        if cfg!(debug_assertions) {
            self.check();
            plan.check(budget);
        }
        (!plan.parts.is_empty()).then_some(plan)
    }

    /// Adds the next chunk of a running sequence: what the budget and the blocks that are left
    /// allow, and if that is nothing, the least that can be computed, by sending others back.
    fn extend(&mut self, index: usize, filling: &mut Filling<'_>) {
        let sequence = &self.running[index];
        let wanted = sequence.chunk_within(filling.budget_for(sequence));
        if wanted == 0 {
            return;
        }
        let growth = self.kv.growth_available() * BLOCK_TOKENS;
        let room = sequence.table.tokens() - sequence.computed + growth;
        let chunk = match sequence.chunk_within(wanted.min(room)) {
            0 => sequence.chunk_min(),
            chunk => chunk,
        };
        if self.make_room(index, chunk, filling) {
            let sequence = &self.running[index];
            filling.add(sequence, chunk, self.draft(sequence, filling));
        }
    }

    /// What to guess behind the last token of a sequence that continues its answer: as much as the
    /// block has room for that it has anyway, since guesses are not worth another's.
    fn draft<'a>(&self, sequence: &'a Sequence, filling: &Filling<'_>) -> &'a [TokenId] {
        if self.options.draft_tokens_max == 0 || !sequence.is_decoding() {
            return &[];
        }
        let bounds = [
            self.options.draft_tokens_max,
            sequence.draft_tokens,
            sequence.table.tokens() - sequence.tokens.len(),
            filling.drafts,
            filling.budget.saturating_sub(1),
        ];
        let tokens_max = bounds.into_iter().min().unwrap_or(0);
        propose(&sequence.tokens, tokens_max)
    }

    /// Grows a running sequence's table by `chunk` positions, if need be by sending back
    /// sequences behind it that are not in this step yet.
    fn make_room(&mut self, index: usize, chunk: usize, filling: &Filling<'_>) -> bool {
        loop {
            let sequence = &mut self.running[index];
            let tokens = sequence.computed + chunk;
            if self.kv.grow(&mut sequence.table, tokens) {
                return true;
            }
            let mut behind = self.running.iter().skip(index + 1);
            let Some(last) = behind.rposition(|sequence| !filling.contains(sequence)) else {
                return false;
            };
            self.preempt(index + 1 + last);
        }
    }

    /// Sends a running sequence back to the head of its queue.
    fn preempt(&mut self, index: usize) {
        let mut sequence = self.running.remove(index);
        self.kv.release(&mut sequence.table);
        sequence.computed = 0;
        self.counts.preemptions += 1;
        let queue = &mut self.waiting[sequence.class as usize];
        let place = queue.partition_point(|waiting| waiting.id < sequence.id);
        queue.insert(place, sequence);
    }

    /// Lets the next waiting sequence of a class run, if there are a slot and blocks for it;
    /// returns its place.
    fn admit(&mut self, class: Class) -> Option<usize> {
        if !self.has_slot(class) {
            return None;
        }
        let mut sequence = self.waiting[class as usize].pop_front()?;
        if !self.settle_in(&mut sequence) {
            self.kv.release(&mut sequence.table);
            sequence.computed = 0;
            self.waiting[class as usize].push_front(sequence);
            return None;
        }
        if sequence.cached_tokens.is_none() {
            sequence.cached_tokens = Some(sequence.computed);
            self.counts.cached_tokens += sequence.computed as u64;
            self.counts.prompt_tokens += sequence.prompt_tokens as u64;
        }
        let order = (sequence.class, sequence.id);
        let index = self
            .running
            .partition_point(|other| (other.class, other.id) < order);
        self.running.insert(index, sequence);
        Some(index)
    }

    fn has_slot(&self, class: Class) -> bool {
        let reserved = self.options.interactive_slots_reserved;
        self.running.len() < self.options.slots_max
            && (class == Class::Interactive
                || self.bulk_running() < self.options.slots_max - reserved)
    }

    /// Takes over the longest shared prefix, and says whether what is left will fit beside the
    /// running sequences. An interactive sequence sends bulk ones back to fit.
    fn settle_in(&mut self, sequence: &mut Sequence) -> bool {
        if sequence.logits == LogitsWanted::Last {
            sequence.update_hashes();
            // At least one token is computed: its logits are what is wanted.
            let reusable = (sequence.tokens.len() - 1) / BLOCK_TOKENS;
            let mut table = std::mem::take(&mut sequence.table);
            let hashes = &sequence.hashes[..reusable];
            let allowed = |blocks: usize| sequence.may_resume_at(blocks * BLOCK_TOKENS);
            sequence.computed = self.kv.adopt_prefix(&mut table, hashes, allowed);
            sequence.table = table;
        }
        loop {
            if self.running.is_empty() || self.fits(sequence) {
                return true;
            }
            let last = self
                .running
                .iter()
                .rposition(|other| other.class == Class::Bulk);
            match (sequence.class, last) {
                (Class::Interactive, Some(index)) => self.preempt(index),
                _ => return false,
            }
        }
    }

    /// Whether both pools hold this sequence's tokens and what the running ones still lack of
    /// theirs.
    fn fits(&self, sequence: &Sequence) -> bool {
        let lacking = |sequence: &Sequence| {
            let tokens = sequence.tokens.len() + 1;
            let local_held = sequence.table.local.iter().flatten().count();
            let global = blocks_for(tokens).saturating_sub(sequence.table.global.len());
            (
                global,
                self.kv
                    .local_blocks_for(tokens)
                    .saturating_sub(local_held)
                    .min(global),
            )
        };
        let all = self.running.iter().chain([sequence]).map(lacking);
        let (global, local) = all.fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1));
        global <= self.kv.global().available() && local <= self.kv.local().available()
    }
}

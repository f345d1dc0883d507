//! One step: plan, run, sample, commit.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use crate::batch::{Forward, ForwardError, Logits, TokenId};
use crate::encoded::EncodedViews;
use crate::generation::GenerateError;
use crate::image::View;
use crate::prompt::Prompter;
use crate::request::{Request, Work};
use crate::row::{Draw, RowError, RowTask, Scored};
use crate::scheduler::{Part, Scheduler, StepPlan};
use crate::sequence::{Contents, SequenceId};
use crate::stop::FinishReason;

/// What a step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepReport {
    /// Sequences in it.
    pub sequences: usize,
    /// Prompt tokens it read.
    pub prefill_tokens: usize,
    /// Tokens it continued answers from, drafts that held included.
    pub decode_tokens: usize,
    /// Drafted tokens that did not hold.
    pub rejected_tokens: usize,
    /// How long it took.
    pub duration: Duration,
}

/// Pictures encoded since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VisionCounts {
    /// Views that were encoded.
    pub views: u64,
    /// Time it took, between steps.
    pub busy: Duration,
}

/// Logits whose memory is kept for the next step: some 64 rows of Gemma's vocabulary.
const LOGITS_KEPT_MAX: usize = 1 << 24;

/// Everything the engine thread owns.
pub(crate) struct Core {
    pub(crate) forward: Box<dyn Forward>,
    pub(crate) prompter: Arc<Prompter>,
    pub(crate) scheduler: Scheduler,
    pub(crate) requests: HashMap<SequenceId, Request>,
    /// Pictures that are encoded.
    pub(crate) encoded: EncodedViews,
    pub(crate) vision: VisionCounts,
    /// Tokens that may not be drawn.
    pub(crate) suppressed: Vec<TokenId>,
    pub(crate) next_id: u64,
    /// Those of the last step, for the memory's sake.
    pub(crate) logits: Logits,
}

impl Core {
    /// Takes in a request.
    pub(crate) fn submit(&mut self, mut request: Request) {
        self.next_id += 1;
        let id = SequenceId(self.next_id);
        self.scheduler.submit(request.sequence(id));
        self.requests.insert(id, request);
    }

    /// Computes one step; `None` if there was nothing to compute. An error means that the device
    /// is gone; any other failure ends the step's requests only.
    pub(crate) fn step(&mut self) -> Result<Option<StepReport>, ForwardError> {
        self.drop_cancelled(Instant::now());
        self.encode_ahead()?;
        let started = Instant::now();
        let encoded = &self.encoded;
        let Some(plan) = self.scheduler.plan(|contents| encoded.contains(contents)) else {
            // A sequence that begins with a picture waits for it once it runs.
            let mut ahead = self.scheduler.images_ahead();
            assert!(
                self.requests.is_empty()
                    || ahead.any(|(_, image)| !encoded.contains(&image.contents)),
                "requests wait and none of them can run"
            );
            return Ok(None);
        };
        for id in &plan.admitted {
            if let Some(request) = self.requests.get_mut(id) {
                request.admitted.get_or_insert(started);
            }
        }
        let mut accepted_tokens = 0;
        let mut logits = std::mem::take(&mut self.logits);
        match self.forward.forward(&plan.batch, &mut logits) {
            Ok(()) => {
                let scored = self.sample(&plan, &mut logits);
                accepted_tokens = self.commit(&plan, scored, Instant::now());
            }
            Err(error) if error.fatal => return Err(error),
            Err(error) => {
                for part in &plan.parts {
                    self.fail(part.sequence, &error);
                }
            }
        }
        if logits.values.capacity() <= LOGITS_KEPT_MAX {
            self.logits = logits;
        }
        Ok(Some(StepReport {
            sequences: plan.parts.len(),
            prefill_tokens: plan.batch.tokens.len() - plan.decode_tokens - plan.drafted_tokens,
            decode_tokens: plan.decode_tokens + accepted_tokens,
            rejected_tokens: plan.drafted_tokens - accepted_tokens,
            duration: started.elapsed(),
        }))
    }

    /// Encodes the pictures that running sequences come to next, as many as go at once.
    fn encode_ahead(&mut self) -> Result<(), ForwardError> {
        let Some(image) = self.forward.shape().image else {
            return Ok(());
        };
        let mut needed = HashSet::new();
        let mut missing = Vec::new();
        for (id, range) in self.scheduler.images_ahead() {
            let first = needed.insert(range.contents);
            if self.encoded.contains(&range.contents) {
                self.encoded.use_now(range.contents);
            } else if first && missing.len() < image.views_max {
                missing.push((id, range.contents));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        for contents in self.encoded.make_room(missing.len(), &needed) {
            self.forward.forget(&contents);
        }
        let started = Instant::now();
        let views: Vec<&View> = missing
            .iter()
            .filter_map(|(id, contents)| self.requests.get(id)?.view(contents))
            .collect();
        let outcome = self.forward.encode(&views);
        self.vision.busy += started.elapsed();
        match outcome {
            Ok(encoded) => {
                self.vision.views += encoded as u64;
                for (_, contents) in missing {
                    self.encoded.use_now(contents);
                }
                Ok(())
            }
            Err(error) if error.fatal => Err(error),
            Err(error) => {
                let missing = missing.into_iter().map(|(_, contents)| contents).collect();
                self.fail_readers(&missing, &error);
                Ok(())
            }
        }
    }

    /// Ends the requests that were about to read one of these pictures.
    fn fail_readers(&mut self, pictures: &HashSet<Contents>, error: &ForwardError) {
        let ahead = self.scheduler.images_ahead();
        let readers: HashSet<SequenceId> = ahead
            .filter(|(_, image)| pictures.contains(&image.contents))
            .map(|(id, _)| id)
            .collect();
        for id in readers {
            self.fail(id, error);
        }
    }

    fn drop_cancelled(&mut self, now: Instant) {
        let left = self
            .requests
            .iter()
            .filter(|(_, request)| request.is_cancelled());
        let left: Vec<SequenceId> = left.map(|(id, _)| *id).collect();
        for id in left {
            self.finish(id, FinishReason::Cancelled, now);
        }
    }

    /// Draws, or scores, from every row of logits; rows are independent of each other.
    fn sample(&self, plan: &StepPlan, logits: &mut Logits) -> Vec<Result<Scored, RowError>> {
        let tasks: Vec<RowTask> = plan
            .parts
            .iter()
            .flat_map(|part| self.row_tasks(part, plan.draft(part)))
            .collect();
        let suppressed = &self.suppressed;
        let rows = logits.values.par_chunks_mut(logits.vocab.max(1)).zip(tasks);
        let work = || rows.map(|(row, task)| task.run(row, suppressed)).collect();
        match self.forward.cpu() {
            Some(cpu) => cpu.run(work),
            None => work(),
        }
    }

    /// What to do with the logits of a sequence, row by row.
    fn row_tasks(&self, part: &Part, draft: &[TokenId]) -> Vec<RowTask<'_>> {
        let request = self.requests.get(&part.sequence);
        let sequence = self.scheduler.running(part.sequence);
        let (Some(request), Some(sequence)) = (request, sequence) else {
            return Vec::new();
        };
        let tokens = sequence.tokens.as_slice();
        match &request.work {
            Work::Generate(generate) => {
                let (sampling, logprobs) = (&generate.sampling, generate.logprobs);
                let history = |drafted: usize| match &draft[..drafted] {
                    [] => Cow::Borrowed(tokens),
                    guesses => Cow::Owned([tokens, guesses].concat()),
                };
                let draw = |drafted: usize| Draw {
                    sampling,
                    history: history(drafted),
                    grammar: generate.grammar.as_ref(),
                    logprobs,
                };
                let rows = 0..part.logit_rows.len();
                rows.map(|drafted| RowTask::Draw(draw(drafted))).collect()
            }
            Work::Next(next) => {
                let rows = 0..part.logit_rows.len();
                rows.map(|_| RowTask::Weigh(&next.tokens)).collect()
            }
            Work::Score(score) => {
                let next = |index: usize| tokens.get(index + 1).copied().unwrap_or(score.last);
                let positions = (sequence.computed..).take(part.logit_rows.len());
                let row = |position| RowTask::Score {
                    token: next(position),
                    top: score.top,
                };
                positions.map(row).collect()
            }
        }
    }

    /// Stores what the step gave, and sends it on; returns how many drafted tokens were drawn.
    fn commit(
        &mut self,
        plan: &StepPlan,
        scored: Vec<Result<Scored, RowError>>,
        now: Instant,
    ) -> usize {
        self.scheduler.commit(plan);
        let mut scored = scored.into_iter();
        let mut accepted = 0;
        for part in &plan.parts {
            let rows: Result<Vec<Scored>, RowError> =
                scored.by_ref().take(part.logit_rows.len()).collect();
            match rows {
                Ok(rows) => accepted += self.deliver(part, plan.draft(part), rows, now),
                Err(error) => self.fail_row(part.sequence, error),
            }
        }
        accepted
    }

    /// Adds a sequence's new tokens, or scores, to its request; returns how many tokens of the
    /// draft were drawn.
    fn deliver(
        &mut self,
        part: &Part,
        draft: &[TokenId],
        rows: Vec<Scored>,
        now: Instant,
    ) -> usize {
        let id = part.sequence;
        let Some(request) = self.requests.get_mut(&id) else {
            return 0;
        };
        let mut accepted = 0;
        let ended = match &mut request.work {
            Work::Score(score) => {
                score
                    .collected
                    .extend(rows.into_iter().filter_map(|row| row.logprob));
                let done = self
                    .scheduler
                    .running(id)
                    .is_none_or(|s| s.uncomputed() == 0);
                done.then_some(FinishReason::Stop)
            }
            Work::Next(next) => rows.into_iter().last().map(|row| {
                next.logits = row.logits;
                FinishReason::Stop
            }),
            Work::Generate(_) if rows.is_empty() => None,
            Work::Generate(generate) => {
                let mut drawn = Vec::with_capacity(rows.len());
                let mut ended = None;
                // A row behind a token that was not drafted answers a question nobody asked.
                for (index, Scored { token, logprob, .. }) in rows.into_iter().enumerate() {
                    drawn.push(token);
                    generate.collected.extend(logprob);
                    ended = generate.answer.push(self.prompter.tokenizer(), token);
                    if ended.is_some() || draft.get(index) != Some(&token) {
                        break;
                    }
                }
                accepted = drawn.len() - 1;
                self.scheduler.append(part, &drawn);
                generate.first_token.get_or_insert(now);
                generate
                    .reply
                    .push_text(generate.answer.take_released(ended.is_some()));
                ended
            }
        };
        if let Some(reason) = ended {
            self.finish(id, reason, now);
        }
        accepted
    }

    fn finish(&mut self, id: SequenceId, reason: FinishReason, now: Instant) {
        let sequence = self.scheduler.remove(id);
        if let (Some(mut request), Some(sequence)) = (self.requests.remove(&id), sequence) {
            if let (Work::Generate(generate), FinishReason::Cancelled) = (&mut request.work, reason)
            {
                generate.answer.end(reason);
            }
            request.finish(&sequence, reason, now);
        }
    }

    /// Ends a request whose logits gave no token.
    fn fail_row(&mut self, id: SequenceId, error: RowError) {
        let sequence = self.scheduler.remove(id);
        let position = sequence.map_or(0, |sequence| sequence.computed);
        if let Some(request) = self.requests.remove(&id) {
            request.fail(match error {
                RowError::NotFinite(_) => GenerateError::NotFinite { position },
                RowError::Grammar(error) => GenerateError::Form {
                    message: error.to_string(),
                },
            });
        }
    }

    /// Ends a request of a step that failed.
    fn fail(&mut self, id: SequenceId, error: &ForwardError) {
        self.scheduler.remove(id);
        if let Some(request) = self.requests.remove(&id) {
            request.fail(GenerateError::Step {
                message: error.message.clone(),
            });
        }
    }
}

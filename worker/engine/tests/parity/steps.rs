//! Steps built by hand, without the scheduler: sequences over blocks that lie anywhere.

use lapidary_engine::batch::{
    BLOCK_TOKENS, BlockId, Forward, ForwardError, Logits, Span, StepBatch, TokenId,
};
use lapidary_engine::runner::GemmaRunner;
use lapidary_engine::sequence::AtomicRange;

/// Blocks that each sequence may use of either pool.
const BLOCKS_A_SEQUENCE: usize = 40;
/// Sequences that fit at once.
pub(crate) const SEQUENCES: usize = 8;

/// A part of a sequence to compute in a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    /// Which sequence's blocks it lives in.
    pub sequence: usize,
    /// All tokens of the sequence so far.
    pub tokens: &'a [TokenId],
    /// Positions before this one are already stored.
    pub start: usize,
    /// Pictures among the tokens; none is split by `start`.
    pub images: &'a [AtomicRange],
}

impl Part<'_> {
    /// Pictures that are not stored yet.
    fn images_ahead(&self) -> Vec<AtomicRange> {
        let ahead = |image: &&AtomicRange| {
            image.positions.start >= self.start && image.positions.end <= self.tokens.len()
        };
        self.images.iter().filter(ahead).cloned().collect()
    }
}

/// Makes room for [`SEQUENCES`].
pub(crate) fn allocate(runner: &mut GemmaRunner) {
    let blocks = SEQUENCES * BLOCKS_A_SEQUENCE;
    runner.allocate(blocks, blocks).unwrap();
}

/// Logits of every row of `parts`, computed in one step: `[rows][vocab]`.
pub(crate) fn step(runner: &mut GemmaRunner, parts: &[Part<'_>]) -> Vec<Vec<f32>> {
    try_step(runner, parts).unwrap()
}

/// [`step`], which may fail.
pub(crate) fn try_step(
    runner: &mut GemmaRunner,
    parts: &[Part<'_>],
) -> Result<Vec<Vec<f32>>, ForwardError> {
    let window = runner.shape().window;
    let mut batch = StepBatch::default();
    for part in parts {
        let first = batch.tokens.len();
        batch.tokens.extend(&part.tokens[part.start..]);
        let blocks = part.tokens.len().div_ceil(BLOCK_TOKENS);
        // Neighbouring positions lie in blocks far apart, and differently in the two pools.
        let id = |index: usize, stride: usize| {
            let own = index * stride % BLOCKS_A_SEQUENCE;
            BlockId(u32::try_from(own * SEQUENCES + part.sequence).unwrap())
        };
        let seen_from = window.map_or(0, |window| (part.start + 1).saturating_sub(window));
        batch.spans.push(Span {
            rows: first..batch.tokens.len(),
            start: part.start,
            global_blocks: (0..blocks).map(|index| id(index, 7)).collect(),
            images: part.images_ahead(),
            local_blocks: (0..blocks)
                .map(|index| {
                    let passed = window.is_none() || index < seen_from / BLOCK_TOKENS;
                    (!passed).then(|| id(index, 11))
                })
                .collect(),
        });
    }
    batch.logit_rows = (0..batch.tokens.len()).collect();
    let mut logits = Logits::default();
    runner.forward(&batch, &mut logits)?;
    assert_eq!(logits.values.len(), batch.tokens.len() * logits.vocab);
    let rows = logits.values.chunks_exact(logits.vocab);
    Ok(rows.map(<[f32]>::to_vec).collect())
}

/// Logits of every position of `tokens`, computed in chunks of the given sizes, over and over.
pub(crate) fn in_chunks(
    runner: &mut GemmaRunner,
    sequence: usize,
    tokens: &[TokenId],
    sizes: &[usize],
) -> Vec<Vec<f32>> {
    with_images_in_chunks(runner, sequence, (tokens, &[]), sizes)
}

/// The same for tokens with pictures among them: a chunk that would end in one takes all of it.
pub(crate) fn with_images_in_chunks(
    runner: &mut GemmaRunner,
    sequence: usize,
    (tokens, images): (&[TokenId], &[AtomicRange]),
    sizes: &[usize],
) -> Vec<Vec<f32>> {
    let mut rows = Vec::new();
    for size in sizes.iter().cycle() {
        let end = tokens.len().min(rows.len().saturating_add(*size));
        let split = |image: &&AtomicRange| image.positions.contains(&(end - 1));
        let image = images.iter().find(split);
        let end = image.map_or(end, |image| image.positions.end);
        let part = Part {
            sequence,
            tokens: &tokens[..end],
            start: rows.len(),
            images,
        };
        rows.extend(step(runner, &[part]));
        if end == tokens.len() {
            return rows;
        }
    }
    unreachable!("sizes repeat for ever")
}

/// The bits, so that equality means equality.
pub(crate) fn bits(rows: &[Vec<f32>]) -> Vec<Vec<u32>> {
    rows.iter()
        .map(|row| row.iter().map(|value| value.to_bits()).collect())
        .collect()
}

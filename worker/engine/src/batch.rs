//! One step's work as plain integers: what the scheduler plans and a model computes.
//!
//! Nothing here knows candle. The scheduler fills a [`StepBatch`]; a [`Forward`] turns it into
//! logits. Tokens of all sequences lie packed without padding; only attention knows sequences.

use std::ops::Range;

use crate::device::Cpu;
use crate::image::{ImageSpec, View};
use crate::sequence::{AtomicRange, Contents};

/// An entry of the vocabulary.
pub type TokenId = u32;

/// One block of a KV pool: room for [`BLOCK_TOKENS`] positions in every layer of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(pub u32);

/// Positions a KV block holds. Attention reduces keys in these same absolute blocks
/// (positions `n * BLOCK_TOKENS ..`), so a row's result does not depend on how it was chunked.
pub const BLOCK_TOKENS: usize = 32;

/// The rows of one sequence in a step, and where its keys and values live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// This sequence's rows of the packed tensors.
    pub rows: Range<usize>,
    /// Absolute position of the first row; row `i` is position `start + i`.
    pub start: usize,
    /// Blocks of the global (full attention) pool, covering positions `0 .. start + rows.len()`.
    pub global_blocks: Vec<BlockId>,
    /// Blocks of the local (sliding window) pool by the same indexes; `None` where the window has
    /// moved past the block and it was given back.
    pub local_blocks: Vec<Option<BlockId>>,
    /// Pictures whose soft tokens are among these rows, each of them whole, by their positions.
    /// Their rows attend to each other in both directions; their token ids mean nothing.
    pub images: Vec<AtomicRange>,
}

/// One step: the tokens of all its sequences, decode tokens and prefill chunks together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepBatch {
    /// `[T]` token ids, packed.
    pub tokens: Vec<TokenId>,
    /// The sequences, in row order; together they cover `0 .. T` without gap or overlap.
    pub spans: Vec<Span>,
    /// Rows of the packed tensor whose logits are wanted, ascending.
    pub logit_rows: Vec<usize>,
}

/// Logits of the wanted rows: `[rows, vocab]` f32, row-major.
#[derive(Debug, Clone, Default)]
pub struct Logits {
    /// Width of a row.
    pub vocab: usize,
    /// Row-major values; `len() == rows * vocab`.
    pub values: Vec<f32>,
}

impl Logits {
    /// One row, `[vocab]`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.vocab..(index + 1) * self.vocab]
    }
}

/// What the scheduler must know of a model; fixed when it is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelShape {
    /// Width of a row of logits.
    pub vocab: usize,
    /// Longest sequence the model was trained for, prompt and output together.
    pub context_tokens_max: usize,
    /// Keys a sliding layer sees, the query's own included; `None` if no layer slides.
    pub window: Option<usize>,
    /// Bytes one block takes in the global pool, all global layers together.
    pub global_block_bytes: usize,
    /// Bytes one block takes in the local pool, all sliding layers together.
    pub local_block_bytes: usize,
    /// How it reads pictures; `None` for a model of text only.
    pub image: Option<ImageShape>,
}

/// How a model reads pictures; fixed when it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageShape {
    /// What a picture is made into before it is encoded.
    pub spec: ImageSpec,
    /// Soft tokens that stand for a view in a prompt: computed in one step or not at all.
    pub tokens: usize,
    /// Bytes the soft tokens of a view take once they are encoded.
    pub bytes: usize,
    /// Views that are encoded at once.
    pub views_max: usize,
}

impl ModelShape {
    /// Longest range of a prompt that is computed in one step or not at all.
    pub fn atomic_tokens_max(&self) -> usize {
        self.image.map_or(0, |image| image.tokens)
    }
}

/// Why a step could not be computed. The step's sequences fail; the engine goes on.
#[derive(Debug, thiserror::Error)]
#[error("model step failed: {message}")]
pub struct ForwardError {
    /// What the model reported.
    pub message: String,
    /// Whether the device itself is gone, so that no later step can succeed.
    pub fatal: bool,
}

/// Computes one step. Implemented by the Gemma runner, and by a fake in tests.
///
/// A row's logits must be bit-equal for any number of other rows, for any chunking of its
/// sequence, and whether it is computed as prefill or as decode.
pub trait Forward: Send {
    /// Shapes and sizes the scheduler plans by.
    fn shape(&self) -> &ModelShape;

    /// Makes room for this many blocks; called once, before the first step.
    fn allocate(&mut self, global_blocks: usize, local_blocks: usize) -> Result<(), ForwardError>;

    /// Computes the soft tokens of views, at most [`ImageShape::views_max`], and keeps them by the
    /// views' SHA-256 until they are forgotten. Returns how many of them had to be computed.
    fn encode(&mut self, views: &[&View]) -> Result<usize, ForwardError>;

    /// Gives back the soft tokens of a view.
    fn forget(&mut self, contents: &Contents);

    /// Stores the keys and values of every row of `batch`, and replaces what is in `logits`, whose
    /// memory is used again, by those of its `logit_rows`: `[logit_rows.len(), vocab]`.
    fn forward(&mut self, batch: &StepBatch, logits: &mut Logits) -> Result<(), ForwardError>;

    /// What it computes on, for all else that a step does; `None` if it has no threads.
    fn cpu(&self) -> Option<&Cpu> {
        None
    }
}

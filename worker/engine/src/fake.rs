//! A model that computes nothing, for tests of the scheduler and of what stands on the engine.
//!
//! It stores each token it is given in the block that the step names, reads a sequence's tokens
//! back through the step's tables, and makes logits of a hash of what it read. A wrong table, a
//! wrong position or a block that was reused too early changes the output or panics. Soft tokens
//! of a picture are seen by all of its rows, and only if it is encoded.

use std::collections::HashSet;

use crate::batch::{
    BLOCK_TOKENS, BlockId, Forward, ForwardError, ImageShape, Logits, ModelShape, Span, StepBatch,
    TokenId,
};
use crate::image::{ImageSpec, View};
use crate::sequence::{AtomicRange, Contents};

/// A token with its position, as stored; `None` where nothing was written yet.
type Cell = Option<(TokenId, usize)>;

/// Width and height of a view, in pixels.
pub const FAKE_SIDE: u32 = 2;

/// What a step does instead of computing.
type Fault = Box<dyn FnMut(&StepBatch) -> Result<(), ForwardError> + Send>;
/// What it does instead of encoding.
type EncodeFault = Box<dyn FnMut(&[&View]) -> Result<(), ForwardError> + Send>;

/// See the module.
pub struct FakeForward {
    shape: ModelShape,
    global: Vec<Cell>,
    local: Vec<Cell>,
    fault: Option<Fault>,
    encode_fault: Option<EncodeFault>,
    encoded: HashSet<Contents>,
}

impl FakeForward {
    /// A model of `vocab` tokens, 4,096 tokens of context and a window of `window` keys. A block
    /// of either pool takes one byte.
    pub fn new(vocab: usize, window: Option<usize>) -> Self {
        let shape = ModelShape {
            vocab,
            context_tokens_max: 4096,
            window,
            global_block_bytes: 1,
            local_block_bytes: usize::from(window.is_some()),
            image: None,
        };
        Self {
            shape,
            global: Vec::new(),
            local: Vec::new(),
            fault: None,
            encode_fault: None,
            encoded: HashSet::new(),
        }
    }

    /// The same model, that reads views of [`FAKE_SIDE`] as `tokens` soft tokens of 1 byte in all,
    /// two at once.
    #[must_use]
    pub fn with_images(mut self, tokens: usize) -> Self {
        self.shape.image = Some(ImageShape {
            spec: ImageSpec {
                side: FAKE_SIDE,
                pan_and_scan: false,
            },
            tokens,
            bytes: 1,
            views_max: 2,
        });
        self
    }

    /// Calls `fault` before views are encoded: it may fail that, or panic.
    #[must_use]
    pub fn with_encode_fault(
        mut self,
        fault: impl FnMut(&[&View]) -> Result<(), ForwardError> + Send + 'static,
    ) -> Self {
        self.encode_fault = Some(Box::new(fault));
        self
    }

    /// Calls `fault` before each step: it may fail it, or panic.
    #[must_use]
    pub fn with_fault(
        mut self,
        fault: impl FnMut(&StepBatch) -> Result<(), ForwardError> + Send + 'static,
    ) -> Self {
        self.fault = Some(Box::new(fault));
        self
    }

    /// What row `position` holds: its token, or its part of a picture.
    fn token(&self, span: &Span, token: TokenId, position: usize) -> TokenId {
        let holds = |image: &&AtomicRange| image.positions.contains(&position);
        let Some(image) = span.images.iter().find(holds) else {
            return token;
        };
        assert!(
            self.encoded.contains(&image.contents),
            "read before it was encoded"
        );
        let [a, b, c, d, ..] = image.contents;
        u32::from_le_bytes([a, b, c, d])
    }

    fn store(&mut self, tokens: &[TokenId], span: &Span) {
        for (row, position) in span.rows.clone().zip(span.start..) {
            let cell = Some((self.token(span, tokens[row], position), position));
            let index = position / BLOCK_TOKENS;
            self.global[slot(span.global_blocks[index], position)] = cell;
            if self.shape.window.is_some() {
                let local = span.local_blocks[index].expect("a row's own local block is there");
                self.local[slot(local, position)] = cell;
            }
        }
    }

    /// A hash of the tokens that a query at `position` sees.
    fn context_hash(&self, span: &Span, position: usize) -> u64 {
        let mut hash = 0;
        let mut read = |cells: &[Cell], block: BlockId, at: usize| {
            let (token, stored_at) = cells[slot(block, at)].expect("read before it was written");
            assert_eq!(stored_at, at, "{block:?} holds another position");
            hash = mix(hash ^ u64::from(token));
        };
        let holds = |image: &&AtomicRange| image.positions.contains(&position);
        let image = span.images.iter().find(holds);
        let end = image.map_or(position + 1, |image| image.positions.end);
        for at in 0..end {
            read(&self.global, span.global_blocks[at / BLOCK_TOKENS], at);
        }
        if let Some(window) = self.shape.window {
            for at in (position + 1).saturating_sub(window)..end {
                let block = span.local_blocks[at / BLOCK_TOKENS];
                read(
                    &self.local,
                    block.expect("a block in the window is there"),
                    at,
                );
            }
        }
        hash
    }
}

impl Forward for FakeForward {
    fn shape(&self) -> &ModelShape {
        &self.shape
    }

    fn allocate(&mut self, global_blocks: usize, local_blocks: usize) -> Result<(), ForwardError> {
        self.global = vec![None; global_blocks * BLOCK_TOKENS];
        self.local = vec![None; local_blocks * BLOCK_TOKENS];
        Ok(())
    }

    fn encode(&mut self, views: &[&View]) -> Result<usize, ForwardError> {
        if let Some(fault) = &mut self.encode_fault {
            fault(views)?;
        }
        self.encoded.extend(views.iter().map(|view| *view.sha256()));
        Ok(views.len())
    }

    fn forget(&mut self, contents: &Contents) {
        assert!(self.encoded.remove(contents), "forgotten twice");
    }

    fn forward(&mut self, batch: &StepBatch, logits: &mut Logits) -> Result<(), ForwardError> {
        if let Some(fault) = &mut self.fault {
            fault(batch)?;
        }
        for span in &batch.spans {
            self.store(&batch.tokens, span);
        }
        let vocab = self.shape.vocab;
        logits.vocab = vocab;
        logits.values.clear();
        for row in &batch.logit_rows {
            let span = batch.spans.iter().find(|span| span.rows.contains(row));
            let span = span.expect("every row belongs to a sequence");
            let hash = self.context_hash(span, span.start + row - span.rows.start);
            let values = (0..vocab as u64).map(|token| logit(mix(hash ^ mix(token + 1))));
            logits.values.extend(values);
        }
        Ok(())
    }
}

fn slot(block: BlockId, position: usize) -> usize {
    block.0 as usize * BLOCK_TOKENS + position % BLOCK_TOKENS
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A value in −4 … 4 of a hash.
fn logit(hash: u64) -> f32 {
    let unit = f32::from(u16::try_from(hash >> 48).unwrap_or(u16::MAX)) / f32::from(u16::MAX);
    unit * 8.0 - 4.0
}

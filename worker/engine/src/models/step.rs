//! A step as a model's layers need it: positions, what each query sees, where rows are stored.

use crate::batch::{BLOCK_TOKENS, BlockId, Span, StepBatch, TokenId};
use crate::kv::cache::{BlockWrite, KvCache};
use crate::models::config::LayerKind;
use crate::ops::attention::SpanKeys;
use crate::sequence::{AtomicRange, Contents};
use candle_core::{Result, Tensor};
use std::collections::HashSet;
use std::ops::Range;

/// A checked [`StepBatch`], laid out for both kinds of layers.
pub(crate) struct StepLayout<'a> {
    /// `[T]`.
    pub tokens: &'a [TokenId],
    /// `[T]` absolute positions.
    pub positions: Vec<usize>,
    /// Rows whose logits are wanted.
    pub logit_rows: &'a [usize],
    /// Rows of pictures, and which.
    pub images: Vec<(Range<usize>, &'a Contents)>,
    global: PoolLayout,
    local: PoolLayout,
}

#[derive(Default)]
struct PoolLayout {
    spans: Vec<SpanKeys>,
    writes: Vec<BlockWrite>,
}

impl<'a> StepLayout<'a> {
    /// Lays out `batch`, or says what in it cannot be computed. `window`: keys a local layer's
    /// query sees, if there are local layers.
    pub(crate) fn new(
        batch: &'a StepBatch,
        window: Option<usize>,
        cache: &KvCache,
    ) -> std::result::Result<Self, String> {
        check_rows(batch)?;
        let mut layout = Self {
            tokens: &batch.tokens,
            positions: Vec::with_capacity(batch.tokens.len()),
            logit_rows: &batch.logit_rows,
            images: Vec::new(),
            global: PoolLayout::default(),
            local: PoolLayout::default(),
        };
        for span in &batch.spans {
            let positions = span.start..span.start + span.rows.len();
            layout.positions.extend(positions.clone());
            for image in &span.images {
                layout
                    .images
                    .push((rows_of_image(span, image)?, &image.contents));
            }
            // A picture's rows see all of it, and everything before.
            let ends = positions.clone().map(|position| seen_to(span, position));
            let ranges = ends.clone().map(|end| 0..end).collect();
            let blocks = span.global_blocks.iter().copied().map(Some).collect();
            layout.global.add(span, ranges, blocks)?;
            if let Some(window) = window {
                let first = |position: usize| (position + 1).saturating_sub(window);
                let ranges = positions
                    .zip(ends)
                    .map(|(position, end)| first(position)..end)
                    .collect();
                layout.local.add(span, ranges, span.local_blocks.clone())?;
            }
        }
        layout
            .global
            .check_writes(cache.blocks(LayerKind::Global))?;
        layout.local.check_writes(cache.blocks(LayerKind::Local))?;
        Ok(layout)
    }

    /// What the queries of a kind of layer see.
    pub(crate) fn spans(&self, kind: LayerKind) -> &[SpanKeys] {
        &self.pool(kind).spans
    }

    /// Stores the rows' keys and values, the last columns of `qkv` `[T, (N + 2K) H]`.
    pub(crate) fn store(
        &self,
        cache: &mut KvCache,
        layer: usize,
        kind: LayerKind,
        qkv: &Tensor,
    ) -> Result<()> {
        let (storage, layout) = qkv.storage_and_layout();
        let candle_core::Storage::Cpu(storage) = &*storage else {
            candle_core::bail!("keys and values lie on another device than the cache");
        };
        let (_, width) = layout.shape().dims2()?;
        let values = crate::ops::rows_of(storage, layout, width)?;
        cache.store(layer, values, width, &self.pool(kind).writes);
        Ok(())
    }

    fn pool(&self, kind: LayerKind) -> &PoolLayout {
        match kind {
            LayerKind::Global => &self.global,
            LayerKind::Local => &self.local,
        }
    }
}

impl PoolLayout {
    fn add(
        &mut self,
        span: &Span,
        ranges: Vec<Range<usize>>,
        blocks: Vec<Option<BlockId>>,
    ) -> std::result::Result<(), String> {
        let block_at =
            |index: usize| {
                blocks.get(index).copied().flatten().ok_or_else(|| {
                    format!("no block for positions from {} on", index * BLOCK_TOKENS)
                })
            };
        let from = ranges.iter().map(|range| range.start).min().unwrap_or(0);
        let to = ranges.iter().map(|range| range.end).max().unwrap_or(0);
        for index in from / BLOCK_TOKENS..to.div_ceil(BLOCK_TOKENS) {
            block_at(index)?;
        }
        let mut row = span.rows.start;
        let mut position = span.start;
        while row < span.rows.end {
            let slot = position % BLOCK_TOKENS;
            let rows = (BLOCK_TOKENS - slot).min(span.rows.end - row);
            self.writes.push(BlockWrite {
                block: block_at(position / BLOCK_TOKENS)?,
                slot,
                row,
                rows,
            });
            row += rows;
            position += rows;
        }
        self.spans.push(SpanKeys {
            rows: span.rows.clone(),
            ranges,
            blocks,
        });
        Ok(())
    }

    /// Every block exists, and no two sequences write the same one.
    fn check_writes(&self, count: usize) -> std::result::Result<(), String> {
        let named = self
            .spans
            .iter()
            .flat_map(|span| span.blocks.iter().flatten());
        if let Some(block) = named.into_iter().find(|block| block.0 as usize >= count) {
            return Err(format!("block {} of a pool of {count}", block.0));
        }
        let mut written = HashSet::new();
        match self
            .writes
            .iter()
            .find(|write| !written.insert(write.block))
        {
            Some(write) => Err(format!("block {} is written twice", write.block.0)),
            None => Ok(()),
        }
    }
}

/// The rows of a picture, which is there as a whole.
fn rows_of_image(span: &Span, image: &AtomicRange) -> std::result::Result<Range<usize>, String> {
    let Range { start, end } = image.positions;
    if start >= end || start < span.start || end > span.start + span.rows.len() {
        return Err(format!("a picture at {start}..{end} is split"));
    }
    let first = span.rows.start + start - span.start;
    Ok(first..first + end - start)
}

/// Where the keys end that a query at `position` sees.
fn seen_to(span: &Span, position: usize) -> usize {
    let holds = |image: &&AtomicRange| image.positions.contains(&position);
    let image = span.images.iter().find(holds);
    image.map_or(position + 1, |image| image.positions.end)
}

/// Spans cover the rows in order; the rows whose logits are wanted exist.
fn check_rows(batch: &StepBatch) -> std::result::Result<(), String> {
    let mut next = 0;
    for span in &batch.spans {
        if span.rows.start != next || span.rows.is_empty() {
            return Err(format!("rows {:?} do not follow row {next}", span.rows));
        }
        next = span.rows.end;
    }
    let rows = batch.tokens.len();
    if next != rows {
        return Err(format!("spans cover {next} rows of {rows}"));
    }
    match batch.logit_rows.iter().find(|row| **row >= rows) {
        Some(row) => Err(format!("logits of row {row} of {rows}")),
        None => Ok(()),
    }
}

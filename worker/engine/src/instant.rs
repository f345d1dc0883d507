//! A model that computes nothing: its answer is always the same token. With it the line around the
//! engine is measured, up to the speed of queue and results; and it breaks down when a prompt says so,
//! which shows what becomes of a worker and its other jobs.

use crate::batch::{Forward, ForwardError, Logits, ModelShape, StepBatch, TokenId};
use crate::image::View;
use crate::sequence::Contents;

/// What a prompt can have it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// End the process, as a crash would.
    Abort,
    /// Never end the step.
    Hang,
    /// Panic.
    Panic,
}

/// The prompts that it obeys.
pub(crate) const ORDERS: [(&str, Order); 3] = [
    ("instant: abort", Order::Abort),
    ("instant: hang", Order::Hang),
    ("instant: panic", Order::Panic),
];

/// A model's shapes without the model.
#[derive(Debug)]
pub(crate) struct InstantModel {
    shape: ModelShape,
    answer: TokenId,
    end: TokenId,
    /// The tokens of what it obeys.
    orders: Vec<(Vec<TokenId>, Order)>,
}

impl InstantModel {
    /// In the place of a model of this shape: answers `answer`, then `end`.
    pub(crate) fn new(shape: ModelShape, answer: TokenId, end: TokenId) -> Self {
        Self {
            shape,
            answer,
            end,
            orders: Vec::new(),
        }
    }

    /// With prompts that it obeys, as tokens.
    pub(crate) fn obeying(self, orders: Vec<(Vec<TokenId>, Order)>) -> Self {
        Self { orders, ..self }
    }

    fn order(&self, tokens: &[TokenId]) -> Option<Order> {
        let said = |words: &[TokenId]| tokens.windows(words.len().max(1)).any(|some| some == words);
        let found = self.orders.iter().find(|(words, _)| said(words));
        found.map(|(_, order)| *order)
    }
}

impl Forward for InstantModel {
    fn shape(&self) -> &ModelShape {
        &self.shape
    }

    fn allocate(&mut self, _global: usize, _local: usize) -> Result<(), ForwardError> {
        Ok(())
    }

    fn encode(&mut self, views: &[&View]) -> Result<usize, ForwardError> {
        Ok(views.len())
    }

    fn forget(&mut self, _contents: &Contents) {}

    fn forward(&mut self, batch: &StepBatch, logits: &mut Logits) -> Result<(), ForwardError> {
        match self.order(&batch.tokens) {
            None => {}
            Some(Order::Abort) => std::process::abort(),
            Some(Order::Hang) => loop {
                std::thread::park();
            },
            Some(Order::Panic) => panic!("a prompt said so"),
        }
        let vocab = self.shape.vocab;
        logits.vocab = vocab;
        logits.values.clear();
        logits.values.resize(batch.logit_rows.len() * vocab, 0.0);
        let rows = logits.values.chunks_exact_mut(vocab);
        for (row, logits) in batch.logit_rows.iter().zip(rows) {
            let answered = batch.tokens.get(*row) == Some(&self.answer);
            let next = if answered { self.end } else { self.answer };
            // Far enough above the others that every way of sampling draws it.
            logits[next as usize] = 1e4;
        }
        Ok(())
    }
}

//! An answer on its way from the engine thread to whoever asked.
//!
//! Both ends share one slot that collects text until it is fetched, so the engine never waits
//! for a reader, and a slow reader costs no more memory than the answer. The reading end works
//! under any async runtime, and without one.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::batch::TokenId;
use crate::sampler::TokenLogprob;
use crate::stop::FinishReason;

/// A finished answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Its text, without stop string and end token.
    pub text: String,
    /// Every token that was drawn, the end token included.
    pub tokens: Vec<TokenId>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// What it took.
    pub usage: Usage,
    /// How long it took.
    pub timings: Timings,
    /// One entry a token, if they were asked for.
    pub logprobs: Option<Vec<TokenLogprob>>,
}

/// Tokens of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// How many of those stand for pictures.
    pub image_tokens: usize,
    /// How many of those of the prompt were taken over from earlier requests with the same beginning.
    pub cached_tokens: usize,
    /// Tokens that were drawn.
    pub completion_tokens: usize,
}

/// Where the time of a request went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// From submission until it first ran.
    pub queued: Duration,
    /// From there to the first token.
    pub prefill: Duration,
    /// From submission to the first token.
    pub first_token: Duration,
    /// From the first token to the last.
    pub decode: Duration,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    /// The step it was part of failed; the engine goes on.
    #[error("a step failed: {message}")]
    Step {
        /// What the model reported.
        message: String,
    },
    /// The model gives no usable logits for this input.
    #[error("the model's logits are not finite at position {position}")]
    NotFinite {
        /// Where.
        position: usize,
    },
    /// The form that the answer must have allows for no further token.
    #[error("the answer's form: {message}")]
    Form {
        /// What went wrong.
        message: String,
    },
    /// The request was cancelled before it gave a result.
    #[error("cancelled")]
    Cancelled,
    /// The engine stopped first.
    #[error("the engine stopped")]
    Stopped,
}

impl GenerateError {
    /// Whether the same request may succeed later, or elsewhere.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Step { .. } | Self::Stopped)
    }
}

/// What a request sends back.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<T> {
    /// More text; never half a character, and never part of a stop string.
    Text(String),
    /// The end; nothing follows.
    Finished(Result<T, GenerateError>),
}

#[derive(Debug)]
struct SlotState<T> {
    text: String,
    result: Option<Result<T, GenerateError>>,
    ended: bool,
    /// Whether the reader waits for the end only: text alone does not wake it.
    whole: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Slot<T> {
    state: Mutex<SlotState<T>>,
    ended: Condvar,
    cancelled: AtomicBool,
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, SlotState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes the reader.
    fn update(&self, change: impl FnOnce(&mut SlotState<T>)) {
        let mut state = self.lock();
        change(&mut state);
        if state.whole && !state.ended {
            return;
        }
        let waker = state.waker.take();
        drop(state);
        self.ended.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The reading end of a request. Dropping it cancels the request.
#[derive(Debug)]
#[must_use = "dropping it cancels the request"]
pub struct Pending<T> {
    slot: Arc<Slot<T>>,
}

/// The reading end of a generation.
pub type Generation = Pending<Outcome>;

/// The reading end of [`crate::Engine::score`]: one entry a token from the second on.
pub type Scoring = Pending<Vec<TokenLogprob>>;

/// The reading end of [`crate::Engine::next_logits`]: the logit of each token that was asked about.
pub type NextLogits = Pending<Vec<f32>>;

impl<T> Pending<T> {
    /// The next event; `None` after the end.
    pub async fn next(&mut self) -> Option<Event<T>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`Pending::next`], for hand-written futures and streams.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Event<T>>> {
        let mut state = self.slot.lock();
        if !state.text.is_empty() && !state.whole {
            return Poll::Ready(Some(Event::Text(std::mem::take(&mut state.text))));
        }
        if let Some(result) = state.result.take() {
            return Poll::Ready(Some(Event::Finished(result)));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// The result, without the text on the way.
    pub async fn finish(mut self) -> Result<T, GenerateError> {
        self.slot.lock().whole = true;
        while let Some(event) = self.next().await {
            if let Event::Finished(result) = event {
                return result;
            }
        }
        Err(GenerateError::Stopped)
    }

    /// The result; blocks the thread until it is there.
    pub fn wait(self) -> Result<T, GenerateError> {
        let mut state = self.slot.lock();
        while !state.ended {
            state = self
                .slot
                .ended
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.result.take().unwrap_or(Err(GenerateError::Stopped))
    }

    /// Ends the request after the current step; what it has by then is its result.
    pub fn cancel(&self) {
        self.slot.cancelled.store(true, Ordering::Release);
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// The engine's end of a request. Dropped without a result, it reports that the engine stopped.
#[derive(Debug)]
pub(crate) struct Reply<T> {
    slot: Arc<Slot<T>>,
}

/// Both ends of a request.
pub(crate) fn reply_and_pending<T>() -> (Reply<T>, Pending<T>) {
    let state = SlotState {
        text: String::new(),
        result: None,
        ended: false,
        whole: false,
        waker: None,
    };
    let slot = Arc::new(Slot {
        state: Mutex::new(state),
        ended: Condvar::new(),
        cancelled: AtomicBool::new(false),
    });
    (Reply { slot: slot.clone() }, Pending { slot })
}

impl<T> Reply<T> {
    /// Sends more text.
    pub(crate) fn push_text(&self, text: &str) {
        if !text.is_empty() {
            self.slot.update(|state| state.text.push_str(text));
        }
    }

    /// Sends the end.
    pub(crate) fn finish(self, result: Result<T, GenerateError>) {
        self.slot.update(|state| {
            state.result = Some(result);
            state.ended = true;
        });
    }

    /// Whether the other end wants no more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.slot.cancelled.load(Ordering::Acquire)
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        self.slot.update(|state| {
            if !state.ended {
                state.result = Some(Err(GenerateError::Stopped));
                state.ended = true;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll<T>(pending: &mut Pending<T>) -> Poll<Option<Event<T>>> {
        pending.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn text_that_was_not_fetched_is_joined() {
        let (reply, mut pending) = reply_and_pending::<u32>();
        assert_eq!(poll(&mut pending), Poll::Pending);
        reply.push_text("a");
        reply.push_text("b");
        assert_eq!(
            poll(&mut pending),
            Poll::Ready(Some(Event::Text("ab".into())))
        );
        reply.push_text("c");
        reply.finish(Ok(7));
        assert_eq!(
            poll(&mut pending),
            Poll::Ready(Some(Event::Text("c".into())))
        );
        assert_eq!(
            poll(&mut pending),
            Poll::Ready(Some(Event::Finished(Ok(7))))
        );
        assert_eq!(poll(&mut pending), Poll::Ready(None));
    }

    #[test]
    fn a_lost_reply_is_an_error_and_not_a_hang() {
        let (reply, pending) = reply_and_pending::<u32>();
        let waiting = std::thread::spawn(move || pending.wait());
        drop(reply);
        assert_eq!(waiting.join().unwrap(), Err(GenerateError::Stopped));
    }

    #[test]
    fn whoever_leaves_cancels() {
        let (reply, pending) = reply_and_pending::<u32>();
        assert!(!reply.is_cancelled());
        drop(pending);
        assert!(reply.is_cancelled());
    }
}

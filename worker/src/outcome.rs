//! How one attempt at a job ended.

use std::time::Duration;

use lapidary_schemas::Failure;
use lapidary_schemas::result::Verdict;
use lapidary_schemas::tool::ToolCall;

/// How one attempt at a job ended.
#[derive(Debug)]
pub enum Outcome {
    /// There is an answer.
    Answered(Box<Answer>),
    /// A filter refused the request, or the answer.
    Filtered(Box<(Failure, Answer)>),
    /// There is an answer that nobody is given, because it is poor.
    Poor(Box<(Failure, Answer)>),
    /// There is no answer, and this is why.
    Failed(Failure),
    /// It was cancelled while it ran.
    Cancelled,
    /// Its deadline passed.
    Expired,
    /// The worker is stopping.
    Interrupted,
    /// The engine broke down under it: whoever begins it next learns that a worker was lost.
    Lost,
}

impl Outcome {
    /// Whether its answer, if that is a second one, was better than the first.
    pub(crate) fn is_second_better(&self) -> Option<bool> {
        let (answer, is_better) = match self {
            Self::Answered(answer) => (&**answer, true),
            Self::Poor(refused) => (&refused.1, false),
            _ => return None,
        };
        answer.second.then_some(is_better)
    }
}

/// What an attempt brought forth, as far as it came.
#[derive(Debug, Default)]
pub struct Answer {
    /// What the engine made.
    pub generated: Option<lapidary_engine::Outcome>,
    /// The calls that its text is, if it is any.
    pub calls: Vec<ToolCall>,
    /// What every filter decided.
    pub verdicts: Vec<Verdict>,
    /// Loading media.
    pub media: Duration,
    /// Filters, before and after.
    pub filter: Duration,
    /// From the start of the attempt until the engine had the request.
    pub prepared: Duration,
    /// Whether it is the second one, drawn otherwise than the first.
    pub second: bool,
}

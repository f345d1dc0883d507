//! The program as a user runs it, on the embedded file, with a worker that answers without a model.

#[expect(clippy::unwrap_used, reason = "helpers of tests")]
mod fake_worker;
#[expect(clippy::unwrap_used, reason = "helpers of tests")]
mod program;

mod archives;
mod captions;
mod lists;
mod pages;
mod pictures;
mod refusals;
mod sinks;
mod submissions;
mod tables;
mod templates;

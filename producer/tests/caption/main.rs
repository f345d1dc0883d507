//! The program as a user runs it, on the embedded file, with a worker that answers without a model.

mod fake_worker;
mod program;

mod captions;
mod refusals;
mod submissions;

//! The words both sides speak: job, request, result, failure codes, limits, metric names.
//!
//! A wire type changes only by adding optional fields; anything else is a new
//! [`job::ENVELOPE_VERSION`]. Each type has a golden file under `golden/` that a test reads and
//! writes, and a JSON Schema generated from it under `json/`.
//!
//! No IO, no async, no tensors, and no default that depends on a machine.

pub mod batch;
pub mod batch_line;
pub mod canonical;
pub mod chat_body;
pub mod failure;
pub mod hub;
pub mod job;
pub mod json_schema;
pub mod limits;
pub mod media;
pub mod metrics;
pub mod remote;
pub mod request;
pub mod result;
pub mod resume;
pub mod tool;
pub mod trace;
pub mod validate;
pub mod worker;

pub use batch::{Batch, BatchId, BatchState, Progress};
pub use failure::{Failure, FailureCode};
pub use job::{Class, Job, JobId, Work};
pub use media::MediaRef;
pub use request::{Message, Part, Request};
pub use result::{FinishReason, JobResult, Status};
pub use trace::{TraceContext, TraceId};
pub use validate::{Feature, Policy, ValidRequest};
pub use worker::{ModelInfo, WorkerInfo};

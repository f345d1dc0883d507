//! Jobs, batches and results to test with: those that makers are examined with.

use lapidary_schemas::Class;
use lapidary_transport::Lane;
use lapidary_transport::conformance::samples;

pub(crate) use samples::{batch, done, item, job, jobs, result, shard};

/// The bulk lane of a model.
pub(crate) fn lane(model: &str) -> Lane {
    samples::lane(model, Class::Bulk)
}

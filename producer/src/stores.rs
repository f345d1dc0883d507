//! The stores that everything works on.

use std::sync::Arc;

use lapidary_transport::{AnyMedia, AnyQueue, AnyResults};

/// The stores of a place, each to be shared.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Where jobs wait.
    pub queue: Arc<AnyQueue>,
    /// Where results rest.
    pub results: Arc<AnyResults>,
    /// Where manifests and long texts rest.
    pub media: Arc<AnyMedia>,
}

//! Where jobs wait and results rest.
//!
//! Three seams, two makers of each, one conformance suite: [`Queue`] on `RabbitMQ` or on the embedded
//! file, [`Results`] on Redis or on the same file, [`Media`] on an object store or on a folder
//! beside the file. The steward, who feeds and sweeps, uses only those three.
//!
//! Two things that every program needs are here too: what there is at the place ([`census`]), and telling
//! traces ([`traces`]).
//!
//! Knows nothing of what a job asks for, and decides no retry policy.

mod embedded;
mod open;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

pub mod census;
pub mod doctor;
pub mod failpoint;
pub mod media;
pub mod queue;
pub mod results;
pub mod steward;
pub mod tls;
pub mod traces;

pub use embedded::EmbeddedFile;
pub use media::{AnyMedia, Media};
pub use open::{OpenError, Place, PlaceUrls, without_credentials};
pub use queue::{AnyQueue, Delivery, Lane, Queue, Receipt, Settle};
pub use results::{AnyResults, Results};
pub use steward::{Steward, StewardOptions, TickReport};
pub use traces::Traces;

//! Real servers for tests: private, on free ports, in temporary folders, gone with the test.

mod broker;
mod certificates;
pub mod http;
pub mod invariants;
mod process;
mod programs;
mod prometheus;
mod proxy;
mod redis;
mod s3;
pub mod soak;

pub use broker::Broker;
pub use certificates::Certificates;
pub use process::{Program, free_port};
pub use programs::own;
pub use prometheus::Prometheus;
pub use proxy::{Proxy, Wire};
pub use redis::Redis;
pub use s3::S3;

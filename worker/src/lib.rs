//! The life of one job, from its delivery to its settlement.
//!
//! A job goes through these modules in order: `consumer` receives its delivery, `job` is the straight
//! line (validate, begin, `media`, `filter`, engine, `filter`, store the result, settle), `settle`
//! decides what becomes of it, `store` makes the calls, many at once, and `trace` tells how long each stage
//! took. [`worker`] wires the parts,
//! [`shutdown`] ends them in two steps, [`ops`] shows how they are.
//!
//! No tensors, and no types of a broker or of a store: those are behind the engine and the transport.

pub mod bench;
mod bundled;
pub mod cli;
mod compute;
pub mod config;
mod consumer;
mod fetch;
pub mod filter;
pub mod filter_trial;
mod gather;
mod gauges;
pub mod health;
mod hex;
mod hub;
mod idle;
mod job;
pub mod judges;
mod line;
mod media;
mod model;
pub mod ops;
pub mod outcome;
pub mod parent;
mod running;
#[cfg(test)]
mod samples;
pub mod score;
pub mod settle;
pub mod shutdown;
mod store;
#[cfg(test)]
mod straight_line;
mod stream;
pub mod telemetry;
pub mod tools;
mod trace;
mod translate;
mod turns;
pub mod verify;
pub mod worker;

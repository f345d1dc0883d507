//! Tests that need more than one room, or real servers.

#![expect(clippy::unwrap_used, reason = "what fails ends its test")]

mod amqp;
mod boards;
mod clocks;
mod cluster;
mod collector;
mod compose;
mod conformance;
mod doctor;
mod failover;
mod faults;
mod filtered;
mod gateway;
mod hub;
mod hurried;
mod judges;
mod live;
mod malformed;
mod media;
mod observed;
mod operators;
mod packed;
mod page;
mod pictures;
mod place;
mod points;
mod poison;
mod policies;
mod redis_store;
mod rights;
mod samples;
mod shares;
mod soak;
mod start;
mod straight_line;
mod submitters;
mod tidy;
mod tls;
mod told;
mod traced;
mod wired;
mod wires;

//! Tests that need more than one room, or real servers.

mod amqp;
mod media;
mod redis_store;
mod samples;
mod tidy;

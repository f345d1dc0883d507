//! The way in and out: sources become jobs, results become rows.
//!
//! [`sources`] finds documents, [`text`], [`picture`], [`pdf`] and [`table`] read them ([`isolate`]d where a
//! parser is at work), [`plan`] makes questions of them, [`run`] puts those on their way and follows the
//! answers, [`rows`] writes them down. [`commands`] are what a
//! user can say, in the words of [`cli`]; `gateway` is what applications can, over HTTP.
//!
//! No inference, no tokenizer, and no validation besides `lapidary_schemas::validate`.

mod catalogue;
pub mod cli;
pub mod commands;
pub mod config;
mod dead;
pub mod digest;
pub mod exit;
pub mod file;
mod gateway;
pub mod isolate;
mod keys;
mod manifest;
pub mod pdf;
pub mod picture;
pub mod plan;
pub mod progress;
pub mod prompt;
mod report;
pub mod rows;
pub mod run;
pub mod sources;
pub mod split;
mod standing;
pub mod stores;
mod submission;
pub mod table;
pub mod templates;
pub mod text;
mod top;
pub mod wish;

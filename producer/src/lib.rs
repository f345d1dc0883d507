//! The way in and out: sources become jobs, results become rows.
//!
//! [`sources`] finds documents, [`text`], [`picture`] and [`pdf`] read them ([`isolate`]d where a parser
//! is at work), [`plan`] makes questions of them, [`run`] puts those on their way and follows the answers, [`rows`] writes them down. [`commands`] are what a
//! user can say, in the words of [`cli`].
//!
//! No inference, no tokenizer, and no validation besides `lapidary_schemas::validate`.

pub mod cli;
pub mod commands;
pub mod config;
pub mod digest;
pub mod exit;
pub mod file;
pub mod isolate;
pub mod pdf;
pub mod picture;
pub mod plan;
pub mod progress;
pub mod prompt;
pub mod rows;
pub mod run;
pub mod sources;
pub mod split;
pub mod templates;
pub mod text;

//! Nothing the outside sees changes unnoticed: golden files, JSON Schemas and the page of metrics
//! are what the code makes. After a change that is meant, run
//! `cargo run -p lapidary-schemas --example generate` and read the difference.

#[macro_use]
mod samples;
#[cfg(test)]
mod wire;

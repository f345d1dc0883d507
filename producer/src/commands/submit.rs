//! `lapidary submit`.

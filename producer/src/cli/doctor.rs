//! `lapidary doctor`.

use clap::Args;

use super::PlaceArgs;

/// `doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "The exit code is 1 where something does not work or may lose jobs or results."
)]
pub struct Doctor {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where jobs wait and results rest.
    #[command(flatten)]
    pub place: PlaceArgs,
}

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
    /// Address of the broker's management plugin, as `http://user:password@broker:15672`:
    /// it tells which policies govern the queues
    #[arg(
        long,
        value_name = "URL",
        env = "LAPIDARY_MANAGEMENT",
        hide_env_values = true
    )]
    pub management: Option<String>,
    /// Where jobs wait and results rest.
    #[command(flatten)]
    pub place: PlaceArgs,
}

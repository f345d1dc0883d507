//! `lapidary serve`: the gateway.

use std::io::IsTerminal as _;
use std::net::SocketAddr;

use lapidary_schemas::validate::check_name;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::Serve;
use crate::config::{Config, Stores};
use crate::exit::{Exit, Stop};
use crate::progress::say;
use crate::standing::Standing;
use crate::submission::Ceiling;
use crate::{gateway, keys};

/// Serves until it is told to stop; see `lapidary serve --help`.
pub(super) async fn run(args: Serve, stop: CancellationToken) -> Result<Exit, Stop> {
    let config = Config::resolve(&args.place)?;
    check_name("tenant", &config.tenant).map_err(|failure| Stop::usage(failure.message))?;
    log();
    let stores = config.open().await?;
    let is_local = args.listen.ip().is_loopback();
    let has_keys = keys::any(&stores.results).await?;
    if !is_local && !has_keys {
        return Err(Stop::usage(format!(
            "there are no keys, so everybody who reaches {} could use it",
            args.listen
        ))
        .hint("make one with `lapidary keys create`, or listen on 127.0.0.1"));
    }
    let listener = bind(args.listen).await?;
    let options = gateway::Options {
        tenant: config.tenant,
        is_local,
        ceiling: Ceiling {
            message_chars_max: args.message_chars,
            output_tokens_max: args.output_tokens,
        },
        queue_max: args.queue,
    };
    greet(&listener, &stores, has_keys, &options.tenant).await?;
    let tasks = TaskTracker::new();
    let steward = Standing::start(&stores, &tasks);
    gateway::serve(listener, stores, options, tasks, stop).await;
    steward.retire().await;
    Ok(Exit::Well)
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Stop> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Stop::new(Exit::Failed, format!("cannot listen on {address}: {error}")))
}

/// Says where it is, who may come, and who answers.
async fn greet(
    listener: &TcpListener,
    stores: &Stores,
    has_keys: bool,
    tenant: &str,
) -> Result<(), Stop> {
    use lapidary_transport::Results as _;
    if !has_keys {
        say(&format!(
            "there are no keys: everyone on this machine is served, as tenant `{tenant}`"
        ));
    }
    if stores.results.workers().await?.is_empty() {
        say("no worker is here yet: requests are answered once `lapidary-worker run` is");
    }
    let address = listener.local_addr()?;
    say(&format!(
        "listening on http://{address}/v1, a page to look at is http://{address}/"
    ));
    Ok(())
}

/// What happens is logged to standard error, but for what the AMQP client reports and the transport
/// recovers from.
fn log() {
    let filter = tracing_subscriber::EnvFilter::new("lapin=off,info");
    // Fails only where logs are set up already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false)
        .try_init();
}

//! `lapidary serve`: the gateway.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::sync::Arc;

use lapidary_schemas::metrics::{Metrics, Source};
use lapidary_schemas::validate::check_name;
use lapidary_transport::{census, failpoint};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::telling::Telling;
use crate::cli::Serve;
use crate::config::Config;
use crate::exit::{Exit, Stop};
use crate::progress::say;
use crate::standing::Standing;
use crate::stores::Stores;
use crate::submission::Ceiling;
use crate::{gateway, keys};

/// Serves until it is told to stop; see `lapidary serve --help`.
pub(super) async fn run(args: Serve, stop: CancellationToken) -> Result<Exit, Stop> {
    let config = Config::resolve(&args.place)?;
    check_name("tenant", &config.tenant).map_err(|failure| Stop::usage(failure.message))?;
    log();
    if let Some(point) = args.unsafe_failpoints {
        failpoint::arm(point);
    }
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
    let metrics = metrics()?;
    let tasks = TaskTracker::new();
    let telling = Telling::start(&args.traces, "lapidary-gateway", &metrics, &tasks)?;
    let options = gateway::Options {
        tenant: config.tenant,
        is_local,
        ceiling: Ceiling {
            message_chars_max: args.message_chars,
            output_tokens_max: args.output_tokens,
        },
        queue_max: args.queue,
        metrics: Arc::clone(&metrics),
        limits: keys::Limits {
            requests_per_hour: Some(args.requests_per_hour),
            tokens_per_day: Some(args.tokens_per_day),
        },
        sender: sender(args.webhooks)?,
        traces: telling.traces.clone(),
    };
    greet(&listener, &stores, has_keys, &options.tenant).await?;
    let ended = CancellationToken::new();
    let _ended = ended.clone().drop_guard();
    operate(args.ops_listen, &stores, &metrics, &tasks, &ended).await?;
    let steward = {
        let metrics = Arc::clone(&metrics);
        let traces = telling.traces.clone();
        Standing::start(&stores, traces, &tasks, args.hot_results, move |tick| {
            tick.count(&metrics);
        })
    };
    gateway::serve(listener, stores, options, tasks, stop).await;
    steward.retire().await;
    ended.cancel();
    telling.end().await;
    Ok(Exit::Well)
}

/// All that a gateway counts.
fn metrics() -> Result<Arc<Metrics>, Stop> {
    let (version, sources) = (
        env!("CARGO_PKG_VERSION"),
        [Source::Gateway, Source::Steward],
    );
    let metrics = Metrics::new("gateway", version, &sources, &[]);
    let metrics = metrics.map_err(|error| Stop::new(Exit::Failed, error.to_string()))?;
    Ok(Arc::new(metrics))
}

/// Looks at what there is at the place, and shows it to operators where they want it.
async fn operate(
    listen: Option<SocketAddr>,
    stores: &Stores,
    metrics: &Arc<Metrics>,
    tasks: &TaskTracker,
    ended: &CancellationToken,
) -> Result<(), Stop> {
    let Some(address) = listen else {
        return Ok(());
    };
    let listener = bind(address).await?;
    let address = listener.local_addr()?;
    say(&format!("operations endpoint on http://{address}/metrics"));
    let Stores { queue, results, .. } = stores.clone();
    let (shown, end) = (Arc::clone(metrics), ended.clone());
    tasks.spawn(gateway::serve_ops(
        listener,
        shown,
        Arc::clone(&results),
        end,
    ));
    let (metrics, end) = (Arc::clone(metrics), ended.clone());
    tasks.spawn(async move { census::keep(&*queue, &*results, &metrics, &end).await });
    Ok(())
}

/// Who sends webhooks, if they may be sent anywhere.
fn sender(hosts: Vec<String>) -> Result<Option<Arc<gateway::Sender>>, Stop> {
    if hosts.is_empty() {
        return Ok(None);
    }
    let sender = gateway::Sender::new(hosts).map_err(|error| {
        let message = format!("webhooks cannot be sent: {error}");
        Stop::new(Exit::Failed, message)
    })?;
    Ok(Some(Arc::new(sender)))
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

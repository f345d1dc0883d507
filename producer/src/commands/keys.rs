//! `lapidary keys`: who may use the gateway.

use std::io::Write as _;

use chrono::Utc;
use lapidary_schemas::validate::check_name;

use crate::cli::{Keys, KeysCommand};
use crate::config::Config;
use crate::exit::{Exit, Stop};
use crate::keys::{self, CreateError, Key, Limits, Scope};
use crate::progress::say;

/// Makes, lists or revokes; see `lapidary keys --help`.
pub(super) async fn run(args: Keys) -> Result<Exit, Stop> {
    match args.command {
        KeysCommand::Create {
            scope,
            requests_per_hour,
            tokens_per_day,
            place,
        } => {
            let limits = Limits {
                requests_per_hour,
                tokens_per_day,
            };
            create(&Config::resolve(&place)?, &scope, limits).await
        }
        KeysCommand::List { place } => list(&Config::resolve(&place)?).await,
        KeysCommand::Revoke { name, place } => revoke(&Config::resolve(&place)?, &name).await,
    }
}

async fn create(config: &Config, scopes: &[Scope], limits: Limits) -> Result<Exit, Stop> {
    check_name("tenant", &config.tenant).map_err(|failure| Stop::usage(failure.message))?;
    let results = config.open().await?.results;
    let key = keys::create(&results, &config.tenant, scopes, limits, Utc::now());
    let key = key.await.map_err(|error| match error {
        CreateError::Results(error) => error.into(),
        CreateError::Random(_) => Stop::new(Exit::Failed, error.to_string()),
    })?;
    writeln!(std::io::stdout(), "{key}")?;
    say("the key is shown this once; `lapidary keys list` shows its name");
    Ok(Exit::Well)
}

async fn list(config: &Config) -> Result<Exit, Stop> {
    let results = config.open().await?.results;
    let keys = keys::list(&results).await?;
    if keys.is_empty() {
        say("no keys");
    }
    let mut out = std::io::stdout().lock();
    for (name, key) in keys {
        writeln!(out, "{name}  {}", about(&key))?;
    }
    Ok(Exit::Well)
}

fn about(key: &Key) -> String {
    let scopes: Vec<_> = key.scopes.iter().map(|scope| scope.as_str()).collect();
    let at = key.created_at.format("%Y-%m-%dT%H:%M:%SZ");
    let limits = [
        (key.limits.requests_per_hour, "submissions an hour"),
        (key.limits.tokens_per_day, "tokens a day"),
    ];
    let limits = limits.into_iter().filter_map(|(limit, of)| match limit? {
        0 => Some(format!("any number of {of}")),
        limit => Some(format!("{limit} {of}")),
    });
    let mut about = vec![key.tenant.clone(), scopes.join(","), at.to_string()];
    about.extend(limits);
    about.join("  ")
}

async fn revoke(config: &Config, name: &str) -> Result<Exit, Stop> {
    let results = config.open().await?.results;
    if !keys::revoke(&results, name).await? {
        return Err(Stop::usage(format!("there is no key `{name}`"))
            .hint("`lapidary keys list` shows the names"));
    }
    say("revoked");
    Ok(Exit::Well)
}

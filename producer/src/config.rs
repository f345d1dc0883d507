//! What the options of a place mean together: where it is, and how it is opened.

use std::path::PathBuf;
use std::sync::Arc;

use lapidary_transport::{Place, PlaceUrls};

use crate::cli::PlaceArgs;
use crate::exit::{Exit, Stop};
use crate::stores::Stores;

/// Where jobs wait and results rest, resolved.
#[derive(Debug, Clone)]
pub struct Config {
    /// The addresses.
    pub urls: PlaceUrls,
    /// The embedded file, if no broker was named: workers are started for it by need.
    pub embedded: Option<PathBuf>,
    /// Whose jobs they are.
    pub tenant: String,
}

impl Config {
    /// Resolves the options of a place; makes the folder of an embedded file.
    pub fn resolve(args: &PlaceArgs) -> Result<Self, Stop> {
        let tenant = args.tenant.clone();
        if let Some(broker) = &args.broker {
            let urls = PlaceUrls {
                broker: broker.clone(),
                results: args.results.clone(),
                media: args.media.clone(),
                lossy_allowed: args.allow_lossy,
            };
            return Ok(Self {
                urls,
                embedded: None,
                tenant,
            });
        }
        if args.results.is_some() {
            return Err(Stop::usage("--results was given without --broker"));
        }
        let store = match &args.store {
            Some(store) => store.clone(),
            None => default_store(args.state_home.clone())?,
        };
        if let Some(folder) = store.parent() {
            std::fs::create_dir_all(folder).map_err(|error| {
                Stop::new(
                    Exit::Unavailable,
                    format!("cannot make {}: {error}", folder.display()),
                )
            })?;
        }
        let urls = PlaceUrls {
            broker: format!("file:{}", store.display()),
            results: None,
            media: args.media.clone(),
            lossy_allowed: false,
        };
        Ok(Self {
            urls,
            embedded: Some(store),
            tenant,
        })
    }

    /// Opens the stores.
    pub async fn open(&self) -> Result<Stores, Stop> {
        let place = Place::open(&self.urls).await?;
        Ok(Stores {
            queue: Arc::new(place.queue),
            results: Arc::new(place.results),
            media: Arc::new(place.media),
        })
    }
}

fn default_store(state_home: Option<PathBuf>) -> Result<PathBuf, Stop> {
    let state = state_home
        .filter(|state| state.is_absolute())
        .or_else(|| Some(std::env::home_dir()?.join(".local/state")))
        .ok_or_else(|| {
            Stop::usage("the user has no home folder to keep state in")
                .hint("name a file with --store")
        })?;
    Ok(state.join("lapidary/lapidary.db"))
}

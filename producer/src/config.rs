//! What the options mean together: where the place is, and which prompt is asked.

use std::path::PathBuf;
use std::sync::Arc;

use lapidary_transport::{AnyMedia, AnyQueue, AnyResults, Place, PlaceUrls};

use crate::cli::{Caption, PlaceArgs};
use crate::exit::{Exit, Stop};
use crate::prompt::Template;

/// Bytes a prompt file may have.
const PROMPT_FILE_BYTES_MAX: u64 = 64 * 1024;

/// The stores of a place, each to be shared.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Where jobs wait.
    pub queue: Arc<AnyQueue>,
    /// Where results rest.
    pub results: Arc<AnyResults>,
    /// Where manifests and long texts rest.
    pub media: Arc<AnyMedia>,
}

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

/// The user's own prompt, if any.
pub fn prompt(args: &Caption) -> Result<Option<Template>, Stop> {
    let prompt = match (&args.prompt, &args.prompt_file) {
        (Some(prompt), _) => prompt.clone(),
        (None, Some(file)) => {
            let name = file.display();
            let about = std::fs::metadata(file)
                .map_err(|error| Stop::usage(format!("cannot read {name}: {error}")))?;
            if about.len() > PROMPT_FILE_BYTES_MAX {
                return Err(Stop::usage(format!(
                    "{name} is {} bytes, the limit of a prompt is {PROMPT_FILE_BYTES_MAX}",
                    about.len()
                )));
            }
            std::fs::read_to_string(file)
                .map_err(|error| Stop::usage(format!("cannot read {name}: {error}")))?
        }
        (None, None) => return Ok(None),
    };
    Ok(Some(Template::new(prompt)))
}

/// The user's own prompt for combining captions, if any.
pub fn combine_prompt(args: &Caption) -> Result<Option<Template>, Stop> {
    let Some(prompt) = args.combine_prompt.clone().map(Template::new) else {
        return Ok(None);
    };
    prompt
        .for_text()
        .map_err(|reason| Stop::usage(format!("--combine-prompt: {reason}")))?;
    Ok(Some(prompt))
}

//! What the options mean together: where the place is, and which prompt is asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lapidary_transport::{AnyMedia, AnyQueue, AnyResults, Place, PlaceUrls};

use crate::cli::{Caption, PlaceArgs, TemplateArgs};
use crate::exit::{Exit, Stop};
use crate::prompt::{Template, Wish};
use crate::templates::{self, Named, Notes};

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

/// What the user says of the prompts.
pub fn wish(args: &Caption) -> Result<Wish, Stop> {
    Ok(Wish {
        template: template(args)?,
        combine: combine_prompt(args)?,
        notes: Notes::new(args.context.as_deref(), &args.audience, args.tone),
    })
}

/// The user's own prompt, or the template that the user names.
fn template(args: &Caption) -> Result<Option<Named>, Stop> {
    if let Some(name) = &args.template {
        let folder = template_folder(&args.templates);
        return templates::find(name, folder.as_deref()).map(Some);
    }
    let prompt = match (&args.prompt, &args.prompt_file) {
        (Some(prompt), _) => prompt.clone(),
        (None, Some(file)) => read_prompt(file)?,
        (None, None) => return Ok(None),
    };
    Ok(Some(Named::own(prompt)))
}

/// Reads a file that holds a prompt.
pub(crate) fn read_prompt(file: &Path) -> Result<String, Stop> {
    let name = file.display();
    let unreadable = |error| Stop::usage(format!("cannot read {name}: {error}"));
    let about = std::fs::metadata(file).map_err(unreadable)?;
    if about.len() > PROMPT_FILE_BYTES_MAX {
        return Err(Stop::usage(format!(
            "{name} is {} bytes, the limit of a prompt is {PROMPT_FILE_BYTES_MAX}",
            about.len()
        )));
    }
    std::fs::read_to_string(file).map_err(unreadable)
}

/// The folder of the user's own templates, if there is one. A folder that was named must exist.
pub fn template_folder(args: &TemplateArgs) -> Option<PathBuf> {
    if args.template_dir.is_some() {
        return args.template_dir.clone();
    }
    let config = args
        .config_home
        .clone()
        .filter(|config| config.is_absolute());
    let config = config.or_else(|| Some(std::env::home_dir()?.join(".config")))?;
    let folder = config.join("lapidary/templates");
    folder.is_dir().then_some(folder)
}

/// The user's own prompt for combining captions, if any.
fn combine_prompt(args: &Caption) -> Result<Option<Template>, Stop> {
    let Some(prompt) = args.combine_prompt.clone().map(Template::new) else {
        return Ok(None);
    };
    prompt
        .for_text()
        .map_err(|reason| Stop::usage(format!("--combine-prompt: {reason}")))?;
    Ok(Some(prompt))
}

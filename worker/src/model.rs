//! Which model `--model` names, and where its files are.

use std::fmt;
use std::path::{Path, PathBuf};

use lapidary_engine::{LoadOptions, ModelSource};
use lapidary_schemas::hub::RepoRef;
use lapidary_schemas::worker::{DEMONSTRATION, INSTANT, model_name};

use crate::bundled;
use crate::hub::{self, HubError, HubOptions};

/// The model that is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelRef {
    /// The one that is part of this program. A file or folder of that name is `./demonstration`.
    Demonstration,
    /// What computes nothing in the place of a model.
    Instant(Box<Self>),
    /// A file or folder.
    Path(PathBuf),
    /// One on the Hugging Face hub.
    Repo(RepoRef),
}

/// Why a model's files are not there.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// There is nothing at the path.
    #[error("there is no model at `{}`", path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// It was not downloaded.
    #[error(transparent)]
    Hub(#[from] HubError),
}

impl ModelRef {
    /// What exists is a path, whatever else it may look like.
    pub(crate) fn parse(written: &Path) -> Self {
        if written == Path::new(DEMONSTRATION) {
            return Self::Demonstration;
        }
        if written == Path::new(INSTANT) {
            return Self::Instant(Box::new(Self::Demonstration));
        }
        let model = written
            .to_str()
            .and_then(|text| text.strip_prefix(INSTANT)?.strip_prefix(':'));
        if let Some(model) = model {
            return Self::Instant(Box::new(Self::parse(Path::new(model))));
        }
        let repo = written.to_str().and_then(RepoRef::parse);
        match repo.filter(|_| !written.exists()) {
            Some(repo) => Self::Repo(repo),
            None => Self::Path(written.to_owned()),
        }
    }

    /// The name it is served under when nobody says otherwise.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Demonstration => DEMONSTRATION.to_owned(),
            Self::Instant(model) if **model == Self::Demonstration => INSTANT.to_owned(),
            Self::Instant(model) => model.name(),
            Self::Repo(repo) => repo.name().to_owned(),
            Self::Path(path) => {
                let path = path.canonicalize().unwrap_or_else(|_| path.clone());
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                model_name(&name).to_owned()
            }
        }
    }

    /// Where its files are, without downloading any; `None` for what is part of this program.
    pub(crate) fn downloaded(&self, hub: &HubOptions) -> Result<Option<PathBuf>, ModelError> {
        match self {
            Self::Demonstration => Ok(None),
            Self::Instant(model) => model.downloaded(hub),
            Self::Path(path) if path.exists() => Ok(Some(path.clone())),
            Self::Path(path) => Err(ModelError::NotFound { path: path.clone() }),
            Self::Repo(repo) => {
                let offline = HubOptions {
                    offline: true,
                    ..hub.clone()
                };
                Ok(Some(hub::fetch(&offline, repo, true)?.path))
            }
        }
    }

    /// Where its files are, downloaded first if need be, and how to load them. Takes as long as that
    /// takes.
    pub(crate) fn files(
        &self,
        load: LoadOptions,
        hub: &HubOptions,
    ) -> Result<(ModelSource, LoadOptions), ModelError> {
        match self {
            Self::Demonstration => Ok((bundled::FILES.into(), load)),
            Self::Instant(model) => {
                let (source, load) = model.files(load, hub)?;
                let instant = true;
                Ok((source, LoadOptions { instant, ..load }))
            }
            Self::Path(path) if path.exists() => Ok((path.into(), load)),
            Self::Path(path) => Err(ModelError::NotFound { path: path.clone() }),
            Self::Repo(repo) => {
                let fetched = hub::fetch(hub, repo, load.mmproj.is_none())?;
                let mmproj = load.mmproj.or(fetched.mmproj);
                let source = (&fetched.path).into();
                Ok((source, LoadOptions { mmproj, ..load }))
            }
        }
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Demonstration => f.write_str(DEMONSTRATION),
            Self::Instant(model) if **model == Self::Demonstration => f.write_str(INSTANT),
            Self::Instant(model) => write!(f, "{INSTANT}:{model}"),
            Self::Path(path) => path.display().fmt(f),
            Self::Repo(repo) => repo.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exists_is_a_path() {
        let parse = |written: &str| ModelRef::parse(Path::new(written));
        assert_eq!(parse("demonstration"), ModelRef::Demonstration);
        let instant = |model: ModelRef| ModelRef::Instant(Box::new(model));
        assert_eq!(parse("instant"), instant(ModelRef::Demonstration));
        let folder = parse("instant:src/hub");
        assert_eq!(folder, instant(ModelRef::Path("src/hub".into())));
        assert_eq!(folder.to_string(), "instant:src/hub");
        assert!(matches!(parse("src/hub"), ModelRef::Path(_)));
        assert!(matches!(parse("src/nothing"), ModelRef::Repo(_)));
        let missing = parse("./src/nothing");
        assert!(matches!(missing, ModelRef::Path(_)));
        assert_eq!(missing.name(), "nothing");
        let repo = parse("google/gemma-3-4b-it@main");
        assert_eq!(
            (repo.name(), repo.to_string()),
            (
                "gemma-3-4b-it".to_owned(),
                "google/gemma-3-4b-it@main".to_owned()
            )
        );
    }
}

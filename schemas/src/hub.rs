//! Models on the Hugging Face hub, as a command line names them.

use std::fmt;

use crate::worker::model_name;

/// Bytes of an organisation's and of a repository's name, as the hub has it.
const NAME_BYTES_MAX: usize = 96;
/// Bytes of a revision or of a file's path.
const PATH_BYTES_MAX: usize = 255;
/// What files of a whole model in one end in.
const GGUF: &str = ".gguf";

/// A model on the hub: `ORG/NAME`, or one GGUF file of a repository, `ORG/NAME/FILE.gguf`; `@REVISION`
/// may follow: a branch, a tag or a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoRef {
    /// `ORG/NAME`.
    pub repo: String,
    /// The path of a GGUF file in it; `None`: the repository is a folder with safetensors.
    pub file: Option<String>,
    /// Which state of it; `None`: the newest.
    pub revision: Option<String>,
}

impl RepoRef {
    /// What is written so; `None` if it cannot be a repository.
    pub fn parse(written: &str) -> Option<Self> {
        let (path, revision) = match written.split_once('@') {
            Some((path, revision)) => (path, Some(revision)),
            None => (written, None),
        };
        let mut parts = path.splitn(3, '/');
        let (organisation, name) = (parts.next()?, parts.next()?);
        let file = parts.next();
        let sound = is_name(organisation)
            && is_name(name)
            // That is a path to a file which is not there.
            && !name.ends_with(GGUF)
            && file.is_none_or(|file| is_path(file) && file.ends_with(GGUF))
            && revision.is_none_or(is_path);
        sound.then(|| Self {
            repo: format!("{organisation}/{name}"),
            file: file.map(str::to_owned),
            revision: revision.map(str::to_owned),
        })
    }

    /// The name the model is served under when nobody says otherwise: that which its folder or file
    /// would give it.
    pub fn name(&self) -> &str {
        let path = self.file.as_deref().unwrap_or(&self.repo);
        model_name(path.rsplit('/').next().unwrap_or(path))
    }
}

impl fmt::Display for RepoRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        if let Some(file) = &self.file {
            write!(f, "/{file}")?;
        }
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

/// Whether the hub would take this as the name of an organisation or of a repository.
fn is_name(part: &str) -> bool {
    let edge = |symbol: char| matches!(symbol, '.' | '-');
    let inner = |symbol: char| symbol.is_ascii_alphanumeric() || matches!(symbol, '.' | '-' | '_');
    !part.is_empty()
        && part.len() <= NAME_BYTES_MAX
        && part.chars().all(inner)
        && !part.starts_with(edge)
        && !part.ends_with(edge)
        && !part.contains("..")
        && !part.contains("--")
}

/// Whether this leads downwards only, and through nothing hidden.
fn is_path(path: &str) -> bool {
    let odd = |symbol: char| symbol.is_control() || matches!(symbol, '\\' | '@');
    path.len() <= PATH_BYTES_MAX
        && !path.contains(odd)
        && path
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_paths() {
        for (written, repo, file, revision, name) in [
            (
                "google/gemma-3-4b-it",
                "google/gemma-3-4b-it",
                None,
                None,
                "gemma-3-4b-it",
            ),
            (
                "google/gemma-3-4b-it@refs/pr/1",
                "google/gemma-3-4b-it",
                None,
                Some("refs/pr/1"),
                "gemma-3-4b-it",
            ),
            (
                "ggml-org/gemma-3-4b-it-GGUF/gemma-3-4b-it-Q4_K_M.gguf",
                "ggml-org/gemma-3-4b-it-GGUF",
                Some("gemma-3-4b-it-Q4_K_M.gguf"),
                None,
                "gemma-3-4b-it",
            ),
            (
                "a/b/q8/gemma-3-1b.Q8_0.gguf@v1.0",
                "a/b",
                Some("q8/gemma-3-1b.Q8_0.gguf"),
                Some("v1.0"),
                "gemma-3-1b",
            ),
        ] {
            let parsed = RepoRef::parse(written).unwrap();
            assert_eq!(parsed.name(), name);
            assert_eq!(parsed.to_string(), written);
            assert_eq!(
                (
                    parsed.repo.as_str(),
                    parsed.file.as_deref(),
                    parsed.revision.as_deref()
                ),
                (repo, file, revision)
            );
        }
        for path in [
            "",
            "gemma",
            "gemma.gguf",
            "models/gemma.gguf",
            "./models/gemma",
            "../models/gemma",
            "/models/gemma",
            "~/models/gemma",
            "models/",
            "models//gemma",
            "models/gemma/",
            "models/gemma/safetensors",
            "models/gemma/../x.gguf",
            "models/gemma/.x.gguf",
            "models/gemma 3",
            "a--b/c",
            "a/b@",
            "a/b@../c",
            "a/b@x@y",
        ] {
            assert_eq!(RepoRef::parse(path), None, "{path}");
        }
        let long = format!("a/{}", "b".repeat(NAME_BYTES_MAX + 1));
        assert_eq!(RepoRef::parse(&long), None);
    }
}

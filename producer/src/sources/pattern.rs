//! What the user names: a file, a folder, a pattern such as `reports/**/*.pdf`, a list, an address.

use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use super::found::At;
use super::list::List;

/// Characters that make a path a pattern, unless a file of that very name exists.
const PATTERN_CHARACTERS: [char; 4] = ['*', '?', '[', '{'];

/// Ending of a file that is a list.
const LIST_ENDING: &str = "jsonl";

/// Where a walk begins.
#[derive(Debug, Clone)]
pub enum Root {
    /// One file, named by the user: it is read or reported, never passed over.
    File(PathBuf),
    /// A picture at an address.
    Address(String),
    /// Every document that a list names.
    List(List),
    /// Every document below a folder.
    Folder(PathBuf),
    /// Every document below a folder whose path matches.
    Pattern {
        /// The longest part of the pattern without special characters.
        base: PathBuf,
        /// Matches whole paths.
        matcher: GlobMatcher,
    },
}

/// A path that leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// There is nothing of that name.
    #[error("there is no file or folder `{0}`")]
    Missing(String),
    /// The pattern cannot be read.
    #[error("`{pattern}` is no valid pattern: {reason}")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Root {
    /// Understands what the user wrote.
    pub fn parse(written: &Path) -> Result<Self, RootError> {
        if written == Path::new("-") {
            return Ok(Self::List(List::StandardInput));
        }
        match std::fs::metadata(written) {
            Ok(about) if about.is_dir() => return Ok(Self::Folder(written.to_owned())),
            Ok(_)
                if written
                    .extension()
                    .is_some_and(|ending| ending == LIST_ENDING) =>
            {
                return Ok(Self::List(List::File(written.to_owned())));
            }
            Ok(_) => return Ok(Self::File(written.to_owned())),
            // Read later, and reported then: it may be there and not be ours to look at.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Ok(Self::File(written.to_owned()));
            }
            Err(_) => (),
        }
        let text = written.display().to_string();
        if At::is_address(&text) {
            return Ok(Self::Address(text));
        }
        if !text.contains(PATTERN_CHARACTERS) {
            return Err(RootError::Missing(text));
        }
        let base = base(written);
        if !base.as_os_str().is_empty() && !base.is_dir() {
            return Err(RootError::Missing(base.display().to_string()));
        }
        let matcher = GlobBuilder::new(&text)
            .literal_separator(true)
            .build()
            .map_err(|error| RootError::Pattern {
                pattern: text.clone(),
                reason: error.kind().to_string(),
            })?
            .compile_matcher();
        Ok(Self::Pattern { base, matcher })
    }

    /// A list, whatever its name ends in.
    pub fn list(written: &Path) -> Result<Self, RootError> {
        match std::fs::metadata(written) {
            _ if written == Path::new("-") => Ok(Self::List(List::StandardInput)),
            Ok(about) if !about.is_dir() => Ok(Self::List(List::File(written.to_owned()))),
            _ => Err(RootError::Missing(written.display().to_string())),
        }
    }

    /// Whether it can be walked a second time.
    pub(super) fn comes_again(&self) -> bool {
        match self {
            // A pipe is gone once it was read.
            Self::List(List::File(path)) => path.is_file(),
            Self::List(List::StandardInput) => false,
            _ => true,
        }
    }
}

/// The components before the first one that is a pattern.
fn base(pattern: &Path) -> PathBuf {
    pattern
        .components()
        .take_while(|part| match part {
            Component::Normal(name) => !name.to_string_lossy().contains(PATTERN_CHARACTERS),
            _ => true,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_ends_before_the_first_special_character() {
        assert_eq!(base(Path::new("a/b/**/*.txt")), Path::new("a/b"));
        assert_eq!(base(Path::new("*.txt")), Path::new(""));
        assert_eq!(base(Path::new("/a/[xy]/b")), Path::new("/a"));
    }

    #[test]
    fn refusals() {
        let refused = |path: &str| Root::parse(Path::new(path)).unwrap_err().to_string();
        assert_eq!(
            refused("no/such.txt"),
            "there is no file or folder `no/such.txt`"
        );
        assert_eq!(
            refused("no/such/*.txt"),
            "there is no file or folder `no/such`"
        );
        assert_eq!(
            refused("[x"),
            "`[x` is no valid pattern: unclosed character class; missing ']'"
        );
    }
}

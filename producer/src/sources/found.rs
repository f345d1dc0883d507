//! What a walk finds: documents that are to be read, and what cannot be.

use std::ops::Range;
use std::path::{Path, PathBuf};

use lapidary_schemas::Failure;

/// A document to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The name its row will have: what the user wrote, continued.
    pub(super) name: String,
    /// Where it is.
    pub(super) at: At,
}

/// Where a document is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum At {
    /// A file.
    File(PathBuf),
    /// A picture inside an archive.
    Member {
        /// The archive.
        archive: PathBuf,
        /// Where its bytes are.
        stretch: Range<u64>,
    },
    /// Pictures in the rows of a table, each a document.
    Table(PathBuf),
    /// A picture at an address that the worker fetches.
    Address(String),
    /// Pictures that are shown together, each a file or at an address.
    Together(Vec<At>),
}

/// One thing found.
#[derive(Debug)]
pub(super) enum Entry {
    /// A document to read.
    Document(Found),
    /// Something that should be a document or hold some and cannot be looked at: its name, and why.
    Unreadable(String, Failure),
    /// A file of another kind.
    Other,
}

/// Takes what is found, and says whether to go on.
pub(super) type Take<'a> = &'a mut dyn FnMut(Entry) -> bool;

impl Found {
    /// A file, named by its path.
    pub(super) fn file(path: &Path) -> Self {
        Self {
            name: path.to_string_lossy().into_owned(),
            at: At::File(path.to_owned()),
        }
    }
}

impl At {
    /// As the user would write it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::File(path) | Self::Table(path) => path.display().to_string(),
            Self::Member { archive, stretch } => {
                format!("{} byte {}", archive.display(), stretch.start)
            }
            Self::Address(url) => url.clone(),
            Self::Together(places) => {
                let shown: Vec<_> = places.iter().map(Self::shown).collect();
                shown.join(", ")
            }
        }
    }

    /// What a line of a list means: an address or a path.
    pub(super) fn written(written: &str) -> Self {
        if Self::is_address(written) {
            Self::Address(written.to_owned())
        } else {
            Self::File(written.into())
        }
    }

    /// Whether this is an address rather than a path.
    pub(super) fn is_address(written: &str) -> bool {
        written.starts_with("http://") || written.starts_with("https://")
    }
}

//! What kind of document a file is, by the ending of its name.

use std::path::Path;

use crate::{picture, text};

/// A kind of document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Has text to read.
    Text(text::Kind),
    /// Has pixels to look at.
    Picture,
    /// Holds pictures as files.
    Tar,
    /// Holds pictures in a column.
    Parquet,
}

/// Ending of an archive.
const TAR: &str = "tar";
/// Ending of a table.
const PARQUET: &str = "parquet";

impl Kind {
    /// The kind of a file by the ending of its name, in any case.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        if picture::is_ending(&ending) {
            return Some(Self::Picture);
        }
        match ending.as_str() {
            TAR => Some(Self::Tar),
            PARQUET => Some(Self::Parquet),
            ending => text::Kind::of_ending(ending).map(Self::Text),
        }
    }
}

/// The endings of files that can be read, for messages.
pub(super) fn endings() -> String {
    let all = text::ENDINGS.iter().chain(&picture::ENDINGS);
    all.chain(&[TAR, PARQUET])
        .map(|ending| format!(".{ending}"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_ending() {
        let kind = |path: &str| Kind::of(Path::new(path));
        assert_eq!(kind("a/b.TXT"), Some(Kind::Text(text::Kind::Plain)));
        assert_eq!(kind("b.tar.pdf"), Some(Kind::Text(text::Kind::Pdf)));
        assert_eq!(kind("b.JPeg"), Some(Kind::Picture));
        assert_eq!(kind("pdf"), None);
        assert_eq!(kind("b.svg"), None);
    }

    #[test]
    fn every_ending_that_is_listed_has_a_kind() {
        assert_eq!(
            endings(),
            ".txt .md .html .htm .pdf .jpg .jpeg .png .webp .gif .bmp .tif .tiff .tar .parquet"
        );
        for ending in endings().split(' ') {
            assert!(
                Kind::of(Path::new(&format!("a{ending}"))).is_some(),
                "{ending}"
            );
        }
    }
}

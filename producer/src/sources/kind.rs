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
}

impl Kind {
    /// The kind of a file by the ending of its name, in any case.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        if picture::is_ending(&ending) {
            return Some(Self::Picture);
        }
        text::Kind::of_ending(&ending).map(Self::Text)
    }
}

/// The endings of files that can be read, for messages.
pub(super) fn endings() -> String {
    let all = text::ENDINGS.iter().chain(&picture::ENDINGS);
    all.map(|ending| format!(".{ending}"))
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
            ".txt .md .html .htm .pdf .jpg .jpeg .png .webp .gif .bmp .tif .tiff"
        );
        for ending in endings().split(' ') {
            assert!(
                Kind::of(Path::new(&format!("a{ending}"))).is_some(),
                "{ending}"
            );
        }
    }
}

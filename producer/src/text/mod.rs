//! Documents as text: what kinds are read, and how a file becomes a string.
//!
//! Plain text and Markdown are decoded here. HTML and PDF are parsed in a process of their own with
//! bounded memory and time ([`isolate`]), because a parser that loops, overflows its stack or
//! swallows memory on one hostile file must not take the other documents with it.

pub mod html;
pub mod isolate;
mod layout;
pub mod pdf;
pub mod plain;

use std::path::Path;

use lapidary_schemas::Failure;

use crate::file::{self, DOCUMENT_BYTES_MAX, invalid, too_large, unreadable};

/// A kind of document whose text can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `.txt`, and Markdown, which a model reads as it is.
    Plain,
    /// `.html` and `.htm`: the text a reader would see.
    Html,
    /// `.pdf`: the text of its pages.
    Pdf,
}

/// The endings of files whose text can be read, in lower case.
pub const ENDINGS: [&str; 5] = ["txt", "md", "html", "htm", "pdf"];

impl Kind {
    /// The kind of a file by its ending in lower case.
    pub fn of_ending(ending: &str) -> Option<Self> {
        match ending {
            "txt" | "md" => Some(Self::Plain),
            "html" | "htm" => Some(Self::Html),
            "pdf" => Some(Self::Pdf),
            _ => None,
        }
    }
}

/// The text of a file, never empty. The failure names the file and the reason.
pub async fn read(kind: Kind, path: &Path, name: &str) -> Result<String, Failure> {
    let bytes = file::check(path, name).await?;
    let text = match kind {
        Kind::Plain => {
            let bytes = tokio::fs::read(path)
                .await
                .map_err(|error| unreadable(name, &error))?;
            plain::decode(&bytes).map_err(|reason| invalid(format!("{name} {reason}")))?
        }
        Kind::Html | Kind::Pdf => isolate::read(kind, path, name).await?,
    };
    if text.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(too_large(name, text.len() as u64));
    }
    if text.trim().is_empty() {
        return Err(invalid(match kind {
            Kind::Plain => format!("{name} has {bytes} bytes and none of them is visible text"),
            Kind::Html => format!("{name} has no visible text"),
            Kind::Pdf => format!("{name} has no text on its pages; a scan needs OCR first"),
        }));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refusals_name_the_file_and_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let refused = async |path: &Path, name: &str| {
            read(Kind::Plain, path, name).await.unwrap_err().to_string()
        };
        let empty = file("empty.txt", b"");
        assert_eq!(
            refused(&empty, "empty.txt").await,
            "MEDIA_INVALID: empty.txt is empty"
        );
        let blank = file("blank.txt", b" \n\t\n");
        assert_eq!(
            refused(&blank, "blank.txt").await,
            "MEDIA_INVALID: blank.txt has 4 bytes and none of them is visible text"
        );
        let gone = folder.path().join("gone.txt");
        assert_eq!(
            refused(&gone, "gone.txt").await,
            "MEDIA_UNREACHABLE: cannot read gone.txt: it does not exist"
        );
        let big = folder.path().join("big.txt");
        std::fs::File::create(&big)
            .unwrap()
            .set_len(200 * 1024 * 1024)
            .unwrap();
        assert_eq!(
            refused(&big, "big.txt").await,
            "MEDIA_TOO_LARGE: big.txt is 209715200 bytes, the limit of a document is 67108864"
        );
    }
}

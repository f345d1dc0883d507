//! Documents as text: what kinds are read, and how a file becomes a string.
//!
//! Plain text and Markdown are decoded here, HTML and PDF in a process of their own ([`isolate`]).

pub mod html;
pub mod plain;

use std::path::Path;

use lapidary_schemas::Failure;

use crate::file::{self, DOCUMENT_BYTES_MAX, invalid, too_large, unreadable};
use crate::isolate::{self, Task};

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
    find(kind, path, name).await?.ok_or_else(|| {
        invalid(match kind {
            Kind::Plain | Kind::Html => format!("{name} has no visible text"),
            Kind::Pdf => {
                format!("{name} has no text on its pages; a scan needs a model that reads images")
            }
        })
    })
}

/// The text of a file; `None` if nothing of it is visible.
pub(crate) async fn find(kind: Kind, path: &Path, name: &str) -> Result<Option<String>, Failure> {
    file::check(path, name).await?;
    let text = match kind {
        Kind::Plain => {
            let bytes = tokio::fs::read(path)
                .await
                .map_err(|error| unreadable(name, &error))?;
            plain::decode(&bytes).map_err(|reason| invalid(format!("{name} {reason}")))?
        }
        Kind::Html => isolated(Task::Html, path, name).await?,
        Kind::Pdf => isolated(Task::PdfText, path, name).await?,
    };
    if text.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(too_large(name, text.len() as u64));
    }
    Ok((!text.trim().is_empty()).then_some(text))
}

async fn isolated(task: Task, path: &Path, name: &str) -> Result<String, Failure> {
    String::from_utf8(isolate::read(task, path, name).await?)
        .map_err(|_| invalid(format!("{name} gave text that is not UTF-8")))
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
            "MEDIA_INVALID: blank.txt has no visible text"
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

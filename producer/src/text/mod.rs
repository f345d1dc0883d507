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

use lapidary_schemas::limits::MEDIA_BYTES_MAX;
use lapidary_schemas::{Failure, FailureCode};

/// Bytes a document may have, as a file and as text.
pub const DOCUMENT_BYTES_MAX: u64 = MEDIA_BYTES_MAX as u64;

/// A kind of document that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `.txt`, and Markdown, which a model reads as it is.
    Plain,
    /// `.html` and `.htm`: the text a reader would see.
    Html,
    /// `.pdf`: the text of its pages.
    Pdf,
}

/// The endings of files that can be read, for messages.
pub const ENDINGS: &str = ".txt .md .html .htm .pdf";

impl Kind {
    /// The kind of a file by the ending of its name, in any case.
    pub fn of(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "txt" | "md" => Some(Self::Plain),
            "html" | "htm" => Some(Self::Html),
            "pdf" => Some(Self::Pdf),
            _ => None,
        }
    }
}

/// The text of a file, never empty. The failure names the file and the reason.
pub async fn read(path: &Path, name: &str) -> Result<String, Failure> {
    let Some(kind) = Kind::of(path) else {
        return Err(Failure::new(
            FailureCode::ValidationError,
            format!("{name} is of no kind that can be read ({ENDINGS})"),
        ));
    };
    let bytes = check_file(path, name).await?;
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

/// Refuses what is no regular file, is empty or is too large; returns its size in bytes.
async fn check_file(path: &Path, name: &str) -> Result<u64, Failure> {
    let about = tokio::fs::metadata(path)
        .await
        .map_err(|error| unreadable(name, &error))?;
    if !about.is_file() {
        return Err(Failure::new(
            FailureCode::MediaUnreachable,
            format!("{name} is not a regular file"),
        ));
    }
    match about.len() {
        0 => Err(invalid(format!("{name} is empty"))),
        bytes if bytes > DOCUMENT_BYTES_MAX => Err(too_large(name, bytes)),
        bytes => Ok(bytes),
    }
}

/// The file cannot be opened or read.
pub(crate) fn unreadable(name: &str, error: &std::io::Error) -> Failure {
    let reason = match error.kind() {
        std::io::ErrorKind::NotFound => "it does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    Failure::new(
        FailureCode::MediaUnreachable,
        format!("cannot read {name}: {reason}"),
    )
}

/// The file is not what it claims to be.
fn invalid(message: String) -> Failure {
    Failure::new(FailureCode::MediaInvalid, message)
}

/// The file or its text is over the limit.
fn too_large(name: &str, bytes: u64) -> Failure {
    Failure::new(
        FailureCode::MediaTooLarge,
        format!("{name} is {bytes} bytes, the limit of a document is {DOCUMENT_BYTES_MAX}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_ending() {
        assert_eq!(Kind::of(Path::new("a/b.TXT")), Some(Kind::Plain));
        assert_eq!(Kind::of(Path::new("b.md")), Some(Kind::Plain));
        assert_eq!(Kind::of(Path::new("b.htm")), Some(Kind::Html));
        assert_eq!(Kind::of(Path::new("b.tar.pdf")), Some(Kind::Pdf));
        assert_eq!(Kind::of(Path::new("pdf")), None);
        assert_eq!(Kind::of(Path::new("b.png")), None);
    }

    #[tokio::test]
    async fn refusals_name_the_file_and_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let refused =
            async |path: &Path, name: &str| read(path, name).await.unwrap_err().to_string();
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
        let picture = file("a.png", b"x");
        assert_eq!(
            refused(&picture, "a.png").await,
            "VALIDATION_ERROR: a.png is of no kind that can be read (.txt .md .html .htm .pdf)"
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

//! PDF files: the text of their pages, or pages as pictures. What is read here may be hostile, so it
//! happens in a process of its own ([`crate::isolate`]).

mod layout;
mod page;
mod text;

use std::io;

use hayro_syntax::{DecryptionError, LoadPdfError, Pdf};

pub use page::draw;
pub use text::write_text;

/// Why a PDF cannot be read; continues a sentence that begins with its name, or its page's.
#[derive(Debug, thiserror::Error)]
pub enum PdfError {
    /// No PDF, whatever its name says.
    #[error("is not a PDF or is damaged beyond repair")]
    Damaged,
    /// Encrypted, and opens with a password only.
    #[error("is a PDF locked by a password")]
    Locked,
    /// Encrypted in another way.
    #[error("is a PDF with encryption that is not understood")]
    Encrypted,
    /// There is nothing in it.
    #[error("is a PDF without pages")]
    NoPages,
    /// The file was another one when its pages were counted.
    #[error("is not there: the PDF has {0} pages")]
    NoSuchPage(usize),
    /// Without it, a scanned page would be blank.
    #[error("has an image that cannot be decoded")]
    Image,
    /// What was read cannot be handed on.
    #[error("cannot be written: {0}")]
    Write(#[from] io::Error),
}

impl From<LoadPdfError> for PdfError {
    fn from(error: LoadPdfError) -> Self {
        match error {
            LoadPdfError::Decryption(DecryptionError::PasswordProtected) => Self::Locked,
            LoadPdfError::Decryption(_) => Self::Encrypted,
            LoadPdfError::Invalid => Self::Damaged,
        }
    }
}

/// How many pages a PDF has, at least one.
pub fn pages(bytes: Vec<u8>) -> Result<usize, PdfError> {
    Ok(open(bytes)?.pages().len())
}

/// Opens a PDF that has pages.
fn open(bytes: Vec<u8>) -> Result<Pdf, PdfError> {
    let pdf = Pdf::new(bytes)?;
    if pdf.pages().is_empty() {
        return Err(PdfError::NoPages);
    }
    Ok(pdf)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        pages(bytes.to_vec()).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_opened_says_why() {
        for bytes in [&b"hello"[..], b"%PDF-1.7\nand then nothing"] {
            assert_eq!(refused(bytes), "is not a PDF or is damaged beyond repair");
        }
        let locked = include_bytes!("../../../tests/fixtures/documents/locked.pdf");
        assert_eq!(refused(locked), "is a PDF locked by a password");
    }
}

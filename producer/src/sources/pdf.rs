//! PDF files as documents: their text, or each page as a picture.

use std::path::Path;

use lapidary_schemas::{Failure, FailureCode};

use super::{Body, Reader};
use crate::file::{self, invalid};
use crate::isolate::{self, Task};
use crate::picture::Picture;
use crate::text::{self, Kind};

/// Pages of a file that are drawn.
const PAGES_MAX: usize = 10_000;
/// Pages that fail one after the other, after which the rest of their file is not tried.
const FAILURES_MAX: usize = 16;

/// What is read of PDF files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Pdf {
    /// The text; pages as pictures where there is none, or where only pictures can be asked about.
    #[default]
    Auto,
    /// The text of all pages, which is one document.
    Text,
    /// Each page as a picture, a document of its own named FILE#page=N.
    Pages,
}

/// Sends the text of a file or its pages on; the file is the `number`th that was found.
pub(super) async fn read(reader: &Reader, path: &Path, name: String, number: u64) {
    let text = match reader.pdf {
        Pdf::Pages => None,
        Pdf::Text => Some(text::read(Kind::Pdf, path, &name).await),
        Pdf::Auto => text::find(Kind::Pdf, path, &name).await.transpose(),
    };
    let body = match text {
        Some(text) => text.map(Body::Text),
        None => match send_pages(reader, path, &name, number).await {
            Ok(()) => return,
            Err(failure) => Err(failure),
        },
    };
    // Behind its pages, should some of them have been drawn.
    reader.send([number, u64::MAX], name, body).await;
}

/// Sends the pages on, in their order, drawn one at a time as they are taken; the failure is the
/// file's. A process a page, so that one that cannot be drawn costs no other its memory or time.
async fn send_pages(reader: &Reader, path: &Path, name: &str, file: u64) -> Result<(), Failure> {
    let pages = count(path, name).await?;
    reader.seen.more(pages as u64 - 1);
    let mut failures = 0;
    for number in 1..=pages {
        let page = format!("{name}#page={number}");
        let body = match isolate::read(Task::PdfPage { number }, path, &page).await {
            Ok(bytes) => Picture::of(bytes, &page, &reader.room)
                .await
                .map(Body::picture),
            Err(failure) => Err(failure),
        };
        failures = if body.is_err() { failures + 1 } else { 0 };
        if !reader.send([file, number as u64], page, body).await {
            break;
        }
        if failures == FAILURES_MAX && number < pages {
            return Err(invalid(format!(
                "{name} has {failures} pages in a row that cannot be drawn; those behind page {number} \
                 of {pages} were not tried"
            )));
        }
    }
    Ok(())
}

/// How many pages a file has, at least one.
async fn count(path: &Path, name: &str) -> Result<usize, Failure> {
    file::check(path, name).await?;
    let digits = isolate::read(Task::PdfPages, path, name).await?;
    let pages = str::from_utf8(&digits).ok();
    match pages.and_then(|digits| digits.parse::<usize>().ok()) {
        Some(pages @ 1..=PAGES_MAX) => Ok(pages),
        Some(pages @ 1..) => Err(Failure::new(
            FailureCode::MediaTooLarge,
            format!("{name} has {pages} pages, the limit of a PDF is {PAGES_MAX}"),
        )),
        Some(0) | None => Err(Failure::new(
            FailureCode::Internal,
            format!("the reader process did not say how many pages {name} has"),
        )),
    }
}

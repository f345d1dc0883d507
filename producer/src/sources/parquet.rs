//! Parquet files as documents: each row is a picture. They are read in a process of their own.

use std::path::Path;

use lapidary_schemas::Failure;
use tokio::fs::File;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{Body, Reader};
use crate::file::{self, invalid, too_large, unreadable};
use crate::isolate::frames::Frame;
use crate::isolate::{self, Reading, Task};
use crate::picture::Picture;

/// How many rows a table says that it has; `None` if it cannot be read, or nobody wants to know any
/// more. Waits for another process: for threads that may block.
pub(super) fn rows(path: &Path, name: &str, stop: &CancellationToken) -> Option<u64> {
    let counting = stop.run_until_cancelled(isolate::read(Task::TableRows, path, name));
    let digits = Handle::current().block_on(counting)?.ok()?;
    str::from_utf8(&digits).ok()?.parse().ok()
}

/// Sends a document a row, `name#row` counted from 0, and one more if the table is damaged. The table is
/// the `number`th that was found.
pub(super) async fn read(reader: &Reader, path: &Path, name: String, number: u64) {
    if let Err(failure) = send_rows(reader, path, &name, number).await {
        // Behind its rows, should some of them have been read.
        reader.send([number, u64::MAX], name, Err(failure)).await;
    }
}

/// Sends the rows on, in their order, each read once the one before it was taken.
async fn send_rows(reader: &Reader, path: &Path, name: &str, table: u64) -> Result<(), Failure> {
    file::regular(path, name).await?;
    let opened = File::open(path).await;
    drop(opened.map_err(|error| unreadable(name, &error))?);
    let mut reading = Reading::start(Task::Table, path, name)?;
    let mut row = 0;
    while let Some(frame) = reading.next().await? {
        let name = format!("{name}#{row}");
        let body = match frame {
            Frame::Whole(bytes) => Picture::of(bytes, &name, &reader.room)
                .await
                .map(Body::picture),
            Frame::TooLarge(bytes) => Err(too_large(&name, bytes)),
            Frame::Nothing => Err(invalid(format!("{name} has no image"))),
        };
        if !reader.send([table, row], name, body).await {
            break;
        }
        row += 1;
    }
    Ok(())
}

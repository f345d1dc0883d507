//! `metadata.jsonl` of a Hugging Face `ImageFolder`: captions by the path of the picture below the
//! file's folder.

use std::io::{self, Write};
use std::path::{Path, absolute};

use serde::Serialize;

use super::each_row;

#[derive(Serialize)]
struct Line<'a> {
    file_name: &'a str,
    text: &'a str,
}

/// Writes every caption of what lies below `folder`; returns how many lie elsewhere.
pub(super) fn write(rows: &Path, folder: &Path, out: &mut impl Write) -> io::Result<u64> {
    let folder = if folder.as_os_str().is_empty() {
        std::env::current_dir()?
    } else {
        absolute(folder)?
    };
    let mut elsewhere = 0;
    each_row(rows, |row| {
        let Some(text) = row.text else {
            return Ok(());
        };
        let place = absolute(&row.name)?;
        let below = place.strip_prefix(&folder).ok().and_then(Path::to_str);
        // A member of an archive or a page of a PDF only looks like a path.
        let Some(file_name) = below.filter(|_| place.is_file()) else {
            elsewhere += 1;
            return Ok(());
        };
        serde_json::to_writer(
            &mut *out,
            &Line {
                file_name,
                text: &text,
            },
        )?;
        out.write_all(b"\n")
    })?;
    Ok(elsewhere)
}

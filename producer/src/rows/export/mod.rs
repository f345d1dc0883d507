//! The same rows in other formats, made whole from the JSON lines when a run ends.

mod csv;
mod flat;
mod image_folder;
mod parquet;
mod sidecar;

use std::io;
use std::path::{Path, PathBuf};

use super::compact::each_line;
use super::{Row, atomic};

pub(super) use sidecar::write as write_sidecars;

/// The shape of the file that `--out` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A JSON object a line, while the run goes on.
    Jsonl,
    /// Comma-separated values with a head line.
    Csv,
    /// A Parquet table of the same columns.
    Parquet,
    /// `metadata.jsonl` of a Hugging Face `ImageFolder`: `file_name` and `text` of every caption.
    Imagefolder,
}

/// Rows that had no place in an export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Pictures that are no files below the folder of the file.
    pub elsewhere: u64,
    /// Captions without a file to stand beside: members of archives, pages, addresses.
    pub without_file: u64,
    /// Text files beside pictures that hold something else.
    pub foreign: u64,
}

impl LeftOut {
    /// What was left out and why, a line each.
    pub fn lines(self) -> Vec<String> {
        [
            (
                self.elsewhere,
                "are no files below the folder of the file and not in it",
            ),
            (
                self.without_file,
                "have no text file beside them: they are no picture in a folder",
            ),
            (
                self.foreign,
                "have a text file beside them that holds something else; --overwrite replaces it",
            ),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} captioned documents {what}"))
        .collect()
    }
}

impl Format {
    /// What a file's ending stands for.
    pub fn of(path: &Path) -> Self {
        let ending = path.extension().and_then(|ending| ending.to_str());
        match ending.map(str::to_ascii_lowercase).as_deref() {
            Some("csv") => Self::Csv,
            Some("parquet") => Self::Parquet,
            _ => Self::Jsonl,
        }
    }

    /// Where the rows are kept that the file at `path` is made of.
    pub(super) fn rows(self, path: &Path) -> PathBuf {
        if self == Self::Jsonl {
            return path.to_owned();
        }
        let mut rows = path.as_os_str().to_owned();
        rows.push(".rows.jsonl");
        rows.into()
    }

    /// Makes the file at `path` of the rows; returns how many pictures lie elsewhere.
    pub(super) fn export(self, rows: &Path, path: &Path) -> io::Result<u64> {
        let mut elsewhere = 0;
        let made = match self {
            Self::Jsonl => Ok(()),
            Self::Csv => atomic::replace(path, |out| csv::write(rows, out)),
            Self::Parquet => atomic::replace(path, |out| parquet::write(rows, out)),
            Self::Imagefolder => {
                let folder = path.parent().unwrap_or(Path::new(""));
                atomic::replace(path, |out| {
                    elsewhere = image_folder::write(rows, folder, out)?;
                    Ok(())
                })
            }
        };
        made.map_err(|error| named(path, &error))?;
        Ok(elsewhere)
    }
}

/// The error with the name of the file it is about.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn each_row(path: &Path, mut take: impl FnMut(Row) -> io::Result<()>) -> io::Result<()> {
    each_line(path, |line| take(serde_json::from_slice(line)?))
}

//! Files read as mapped memory, or as the part of the program that they are.
#![expect(unsafe_code, reason = "mapping a file")]

use super::WeightError;
use memmap2::Mmap;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A mapped file; its pages are given back when it is dropped.
#[derive(Debug)]
pub(crate) struct MappedFile {
    path: PathBuf,
    contents: Contents,
}

#[derive(Debug)]
enum Contents {
    Mapped(Mmap),
    Embedded(&'static [u8]),
}

impl MappedFile {
    pub(crate) fn open(path: &Path) -> Result<Self, WeightError> {
        let io = |source| WeightError::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        // SAFETY: the map is read only. A model file that another program truncates while it is
        // loaded would end this process with a bus error; none is written to in place.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self {
            path: path.to_owned(),
            contents: Contents::Mapped(map),
        })
    }

    /// A file that is part of the program, under a name for messages.
    pub(crate) fn embedded(path: PathBuf, bytes: &'static [u8]) -> Self {
        Self {
            path,
            contents: Contents::Embedded(bytes),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.contents {
            Contents::Mapped(map) => map,
            Contents::Embedded(bytes) => bytes,
        }
    }
}

/// SHA-256 over all files' bytes in order, in lowercase hexadecimal.
pub(super) fn sha256<'a>(files: impl Iterator<Item = &'a MappedFile>) -> String {
    let mut digest = Sha256::new();
    for file in files {
        digest.update(file.bytes());
    }
    digest
        .finalize()
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

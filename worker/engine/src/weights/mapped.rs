//! Files read as mapped memory, or as the part of the program that they are.
#![expect(unsafe_code, reason = "mapping a file")]

use super::WeightError;
use memmap2::{Mmap, UncheckedAdvice};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Bytes that are hashed before their pages are given back.
const HASH_BYTES: usize = 64 << 20;

/// A mapped file. Pages that were read stay in memory until they are given back, or the file is
/// dropped.
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

    /// Gives the pages of a range back, which are read from the file again if they are looked at
    /// again: so what is copied piece by piece does not end up in memory twice.
    pub(super) fn give_back(&self, range: Range<usize>) {
        if let Contents::Mapped(map) = &self.contents {
            // SAFETY: the map is read only and a file's, so nothing that was written is lost. A
            // system that does not take the advice keeps the pages, as it would without.
            let _ = unsafe {
                map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len())
            };
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
        let bytes = file.bytes();
        for start in (0..bytes.len()).step_by(HASH_BYTES) {
            let end = bytes.len().min(start + HASH_BYTES);
            digest.update(&bytes[start..end]);
            file.give_back(start..end);
        }
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

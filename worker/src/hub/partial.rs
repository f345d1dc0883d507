//! The content of a file while not all of it is there.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::cache::failed;
use super::error::HubError;
use super::listing::RemoteFile;
use crate::hex::hex;

/// Bytes that are read at once of what an earlier run left.
const PIECE_BYTES: usize = 1 << 20;

/// The content of a file, as far as it is there, and the hash of it.
pub(super) struct Partial<'a> {
    remote: &'a RemoteFile,
    path: PathBuf,
    file: File,
    hasher: Sha256,
    length: u64,
    /// Whether some of it is an earlier run's, or another program's.
    inherited: bool,
}

impl<'a> Partial<'a> {
    /// Goes on from what is at `path`.
    pub(super) fn open(path: PathBuf, remote: &'a RemoteFile) -> Result<Self, HubError> {
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(failed("open", &path))?;
        let mut partial = Self {
            remote,
            path,
            file,
            hasher: Sha256::new(),
            length: 0,
            inherited: false,
        };
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = partial.file.read(&mut piece);
            let read = read.map_err(failed("read", &partial.path))?;
            if read == 0 {
                break;
            }
            partial.hasher.update(&piece[..read]);
            partial.length += read as u64;
            partial.inherited = true;
            if partial.length > remote.size {
                partial.restart()?;
                break;
            }
        }
        Ok(partial)
    }

    /// How much is there.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether all of it is there.
    pub(super) fn is_complete(&self) -> bool {
        self.length == self.remote.size
    }

    /// Whether what is wrong with it may be another's fault.
    pub(super) fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// Forgets what is there.
    pub(super) fn restart(&mut self) -> Result<(), HubError> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(failed("empty", &self.path))?;
        self.hasher = Sha256::new();
        self.length = 0;
        self.inherited = false;
        Ok(())
    }

    /// Adds what came; no more than was announced.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        let size = self.remote.size;
        if self.length + bytes.len() as u64 > size {
            return Err(self.damaged(&format!(
                "it is larger than the {size} bytes it should have"
            )));
        }
        self.file
            .write_all(bytes)
            .map_err(failed("write", &self.path))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// The hash of it, where it is not the one that the hub has.
    pub(super) fn wrong_sha256(&self) -> Option<String> {
        let sha256 = hex(&self.hasher.clone().finalize());
        (self.remote.hashed && sha256 != self.remote.blob).then_some(sha256)
    }

    /// It is the file: from here on under its own name.
    pub(super) fn finish(self, blob: &Path) -> Result<(), HubError> {
        let synced = self.file.sync_all();
        synced.map_err(failed("write", &self.path))?;
        fs::rename(&self.path, blob).map_err(failed("rename", &self.path))
    }

    /// The error of what is not the file; nothing of it stays.
    pub(super) fn damaged(&self, message: &str) -> HubError {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "not removed");
        }
        HubError::Damaged {
            file: self.remote.name.clone(),
            message: message.to_owned(),
        }
    }
}

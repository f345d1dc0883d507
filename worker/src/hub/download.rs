//! Files of a repository, from the hub into the cache.

use std::fs::{self, File, TryLockError};
use std::time::{Duration, Instant};

use lapidary_schemas::hub::RepoRef;
use lapidary_schemas::remote::origin;
use reqwest::StatusCode;
use reqwest::header::CONTENT_RANGE;

use super::HubLimits;
use super::cache::{RepoCache, failed};
use super::client::{HubClient, Tries};
use super::error::HubError;
use super::listing::RemoteFile;
use super::partial::Partial;
use super::progress::Progress;

/// Time between two looks whether another program is done with a file.
const LOCK_LOOK_EVERY: Duration = Duration::from_millis(500);

/// Downloads files of one commit.
pub(super) struct Download<'a> {
    pub(super) client: &'a HubClient,
    pub(super) cache: &'a RepoCache,
    pub(super) limits: &'a HubLimits,
    pub(super) wanted: &'a RepoRef,
    pub(super) commit: &'a str,
    pub(super) progress: Progress,
}

impl Download<'_> {
    /// Downloads what is missing of these files, one after the other.
    pub(super) async fn run(mut self, files: &[&RemoteFile]) -> Result<(), HubError> {
        self.cache.make()?;
        self.check_space(files)?;
        self.progress.begin(files.len(), self.cache.folder());
        for file in files {
            self.file(file).await?;
            self.progress.finished(file.size);
        }
        self.progress.end();
        Ok(())
    }

    /// Whether they fit on the disk.
    fn check_space(&self, files: &[&RemoteFile]) -> Result<(), HubError> {
        let folder = self.cache.folder();
        let there = |file: &RemoteFile| {
            fs::metadata(self.cache.incomplete(file)).map_or(0, |found| found.len())
        };
        let needed = files
            .iter()
            .map(|file| file.size.saturating_sub(there(file)))
            .fold(0, u64::saturating_add);
        let disk = rustix::fs::statvfs(folder)
            .map_err(|error| failed("ask for the free space of", folder)(error.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if needed > free {
            return Err(HubError::NoSpace {
                repo: self.wanted.repo.clone(),
                folder: folder.to_owned(),
                needed,
                free,
            });
        }
        Ok(())
    }

    async fn file(&mut self, file: &RemoteFile) -> Result<(), HubError> {
        // Held until the end of this function.
        let _lock = self.lock(file).await?;
        if self.cache.has(self.commit, file) {
            return Ok(());
        }
        let mut partial = Partial::open(self.cache.incomplete(file), file)?;
        self.progress.inherited(partial.length());
        loop {
            let mut tries = Tries::new(self.limits);
            while !partial.is_complete() {
                let before = partial.length();
                if let Err(error) = self.stream(file, &mut partial).await {
                    if partial.length() > before {
                        tries.reset();
                    }
                    tries.again(error).await?;
                }
            }
            let Some(sha256) = partial.wrong_sha256() else {
                return partial.finish(&self.cache.blob(file));
            };
            if !partial.is_inherited() {
                return Err(partial.damaged(&format!(
                    "its SHA-256 is {sha256}, it should be {}",
                    file.blob
                )));
            }
            partial.restart()?;
        }
    }

    /// Takes what one answer holds.
    async fn stream(
        &mut self,
        file: &RemoteFile,
        partial: &mut Partial<'_>,
    ) -> Result<(), HubError> {
        let from = partial.length();
        let asked = self
            .client
            .content(self.wanted, self.commit, &file.name, from);
        let mut response = asked.await?;
        let range = response.headers().get(CONTENT_RANGE);
        let goes_on = response.status() == StatusCode::PARTIAL_CONTENT
            && range
                .and_then(|range| range.to_str().ok())
                .is_some_and(|range| range.starts_with(&format!("bytes {from}-")));
        if !goes_on {
            partial.restart()?;
        }
        let host = origin(response.url());
        while let Some(bytes) = response
            .chunk()
            .await
            .map_err(|error| HubError::unreachable(&host, error))?
        {
            partial.push(&bytes)?;
            self.progress.show(partial.length());
        }
        if partial.is_complete() {
            return Ok(());
        }
        Err(HubError::Cut {
            file: file.name.clone(),
            got: partial.length(),
            size: file.size,
        })
    }

    /// Keeps other programs away from a file, those in Python among them, once they are done with it.
    async fn lock(&mut self, file: &RemoteFile) -> Result<File, HubError> {
        let path = self.cache.lock(file);
        let mut options = File::options();
        let lock = options.write(true).create(true).truncate(false).open(&path);
        let lock = lock.map_err(failed("open", &path))?;
        let partial = self.cache.incomplete(file);
        let (mut length, mut changed) = (None, Instant::now());
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::WouldBlock) => (),
                Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
            }
            let now = fs::metadata(&partial).ok().map(|found| found.len());
            if now != length {
                (length, changed) = (now, Instant::now());
            }
            let limit = self.limits.lock_silence;
            if changed.elapsed() > limit {
                return Err(HubError::Locked { lock: path, limit });
            }
            self.progress.show(length.unwrap_or(0));
            tokio::time::sleep(LOCK_LOOK_EVERY).await;
        }
    }
}

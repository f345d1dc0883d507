//! How far a download is, in the log. Who started the worker shows these lines, and waits as long as
//! they come.

use std::path::Path;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use lapidary_schemas::worker::DOWNLOAD_LOG;

/// Time between two lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How far a download is.
#[derive(Debug)]
pub(super) struct Progress {
    model: String,
    /// Bytes of all files.
    size: u64,
    /// Bytes of the files that are through.
    finished: u64,
    /// Bytes that were there before.
    inherited: u64,
    started: Instant,
    shown: Instant,
}

impl Progress {
    /// Nothing is said yet.
    pub(super) fn new(model: String, size: u64, now: Instant) -> Self {
        Self {
            model,
            size,
            finished: 0,
            inherited: 0,
            started: now,
            shown: now,
        }
    }

    /// Says what is to come.
    pub(super) fn begin(&self, files: usize, folder: &Path) {
        let Self { model, size, .. } = self;
        let size = ByteSize(*size);
        tracing::info!(
            target: DOWNLOAD_LOG,
            "downloading `{model}`: {size} in {files} files to {}",
            folder.display()
        );
    }

    /// So much of a file an earlier download has left.
    pub(super) fn inherited(&mut self, bytes: u64) {
        self.inherited += bytes;
    }

    /// A file is through.
    pub(super) fn finished(&mut self, bytes: u64) {
        self.finished += bytes;
    }

    /// Says how far it is, every few seconds; `partial` is what there is of the file under way.
    pub(super) fn show(&mut self, partial: u64) {
        if self.shown.elapsed() < LINE_EVERY {
            return;
        }
        self.shown = Instant::now();
        let done = self.finished + partial;
        let rate = self.rate(done);
        let Self { model, size, .. } = self;
        let (done, size) = (ByteSize(done), ByteSize(*size));
        tracing::info!(target: DOWNLOAD_LOG, "downloading `{model}`: {done} of {size}, {rate}/s");
    }

    /// Says that it is over.
    pub(super) fn end(&self) {
        let seconds = self.started.elapsed().as_secs();
        let (model, size) = (&self.model, ByteSize(self.size));
        tracing::info!(target: DOWNLOAD_LOG, "downloaded `{model}`: {size} in {seconds} s");
    }

    /// Bytes that come in a second.
    fn rate(&self, done: u64) -> ByteSize {
        let received = done.saturating_sub(self.inherited);
        ByteSize(received / self.started.elapsed().as_secs().max(1))
    }
}

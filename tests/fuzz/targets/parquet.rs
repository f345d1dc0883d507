//! Tables of pictures, as the process reads them that `lapidary` starts for it, in half the memory that it has;
//! and what it writes, as `lapidary` reads that.
#![no_main]

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, Bytes, buf};
use lapidary_fuzz::memory::{Watched, refusals_unwind};
use lapidary_fuzz::{Caught, catching, isolated};
use lapidary_producer::isolate::{MEMORY_BYTES_MAX, frames};
use lapidary_producer::table;
use libfuzzer_sys::fuzz_target;
use parquet::errors::Result as TableResult;
use parquet::file::reader::{ChunkReader, Length};
use tokio::runtime::Builder;

#[global_allocator]
static ALLOCATOR: Watched = Watched::within(MEMORY_BYTES_MAX);

/// Bytes after which nobody wants more: a small table may have very many rows.
const WRITTEN_BYTES_MAX: usize = 1 << 20;

/// Reads after which a table ends in an error, as its process ends when its time is over: a list may say that
/// it has 2^31 things, of which each is looked for.
const READS_MAX: usize = 1 << 20;

/// A table that can be read so often.
struct Table {
    bytes: Bytes,
    reads: Arc<AtomicUsize>,
}

/// A stretch of it.
struct Stretch {
    bytes: buf::Reader<Bytes>,
    reads: Arc<AtomicUsize>,
}

fn count(reads: &AtomicUsize) -> io::Result<()> {
    if reads.fetch_add(1, Ordering::Relaxed) > READS_MAX {
        return Err(io::Error::other("its time is over"));
    }
    Ok(())
}

impl Length for Table {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl ChunkReader for Table {
    type T = Stretch;

    fn get_read(&self, start: u64) -> TableResult<Stretch> {
        count(&self.reads)?;
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let bytes = self.bytes.slice(start.min(self.bytes.len())..);
        let reads = self.reads.clone();
        Ok(Stretch {
            bytes: bytes.reader(),
            reads,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> TableResult<Bytes> {
        count(&self.reads)?;
        self.bytes.get_bytes(start, length)
    }
}

impl Read for Stretch {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        count(&self.reads)?;
        self.bytes.read(into)
    }
}

/// What a process writes whose parent does not listen for ever.
#[derive(Default)]
struct Written(Vec<u8>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > WRITTEN_BYTES_MAX {
            return Err(io::Error::other("enough"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether all is frames to the end.
fn is_whole(written: &[u8]) -> bool {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut from = written;
        loop {
            match frames::read(&mut from).await {
                Ok(Some(_)) => (),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    })
}

fuzz_target!(|bytes: &[u8]| {
    refusals_unwind();
    catching(Caught::Here, || {
        let bytes = Bytes::copy_from_slice(bytes);
        let open = || Table {
            bytes: bytes.clone(),
            reads: Arc::default(),
        };
        isolated(|| table::rows(open()));
        let mut written = Written::default();
        let done = isolated(|| table::write_pictures(open(), &mut written));
        if matches!(done, Some(Ok(()))) {
            assert!(is_whole(&written.0), "a row that breaks off");
        }
    });
});

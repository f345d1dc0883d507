//! Tables of pictures, as the process reads them that `lapidary` starts for it, in half the memory that it has;
//! and what it writes, as `lapidary` reads that.
#![no_main]

use std::fs::File;
use std::io::{self, Write};

use lapidary_fuzz::memory::{Watched, refusals_unwind};
use lapidary_fuzz::{Caught, catching, file, isolated};
use lapidary_producer::isolate::{MEMORY_BYTES_MAX, frames};
use lapidary_producer::table;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Builder;

#[global_allocator]
static ALLOCATOR: Watched = Watched::within(MEMORY_BYTES_MAX);

/// Bytes after which nobody wants more: a small table may have very many rows.
const WRITTEN_BYTES_MAX: usize = 1 << 20;

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
        let path = file("fuzzed.parquet", bytes);
        let open = || File::open(&path).expect("a file");
        isolated(|| table::rows(open()));
        let mut written = Written::default();
        let done = isolated(|| table::write_pictures(open(), &mut written));
        if matches!(done, Some(Ok(()))) {
            assert!(is_whole(&written.0), "a row that breaks off");
        }
    });
});

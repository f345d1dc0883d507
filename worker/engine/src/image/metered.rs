//! A file that ends for a decoder which holds more memory than was foretold.

use std::io::{BufRead, Cursor, Error, ErrorKind, Read, Result, Seek, SeekFrom};

use crate::memory::held_bytes;

/// Bytes of a file, readable while this thread holds no more than so much.
///
/// Decoders read as they go, so they take little more than that: what they allocate between two reads.
#[derive(Debug)]
pub(super) struct Metered<'a> {
    file: Cursor<&'a [u8]>,
    /// Of [`held_bytes`].
    held_max: i64,
}

impl<'a> Metered<'a> {
    /// Readable while this thread takes `memory_bytes` from now on.
    pub(super) fn new(bytes: &'a [u8], memory_bytes: u64) -> Self {
        Self {
            file: Cursor::new(bytes),
            held_max: held_bytes().saturating_add_unsigned(memory_bytes),
        }
    }

    fn check(&self) -> Result<()> {
        if held_bytes() > self.held_max {
            return Err(ErrorKind::OutOfMemory.into());
        }
        Ok(())
    }
}

/// Whether it is one of [`Metered`].
pub(super) fn is_out_of_memory(error: &Error) -> bool {
    error.kind() == ErrorKind::OutOfMemory
}

impl Read for Metered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.check()?;
        self.file.read(buffer)
    }
}

impl BufRead for Metered<'_> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        self.check()?;
        self.file.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.file.consume(bytes);
    }
}

impl Seek for Metered<'_> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.file.seek(to)
    }
}

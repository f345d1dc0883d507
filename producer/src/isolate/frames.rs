//! Many things out of one child, one after the other. Each is a *frame*: its length in bytes, a
//! little-endian number of 64 bits, and then the bytes. What is longer than a document may be is told
//! by its length alone.

use std::io::{self, Write};

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

use crate::file::DOCUMENT_BYTES_MAX;

/// Stands for a length where there is nothing, not even an empty thing.
const NOTHING: u64 = u64::MAX;

/// One thing, as it was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// There is none at this place.
    Nothing,
    /// It has so many bytes, more than a document may have, which were left out.
    TooLarge(u64),
    /// All its bytes.
    Whole(Vec<u8>),
}

/// Hands one thing on at once, so that neither side has more than one in memory.
pub fn write(out: &mut impl Write, thing: Option<&[u8]>) -> io::Result<()> {
    let length = thing.map_or(NOTHING, |bytes| bytes.len() as u64);
    out.write_all(&length.to_le_bytes())?;
    if let Some(bytes) = thing
        && length <= DOCUMENT_BYTES_MAX
    {
        out.write_all(bytes)?;
    }
    out.flush()
}

/// Reads the next one; `None` at the end, which is an error anywhere else.
pub async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Frame>> {
    if from.fill_buf().await?.is_empty() {
        return Ok(None);
    }
    Ok(Some(match from.read_u64_le().await? {
        NOTHING => Frame::Nothing,
        length if length > DOCUMENT_BYTES_MAX => Frame::TooLarge(length),
        length => {
            let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            from.read_exact(&mut bytes).await?;
            Frame::Whole(bytes)
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read() {
        let too_large = vec![0; usize::try_from(DOCUMENT_BYTES_MAX).unwrap() + 1];
        let things = [Some(&b"one"[..]), None, Some(b""), Some(&too_large)];
        let mut written = Vec::new();
        for thing in things {
            write(&mut written, thing).unwrap();
        }
        assert_eq!(written.len(), things.len() * size_of::<u64>() + 3);
        let mut from = written.as_slice();
        for expected in [
            Frame::Whole(b"one".to_vec()),
            Frame::Nothing,
            Frame::Whole(Vec::new()),
            Frame::TooLarge(DOCUMENT_BYTES_MAX + 1),
        ] {
            assert_eq!(read(&mut from).await.unwrap(), Some(expected));
        }
        assert_eq!(read(&mut from).await.unwrap(), None);
    }

    #[tokio::test]
    async fn one_that_breaks_off_is_no_end() {
        let mut written = Vec::new();
        write(&mut written, Some(b"one")).unwrap();
        for length in 1..written.len() {
            let error = read(&mut &written[..length]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length}");
        }
    }
}

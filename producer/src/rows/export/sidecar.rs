//! A text file beside every picture, with its caption: `a.txt` beside `a.png`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use lapidary_schemas::limits::RESULT_BYTES_MAX;

use super::{LeftOut, each_row, named};
use crate::digest::short;
use crate::picture;
use crate::rows::{Row, atomic};

/// Hashes of the captions that a picture has had.
#[derive(Debug, Default)]
struct Captions {
    last: u128,
    earlier: Vec<u128>,
}

/// Writes those that are missing or hold an earlier caption of the same picture. `rows` may have
/// several rows a name; the last one stands. Others are replaced only if `overwrite` says so.
pub(in crate::rows) fn write(rows: &Path, overwrite: bool) -> io::Result<LeftOut> {
    let mut captions: HashMap<u128, Captions> = HashMap::new();
    each_row(rows, |row| {
        if let Some(text) = &row.text {
            let last = short(text.as_bytes());
            captions
                .entry(short(row.name.as_bytes()))
                .and_modify(|known| known.earlier.push(std::mem::replace(&mut known.last, last)))
                .or_insert(Captions {
                    last,
                    ..Captions::default()
                });
        }
        Ok(())
    })?;
    let mut left_out = LeftOut::default();
    each_row(rows, |row| {
        let known = captions.get(&short(row.name.as_bytes()));
        if let (Some(text), Some(known)) = (&row.text, known)
            && known.last == short(text.as_bytes())
        {
            let ours = |there: &[u8]| overwrite || known.earlier.contains(&short(there));
            beside(&row, text, ours, &mut left_out)?;
        }
        Ok(())
    })?;
    Ok(left_out)
}

/// Writes one, if what is there may be replaced.
fn beside(
    row: &Row,
    text: &str,
    replaceable: impl FnOnce(&[u8]) -> bool,
    left_out: &mut LeftOut,
) -> io::Result<()> {
    let file = Path::new(&row.name);
    let ending = file.extension().and_then(|ending| ending.to_str());
    if !ending.is_some_and(picture::is_ending) || !file.is_file() {
        left_out.without_file += 1;
        return Ok(());
    }
    let sidecar = file.with_extension("txt");
    match there(&sidecar) {
        Ok(there) if there == text.as_bytes() => return Ok(()),
        Ok(there) if replaceable(&there) => (),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (),
        Ok(_) | Err(_) => {
            left_out.foreign += 1;
            return Ok(());
        }
    }
    atomic::replace(&sidecar, |out| out.write_all(text.as_bytes()))
        .map_err(|error| named(&sidecar, &error))
}

/// What a file holds, as far as a caption could go, and a byte more.
fn there(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = RESULT_BYTES_MAX as u64 + 1;
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

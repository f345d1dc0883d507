//! Comma-separated values (RFC 4180), a head line first.

use std::io::{self, Write};
use std::path::Path;

use super::each_row;
use super::flat::Flat;

/// Writes all rows.
pub(super) fn write(rows: &Path, out: &mut impl Write) -> io::Result<()> {
    let mut table = csv::Writer::from_writer(out);
    each_row(rows, |row| Ok(table.serialize(Flat::from(row))?))?;
    table.flush()
}

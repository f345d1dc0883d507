//! Opening the file: where it may be, whose it is, how it is written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::boot;
use super::error::StoreError;

/// Marks the file as ours (`LAPI` in ASCII), so that no other program's database is touched.
const APPLICATION_ID: i32 = 0x4c41_5049;
/// Version of the tables.
const SCHEMA_VERSION: i32 = 6;
/// Tables of a new file, and what made each version of the one before it.
const SCHEMA: [&str; 6] = [
    include_str!("schema.sql"),
    include_str!("records.sql"),
    include_str!("allowances.sql"),
    include_str!("pausing.sql"),
    include_str!("suspects.sql"),
    include_str!("boot.sql"),
];
/// How long a write waits for another process's. A commit takes milliseconds.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(30);
/// Distance of two tries for the lock. Constant, so that a process that waits long is as likely to
/// get it as one that just came (`SQLite`'s own waiting grows to 100 ms and starves).
const LOCK_RETRY: Duration = Duration::from_millis(1);

/// File systems on which locks or shared memory do not work between machines, by the numbers of
/// `statfs(2)` and `linux/magic.h`.
const NETWORK_FILE_SYSTEMS: [(u32, &str); 13] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x6573_5546, "FUSE"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x7375_7245, "Coda"),
    (0x0102_1997, "9P"),
    (0x4750_4653, "GPFS"),
    (0x0bd0_0bd0, "Lustre"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
];

/// Name of the network file system with this `statfs` number, if it is one.
fn network_file_system(magic: u32) -> Option<&'static str> {
    NETWORK_FILE_SYSTEMS
        .iter()
        .find(|(number, _)| *number == magic)
        .map(|(_, name)| *name)
}

/// Opens or makes the file for writing, its tables included; answers its absolute path, too.
pub(super) fn open(path: &Path) -> Result<(Connection, PathBuf), StoreError> {
    let path = absolute(path)?;
    refuse_network(&path)?;
    let mut db = connect(&path)?;
    prepare(&mut db, &path)?;
    Ok((db, path))
}

/// One more connection to a file that [`open`] has prepared.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags).map_err(|error| {
        StoreError::Unusable(format!("{} cannot be opened: {error}", path.display()))
    })?;
    set_up(&mut db).map_err(|error| unusable(path, &error))?;
    Ok(db)
}

fn set_up(db: &mut Connection) -> rusqlite::Result<()> {
    db.busy_handler(Some(wait_for_lock))?;
    db.set_prepared_statement_cache_capacity(128);
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "cache_size", -16_384)?;
    db.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)
}

/// Called when a lock is taken, with the number of tries so far: whether to try again.
fn wait_for_lock(tries: i32) -> bool {
    std::thread::sleep(LOCK_RETRY);
    let waited = LOCK_RETRY.saturating_mul(u32::try_from(tries).unwrap_or(u32::MAX));
    waited < LOCK_WAIT_MAX
}

fn absolute(path: &Path) -> Result<PathBuf, StoreError> {
    let name = path.file_name().ok_or_else(|| {
        StoreError::Unusable(format!("`{}` does not name a file", path.display()))
    })?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let folder = folder.canonicalize().map_err(|error| {
        StoreError::Unusable(format!(
            "folder {} cannot be used: {error}",
            folder.display()
        ))
    })?;
    Ok(folder.join(name))
}

fn refuse_network(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(path);
    let found = rustix::fs::statfs(folder).map_err(|error| {
        StoreError::Unusable(format!(
            "folder {} cannot be used: {error}",
            folder.display()
        ))
    })?;
    // The number has 32 bits; its C type is wider and signed on some machines.
    let magic = u32::try_from(found.f_type & 0xffff_ffff).unwrap_or(0);
    match network_file_system(magic) {
        None => Ok(()),
        Some(name) => Err(StoreError::Unusable(format!(
            "{} is on a network file system ({name}), where files cannot be shared safely; \
             use a local disk, or RabbitMQ and Redis",
            path.display()
        ))),
    }
}

/// Sets the journal mode; answers the one there is then.
///
/// `SQLite` does not wait for a lock here, because two connections that both want to change the mode
/// of a new file would wait for each other for ever. One of them gives way and comes again.
fn write_ahead(db: &Connection) -> rusqlite::Result<String> {
    let mut tries = 0;
    loop {
        let set = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0));
        let busy = matches!(&set, Err(error)
            if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy));
        if !busy || !wait_for_lock(tries) {
            return set;
        }
        tries += 1;
    }
}

/// Makes the tables of a new file, or checks that the file is ours and of our version.
fn prepare(db: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let name = path.display();
    let mode = write_ahead(db).map_err(|error| unusable(path, &error))?;
    if mode != "wal" {
        return Err(StoreError::Unusable(format!(
            "{name} cannot be shared between processes: its journal mode is `{mode}`, not `wal`"
        )));
    }
    // Several processes may come at once: only one makes the tables, the others see them.
    let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let application: i32 = change.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let version: i32 = change.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 = change.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
    let is_new = application == 0 && version == 0 && tables == 0;
    if !is_new && application != APPLICATION_ID {
        return Err(StoreError::Unusable(format!(
            "{name} is another program's database"
        )));
    }
    let missing = usize::try_from(version)
        .ok()
        .and_then(|version| SCHEMA.get(version..));
    let Some(missing) = missing.filter(|_| is_new || version > 0) else {
        return Err(StoreError::Unusable(format!(
            "{name} has version {version} of the tables, this program reads {SCHEMA_VERSION}; \
             finish its work with the program that made it, or use a new file"
        )));
    };
    if !missing.is_empty() {
        change.execute_batch(&missing.concat())?;
        change.pragma_update(None, "application_id", APPLICATION_ID)?;
        change.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    boot::begin(&change)?;
    change.commit()?;
    Ok(())
}

fn unusable(path: &Path, error: &rusqlite::Error) -> StoreError {
    let name = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => StoreError::Unusable(format!("{name} is not a database")),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            StoreError::Unusable(format!("{name} or its folder cannot be written: {error}"))
        }
        Some(ErrorCode::DiskFull) => StoreError::Full(format!("{name}: {error}")),
        Some(ErrorCode::DatabaseBusy) => {
            StoreError::Unavailable(format!("{name} stayed locked for {LOCK_WAIT_MAX:?}"))
        }
        _ => StoreError::Unusable(format!("{name} cannot be used: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_number() {
        assert_eq!(network_file_system(0x6969), Some("NFS"));
        assert_eq!(network_file_system(0xff53_4d42), Some("CIFS"));
        // ext4, btrfs, tmpfs, overlayfs.
        for local in [0xef53, 0x9123_683e, 0x0102_1994, 0x794c_7630] {
            assert_eq!(network_file_system(local), None);
        }
    }
}

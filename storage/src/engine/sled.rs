//! sled as an engine, made durable. The only file that names sled.
//!
//! What it takes (each found by experiment, see ARCHITECTURE.md): sled's background flush is off;
//! `flush` ends in `sync_file_range`, which a power cut does not respect, so every sync calls
//! `fdatasync` on sled's file by a handle of our own; values stay far below the segment size; the
//! directories are synced after creation; opening runs under `catch_unwind`, because a damaged
//! database can panic.

use std::{
    fs::File,
    io::ErrorKind,
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use super::{Batch, Engine, Failure, Scan, VALUE_BYTES_MAX, check_size, sync_dir};
use crate::{
    error::{Error, Result},
    key::KEY_BYTES,
};

/// Bytes of a sled segment; see [`VALUE_BYTES_MAX`] for what depends on it.
const SEGMENT_BYTES: usize = 4 << 20;

/// An [`Engine`] on a sled database.
#[derive(Debug)]
pub struct SledEngine {
    db: sled::Db,
    /// sled's own file, for the `fdatasync` that sled does not do.
    file: File,
    path: PathBuf,
    failed: Failure,
}

impl SledEngine {
    /// Opens or creates the database in a directory. `cache_bytes` bounds sled's page cache.
    ///
    /// Errors: [`Error::Locked`] when another process has it; [`Error::Corrupt`] when it cannot be
    /// read, also where sled panics on it; [`Error::Io`] otherwise.
    pub fn open(path: &Path, cache_bytes: u64) -> Result<Self> {
        let name = path.display().to_string();
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(cache_bytes)
            .flush_every_ms(None)
            .segment_size(SEGMENT_BYTES)
            .mode(sled::Mode::HighThroughput);
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        let db = match opened {
            Ok(Ok(db)) => db,
            Ok(Err(error)) => return Err(open_error(&name, error)),
            Err(panic) => {
                let text = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("unknown panic");
                return Err(Error::corrupt(name, format!("sled panicked on opening it: {text}")));
            }
        };
        let file_path = path.join("db");
        let file = File::options()
            .read(true)
            .write(true)
            .open(&file_path)
            .map_err(|e| Error::io(format!("opening {}", file_path.display()), e))?;
        let engine = Self { db, file, path: path.to_owned(), failed: Failure::default() };
        engine.sync()?;
        sync_dir(path)?;
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
        Ok(engine)
    }
}

impl Engine for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let value = self.db.get(key).map_err(|e| read_error(&self.path, e))?;
        Ok(value.map(|v| v.to_vec()))
    }

    fn scan(&self, range: &RangeInclusive<[u8; KEY_BYTES]>) -> Scan<'_> {
        let pairs = self.db.range(range.clone());
        Box::new(pairs.map(|pair| {
            let (key, value) = pair.map_err(|e| read_error(&self.path, e))?;
            Ok((key.to_vec(), value.to_vec()))
        }))
    }

    fn write(&self, batch: Batch) -> Result<()> {
        self.failed.check()?;
        let mut sled_batch = sled::Batch::default();
        for (key, value) in batch.writes {
            check_size(value.as_deref(), VALUE_BYTES_MAX)?;
            match value {
                Some(value) => sled_batch.insert(key, value),
                None => sled_batch.remove(key),
            }
        }
        self.db.apply_batch(sled_batch).map_err(|e| self.failed.note(read_error(&self.path, e)))
    }

    fn sync(&self) -> Result<()> {
        self.failed.check()?;
        self.db.flush().map_err(|e| self.failed.note(read_error(&self.path, e)))?;
        self.file.sync_data().map_err(|e| {
            self.failed.note(Error::io(format!("fdatasync of {}/db", self.path.display()), e))
        })
    }

    fn disk_bytes(&self) -> u64 {
        // The figure is for status only; a file that cannot be asked counts as nothing.
        self.file.metadata().map_or(0, |m| m.len())
    }
}

fn open_error(name: &str, error: sled::Error) -> Error {
    match error {
        // sled reports a lock held elsewhere as an I/O error with this text in it.
        sled::Error::Io(e)
            if e.kind() == ErrorKind::WouldBlock
                || e.to_string().contains("could not acquire lock") =>
        {
            Error::Locked { path: name.to_owned() }
        }
        sled::Error::Io(e)
            if e.kind() != ErrorKind::Other && e.kind() != ErrorKind::InvalidData =>
        {
            Error::io(format!("opening {name}"), e)
        }
        sled::Error::Io(e) => Error::corrupt(name, e.to_string()),
        sled::Error::Corruption { at, .. } => Error::corrupt(name, format!("at {at:?}")),
        sled::Error::Unsupported(text) | sled::Error::ReportableBug(text) => {
            Error::corrupt(name, text)
        }
        sled::Error::CollectionNotFound(tree) => {
            Error::corrupt(name, format!("tree {tree:?} is missing"))
        }
    }
}

fn read_error(path: &Path, error: sled::Error) -> Error {
    let name = path.display().to_string();
    match error {
        sled::Error::Io(e) => Error::io(format!("database {name}"), e),
        sled::Error::Corruption { at, .. } => Error::corrupt(name, format!("at {at:?}")),
        sled::Error::Unsupported(text) | sled::Error::ReportableBug(text) => {
            Error::corrupt(name, text)
        }
        sled::Error::CollectionNotFound(tree) => {
            Error::corrupt(name, format!("tree {tree:?} is missing"))
        }
    }
}

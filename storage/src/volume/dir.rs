//! A directory as a volume.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{NewFile, Scratch, Volume};
use crate::{
    engine::{Engine, JournalEngine, SledEngine, sync_dir},
    error::{Error, Result},
};

const LOCK: &str = "LOCK";
const ENGINES: &str = "db";
const FILES: &str = "files";
const TEMPORARY: &str = ".tmp";

/// A [`Volume`] in a directory: `db/<engine>/`, `files/<file>`, and `LOCK`, held while it is open.
#[derive(Debug)]
pub struct DirVolume {
    root: PathBuf,
    cache_bytes: u64,
    /// Holds the lock of the directory; released by the kernel when the process ends.
    _lock: File,
}

impl DirVolume {
    /// Opens or creates the directory. `cache_bytes` bounds the page cache of each engine.
    ///
    /// Errors: [`Error::Locked`] when another process has it open.
    pub fn open(root: &Path, cache_bytes: u64) -> Result<Self> {
        for dir in [root.to_owned(), root.join(ENGINES), root.join(FILES)] {
            fs::create_dir_all(&dir)
                .map_err(|e| Error::io(format!("creating {}", dir.display()), e))?;
        }
        let lock_path = root.join(LOCK);
        let lock = File::create(&lock_path)
            .map_err(|e| Error::io(format!("creating {}", lock_path.display()), e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked { path: root.display().to_string() });
            }
            Err(TryLockError::Error(e)) => {
                return Err(Error::io(format!("locking {}", lock_path.display()), e));
            }
        }
        let volume = Self { root: root.to_owned(), cache_bytes, _lock: lock };
        // What an earlier process began and never committed.
        for name in names(&volume.root.join(FILES))? {
            if name.ends_with(TEMPORARY) {
                volume.remove_file(&name)?;
            }
        }
        sync_dir(root)?;
        Ok(volume)
    }

    /// Something in a directory that no volume puts there, if there is any. The `lost+found` of a file system
    /// does not count; a directory that does not exist has nothing in it.
    pub fn stranger_in(root: &Path) -> Result<Option<String>> {
        let context = || format!("listing {}", root.display());
        let entries = match fs::read_dir(root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(context(), e)),
        };
        for entry in entries {
            let name = entry.map_err(|e| Error::io(context(), e))?.file_name();
            if ![LOCK, ENGINES, FILES, "lost+found"].iter().any(|ours| name == *ours) {
                return Ok(Some(name.to_string_lossy().into_owned()));
            }
        }
        Ok(None)
    }

    fn file_path(&self, name: &str) -> PathBuf {
        self.root.join(FILES).join(name)
    }

    fn engine_path(&self, name: &str) -> PathBuf {
        self.root.join(ENGINES).join(name)
    }
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let context = || format!("listing {}", dir.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| Error::io(context(), e))? {
        let entry = entry.map_err(|e| Error::io(context(), e))?;
        // Names of ours are ASCII; others are none of our business.
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

impl Volume for DirVolume {
    fn open_engine(&self, name: &str) -> Result<Arc<dyn Engine>> {
        Ok(Arc::new(SledEngine::open(&self.engine_path(name), self.cache_bytes)?))
    }

    fn open_journal(&self, name: &str) -> Result<Arc<dyn Engine>> {
        Ok(Arc::new(JournalEngine::open(&self.engine_path(name))?))
    }

    fn engines(&self) -> Result<Vec<String>> {
        names(&self.root.join(ENGINES))
    }

    fn remove_engine(&self, name: &str) -> Result<()> {
        let path = self.engine_path(name);
        match fs::remove_dir_all(&path) {
            Ok(()) => sync_dir(&self.root.join(ENGINES)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io(format!("removing {}", path.display()), e)),
        }
    }

    fn create_file(&self, name: &str) -> Result<Box<dyn NewFile>> {
        let temporary = self.file_path(&format!("{name}{TEMPORARY}"));
        let file = File::create(&temporary)
            .map_err(|e| Error::io(format!("creating {}", temporary.display()), e))?;
        let target = self.file_path(name);
        let file = Paced { file, unsynced: 0 };
        Ok(Box::new(DirFile { file, temporary, target, committed: false }))
    }

    fn open_file(&self, name: &str) -> Result<(Box<dyn Read + Send>, u64)> {
        let path = self.file_path(name);
        let context = || format!("opening {}", path.display());
        let file = File::open(&path).map_err(|e| Error::io(context(), e))?;
        let bytes = file.metadata().map_err(|e| Error::io(context(), e))?.len();
        Ok((Box::new(file), bytes))
    }

    fn files(&self) -> Result<Vec<String>> {
        let mut names = names(&self.root.join(FILES))?;
        names.retain(|name| !name.ends_with(TEMPORARY));
        Ok(names)
    }

    fn remove_file(&self, name: &str) -> Result<()> {
        let path = self.file_path(name);
        match fs::remove_file(&path) {
            Ok(()) => sync_dir(&self.root.join(FILES)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io(format!("removing {}", path.display()), e)),
        }
    }

    fn rename_file(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.file_path(from), self.file_path(to));
        fs::rename(&from, &to).map_err(|e| Error::io(format!("renaming {}", from.display()), e))?;
        sync_dir(&self.root.join(FILES))
    }

    fn scratch(&self) -> Result<Scratch> {
        let context = || format!("a temporary file in {}", self.root.join(FILES).display());
        let named = tempfile::Builder::new().suffix(TEMPORARY).tempfile_in(self.root.join(FILES));
        let named = named.map_err(|e| Error::io(context(), e))?;
        let read = named.reopen().map_err(|e| Error::io(context(), e))?;
        // Without a name it lives as long as it is open. What a crash leaves right here is removed at the
        // next start, as every temporary file.
        let (written, path) = named.into_parts();
        path.close().map_err(|e| Error::io(context(), e))?;
        Ok((Box::new(Paced { file: written, unsynced: 0 }), Box::new(read)))
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }
}

/// A file is synced piece by piece while it is written. A large one that is synced as a whole keeps the disk
/// busy for so long that the log's syncs, and all writes with them, come to a halt.
const SYNC_EVERY_BYTES: usize = 1 << 20;

#[derive(Debug)]
struct Paced {
    file: File,
    /// Bytes written since the last sync.
    unsynced: usize,
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.unsynced >= SYNC_EVERY_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[derive(Debug)]
struct DirFile {
    file: Paced,
    temporary: PathBuf,
    target: PathBuf,
    committed: bool,
}

impl Write for DirFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl NewFile for DirFile {
    fn commit(mut self: Box<Self>) -> Result<()> {
        let context = |what: &str| format!("{what} {}", self.temporary.display());
        self.file.file.sync_all().map_err(|e| Error::io(context("fsync of"), e))?;
        fs::rename(&self.temporary, &self.target).map_err(|e| Error::io(context("renaming"), e))?;
        if let Some(dir) = self.target.parent() {
            sync_dir(dir)?;
        }
        self.committed = true;
        Ok(())
    }
}

impl Drop for DirFile {
    fn drop(&mut self) {
        if !self.committed {
            // Best effort: what stays behind is removed at the next start.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

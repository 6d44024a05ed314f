//! Everything one node keeps: its engines and its files, in one place that can be real or simulated.
//!
//! [`DirVolume`] is a directory, held by one process at a time. [`MemoryVolume`] is for tests and
//! simulation: its power cut loses what was not synced, in all engines and files at once.

mod dir;
mod memory;

use std::{
    fmt::Debug,
    io::{Read, Write},
    sync::Arc,
};

pub use self::{dir::DirVolume, memory::MemoryVolume};
use crate::{engine::Engine, error::Result};

/// A file being written, invisible until it is committed.
pub trait NewFile: Write + Send {
    /// Makes the file durable and visible under its name, replacing an older one atomically.
    fn commit(self: Box<Self>) -> Result<()>;
}

/// A file without a name: what is written to it, and the same from its beginning. It is gone when both
/// are, and after a crash.
pub type Scratch = (Box<dyn Write + Send>, Box<dyn Read + Send>);

/// Where a node keeps its engines and files.
///
/// Names are plain file names of ours (no separators). A file appears under its name only when it
/// is whole and durable.
pub trait Volume: Debug + Send + Sync {
    /// Opens an engine, creating it when it does not exist.
    fn open_engine(&self, name: &str) -> Result<Arc<dyn Engine>>;
    /// Opens an engine for a log, creating it when it does not exist: written at its end, purged at its
    /// beginning, synced often.
    fn open_journal(&self, name: &str) -> Result<Arc<dyn Engine>> {
        self.open_engine(name)
    }
    /// Names of the engines that exist, sorted.
    fn engines(&self) -> Result<Vec<String>>;
    /// Deletes an engine and what is in it. Handles that are open stay readable.
    fn remove_engine(&self, name: &str) -> Result<()>;

    /// Starts a file. Dropping it without commit leaves nothing.
    fn create_file(&self, name: &str) -> Result<Box<dyn NewFile>>;
    /// Opens a committed file from its beginning, with its length in bytes.
    fn open_file(&self, name: &str) -> Result<(Box<dyn Read + Send>, u64)>;
    /// Names of the committed files, sorted.
    fn files(&self) -> Result<Vec<String>>;
    /// Deletes a file, present or not.
    fn remove_file(&self, name: &str) -> Result<()>;
    /// Gives a file another name, atomically, replacing what had it.
    fn rename_file(&self, from: &str, to: &str) -> Result<()>;
    /// A file for what is passed on and not kept. Reads see what was written so far.
    fn scratch(&self) -> Result<Scratch>;

    /// Where it is, for messages.
    fn location(&self) -> String;
}

/// Reads a whole small file; `None` when there is none of that name.
pub fn read_file(volume: &dyn Volume, name: &str) -> Result<Option<Vec<u8>>> {
    if !volume.files()?.iter().any(|file| file == name) {
        return Ok(None);
    }
    let (mut file, _) = volume.open_file(name)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .map_err(|e| crate::Error::io(format!("reading {}/{name}", volume.location()), e))?;
    Ok(Some(bytes))
}

/// Writes a whole small file, durably and atomically.
pub fn write_file(volume: &dyn Volume, name: &str, bytes: &[u8]) -> Result<()> {
    let mut file = volume.create_file(name)?;
    file.write_all(bytes)
        .map_err(|e| crate::Error::io(format!("writing {}/{name}", volume.location()), e))?;
    file.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Batch;

    fn suite(volume: &dyn Volume) {
        assert_eq!(read_file(volume, "identity").unwrap(), None);
        write_file(volume, "identity", b"one").unwrap();
        write_file(volume, "identity", b"two").unwrap();
        assert_eq!(read_file(volume, "identity").unwrap().unwrap(), b"two");

        let mut dropped = volume.create_file("dropped").unwrap();
        dropped.write_all(b"never committed").unwrap();
        drop(dropped);
        assert_eq!(volume.files().unwrap(), ["identity"]);

        volume.rename_file("identity", "renamed").unwrap();
        assert_eq!(volume.files().unwrap(), ["renamed"]);
        volume.remove_file("renamed").unwrap();
        volume.remove_file("renamed").unwrap();
        assert!(volume.files().unwrap().is_empty());
        assert!(volume.open_file("renamed").is_err());

        let (mut written, mut read) = volume.scratch().unwrap();
        let (mut other, _) = volume.scratch().unwrap();
        other.write_all(b"of another").unwrap();
        let mut seen = String::new();
        for (piece, all) in [("one", "one"), (", two", "one, two")] {
            written.write_all(piece.as_bytes()).unwrap();
            read.read_to_string(&mut seen).unwrap();
            assert_eq!(seen, all);
        }
        assert!(volume.files().unwrap().is_empty(), "it has no name");

        let engine = volume.open_engine("state-1").unwrap();
        let mut batch = Batch::default();
        batch.put(crate::key::Key::Meta.encode(0), vec![1]);
        engine.write(batch).unwrap();
        engine.sync().unwrap();
        volume.open_engine("log").unwrap();
        assert_eq!(volume.engines().unwrap(), ["log", "state-1"]);
        volume.remove_engine("state-1").unwrap();
        assert_eq!(volume.engines().unwrap(), ["log"]);
    }

    #[test]
    fn a_directory_keeps_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        suite(&DirVolume::open(dir.path().join("data").as_path(), 8 << 20).unwrap());
    }

    #[test]
    fn a_directory_of_somebody_elses_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        let stranger = || DirVolume::stranger_in(&root).unwrap();
        assert_eq!(stranger(), None, "it does not exist");
        drop(DirVolume::open(&root, 8 << 20).unwrap());
        std::fs::create_dir(root.join("lost+found")).unwrap();
        assert_eq!(stranger(), None);
        std::fs::write(root.join("notes.txt"), "mine").unwrap();
        assert_eq!(stranger().as_deref(), Some("notes.txt"));
    }

    #[test]
    fn what_was_passed_on_is_gone_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let volume = DirVolume::open(dir.path(), 8 << 20).unwrap();
        let scratch = volume.scratch().unwrap();
        // As it is found while it is in use, and so after a crash.
        assert_eq!(std::fs::read_dir(dir.path().join("files")).unwrap().count(), 0);
        drop(scratch);
    }

    #[test]
    fn memory_keeps_the_contract() {
        suite(&MemoryVolume::new());
    }

    #[test]
    fn a_second_process_on_the_same_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = DirVolume::open(dir.path(), 8 << 20).unwrap();
        let error = DirVolume::open(dir.path(), 8 << 20).unwrap_err();
        assert!(matches!(error, crate::Error::Locked { .. }), "{error}");
    }
}

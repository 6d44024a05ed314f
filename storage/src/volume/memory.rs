//! A volume in memory, with a power switch.

use std::{
    collections::BTreeMap,
    io::{self, Cursor, Read, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{NewFile, Scratch, Volume};
use crate::{
    engine::{Engine, MemoryEngine},
    error::{Error, Result},
};

/// A [`Volume`] in memory. Clones share the same contents, as two processes share a disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryVolume {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    engines: BTreeMap<String, Arc<MemoryEngine>>,
    files: BTreeMap<String, Arc<[u8]>>,
}

impl MemoryVolume {
    /// An empty volume.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code panics while holding the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power: each engine loses what it did not sync, except for as many of its unsynced
    /// batches as `kept` says. Committed files stay: they were synced.
    pub fn power_cut(&self, mut kept: impl FnMut(usize) -> usize) {
        for engine in self.lock().engines.values() {
            engine.power_cut(kept(engine.unsynced()));
        }
    }

    /// An engine, to inject faults into it.
    pub fn engine(&self, name: &str) -> Option<Arc<MemoryEngine>> {
        self.lock().engines.get(name).cloned()
    }

    /// Replaces a committed file behind everybody's back.
    pub fn corrupt_file(&self, name: &str, bytes: Vec<u8>) {
        self.lock().files.insert(name.to_owned(), bytes.into());
    }

    /// A copy of all that is durable now: a disk as it would be found after a power cut, to combine
    /// with others of other moments.
    pub fn fork(&self) -> Self {
        let source = self.lock();
        let engines = source
            .engines
            .iter()
            .map(|(name, engine)| (name.clone(), Arc::new(engine.durable_copy())))
            .collect();
        Self { inner: Arc::new(Mutex::new(Inner { engines, files: source.files.clone() })) }
    }
}

impl Volume for MemoryVolume {
    fn open_engine(&self, name: &str) -> Result<Arc<dyn Engine>> {
        Ok(self.lock().engines.entry(name.to_owned()).or_default().clone())
    }

    fn engines(&self) -> Result<Vec<String>> {
        Ok(self.lock().engines.keys().cloned().collect())
    }

    fn remove_engine(&self, name: &str) -> Result<()> {
        self.lock().engines.remove(name);
        Ok(())
    }

    fn create_file(&self, name: &str) -> Result<Box<dyn NewFile>> {
        Ok(Box::new(MemoryFile { volume: self.clone(), name: name.to_owned(), bytes: Vec::new() }))
    }

    fn open_file(&self, name: &str) -> Result<(Box<dyn Read + Send>, u64)> {
        match self.lock().files.get(name) {
            Some(bytes) => Ok((Box::new(Cursor::new(bytes.clone())), bytes.len() as u64)),
            None => Err(Error::io(format!("opening {name}"), io::ErrorKind::NotFound.into())),
        }
    }

    fn files(&self) -> Result<Vec<String>> {
        Ok(self.lock().files.keys().cloned().collect())
    }

    fn remove_file(&self, name: &str) -> Result<()> {
        self.lock().files.remove(name);
        Ok(())
    }

    fn rename_file(&self, from: &str, to: &str) -> Result<()> {
        let mut inner = self.lock();
        let Some(bytes) = inner.files.remove(from) else {
            return Err(Error::io(format!("renaming {from}"), io::ErrorKind::NotFound.into()));
        };
        inner.files.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn scratch(&self) -> Result<Scratch> {
        let bytes = Arc::default();
        let read = MemoryScratch { bytes: Arc::clone(&bytes), at: 0 };
        Ok((Box::new(MemoryScratch { bytes, at: 0 }), Box::new(read)))
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }
}

struct MemoryFile {
    volume: MemoryVolume,
    name: String,
    bytes: Vec<u8>,
}

impl Write for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for MemoryFile {
    fn commit(self: Box<Self>) -> Result<()> {
        self.volume.lock().files.insert(self.name, self.bytes.into());
        Ok(())
    }
}

/// One side of a file without a name.
struct MemoryScratch {
    bytes: Arc<Mutex<Vec<u8>>>,
    at: usize,
}

impl MemoryScratch {
    fn held(&self) -> MutexGuard<'_, Vec<u8>> {
        // No code panics while holding the lock.
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for MemoryScratch {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for MemoryScratch {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = {
            let bytes = self.held();
            let left = &bytes[self.at.min(bytes.len())..];
            let read = left.len().min(into.len());
            into[..read].copy_from_slice(&left[..read]);
            read
        };
        self.at += read;
        Ok(read)
    }
}

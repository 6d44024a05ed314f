//! A disk whose syncs can be held up: the moment between a write and its confirmation, made long.

use std::{
    io::Read,
    ops::RangeInclusive,
    sync::{Arc, Condvar, Mutex},
};

use pygmy_storage::{
    Result,
    engine::{Batch, Engine, Scan},
    key::KEY_BYTES,
    volume::{MemoryVolume, NewFile, Scratch, Volume},
};

/// A volume in memory that waits before each sync while it is held.
#[derive(Debug, Clone, Default)]
pub(super) struct HeldVolume {
    pub(super) memory: MemoryVolume,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    held: Mutex<bool>,
    changed: Condvar,
}

impl HeldVolume {
    /// From now on a sync waits.
    pub(super) fn hold(&self) {
        *self.gate.held.lock().unwrap() = true;
    }

    /// All go on.
    pub(super) fn release(&self) {
        *self.gate.held.lock().unwrap() = false;
        self.gate.changed.notify_all();
    }
}

#[derive(Debug)]
struct HeldEngine {
    engine: Arc<dyn Engine>,
    gate: Arc<Gate>,
}

impl Engine for HeldEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.engine.get(key)
    }

    fn scan(&self, range: &RangeInclusive<[u8; KEY_BYTES]>) -> Scan<'_> {
        self.engine.scan(range)
    }

    fn write(&self, batch: Batch) -> Result<()> {
        self.engine.write(batch)
    }

    fn sync(&self) -> Result<()> {
        let held = self.gate.held.lock().unwrap();
        drop(self.gate.changed.wait_while(held, |held| *held).unwrap());
        self.engine.sync()
    }

    fn disk_bytes(&self) -> u64 {
        self.engine.disk_bytes()
    }
}

impl Volume for HeldVolume {
    fn open_engine(&self, name: &str) -> Result<Arc<dyn Engine>> {
        let engine = self.memory.open_engine(name)?;
        Ok(Arc::new(HeldEngine { engine, gate: self.gate.clone() }))
    }

    fn engines(&self) -> Result<Vec<String>> {
        self.memory.engines()
    }

    fn remove_engine(&self, name: &str) -> Result<()> {
        self.memory.remove_engine(name)
    }

    fn create_file(&self, name: &str) -> Result<Box<dyn NewFile>> {
        self.memory.create_file(name)
    }

    fn open_file(&self, name: &str) -> Result<(Box<dyn Read + Send>, u64)> {
        self.memory.open_file(name)
    }

    fn files(&self) -> Result<Vec<String>> {
        self.memory.files()
    }

    fn remove_file(&self, name: &str) -> Result<()> {
        self.memory.remove_file(name)
    }

    fn rename_file(&self, from: &str, to: &str) -> Result<()> {
        self.memory.rename_file(from, to)
    }

    fn scratch(&self) -> Result<Scratch> {
        self.memory.scratch()
    }

    fn location(&self) -> String {
        self.memory.location()
    }
}

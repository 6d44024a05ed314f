//! A node's disk: a volume in memory that the power can be cut from at any operation, and that can
//! be made to lie about its syncs.

use std::{
    io::{self, Read, Write},
    ops::RangeInclusive,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use pygmy_storage::{
    Error, Result,
    engine::{Batch, Engine, Scan},
    key::KEY_BYTES,
    volume::{MemoryVolume, NewFile, Scratch, Volume},
};

use crate::runtime::lock;

/// What one incarnation of a node sees of its disk.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    volume: MemoryVolume,
    power: Arc<Power>,
    lies: bool,
}

#[derive(Debug, Default)]
struct Power {
    /// Operations until the power goes; `None` for many.
    fuse: Mutex<Option<u64>>,
    off: AtomicBool,
}

impl Power {
    /// Called before whatever changes the disk.
    fn draw(&self) -> Result<()> {
        let mut fuse = lock(&self.fuse);
        if let Some(left) = fuse.as_mut() {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.off.store(true, Ordering::Relaxed);
            }
        }
        match self.off.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(Error::io("the disk", io::Error::other("the power is off"))),
        }
    }
}

impl Disk {
    /// `lies`: a sync is said to be done and is not.
    pub(crate) fn new(volume: MemoryVolume, lies: bool) -> Self {
        Self { volume, power: Arc::default(), lies }
    }

    /// Lets the power go after so many more operations; `None` for never.
    pub(crate) fn set_fuse(&self, operations: Option<u64>) {
        *lock(&self.power.fuse) = operations;
    }

    pub(crate) fn is_off(&self) -> bool {
        self.power.off.load(Ordering::Relaxed)
    }

    /// Nothing of this incarnation reaches the volume any more.
    pub(crate) fn switch_off(&self) {
        self.power.off.store(true, Ordering::Relaxed);
    }
}

impl Volume for Disk {
    fn open_engine(&self, name: &str) -> Result<Arc<dyn Engine>> {
        self.power.draw()?;
        let engine = self.volume.open_engine(name)?;
        Ok(Arc::new(DiskEngine { engine, power: self.power.clone(), lies: self.lies }))
    }

    fn engines(&self) -> Result<Vec<String>> {
        self.volume.engines()
    }

    fn remove_engine(&self, name: &str) -> Result<()> {
        self.power.draw()?;
        self.volume.remove_engine(name)
    }

    fn create_file(&self, name: &str) -> Result<Box<dyn NewFile>> {
        self.power.draw()?;
        let file = self.volume.create_file(name)?;
        Ok(Box::new(DiskFile { file, power: self.power.clone() }))
    }

    fn open_file(&self, name: &str) -> Result<(Box<dyn Read + Send>, u64)> {
        self.volume.open_file(name)
    }

    fn files(&self) -> Result<Vec<String>> {
        self.volume.files()
    }

    fn remove_file(&self, name: &str) -> Result<()> {
        self.power.draw()?;
        self.volume.remove_file(name)
    }

    fn rename_file(&self, from: &str, to: &str) -> Result<()> {
        self.power.draw()?;
        self.volume.rename_file(from, to)
    }

    fn scratch(&self) -> Result<Scratch> {
        self.power.draw()?;
        self.volume.scratch()
    }

    fn location(&self) -> String {
        self.volume.location()
    }
}

#[derive(Debug)]
struct DiskEngine {
    engine: Arc<dyn Engine>,
    power: Arc<Power>,
    lies: bool,
}

impl Engine for DiskEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.engine.get(key)
    }

    fn scan(&self, range: &RangeInclusive<[u8; KEY_BYTES]>) -> Scan<'_> {
        self.engine.scan(range)
    }

    fn write(&self, batch: Batch) -> Result<()> {
        self.power.draw()?;
        self.engine.write(batch)
    }

    fn sync(&self) -> Result<()> {
        self.power.draw()?;
        match self.lies {
            true => Ok(()),
            false => self.engine.sync(),
        }
    }

    fn disk_bytes(&self) -> u64 {
        0
    }
}

struct DiskFile {
    file: Box<dyn NewFile>,
    power: Arc<Power>,
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.power.draw()?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl NewFile for DiskFile {
    fn commit(self: Box<Self>) -> Result<()> {
        self.power.draw()?;
        self.file.commit()
    }
}

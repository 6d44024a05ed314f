//! One file of the journal, and the frames in it.
//!
//! A segment is `"PYGMYJNL" | version: u64 | number: u64 | first frame: u64 | XXH3 of these`, then
//! frames without a gap, then whatever the file held before it was used again. Numbers are
//! little-endian. A frame is
//! `bytes of the operations: u32 | frame number: u64 | durable below: u64 | XXH3: u64 | operations`,
//! its checksum seeded with the segment's number, so that a frame of the file's earlier life is none.
//! An operation is `bytes of the key: u8 | bytes of the value, all ones to delete: u32 | key | value`.
//!
//! Each frame says which frames were durable when it was written. That tells an end that was being
//! written when the power went, which is left out, from damage to what was acknowledged.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::super::{Batch, sync_dir};
use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"PYGMYJNL";
const VERSION: u64 = 1;
/// Bytes before the first frame.
pub(super) const HEADER_BYTES: u64 = HEADER as u64;
const HEADER: usize = 40;
/// Bytes before the operations of a frame.
pub(super) const FRAME_HEADER_BYTES: u64 = FRAME_HEADER as u64;
const FRAME_HEADER: usize = 28;
/// The length of a value that stands for a deletion.
const DELETED: u32 = u32::MAX;
/// What is written at once to allocate a file.
const ZEROS: usize = 1 << 20;

const SUFFIX: &str = ".seg";
const SPARE: &str = "spare-";

/// A segment file, and how much of it is wanted.
#[derive(Debug)]
pub(super) struct Segment {
    shared: Arc<Shared>,
    bytes: u64,
    wanted: u64,
}

/// What reading and syncing need of a segment.
#[derive(Debug)]
pub(super) struct Shared {
    file: File,
    path: PathBuf,
}

impl Shared {
    fn context(&self, what: &str) -> String {
        format!("{what} {}", self.path.display())
    }

    /// Reads a value.
    pub(super) fn read(&self, offset: u64, bytes: u32) -> Result<Vec<u8>> {
        let mut value = vec![0; bytes as usize];
        self.file
            .read_exact_at(&mut value, offset)
            .map_err(|e| Error::io(self.context("reading"), e))?;
        Ok(value)
    }

    /// Makes everything written so far durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io(self.context("fdatasync of"), e))
    }
}

/// The segments in a directory in order, and the files that are kept for reuse.
pub(super) fn list(dir: &Path) -> Result<(Vec<u64>, Vec<PathBuf>)> {
    let context = || format!("listing {}", dir.display());
    let (mut numbers, mut spares) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(dir).map_err(|e| Error::io(context(), e))? {
        let entry = entry.map_err(|e| Error::io(context(), e))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(SPARE) {
            spares.push(entry.path());
        } else if let Some(number) = name.strip_suffix(SUFFIX) {
            let number = u64::from_str_radix(number, 16)
                .map_err(|_| Error::corrupt(context(), format!("{name} is no segment of ours")))?;
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    spares.sort();
    Ok((numbers, spares))
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}{SUFFIX}"))
}

impl Segment {
    /// Makes a segment of so many bytes, all of them allocated, durable under its name. A spare file
    /// has its blocks already.
    pub(super) fn create(
        dir: &Path,
        number: u64,
        first: u64,
        bytes: u64,
        spare: Option<PathBuf>,
    ) -> Result<Self> {
        let failed = |path: &Path, e| Error::io(format!("creating {}", path.display()), e);
        let new = dir.join(format!("{SPARE}{number:016x}"));
        let (from, exists) = match spare {
            Some(spare) => (spare, true),
            None => (new, false),
        };
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(!exists)
            .open(&from)
            .map_err(|e| failed(&from, e))?;
        let allocated = file.metadata().map_err(|e| failed(&from, e))?.len() == bytes;
        if !allocated {
            allocate(&file, bytes).map_err(|e| failed(&from, e))?;
        }
        file.write_all_at(&header(number, first), 0).map_err(|e| failed(&from, e))?;
        file.sync_all().map_err(|e| failed(&from, e))?;
        let path = path_of(dir, number);
        fs::rename(&from, &path).map_err(|e| failed(&path, e))?;
        sync_dir(dir)?;
        Ok(Self { shared: Arc::new(Shared { file, path }), bytes, wanted: 0 })
    }

    /// Opens a segment; also gives the number of its first frame.
    pub(super) fn open(dir: &Path, number: u64) -> Result<(Self, u64)> {
        let path = path_of(dir, number);
        let failed = |e| Error::io(format!("opening {}", path.display()), e);
        let file = File::options().read(true).write(true).open(&path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let damaged = || Error::corrupt(path.display().to_string(), "its header cannot be read");
        let mut found = [0; HEADER];
        match file.read_exact_at(&mut found, 0) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged()),
            Err(e) => return Err(failed(e)),
        }
        let version = number_at(&found, 8).unwrap_or(0);
        if &found[..8] == MAGIC && version > VERSION {
            let version = u8::try_from(version).unwrap_or(u8::MAX);
            return Err(Error::UnknownFormat { what: path.display().to_string(), version });
        }
        let first = number_at(&found, 24).unwrap_or(0);
        if found != header(number, first) {
            return Err(damaged());
        }
        Ok((Self { shared: Arc::new(Shared { file, path }), bytes, wanted: 0 }, first))
    }

    /// Its path, for messages.
    pub(super) fn name(&self) -> String {
        self.shared.path.display().to_string()
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of keys and values in it that the index points to.
    pub(super) fn wanted(&self) -> u64 {
        self.wanted
    }

    pub(super) fn want(&mut self, bytes: u64) {
        self.wanted += bytes;
    }

    pub(super) fn forget(&mut self, bytes: u64) {
        self.wanted = self.wanted.saturating_sub(bytes);
    }

    pub(super) fn share(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    pub(super) fn read(&self, offset: u64, bytes: u32) -> Result<Vec<u8>> {
        self.shared.read(offset, bytes)
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.shared.sync()
    }

    /// The whole file.
    pub(super) fn read_all(&self) -> Result<Vec<u8>> {
        let bytes = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        let mut all = vec![0; bytes];
        self.shared
            .file
            .read_exact_at(&mut all, 0)
            .map_err(|e| Error::io(self.shared.context("reading"), e))?;
        Ok(all)
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.shared
            .file
            .write_all_at(bytes, offset)
            .map_err(|e| Error::io(self.shared.context("writing"), e))
    }

    /// Overwrites everything from an offset on with zeros, durably.
    pub(super) fn erase(&self, mut offset: u64) -> Result<()> {
        let zeros = vec![0; ZEROS];
        while offset < self.bytes {
            let bytes = (self.bytes - offset).min(ZEROS as u64);
            let bytes = usize::try_from(bytes).unwrap_or(ZEROS);
            self.write(&zeros[..bytes], offset)?;
            offset += bytes as u64;
        }
        self.sync()
    }

    /// Takes it out of the row. A file that nobody reads any more can be used again.
    pub(super) fn retire(self, dir: &Path, reusable: bool) -> Result<Option<PathBuf>> {
        let path = self.shared.path.clone();
        let failed = |e| Error::io(format!("removing {}", path.display()), e);
        let spare = match reusable && Arc::strong_count(&self.shared) == 1 {
            true => {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                let spare = dir.join(format!("{SPARE}{name}"));
                fs::rename(&path, &spare).map_err(failed)?;
                Some(spare)
            }
            false => {
                fs::remove_file(&path).map_err(failed)?;
                None
            }
        };
        // Segments go oldest first, also on disk: a power cut must not leave a hole in the row.
        sync_dir(dir)?;
        Ok(spare)
    }
}

/// Writes zeros, because blocks that are only reserved cost a sync more.
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(0)?;
    let zeros = vec![0; ZEROS];
    let mut offset = 0;
    while offset < bytes {
        let piece = usize::try_from((bytes - offset).min(ZEROS as u64)).unwrap_or(ZEROS);
        file.write_all_at(&zeros[..piece], offset)?;
        offset += piece as u64;
    }
    Ok(())
}

fn header(number: u64, first: u64) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&number.to_le_bytes());
    bytes[24..32].copy_from_slice(&first.to_le_bytes());
    let checksum = xxh3_64(&bytes[..32]);
    bytes[32..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn number_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let bytes = bytes.get(offset..offset.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

fn short_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// Bytes of an operation before its value.
pub(super) fn op_header_bytes(key: &[u8]) -> u64 {
    5 + key.len() as u64
}

/// Encodes the operations of a batch, with room for the frame's header in front.
pub(super) fn encode(buffer: &mut Vec<u8>, batch: &Batch) {
    buffer.clear();
    buffer.resize(FRAME_HEADER, 0);
    for (key, value) in &batch.writes {
        // Keys are `KEY_BYTES` long, values at most `VALUE_BYTES_MAX`.
        let key_bytes = u8::try_from(key.len()).expect("keys are a few bytes long");
        let value_bytes = value
            .as_ref()
            .map_or(DELETED, |value| u32::try_from(value.len()).expect("values are bounded"));
        buffer.push(key_bytes);
        buffer.extend_from_slice(&value_bytes.to_le_bytes());
        buffer.extend_from_slice(key);
        buffer.extend_from_slice(value.as_deref().unwrap_or_default());
    }
}

/// Fills in the header of an encoded frame.
pub(super) fn finish(buffer: &mut [u8], segment: u64, number: u64, durable: u64) {
    let bytes = buffer.len() - FRAME_HEADER;
    let bytes = u32::try_from(bytes).expect("a batch is a few megabytes");
    buffer[..4].copy_from_slice(&bytes.to_le_bytes());
    buffer[4..12].copy_from_slice(&number.to_le_bytes());
    buffer[12..20].copy_from_slice(&durable.to_le_bytes());
    let checksum = checksum(buffer, segment);
    buffer[20..28].copy_from_slice(&checksum.to_le_bytes());
}

/// Of everything but the checksum itself.
fn checksum(frame: &[u8], segment: u64) -> u64 {
    let (header, operations) = frame.split_at(FRAME_HEADER);
    xxh3_64_with_seed(operations, xxh3_64_with_seed(&header[..20], segment))
}

/// A whole frame.
pub(super) struct Frame<'a> {
    offset: u64,
    bytes: &'a [u8],
}

/// An operation of a frame.
pub(super) struct Op<'a> {
    pub(super) key: &'a [u8],
    /// Where the value lies in the segment, and its length; `None` deletes.
    pub(super) value: Option<(u64, u32)>,
}

impl<'a> Frame<'a> {
    /// The frame of this number at an offset of a segment, if it is there and whole.
    pub(super) fn read(
        segment: &'a [u8],
        offset: u64,
        in_segment: u64,
        number: u64,
    ) -> Option<Self> {
        let frame = Self::any(segment, offset, in_segment)?;
        (frame.number() == Some(number)).then_some(frame)
    }

    /// Whatever whole frame of this segment is at an offset.
    fn any(segment: &'a [u8], offset: u64, in_segment: u64) -> Option<Self> {
        let rest = segment.get(usize::try_from(offset).ok()?..)?;
        let operations = short_at(rest, 0)? as usize;
        let bytes = rest.get(..operations.checked_add(FRAME_HEADER)?)?;
        let whole = number_at(bytes, 20)? == checksum(bytes, in_segment);
        (whole && operations > 0).then_some(Self { offset, bytes })
    }

    fn number(&self) -> Option<u64> {
        number_at(self.bytes, 4)
    }

    fn durable(&self) -> u64 {
        number_at(self.bytes, 12).unwrap_or(0)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Its operations.
    ///
    /// Errors: [`Error::Corrupt`] when they do not fill the frame exactly.
    pub(super) fn ops(&self, name: &str) -> Result<Vec<Op<'a>>> {
        let damaged = || Error::corrupt(name, "a frame with the right checksum makes no sense");
        let mut ops = Vec::new();
        let mut at = FRAME_HEADER;
        while at < self.bytes.len() {
            let key_bytes = usize::from(*self.bytes.get(at).ok_or_else(damaged)?);
            let value_bytes = short_at(self.bytes, at + 1).ok_or_else(damaged)?;
            let value_at = at + 5 + key_bytes;
            let key = self.bytes.get(at + 5..value_at).ok_or_else(damaged)?;
            let value =
                (value_bytes != DELETED).then_some((self.offset + value_at as u64, value_bytes));
            at = value_at + value.map_or(0, |(_, bytes)| bytes as usize);
            if at > self.bytes.len() {
                return Err(damaged());
            }
            ops.push(Op { key, value });
        }
        Ok(ops)
    }
}

/// What comes after the last frame that follows from the one before.
pub(super) enum Tail {
    /// Nothing of this segment.
    Clean,
    /// Later frames, none of them written when the missing one was durable.
    Torn,
    /// The missing frame was durable once.
    Damaged {
        /// Frames below this number were durable.
        durable: u64,
    },
}

/// Looks for frames of this segment behind the one that is missing.
pub(super) fn tail(segment: &[u8], from: u64, in_segment: u64, missing: u64) -> Tail {
    let mut torn = false;
    let mut durable = 0;
    let mut offset = from;
    let end = segment.len() as u64;
    while offset + FRAME_HEADER_BYTES <= end {
        // Cheap looks first: most of what is here is zeros, or a frame of another life.
        let plausible = usize::try_from(offset)
            .ok()
            .and_then(|at| number_at(segment, at + 4))
            .is_some_and(|number| number > missing && number - missing < 1 << 24);
        match plausible.then(|| Frame::any(segment, offset, in_segment)).flatten() {
            Some(frame) => {
                torn = true;
                durable = durable.max(frame.durable());
                offset += frame.bytes();
            }
            None => offset += 1,
        }
    }
    match (durable > missing, torn) {
        (true, _) => Tail::Damaged { durable },
        (false, true) => Tail::Torn,
        (false, false) => Tail::Clean,
    }
}

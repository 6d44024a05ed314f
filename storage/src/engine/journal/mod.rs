//! An append-only journal as an engine: what the Raft log is kept in.
//!
//! Every batch is one checksummed frame at the end of the newest of a row of segment files, so that a
//! write is one `pwrite` and a sync one `fdatasync` of bytes that are allocated already. Keys are kept
//! in memory, with the places of their values on disk (Sheehy & Smith, "Bitcask", 2010). A segment goes
//! when nothing in it is wanted any more, oldest first; what little still is, is written anew.
//!
//! It suits a log, which is written at its end and purged at its beginning, and little else: a value in
//! the middle that lives for ever keeps everything after it. The state database is therefore sled's.

mod segment;

use std::{
    collections::BTreeMap,
    fs,
    ops::{Bound, RangeInclusive},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use self::segment::{Frame, Segment, Tail};
use super::{Batch, Engine, Failure, Pair, Scan, VALUE_BYTES_MAX, check_size, sync_dir};
use crate::{
    error::{Error, Result},
    key::KEY_BYTES,
};

/// Bytes of a segment; a batch that is larger gets a segment of its own size.
const SEGMENT_BYTES: u64 = 16 << 20;
/// So little that is still wanted in the oldest segment is written anew, and the segment goes.
const REWRITE_BYTES: u64 = 256 << 10;
/// Segments that are kept for the next use: their blocks are allocated already.
const SPARES_MAX: usize = 2;

/// An [`Engine`] on append-only segment files.
#[derive(Debug)]
pub struct JournalEngine {
    dir: PathBuf,
    segment_bytes: u64,
    inner: Mutex<Inner>,
    failed: Failure,
}

/// Where a value lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    segment: u64,
    offset: u64,
    bytes: u32,
}

#[derive(Debug)]
struct Inner {
    index: BTreeMap<Vec<u8>, Place>,
    /// By number, without a gap; the last one is written to.
    segments: BTreeMap<u64, Segment>,
    /// Where the next frame goes in the last segment.
    end: u64,
    /// The number of the next frame.
    next: u64,
    /// Frames below this number are durable.
    durable: u64,
    spares: Vec<PathBuf>,
    /// Reused for every frame.
    buffer: Vec<u8>,
}

impl JournalEngine {
    /// Opens or creates the journal in a directory, which nobody else may have open.
    ///
    /// Errors: [`Error::Corrupt`] when something is damaged or missing that was durable once. What was
    /// being written when the power went is no damage: it is left out.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, SEGMENT_BYTES)
    }

    fn open_with(dir: &Path, segment_bytes: u64) -> Result<Self> {
        fs::create_dir_all(dir).map_err(|e| Error::io(format!("creating {}", dir.display()), e))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
        let inner = replay(dir)?;
        let engine = Self {
            dir: dir.to_owned(),
            segment_bytes,
            inner: Mutex::new(inner),
            failed: Failure::default(),
        };
        {
            let mut inner = engine.lock();
            if inner.segments.is_empty() {
                engine.roll(&mut inner, 0)?;
            }
            engine.release(&mut inner)?;
        }
        // What a process left in the system's memory when it died counts from now on.
        engine.sync()?;
        Ok(engine)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A write that panics has not touched the index yet; what it left on disk is overwritten.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a new segment with room for a frame of so many bytes. The one before is synced first, so
    /// that only the last one can ever have an end that was being written.
    fn roll(&self, inner: &mut Inner, frame_bytes: u64) -> Result<()> {
        let number = match inner.segments.last_key_value() {
            Some((number, last)) => {
                last.sync()?;
                inner.durable = inner.next;
                number + 1
            }
            None => 0,
        };
        let bytes = self.segment_bytes.max(segment::HEADER_BYTES + frame_bytes);
        let spare = match bytes == self.segment_bytes {
            true => inner.spares.pop(),
            false => None,
        };
        let segment = Segment::create(&self.dir, number, inner.next, bytes, spare)?;
        inner.segments.insert(number, segment);
        inner.end = segment::HEADER_BYTES;
        Ok(())
    }

    /// Appends a batch as one frame and takes it into the index.
    fn append(&self, inner: &mut Inner, batch: &Batch) -> Result<()> {
        let mut buffer = std::mem::take(&mut inner.buffer);
        segment::encode(&mut buffer, batch);
        let bytes = buffer.len() as u64;
        let fits = |inner: &Inner| {
            inner
                .segments
                .last_key_value()
                .is_some_and(|(_, last)| inner.end + bytes <= last.bytes())
        };
        if !fits(inner) {
            self.roll(inner, bytes)?;
        }
        let Some((&number, last)) = inner.segments.last_key_value() else {
            return Err(Error::corrupt("the journal", "there is no segment to write to"));
        };
        segment::finish(&mut buffer, number, inner.next, inner.durable);
        last.write(&buffer, inner.end)?;
        let offset = inner.end;
        inner.end += bytes;
        inner.next += 1;
        inner.buffer = buffer;
        let mut place = offset + segment::FRAME_HEADER_BYTES;
        for (key, value) in &batch.writes {
            place += segment::op_header_bytes(key);
            let bytes = value.as_ref().map(|value| u32::try_from(value.len()).unwrap_or(u32::MAX));
            inner.set(key, bytes.map(|bytes| Place { segment: number, offset: place, bytes }));
            place += u64::from(bytes.unwrap_or(0));
        }
        Ok(())
    }

    /// Lets go of the oldest segments in which little or nothing is wanted any more.
    fn release(&self, inner: &mut Inner) -> Result<()> {
        loop {
            let Some((&oldest, segment)) = inner.segments.first_key_value() else { return Ok(()) };
            if inner.segments.len() == 1
                || segment.wanted() > REWRITE_BYTES.min(self.segment_bytes / 4)
            {
                return Ok(());
            }
            if segment.wanted() > 0 {
                let mut batch = Batch::default();
                let wanted: Vec<_> = inner
                    .index
                    .iter()
                    .filter(|(_, place)| place.segment == oldest)
                    .map(|(key, place)| (key.clone(), *place))
                    .collect();
                for (key, place) in wanted {
                    batch.put(key, segment.read(place.offset, place.bytes)?);
                }
                self.append(inner, &batch)?;
            }
            // What made the originals unwanted, copies and deletions, must be durable before they go.
            if inner.durable != inner.next
                && let Some((_, last)) = inner.segments.last_key_value()
            {
                last.sync()?;
                inner.durable = inner.next;
            }
            let Some(segment) = inner.segments.remove(&oldest) else { return Ok(()) };
            let reusable = segment.bytes() == self.segment_bytes && inner.spares.len() < SPARES_MAX;
            inner.spares.extend(segment.retire(&self.dir, reusable)?);
        }
    }
}

impl Inner {
    /// Takes a write into the index.
    fn set(&mut self, key: &[u8], place: Option<Place>) {
        if let Some(place) = place
            && let Some(segment) = self.segments.get_mut(&place.segment)
        {
            segment.want(cost(key, place));
        }
        let before = match place {
            Some(place) => self.index.insert(key.to_vec(), place),
            None => self.index.remove(key),
        };
        if let Some(before) = before
            && let Some(segment) = self.segments.get_mut(&before.segment)
        {
            segment.forget(cost(key, before));
        }
    }

    fn read(&self, place: Place) -> Result<Reading> {
        match self.segments.get(&place.segment) {
            Some(segment) => Ok(Reading { segment: segment.share(), place }),
            None => Err(Error::corrupt("the journal", "a segment that is wanted is gone")),
        }
    }
}

/// What a key costs that is wanted.
fn cost(key: &[u8], place: Place) -> u64 {
    key.len() as u64 + u64::from(place.bytes)
}

/// A value that is about to be read, without holding the lock.
struct Reading {
    segment: Arc<segment::Shared>,
    place: Place,
}

impl Reading {
    fn value(self) -> Result<Vec<u8>> {
        self.segment.read(self.place.offset, self.place.bytes)
    }
}

/// Reads all segments and builds the index.
fn replay(dir: &Path) -> Result<Inner> {
    let (numbers, spares) = segment::list(dir)?;
    let mut inner = Inner {
        index: BTreeMap::new(),
        segments: BTreeMap::new(),
        end: 0,
        next: 0,
        durable: 0,
        spares,
        buffer: Vec::new(),
    };
    let last = numbers.last().copied();
    for number in numbers {
        if let Some((before, _)) = inner.segments.last_key_value()
            && before + 1 != number
        {
            return Err(Error::corrupt(
                "the journal",
                format!("segment {} is missing", before + 1),
            ));
        }
        let (segment, first) = Segment::open(dir, number)?;
        if inner.segments.is_empty() {
            inner.next = first;
        } else if first != inner.next {
            let detail = format!("it begins with frame {first}, and {} is next", inner.next);
            return Err(Error::corrupt(segment.name(), detail));
        }
        let name = segment.name();
        let bytes = segment.read_all()?;
        inner.segments.insert(number, segment);
        let mut offset = segment::HEADER_BYTES;
        while let Some(frame) = Frame::read(&bytes, offset, number, inner.next) {
            for op in frame.ops(&name)? {
                let place =
                    op.value.map(|(offset, bytes)| Place { segment: number, offset, bytes });
                inner.set(op.key, place);
            }
            inner.next += 1;
            offset += frame.bytes();
        }
        inner.end = offset;
        match segment::tail(&bytes, offset, number, inner.next) {
            Tail::Clean => {}
            Tail::Damaged { durable } => {
                let detail = format!(
                    "frame {} cannot be read, and everything below {durable} was durable once",
                    inner.next
                );
                return Err(Error::corrupt(name, detail));
            }
            // Later frames than the first unreadable one, none of them ever durable. Should a new
            // frame end exactly where one of them begins, it would come back to life.
            Tail::Torn if Some(number) == last => {
                if let Some(segment) = inner.segments.get(&number) {
                    segment.erase(offset)?;
                }
            }
            Tail::Torn => return Err(Error::corrupt(name, "its end is missing")),
        }
    }
    Ok(inner)
}

impl Engine for JournalEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let reading = {
            let inner = self.lock();
            inner.index.get(key).map(|place| inner.read(*place)).transpose()?
        };
        reading.map(Reading::value).transpose()
    }

    fn scan(&self, range: &RangeInclusive<[u8; KEY_BYTES]>) -> Scan<'_> {
        Box::new(Pairs {
            journal: self,
            rest: Some((
                Bound::Included(range.start().to_vec()),
                Bound::Included(range.end().to_vec()),
            )),
        })
    }

    fn write(&self, batch: Batch) -> Result<()> {
        self.failed.check()?;
        for (_, value) in &batch.writes {
            check_size(value.as_deref(), VALUE_BYTES_MAX)?;
        }
        if batch.is_empty() {
            return Ok(());
        }
        let mut inner = self.lock();
        let deletes = batch.writes.iter().any(|(_, value)| value.is_none());
        self.append(&mut inner, &batch).map_err(|e| self.failed.note(e))?;
        if deletes {
            self.release(&mut inner).map_err(|e| self.failed.note(e))?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.failed.check()?;
        let (last, next) = {
            let inner = self.lock();
            if inner.durable == inner.next && inner.next > 0 {
                return Ok(());
            }
            (inner.segments.last_key_value().map(|(_, last)| last.share()), inner.next)
        };
        if let Some(last) = last {
            last.sync().map_err(|e| self.failed.note(e))?;
        }
        let mut inner = self.lock();
        inner.durable = inner.durable.max(next);
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        let inner = self.lock();
        inner.segments.values().map(Segment::bytes).sum::<u64>()
            + inner.spares.len() as u64 * self.segment_bytes
    }
}

type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Pairs in key order. Takes the lock for each step, so that a slow reader holds nobody up.
struct Pairs<'a> {
    journal: &'a JournalEngine,
    /// What is left of the range.
    rest: Option<KeyRange>,
}

impl Pairs<'_> {
    fn step(&mut self, from_the_end: bool) -> Option<Result<Pair>> {
        let (start, end) = self.rest.take()?;
        let found = {
            let inner = self.journal.lock();
            if is_empty(&start, &end) {
                return None;
            }
            let mut range = inner.index.range((start.clone(), end.clone()));
            let (key, place) = match from_the_end {
                true => range.next_back()?,
                false => range.next()?,
            };
            inner.read(*place).map(|reading| (key.clone(), reading))
        };
        Some(found.and_then(|(key, reading)| {
            let bound = Bound::Excluded(key.clone());
            self.rest = Some(if from_the_end { (start, bound) } else { (bound, end) });
            Ok((key, reading.value()?))
        }))
    }
}

/// Whether the bounds have met: a map's `range` panics on such.
fn is_empty(start: &Bound<Vec<u8>>, end: &Bound<Vec<u8>>) -> bool {
    match (start, end) {
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (
            Bound::Included(start) | Bound::Excluded(start),
            Bound::Included(end) | Bound::Excluded(end),
        ) => start >= end,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

impl Iterator for Pairs<'_> {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(false)
    }
}

impl DoubleEndedIterator for Pairs<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(true)
    }
}

#[cfg(test)]
mod tests;

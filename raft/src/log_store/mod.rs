//! The Raft log on an engine, with group commit.
//!
//! What openraft appends is readable at once, from memory, and acknowledged when it is durable. A
//! single writer task (`writer`) takes everything that waits, writes it as few packed records in
//! one atomic batch, syncs once, and then answers all of them: votes, appends, truncations in the
//! order in which they came. Batches form by draining what waits while the disk is busy, never by
//! waiting for a timer.

mod cache;
mod format;
mod writer;

use std::{
    fmt::Debug,
    io,
    marker::PhantomData,
    ops::{Bound, RangeBounds},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use openraft::{
    OptionalSend, RaftLogReader,
    storage::{IOFlushed, LogState, RaftLogStorage},
    type_config::TypeConfigExt,
};
use pygmy_storage::{
    Error, Result,
    engine::{Batch, Engine},
};
use tokio::sync::{mpsc, oneshot};

use self::{cache::Cache, writer::Op};
use crate::types::{
    Environment, TypeConfig,
    alias::{Entry, LogId, Vote},
};

/// The most bytes of entries that one read gives to a replication stream.
const READ_BYTES_MAX: usize = 512 << 10;

/// The log of one node. Clones share it.
pub struct LogStore<E: Environment> {
    shared: Arc<Shared<E>>,
    ops: mpsc::UnboundedSender<Op<E>>,
}

impl<E: Environment> Clone for LogStore<E> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), ops: self.ops.clone() }
    }
}

impl<E: Environment> Debug for LogStore<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogStore")
    }
}

struct Shared<E: Environment> {
    engine: Arc<dyn Engine>,
    cache: Mutex<Cache>,
    _environment: PhantomData<fn() -> E>,
}

impl<E: Environment> Shared<E> {
    fn cache(&self) -> MutexGuard<'_, Cache> {
        // No code panics while holding the lock.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the log has done since the start, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogStats {
    /// Entries appended.
    pub entries: u64,
    /// Syncs done; `entries / syncs` is what one sync costs less than it would alone.
    pub syncs: u64,
    /// Bytes on disk, roughly.
    pub disk_bytes: u64,
}

/// What the Raft core has given to the log, and nothing outside the node knows yet: it tells others of
/// a vote, applies what is committed, and sends an entry to others only after that. It may tell others what is
/// committed before: that is noted where it is sent (`network::notices`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promised {
    /// The newest vote; on its way to the disk, perhaps.
    pub vote: Option<Vote>,
    /// Whether the vote came since the start. A leader that restarts leads no more, and finds the vote for
    /// itself on its disk.
    pub vote_is_new: bool,
    /// The newest entry that is committed.
    pub committed: Option<LogId>,
    /// The index of the newest membership in the log, if it came since the start.
    pub membership: Option<u64>,
}

impl<E: Environment> LogStore<E> {
    /// Opens the log in an engine: reads and checks all of it. Spawns the writer.
    ///
    /// Errors: [`Error::Corrupt`] when a record is damaged or missing. Such a log must never be
    /// repaired by leaving something out: the node may have acknowledged it.
    pub fn open(engine: Arc<dyn Engine>, cache_bytes: usize) -> Result<Self> {
        let (cache, records) = format::load(&*engine, cache_bytes)?;
        let shared =
            Arc::new(Shared { engine, cache: Mutex::new(cache), _environment: PhantomData });
        let (ops, given) = mpsc::unbounded_channel();
        let (rounds, taken) = mpsc::unbounded_channel();
        // Both end by themselves when the last handle of the log store is gone.
        drop(TypeConfig::<E>::spawn(writer::hand_on(given, rounds)));
        E::spawn_writer(writer::run(shared.clone(), records, taken));
        Ok(Self { shared, ops })
    }

    /// The index of the last purged entry, if any was.
    pub fn purged_index(&self) -> Option<u64> {
        self.shared.cache().purged.map(|id| id.index)
    }

    /// The index of the last entry.
    pub fn last_index(&self) -> Option<u64> {
        self.shared.cache().last_log_id().map(|id| id.index)
    }

    /// What this node has promised, as of now. See [`Promised`].
    pub fn promised(&self) -> Promised {
        let cache = self.shared.cache();
        let Cache { vote, vote_is_new, committed, membership, .. } = *cache;
        Promised { vote, vote_is_new, committed, membership }
    }

    /// Whether this log has ever been part of a cluster.
    pub fn is_pristine(&self) -> bool {
        let cache = self.shared.cache();
        cache.vote.is_none() && cache.last_log_id().is_none()
    }

    /// Checks that the vote is here under which everything else came: it is durable before the first
    /// entry of its term is, and before anything is applied. A database whose file is damaged can
    /// open as an empty one; `has_applied` says that there was something to forget.
    ///
    /// Errors: [`Error::Corrupt`]. A node without its vote must not take part.
    pub fn check_vote(&self, has_applied: bool) -> Result<()> {
        let cache = self.shared.cache();
        let voted = cache.vote.map(|vote| vote.leader_id.term);
        let entries = cache.last_log_id().map_or(0, |id| id.leader_id.term);
        match voted {
            None if has_applied || entries > 0 => {
                Err(Error::corrupt("the log", "the vote is missing"))
            }
            Some(term) if term < entries => Err(Error::corrupt(
                "the log",
                format!("the vote is of term {term}, and there are entries of term {entries}"),
            )),
            None | Some(_) => Ok(()),
        }
    }

    /// What the log has done.
    pub fn stats(&self) -> LogStats {
        let disk_bytes = self.shared.engine.disk_bytes();
        LogStats { disk_bytes, ..self.shared.cache().stats }
    }

    /// Makes everything durable that was written, `committed` included: before a clean stop.
    pub async fn sync(&self) -> io::Result<()> {
        let (done, waiting) = oneshot::channel();
        self.submit(Op::Sync { done })?;
        finished(waiting).await
    }

    fn submit(&self, op: Op<E>) -> io::Result<()> {
        self.ops.send(op).map_err(|_| stopped())
    }
}

/// Makes an empty engine the log of a node whose state came from elsewhere: all up to `last` is committed and
/// purged, and nothing below the vote will be taken.
pub(crate) fn begin_after(engine: &dyn Engine, last: LogId, vote: &Vote) -> Result<()> {
    let mut batch = Batch::default();
    format::put_vote(&mut batch, vote)?;
    format::put_committed(&mut batch, last)?;
    format::put_purged(&mut batch, last)?;
    engine.write(batch)?;
    engine.sync()
}

fn stopped() -> io::Error {
    io::Error::other("the log writer has stopped after an earlier failure")
}

async fn finished(waiting: oneshot::Receiver<io::Result<()>>) -> io::Result<()> {
    waiting.await.unwrap_or_else(|_| Err(stopped()))
}

/// The half-open range of indexes that a range bound means.
fn indexes(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&end) => end.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl<E: Environment> LogStore<E> {
    /// Entries of `[start, end)`, as far as the log has them, at most about `bytes_max` bytes and at
    /// least one.
    async fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        loop {
            let (start, until) = {
                let cache = self.shared.cache();
                let start = start.max(cache.begin());
                let end = end.min(cache.next_index());
                if start >= end {
                    return Ok(Vec::new());
                }
                if start >= cache.first_index() {
                    return checked(cache.read(start, end, bytes_max), start);
                }
                (start, end.min(cache.first_index()))
            };
            // The older part comes from the engine. What of the range is in memory is read next
            // time by a reader that may be given less, and below by one that may not.
            let engine = self.shared.engine.clone();
            let read = move || format::read(&*engine, start, until, bytes_max);
            let mut entries = E::blocking(read).await?;
            let cache = self.shared.cache();
            if cache.begin() > start {
                continue; // Purged meanwhile: the range begins later now.
            }
            if bytes_max == usize::MAX && until < end {
                if cache.first_index() > until {
                    continue; // More has left memory meanwhile.
                }
                entries.extend(cache.read(until, end, usize::MAX));
            }
            drop(cache);
            return checked(entries, start);
        }
    }
}

/// Asserts after the read what the writer asserted before the write: no hole, nothing missing.
fn checked(entries: Vec<Entry>, start: u64) -> io::Result<Vec<Entry>> {
    for (expected, entry) in (start..).zip(&entries) {
        if entry.log_id.index != expected {
            let detail = format!("entry {} where {expected} belongs", entry.log_id.index);
            return Err(Error::corrupt("the log", detail).into());
        }
    }
    match entries.is_empty() {
        false => Ok(entries),
        true => Err(Error::corrupt("the log", format!("entry {start} is missing")).into()),
    }
}

impl<E: Environment> RaftLogReader<TypeConfig<E>> for LogStore<E> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (start, end) = indexes(&range);
        self.read(start, end, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, READ_BYTES_MAX).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.cache().vote)
    }
}

impl<E: Environment> RaftLogStorage<TypeConfig<E>> for LogStore<E> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig<E>>> {
        let cache = self.shared.cache();
        Ok(LogState { last_purged_log_id: cache.purged, last_log_id: cache.last_log_id() })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        // Before anybody can hear of it; who asks `promised` must not be told the one before.
        {
            let mut cache = self.shared.cache();
            cache.vote = Some(*vote);
            cache.vote_is_new = true;
        }
        let (done, waiting) = oneshot::channel();
        self.submit(Op::Vote { vote: *vote, done })?;
        finished(waiting).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        // Written with what comes next, and not synced for itself: what is lost of it is found again by
        // the wait for recovery at the start. To wake the writer for it would double its rounds.
        self.shared.cache().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let cache = self.shared.cache();
        // After a power cut the log may have lost a tail that this knew of.
        Ok(cache.committed.min(cache.last_log_id()))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig<E>>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        self.shared.cache().append(&entries)?;
        self.submit(Op::Append { entries, callback })
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        self.shared.cache().truncate(last_log_id);
        let next = last_log_id.map_or(0, |id| id.index + 1);
        let (done, waiting) = oneshot::channel();
        self.submit(Op::Truncate { next, done })?;
        finished(waiting).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.shared.cache().purge(log_id);
        let (done, waiting) = oneshot::channel();
        self.submit(Op::Purge { upto: log_id, done })?;
        finished(waiting).await
    }
}

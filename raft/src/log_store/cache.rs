//! The end of the log in memory: what is not written yet, and as much more as is allowed.

use std::{collections::VecDeque, io};

use openraft::EntryPayload;

use super::{LogStats, format::entry_bytes};
use crate::types::alias::{Entry, LogId, Vote};

/// The newest entries, contiguous up to the end of the log, and the log's other state.
///
/// Invariants:
/// - `entries` are consecutive and end at the end of the log;
/// - every entry that is not in the engine yet (`>= written`) is in `entries`.
pub(super) struct Cache {
    pub(super) vote: Option<Vote>,
    /// Whether it came since the start.
    pub(super) vote_is_new: bool,
    pub(super) committed: Option<LogId>,
    /// What of it is in the engine.
    pub(super) committed_written: Option<LogId>,
    pub(super) purged: Option<LogId>,
    /// The last entry when `entries` is empty: the purged one, or one that left memory.
    pub(super) last: Option<LogId>,
    /// Index of the newest membership that was appended since the start and is in the log.
    pub(super) membership: Option<u64>,
    /// Index of the oldest entry that the log has, in memory or not: 0, or where a log begins that
    /// came after a snapshot or a purge.
    begin: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
    /// Entries below this index are in the engine.
    written: u64,
    pub(super) stats: LogStats,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            vote: None,
            vote_is_new: false,
            committed: None,
            committed_written: None,
            purged: None,
            last: None,
            membership: None,
            begin: 0,
            entries: VecDeque::new(),
            bytes: 0,
            bytes_max,
            written: 0,
            stats: LogStats::default(),
        }
    }

    /// The committed log id, if the engine has not got it.
    pub(super) fn unwritten_committed(&self) -> Option<LogId> {
        self.committed.filter(|_| self.committed != self.committed_written)
    }

    /// Whether all that the log has is committed, and the engine knows.
    pub(super) fn is_settled(&self) -> bool {
        self.unwritten_committed().is_none() && self.committed >= self.last_log_id()
    }

    /// The id of the last entry, purged or not.
    pub(super) fn last_log_id(&self) -> Option<LogId> {
        self.entries.back().map(|entry| entry.log_id).or(self.last).max(self.purged)
    }

    /// The index of the oldest entry that the log has.
    pub(super) fn begin(&self) -> u64 {
        self.begin.max(self.purged.map_or(0, |id| id.index + 1))
    }

    /// The index of the next entry.
    pub(super) fn next_index(&self) -> u64 {
        self.last_log_id().map_or(0, |id| id.index + 1)
    }

    /// The index of the oldest entry in memory; that of the next entry when none is.
    pub(super) fn first_index(&self) -> u64 {
        self.entries.front().map_or_else(|| self.next_index(), |entry| entry.log_id.index)
    }

    /// Adds entries at the end. Refuses a hole.
    pub(super) fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        for entry in entries {
            let next = self.next_index();
            // An empty log may begin anywhere: a snapshot can precede its first entry.
            if entry.log_id.index != next && self.last_log_id().is_some() {
                let detail = format!("entry {} after {next}", entry.log_id.index);
                return Err(io::Error::new(io::ErrorKind::InvalidInput, detail));
            }
            if self.last_log_id().is_none() {
                self.begin = entry.log_id.index;
            }
            if matches!(entry.payload, EntryPayload::Membership(_)) {
                self.membership = Some(entry.log_id.index);
            }
            self.bytes += entry_bytes(entry);
            self.entries.push_back(entry.clone());
            self.stats.entries += 1;
        }
        Ok(())
    }

    /// Adds an entry that was read from the engine at the start.
    pub(super) fn load(&mut self, entry: Entry) {
        if self.entries.is_empty() {
            self.begin = entry.log_id.index;
        }
        self.written = entry.log_id.index + 1;
        self.bytes += entry_bytes(&entry);
        self.entries.push_back(entry);
        self.evict();
    }

    /// Says that entries below an index are in the engine, so that they may leave memory.
    pub(super) fn set_written(&mut self, next: u64) {
        self.written = next;
        self.evict();
    }

    fn evict(&mut self) {
        while self.bytes > self.bytes_max
            && self.entries.len() > 1
            && self.entries.front().is_some_and(|entry| entry.log_id.index < self.written)
        {
            if let Some(entry) = self.entries.pop_front() {
                self.bytes -= entry_bytes(&entry);
            }
        }
    }

    /// Entries of `[start, end)`, which must not begin before [`first_index`](Self::first_index).
    pub(super) fn read(&self, start: u64, end: u64, bytes_max: usize) -> Vec<Entry> {
        let first = self.first_index();
        let offset = |index: u64| {
            usize::try_from(index.saturating_sub(first))
                .unwrap_or(usize::MAX)
                .min(self.entries.len())
        };
        let mut bytes = 0;
        self.entries
            .range(offset(start)..offset(end))
            .take_while(|entry| {
                let fits = bytes < bytes_max;
                bytes += entry_bytes(entry);
                fits
            })
            .cloned()
            .collect()
    }

    /// Removes the entries after an id.
    pub(super) fn truncate(&mut self, last: Option<LogId>) {
        let next = last.map_or(0, |id| id.index + 1);
        while self.entries.back().is_some_and(|entry| entry.log_id.index >= next) {
            if let Some(entry) = self.entries.pop_back() {
                self.bytes -= entry_bytes(&entry);
            }
        }
        if self.entries.is_empty() {
            self.last = last;
        }
        self.membership = self.membership.filter(|index| *index < next);
        self.written = self.written.min(next);
    }

    /// Removes the entries up to an id.
    pub(super) fn purge(&mut self, upto: LogId) {
        while self.entries.front().is_some_and(|entry| entry.log_id.index <= upto.index) {
            if let Some(entry) = self.entries.pop_front() {
                self.bytes -= entry_bytes(&entry);
            }
        }
        self.purged = self.purged.max(Some(upto));
        self.written = self.written.max(upto.index + 1);
    }
}

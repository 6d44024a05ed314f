//! How the log lies in its engine: packed records, and how they are read back.
//!
//! One record holds the consecutive entries of one or more appends, under the index of the first.
//! Costs are per record, so a record holds as many as wait, up to a size well below the engine's limit;
//! a single entry that is larger is split by `blob`.

use std::collections::BTreeMap;

use openraft::EntryPayload;
use pygmy_storage::{
    Error, Result, blob, codec,
    engine::{Batch, Engine, VALUE_BYTES_MAX},
    key::Key,
};
use serde::{Deserialize, Serialize};

use super::cache::Cache;
use crate::types::alias::{Entry, LogId, Vote};

/// Bytes of entries after which a record is closed.
pub(super) const RECORD_BYTES: usize = VALUE_BYTES_MAX * 3 / 4;

/// First index -> last index of every record in the engine.
pub(super) type Records = BTreeMap<u64, u64>;

/// The log's state other than entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Purged(pub(super) LogId);

/// About how many bytes an entry takes, in memory and on disk.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    const OVERHEAD: usize = 48;
    OVERHEAD
        + match &entry.payload {
            EntryPayload::Blank => 0,
            EntryPayload::Normal(data) => data.0.len(),
            EntryPayload::Membership(_) => 1024,
        }
}

/// Adds a record of consecutive entries to a batch.
pub(super) fn put_record(batch: &mut Batch, entries: &[Entry]) -> Result<()> {
    let Some(first) = entries.first() else { return Ok(()) };
    for (expected, entry) in (first.log_id.index..).zip(entries) {
        if entry.log_id.index != expected {
            let detail = format!("entry {} where {expected} belongs", entry.log_id.index);
            return Err(Error::corrupt("the log record to be written", detail));
        }
    }
    blob::put_new(batch, Key::LogEntries(first.log_id.index), &codec::encode(entries))
}

/// Reads the record that begins at an index.
pub(super) fn read_record(engine: &dyn Engine, first: u64) -> Result<Vec<Entry>> {
    let key = Key::LogEntries(first);
    match blob::get(engine, key)? {
        Some(bytes) => decode_record(key, &bytes),
        None => Err(Error::corrupt("the log", format!("the record at {first} is missing"))),
    }
}

fn decode_record(key: Key, bytes: &[u8]) -> Result<Vec<Entry>> {
    let entries: Vec<Entry> = codec::decode(bytes, &format!("{key:?}"))?;
    match entries.first() {
        Some(first) if key == Key::LogEntries(first.log_id.index) => Ok(entries),
        Some(_) | None => Err(Error::corrupt(format!("{key:?}"), "it holds other entries")),
    }
}

/// Reads entries of `[start, end)`, at most about `bytes_max` bytes and at least one.
pub(super) fn read(
    engine: &dyn Engine,
    start: u64,
    end: u64,
    bytes_max: usize,
) -> Result<Vec<Entry>> {
    let upto_start = Key::LogEntries(0).encode(0)..=Key::LogEntries(start).encode(u16::MAX);
    let Some(last) = engine.scan(&upto_start).next_back().transpose()? else {
        return Ok(Vec::new());
    };
    let Some((Key::LogEntries(mut first), _)) = Key::decode(&last.0) else {
        return Err(Error::corrupt("a key of the log", format!("{:?}", last.0)));
    };
    let mut entries = Vec::new();
    let mut bytes = 0;
    while first < end && bytes < bytes_max {
        let record = read_record(engine, first)?;
        for entry in record {
            first = entry.log_id.index + 1;
            if (start..end).contains(&entry.log_id.index) && bytes < bytes_max {
                bytes += entry_bytes(&entry);
                entries.push(entry);
            }
        }
    }
    Ok(entries)
}

/// Reads and checks the whole log. The newest entries stay in the cache.
pub(super) fn load(engine: &dyn Engine, cache_bytes: usize) -> Result<(Cache, Records)> {
    let mut cache = Cache::new(cache_bytes);
    cache.vote = get(engine, Key::LogVote)?;
    cache.committed = get(engine, Key::LogCommitted)?;
    cache.committed_written = cache.committed;
    cache.purged = get::<Purged>(engine, Key::LogPurged)?.map(|purged| purged.0);
    let mut records = Records::new();
    let mut previous: Option<LogId> = cache.purged;
    for record in blob::scan(engine, Key::LogEntries(0)) {
        let (key, bytes) = record?;
        let entries = decode_record(key, &bytes)?;
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            records.insert(first.log_id.index, last.log_id.index);
        }
        for entry in entries {
            let id = entry.log_id;
            if cache.purged.is_some_and(|purged| id.index <= purged.index) {
                continue; // The rest of a record of which only a part was purged.
            }
            check_follows(previous, id)?;
            previous = Some(id);
            cache.load(entry);
        }
    }
    Ok((cache, records))
}

fn check_follows(previous: Option<LogId>, id: LogId) -> Result<()> {
    // Before the first entry there may be a snapshot that came from elsewhere, and no purge yet.
    let Some(previous) = previous else { return Ok(()) };
    if id.index != previous.index + 1 || id.leader_id < previous.leader_id {
        return Err(Error::corrupt("the log", format!("{id} follows {previous}")));
    }
    Ok(())
}

fn get<T: serde::de::DeserializeOwned>(engine: &dyn Engine, key: Key) -> Result<Option<T>> {
    match blob::get(engine, key)? {
        Some(bytes) => Ok(Some(codec::decode(&bytes, &format!("{key:?}"))?)),
        None => Ok(None),
    }
}

/// Adds the writes that store a vote to a batch.
pub(super) fn put_vote(batch: &mut Batch, vote: &Vote) -> Result<()> {
    blob::put_new(batch, Key::LogVote, &codec::encode(vote))
}

/// Adds the writes that store the committed log id to a batch.
pub(super) fn put_committed(batch: &mut Batch, committed: LogId) -> Result<()> {
    blob::put_new(batch, Key::LogCommitted, &codec::encode(&committed))
}

/// Adds the writes that store the purged log id to a batch.
pub(super) fn put_purged(batch: &mut Batch, purged: LogId) -> Result<()> {
    blob::put_new(batch, Key::LogPurged, &codec::encode(&Purged(purged)))
}

//! openraft's own conformance suite for stores, on every engine, and what it does not ask.

#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use openraft::{
    RaftLogReader, StorageError,
    storage::{IOFlushed, RaftLogStorage, RaftStateMachine},
    testing::log::{StoreBuilder, Suite},
    type_config::TypeConfigExt,
    vote::RaftLeaderId,
};
use pygmy_raft::{
    log_store::LogStore,
    state_machine::{CheckpointPolicy, StateMachine, entries_stream},
    types::{
        EntryData, Tokio, TypeConfig,
        alias::{Entry, LeaderId, LogId, Payload, Vote},
    },
};
use pygmy_storage::{
    engine::Engine,
    volume::{DirVolume, MemoryVolume, Volume},
};

const POLICY: CheckpointPolicy =
    CheckpointPolicy { entries: 3, interval: Duration::from_secs(3600) };

struct InMemory;

impl StoreBuilder<TypeConfig<Tokio>, LogStore<Tokio>, StateMachine<Tokio>> for InMemory {
    async fn build(
        &self,
    ) -> Result<((), LogStore<Tokio>, StateMachine<Tokio>), StorageError<TypeConfig<Tokio>>> {
        let volume = Arc::new(MemoryVolume::new());
        let log = LogStore::open(volume.open_journal("log").unwrap(), 1 << 20).unwrap();
        let (machine, _) = StateMachine::open(volume, POLICY).unwrap();
        Ok(((), log, machine))
    }
}

/// Opens the engine of the log in a volume.
type Open = fn(&DirVolume) -> pygmy_storage::Result<Arc<dyn Engine>>;

struct OnDisk(Open);

impl StoreBuilder<TypeConfig<Tokio>, LogStore<Tokio>, StateMachine<Tokio>, tempfile::TempDir>
    for OnDisk
{
    async fn build(
        &self,
    ) -> Result<
        (tempfile::TempDir, LogStore<Tokio>, StateMachine<Tokio>),
        StorageError<TypeConfig<Tokio>>,
    > {
        let dir = tempfile::tempdir().unwrap();
        let volume = Arc::new(DirVolume::open(dir.path(), 8 << 20).unwrap());
        let log = LogStore::open((self.0)(&volume).unwrap(), 1 << 20).unwrap();
        let (machine, _) = StateMachine::open(volume, POLICY).unwrap();
        Ok((dir, log, machine))
    }
}

#[tokio::test]
async fn the_memory_engine_passes_openrafts_suite() {
    Suite::test_all(InMemory).await.unwrap();
}

#[tokio::test]
async fn the_journal_passes_openrafts_suite() {
    Suite::test_all(OnDisk(|volume| volume.open_journal("log"))).await.unwrap();
}

#[tokio::test]
async fn the_sled_engine_passes_openrafts_suite() {
    Suite::test_all(OnDisk(|volume| volume.open_engine("log"))).await.unwrap();
}

fn id(term: u64, index: u64) -> LogId {
    LogId { leader_id: LeaderId::new(term, 1), index }
}

fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    Entry {
        log_id: id(term, index),
        payload: Payload::Normal(EntryData(Bytes::from(vec![7; bytes]))),
    }
}

async fn append(log: &mut LogStore<Tokio>, entries: Vec<Entry>) {
    let (done, flushed) = TypeConfig::<Tokio>::oneshot();
    log.append(entries, IOFlushed::signal(done)).await.unwrap();
    flushed.await.unwrap().unwrap();
}

fn open(engine: &Arc<dyn Engine>) -> LogStore<Tokio> {
    // A cache that holds almost nothing, so that reads come from the engine.
    LogStore::open(engine.clone(), 4000).unwrap()
}

async fn indexes(log: &mut LogStore<Tokio>) -> Vec<(u64, u64)> {
    let entries = log.try_get_log_entries(..).await.unwrap();
    entries.iter().map(|e| (e.log_id.leader_id.term, e.log_id.index)).collect()
}

#[tokio::test]
async fn what_is_committed_is_written_in_the_end_though_nothing_follows() {
    let engine = MemoryVolume::new().open_journal("log").unwrap();
    let mut log = open(&engine);
    append(&mut log, vec![entry(1, 0, 10), entry(1, 1, 10)]).await;
    log.save_committed(Some(id(1, 1))).await.unwrap();
    let written = async {
        while open(&engine).read_committed().await.unwrap() != Some(id(1, 1)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), written).await.expect("it is written");
}

#[tokio::test]
async fn packed_records_survive_truncation_purge_and_restart_in_any_order() {
    let volume = MemoryVolume::new();
    let engine = volume.open_journal("log").unwrap();
    let mut log = open(&engine);
    let vote = Vote::new_committed(1, 1);
    log.save_vote(&vote).await.unwrap();
    append(&mut log, (0..300).map(|i| entry(1, i, 200)).collect()).await;
    // An entry that is larger than any record.
    append(&mut log, vec![entry(1, 300, 200_000), entry(1, 301, 10)]).await;
    assert!(indexes(&mut log).await.into_iter().eq((0..302).map(|i| (1, i))));

    // Cut in the middle of a record, and grow again in another term.
    log.truncate_after(Some(id(1, 137))).await.unwrap();
    append(&mut log, (138..150).map(|i| entry(2, i, 100)).collect()).await;
    log.purge(id(1, 50)).await.unwrap();
    log.save_committed(Some(id(2, 140))).await.unwrap();
    let expected: Vec<_> = (51..138).map(|i| (1, i)).chain((138..150).map(|i| (2, i))).collect();
    assert_eq!(indexes(&mut log).await, expected);
    log.sync().await.unwrap();

    let mut log = open(&engine);
    assert_eq!(indexes(&mut log).await, expected);
    assert_eq!(log.read_vote().await.unwrap(), Some(vote));
    assert_eq!(log.read_committed().await.unwrap(), Some(id(2, 140)));
    let state = log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(1, 50)), Some(id(2, 149))));

    let some = log.limited_get_log_entries(60, 150).await.unwrap();
    assert_eq!(some[0].log_id.index, 60);
    // A range that has left memory as a whole, as a restart reads it.
    let old = tokio::time::timeout(Duration::from_secs(10), log.try_get_log_entries(60..70)).await;
    let old = old.expect("a read comes to an end").unwrap();
    assert!(old.iter().map(|e| e.log_id.index).eq(60..70));

    log.truncate_after(Some(id(1, 60))).await.unwrap();
    assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(id(1, 60)));
    log.purge(id(1, 60)).await.unwrap();
    assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(id(1, 60)));
    assert_eq!(log.read_committed().await.unwrap(), Some(id(1, 60)), "clamped to the log");
    assert!(indexes(&mut open(&engine)).await.is_empty());
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_power_cut_and_what_failed_is_never_acknowledged() {
    let volume = MemoryVolume::new();
    let engine = volume.open_journal("log").unwrap();
    let memory = volume.engine("log").unwrap();
    let mut log = open(&engine);
    append(&mut log, (0..10).map(|i| entry(1, i, 10)).collect()).await;
    log.save_vote(&Vote::new(5, 2)).await.unwrap();

    memory.fail_next_syncs(1);
    let (done, flushed) = TypeConfig::<Tokio>::oneshot();
    log.append(vec![entry(1, 10, 10)], IOFlushed::signal(done)).await.unwrap();
    assert!(flushed.await.unwrap().is_err(), "a failed sync acknowledges nothing");
    assert!(log.save_vote(&Vote::new(6, 2)).await.is_err(), "and nothing is accepted after it");

    volume.power_cut(|_| 0);
    let mut log = open(&engine);
    assert_eq!(indexes(&mut log).await.len(), 10);
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(5, 2)));
}

#[tokio::test]
async fn appends_that_wait_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let volume = DirVolume::open(dir.path(), 8 << 20).unwrap();
    let mut log: LogStore<Tokio> =
        LogStore::open(volume.open_journal("log").unwrap(), 1 << 20).unwrap();
    let mut flushed = Vec::new();
    for index in 0..500 {
        let (done, waiting) = TypeConfig::<Tokio>::oneshot();
        log.append(vec![entry(1, index, 100)], IOFlushed::signal(done)).await.unwrap();
        flushed.push(waiting);
    }
    for waiting in flushed {
        waiting.await.unwrap().unwrap();
    }
    let stats = log.stats();
    assert_eq!(stats.entries, 500);
    assert!(stats.syncs < 250, "{} syncs for 500 appends", stats.syncs);
}

#[tokio::test]
async fn a_damaged_or_missing_record_stops_the_node() {
    let volume = MemoryVolume::new();
    let engine = volume.open_journal("log").unwrap();
    let memory = volume.engine("log").unwrap();
    let mut log = open(&engine);
    for round in 0..5u64 {
        append(&mut log, (round * 10..round * 10 + 10).map(|i| entry(1, i, 10)).collect()).await;
    }
    drop(log);
    let key = pygmy_storage::key::Key::LogEntries(20).encode(0);
    let good = engine.get(&key).unwrap().unwrap();

    let mut flipped = good.clone();
    flipped[30] ^= 4;
    memory.corrupt(&key, flipped);
    let error = LogStore::<Tokio>::open(engine.clone(), 1000).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains("checksum"), "{error}");

    let mut batch = pygmy_storage::engine::Batch::default();
    batch.delete(key);
    engine.write(batch).unwrap();
    let error = LogStore::<Tokio>::open(engine.clone(), 1000).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains("follows"), "{error}");

    memory.corrupt(&key, good);
    LogStore::<Tokio>::open(engine, 1000).unwrap();
}

#[tokio::test]
async fn a_checkpoint_never_gets_ahead_of_the_log() {
    let volume = Arc::new(MemoryVolume::new());
    let mut log = open(&volume.open_journal("log").unwrap());
    let (mut machine, _) = StateMachine::open(volume.clone(), POLICY).unwrap();
    machine.follow(log.clone());
    let blank = |index| Entry { log_id: id(1, index), payload: Payload::Blank };

    append(&mut log, vec![blank(0)]).await;
    machine.apply(entries_stream(vec![blank(0)])).await.unwrap();
    machine.checkpoint_now().await.unwrap();

    // The others have the next entry, so it is committed and applied; this disk never gets it.
    volume.engine("log").unwrap().fail_next_syncs(1);
    log.append(vec![blank(1)], IOFlushed::noop()).await.unwrap();
    machine.apply(entries_stream(vec![blank(1)])).await.unwrap();
    assert!(machine.checkpoint_now().await.is_err());

    volume.power_cut(|_| 0);
    let (machine, _) = StateMachine::<Tokio>::open(volume, POLICY).unwrap();
    assert_eq!(machine.last_applied(), Some(id(1, 0)));
}

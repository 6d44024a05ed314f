//! The one task that writes the log: takes all that waits, writes it, syncs once, answers all.

use std::{io, sync::Arc, time::Duration};

use openraft::{entry::RaftEntry, storage::IOFlushed, type_config::TypeConfigExt};
use pygmy_storage::{
    Result, blob,
    engine::{Batch, Engine},
    key::Key,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    Shared,
    format::{self, RECORD_BYTES, Records, entry_bytes},
};
use crate::{
    gather::gather,
    sabotage,
    types::{
        Environment, TypeConfig,
        alias::{Entry, LogId, Vote},
    },
};

/// The most operations that share a sync. Far above what arrives during one.
const BATCH_OPS_MAX: usize = 4096;

/// How long the writer waits for something else to write the committed log id with.
const COMMITTED_WAIT: Duration = Duration::from_millis(100);

/// Something to do to the log on disk. Done strictly in the order of arrival.
pub(super) enum Op<E: Environment> {
    Append { entries: Vec<Entry>, callback: IOFlushed<TypeConfig<E>> },
    Vote { vote: Vote, done: Done },
    Truncate { next: u64, done: Done },
    Purge { upto: LogId, done: Done },
    Sync { done: Done },
}

type Done = oneshot::Sender<io::Result<()>>;

/// Whom to tell when a batch is durable.
enum Waiter<E: Environment> {
    Append(IOFlushed<TypeConfig<E>>),
    Other(Done),
}

impl<E: Environment> Waiter<E> {
    fn tell(self, result: io::Result<()>) {
        match self {
            Self::Append(callback) => callback.io_completed(result),
            // Nobody waits any more when the core has stopped.
            Self::Other(done) => drop(done.send(result)),
        }
    }
}

/// Hands on what is to be done, once everybody else who can go on has done so: what the members are to be
/// sent is on its way by then, and what came meanwhile shares a round.
pub(super) async fn hand_on<E: Environment>(
    mut ops: mpsc::UnboundedReceiver<Op<E>>,
    rounds: mpsc::UnboundedSender<Vec<Op<E>>>,
) {
    let mut gathered = Vec::new();
    while ops.recv_many(&mut gathered, BATCH_OPS_MAX).await > 0 {
        gather(&mut gathered, BATCH_OPS_MAX, || ops.try_recv().ok()).await;
        // After a failure nobody takes them; who waits is told by the loss of what they hold.
        if rounds.send(std::mem::take(&mut gathered)).is_err() {
            return;
        }
    }
}

/// Runs until the log store is dropped, or until a write fails: then everybody who waits is told,
/// and whoever comes later finds the channel closed.
pub(super) async fn run<E: Environment>(
    shared: Arc<Shared<E>>,
    mut records: Records,
    mut ops: mpsc::UnboundedReceiver<Vec<Op<E>>>,
) {
    while let Some(taken) = next_ops(&shared, &mut ops).await {
        let engine = shared.engine.clone();
        let taken = if sabotage::active(sabotage::ACK_BEFORE_SYNC) {
            acknowledge_and_wait(&mut ops, taken).await
        } else {
            taken
        };
        let committed = shared.cache().unwritten_committed();
        let write = move || {
            let mut round = Round::new(&*engine, records);
            let result = round.write(taken, committed);
            (round.records, round.waiters, round.synced, round.written, result)
        };
        let (kept, waiters, synced, written, result) = E::blocking_in_writer(write).await;
        records = kept;
        match result {
            Ok(()) => {
                {
                    let mut cache = shared.cache();
                    cache.stats.syncs += u64::from(synced);
                    cache.committed_written = committed.or(cache.committed_written);
                    if let Some(next) = written {
                        cache.set_written(next);
                    }
                }
                waiters.into_iter().for_each(|waiter| waiter.tell(Ok(())));
            }
            Err(error) => {
                tracing::error!(%error, "writing the log failed; this node must stop");
                let text = error.to_string();
                for waiter in waiters {
                    waiter.tell(Err(io::Error::other(text.clone())));
                }
                return;
            }
        }
    }
}

/// Waits for operations. None at all are a round too: for the committed log id, which comes soon after the
/// entry, is written with whatever is next, and has waited long enough. `None` once nobody is left.
async fn next_ops<E: Environment>(
    shared: &Shared<E>,
    ops: &mut mpsc::UnboundedReceiver<Vec<Op<E>>>,
) -> Option<Vec<Op<E>>> {
    let mut taken = if shared.cache().is_settled() {
        ops.recv().await?
    } else {
        match TypeConfig::<E>::timeout(COMMITTED_WAIT, ops.recv()).await {
            Ok(received) => received?,
            Err(_) => return Some(Vec::new()),
        }
    };
    while taken.len() < BATCH_OPS_MAX
        && let Ok(more) = ops.try_recv()
    {
        taken.extend(more);
    }
    Some(taken)
}

/// One batch: the operations that share a sync.
struct Round<'a, E: Environment> {
    engine: &'a dyn Engine,
    records: Records,
    batch: Batch,
    /// Entries that are not in a record of the batch yet.
    open: Vec<Entry>,
    open_bytes: usize,
    waiters: Vec<Waiter<E>>,
    synced: bool,
    /// The end of the log once the batch is written, if it changed.
    written: Option<u64>,
}

impl<'a, E: Environment> Round<'a, E> {
    fn new(engine: &'a dyn Engine, records: Records) -> Self {
        Self {
            engine,
            records,
            batch: Batch::default(),
            open: Vec::new(),
            open_bytes: 0,
            waiters: Vec::new(),
            synced: false,
            written: None,
        }
    }

    fn write(&mut self, ops: Vec<Op<E>>, committed: Option<LogId>) -> Result<()> {
        let mut durable = false;
        let mut failed = None;
        for op in ops {
            // After a failure the rest is not tried, only told.
            let result = match op {
                Op::Append { entries, callback } => {
                    durable = true;
                    self.waiters.push(Waiter::Append(callback));
                    self.append(entries)
                }
                Op::Vote { vote, done } => {
                    durable = true;
                    self.waiters.push(Waiter::Other(done));
                    format::put_vote(&mut self.batch, &vote)
                }
                Op::Truncate { next, done } => {
                    durable = true;
                    self.waiters.push(Waiter::Other(done));
                    self.truncate(next)
                }
                Op::Purge { upto, done } => {
                    self.waiters.push(Waiter::Other(done));
                    self.purge(upto)
                }
                Op::Sync { done } => {
                    durable = true;
                    self.waiters.push(Waiter::Other(done));
                    Ok(())
                }
            };
            failed = failed.or(result.err());
        }
        if let Some(error) = failed {
            return Err(error);
        }
        self.close_record()?;
        if let Some(committed) = committed {
            format::put_committed(&mut self.batch, committed)?;
        }
        if !self.batch.is_empty() {
            self.engine.write(std::mem::take(&mut self.batch))?;
        }
        if durable {
            self.engine.sync()?;
            self.synced = true;
        }
        Ok(())
    }

    fn append(&mut self, entries: Vec<Entry>) -> Result<()> {
        for entry in entries {
            let bytes = entry_bytes(&entry);
            let follows = self.open.last().is_none_or(|last| last.index() + 1 == entry.index());
            if !follows || self.open_bytes + bytes > RECORD_BYTES {
                self.close_record()?;
            }
            self.open_bytes += bytes;
            self.open.push(entry);
        }
        Ok(())
    }

    fn close_record(&mut self) -> Result<()> {
        let (Some(first), Some(last)) = (self.open.first(), self.open.last()) else {
            return Ok(());
        };
        let (first, last) = (first.index(), last.index());
        format::put_record(&mut self.batch, &self.open)?;
        self.records.insert(first, last);
        self.written = Some(last + 1);
        self.open.clear();
        self.open_bytes = 0;
        Ok(())
    }

    /// Removes everything from an index on: whole records, and the end of the one that it cuts.
    fn truncate(&mut self, next: u64) -> Result<()> {
        self.close_record()?;
        self.flush_batch()?;
        let cut: Vec<(u64, u64)> = self
            .records
            .iter()
            .rev()
            .take_while(|(_, last)| **last >= next)
            .map(|(first, last)| (*first, *last))
            .collect();
        for (first, _) in cut {
            let mut kept = match first < next {
                true => format::read_record(self.engine, first)?,
                false => Vec::new(),
            };
            blob::delete(self.engine, &mut self.batch, Key::LogEntries(first))?;
            self.records.remove(&first);
            kept.retain(|entry| entry.index() < next);
            if let Some(last) = kept.last() {
                self.records.insert(first, last.index());
                format::put_record(&mut self.batch, &kept)?;
            }
        }
        self.written = Some(next);
        Ok(())
    }

    /// Removes whole records below an index; what is left of the last one stays and is skipped.
    fn purge(&mut self, upto: LogId) -> Result<()> {
        self.close_record()?;
        self.flush_batch()?;
        while let Some(record) = self.records.first_entry() {
            if *record.get() > upto.index {
                break;
            }
            blob::delete(self.engine, &mut self.batch, Key::LogEntries(*record.key()))?;
            record.remove();
        }
        format::put_purged(&mut self.batch, upto)
    }

    /// Makes earlier operations of the round readable, for those that read before they write.
    fn flush_batch(&mut self) -> Result<()> {
        match self.batch.is_empty() {
            true => Ok(()),
            false => self.engine.write(std::mem::take(&mut self.batch)),
        }
    }
}

/// `ACK_BEFORE_SYNC`: every append is acknowledged as it comes, and written long after. Silenced callbacks take
/// the places of the real ones. Whatever else comes ends the wait, because somebody waits for it.
async fn acknowledge_and_wait<E: Environment>(
    ops: &mut mpsc::UnboundedReceiver<Vec<Op<E>>>,
    mut taken: Vec<Op<E>>,
) -> Vec<Op<E>> {
    let mut late = std::pin::pin!(TypeConfig::<E>::sleep(Duration::from_millis(500)));
    let mut kept = Vec::new();
    loop {
        let mut urgent = false;
        for op in taken.drain(..) {
            kept.push(match op {
                Op::Append { entries, callback } => {
                    callback.io_completed(Ok(()));
                    Op::Append { entries, callback: IOFlushed::noop() }
                }
                other @ (Op::Vote { .. }
                | Op::Truncate { .. }
                | Op::Purge { .. }
                | Op::Sync { .. }) => {
                    urgent = true;
                    other
                }
            });
        }
        if urgent {
            return kept;
        }
        tokio::select! {
            () = &mut late => return kept,
            received = ops.recv() => match received {
                Some(more) => taken = more,
                None => return kept,
            },
        }
    }
}

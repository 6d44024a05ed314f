//! A log on the memory engine in an environment without threads: one append is nothing but the work
//! that it takes.

use std::sync::Arc;

use bytes::Bytes;
use openraft::{
    storage::{IOFlushed, RaftLogStorage},
    type_config::TypeConfigExt,
    vote::RaftLeaderId,
};
use pygmy_raft::{
    log_store::LogStore,
    types::{
        EntryData, Environment, TypeConfig,
        alias::{Entry, LeaderId, LogId, Payload},
    },
};
use pygmy_storage::{
    command::{Command, KeyClaim, KeyHash, PlaceOrder, PlaceOrderLine, Proposal},
    engine::MemoryEngine,
};

/// Entries in an append.
pub(crate) const ENTRIES: u64 = 32;
/// Entries after which the log is purged, so that it does not grow for ever.
const PURGE_EVERY: u64 = 1 << 16;
const CACHE_BYTES: usize = 1 << 20;

/// What would go to another thread is done at once, and nothing is random.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inline;

impl Environment for Inline {
    type Runtime = openraft_rt_tokio::TokioRuntime;

    async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        work()
    }

    fn spawn_writer(writer: impl Future<Output = ()> + Send + 'static) {
        drop(tokio::spawn(writer));
    }

    async fn blocking_in_writer<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        work()
    }

    fn rests(_times: u32) -> impl FnMut() + Send + 'static {
        || {}
    }

    fn clock_ms() -> u64 {
        1_700_000_000_000
    }

    fn random_bytes() -> [u8; 16] {
        [7; 16]
    }
}

/// A keyed purchase as it stands in the log.
pub(crate) fn purchase(number: u64, items: u64) -> Proposal {
    let key = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    Proposal {
        stamp_ms: Inline::clock_ms(),
        key: Some(KeyClaim { key: KeyHash(key.to_le_bytes()), fingerprint: [7; 16] }),
        command: Command::PlaceOrder(PlaceOrder {
            lines: vec![PlaceOrderLine {
                item: number.wrapping_mul(7_919) % items + 1,
                quantity: 1,
                expected_price_cents: None,
            }],
            customer: Some("ada".to_owned()),
            reference: None,
        }),
    }
}

/// A log and where it ends.
pub(crate) struct Log {
    store: LogStore<Inline>,
    next: u64,
}

impl Log {
    /// An empty one. Within a runtime of one thread.
    pub(crate) fn open() -> Self {
        let store = LogStore::open(Arc::new(MemoryEngine::new()), CACHE_BYTES).unwrap();
        Self { store, next: 0 }
    }

    /// The entries of the next append.
    pub(crate) fn entries(&mut self) -> Vec<Entry> {
        let first = self.next;
        self.next += ENTRIES;
        let entry = |index| Entry {
            log_id: log_id(index),
            payload: Payload::Normal(EntryData(Bytes::from(purchase(index, 1_000).encode()))),
        };
        (first..self.next).map(entry).collect()
    }

    /// Appends them and waits until they are durable.
    pub(crate) async fn append(&mut self, entries: Vec<Entry>) {
        let (done, flushed) = TypeConfig::<Inline>::oneshot();
        self.store.append(entries, IOFlushed::signal(done)).await.unwrap();
        flushed.await.unwrap().unwrap();
        if self.next.is_multiple_of(PURGE_EVERY) {
            self.store.purge(log_id(self.next - 1)).await.unwrap();
        }
    }
}

fn log_id(index: u64) -> LogId {
    LogId { leader_id: LeaderId::new(1, 1), index }
}

/// A runtime of one thread.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

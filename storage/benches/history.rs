//! Finding orders and stock movements among ten million orders on disk:
//! `cargo bench -p pygmy-storage --bench history`.
//!
//! Takes a few minutes to build what it measures on. Each page is asked for somewhere else than the one
//! before, so that the few decoded chunks that are kept are of no help.

use std::{hint::black_box, sync::Arc};

use criterion::Criterion;
use pygmy_storage::{
    apply::{Effects, apply},
    checkpoint::Dirty,
    chunk_index::{ChunkIndex, Summary},
    command::{
        BatchOrder, Command, PlaceOrder, PlaceOrderLine, PlaceOrders, Precondition, Proposal,
        PutItem,
    },
    query::{OrderFilter, View},
    state::Packed,
    store::StateStore,
    volume::{DirVolume, Volume},
    working::Working,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ORDERS: u64 = 10_000_000;
/// A checkpoint after so many.
const CHECKPOINT_ORDERS: u64 = 100_000;
const BATCH: u64 = 100;
const ITEMS: u64 = 10_000;
/// Each has ten orders or so.
const CUSTOMERS: u64 = 1_000_000;
/// The log time of an order: this many milliseconds after the one before.
const PACE_MS: u64 = 10;

fn customer(number: u64) -> String {
    format!("customer {number}")
}

/// Fills a volume as a node does it.
fn fill(volume: Arc<dyn Volume>) -> View {
    let (mut store, view, _) = StateStore::open(volume).expect("a new store");
    let mut working = Working::new(view.state);
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut index = 0;
    let mut dirty = Dirty::default();
    let mut run = |working: &mut Working, dirty: &mut Dirty, stamp_ms, command| {
        let mut effects = Effects::default();
        apply(working, index, &Proposal { stamp_ms, key: None, command }, &mut effects);
        index += 1;
        dirty.take(&mut effects);
    };
    for id in 1..=ITEMS {
        let (title, topic) = (format!("Title {id}"), format!("Topic {}", id % 10));
        let (stock, precondition) = (Some(1 << 40), Precondition::None);
        let put = PutItem { id, title, topic, price_cents: 100, stock, precondition };
        run(&mut working, &mut dirty, 0, Command::PutItem(put));
    }
    for placed in (0..ORDERS / BATCH).map(|batch| batch * BATCH) {
        let orders = (0..BATCH).map(|_| {
            let lines = (0..random.random_range(1..=2)).map(|_| {
                // Item 1 is in every fifth order, the others are alike.
                let common = random.random_bool(0.2);
                let item = if common { 1 } else { random.random_range(2..=ITEMS) };
                PlaceOrderLine { item, quantity: 1, expected_price_cents: None }
            });
            let lines = lines.collect();
            let customer = Some(customer(random.random_range(0..CUSTOMERS)));
            BatchOrder { key: None, order: PlaceOrder { lines, customer, reference: None } }
        });
        let command = Command::PlaceOrders(PlaceOrders { orders: orders.collect() });
        run(&mut working, &mut dirty, placed * PACE_MS, command);
        if (placed + BATCH).is_multiple_of(CHECKPOINT_ORDERS) {
            let packed =
                store.checkpoint(working.state(), &dirty, &mut || ()).expect("a checkpoint");
            dirty.clear();
            working.forget_packed(packed);
        }
    }
    View { state: working.state().clone(), history: view.history }
}

fn pages(criterion: &mut Criterion, view: &View) {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let mut group = criterion.benchmark_group("ten million orders");
    group.bench_function("all orders of a customer", |bench| {
        bench.iter(|| {
            let customer = Some(customer(random.random_range(0..CUSTOMERS)));
            let filter = OrderFilter { customer, ..OrderFilter::default() };
            view.orders(&filter, None, 100).expect("a page")
        });
    });
    group.bench_function("a customer that never ordered", |bench| {
        bench.iter(|| {
            let customer = Some(customer(CUSTOMERS + random.random_range(0..CUSTOMERS)));
            let filter = OrderFilter { customer, ..OrderFilter::default() };
            view.orders(&filter, None, 100).expect("a page")
        });
    });
    group.bench_function("100 orders of a common item", |bench| {
        bench.iter(|| {
            let filter = OrderFilter { item: Some(1), ..OrderFilter::default() };
            view.orders(&filter, Some(random.random_range(0..ORDERS)), 100).expect("a page")
        });
    });
    group.bench_function("100 orders of an hour", |bench| {
        bench.iter(|| {
            let from_ms = random.random_range(0..ORDERS * PACE_MS);
            let to_ms = Some(from_ms + 3_600_000);
            let filter = OrderFilter { from_ms: Some(from_ms), to_ms, ..OrderFilter::default() };
            view.orders(&filter, None, 100).expect("a page")
        });
    });
    group.bench_function("100 orders, whichever", |bench| {
        bench.iter(|| {
            let after = Some(random.random_range(0..ORDERS));
            view.orders(&OrderFilter::default(), after, 100).expect("a page")
        });
    });
    group.bench_function("the newest 20 movements of an item", |bench| {
        bench.iter(|| view.ledger(random.random_range(2..=ITEMS), None, 20).expect("a page"));
    });
    group.finish();
}

/// What a start reads, and what it costs where summaries are missing.
fn index(criterion: &mut Criterion, view: &View) {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut group = criterion.benchmark_group("index of ten million orders");
    group.sample_size(10);
    group.bench_function("loaded", |bench| {
        let packed = Packed { orders: view.state.order_count(), ..Packed::default() };
        bench.iter(|| ChunkIndex::load(&**view.history.engine(), packed).expect("an index"));
    });
    group.bench_function("a chunk read and decoded", |bench| {
        bench.iter(|| view.history.order_chunk(random.random_range(0..9_000)).expect("a chunk"));
    });
    let chunk = view.history.order_chunk(1).expect("a chunk");
    group.bench_function("a chunk summed up", |bench| {
        bench.iter(|| Summary::of(black_box(&*chunk)));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let dir = tempfile::tempdir().expect("a directory");
    let volume = DirVolume::open(dir.path(), 64 << 20).expect("a volume");
    let view = fill(Arc::new(volume));
    let summaries = view.history.index().orders();
    let bytes: usize = summaries.iter().map(|summary| summary.filter.bytes()).sum();
    eprintln!("{} orders, {} summaries, {bytes} bytes", view.state.order_count(), summaries.len());
    pages(&mut criterion, &view);
    index(&mut criterion, &view);
    criterion.final_summary();
}

//! What an entry costs in apply, and what a read costs: `cargo bench -p pygmy-storage`.

use std::{cell::RefCell, hint::black_box, sync::Arc};

use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use pygmy_storage::{
    apply::{Effects, apply},
    command::{
        BatchOrder, Command, KeyClaim, KeyHash, PlaceOrder, PlaceOrderLine, PlaceOrders, Policy,
        Precondition, Proposal, PutItem,
    },
    engine::MemoryEngine,
    history::History,
    query::{OrderFilter, View},
    state::Packed,
    working::Working,
};

const ITEMS: u64 = 10_000;
/// More than any run sells.
const STOCK: u64 = 1_000_000_000;
/// Idempotency records kept, so that a keyed entry forgets one for each that it adds.
const KEYS: u64 = 10_000;
/// Orders after which memory is freed as a checkpoint would do it.
const FORGET_EVERY: u64 = 8_192;
const BATCH: u64 = 50;

/// A store with its catalog, and what was asked of it so far.
struct Store {
    working: Working,
    effects: Effects,
    asked: u64,
}

impl Store {
    fn new() -> Self {
        let mut store = Self { working: Working::default(), effects: Effects::default(), asked: 0 };
        let policy = Policy { key_limit: KEYS, ..Policy::default() };
        store.apply(&proposal(None, Command::SetPolicy(policy)));
        for id in 1..=ITEMS {
            let put = PutItem {
                id,
                title: format!("The title of item {id}"),
                topic: format!("Topic {}", id % 20),
                price_cents: 1_999,
                stock: Some(STOCK),
                precondition: Precondition::None,
            };
            store.apply(&proposal(None, Command::PutItem(put)));
        }
        store
    }

    fn apply(&mut self, proposal: &Proposal) {
        let index = self.working.state().applied().map_or(0, |index| index + 1);
        black_box(apply(&mut self.working, index, proposal, &mut self.effects));
        self.effects.items.clear();
        self.effects.reservations.clear();
        let orders = self.working.state().order_count();
        if orders.is_multiple_of(FORGET_EVERY) {
            self.working.forget_packed(Packed { orders, changes: 2 * orders, ..Packed::default() });
        }
    }

    /// The next of the items, in an order that meets all of them.
    fn next_item(&mut self) -> u64 {
        self.asked += 1;
        self.asked.wrapping_mul(7_919) % ITEMS + 1
    }

    /// A claim that was never used.
    fn next_claim(&mut self) -> KeyClaim {
        self.asked += 1;
        let key = u128::from(self.asked).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        KeyClaim { key: KeyHash(key.to_le_bytes()), fingerprint: [7; 16] }
    }
}

fn proposal(key: Option<KeyClaim>, command: Command) -> Proposal {
    Proposal { stamp_ms: 1_700_000_000_000, key, command }
}

fn order(item: u64) -> PlaceOrder {
    PlaceOrder {
        lines: vec![PlaceOrderLine { item, quantity: 1, expected_price_cents: None }],
        customer: Some("ada".to_owned()),
        reference: None,
    }
}

/// Measures the apply of proposals, which are made outside of what is measured.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    next: impl Fn(&mut Store) -> Proposal,
) {
    let store = RefCell::new(Store::new());
    group.bench_function(name, |bench| {
        bench.iter_batched(
            || next(&mut store.borrow_mut()),
            |proposal| store.borrow_mut().apply(&proposal),
            BatchSize::SmallInput,
        );
    });
}

fn buys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    measure(&mut group, "buy", |store| {
        proposal(None, Command::PlaceOrder(order(store.next_item())))
    });
    measure(&mut group, "buy, keyed", |store| {
        let item = store.next_item();
        proposal(Some(store.next_claim()), Command::PlaceOrder(order(item)))
    });
    measure(&mut group, "buy, keyed, one hot item", |store| {
        proposal(Some(store.next_claim()), Command::PlaceOrder(order(1)))
    });
    group.throughput(Throughput::Elements(BATCH));
    measure(&mut group, "batch of 50, keyed", |store| {
        let orders = (0..BATCH).map(|_| {
            let order = order(store.next_item());
            BatchOrder { key: Some(store.next_claim()), order }
        });
        proposal(None, Command::PlaceOrders(PlaceOrders { orders: orders.collect() }))
    });
    group.finish();
}

fn queries(criterion: &mut Criterion) {
    let mut store = Store::new();
    for item in 1..=1_000 {
        store.apply(&proposal(None, Command::PlaceOrder(order(item))));
    }
    let state = store.working.state().clone();
    let view = View { state, history: Arc::new(History::new(Arc::new(MemoryEngine::new()))) };
    let mut group = criterion.benchmark_group("query");
    group.bench_function("item", |bench| bench.iter(|| view.item(store.next_item())));
    let mut after = 0;
    group.bench_function("page of 100 items", |bench| {
        bench.iter(|| {
            after = (after + 100) % ITEMS;
            view.items(None, Some(after), 100)
        });
    });
    group.bench_function("page of 100 items of a topic", |bench| {
        bench.iter(|| {
            after = (after + 100) % ITEMS;
            view.items(Some("Topic 7"), Some(after), 100)
        });
    });
    let all = OrderFilter::default();
    group.bench_function("page of 100 orders", |bench| {
        bench.iter(|| view.orders(&all, Some(500), 100));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    buys(&mut criterion);
    queries(&mut criterion);
    criterion.final_summary();
}

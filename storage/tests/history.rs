//! Finding orders and stock movements: always what a look at every row finds, whatever is packed,
//! in memory, read back after a restart or brought by a snapshot.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use pygmy_storage::{
    Error,
    apply::{Effects, apply},
    catalog::StockReason,
    checkpoint::Dirty,
    command::{
        BatchOrder, ChangeStock, Command, PlaceOrder, PlaceOrderLine, PlaceOrders, Precondition,
        Proposal, PutItem, StockChange,
    },
    engine::{Batch, Engine},
    history::History,
    key::Key,
    ledger::{Movement, MovementReason},
    orders::{Order, OrderStatus},
    query::{OrderFilter, View},
    store::{self, StateStore},
    verify,
    volume::{DirVolume, MemoryVolume, Volume},
    working::Working,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ITEMS: u64 = 60;
/// Sold in one order of about five hundred.
const RARE_ITEM: u64 = ITEMS;
const START_MS: u64 = 1_000_000;

/// A store, and all it was ever told, row by row.
struct Shop {
    volume: Arc<dyn Volume>,
    store: StateStore,
    working: Working,
    history: Arc<History>,
    dirty: Dirty,
    orders: Vec<Arc<Order>>,
    /// Item and movement, oldest first.
    movements: Vec<(u64, Movement)>,
    now: u64,
}

impl Shop {
    fn open(volume: Arc<dyn Volume>) -> Self {
        let (store, View { state, history }, _) = StateStore::open(volume.clone()).unwrap();
        let mut shop = Self {
            volume,
            store,
            working: Working::new(state),
            history,
            dirty: Dirty::default(),
            orders: Vec::new(),
            movements: Vec::new(),
            now: START_MS,
        };
        for id in 1..=ITEMS {
            let (title, topic) = (format!("Title {id}"), "Topic".to_owned());
            let stock = Some(1_000_000_000);
            let precondition = Precondition::Absent;
            let put = PutItem { id, title, topic, price_cents: 1, stock, precondition };
            shop.apply(Command::PutItem(put));
            shop.moved(id, 1_000_000_000, StockReason::Received, None);
        }
        shop
    }

    fn apply(&mut self, command: Command) {
        let index = self.working.state().applied().map_or(0, |index| index + 1);
        let mut effects = Effects::default();
        let proposal = Proposal { stamp_ms: self.now, key: None, command };
        apply(&mut self.working, index, &proposal, &mut effects);
        self.dirty.take(&mut effects);
        for id in self.orders.len() as u64 + 1..=self.working.state().order_count() {
            let order = self.view().order(id).unwrap().unwrap();
            for line in &order.lines {
                let sale = Movement {
                    delta: -i64::try_from(line.quantity).unwrap(),
                    reason: MovementReason::Sold,
                    reference: order.reference.clone(),
                    order: Some(id),
                    reservation: None,
                    index,
                    at_ms: self.now,
                };
                self.movements.push((line.item, sale));
            }
            self.orders.push(order);
        }
    }

    fn moved(&mut self, item: u64, delta: i64, reason: StockReason, reference: Option<&str>) {
        let movement = Movement {
            delta,
            reason: MovementReason::Stock(reason),
            reference: reference.map(Arc::from),
            order: None,
            reservation: None,
            index: self.working.state().applied().unwrap(),
            at_ms: self.now,
        };
        self.movements.push((item, movement));
    }

    fn step(&mut self, random: &mut ChaCha8Rng) {
        self.now += random.random_range(0..20);
        if random.random_bool(0.3) {
            let item = random.random_range(1..ITEMS);
            let delta = random.random_range(1..9);
            let reference = random.random_bool(0.5).then_some("delivery");
            self.apply(Command::ChangeStock(ChangeStock {
                item,
                change: StockChange::Delta(delta),
                reason: StockReason::Correction,
                reference: reference.map(str::to_owned),
                precondition: Precondition::None,
            }));
            self.moved(item, delta, StockReason::Correction, reference);
            return;
        }
        let orders = (0..random.random_range(1..4)).map(|_| {
            let lines = (0..random.random_range(1..4)).map(|_| PlaceOrderLine {
                item: match random.random_range(0..1000) {
                    0 => RARE_ITEM,
                    _ => random.random_range(1..ITEMS),
                },
                quantity: random.random_range(1..4),
                expected_price_cents: None,
            });
            let lines = lines.collect();
            let customer = match random.random_range(0..1000) {
                0 => Some("rare".to_owned()),
                1..700 => Some(format!("customer {}", random.random_range(0..40))),
                _ => None,
            };
            let reference = random.random_bool(0.5).then(|| "order".to_owned());
            BatchOrder { key: None, order: PlaceOrder { lines, customer, reference } }
        });
        let orders = orders.collect();
        self.apply(Command::PlaceOrders(PlaceOrders { orders }));
    }

    fn checkpoint(&mut self) {
        let packed = self.store.checkpoint(self.working.state(), &self.dirty, &mut || ()).unwrap();
        self.dirty.clear();
        self.working.forget_packed(packed);
    }

    fn restart(self) -> Self {
        let Self { volume, store, working, history, orders, movements, now, .. } = self;
        let index = working.state().applied();
        drop((store, working, history));
        // sled's own threads may hold the files for a moment after the engine is dropped.
        let (store, View { state, history }, _) = loop {
            match StateStore::open(volume.clone()) {
                Err(Error::Locked { .. }) => std::thread::yield_now(),
                other => break other.unwrap(),
            }
        };
        assert_eq!(state.applied(), index, "it was checkpointed");
        let (working, dirty) = (Working::new(state), Dirty::default());
        Self { volume, store, working, history, dirty, orders, movements, now }
    }

    fn install_own_snapshot(&mut self) {
        let (file, _) = store::build_snapshot(&*self.volume, &self.view(), &mut || {}).unwrap();
        let view = self.store.install(&file, &mut || ()).unwrap();
        (self.working, self.history) = (Working::new(view.state), view.history);
        self.dirty.clear();
    }

    fn view(&self) -> View {
        View { state: self.working.state().clone(), history: self.history.clone() }
    }

    /// Every page of a filter, joined.
    fn found(&self, filter: &OrderFilter, limit: usize) -> Vec<Arc<Order>> {
        let (view, mut after, mut rows) = (self.view(), None, Vec::new());
        loop {
            let page = view.orders(filter, after, limit).unwrap();
            assert!(page.rows.len() <= limit);
            rows.extend(page.rows);
            assert!(page.next_after.is_none_or(|next| Some(next) > after), "it gets on");
            match page.next_after {
                Some(next) => after = Some(next),
                None => return rows,
            }
        }
    }

    fn ledger(&self, item: u64, limit: usize) -> Vec<Movement> {
        let (view, mut before, mut rows) = (self.view(), None, Vec::new());
        loop {
            let page = view.ledger(item, before, limit).unwrap();
            assert!(page.rows.len() <= limit);
            rows.extend(page.rows);
            match page.next {
                Some(_) => before = page.next,
                None => return rows,
            }
        }
    }

    fn check(&self, random: &mut ChaCha8Rng) {
        let times = START_MS..self.now + 2;
        for _ in 0..6 {
            let mut some = |share| random.random_bool(share);
            let (by_item, by_customer, by_status) = (some(0.5), some(0.5), some(0.3));
            let (by_from, by_to) = (some(0.4), some(0.4));
            let filter = OrderFilter {
                item: by_item.then(|| match random.random_range(0..4) {
                    0 => RARE_ITEM,
                    1 => 9999,
                    _ => random.random_range(1..ITEMS),
                }),
                customer: by_customer.then(|| match random.random_range(0..4) {
                    0 => "rare".to_owned(),
                    1 => "nobody".to_owned(),
                    _ => format!("customer {}", random.random_range(0..40)),
                }),
                status: by_status.then_some(OrderStatus::Placed),
                from_ms: by_from.then(|| random.random_range(times.clone())),
                to_ms: by_to.then(|| random.random_range(times.clone())),
            };
            let matches = |order: &&Arc<Order>| {
                filter.item.is_none_or(|item| order.lines.iter().any(|line| line.item == item))
                    && (filter.customer.is_none()
                        || filter.customer.as_deref() == order.customer.as_deref())
                    && order.placed_ms >= filter.from_ms.unwrap_or(0)
                    && order.placed_ms < filter.to_ms.unwrap_or(u64::MAX)
            };
            let expected: Vec<_> = self.orders.iter().filter(matches).cloned().collect();
            let limit = random.random_range(1..300);
            assert!(self.found(&filter, limit) == expected, "{filter:?}, pages of {limit}");
        }
        for item in [RARE_ITEM, 9999, random.random_range(1..ITEMS)] {
            let expected: Vec<_> = self
                .movements
                .iter()
                .filter(|(of, _)| *of == item)
                .map(|(_, movement)| movement.clone())
                .rev()
                .collect();
            let limit = random.random_range(1..300);
            assert!(self.ledger(item, limit) == expected, "item {item}, pages of {limit}");
        }
    }
}

#[test]
fn pages_hold_what_a_look_at_every_row_finds() {
    let dir = tempfile::tempdir().unwrap();
    let volumes: [Arc<dyn Volume>; 2] =
        [Arc::new(MemoryVolume::new()), Arc::new(DirVolume::open(dir.path(), 8 << 20).unwrap())];
    for volume in volumes {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut shop = Shop::open(volume);
        for round in 0..18 {
            for _ in 0..600 {
                shop.step(&mut random);
            }
            match round % 6 {
                1 => shop.checkpoint(),
                3 => {
                    shop.checkpoint();
                    shop = shop.restart();
                }
                5 => shop.install_own_snapshot(),
                _ => {}
            }
            shop.check(&mut random);
        }
        let packed = shop.history.index();
        assert!(packed.orders().len() > 10 && packed.ledger().len() > 2, "{packed:?}");
        for check in verify::verify(&shop.view()).unwrap() {
            assert!(check.wrong.is_empty(), "{check:?}");
        }
    }
}

#[test]
fn a_cursor_stays_where_it_is_while_more_is_sold() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut shop = Shop::open(Arc::new(MemoryVolume::new()));
    for _ in 0..3000 {
        shop.step(&mut random);
    }
    let expected: Vec<_> = shop.ledger(5, 1000);
    let mut rows = Vec::new();
    let mut before = None;
    loop {
        let page = shop.view().ledger(5, before, 20).unwrap();
        rows.extend(page.rows);
        before = page.next;
        if before.is_none() {
            break;
        }
        for _ in 0..100 {
            shop.step(&mut random);
        }
        shop.checkpoint();
    }
    assert!(rows == expected);
}

#[test]
fn summaries_that_are_missing_are_made_anew_and_wrong_ones_are_told() {
    let volume = MemoryVolume::new();
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut shop = Shop::open(Arc::new(volume.clone()));
    for _ in 0..7000 {
        shop.step(&mut random);
    }
    shop.checkpoint();
    let (orders, ledger) = (shop.history.index().orders(), shop.history.index().ledger());
    assert!(orders.len() > 6 && ledger.len() > 1);
    let engine = volume.engine("state-0000000001").unwrap();
    let mut batch = Batch::default();
    for key in [Key::OrderSummary(0), Key::OrderSummary(4), Key::LedgerSummary(1)] {
        assert!(engine.get(&key.encode(0)).unwrap().is_some(), "{key:?}");
        batch.delete(key.encode(0));
    }
    engine.write(batch).unwrap();
    let shop = shop.restart();
    assert_eq!(shop.history.index().orders(), orders);
    assert_eq!(shop.history.index().ledger(), ledger);
    assert!(engine.get(&Key::OrderSummary(4).encode(0)).unwrap().is_some());
    shop.check(&mut random);

    // A summary that is whole and of something else: nobody looks twice but the full check.
    let other = engine.get(&Key::LedgerSummary(0).encode(0)).unwrap().unwrap();
    let mut batch = Batch::default();
    batch.put(Key::OrderSummary(0).encode(0), other);
    engine.write(batch).unwrap();
    let shop = shop.restart();
    let checks = verify::verify(&shop.view()).unwrap();
    let wrong: Vec<_> = checks.iter().filter(|check| !check.wrong.is_empty()).collect();
    assert!(wrong.len() == 1 && wrong[0].name.contains("summaries"), "{wrong:?}");
}

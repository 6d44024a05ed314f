//! The state machine as a whole: random histories, every way to cut them, every way to come back.

#![allow(clippy::unwrap_used)]

mod any;
mod changes;
mod items;
mod orders;
mod policy;
mod reservations;

use std::sync::Arc;

use pygmy_storage::{
    Error,
    apply::{Effects, REFUSALS_TOLD_MAX, apply, apply_blank},
    catalog::StockReason,
    changes::{Change, ChangeKind, Changes},
    checkpoint::Dirty,
    command::{
        Applied, BatchOrder, BatchOutcome, BatchRefusal, BatchResult, CancelOrder, ChangeStock,
        Command, KeyClaim, Outcome, PlaceOrder, PlaceOrderLine, PlaceOrders, Policy, Precondition,
        Proposal, PutItem, Rejection, Reserve, StockChange,
    },
    history::History,
    query::{OrderFilter, View},
    store::{self, Origin, StateStore},
    verify,
    volume::{DirVolume, MemoryVolume, Volume},
    working::Working,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A state with its store, fed entry by entry as the state machine does it.
struct Machine {
    volume: Arc<dyn Volume>,
    store: StateStore,
    working: Working,
    history: Arc<History>,
    dirty: Dirty,
}

impl Machine {
    fn open(volume: Arc<dyn Volume>) -> (Self, Origin) {
        let (store, view, origin) = loop {
            match StateStore::open(volume.clone()) {
                // sled's threads let go of its files a moment after the last handle is dropped.
                Err(Error::Locked { .. }) => std::thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        let View { state, history } = view;
        let working = Working::new(state);
        (Self { volume, store, working, history, dirty: Dirty::default() }, origin)
    }

    fn memory() -> Self {
        Self::open(Arc::new(MemoryVolume::new())).0
    }

    fn apply(&mut self, proposal: &Proposal) -> Applied {
        let index = self.working.state().applied().map_or(0, |index| index + 1);
        let mut effects = Effects::default();
        let applied = apply(&mut self.working, index, proposal, &mut effects);
        self.dirty.take(&mut effects);
        applied
    }

    fn run(&mut self, command: Command) -> Outcome {
        self.apply(&Proposal { stamp_ms: 1000, key: None, command }).outcome
    }

    fn checkpoint(&mut self) {
        let packed = self.store.checkpoint(self.working.state(), &self.dirty, &mut || ()).unwrap();
        self.dirty.clear();
        self.working.forget_packed(packed);
    }

    fn install(&mut self, file: &str) {
        let view = self.store.install(file, &mut || ()).unwrap();
        assert_eq!(view.state.state_hash(), self.working.state().state_hash());
        (self.working, self.history) = (Working::new(view.state), view.history);
        self.dirty.clear();
    }

    /// The changes after an index.
    fn changes(&self, after: u64) -> Vec<Change> {
        match self.view().changes(after, 1000).unwrap() {
            Changes::Page(page) => page.changes,
            gone @ Changes::Gone { .. } => panic!("{gone:?}"),
        }
    }

    fn view(&self) -> View {
        View { state: self.working.state().clone(), history: self.history.clone() }
    }

    fn assert_sound(&self) {
        for check in verify::verify(&self.view()).unwrap() {
            assert!(check.wrong.is_empty(), "{check:?}");
        }
        assert!(self.working.index_is_sound());
    }
}

fn put(id: u64, price_cents: u64, stock: u64) -> Command {
    Command::PutItem(PutItem {
        id,
        title: format!("Title {id}"),
        topic: format!("Topic {}", id % 3),
        price_cents,
        stock: Some(stock),
        precondition: Precondition::None,
    })
}

fn plain_order(lines: &[(u64, u64)]) -> PlaceOrder {
    PlaceOrder {
        lines: lines
            .iter()
            .map(|&(item, quantity)| PlaceOrderLine { item, quantity, expected_price_cents: None })
            .collect(),
        customer: None,
        reference: Some("ref".to_owned()),
    }
}

fn order(lines: &[(u64, u64)]) -> Command {
    Command::PlaceOrder(plain_order(lines))
}

/// A batch of orders of one line each, with keys of their own where they have one.
fn batch(orders: &[(Option<&str>, u64, u64)]) -> PlaceOrders {
    let orders = orders.iter().map(|&(key, item, quantity)| {
        let order = plain_order(&[(item, quantity)]);
        let key = key.map(|key| KeyClaim::new(key, &Command::PlaceOrder(order.clone())));
        BatchOrder { key, order }
    });
    PlaceOrders { orders: orders.collect() }
}

fn batch_outcome(outcome: Outcome) -> BatchOutcome {
    match outcome {
        Outcome::Batch(batch) => BatchOutcome::clone(&batch),
        other => panic!("{other:?}"),
    }
}

fn reserve(lines: &[(u64, u64)], ttl_ms: u64) -> Command {
    let PlaceOrder { lines, customer, reference } = plain_order(lines);
    Command::Reserve(Reserve { lines, ttl_ms, customer, reference })
}

/// What whoever has this view proposes to take an order back.
fn cancel(view: &View, id: u64, reason: Option<&str>) -> Command {
    let order = view.order(id).unwrap().unwrap();
    Command::CancelOrder(CancelOrder::of(&order, reason.map(str::to_owned)))
}

fn at(stamp_ms: u64, command: Command) -> Proposal {
    Proposal { stamp_ms, key: None, command }
}

fn keyed(key: &str, stamp_ms: u64, command: Command) -> Proposal {
    Proposal { stamp_ms, key: Some(KeyClaim::new(key, &command)), command }
}

#[test]
fn an_order_takes_all_its_lines_or_none() {
    let mut m = Machine::memory();
    m.run(put(1, 500, 3));
    m.run(put(2, 700, 10));
    assert_eq!(m.run(order(&[(2, 4), (1, 2), (2, 1)])), Outcome::Ordered(1));
    let placed = m.view().order(1).unwrap().unwrap();
    assert_eq!(placed.total_cents, 5 * 700 + 2 * 500);
    assert_eq!(placed.lines.len(), 2, "lines of one item are one line");
    assert_eq!((placed.lines[0].item, placed.lines[0].quantity), (2, 5));
    assert_eq!(&*placed.lines[0].title, "Title 2");

    let short = Rejection::OutOfStock { line: 1, item: 1, requested: 2, available: 1 };
    assert_eq!(m.run(order(&[(2, 1), (1, 1), (1, 1)])), Outcome::Rejected(short));
    assert_eq!(m.view().item(2).unwrap().stock, 5, "nothing of a refused order happens");
    let unknown = Rejection::UnknownItem { line: 1, item: 99 };
    assert_eq!(m.run(order(&[(1, 1), (99, 1)])), Outcome::Rejected(unknown));
    assert_eq!(m.run(order(&[(1, 1)])), Outcome::Ordered(2), "numbers have no gaps");
    assert!(matches!(
        m.run(order(&[(1, 1)])),
        Outcome::Rejected(Rejection::OutOfStock { available: 0, .. })
    ));
    m.assert_sound();
}

#[test]
fn an_expected_price_that_changed_refuses_the_order() {
    let mut m = Machine::memory();
    m.run(put(1, 500, 3));
    let expecting = |cents| {
        Command::PlaceOrder(PlaceOrder {
            lines: vec![PlaceOrderLine { item: 1, quantity: 1, expected_price_cents: Some(cents) }],
            customer: None,
            reference: None,
        })
    };
    assert_eq!(
        m.run(expecting(499)),
        Outcome::Rejected(Rejection::PriceChanged {
            line: 0,
            item: 1,
            expected_cents: 499,
            current_cents: 500
        })
    );
    assert_eq!(m.run(expecting(500)), Outcome::Ordered(1));
}

#[test]
fn numbers_that_would_overflow_are_refused_and_change_nothing() {
    let mut m = Machine::memory();
    m.run(put(1, u64::MAX / 2, 10));
    assert_eq!(m.run(order(&[(1, 3)])), Outcome::Rejected(Rejection::Overflow));
    assert_eq!(m.run(order(&[(1, u64::MAX), (1, 1)])), Outcome::Rejected(Rejection::Overflow));
    let more = Command::ChangeStock(ChangeStock {
        item: 1,
        change: StockChange::Set(u64::MAX),
        reason: StockReason::Count,
        reference: None,
        precondition: Precondition::None,
    });
    assert_eq!(m.run(more), Outcome::Rejected(Rejection::Overflow));
    assert_eq!(m.view().item(1).unwrap().stock, 10);
    m.assert_sound();
}

#[test]
fn preconditions_hold_or_nothing_happens() {
    let mut m = Machine::memory();
    let put_if = |precondition, title: &str| {
        Command::PutItem(PutItem {
            id: 1,
            title: title.to_owned(),
            topic: "T".to_owned(),
            price_cents: 1,
            stock: None,
            precondition,
        })
    };
    let mismatch = |current| Outcome::Rejected(Rejection::VersionMismatch { current });
    assert_eq!(m.run(put_if(Precondition::Exists, "a")), mismatch(None));
    assert_eq!(m.run(put_if(Precondition::Version(0), "a")), mismatch(None));
    let Outcome::Item(item) = m.run(put_if(Precondition::Absent, "a")) else { panic!() };
    assert_eq!((item.stock, item.version), (0, 2));
    assert_eq!(m.run(put_if(Precondition::Absent, "b")), mismatch(Some(2)));
    assert_eq!(m.run(put_if(Precondition::Version(1), "b")), mismatch(Some(2)));
    let Outcome::Item(item) = m.run(put_if(Precondition::Version(2), "b")) else { panic!() };
    assert_eq!((&*item.title, item.version), ("b", 5));
}

#[test]
fn stock_never_falls_below_zero_and_every_piece_is_accounted_for() {
    let mut m = Machine::memory();
    m.run(put(1, 1, 5));
    let change = |change, reason| {
        Command::ChangeStock(ChangeStock {
            item: 1,
            change,
            reason,
            reference: None,
            precondition: Precondition::None,
        })
    };
    assert!(matches!(
        m.run(change(StockChange::Delta(-6), StockReason::Damaged)),
        Outcome::Rejected(Rejection::StockTooLow { stock: 5, requested: 6, .. })
    ));
    m.run(change(StockChange::Delta(-2), StockReason::Damaged));
    m.run(change(StockChange::Set(10), StockReason::Count));
    m.run(order(&[(1, 4)]));
    let item = m.view().item(1).unwrap().clone();
    assert_eq!((item.stock, item.received, item.sold, item.written_off), (6, 12, 4, 2));
    m.assert_sound();
}

#[test]
fn restock_fills_what_is_sold_out_and_nothing_else() {
    let mut m = Machine::memory();
    m.run(put(1, 1, 0));
    m.run(put(2, 1, 7));
    m.run(put(3, 1, 2));
    m.run(order(&[(3, 2)]));
    assert!(m.working.state().has_sold_out());
    assert_eq!(m.run(Command::Restock), Outcome::Restocked(2));
    let stocks: Vec<u64> = (1..=3).map(|id| m.view().item(id).unwrap().stock).collect();
    assert_eq!(stocks, [50, 7, 50]);
    assert!(!m.working.state().has_sold_out());
    assert_eq!(m.run(Command::Restock), Outcome::Restocked(0));
    m.assert_sound();
}

#[test]
fn the_same_key_gives_the_first_reply_and_another_request_is_refused() {
    let mut m = Machine::memory();
    m.run(put(1, 1, 1));
    let first = m.apply(&keyed("k", 10, order(&[(1, 1)])));
    assert_eq!((first.outcome.clone(), first.replayed), (Outcome::Ordered(1), false));
    let again = m.apply(&keyed("k", 20, order(&[(1, 1)])));
    assert_eq!(again, Applied { replayed: true, ..first });
    let other = m.apply(&keyed("k", 20, order(&[(1, 2)])));
    assert_eq!(other.outcome, Outcome::Rejected(Rejection::KeyReused));
    assert!(!other.replayed);

    // A refusal is remembered as well, also when it would not be refused any more.
    let refused = m.apply(&keyed("r", 30, order(&[(1, 1)])));
    m.run(put(1, 1, 5));
    let again = m.apply(&keyed("r", 40, order(&[(1, 1)])));
    assert_eq!((again.outcome, again.replayed), (refused.outcome, true));
    assert_eq!(m.working.state().order_count(), 1);
    m.assert_sound();
}

#[test]
fn a_batch_is_placed_whole_or_not_at_all() {
    let mut m = Machine::memory();
    m.run(put(1, 500, 5));
    m.run(put(2, 700, 1));
    m.run(order(&[(1, 1)]));
    let before = m.working.state().state_hash();
    // Each would be there for itself; together they want a piece more than there is.
    let short = batch(&[(None, 1, 2), (None, 2, 1), (None, 1, 3), (None, 99, 1), (None, 1, 2)]);
    let refused = batch_outcome(m.run(Command::PlaceOrders(short)));
    let out = Rejection::OutOfStock { line: 0, item: 1, requested: 3, available: 2 };
    let unknown = Rejection::UnknownItem { line: 0, item: 99 };
    let refusal = |position, why| BatchRefusal { position, why, replayed: false };
    assert_eq!(refused.refused, [refusal(2, out), refusal(3, unknown)]);
    let applied: Vec<_> =
        refused.results().map(|result| result == BatchResult::NotApplied).collect();
    assert_eq!(applied, [true, true, false, false, true]);
    assert_eq!((m.working.state().order_count(), m.view().item(1).unwrap().stock), (1, 4));
    assert_ne!(m.working.state().state_hash(), before, "the entry itself counts");
    m.assert_sound();

    let fits = batch(&[(None, 1, 2), (None, 2, 1), (None, 1, 2)]);
    let index = m.working.state().applied().unwrap() + 1;
    let mut effects = Effects::default();
    let proposal = Proposal { stamp_ms: 1000, key: None, command: Command::PlaceOrders(fits) };
    let placed = apply(&mut m.working, index, &proposal, &mut effects);
    let placed = batch_outcome(placed.outcome);
    assert_eq!(placed.results().collect::<Vec<_>>(), [2, 3, 4].map(BatchResult::Ordered));
    let changes = m.changes(index - 1);
    let orders = changes.iter().filter(|change| change.kind == ChangeKind::Order);
    let orders: Vec<_> = orders.map(|change| (change.index, change.id)).collect();
    assert_eq!(orders, [2, 3, 4].map(|id| (index, id)), "a change for each order");
    assert_eq!(effects.items, [1, 2].map(|id| (index, id)), "an item changes once");
    for (id, item, quantity) in [(2, 1, 2), (3, 2, 1), (4, 1, 2)] {
        let order = m.view().order(id).unwrap().unwrap();
        assert_eq!((order.index, order.lines.len()), (index, 1));
        assert_eq!((order.lines[0].item, order.lines[0].quantity), (item, quantity));
    }
    let item = m.view().item(1).unwrap().clone();
    assert_eq!((item.stock, item.sold, item.version), (0, 5, index));
    assert_eq!(
        m.run(order(&[(1, 1)])),
        Outcome::Rejected(Rejection::OutOfStock { line: 0, item: 1, requested: 1, available: 0 })
    );
    m.assert_sound();
}

#[test]
fn the_key_of_a_batch_gives_its_first_outcome_again() {
    let mut m = Machine::memory();
    m.run(put(1, 1, 5));
    let both = || Command::PlaceOrders(batch(&[(None, 1, 2), (None, 1, 1)]));
    let first = m.apply(&keyed("k", 10, both()));
    let again = m.apply(&keyed("k", 20, both()));
    assert_eq!(again, Applied { replayed: true, ..first.clone() });
    assert_eq!(batch_outcome(first.outcome).orders().collect::<Vec<_>>(), [1, 2]);
    let other = Command::PlaceOrders(batch(&[(None, 1, 2)]));
    let reused = Outcome::Rejected(Rejection::KeyReused);
    assert_eq!(m.apply(&keyed("k", 30, other)).outcome, reused);

    // A refusal is final for its key, though the stock has come by now.
    let three = || Command::PlaceOrders(batch(&[(None, 1, 1), (None, 1, 4)]));
    let refused = m.apply(&keyed("r", 40, three()));
    m.run(put(1, 1, 50));
    let again = m.apply(&keyed("r", 50, three()));
    assert_eq!(again, Applied { replayed: true, ..refused });
    assert_eq!(m.working.state().order_count(), 2);
    m.assert_sound();
}

#[test]
fn orders_of_a_batch_with_keys_of_their_own_are_each_placed_once() {
    let mut m = Machine::memory();
    m.run(put(1, 1, 10));
    let run = |m: &mut Machine, orders: &[(Option<&str>, u64, u64)]| {
        batch_outcome(m.run(Command::PlaceOrders(batch(orders))))
    };
    // One of them was placed alone before: it is replayed, and the others are placed.
    assert_eq!(m.apply(&keyed("b", 1000, order(&[(1, 2)]))).outcome, Outcome::Ordered(1));
    let abc = [(Some("a"), 1, 1), (Some("b"), 1, 2), (Some("c"), 1, 3)];
    let placed = run(&mut m, &abc);
    let (new, old) = (BatchResult::Ordered, BatchResult::Replayed);
    assert_eq!(placed.results().collect::<Vec<_>>(), [new(2), old(1), new(3)]);
    let again = run(&mut m, &abc);
    assert_eq!(again.results().collect::<Vec<_>>(), [old(2), old(1), old(3)]);
    let alone = m.apply(&keyed("c", 1000, order(&[(1, 3)])));
    assert_eq!((alone.outcome, alone.replayed), (Outcome::Ordered(3), true));
    assert_eq!(m.view().item(1).unwrap().stock, 4);

    // A key that belongs to another order refuses the batch, and stays what it was.
    let reused = run(&mut m, &[(Some("d"), 1, 1), (Some("a"), 1, 2), (Some("b"), 1, 2)]);
    let why = Rejection::KeyReused;
    assert_eq!(reused.refused, [BatchRefusal { position: 1, why, replayed: false }]);
    let results: Vec<_> = reused.results().collect();
    assert_eq!((results[0], results[2]), (BatchResult::NotApplied, old(1)));
    assert!(m.apply(&keyed("a", 1000, order(&[(1, 1)]))).replayed);

    // A refusal is remembered for its order, and an order that was only not placed is free.
    let short = [(Some("e"), 1, 1), (Some("f"), 1, 4)];
    let refused = run(&mut m, &short);
    m.run(put(1, 1, 10));
    let again = run(&mut m, &short);
    assert_eq!(again.refused.len(), 1);
    assert_eq!(again.refused[0], BatchRefusal { replayed: true, ..refused.refused[0].clone() });
    let e = m.apply(&keyed("e", 1000, order(&[(1, 1)])));
    assert_eq!((e.outcome, e.replayed), (Outcome::Ordered(4), false));
    let f = m.apply(&keyed("f", 1000, order(&[(1, 4)])));
    assert!(f.replayed && matches!(f.outcome, Outcome::Rejected(_)), "{f:?}");

    // One key for two orders of a batch never makes two.
    let twice = run(&mut m, &[(Some("g"), 1, 1), (Some("g"), 1, 1)]);
    assert_eq!((twice.refused[0].position, &twice.refused[0].why), (1, &Rejection::KeyReused));
    m.assert_sound();
}

#[test]
fn a_batch_that_is_refused_all_over_tells_so_much_and_forgets_nothing_that_was_placed() {
    let mut m = Machine::memory();
    m.run(put(1, 1, 10));
    m.apply(&keyed("last", 1000, order(&[(1, 1)])));
    let mut orders: Vec<_> = (0..100).map(|_| (None, 99, 1)).collect();
    orders.push((Some("last"), 1, 1));
    let outcome = batch_outcome(m.run(Command::PlaceOrders(batch(&orders))));
    assert_eq!((outcome.count, outcome.refused.len()), (101, REFUSALS_TOLD_MAX));
    assert_eq!(outcome.results().last(), Some(BatchResult::Replayed(1)));
    assert_eq!(outcome.results().nth(16), Some(BatchResult::NotApplied));
}

#[test]
fn orders_under_the_key_of_their_batch_replay_each_and_are_refused_together() {
    let mut m = Machine::memory();
    m.run(put(1, 1, 5));
    let run = |m: &mut Machine, orders: &[(Option<&str>, u64, u64)], key: &str| -> Vec<Applied> {
        let burst = batch(orders).separately(Some(key)).into_iter();
        burst.map(|(key, command)| m.apply(&Proposal { stamp_ms: 1000, key, command })).collect()
    };
    let three = [(None, 1, 3), (None, 1, 3), (None, 1, 2)];
    let first = run(&mut m, &three, "k");
    assert_eq!(first[0].outcome, Outcome::Ordered(1));
    assert!(matches!(first[1].outcome, Outcome::Rejected(Rejection::OutOfStock { .. })));
    assert_eq!(first[2].outcome, Outcome::Ordered(2), "one for itself does not mind the others");
    m.run(put(1, 1, 50));
    let again = run(&mut m, &three, "k");
    for (again, first) in again.into_iter().zip(first) {
        assert_eq!(again, Applied { replayed: true, ..first });
    }

    // The key with more orders, with others, atomically, or for something else altogether.
    let before = m.working.state().order_count();
    let reused = Outcome::Rejected(Rejection::KeyReused);
    let four = [(None, 1, 3), (None, 1, 3), (None, 1, 2), (None, 1, 1)];
    for other in [&four[..], &four[..1]] {
        assert!(run(&mut m, other, "k").iter().all(|applied| applied.outcome == reused));
    }
    assert_eq!(m.apply(&keyed("k", 1000, Command::PlaceOrders(batch(&three)))).outcome, reused);
    m.apply(&keyed("single", 1000, order(&[(1, 1)])));
    m.apply(&keyed("atomic", 1000, Command::PlaceOrders(batch(&three))));
    for key in ["single", "atomic"] {
        assert!(run(&mut m, &three, key).iter().all(|applied| applied.outcome == reused), "{key}");
    }
    assert_eq!(m.working.state().order_count(), before + 4);
    m.assert_sound();
}

#[test]
fn batches_with_many_keys_do_not_outgrow_the_limit() {
    let mut m = Machine::memory();
    m.run(put(1, 1, 1_000_000));
    m.run(Command::SetPolicy(Policy { key_limit: 100, ..Policy::default() }));
    for round in 0..5 {
        let keys: Vec<String> = (0..90).map(|n| format!("{round}-{n}")).collect();
        let orders: Vec<_> = keys.iter().map(|key| (Some(key.as_str()), 1, 1)).collect();
        m.run(Command::PlaceOrders(batch(&orders)));
        assert!(m.working.state().key_count() <= 100);
    }
    m.assert_sound();
}

#[test]
fn keys_are_forgotten_by_log_time_and_by_number_oldest_first() {
    let mut m = Machine::memory();
    m.run(put(1, 1, 1000));
    let policy = Policy { key_retention_ms: 100, key_limit: 3, ..Policy::default() };
    m.apply(&Proposal { stamp_ms: 0, key: None, command: Command::SetPolicy(policy) });
    let base = m.working.state().log_time_ms();
    let buy = |m: &mut Machine, key: &str, at| m.apply(&keyed(key, base + at, order(&[(1, 1)])));
    buy(&mut m, "a", 0);
    assert!(buy(&mut m, "a", 99).replayed);
    assert!(!buy(&mut m, "a", 100).replayed, "after the retention it is a new request");
    for key in ["b", "c", "d"] {
        buy(&mut m, key, 101);
    }
    assert_eq!(m.working.state().key_count(), 3, "the limit holds");
    assert!(!buy(&mut m, "a", 102).replayed, "the oldest went first");
    assert!(buy(&mut m, "d", 102).replayed);
    // A leader's clock that jumps back does not bring time back.
    assert!(!buy(&mut m, "e", 500).replayed);
    assert!(buy(&mut m, "e", 0).replayed);
    m.assert_sound();
}

#[test]
fn node_ids_are_never_handed_out_twice() {
    let mut m = Machine::memory();
    let reserve = |at_least| Command::ReserveNodeId { at_least };
    assert_eq!(m.run(reserve(4)), Outcome::NodeId(4));
    assert_eq!(m.run(reserve(4)), Outcome::NodeId(5));
    assert_eq!(m.run(reserve(1)), Outcome::NodeId(6));
    assert_eq!(m.run(reserve(9)), Outcome::NodeId(9));
}

/// A random proposal to a machine over few items and few keys, so that everything collides.
fn random_proposal(m: &Machine, random: &mut ChaCha8Rng, now: &mut u64) -> Proposal {
    *now += random.random_range(0..50);
    let item = random.random_range(1..40u64);
    let command = match random.random_range(0..30) {
        0 => put(item, random.random_range(1..1000), random.random_range(0..30)),
        1 => Command::ChangeStock(ChangeStock {
            item,
            change: match random.random_bool(0.5) {
                true => StockChange::Delta(random.random_range(-20..20)),
                false => StockChange::Set(random.random_range(0..20)),
            },
            reason: StockReason::Count,
            reference: random.random_bool(0.5).then(|| "why".to_owned()),
            precondition: Precondition::None,
        }),
        2 if random.random_bool(0.2) => Command::Restock,
        3 if random.random_bool(0.05) => Command::SetPolicy(Policy {
            key_retention_ms: random.random_range(1..20_000),
            key_limit: random.random_range(1..3000),
            change_history: random.random_range(0..6000),
            price_history: random.random_range(1..4),
            reservation_limit: random.random_range(0..300),
            reservation_history: random.random_range(0..200),
            ..Policy::default()
        }),
        _ if m.working.state().maintenance() && random.random_bool(0.3) => {
            Command::SetMaintenance(false)
        }
        7..14 => {
            let kind = random.random_range(0..any::KINDS);
            let (pieces, other) = (random.random_range(1..6), random.random_range(1..40));
            // The policy is set above: with bounds that let much come together.
            let kind = if kind == any::SETS_POLICY { any::KINDS } else { kind };
            any::command(m, any::Step::plain(kind, item, pieces, other))
        }
        4 | 5 => {
            // Keys as those below, so that orders meet alone and in batches.
            let own_keys = random.random_bool(0.5);
            let orders = (0..random.random_range(1..8)).map(|_| {
                let order = plain_order(&[(random.random_range(1..40), 1)]);
                let key = format!("key {}", random.random_range(0..6000));
                let claim = KeyClaim::new(&key, &Command::PlaceOrder(order.clone()));
                BatchOrder { key: own_keys.then_some(claim), order }
            });
            Command::PlaceOrders(PlaceOrders { orders: orders.collect() })
        }
        6 => {
            let key = format!("key {}", random.random_range(0..6000));
            let item = random.random_range(1..40);
            let burst = batch(&[(None, item, 1), (None, item, 1)]).separately(Some(&key));
            let (key, command) = burst.into_iter().next_back().unwrap();
            return Proposal { stamp_ms: *now, key, command };
        }
        _ => {
            let lines = random.random_range(1..4);
            let lines: Vec<_> = (0..lines)
                .map(|_| (random.random_range(1..40), random.random_range(1..4)))
                .collect();
            order(&lines)
        }
    };
    let key = random
        .random_bool(0.7)
        .then(|| KeyClaim::new(&format!("key {}", random.random_range(0..6000)), &command));
    Proposal { stamp_ms: now.saturating_sub(random.random_range(0..100)), key, command }
}

/// A history of a seed: mostly proposals, now and then an entry that carries nothing.
fn history(seed: u64, entries: usize) -> Vec<Option<Proposal>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut now = 1_000_000;
    let mut m = Machine::memory();
    let mut history = Vec::with_capacity(entries);
    for _ in 0..entries {
        let proposes = random.random_bool(0.98);
        let entry = proposes.then(|| random_proposal(&m, &mut random, &mut now));
        feed(&mut m, std::slice::from_ref(&entry));
        history.push(entry);
    }
    history
}

fn feed(m: &mut Machine, entries: &[Option<Proposal>]) -> Vec<Option<Applied>> {
    entries
        .iter()
        .map(|entry| match entry {
            Some(proposal) => Some(m.apply(proposal)),
            None => {
                let index = m.working.state().applied().map_or(0, |index| index + 1);
                apply_blank(&mut m.working, index);
                None
            }
        })
        .collect()
}

fn fingerprint(m: &Machine) -> (u128, Vec<(u64, u128)>) {
    (m.working.state().state_hash(), m.working.state().hash_ring().collect())
}

/// The same entries give the same outcomes and the same hash, however often the state was
/// checkpointed, thrown away and loaded, exported and imported on the way, on either engine.
#[test]
fn a_history_gives_one_state_however_it_is_cut() {
    for seed in 0..6 {
        let entries = history(seed, 7000);
        let mut plain = Machine::memory();
        let outcomes = feed(&mut plain, &entries);
        plain.assert_sound();

        let dir = tempfile::tempdir().unwrap();
        let volumes: [Arc<dyn Volume>; 2] = [
            Arc::new(MemoryVolume::new()),
            Arc::new(DirVolume::open(dir.path(), 8 << 20).unwrap()),
        ];
        for volume in volumes {
            let mut random = ChaCha8Rng::seed_from_u64(seed ^ 77);
            let (mut m, origin) = Machine::open(volume);
            assert_eq!(origin, Origin::Empty);
            let mut at = 0;
            while at < entries.len() {
                let next = (at + random.random_range(1..1500)).min(entries.len());
                assert_eq!(feed(&mut m, &entries[at..next]), outcomes[at..next], "seed {seed}");
                at = next;
                match random.random_range(0..4) {
                    0 => m.checkpoint(),
                    1 => {
                        // A crash: back to the last checkpoint, and the log replays the rest.
                        let volume = m.volume.clone();
                        drop(m);
                        m = Machine::open(volume).0;
                        at = m
                            .working
                            .state()
                            .applied()
                            .map_or(0, |i| usize::try_from(i).unwrap() + 1);
                        m.assert_sound();
                    }
                    2 => {
                        let (file, _) =
                            store::build_snapshot(&*m.volume, &m.view(), &mut || {}).unwrap();
                        m.install(&file);
                    }
                    _ => {}
                }
            }
            assert_eq!(fingerprint(&m), fingerprint(&plain), "seed {seed}");
            m.assert_sound();
            // Orders that left memory are the same as those that did not.
            for id in 1..=plain.working.state().order_count() {
                assert_eq!(m.view().order(id).unwrap(), plain.view().order(id).unwrap());
            }
        }
    }
}

#[test]
fn pages_of_orders_cross_from_the_engine_into_memory() {
    let mut m = Machine::memory();
    m.run(put(1, 1, 1_000_000));
    for _ in 0..9000 {
        m.run(order(&[(1, 1)]));
    }
    m.checkpoint();
    let view = m.view();
    let mut after = None;
    let mut seen = Vec::new();
    loop {
        let page = view.orders(&OrderFilter::default(), after, 1000).unwrap();
        seen.extend(page.rows.iter().map(|order| order.id));
        match page.next_after {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert!(seen.into_iter().eq(1..=9000));
    assert_eq!(view.order(0).unwrap(), None);
    assert_eq!(view.order(9001).unwrap(), None);
    assert_eq!(view.orders(&OrderFilter::default(), Some(u64::MAX), 10).unwrap().rows, []);
}

#[test]
fn a_snapshot_that_is_cut_or_changed_anywhere_is_refused() {
    let mut m = Machine::memory();
    feed(&mut m, &history(3, 300));
    let (file, _) = store::build_snapshot(&*m.volume, &m.view(), &mut || {}).unwrap();
    let bytes = pygmy_storage::volume::read_file(&*m.volume, &file).unwrap().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let before = fingerprint(&m);
    for round in 0..400 {
        let mut damaged = bytes.clone();
        if round % 2 == 0 {
            damaged.truncate(random.random_range(0..bytes.len()));
        } else {
            let bit = random.random_range(0..bytes.len() * 8);
            damaged[bit / 8] ^= 1 << (bit % 8);
        }
        pygmy_storage::volume::write_file(&*m.volume, "incoming", &damaged).unwrap();
        let error = m.store.install("incoming", &mut || ()).unwrap_err();
        assert!(error.is_damage(), "{error}");
    }
    assert_eq!(fingerprint(&m), before);
    m.assert_sound();
}

#[test]
fn a_snapshot_replaces_and_never_merges() {
    let mut full = Machine::memory();
    feed(&mut full, &history(1, 2000));
    full.checkpoint();
    let mut small = Machine::memory();
    small.run(put(7, 1, 1));
    let (file, _) = store::build_snapshot(&*small.volume, &small.view(), &mut || {}).unwrap();
    let bytes = pygmy_storage::volume::read_file(&*small.volume, &file).unwrap().unwrap();
    pygmy_storage::volume::write_file(&*full.volume, "incoming", &bytes).unwrap();
    let view = full.store.install("incoming", &mut || ()).unwrap();
    assert_eq!(view.state.state_hash(), small.working.state().state_hash());
    assert_eq!((view.state.item_count(), view.state.order_count()), (1, 0));
    assert_eq!(view.state.key_count(), 0);
    let (again, origin) = Machine::open(full.volume.clone());
    assert_eq!(origin, Origin::Checkpoint);
    assert_eq!(again.working.state().state_hash(), small.working.state().state_hash());
}

#[test]
fn a_damaged_state_database_is_rebuilt_from_the_snapshot_and_told() {
    let volume = MemoryVolume::new();
    let (mut m, _) = Machine::open(Arc::new(volume.clone()));
    feed(&mut m, &history(2, 1000));
    store::build_snapshot(&*m.volume, &m.view(), &mut || {}).unwrap();
    let at_snapshot = m.working.state().state_hash();
    m.run(put(1, 1, 1));
    m.checkpoint();
    let engine = volume.engine("state-0000000001").unwrap();
    let key = pygmy_storage::key::Key::ItemPage(0).encode(0);
    engine.corrupt(&key, vec![1; 40]);
    let (m, origin) = Machine::open(Arc::new(volume.clone()));
    let Origin::Snapshot { damage } = origin else { panic!("{origin:?}") };
    assert!(damage[0].contains("checksum"), "{damage:?}");
    assert_eq!(m.working.state().state_hash(), at_snapshot);

    // And with no snapshot either, it says that something was lost.
    for file in volume.files().unwrap() {
        volume.corrupt_file(&file, b"rubbish".to_vec());
    }
    let name = volume.engines().unwrap().pop().unwrap();
    volume.engine(&name).unwrap().corrupt(&key, vec![1; 40]);
    let (m, origin) = Machine::open(Arc::new(volume));
    assert!(matches!(origin, Origin::Lost { .. }), "{origin:?}");
    assert_eq!(m.working.state().applied(), None);
}

#[test]
fn a_power_cut_in_any_checkpoint_leaves_the_one_before_or_this_one() {
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let entries = history(4, 3000);
    for _ in 0..20 {
        let volume = MemoryVolume::new();
        let (mut m, _) = Machine::open(Arc::new(volume.clone()));
        let first = random.random_range(1..1500);
        let second = random.random_range(first..3000);
        feed(&mut m, &entries[..first]);
        m.checkpoint();
        let before = m.working.state().state_hash();
        feed(&mut m, &entries[first..second]);
        let engine = volume.engine("state-0000000001").unwrap();
        engine.fail_next_syncs(1);
        assert!(m.store.checkpoint(m.working.state(), &m.dirty, &mut || ()).is_err());
        let after = m.working.state().state_hash();
        volume.power_cut(|unsynced| random.random_range(0..=unsynced));
        let (m, origin) = Machine::open(Arc::new(volume));
        assert_eq!(origin, Origin::Checkpoint);
        assert!([before, after].contains(&m.working.state().state_hash()));
        m.assert_sound();
    }
}

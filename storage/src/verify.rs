//! Derives everything that is derived a second time, and compares.
//!
//! Equal hashes on all replicas say that they agree, not that they are right: a bug that is the same
//! everywhere has the same hash everywhere. So stock is counted again from the ledger and the
//! orders, what is reserved from the reservations, totals from the lines, the key table from its
//! records, the changes from what they tell of, and the hash from every record there is. What hangs
//! off the state (the index of the keys) is built from it at every load. A check that could not
//! finish is an error, never a pass.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    catalog::{Item, ItemId, LedgerRow, StockReason},
    changes::{Change, ChangeKind, ChangeWhat},
    chunk_index::{Indexed, Summaries, Summary},
    command::{LogIndex, Outcome},
    error::{Error, Result},
    orders::{Cancellation, Order, OrderId},
    query::View,
    reservations::{ReservationId, ReservationStatus},
    sequence::{CHUNK_ROWS, Chunk, Sequence},
    state::{Kind, StateHash, record_hash},
};

/// One check and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// What was counted.
    pub counted: String,
    /// What is wrong, the first few things.
    pub wrong: Vec<String>,
}

/// The most faults told of one check.
const TOLD_MAX: usize = 10;

struct Findings {
    wrong: Vec<String>,
}

impl Findings {
    fn new() -> Self {
        Self { wrong: Vec::new() }
    }

    fn expect(&mut self, holds: bool, told: impl FnOnce() -> String) {
        if !holds && self.wrong.len() < TOLD_MAX {
            self.wrong.push(told());
        }
    }

    fn into_check(self, name: &'static str, counted: String) -> Check {
        Check { name, counted, wrong: self.wrong }
    }
}

/// What the history says of an item.
#[derive(Default, Clone, Copy)]
struct Tally {
    /// In the life of the item that is there now.
    received: i128,
    sold: i128,
    written_off: i128,
    /// What all lives together leave, which is what the present one has.
    left: i128,
}

/// What was derived so far, from the records read so far.
#[derive(Default)]
struct Derived {
    hash: StateHash,
    tallies: BTreeMap<ItemId, Tally>,
    cancellations: BTreeMap<OrderId, Arc<Cancellation>>,
    /// The orders that are cancelled.
    cancelled: BTreeMap<OrderId, Arc<Order>>,
    /// The orders that came of reservations.
    confirmed: BTreeMap<ReservationId, Arc<Order>>,
    /// What the changes that are kept tell of.
    changes: Told,
}

/// What changes tell of.
#[derive(Default)]
struct Told {
    /// The newest change of each item.
    items: BTreeMap<ItemId, Change>,
    placed: Vec<(OrderId, LogIndex)>,
    cancelled: BTreeMap<OrderId, LogIndex>,
    /// The newest change of each reservation.
    reservations: BTreeMap<ReservationId, Change>,
}

/// Checks a view. Reads all of its history.
///
/// Errors: besides faults, [`Error::Gone`] for a view that is too old; see [`View::pin`].
pub fn verify(view: &View) -> Result<Vec<Check>> {
    let _pin = view.pin()?;
    let mut derived = Derived::default();
    let mut summed = Findings::new();
    let mut checks = vec![
        check_changes(view, &mut derived)?,
        check_cancellations(view, &mut derived)?,
        check_orders(view, &mut derived, &mut summed)?,
        check_ledger(view, &mut derived, &mut summed)?,
        check_items(view, &mut derived),
        check_reservations(view, &mut derived),
        check_prices(view, &mut derived),
        check_lists(view),
        check_keys(view, &mut derived.hash),
        check_hash(view, &derived.hash),
    ];
    let index = view.history.index();
    let counted = format!("{} summaries", index.orders().len() + index.ledger().len());
    checks.push(summed.into_check("summaries of the history's chunks", counted));
    Ok(checks)
}

fn check_hash(view: &View, hash: &StateHash) -> Check {
    let mut findings = Findings::new();
    findings.expect(*hash == view.state.hash, || {
        format!("the records add up to {hash:?}, the running hash is {:?}", view.state.hash)
    });
    findings.into_check("state hash", format!("{:032x}", view.state.state_hash()))
}

/// Shows every row of a history that never loses one: packed first, then those in memory.
fn each_row<T>(
    sequence: &Sequence<T>,
    mut chunk: impl FnMut(u64) -> Result<Arc<Chunk<T>>>,
    mut see: impl FnMut(&Arc<T>),
) -> Result<()> {
    for number in 0..sequence.base() / CHUNK_ROWS {
        chunk(number)?.rows.iter().for_each(&mut see);
    }
    sequence.from(0).for_each(see);
    Ok(())
}

fn check_changes(view: &View, derived: &mut Derived) -> Result<Check> {
    let mut findings = Findings::new();
    let log = &view.state.changes;
    let (mut count, mut index) = (0, log.complete_after());
    let mut sums: Vec<u128> = Vec::new();
    let mut see = |change: &Arc<Change>| {
        findings.expect(change.index >= index, || format!("{change:?} is out of order"));
        index = change.index;
        let hash = record_hash(Kind::Change, change);
        derived.hash.changes = derived.hash.changes.wrapping_add(hash);
        match sums.last_mut() {
            Some(sum) if count % CHUNK_ROWS != 0 => *sum = sum.wrapping_add(hash),
            Some(_) | None => sums.push(hash),
        }
        count += 1;
        // Of the index that the forgotten ones end with, only some may be left.
        if change.index > log.complete_after() {
            derived.changes.see(change);
        }
    };
    for number in log.first_chunk()..log.rows.base() / CHUNK_ROWS {
        let chunk = view.history.change_chunk(number)?;
        let chunk = chunk.ok_or(Error::Gone { what: "the change history" })?;
        chunk.rows.iter().for_each(&mut see);
    }
    log.rows.from(0).for_each(&mut see);
    findings
        .expect(count == log.count(), || format!("{count} changes found, {} counted", log.count()));
    findings.expect(log.has_sums(&sums), || "the sums over the chunks are others".to_owned());
    Ok(findings.into_check("changes: in order, sums", format!("{count} changes")))
}

impl Told {
    fn see(&mut self, change: &Change) {
        match (change.kind, change.what) {
            (ChangeKind::Item, _) => {
                self.items.insert(change.id, *change);
            }
            (ChangeKind::Order, ChangeWhat::Cancelled) => {
                self.cancelled.insert(change.id, change.index);
            }
            (ChangeKind::Order, _) => self.placed.push((change.id, change.index)),
            (ChangeKind::Reservation, _) => {
                self.reservations.insert(change.id, *change);
            }
            (ChangeKind::Policy, _) => {}
        }
    }
}

fn check_cancellations(view: &View, derived: &mut Derived) -> Result<Check> {
    let mut findings = Findings::new();
    let state = &view.state;
    let complete_after = state.changes.complete_after();
    let (mut rows, mut index) = (0, 0);
    let read = |number| view.history.cancellation_chunk(number).map(Arc::new);
    each_row(&state.cancellations, read, |cancellation| {
        let order = cancellation.order;
        findings.expect(cancellation.index >= index, || {
            format!("the cancellation of order {order} is out of order")
        });
        index = cancellation.index;
        findings.expect(state.cancelled.get(&order) == Some(&rows), || {
            format!("the cancellation of order {order} is in row {rows}, and not found there")
        });
        let told = derived.changes.cancelled.remove(&order);
        let expected = (index > complete_after).then_some(index);
        findings.expect(told == expected, || {
            format!("order {order} was cancelled at {index}, the changes say {told:?}")
        });
        let twice = derived.cancellations.insert(order, cancellation.clone()).is_some();
        findings.expect(!twice, || format!("order {order} is cancelled twice"));
        let hash = record_hash(Kind::Cancellation, cancellation);
        derived.hash.cancellations = derived.hash.cancellations.wrapping_add(hash);
        rows += 1;
    })?;
    findings.expect(rows == state.cancellations.next(), || {
        format!("{rows} cancellations found, {} counted", state.cancellations.next())
    });
    findings.expect(rows == state.cancelled.len() as u64, || {
        format!("{rows} cancellations found, {} listed", state.cancelled.len())
    });
    for order in derived.changes.cancelled.keys() {
        findings.expect(false, || format!("a change says that order {order} was cancelled"));
    }
    Ok(findings.into_check("cancellations", format!("{rows} orders")))
}

fn check_orders(view: &View, derived: &mut Derived, summed: &mut Findings) -> Result<Check> {
    let mut findings = Findings::new();
    let state = &view.state;
    let complete_after = state.changes.complete_after();
    let mut told = std::mem::take(&mut derived.changes.placed).into_iter();
    let (mut expected, mut index) = (0, 0);
    let summaries = view.history.index().orders();
    each_row(
        &state.orders,
        |number| {
            let chunk = view.history.order_chunk(number)?;
            check_summary(&chunk, &summaries, summed);
            Ok(chunk)
        },
        |order| {
            expected += 1;
            let id = order.id;
            findings.expect(id == expected, || format!("order {id} is in row {expected}"));
            findings.expect(order.index >= index, || format!("order {id} is out of order"));
            index = order.index;
            let mut total: u128 = 0;
            for line in &order.lines {
                findings.expect(line.quantity > 0, || format!("order {id} has an empty line"));
                total += u128::from(line.quantity) * u128::from(line.unit_price_cents);
                let tally = derived.tallies.entry(line.item).or_default();
                tally.left -= i128::from(line.quantity);
                if lives_since(view, line.item, index) {
                    tally.sold += i128::from(line.quantity);
                }
            }
            findings.expect(total == u128::from(order.total_cents), || {
                format!("order {id} has total {}, its lines {total}", order.total_cents)
            });
            if index > complete_after {
                let told = told.next();
                findings.expect(told == Some((id, index)), || {
                    format!("order {id} was placed at {index}, the changes say {told:?}")
                });
            }
            if let Some(cancellation) = derived.cancellations.get(&id) {
                findings.expect(cancellation.index > index, || {
                    format!("order {id} was cancelled before it was placed")
                });
                derived.cancelled.insert(id, order.clone());
            }
            if let Some(reservation) = order.reservation {
                let twice = derived.confirmed.insert(reservation, order.clone()).is_some();
                findings.expect(!twice, || format!("reservation {reservation} was sold twice"));
            }
            derived.hash.orders = derived.hash.orders.wrapping_add(record_hash(Kind::Order, order));
        },
    )?;
    findings.expect(expected == state.orders.next(), || {
        format!("{expected} orders found, {} counted", state.orders.next())
    });
    findings.expect(told.next().is_none(), || "changes speak of more orders".to_owned());
    for order in derived.cancellations.keys().filter(|id| !derived.cancelled.contains_key(id)) {
        findings.expect(false, || format!("order {order} is cancelled, and does not exist"));
    }
    Ok(findings.into_check("orders: dense, totals", format!("{expected} orders")))
}

/// Whether an index is in the life of the item that has this number now.
fn lives_since(view: &View, item: ItemId, index: LogIndex) -> bool {
    view.item(item).is_some_and(|item| item.created_index <= index)
}

fn check_ledger(view: &View, derived: &mut Derived, summed: &mut Findings) -> Result<Check> {
    let mut findings = Findings::new();
    let mut rows = 0;
    // What came back of cancelled orders, to be found once each.
    let mut returns: BTreeSet<(OrderId, ItemId)> = BTreeSet::new();
    let summaries = view.history.index().ledger();
    let read = |number| {
        let chunk = view.history.ledger_chunk(number)?;
        check_summary(&chunk, &summaries, summed);
        Ok(chunk)
    };
    each_row(&view.state.ledger, read, |row: &Arc<LedgerRow>| {
        rows += 1;
        let tally = derived.tallies.entry(row.item).or_default();
        let delta = i128::from(row.delta);
        tally.left += delta;
        if lives_since(view, row.item, row.index) {
            match (row.reason, delta >= 0) {
                (StockReason::Cancelled, _) => tally.sold -= delta,
                (_, true) => tally.received += delta,
                (_, false) => tally.written_off -= delta,
            }
        }
        findings.expect((row.reason == StockReason::Cancelled) == row.order.is_some(), || {
            format!("the row {row:?} has an order, or none, wrongly")
        });
        if let Some(order) = row.order {
            let sold = derived.cancelled.get(&order).and_then(|order| {
                order.lines.iter().find(|line| line.item == row.item).map(|line| line.quantity)
            });
            let cancelled_at = derived.cancellations.get(&order).map(|c| c.index);
            let right = sold.map(i128::from) == Some(delta) && cancelled_at == Some(row.index);
            let first = returns.insert((order, row.item));
            findings.expect(right && first, || format!("the row {row:?} is not its order's"));
        }
        derived.hash.ledger = derived.hash.ledger.wrapping_add(record_hash(Kind::Ledger, row));
    })?;
    findings.expect(rows == view.state.ledger.next(), || {
        format!("{rows} rows found, {} counted", view.state.ledger.next())
    });
    for (id, order) in &derived.cancelled {
        for line in order.lines.iter().filter(|line| lives_since(view, line.item, order.index)) {
            findings.expect(returns.contains(&(*id, line.item)), || {
                format!("order {id} is cancelled, and item {} did not return", line.item)
            });
        }
    }
    Ok(findings.into_check("ledger: complete", format!("{rows} rows")))
}

fn check_summary<T: Indexed>(chunk: &Chunk<T>, summaries: &Summaries, findings: &mut Findings) {
    let number = usize::try_from(chunk.first / CHUNK_ROWS).unwrap_or(usize::MAX);
    let right = summaries.get(number).is_some_and(|summary| **summary == Summary::of(chunk));
    findings.expect(right, || format!("the summary of rows {} on is not theirs", chunk.first));
}

fn check_items(view: &View, derived: &mut Derived) -> Check {
    let mut findings = Findings::new();
    let complete_after = view.state.changes.complete_after();
    for (id, item) in &view.state.items {
        let tally = derived.tallies.remove(id).unwrap_or_default();
        findings.expect(item.id == *id, || format!("item {id} says it is {}", item.id));
        findings.expect(item.is_consistent(), || {
            format!("item {id}: received is not stock + sold + written off: {item:?}")
        });
        let told = [item.received, item.sold, item.written_off, item.stock];
        let derived_of = [tally.received, tally.sold, tally.written_off, tally.left];
        findings.expect(told.map(i128::from) == derived_of, || {
            format!("item {id} has (received, sold, written off, stock) {told:?}, history {derived_of:?}")
        });
        let change = derived.changes.items.remove(id);
        let told = change.filter(|change| change.what != ChangeWhat::Deleted).map(|c| c.index);
        let expected = (item.version > complete_after).then_some(item.version);
        findings.expect(told == expected, || {
            format!("item {id} changed at {}, the changes say {change:?}", item.version)
        });
        derived.hash.items = derived.hash.items.wrapping_add(record_hash(Kind::Item, item));
    }
    for (id, tally) in &derived.tallies {
        findings.expect(tally.left == 0, || {
            format!("history leaves {} pieces of item {id}, which does not exist", tally.left)
        });
    }
    for change in derived.changes.items.values() {
        findings.expect(change.what == ChangeWhat::Deleted, || {
            format!("{change:?} speaks of an item that does not exist")
        });
    }
    let counted = format!("{} items", view.state.items.len());
    findings.into_check("stock: received = stock + sold + written off", counted)
}

fn check_reservations(view: &View, derived: &mut Derived) -> Check {
    let mut findings = Findings::new();
    let state = &view.state;
    let complete_after = state.changes.complete_after();
    let mut held: BTreeMap<ItemId, u128> = BTreeMap::new();
    let (mut expiries, mut ended) = (BTreeSet::new(), BTreeSet::new());
    for (id, row) in &state.reservations {
        findings.expect(row.id == *id && (1..=state.reservation_count).contains(id), || {
            format!("reservation {id} says it is {} of {}", row.id, state.reservation_count)
        });
        let lines = row.lines.iter();
        let total: u128 =
            lines.map(|l| u128::from(l.quantity) * u128::from(l.unit_price_cents)).sum();
        findings.expect(total == u128::from(row.total_cents), || {
            format!("reservation {id} has total {}, its lines {total}", row.total_cents)
        });
        let holds = row.status == ReservationStatus::Held;
        findings.expect(holds == row.ended.is_none(), || {
            format!("reservation {id} is {}, and ended at {:?}", row.status.as_str(), row.ended)
        });
        match row.ended {
            None => expiries.insert((row.expires_ms, *id)),
            Some((index, _)) => ended.insert((index, *id)),
        };
        for line in row.lines.iter().filter(|_| holds) {
            *held.entry(line.item).or_default() += u128::from(line.quantity);
        }
        let order = derived.confirmed.get(id).filter(|order| order.lines == row.lines);
        findings.expect(order.map(|order| order.id) == row.status.order(), || {
            format!("reservation {id} is {:?}, of the orders came of it {order:?}", row.status)
        });
        let newest = row.ended.map_or(row.index, |(index, _)| index);
        let told = derived.changes.reservations.remove(id).map(|change| change.index);
        findings.expect(told == (newest > complete_after).then_some(newest), || {
            format!("reservation {id} changed at {newest}, the changes say {told:?}")
        });
        let hash = record_hash(Kind::Reservation, row);
        derived.hash.reservations = derived.hash.reservations.wrapping_add(hash);
    }
    for (id, item) in &state.items {
        let held = held.remove(id).unwrap_or(0);
        findings.expect(held == u128::from(item.reserved), || {
            format!("of item {id} {} pieces are reserved, {held} are held", item.reserved)
        });
    }
    for item in held.keys() {
        findings.expect(false, || format!("item {item} is held, and does not exist"));
    }
    findings.expect(expiries.iter().eq(state.expiries.iter()), || {
        "the list of what expires is not what the reservations say".to_owned()
    });
    findings.expect(ended.iter().eq(state.ended.iter()), || {
        "the list of what ended is not what the reservations say".to_owned()
    });
    let early = expiries.iter().take_while(|(at_ms, _)| *at_ms <= state.log_time_ms).count();
    findings.expect(early == 0, || format!("{early} reservations hold though their time is up"));
    for change in derived.changes.reservations.values() {
        findings.expect(change.what != ChangeWhat::Created, || {
            format!("{change:?} speaks of a reservation that is not there")
        });
    }
    for id in derived.confirmed.keys() {
        findings.expect((1..=state.reservation_count).contains(id), || {
            format!("an order says it came of reservation {id}, which never was")
        });
    }
    let counted = format!("{} held, {} ended", expiries.len(), ended.len());
    findings.into_check("reservations: reserved is what they hold", counted)
}

fn check_prices(view: &View, derived: &mut Derived) -> Check {
    let mut findings = Findings::new();
    for (id, prices) in &view.state.prices {
        let item = view.item(*id);
        let last = prices.spans.last().map(|span| span.price_cents);
        findings.expect(last.is_some() && last == item.map(|item| item.price_cents), || {
            format!("item {id} costs {last:?} by its prices, and is {item:?}")
        });
        let born = item.map_or(0, |item| item.created_index);
        let begins = prices.spans.first().is_some_and(|span| span.index >= born);
        let ordered = prices.spans.windows(2).all(|two| {
            two[0].from_ms <= two[1].from_ms
                && two[0].index <= two[1].index
                && two[0].price_cents != two[1].price_cents
        });
        findings.expect(begins && ordered, || format!("the prices of item {id}: {prices:?}"));
        derived.hash.prices = derived.hash.prices.wrapping_add(prices.hash(*id));
    }
    findings.into_check("prices", format!("{} items", view.state.prices.len()))
}

fn check_lists(view: &View) -> Check {
    let mut findings = Findings::new();
    let state = &view.state;
    let mut listed = 0;
    for (topic, ids) in &state.topics {
        listed += ids.len();
        for id in ids {
            let right = state.items.get(id).is_some_and(|item: &Arc<Item>| item.topic == *topic);
            findings.expect(right, || format!("item {id} is listed under {topic:?} wrongly"));
        }
    }
    findings.expect(listed == state.items.len(), || {
        format!("{listed} items are listed under topics, {} exist", state.items.len())
    });
    let sold_out = state.items.iter().filter(|(_, item)| item.stock == 0).map(|(id, _)| id);
    findings.expect(sold_out.eq(state.sold_out.iter()), || {
        "the list of sold-out items is not what the items say".to_owned()
    });
    findings.into_check("topics and sold-out items", format!("{} topics", state.topics.len()))
}

fn check_keys(view: &View, hash: &mut StateHash) -> Check {
    let mut findings = Findings::new();
    let state = &view.state;
    let mut at_ms = 0;
    for record in state.keys.from(0) {
        let mut made = |id: OrderId| {
            findings.expect((1..=state.order_count()).contains(&id), || {
                format!("{:?} says it made order {id}, which does not exist", record.key)
            });
        };
        match &record.outcome {
            Outcome::Ordered(id) => made(*id),
            Outcome::Batch(batch) => batch.orders().for_each(made),
            Outcome::Cancelled(cancellation) => made(cancellation.order),
            Outcome::Item(_)
            | Outcome::Restocked(_)
            | Outcome::PolicySet
            | Outcome::NodeId(_)
            | Outcome::Rejected(_)
            | Outcome::Deleted { .. }
            | Outcome::Imported(_)
            | Outcome::Reservation(_)
            | Outcome::MaintenanceSet(_)
            | Outcome::Ticked => {}
        }
        findings.expect(record.at_ms >= at_ms, || {
            format!("{:?} is older than the record before it", record.key)
        });
        at_ms = record.at_ms;
        hash.keys = hash.keys.wrapping_add(record_hash(Kind::Key, record));
    }
    findings.into_check("idempotency records", format!("{} records", state.key_count()))
}

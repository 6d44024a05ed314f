//! Derives everything that is derived a second time, and compares.
//!
//! Equal hashes on all replicas say that they agree, not that they are right: a bug that is the same
//! everywhere has the same hash everywhere. So stock is counted again from the ledger and the
//! orders, totals from the lines, the key table from its records, and the hash from every record
//! there is. What hangs off the state (the index of the keys) is built from it at every load. A check that could not finish is an error, never a pass.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    catalog::{Item, ItemId},
    command::Outcome,
    error::Result,
    orders::{Order, OrderId},
    query::View,
    sequence::CHUNK_ROWS,
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

/// What the ledger and the orders say of an item.
#[derive(Default, Clone, Copy)]
struct Tally {
    received: u128,
    sold: u128,
    written_off: u128,
}

/// Checks a view. Reads all of its history.
pub fn verify(view: &View) -> Result<Vec<Check>> {
    let mut tallies: BTreeMap<ItemId, Tally> = BTreeMap::new();
    let mut hash = StateHash::default();
    let orders = check_orders(view, &mut tallies, &mut hash)?;
    let ledger = check_ledger(view, &mut tallies, &mut hash)?;
    let items = check_items(view, &tallies, &mut hash);
    let derived = check_derived(view);
    let keys = check_keys(view, &mut hash);
    let mut sums = Findings::new();
    sums.expect(hash == view.state.hash, || {
        format!("the records add up to {hash:?}, the running hash is {:?}", view.state.hash)
    });
    let counted = format!("{:032x}", view.state.state_hash());
    Ok(vec![orders, ledger, items, derived, keys, sums.into_check("state hash", counted)])
}

fn check_orders(
    view: &View,
    tallies: &mut BTreeMap<ItemId, Tally>,
    hash: &mut StateHash,
) -> Result<Check> {
    let mut findings = Findings::new();
    let mut expected = 0;
    let mut index = 0;
    let mut see = |order: &Arc<Order>| {
        expected += 1;
        findings
            .expect(order.id == expected, || format!("order {} is in row {expected}", order.id));
        findings.expect(order.index >= index, || format!("order {} is out of order", order.id));
        index = order.index;
        let mut total: u128 = 0;
        for line in &order.lines {
            findings.expect(line.quantity > 0, || format!("order {} has an empty line", order.id));
            total += u128::from(line.quantity) * u128::from(line.unit_price_cents);
            tallies.entry(line.item).or_default().sold += u128::from(line.quantity);
        }
        findings.expect(total == u128::from(order.total_cents), || {
            format!("order {} has total {}, its lines {total}", order.id, order.total_cents)
        });
        hash.orders = hash.orders.wrapping_add(record_hash(Kind::Order, order));
    };
    for number in 0..view.state.orders.base() / CHUNK_ROWS {
        view.history.order_chunk(number)?.rows.iter().for_each(&mut see);
    }
    view.state.orders.from(0).for_each(&mut see);
    findings.expect(expected == view.state.orders.next(), || {
        format!("{expected} orders found, {} counted", view.state.orders.next())
    });
    Ok(findings.into_check("orders: dense, totals", format!("{expected} orders")))
}

fn check_ledger(
    view: &View,
    tallies: &mut BTreeMap<ItemId, Tally>,
    hash: &mut StateHash,
) -> Result<Check> {
    let mut findings = Findings::new();
    let mut rows = 0;
    let mut see = |row: &Arc<crate::catalog::LedgerRow>| {
        rows += 1;
        let tally = tallies.entry(row.item).or_default();
        match row.delta >= 0 {
            true => tally.received += u128::from(row.delta.unsigned_abs()),
            false => tally.written_off += u128::from(row.delta.unsigned_abs()),
        }
        hash.ledger = hash.ledger.wrapping_add(record_hash(Kind::Ledger, row));
    };
    for number in 0..view.state.ledger.base() / CHUNK_ROWS {
        view.history.ledger_chunk(number)?.rows.iter().for_each(&mut see);
    }
    view.state.ledger.from(0).for_each(&mut see);
    findings.expect(rows == view.state.ledger.next(), || {
        format!("{rows} rows found, {} counted", view.state.ledger.next())
    });
    Ok(findings.into_check("ledger: complete", format!("{rows} rows")))
}

fn check_items(view: &View, tallies: &BTreeMap<ItemId, Tally>, hash: &mut StateHash) -> Check {
    let mut findings = Findings::new();
    for (id, item) in &view.state.items {
        let tally = tallies.get(id).copied().unwrap_or_default();
        findings.expect(item.id == *id, || format!("item {id} says it is {}", item.id));
        findings.expect(item.is_consistent(), || {
            format!("item {id}: received is not stock + sold + written off: {item:?}")
        });
        let told = (item.received, item.sold, item.written_off);
        let derived = (tally.received, tally.sold, tally.written_off);
        let same = (u128::from(told.0), u128::from(told.1), u128::from(told.2)) == derived;
        findings.expect(same, || {
            format!("item {id} has (received, sold, written off) {told:?}, history {derived:?}")
        });
        hash.items = hash.items.wrapping_add(record_hash(Kind::Item, item));
    }
    for id in tallies.keys() {
        findings.expect(view.state.items.contains_key(id), || {
            format!("history speaks of item {id}, which does not exist")
        });
    }
    let counted = format!("{} items", view.state.items.len());
    findings.into_check("stock: received = stock + sold + written off", counted)
}

fn check_derived(view: &View) -> Check {
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
            Outcome::Item(_)
            | Outcome::Restocked(_)
            | Outcome::PolicySet
            | Outcome::NodeId(_)
            | Outcome::Rejected(_) => {}
        }
        findings.expect(record.at_ms >= at_ms, || {
            format!("{:?} is older than the record before it", record.key)
        });
        at_ms = record.at_ms;
        hash.keys = hash.keys.wrapping_add(record_hash(Kind::Key, record));
    }
    findings.into_check("idempotency records", format!("{} records", state.key_count()))
}

//! `(State, entry) -> (State, Outcome)`: the only place where a command has an effect.
//!
//! Depends on the state and the entry and on nothing else: no clock, no randomness, no environment,
//! no I/O, no iteration in random order. Every replica runs this over the same entries and must get
//! the same state, whatever the borders of its batches.

mod batch;

use std::sync::Arc;

use crate::{
    catalog::{Item, ItemId, LedgerRow, StockReason},
    command::{
        Applied, ChangeStock, Command, KeyClaim, LogIndex, Outcome, PlaceOrder, Precondition,
        Proposal, PutItem, Rejection, StockChange,
    },
    orders::{KeyRecord, Order, OrderId, OrderLine, OrderStatus},
    state::State,
    working::Working,
};

pub use batch::REFUSALS_TOLD_MAX;

/// The most idempotency records forgotten with an entry that adds few, so that none takes long.
const KEYS_FORGOTTEN_MAX: u64 = 8;
/// Records forgotten for each that an entry adds, where that is more: otherwise batches would outgrow
/// the limit.
const KEYS_FORGOTTEN_FOR_EACH: u64 = 2;

/// What an entry changed, for whoever keeps something that hangs off the state: checkpoints, the
/// change feed. Not part of the state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Items that changed, in the order in which they did.
    pub items: Vec<(LogIndex, ItemId)>,
    /// Orders that were placed.
    pub orders: Vec<(LogIndex, OrderId)>,
}

/// Applies an entry that carries a proposal.
pub fn apply(
    working: &mut Working,
    index: LogIndex,
    proposal: &Proposal,
    effects: &mut Effects,
) -> Applied {
    let state = &mut working.state;
    debug_assert!(state.applied.is_none_or(|applied| applied < index), "entries come in order");
    state.log_time_ms = state.log_time_ms.max(proposal.stamp_ms);
    let keys_before = state.keys.next();
    let applied = match replay_of(working, index, proposal) {
        Some(applied) => applied,
        None => {
            let outcome = execute(working, index, &proposal.command, effects);
            if let Some(claim) = proposal.key {
                remember(working, index, claim, outcome.clone());
            }
            Applied { index, replayed: false, outcome }
        }
    };
    let added = working.state.keys.next() - keys_before;
    forget_keys(working, KEYS_FORGOTTEN_MAX.max(added * KEYS_FORGOTTEN_FOR_EACH));
    working.state.finish_entry(index);
    applied
}

/// Applies an entry that carries nothing for the state: a blank one, a membership change.
pub fn apply_blank(working: &mut Working, index: LogIndex) {
    working.state.finish_entry(index);
}

/// What the proposal's key says of it, if anything.
fn replay_of(working: &Working, index: LogIndex, proposal: &Proposal) -> Option<Applied> {
    if let Some(applied) = proposal.key.and_then(|claim| replay(working, index, &claim)) {
        return Some(applied);
    }
    // The order that carries the batch's own key may have met one that was used already.
    let Command::PlaceOrderOf(one) = &proposal.command else { return None };
    let record = remembered(working, &one.batch)?;
    (record.fingerprint != one.batch.fingerprint).then_some(Applied {
        index,
        replayed: false,
        outcome: Outcome::Rejected(Rejection::KeyReused),
    })
}

/// The record of a key, if it is still remembered.
fn remembered<'a>(working: &'a Working, claim: &KeyClaim) -> Option<&'a Arc<KeyRecord>> {
    working.key(&claim.key).filter(|record| !expired(&working.state, record))
}

/// Remembers what came of a request.
fn remember(working: &mut Working, index: LogIndex, claim: KeyClaim, outcome: Outcome) {
    let KeyClaim { key, fingerprint } = claim;
    let at_ms = working.state.log_time_ms;
    working.push_key(KeyRecord { key, fingerprint, outcome, index, at_ms });
}

/// The outcome of an earlier entry with this key, if it is still remembered.
fn replay(working: &Working, index: LogIndex, claim: &KeyClaim) -> Option<Applied> {
    let record = remembered(working, claim)?;
    let (index, replayed, outcome) = match record.fingerprint == claim.fingerprint {
        true => (record.index, true, record.outcome.clone()),
        false => (index, false, Outcome::Rejected(Rejection::KeyReused)),
    };
    Some(Applied { index, replayed, outcome })
}

fn expired(state: &State, record: &KeyRecord) -> bool {
    record.at_ms.saturating_add(state.policy.key_retention_ms) <= state.log_time_ms
}

/// Forgets records that are over their time or over the limit, oldest first. How many at once
/// depends on the state and the entry alone, so every replica forgets the same ones with it.
fn forget_keys(working: &mut Working, at_most: u64) {
    for _ in 0..at_most {
        let state = &working.state;
        let Some(oldest) = state.keys.get(state.keys.base()) else { return };
        if state.key_count() <= state.policy.key_limit && !expired(state, oldest) {
            return;
        }
        working.pop_key();
    }
}

fn execute(
    working: &mut Working,
    index: LogIndex,
    command: &Command,
    effects: &mut Effects,
) -> Outcome {
    let state = &mut working.state;
    let result = match command {
        Command::PlaceOrder(order) => place_order(state, index, order, effects),
        Command::PlaceOrderOf(one) => place_order(state, index, &one.order, effects),
        Command::PlaceOrders(batch) => Ok(batch::place_orders(working, index, batch, effects)),
        Command::PutItem(put) => put_item(state, index, put, effects),
        Command::ChangeStock(change) => change_stock(state, index, change, effects),
        Command::Restock => Ok(restock(state, index, effects)),
        Command::SetPolicy(policy) => {
            state.policy = policy.clone();
            state.policy_index = Some(index);
            Ok(Outcome::PolicySet)
        }
        Command::ReserveNodeId { at_least } => {
            let id = state.next_node_id.max(*at_least);
            state.next_node_id = id.saturating_add(1);
            Ok(Outcome::NodeId(id))
        }
    };
    result.unwrap_or_else(Outcome::Rejected)
}

/// An order line with the lines of the same item summed.
struct Wanted {
    line: u32,
    item: Arc<Item>,
    quantity: u64,
}

/// What an order comes to, before any of it happens.
struct Plan {
    wanted: Vec<Wanted>,
    total_cents: u64,
}

fn place_order(
    state: &mut State,
    index: LogIndex,
    order: &PlaceOrder,
    effects: &mut Effects,
) -> Result<Outcome, Rejection> {
    let plan = plan(state, order, |_| 0)?;
    // From here on nothing is refused: all of it happens.
    for wanted in &plan.wanted {
        sell(state, index, &wanted.item, wanted.quantity, effects);
    }
    Ok(Outcome::Ordered(book(state, index, order, plan, effects)))
}

/// Checks an order against the stock, less what is `taken` of an item already.
fn plan(
    state: &State,
    order: &PlaceOrder,
    taken: impl Fn(ItemId) -> u64,
) -> Result<Plan, Rejection> {
    let wanted = sum_lines(state, order)?;
    let mut total_cents = 0u64;
    for w in &wanted {
        let available = w.item.available().saturating_sub(taken(w.item.id));
        if w.quantity > available {
            return Err(Rejection::OutOfStock {
                line: w.line,
                item: w.item.id,
                requested: w.quantity,
                available,
            });
        }
        total_cents = w
            .quantity
            .checked_mul(w.item.price_cents)
            .and_then(|cents| cents.checked_add(total_cents))
            .ok_or(Rejection::Overflow)?;
    }
    Ok(Plan { wanted, total_cents })
}

/// Takes pieces of an item that were checked to be there.
fn sell(state: &mut State, index: LogIndex, item: &Item, pieces: u64, effects: &mut Effects) {
    let mut item = Item::clone(item);
    item.sell(pieces).expect("availability was checked in the plan");
    touch(state, index, item, effects);
}

/// Adds the order of a plan, and gives its number.
fn book(
    state: &mut State,
    index: LogIndex,
    order: &PlaceOrder,
    plan: Plan,
    effects: &mut Effects,
) -> OrderId {
    let lines = plan.wanted.into_iter().map(|w| OrderLine {
        item: w.item.id,
        title: w.item.title.clone(),
        quantity: w.quantity,
        unit_price_cents: w.item.price_cents,
    });
    let id = state.order_count() + 1;
    state.push_order(Arc::new(Order {
        id,
        lines: lines.collect(),
        total_cents: plan.total_cents,
        status: OrderStatus::Placed,
        customer: order.customer.as_deref().map(Arc::from),
        reference: order.reference.as_deref().map(Arc::from),
        index,
        placed_ms: state.log_time_ms,
    }));
    effects.orders.push((index, id));
    id
}

fn sum_lines(state: &State, order: &PlaceOrder) -> Result<Vec<Wanted>, Rejection> {
    let mut wanted: Vec<Wanted> = Vec::with_capacity(order.lines.len());
    for (line, asked) in (0u32..).zip(&order.lines) {
        let item = state
            .items
            .get(&asked.item)
            .ok_or(Rejection::UnknownItem { line, item: asked.item })?;
        if let Some(expected_cents) = asked.expected_price_cents
            && expected_cents != item.price_cents
        {
            return Err(Rejection::PriceChanged {
                line,
                item: asked.item,
                expected_cents,
                current_cents: item.price_cents,
            });
        }
        // Orders have few lines (the interface bounds them), so a search beats a map.
        match wanted.iter_mut().find(|w| w.item.id == asked.item) {
            Some(w) => {
                w.quantity = w.quantity.checked_add(asked.quantity).ok_or(Rejection::Overflow)?;
            }
            None => wanted.push(Wanted { line, item: item.clone(), quantity: asked.quantity }),
        }
    }
    Ok(wanted)
}

fn put_item(
    state: &mut State,
    index: LogIndex,
    put: &PutItem,
    effects: &mut Effects,
) -> Result<Outcome, Rejection> {
    let before = state.items.get(&put.id).cloned();
    check(put.precondition, before.as_deref())?;
    let mut item = match &before {
        Some(before) => Item {
            title: put.title.as_str().into(),
            topic: put.topic.as_str().into(),
            price_cents: put.price_cents,
            ..Item::clone(before)
        },
        None => Item {
            id: put.id,
            title: put.title.as_str().into(),
            topic: put.topic.as_str().into(),
            price_cents: put.price_cents,
            stock: 0,
            reserved: 0,
            received: 0,
            sold: 0,
            written_off: 0,
            version: index,
            created_index: index,
            created_ms: state.log_time_ms,
            updated_ms: state.log_time_ms,
        },
    };
    let reason = match before {
        Some(_) => StockReason::Count,
        None => StockReason::Received,
    };
    if let Some(stock) = put.stock {
        move_stock(state, index, &mut item, StockChange::Set(stock), reason, None)?;
    }
    Ok(Outcome::Item(touch(state, index, item, effects)))
}

fn change_stock(
    state: &mut State,
    index: LogIndex,
    change: &ChangeStock,
    effects: &mut Effects,
) -> Result<Outcome, Rejection> {
    let Some(before) = state.items.get(&change.item).cloned() else {
        return Err(Rejection::UnknownItem { line: 0, item: change.item });
    };
    check(change.precondition, Some(&before))?;
    let mut item = Item::clone(&before);
    let reference = change.reference.as_deref().map(Arc::from);
    move_stock(state, index, &mut item, change.change, change.reason, reference)?;
    Ok(Outcome::Item(touch(state, index, item, effects)))
}

fn restock(state: &mut State, index: LogIndex, effects: &mut Effects) -> Outcome {
    let quantity = state.policy.restock_quantity;
    let sold_out: Vec<ItemId> = state.sold_out.iter().copied().collect();
    let mut restocked = 0;
    for id in sold_out {
        let Some(before) = state.items.get(&id).cloned() else { continue };
        let mut item = Item::clone(&before);
        let change = StockChange::Set(quantity);
        // Only an item that has counted to the end of its range is passed over.
        if move_stock(state, index, &mut item, change, StockReason::Restock, None).is_ok() {
            touch(state, index, item, effects);
            restocked += 1;
        }
    }
    Outcome::Restocked(restocked)
}

/// Changes the stock of an item (not in place yet) and leaves a ledger row. Either both or neither.
fn move_stock(
    state: &mut State,
    index: LogIndex,
    item: &mut Item,
    change: StockChange,
    reason: StockReason,
    reference: Option<Arc<str>>,
) -> Result<(), Rejection> {
    let delta = match change {
        StockChange::Delta(delta) => delta,
        StockChange::Set(stock) => {
            let wide = i128::from(stock) - i128::from(item.stock);
            i64::try_from(wide).map_err(|_| Rejection::Overflow)?
        }
    };
    let pieces = delta.unsigned_abs();
    if delta >= 0 {
        item.receive(pieces).ok_or(Rejection::Overflow)?;
    } else {
        item.write_off(pieces).ok_or(Rejection::StockTooLow {
            item: item.id,
            stock: item.stock,
            reserved: item.reserved,
            requested: pieces,
        })?;
    }
    if delta != 0 {
        let at_ms = state.log_time_ms;
        state.push_ledger(LedgerRow { item: item.id, delta, reason, reference, index, at_ms });
    }
    Ok(())
}

/// Puts a changed item in place, with its new version.
fn touch(state: &mut State, index: LogIndex, mut item: Item, effects: &mut Effects) -> Arc<Item> {
    debug_assert!(item.is_consistent(), "{item:?}");
    item.version = index;
    item.updated_ms = state.log_time_ms;
    effects.items.push((index, item.id));
    let item = Arc::new(item);
    state.put_item(item.clone());
    item
}

fn check(precondition: Precondition, item: Option<&Item>) -> Result<(), Rejection> {
    let current = item.map(|item| item.version);
    let holds = match precondition {
        Precondition::None => true,
        Precondition::Version(version) => current == Some(version),
        Precondition::Exists => current.is_some(),
        Precondition::Absent => current.is_none(),
    };
    match holds {
        true => Ok(()),
        false => Err(Rejection::VersionMismatch { current }),
    }
}

//! `(State, entry) -> (State, Outcome)`: the only place where a command has an effect.
//!
//! Depends on the state and the entry and on nothing else: no clock, no randomness, no environment,
//! no I/O, no iteration in random order. Every replica runs this over the same entries and must get
//! the same state, whatever the borders of its batches.

mod batch;
mod cancel;
mod items;
mod reservations;

use std::sync::Arc;

use self::items::touch;
use crate::{
    catalog::{Item, ItemId},
    changes::{ChangeKind, ChangeWhat},
    command::{
        Applied, Command, KeyClaim, LogIndex, Outcome, PlaceOrder, PlaceOrderLine, Policy,
        Proposal, Rejection,
    },
    orders::{KeyRecord, Order, OrderId, OrderLine},
    reservations::ReservationId,
    sequence::CHUNK_ROWS,
    state::State,
    working::Working,
};

pub use batch::REFUSALS_TOLD_MAX;
pub use items::IMPORT_REFUSALS_TOLD_MAX;

/// The most records of a kind forgotten with an entry that adds few, so that none takes long.
const FORGOTTEN_MAX: u64 = 8;
/// Records forgotten for each that an entry adds, where that is more: otherwise batches would outgrow
/// the limit.
const FORGOTTEN_FOR_EACH: u64 = 2;

/// What an entry changed, for whoever keeps something that hangs off the state, as checkpoints do.
/// Not part of the state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Items that changed, in the order in which they did.
    pub items: Vec<(LogIndex, ItemId)>,
    /// Reservations that changed, or are forgotten.
    pub reservations: Vec<ReservationId>,
}

/// How many records there are of the kinds that are forgotten in time.
struct Kept {
    keys: u64,
    ended: u64,
    changes: u64,
}

impl Kept {
    fn of(state: &State) -> Self {
        let ended = state.ended.len() as u64;
        Self { keys: state.keys.next(), ended, changes: state.changes.next() }
    }
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
    let before = Kept::of(state);
    reservations::expire(state, index, effects);
    let applied = match replay_of(working, index, proposal) {
        Some(applied) => applied,
        // Not remembered under the key: the same request may be made when it is over.
        None if stopped_by_maintenance(working, &proposal.command) => {
            let outcome = Outcome::Rejected(Rejection::Maintenance);
            Applied { index, replayed: false, outcome }
        }
        None => {
            let outcome = execute(working, index, &proposal.command, effects);
            if let Some(claim) = proposal.key {
                remember(working, index, claim, outcome.clone());
            }
            Applied { index, replayed: false, outcome }
        }
    };
    forget(working, &before, effects);
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

fn stopped_by_maintenance(working: &Working, command: &Command) -> bool {
    if !working.state.maintenance || command.is_upkeep() {
        return false;
    }
    match command {
        // Nothing in it is new: it is a replay.
        Command::PlaceOrders(batch) => !batch::is_known(working, batch),
        _ => true,
    }
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

/// Forgets what is over its time or over its limit, oldest first. How much at once depends on the
/// state and the entry alone, so every replica forgets the same with it.
fn forget(working: &mut Working, before: &Kept, effects: &mut Effects) {
    let at_most = |added: u64| FORGOTTEN_MAX.max(added * FORGOTTEN_FOR_EACH);
    let now = Kept::of(&working.state);
    forget_keys(working, at_most(now.keys - before.keys));
    let state = &mut working.state;
    reservations::forget(state, at_most(now.ended - before.ended), effects);
    for _ in 0..=(now.changes - before.changes) * FORGOTTEN_FOR_EACH / CHUNK_ROWS {
        if !state.pop_changes() {
            return;
        }
    }
}

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
        Command::PutItem(put) => items::put(state, index, put, effects),
        Command::CreateItem(create) => items::create(state, index, create, effects),
        Command::PatchItem(patch) => items::patch(state, index, patch, effects),
        Command::DeleteItem(delete) => items::delete(state, index, delete, effects),
        Command::PutItems(import) => Ok(items::put_many(state, index, import, effects)),
        Command::ChangeStock(change) => items::change_stock(state, index, change, effects),
        Command::Restock => Ok(items::restock(state, index, effects)),
        Command::CancelOrder(cancel) => cancel::cancel_order(state, index, cancel, effects),
        Command::Reserve(wanted) => reservations::reserve(state, index, wanted, effects),
        Command::ConfirmReservation { id } => reservations::confirm(state, index, *id, effects),
        Command::ReleaseReservation { id } => reservations::release(state, index, *id, effects),
        Command::SetPolicy(policy) => Ok(set_policy(state, index, policy)),
        Command::SetPolicyIf { version, policy } => match state.policy_index {
            Some(current) if current == *version => Ok(set_policy(state, index, policy)),
            current => Err(Rejection::VersionMismatch { current }),
        },
        Command::SetMaintenance(on) => {
            state.maintenance = *on;
            Ok(Outcome::MaintenanceSet(*on))
        }
        Command::Tick => Ok(Outcome::Ticked),
        Command::ReserveNodeId { at_least } => {
            let id = state.next_node_id.max(*at_least);
            state.next_node_id = id.saturating_add(1);
            Ok(Outcome::NodeId(id))
        }
    };
    result.unwrap_or_else(Outcome::Rejected)
}

fn set_policy(state: &mut State, index: LogIndex, policy: &Policy) -> Outcome {
    state.policy = policy.clone();
    state.policy_index = Some(index);
    state.push_change(index, ChangeKind::Policy, 0, ChangeWhat::Changed);
    Outcome::PolicySet
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

impl Plan {
    /// The lines, at the titles and prices of now.
    fn into_lines(self) -> Vec<OrderLine> {
        let lines = self.wanted.into_iter().map(|wanted| OrderLine {
            item: wanted.item.id,
            title: wanted.item.title.clone(),
            quantity: wanted.quantity,
            unit_price_cents: wanted.item.price_cents,
        });
        lines.collect()
    }
}

fn place_order(
    state: &mut State,
    index: LogIndex,
    order: &PlaceOrder,
    effects: &mut Effects,
) -> Result<Outcome, Rejection> {
    let plan = plan(state, &order.lines, |_| 0)?;
    // From here on nothing is refused: all of it happens.
    for wanted in &plan.wanted {
        sell(state, index, &wanted.item, wanted.quantity, effects);
    }
    Ok(Outcome::Ordered(book(state, index, order, plan)))
}

/// Checks lines against the stock, less what is `taken` of an item already.
fn plan(
    state: &State,
    lines: &[PlaceOrderLine],
    taken: impl Fn(ItemId) -> u64,
) -> Result<Plan, Rejection> {
    let wanted = sum_lines(state, lines)?;
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
fn book(state: &mut State, index: LogIndex, order: &PlaceOrder, plan: Plan) -> OrderId {
    let id = state.order_count() + 1;
    push_order(
        state,
        Order {
            id,
            total_cents: plan.total_cents,
            lines: plan.into_lines(),
            customer: order.customer.as_deref().map(Arc::from),
            reference: order.reference.as_deref().map(Arc::from),
            index,
            placed_ms: state.log_time_ms,
            reservation: None,
        },
    );
    id
}

fn push_order(state: &mut State, order: Order) {
    state.push_change(order.index, ChangeKind::Order, order.id, ChangeWhat::Created);
    state.push_order(Arc::new(order));
}

fn sum_lines(state: &State, lines: &[PlaceOrderLine]) -> Result<Vec<Wanted>, Rejection> {
    let mut wanted: Vec<Wanted> = Vec::with_capacity(lines.len());
    for (line, asked) in (0u32..).zip(lines) {
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

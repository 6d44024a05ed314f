//! What the store's state was at each log index.

use std::collections::BTreeMap;

use super::Check;
use crate::history::{
    FinalOrder, FinalReservation, History, InitialItem, ItemId, LogIndex, MovementKind, Standing,
    StockOutcome,
};

/// An item's state from one log index on, until its next change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ItemState {
    /// Pieces in the store. Negative if the store oversold.
    pub(super) stock: i64,
    /// Pieces of them that are reserved.
    pub(super) reserved: i64,
    /// The index of the change that made it so.
    pub(super) version: LogIndex,
}

/// Every state that every item ever had.
#[derive(Debug)]
pub(super) struct Model {
    /// For each item its states in log order.
    items: BTreeMap<ItemId, Vec<ItemState>>,
}

impl Model {
    /// Builds it from what was loaded, given, sold, returned and reserved; checks on the way that no more is
    /// sold or reserved than there is.
    pub(super) fn new(
        history: &History,
        book: &[FinalOrder],
        reservations: &[FinalReservation],
    ) -> (Self, Check) {
        let mut check =
            Check::new("stock and what is available are never below zero, at any index");
        let mut items = BTreeMap::new();
        for (item, mut changes) in changes(history, book, reservations) {
            // Two changes at one index: what runs out does so before anything else happens. Whether an
            // entry held two sales, the order numbers show.
            changes.sort_by_key(|change| (change.index, change.reserved >= 0));
            let mut states = Vec::with_capacity(changes.len() + 1);
            let mut state = ItemState {
                stock: i64::try_from(item.stock).unwrap_or(i64::MAX),
                reserved: 0,
                version: item.index,
            };
            states.push(state);
            for change in changes {
                state = ItemState {
                    stock: state.stock + change.stock,
                    reserved: state.reserved + change.reserved,
                    version: change.index,
                };
                check.expect(0 <= state.reserved && state.reserved <= state.stock, || {
                    format!("item {}: {state:?}", item.id)
                });
                states.push(state);
            }
            items.insert(item.id, states);
        }
        (Self { items }, check)
    }

    /// The item's state at an index; none before it existed.
    pub(super) fn at(&self, item: ItemId, index: LogIndex) -> Option<ItemState> {
        let states = self.items.get(&item)?;
        let after = states.partition_point(|state| state.version <= index);
        states.get(after.checked_sub(1)?).copied()
    }
}

/// How much more there is of something from an index on.
struct Change {
    index: LogIndex,
    stock: i64,
    reserved: i64,
}

fn changes(
    history: &History,
    book: &[FinalOrder],
    reservations: &[FinalReservation],
) -> Vec<(InitialItem, Vec<Change>)> {
    let mut changes: BTreeMap<ItemId, Vec<Change>> = BTreeMap::new();
    let mut add = |item, index, stock, reserved| {
        changes.entry(item).or_default().push(Change { index, stock, reserved });
    };
    for change in &history.stock_changes {
        if let StockOutcome::Applied { index, .. } = change.outcome {
            add(change.item, index, change.delta, 0);
        }
    }
    for order in book {
        for line in order.lines.as_slice() {
            let pieces = i64::from(line.quantity);
            let reserved = if order.reservation.is_some() { -pieces } else { 0 };
            add(line.item, order.index, -pieces, reserved);
        }
    }
    for movement in &history.movements {
        if let MovementKind::Cancelled(_) = movement.kind {
            add(movement.item, movement.index, movement.delta, 0);
        }
    }
    // Those that are confirmed give back with their order.
    let given_back = history.ends.iter().filter(|end| end.standing != Standing::Confirmed);
    let given_back: BTreeMap<u64, LogIndex> =
        given_back.map(|end| (end.reservation, end.index)).collect();
    for reservation in reservations {
        for line in reservation.lines.as_slice() {
            let pieces = i64::from(line.quantity);
            add(line.item, reservation.index, 0, pieces);
            if let Some(index) = given_back.get(&reservation.id) {
                add(line.item, *index, 0, -pieces);
            }
        }
    }
    let items = history.items.iter();
    items.map(|item| (*item, changes.remove(&item.id).unwrap_or_default())).collect()
}

//! What the store's state was at each log index.

use std::collections::BTreeMap;

use super::Check;
use crate::history::{FinalOrder, History, InitialItem, ItemId, LogIndex, StockOutcome};

/// An item's state from one log index on, until its next change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ItemState {
    /// Pieces in the store. Negative if the store oversold.
    pub(super) stock: i64,
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
    /// Builds it from what was loaded, given and sold; checks on the way that stock stays above zero.
    pub(super) fn new(history: &History, book: &[FinalOrder]) -> (Self, Check) {
        let mut check = Check::new("stock is never below zero, at any index");
        let mut items = BTreeMap::new();
        for (item, mut changes) in changes(history, book) {
            // Two changes at one index would be out of order here only if an entry held both; the order
            // numbers show that as a violation of its own.
            changes.sort_by_key(|(index, _)| *index);
            let mut states = Vec::with_capacity(changes.len() + 1);
            let mut state = ItemState {
                stock: i64::try_from(item.stock).unwrap_or(i64::MAX),
                version: item.index,
            };
            states.push(state);
            for (index, delta) in changes {
                state = ItemState { stock: state.stock + delta, version: index };
                check.expect(state.stock >= 0, || {
                    format!("item {} has {} at index {index}", item.id, state.stock)
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

type Changes = Vec<(LogIndex, i64)>;

fn changes(history: &History, book: &[FinalOrder]) -> Vec<(InitialItem, Changes)> {
    let mut changes: BTreeMap<ItemId, Changes> = BTreeMap::new();
    for change in &history.stock_changes {
        if let StockOutcome::Applied { index, .. } = change.outcome {
            changes.entry(change.item).or_default().push((index, change.delta));
        }
    }
    for order in book {
        for line in order.lines.as_slice() {
            let sold = -i64::from(line.quantity);
            changes.entry(line.item).or_default().push((order.index, sold));
        }
    }
    let items = history.items.iter();
    items.map(|item| (*item, changes.remove(&item.id).unwrap_or_default())).collect()
}

//! Taking an order back: its pieces return, and its record stays as it was.

use std::sync::Arc;

use super::{Effects, items::touch};
use crate::{
    catalog::{Item, LedgerRow, StockReason},
    changes::{ChangeKind, ChangeWhat},
    command::{CancelOrder, LogIndex, Outcome, Rejection, WrongState},
    orders::{Cancellation, OrderStatus},
    state::State,
};

pub(super) fn cancel_order(
    state: &mut State,
    index: LogIndex,
    cancel: &CancelOrder,
    effects: &mut Effects,
) -> Result<Outcome, Rejection> {
    let order = cancel.order;
    match state.order_status(order) {
        None => return Err(Rejection::UnknownOrder { order }),
        Some(OrderStatus::Cancelled) => return Err(WrongState::OrderCancelled { order }.into()),
        Some(OrderStatus::Placed) => {}
    }
    let returned = returned(state, cancel)?;
    // From here on nothing is refused: all of it happens.
    for (item, delta) in returned {
        state.push_ledger(LedgerRow {
            item: item.id,
            delta,
            reason: StockReason::Cancelled,
            reference: None,
            index,
            at_ms: state.log_time_ms,
            order: Some(order),
        });
        touch(state, index, item, effects);
    }
    let cancellation = Arc::new(Cancellation {
        order,
        reason: cancel.reason.as_deref().map(Arc::from),
        index,
        at_ms: state.log_time_ms,
    });
    state.push_cancellation(cancellation.clone());
    state.push_change(index, ChangeKind::Order, order, ChangeWhat::Cancelled);
    Ok(Outcome::Cancelled(cancellation))
}

/// The items to which pieces return, with these, and how many. None return to an item that is gone,
/// or that has the number of one that was sold in an earlier life.
fn returned(state: &State, cancel: &CancelOrder) -> Result<Vec<(Item, i64)>, Rejection> {
    let mut returned: Vec<(Item, i64)> = Vec::with_capacity(cancel.lines.len());
    for &(id, quantity) in &cancel.lines {
        let Some(item) = state.items.get(&id) else { continue };
        if item.created_index > cancel.placed_index {
            continue;
        }
        // An order has one line for an item.
        let mut item = Item::clone(item);
        item.take_back(quantity).ok_or(Rejection::Overflow)?;
        returned.push((item, i64::try_from(quantity).map_err(|_| Rejection::Overflow)?));
    }
    Ok(returned)
}

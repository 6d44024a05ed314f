//! Replies against the state at the index that they name.

use std::collections::BTreeMap;

use super::{
    Check,
    model::{ItemState, Model},
};
use crate::history::{BuyReply, Found, History, Level, LogIndex, OrderRead, StockOutcome};

/// Whatever was shown, by a read of any level or after a change of stock, was so at its index.
pub(super) fn shown_states_were(history: &History, model: &Model) -> Check {
    let mut check = Check::new("every state shown was the state at its index");
    for read in &history.reads {
        let state = model.at(read.item, read.index);
        let fits = state.is_some_and(|state| {
            u64::try_from(state.stock) == Ok(read.stock)
                && u64::try_from(state.reserved) == Ok(read.reserved)
                && state.version == read.version
        });
        check.expect(fits, || format!("{read:?}, but it was {state:?}"));
        if let Level::Session(min_index) = read.level
            && read.index < min_index
        {
            check.violation(|| format!("{read:?} is older than the session"));
        }
    }
    for change in &history.stock_changes {
        if let StockOutcome::Applied { index, stock } = change.outcome {
            let state = model.at(change.item, index);
            let fits = state.is_some_and(|state| u64::try_from(state.stock) == Ok(stock));
            check.expect(fits, || format!("{change:?}, but it was {state:?}"));
        }
    }
    check
}

/// Whoever was refused could not have been served at that index, and was told what there was.
pub(super) fn refusals_had_reason(history: &History, model: &Model) -> Check {
    let mut check = Check::new("every refusal fits the stock at its index");
    for attempt in &history.attempts {
        let BuyReply::Refused { index, item, requested, available, .. } = attempt.reply else {
            continue;
        };
        let asked = attempt.lines.as_slice().iter().find(|line| line.item == item);
        let there = model.at(item, index).map(unreserved);
        let fits = asked.is_some_and(|line| u64::from(line.quantity) == requested)
            && there.map(u64::try_from) == Some(Ok(available))
            && available < requested;
        check.expect(fits, || format!("{attempt:?}, but {there:?} were there"));
    }
    for change in &history.stock_changes {
        if let StockOutcome::Refused { index } = change.outcome {
            let there = model.at(change.item, index).map(unreserved);
            let fits = there.is_some_and(|there| there + change.delta < 0);
            check.expect(fits, || format!("{change:?}, but {there:?} were there"));
        }
    }
    check
}

/// What is not reserved.
fn unreserved(state: ItemState) -> i64 {
    state.stock - state.reserved
}

/// A confirmed order is found by every linearizable read that starts later, on any node, and is shown as
/// cancelled from the index of its cancellation on.
pub(super) fn confirmed_orders_found(
    reads: &[OrderRead],
    cancelled_at: &BTreeMap<u64, LogIndex>,
) -> Check {
    let mut check = Check::new("a confirmed order is found, as it is, on any node");
    for read in reads {
        let at = cancelled_at.get(&read.order).copied();
        let cancelled = at.is_some_and(|at| at <= read.index);
        check.expect(read.found == Found::Same && read.cancelled == cancelled, || {
            format!("{read:?}, cancelled at {at:?}")
        });
    }
    check
}

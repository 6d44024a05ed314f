//! The ledgers of the items: every movement of pieces has its row, once, and there is none besides.

use std::collections::BTreeMap;

use super::Check;
use crate::history::{FinalOrder, History, Movement, MovementKind, StockOutcome};

/// Compares the ledgers with the order book and what the stock-giver was told.
pub(super) fn check(history: &History, book: &[FinalOrder]) -> Check {
    let mut check = Check::new("the ledgers tell every sale, return and change of stock once");
    let mut rows: BTreeMap<_, i64> = BTreeMap::new();
    for row in &history.movements {
        // Where a cancellation lies only the ledgers tell: that it fits the rest, other checks see.
        let index = match row.kind {
            MovementKind::Cancelled(_) => None,
            MovementKind::Sold(_) | MovementKind::Stock => Some(row.index),
        };
        *rows.entry((row.item, row.kind, index, row.delta)).or_default() += 1;
    }
    for Movement { item, delta, kind, index } in expected(history, book) {
        let index = (!matches!(kind, MovementKind::Cancelled(_))).then_some(index);
        *rows.entry((item, kind, index, delta)).or_default() -= 1;
        check.examine();
    }
    for (row, surplus) in rows.into_iter().filter(|(_, surplus)| *surplus != 0) {
        check.violation(|| match surplus > 0 {
            true => format!("{surplus} rows too many: {row:?}"),
            false => format!("{} rows missing: {row:?}", -surplus),
        });
    }
    check
}

fn expected<'a>(
    history: &'a History,
    book: &'a [FinalOrder],
) -> impl Iterator<Item = Movement> + 'a {
    let loaded = history.items.iter().filter(|item| item.stock > 0).map(|item| Movement {
        item: item.id,
        delta: i64::try_from(item.stock).unwrap_or(i64::MAX),
        kind: MovementKind::Stock,
        index: item.index,
    });
    let given = history.stock_changes.iter().filter_map(|change| match change.outcome {
        StockOutcome::Applied { index, .. } => {
            let (item, delta) = (change.item, change.delta);
            Some(Movement { item, delta, kind: MovementKind::Stock, index })
        }
        StockOutcome::Refused { .. } | StockOutcome::NotApplied | StockOutcome::Unknown => None,
    });
    let sold = book.iter().flat_map(|order| {
        order.lines.as_slice().iter().flat_map(move |line| {
            let row = |delta, kind| Movement { item: line.item, delta, kind, index: order.index };
            let pieces = i64::from(line.quantity);
            let returned = order.cancelled.then(|| row(pieces, MovementKind::Cancelled(order.id)));
            [Some(row(-pieces, MovementKind::Sold(order.id))), returned].into_iter().flatten()
        })
    });
    loaded.chain(given).chain(sold)
}

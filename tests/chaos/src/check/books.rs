//! Per item: what came in is what is available, what is reserved, what was sold and what was written off.

use std::collections::BTreeMap;

use super::Check;
use crate::history::{
    FinalItem, FinalOrder, FinalReservation, History, ItemId, Lines, Standing, StockOutcome,
};

/// Balances the books of every item on every replica.
pub(super) fn check(
    history: &History,
    book: &[FinalOrder],
    reservations: &[FinalReservation],
) -> Check {
    let mut check = Check::new("per item: received = available + reserved + sold + written off");
    let mut received: BTreeMap<ItemId, i64> = BTreeMap::new();
    for item in &history.items {
        received.insert(item.id, i64::try_from(item.stock).unwrap_or(i64::MAX));
    }
    for change in &history.stock_changes {
        match change.outcome {
            StockOutcome::Applied { .. } => {
                *received.entry(change.item).or_default() += change.delta
            }
            StockOutcome::Refused { .. } | StockOutcome::NotApplied => {}
            StockOutcome::Unknown => check.violation(|| {
                format!("s{}: outcome still unknown after all repetitions", change.number)
            }),
        }
    }
    // What was sold and came back was not sold.
    let sold = book.iter().filter(|order| !order.cancelled).map(|order| order.lines);
    let sold = pieces(sold.collect());
    let held = reservations.iter().filter(|one| one.standing == Some(Standing::Held));
    let held = pieces(held.map(|one| one.lines).collect());
    for replica in &history.replicas {
        let items: BTreeMap<ItemId, &FinalItem> =
            replica.items.iter().map(|item| (item.id, item)).collect();
        for (item, received) in &received {
            let of = |pieces: &BTreeMap<ItemId, i64>| pieces.get(item).copied().unwrap_or(0);
            let (sold, held, shown) = (of(&sold), of(&held), items.get(item));
            let holds = shown.is_some_and(|shown| {
                let available = i128::from(shown.stock) - i128::from(shown.reserved);
                i128::from(shown.reserved) == i128::from(held)
                    && available >= 0
                    && available + i128::from(held + sold) == i128::from(*received)
            });
            check.expect(holds, || {
                format!(
                    "item {item} on {}: received less written off {received}, sold {sold}, held by \
                     reservations {held}, shown {shown:?}",
                    replica.name,
                )
            });
        }
    }
    check
}

fn pieces(of: Vec<Lines>) -> BTreeMap<ItemId, i64> {
    let mut pieces = BTreeMap::new();
    for line in of.iter().flat_map(|lines| lines.as_slice()) {
        *pieces.entry(line.item).or_default() += i64::from(line.quantity);
    }
    pieces
}

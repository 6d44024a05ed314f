//! Per item: what came in is what is there, what was sold and what was written off.

use std::collections::BTreeMap;

use super::Check;
use crate::history::{FinalOrder, History, ItemId, StockOutcome};

/// Balances the books of every item on every replica.
pub(super) fn check(history: &History, book: &[FinalOrder]) -> Check {
    let mut check = Check::new("per item: received = stock + sold + written off");
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
    let mut sold: BTreeMap<ItemId, i64> = BTreeMap::new();
    for line in book.iter().flat_map(|order| order.lines.as_slice()) {
        *sold.entry(line.item).or_default() += i64::from(line.quantity);
    }
    for replica in &history.replicas {
        let stock: BTreeMap<ItemId, i64> = replica
            .items
            .iter()
            .map(|item| (item.id, i64::try_from(item.stock).unwrap_or(i64::MAX)))
            .collect();
        for (item, received) in &received {
            let stock = stock.get(item).copied();
            let sold = sold.get(item).copied().unwrap_or(0);
            check.expect(stock.map(|stock| stock + sold) == Some(*received), || {
                format!(
                    "item {item} on {}: received less written off {received}, sold {sold}, stock {}",
                    replica.name,
                    stock.map_or("missing".to_owned(), |stock| stock.to_string()),
                )
            });
        }
    }
    check
}

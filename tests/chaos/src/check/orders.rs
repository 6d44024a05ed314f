//! The order book at the end, against what the buyers were told.

use std::collections::BTreeMap;

use super::{
    Check,
    buys::{Fate, Verdict, find},
};
use crate::history::{FinalOrder, InitialItem, ItemId, Key, Lines};

/// Every confirmed order is in the book.
pub(super) fn confirmed_exist(verdicts: &[Verdict], book: &[FinalOrder]) -> Check {
    let mut check = Check::new("every confirmed order exists");
    let mut keys: Vec<Key> = book.iter().filter_map(|order| order.key).collect();
    keys.sort_unstable();
    for verdict in verdicts {
        if matches!(verdict.fate, Fate::Confirmed { .. } | Fate::AppliedUnseen) {
            check.expect(keys.binary_search(&verdict.key).is_ok(), || {
                format!("{} was confirmed ({:?}) and is gone", verdict.key, verdict.fate)
            });
        }
    }
    check
}

/// Three checks of the book: each order is there once and may be; is what was bought; and has its place.
pub(super) fn check(
    verdicts: &[Verdict],
    book: &[FinalOrder],
    items: &[InitialItem],
) -> (Check, Check, Check) {
    let mut once = Check::new("no order exists twice, none that was refused");
    let mut contents = Check::new("every order is what was bought and confirmed");
    let prices: BTreeMap<ItemId, u64> =
        items.iter().map(|item| (item.id, item.price_cents)).collect();
    let mut keys: Vec<(Key, u64)> =
        book.iter().filter_map(|order| Some((order.key?, order.id))).collect();
    keys.sort_unstable();
    for twice in keys.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        once.violation(|| {
            format!("{} is order {} and order {}", twice[0].0, twice[0].1, twice[1].1)
        });
    }
    for order in book {
        once.examine();
        let Some(key) = order.key else {
            once.violation(|| format!("order {} is of nobody's making", order.id));
            continue;
        };
        let Some(verdict) = find(verdicts, key) else {
            once.violation(|| format!("order {}: {key} was never sent", order.id));
            continue;
        };
        if matches!(verdict.fate, Fate::Refused { .. } | Fate::NotApplied) {
            once.violation(|| {
                format!("order {}: {key} was refused ({:?})", order.id, verdict.fate)
            });
        }
        contents.expect(as_bought(order, verdict, &prices), || {
            format!("{key}: sent {:?}, told {:?}, kept {order:?}", verdict.lines, verdict.fate)
        });
    }
    (once, contents, dense(book))
}

fn as_bought(order: &FinalOrder, verdict: &Verdict, prices: &BTreeMap<ItemId, u64>) -> bool {
    let as_told = match verdict.fate {
        Fate::Confirmed { order: id, index, total_cents } => {
            (id, index, total_cents) == (order.id, order.index, order.total_cents)
        }
        Fate::AppliedUnseen | Fate::Refused { .. } | Fate::NotApplied | Fate::Unknown => true,
    };
    as_told && order.lines == verdict.lines && total(order.lines, prices) == Some(order.total_cents)
}

fn total(lines: Lines, prices: &BTreeMap<ItemId, u64>) -> Option<u64> {
    lines
        .as_slice()
        .iter()
        .map(|line| Some(prices.get(&line.item)? * u64::from(line.quantity)))
        .sum()
}

/// Numbers start at 1, have no gap, and follow the log; each order has an index of its own.
fn dense(book: &[FinalOrder]) -> Check {
    let mut check = Check::new("order numbers are dense and follow the log");
    let mut before: Option<&FinalOrder> = None;
    for (order, number) in book.iter().zip(1..) {
        let follows = before.is_none_or(|before| before.index < order.index);
        check.expect(order.id == number && follows, || {
            format!("place {number}: {order:?} after {before:?}")
        });
        before = Some(order);
    }
    check
}

//! The order book and the reservations at the end, against what the buyers were told.

use std::collections::BTreeMap;

use super::{
    Check,
    buys::{Fate, Verdict, find},
};
use crate::history::{
    FinalOrder, FinalReservation, InitialItem, ItemId, Key, Lines, LogIndex, Series,
};

/// What the checks here need to know of an order or of a reservation.
#[derive(Debug, Clone, Copy)]
struct Entry {
    series: Series,
    id: u64,
    index: LogIndex,
    key: Option<Key>,
    lines: Lines,
    total_cents: u64,
}

/// Both books. The order that a reservation became is judged with its reservation.
fn entries<'a>(
    book: &'a [FinalOrder],
    reservations: &'a [FinalReservation],
) -> impl Iterator<Item = Entry> + 'a {
    let orders = book.iter().filter(|order| order.reservation.is_none()).map(|order| Entry {
        series: Series::Buy,
        id: order.id,
        index: order.index,
        key: order.key,
        lines: order.lines,
        total_cents: order.total_cents,
    });
    let reservations = reservations.iter().map(|reservation| Entry {
        series: Series::Hold,
        id: reservation.id,
        index: reservation.index,
        key: reservation.key,
        lines: reservation.lines,
        total_cents: reservation.total_cents,
    });
    orders.chain(reservations)
}

/// Every confirmed order is in the book, and every confirmed reservation among the reservations.
pub(super) fn confirmed_exist(
    verdicts: &[Verdict],
    book: &[FinalOrder],
    reservations: &[FinalReservation],
) -> Check {
    let mut check = Check::new("every confirmed order exists");
    let mut keys: Vec<Key> = entries(book, reservations)
        .filter_map(|entry| entry.key.filter(|key| key.series == entry.series))
        .collect();
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

/// Two checks of the books: each order or reservation is there once and may be; and is what was asked for.
pub(super) fn check(
    verdicts: &[Verdict],
    book: &[FinalOrder],
    reservations: &[FinalReservation],
    items: &[InitialItem],
) -> (Check, Check) {
    let mut once = Check::new("no order exists twice, none that was refused");
    let mut contents = Check::new("every order is what was bought and confirmed");
    let prices: BTreeMap<ItemId, u64> =
        items.iter().map(|item| (item.id, item.price_cents)).collect();
    let mut keys: Vec<(Key, u64)> =
        entries(book, reservations).filter_map(|entry| Some((entry.key?, entry.id))).collect();
    keys.sort_unstable();
    for twice in keys.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        once.violation(|| {
            format!("{} is number {} and number {}", twice[0].0, twice[0].1, twice[1].1)
        });
    }
    for entry in entries(book, reservations) {
        once.examine();
        let Some(key) = entry.key.filter(|key| key.series == entry.series) else {
            once.violation(|| format!("of nobody's making: {entry:?}"));
            continue;
        };
        let Some(verdict) = find(verdicts, key) else {
            once.violation(|| format!("{key} was never sent: {entry:?}"));
            continue;
        };
        if matches!(verdict.fate, Fate::Refused { .. } | Fate::NotApplied) {
            once.violation(|| format!("{key} was refused ({:?}): {entry:?}", verdict.fate));
        }
        contents.expect(as_bought(&entry, verdict, &prices), || {
            format!("{key}: sent {:?}, told {:?}, kept {entry:?}", verdict.lines, verdict.fate)
        });
    }
    (once, contents)
}

fn as_bought(order: &Entry, verdict: &Verdict, prices: &BTreeMap<ItemId, u64>) -> bool {
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

/// Numbers start at 1, have no gap, and follow the log; each order has an index of its own, and so has
/// each reservation.
pub(super) fn dense(book: &[FinalOrder], reservations: &[FinalReservation]) -> Check {
    let mut check = Check::new("order numbers are dense and follow the log");
    follow(&mut check, "order", book.iter().map(|order| (order.id, order.index)));
    let reservations = reservations.iter().map(|reservation| (reservation.id, reservation.index));
    follow(&mut check, "reservation", reservations);
    check
}

fn follow(check: &mut Check, what: &str, numbers: impl Iterator<Item = (u64, LogIndex)>) {
    let mut before = 0;
    for ((id, index), number) in numbers.zip(1..) {
        check.expect(id == number && before < index, || {
            format!("place {number}: {what} {id} at index {index}, after one at {before}")
        });
        before = index;
    }
}

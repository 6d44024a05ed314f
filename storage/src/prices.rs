//! What an item cost when. Kept apart from the item, so that a sale need not carry it along.

use serde::{Deserialize, Serialize};

use crate::{
    catalog::{Item, ItemId},
    command::{LogIndex, LogTimeMs},
    state::{Kind, record_hash},
};

/// The window of the lowest price, in milliseconds of log time: 30 days.
pub const LOWEST_WINDOW_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// The most prices forgotten with one that is added, so that no entry takes long.
const FORGOTTEN_MAX: usize = 8;

/// A price from when it was in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceSpan {
    /// The price in cents.
    pub price_cents: u64,
    /// Log time of its beginning.
    pub from_ms: LogTimeMs,
    /// Log index of its beginning.
    pub index: LogIndex,
}

/// The prices of an item, oldest first, the one in force last. An item whose price never changed
/// has none of these: its creation says it all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceHistory {
    /// Never empty.
    pub spans: Vec<PriceSpan>,
}

impl PriceHistory {
    /// The history of an item before its price changes for the first time.
    pub(crate) fn of(item: &Item) -> Self {
        Self { spans: vec![first(item)] }
    }

    /// The history with the price in force from here on and without the oldest beyond `keep`, and
    /// those that are forgotten with it.
    pub(crate) fn pushed(&self, span: PriceSpan, keep: u64) -> (Self, &[PriceSpan]) {
        let keep = usize::try_from(keep).unwrap_or(usize::MAX).max(1);
        let over = (self.spans.len() + 1).saturating_sub(keep).min(FORGOTTEN_MAX);
        // At most all of them: `keep` is at least the one that is added.
        let (forgotten, kept) = self.spans.split_at(over);
        let mut spans = Vec::with_capacity(kept.len() + 1);
        spans.extend_from_slice(kept);
        spans.push(span);
        (Self { spans }, forgotten)
    }

    /// The hash of the history of an item: the sum over its spans, so that one more costs one more.
    pub(crate) fn hash(&self, item: ItemId) -> u128 {
        self.spans.iter().map(|span| span.hash(item)).fold(0, u128::wrapping_add)
    }
}

impl PriceSpan {
    /// The hash of a price of an item.
    pub(crate) fn hash(&self, item: ItemId) -> u128 {
        record_hash(Kind::Prices, &(item, self))
    }
}

fn first(item: &Item) -> PriceSpan {
    PriceSpan { price_cents: item.price_cents, from_ms: item.created_ms, index: item.created_index }
}

/// What is known of an item's prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prices {
    /// The prices that are kept, oldest first.
    pub prices: Vec<PricePeriod>,
    /// The lowest price that was in force at any moment of the last 30 days of log time; `None`
    /// where what is kept reaches back neither so far nor to the item's creation.
    pub lowest_30_days_cents: Option<u64>,
}

/// A price and when it was in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PricePeriod {
    /// The price in cents.
    pub price_cents: u64,
    /// Log time of its beginning.
    pub from_ms: LogTimeMs,
    /// Log time of its end; `None` for the one in force.
    pub to_ms: Option<LogTimeMs>,
    /// Log index of its beginning.
    pub index: LogIndex,
}

impl Prices {
    /// The prices of an item at a log time, from its history if it has one.
    pub(crate) fn of(item: &Item, history: Option<&PriceHistory>, now_ms: LogTimeMs) -> Self {
        let alone = [first(item)];
        let spans = history.map_or(&alone[..], |history| &history.spans);
        let ends = spans.iter().skip(1).map(|next| Some(next.from_ms)).chain([None]);
        let prices: Vec<PricePeriod> = spans
            .iter()
            .zip(ends)
            .map(|(span, to_ms)| PricePeriod {
                price_cents: span.price_cents,
                from_ms: span.from_ms,
                to_ms,
                index: span.index,
            })
            .collect();
        let since_ms = now_ms.saturating_sub(LOWEST_WINDOW_MS);
        let reaches_back = prices
            .first()
            .is_some_and(|oldest| oldest.from_ms <= since_ms || oldest.index == item.created_index);
        // One that began and ended at one moment was in force at that moment.
        let in_window = prices.iter().filter(|price| {
            price.from_ms >= since_ms || price.to_ms.is_none_or(|to| to > since_ms)
        });
        let lowest = in_window.map(|price| price.price_cents).min();
        Self { prices, lowest_30_days_cents: lowest.filter(|_| reaches_back) }
    }
}

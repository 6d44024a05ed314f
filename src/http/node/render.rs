//! From the state's types to the interface's.

use pygmy_storage::{catalog::Item, command::LogTimeMs, orders::Order};

use crate::api;

/// Log time in RFC 3339.
pub(super) fn time(ms: LogTimeMs) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    // Past what a timestamp can say there is only its end.
    jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// An item.
pub(super) fn item(item: &Item) -> api::Item {
    api::Item {
        id: item.id,
        title: item.title.to_string(),
        topic: item.topic.to_string(),
        price_cents: item.price_cents,
        stock: item.stock,
        reserved: item.reserved,
        available: item.available(),
        version: item.version,
        created_at: time(item.created_ms),
        updated_at: time(item.updated_ms),
    }
}

/// An order.
pub(super) fn order(order: &Order) -> api::Order {
    let lines = order.lines.iter().map(|line| api::OrderLine {
        item: line.item,
        title: line.title.to_string(),
        quantity: line.quantity,
        unit_price_cents: line.unit_price_cents,
    });
    api::Order {
        id: order.id,
        lines: lines.collect(),
        total_cents: order.total_cents,
        status: order.status.as_str().to_owned(),
        customer: order.customer.as_deref().map(str::to_owned),
        reference: order.reference.as_deref().map(str::to_owned),
        placed_at: time(order.placed_ms),
        index: order.index,
    }
}

/// Cents as the original wrote a cost: `12` or `12.50`.
pub(super) fn cost(cents: u64) -> String {
    match cents % 100 {
        0 => (cents / 100).to_string(),
        rest => format!("{}.{rest:02}", cents / 100),
    }
}

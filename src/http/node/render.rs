//! From the state's types to the interface's.

use pygmy_storage::{
    catalog::Item,
    command::LogTimeMs,
    ledger::Movement,
    orders::{Cancellation, Order, OrderLine, OrderStatus},
    prices::Prices,
    reservations::Reservation,
};

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

/// An order, with how it was taken back if it was.
pub(super) fn order(order: &Order, cancellation: Option<&Cancellation>) -> api::Order {
    let status = match cancellation {
        Some(_) => OrderStatus::Cancelled,
        None => OrderStatus::Placed,
    };
    api::Order {
        id: order.id,
        lines: lines(&order.lines),
        total_cents: order.total_cents,
        status: status.as_str().to_owned(),
        customer: order.customer.as_deref().map(str::to_owned),
        reference: order.reference.as_deref().map(str::to_owned),
        placed_at: time(order.placed_ms),
        index: order.index,
        reservation: order.reservation,
        cancelled_at: cancellation.map(|cancellation| time(cancellation.at_ms)),
        cancel_reason: cancellation.and_then(|c| c.reason.as_deref()).map(str::to_owned),
    }
}

fn lines(lines: &[OrderLine]) -> Vec<api::OrderLine> {
    let lines = lines.iter().map(|line| api::OrderLine {
        item: line.item,
        title: line.title.to_string(),
        quantity: line.quantity,
        unit_price_cents: line.unit_price_cents,
    });
    lines.collect()
}

/// A reservation.
pub(super) fn reservation(reservation: &Reservation) -> api::Reservation {
    api::Reservation {
        id: reservation.id,
        lines: lines(&reservation.lines),
        total_cents: reservation.total_cents,
        status: reservation.status.as_str().to_owned(),
        order: reservation.status.order(),
        customer: reservation.customer.as_deref().map(str::to_owned),
        reference: reservation.reference.as_deref().map(str::to_owned),
        created_at: time(reservation.created_ms),
        expires_at: time(reservation.expires_ms),
        ended_at: reservation.ended.map(|(_, at_ms)| time(at_ms)),
        index: reservation.index,
    }
}

/// A movement of an item's stock.
pub(super) fn movement(movement: &Movement) -> api::LedgerRow {
    api::LedgerRow {
        delta: movement.delta,
        reason: movement.reason.as_str().to_owned(),
        reference: movement.reference.as_deref().map(str::to_owned),
        order: movement.order,
        reservation: movement.reservation,
        index: movement.index,
        at: time(movement.at_ms),
    }
}

/// What is known of an item's prices.
pub(super) fn prices(prices: &Prices) -> api::Prices {
    let each = prices.prices.iter().map(|price| api::Price {
        price_cents: price.price_cents,
        from: time(price.from_ms),
        to: price.to_ms.map(time),
    });
    let lowest_30_days_cents = prices.lowest_30_days_cents;
    api::Prices { prices: each.collect(), lowest_30_days_cents }
}

/// Cents as the original wrote a cost: `12` or `12.50`.
pub(super) fn cost(cents: u64) -> String {
    match cents % 100 {
        0 => (cents / 100).to_string(),
        rest => format!("{}.{rest:02}", cents / 100),
    }
}

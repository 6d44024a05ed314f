//! Tables and amounts for people.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

pub(crate) use crate::amount::cents;
pub(super) use crate::amount::parse_cents;
use crate::api::{Item, LedgerRow, Order, Reservation};

/// A table with these headings; those that begin with `#` are numbers and go to the right.
pub(super) fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(headings.iter().map(|heading| heading.trim_start_matches('#')))
        .add_rows(rows);
    for (column, heading) in table.column_iter_mut().zip(headings) {
        if heading.starts_with('#') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

/// Items as a table.
pub(super) fn items(items: &[Item]) -> String {
    let row = |item: &Item| {
        vec![
            item.id.to_string(),
            item.title.clone(),
            item.topic.clone(),
            cents(item.price_cents),
            item.available.to_string(),
            item.version.to_string(),
        ]
    };
    table(&["#item", "title", "topic", "#price", "#available", "#version"], items.iter().map(row))
}

/// One item as a table, with what [`items`] has no room for.
pub(super) fn item(item: &Item) -> String {
    let row = vec![
        item.id.to_string(),
        item.title.clone(),
        item.topic.clone(),
        cents(item.price_cents),
        item.stock.to_string(),
        item.reserved.to_string(),
        item.available.to_string(),
        item.version.to_string(),
        item.created_at.clone(),
        item.updated_at.clone(),
    ];
    let headings = [
        "#item",
        "title",
        "topic",
        "#price",
        "#stock",
        "#reserved",
        "#available",
        "#version",
        "created at",
        "updated at",
    ];
    table(&headings, [row])
}

/// Orders as a table, one row for each line of an order.
pub(super) fn orders(orders: &[Order]) -> String {
    let rows = orders.iter().flat_map(|order| {
        order.lines.iter().enumerate().map(|(place, line)| {
            // What belongs to the order as a whole stands on its first line.
            let whole = |text: String| if place == 0 { text } else { String::new() };
            vec![
                whole(order.id.to_string()),
                line.item.to_string(),
                line.title.clone(),
                line.quantity.to_string(),
                cents(line.unit_price_cents),
                whole(cents(order.total_cents)),
                whole(order.status.clone()),
                whole(order.customer.clone().unwrap_or_default()),
                whole(order.placed_at.clone()),
            ]
        })
    });
    table(
        &[
            "#order",
            "#item",
            "title",
            "#quantity",
            "#price",
            "#total",
            "status",
            "customer",
            "placed at",
        ],
        rows,
    )
}

/// Reservations as a table, one row for each line of a reservation.
pub(super) fn reservations(reservations: &[Reservation]) -> String {
    let rows = reservations.iter().flat_map(|reservation| {
        reservation.lines.iter().enumerate().map(|(place, line)| {
            let whole = |text: String| if place == 0 { text } else { String::new() };
            vec![
                whole(reservation.id.to_string()),
                line.item.to_string(),
                line.title.clone(),
                line.quantity.to_string(),
                cents(line.unit_price_cents),
                whole(cents(reservation.total_cents)),
                whole(reservation.status.clone()),
                whole(reservation.order.map(|id| id.to_string()).unwrap_or_default()),
                whole(reservation.customer.clone().unwrap_or_default()),
                whole(reservation.expires_at.clone()),
            ]
        })
    });
    table(
        &[
            "#reservation",
            "#item",
            "title",
            "#quantity",
            "#price",
            "#total",
            "status",
            "#order",
            "customer",
            "expires at",
        ],
        rows,
    )
}

/// Movements of an item's stock as a table.
pub(super) fn ledger(rows: &[LedgerRow]) -> String {
    let row = |row: &LedgerRow| {
        vec![
            row.index.to_string(),
            row.at.clone(),
            format!("{:+}", row.delta),
            row.reason.clone(),
            row.order.map(|id| id.to_string()).unwrap_or_default(),
            row.reference.clone().unwrap_or_default(),
        ]
    };
    let headings = ["#index", "at", "#pieces", "reason", "#order", "reference"];
    table(&headings, rows.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::AMOUNT_MAX;

    #[test]
    fn amounts_are_read_exactly_or_not_at_all() {
        for (text, expected) in [
            ("0", Some(0)),
            ("20", Some(2000)),
            ("19.9", Some(1990)),
            ("19.99", Some(1999)),
            ("0.05", Some(5)),
            ("10000000000", Some(AMOUNT_MAX)),
            ("10000000000.01", None),
            ("99999999999999999999", None),
            ("19.999", None),
            ("19.", None),
            (".99", None),
            ("-1", None),
            ("+1", None),
            ("1e3", None),
            ("19,99", None),
            ("", None),
        ] {
            assert_eq!(parse_cents(text).ok(), expected, "{text:?}");
            if let Some(amount) = expected {
                assert_eq!(parse_cents(&cents(amount)), Ok(amount), "{text:?} and back");
            }
        }
    }
}

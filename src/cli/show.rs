//! Tables and amounts for people.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::api::{AMOUNT_MAX, Item, Order};

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

/// Cents as an amount: 1999 is `19.99`.
pub(crate) fn cents(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// An amount as cents: `20`, `19.9` or `19.99`, exactly; nothing is rounded.
pub(super) fn parse_cents(text: &str) -> Result<u64, String> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = (digits(whole) && digits(part) && part.len() <= 2)
        .then(|| {
            let whole = whole.parse::<u64>().ok()?.checked_mul(100)?;
            let part = format!("{part:0<2}").parse::<u64>().ok()?;
            whole.checked_add(part)
        })
        .flatten();
    match parsed {
        Some(cents) if cents <= AMOUNT_MAX => Ok(cents),
        Some(_) => Err(format!("an amount is at most {}", self::cents(AMOUNT_MAX))),
        None => Err("an amount is written like 19.99".into()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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

//! Orders and reservations.

use std::path::PathBuf;

use clap::{Args, value_parser};
use pygmy_storage::orders::OrderStatus;
use pygmy_storage::reservations::ReservationStatus;

use super::{Page, Reading, Writing};
use crate::api::{NewOrderLine, QUANTITY_MAX, RESERVATION_TTL_SECONDS_DEFAULT};

#[derive(Debug, Args)]
pub(in crate::cli) struct Buy {
    /// The item number
    pub(in crate::cli) number: u64,
    /// Pieces
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u64).range(1..=QUANTITY_MAX))]
    pub(in crate::cli) quantity: u64,
    /// Who orders
    #[arg(long)]
    pub(in crate::cli) customer: Option<String>,
    /// A reference of your own
    #[arg(long)]
    pub(in crate::cli) reference: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) writing: Writing,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct OrderBatch {
    /// The orders as JSON; - for standard input
    #[arg(value_name = "ORDERS.json")]
    pub(in crate::cli) orders: PathBuf,
    /// All orders or none
    #[arg(long)]
    pub(in crate::cli) atomic: bool,
    #[command(flatten)]
    pub(in crate::cli) writing: Writing,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Cancel {
    /// The order number
    pub(in crate::cli) number: u64,
    /// Why; kept with the order
    #[arg(long)]
    pub(in crate::cli) reason: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) writing: Writing,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Reserve {
    /// Items, each with its pieces if more than one: 5:2
    #[arg(value_name = "ITEM[:QUANTITY]", required = true, value_parser = parse_line)]
    pub(in crate::cli) lines: Vec<NewOrderLine>,
    /// For how long, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = RESERVATION_TTL_SECONDS_DEFAULT,
        value_parser = value_parser!(u64).range(1..)
    )]
    pub(in crate::cli) ttl: u64,
    /// For whom
    #[arg(long)]
    pub(in crate::cli) customer: Option<String>,
    /// A reference of your own
    #[arg(long)]
    pub(in crate::cli) reference: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) writing: Writing,
}

/// A line as it is typed: `5` or `5:2`.
fn parse_line(text: &str) -> Result<NewOrderLine, String> {
    let (item, quantity) = text.split_once(':').unwrap_or((text, "1"));
    match (item.parse(), quantity.parse()) {
        (Ok(item), Ok(quantity)) if (1..=QUANTITY_MAX).contains(&quantity) => {
            Ok(NewOrderLine { item, quantity, expected_price_cents: None })
        }
        _ => Err(format!("write it like 5 or 5:2, with 1 to {QUANTITY_MAX} pieces")),
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Orders {
    /// Only orders with a line of this item
    #[arg(long, value_name = "NUMBER")]
    pub(in crate::cli) item: Option<u64>,
    /// Only this customer's
    #[arg(long)]
    pub(in crate::cli) customer: Option<String>,
    /// Only those that stand so
    #[arg(long, value_parser = OrderStatus::NAMES)]
    pub(in crate::cli) status: Option<String>,
    /// Only those placed at this time or after
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(in crate::cli) from: Option<String>,
    /// Only those placed before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(in crate::cli) to: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) page: Page,
    #[command(flatten)]
    pub(in crate::cli) reading: Reading,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Reservations {
    /// Only those that stand so
    #[arg(long, value_parser = ReservationStatus::NAMES)]
    pub(in crate::cli) status: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) page: Page,
    #[command(flatten)]
    pub(in crate::cli) reading: Reading,
}

/// A time as the interface takes it.
fn parse_time(text: &str) -> Result<String, String> {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(time.to_string()),
        Err(_) => Err("write it like 2025-01-31T09:30:00Z".into()),
    }
}

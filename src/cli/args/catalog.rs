//! Items and files of them.

use std::path::PathBuf;

use clap::Args;
use pygmy_storage::search::Sort;

use super::{Page, Reading, Remote, Writing};

/// Why stock may change.
const REASONS: [&str; 5] = ["received", "count", "damaged", "returned", "correction"];

/// What items are listed by, as the interface takes it.
fn parse_sort(text: &str) -> Result<String, String> {
    match Sort::parse(text) {
        Some(_) => Ok(text.into()),
        None => Err(format!("choose {}, or one of them after a -", Sort::NAMES.join(", "))),
    }
}

/// How files are written.
const FORMATS: [&str; 2] = ["csv", "ndjson"];

#[derive(Debug, Args)]
pub(in crate::cli) struct Search {
    /// The topic
    pub(in crate::cli) topic: String,
    #[command(flatten)]
    pub(in crate::cli) reading: Reading,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Items {
    /// Only this topic
    #[arg(long)]
    pub(in crate::cli) topic: Option<String>,
    /// Only titles and topics with words that begin with these; case and accents do not matter
    #[arg(long, value_name = "WORDS")]
    pub(in crate::cli) q: Option<String>,
    /// Only what can be bought now
    #[arg(long)]
    pub(in crate::cli) in_stock: bool,
    /// The order: id, title, price or updated; with a - before it the reverse
    #[arg(long, default_value = "id", allow_hyphen_values = true)]
    #[arg(value_parser = parse_sort)]
    pub(in crate::cli) sort: String,
    #[command(flatten)]
    pub(in crate::cli) page: Page,
    #[command(flatten)]
    pub(in crate::cli) reading: Reading,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Ledger {
    /// The item number
    pub(in crate::cli) number: u64,
    #[command(flatten)]
    pub(in crate::cli) page: Page,
    #[command(flatten)]
    pub(in crate::cli) reading: Reading,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PutItem {
    /// The item number
    pub(in crate::cli) number: u64,
    /// The title
    #[arg(long)]
    pub(in crate::cli) title: String,
    /// The topic
    #[arg(long)]
    pub(in crate::cli) topic: String,
    /// The price, as in 19.99
    #[arg(long, value_parser = crate::cli::show::parse_cents)]
    pub(in crate::cli) price: u64,
    /// Pieces; left as it is on replace, 0 on create
    #[arg(long)]
    pub(in crate::cli) stock: Option<u64>,
    /// Only create: an item that exists is left alone
    #[arg(long, conflicts_with = "if_version")]
    pub(in crate::cli) create: bool,
    /// Only replace this version
    #[arg(long, value_name = "VERSION")]
    pub(in crate::cli) if_version: Option<u64>,
    #[command(flatten)]
    pub(in crate::cli) writing: Writing,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Stock {
    /// The item number
    pub(in crate::cli) number: u64,
    /// Pieces to add, or to take away when negative
    #[arg(
        long,
        allow_negative_numbers = true,
        required_unless_present = "set",
        conflicts_with = "set"
    )]
    pub(in crate::cli) delta: Option<i64>,
    /// Pieces that there are
    #[arg(long)]
    pub(in crate::cli) set: Option<u64>,
    /// Why
    #[arg(long, default_value = "received", value_parser = REASONS)]
    pub(in crate::cli) reason: String,
    /// A reference of your own, kept in the ledger
    #[arg(long)]
    pub(in crate::cli) reference: Option<String>,
    /// Only when the item has this version
    #[arg(long, value_name = "VERSION")]
    pub(in crate::cli) if_version: Option<u64>,
    #[command(flatten)]
    pub(in crate::cli) writing: Writing,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CreateItem {
    /// The title
    #[arg(long)]
    pub(in crate::cli) title: String,
    /// The topic
    #[arg(long)]
    pub(in crate::cli) topic: String,
    /// The price, as in 19.99
    #[arg(long, value_parser = crate::cli::show::parse_cents)]
    pub(in crate::cli) price: u64,
    /// Pieces
    #[arg(long, default_value_t = 0)]
    pub(in crate::cli) stock: u64,
    #[command(flatten)]
    pub(in crate::cli) writing: Writing,
}

#[derive(Debug, Args)]
#[group(id = "new", multiple = true, required = true, args = ["title", "topic", "price"])]
pub(in crate::cli) struct PatchItem {
    /// The item number
    pub(in crate::cli) number: u64,
    /// The new title
    #[arg(long)]
    pub(in crate::cli) title: Option<String>,
    /// The new topic
    #[arg(long)]
    pub(in crate::cli) topic: Option<String>,
    /// The new price, as in 19.99
    #[arg(long, value_parser = crate::cli::show::parse_cents)]
    pub(in crate::cli) price: Option<u64>,
    /// Only when the item has this version
    #[arg(long, value_name = "VERSION")]
    pub(in crate::cli) if_version: Option<u64>,
    #[command(flatten)]
    pub(in crate::cli) writing: Writing,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DeleteItem {
    /// The item number
    pub(in crate::cli) number: u64,
    /// Only when the item has this version
    #[arg(long, value_name = "VERSION")]
    pub(in crate::cli) if_version: Option<u64>,
    #[command(flatten)]
    pub(in crate::cli) writing: Writing,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Load {
    /// The catalog
    #[arg(value_name = "CATALOG.csv")]
    pub(in crate::cli) catalog: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) reading: Reading,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Import {
    /// The items; - for standard input
    #[arg(value_name = "FILE")]
    pub(in crate::cli) file: PathBuf,
    /// Check everything and say what would happen; change nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Whose stock the file says: that of items that are new, or set for all
    #[arg(long, default_value = "new", value_parser = ["new", "set"])]
    pub(in crate::cli) stock: String,
    /// How the file is written [default: by its name, or csv]
    #[arg(long, value_parser = FORMATS)]
    pub(in crate::cli) format: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) writing: Writing,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Export {
    /// What is exported
    #[arg(long, default_value = "items", value_parser = ["items", "orders"])]
    pub(in crate::cli) what: String,
    /// How it is written [default: by the file's name, or csv]
    #[arg(long, value_parser = FORMATS)]
    pub(in crate::cli) format: Option<String>,
    /// Where to [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) remote: Remote,
}

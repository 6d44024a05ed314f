//! The original's endpoints and their shapes: every value is a text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `GET /search/{topic}/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchReply {
    /// Titles with their item numbers.
    pub items: BTreeMap<String, String>,
}

/// `GET /lookup/{n}/` for an item that there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Lookup {
    /// The item number.
    pub item_number: String,
    /// The title.
    pub title: String,
    /// The topic.
    pub topic: String,
    /// The price.
    pub cost: String,
    /// Pieces that can be sold.
    pub stock: String,
    /// When this was read: an HTTP date.
    pub time: String,
}

/// What came of `GET /buy/{n}/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purchase {
    /// Bought; the item after the sale.
    Bought(Lookup),
    /// Out of stock.
    OutOfStock,
    /// There is no such item.
    NoSuchItem,
}

/// `GET /buy/{n}/` as it comes.
#[derive(Deserialize)]
pub(super) struct BuyReply {
    #[serde(rename = "Result")]
    pub(super) result: Option<String>,
    #[serde(flatten)]
    pub(super) rest: serde_json::Map<String, serde_json::Value>,
}

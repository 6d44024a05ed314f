//! The original's endpoints and their shapes: every value is a text.

use std::collections::BTreeMap;

use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use serde::{Deserialize, Serialize};

use super::{Client, ClientError, Failure, decode, send::Call};

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

/// They choose their own consistency; the session index goes along.
impl Client {
    /// Titles under a topic, with their item numbers.
    pub async fn search(&self, topic: &str) -> Result<BTreeMap<String, String>, ClientError> {
        let reply: SearchReply = self.read_seed(self.path(&["search", topic, ""])).await?;
        Ok(reply.items)
    }

    /// An item as the original showed it; `None` when there is no such number.
    pub async fn lookup(&self, id: u64) -> Result<Option<Lookup>, ClientError> {
        let url = self.path(&["lookup", &id.to_string(), ""]);
        let fields: serde_json::Map<_, _> = self.read_seed(url.clone()).await?;
        lookup_from(url, fields)
    }

    /// Buys one piece as the original did. The key makes the retries safe here too.
    pub async fn buy(&self, id: u64) -> Result<Purchase, ClientError> {
        let key = Self::new_key();
        let url = self.path(&["buy", &id.to_string(), ""]);
        let call = Call {
            method: Method::GET,
            url: url.clone(),
            headers: HeaderMap::new(),
            body: None,
            key: Some(key.clone()),
        };
        let reply: BuyReply = decode(&url, &self.send(call).await?, Some(&key))?;
        match reply.result.as_deref() {
            Some("0") => Ok(Purchase::OutOfStock),
            Some("1") => lookup_from(url, reply.rest)
                .map(|item| item.map_or(Purchase::NoSuchItem, Purchase::Bought)),
            _ => Ok(Purchase::NoSuchItem),
        }
    }
}

/// The original's fields; none at all mean that there is no such item.
fn lookup_from(
    url: Url,
    fields: serde_json::Map<String, serde_json::Value>,
) -> Result<Option<Lookup>, ClientError> {
    if fields.is_empty() {
        return Ok(None);
    }
    serde_json::from_value(fields.into()).map(Some).map_err(|error| ClientError::Unexpected {
        url: url.into(),
        last: Failure::Body(format!("a reply that cannot be read: {error}")),
    })
}

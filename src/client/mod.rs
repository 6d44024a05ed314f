//! A typed client of the REST interface.
//!
//! It owns the retries of one caller: within a deadline it repeats what can be repeated, a write
//! always with the idempotency key of its first try, and it remembers the newest log index it has
//! seen, so that a reader sees his own writes on any replica. It never guesses: a write that may
//! have been applied is [`ClientError::OutcomeUnknown`] and carries the key that finds out.
//!
//! ```no_run
//! use pygmy::api::{NewOrder, NewOrderLine};
//! use pygmy::client::{Client, ClientError};
//!
//! # async fn example() -> Result<(), ClientError> {
//! let store = Client::new("http://127.0.0.1:8080")?;
//! let order = NewOrder {
//!     lines: vec![NewOrderLine { item: 5, quantity: 1, expected_price_cents: None }],
//!     customer: Some("ada".into()),
//!     reference: None,
//! };
//! match store.place_order(&order).await {
//!     Ok(order) => println!("order {} for {} cents", order.id, order.total_cents),
//!     Err(ClientError::Refused(problem)) => println!("no: {} ({})", problem.detail, problem.code),
//!     // With the same key a second try finds out what the first one did.
//!     Err(ClientError::OutcomeUnknown { key, .. }) => {
//!         store.place_order_with_key(&order, &key).await?;
//!     }
//!     Err(error) => return Err(error),
//! }
//! # Ok(())
//! # }
//! ```

mod error;
mod seed;
mod send;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{
    ChangeStock, Cluster, Consistency, IDEMPOTENCY_KEY_BYTES_MAX, Item, ItemPage, NewOrder,
    NewOrderBatch, Order, OrderBatch, OrderPage, PutItem, Verification, header,
};

pub use error::{ClientError, Failure};
pub use seed::{Lookup, Purchase, SearchReply};
pub use send::Timeouts;

use send::{Call, Reply};

/// Idle connections kept to one store.
const IDLE_CONNECTIONS_MAX: usize = 64;
/// How long an idle connection is kept; shorter than a server keeps its side.
const IDLE_CONNECTION: Duration = Duration::from_secs(20);

/// A store's client. Cheap to clone; clones share connections and the session.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    timeouts: Timeouts,
    consistency: Consistency,
    /// The newest log index that a reply has shown.
    session: Arc<AtomicU64>,
}

/// Which items [`Client::items`] lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemQuery {
    /// Only this topic.
    pub topic: Option<String>,
    /// Rows of the page, 1 to 1000; 100 when not given.
    pub limit: Option<usize>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// Which orders [`Client::orders`] lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderQuery {
    /// Rows of the page, 1 to 1000; 100 when not given.
    pub limit: Option<usize>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// What must hold for a change of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    None,
    /// The item must not exist.
    Absent,
    /// The item must have this version.
    Version(u64),
}

/// The answer of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Whether it is ready.
    pub ready: bool,
    /// What it said.
    pub detail: String,
}

impl Client {
    /// A client with the usual timeouts. `url` may leave out `http://`.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        Self::with_timeouts(url, Timeouts::default())
    }

    /// A client with timeouts of its own.
    pub fn with_timeouts(url: &str, timeouts: Timeouts) -> Result<Self, ClientError> {
        let refuse = |reason: String| ClientError::Address { url: url.into(), reason };
        let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let base = Url::parse(&full).map_err(|error| refuse(error.to_string()))?;
        if base.scheme() != "http" || !base.has_host() {
            return Err(refuse("the store speaks http://".into()));
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timeouts.connect)
            .timeout(timeouts.attempt)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .pool_idle_timeout(IDLE_CONNECTION)
            .tcp_nodelay(true)
            .user_agent(concat!("pygmy/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| refuse(error.to_string()))?;
        Ok(Self {
            http,
            base,
            timeouts,
            consistency: Consistency::default(),
            session: Arc::default(),
        })
    }

    /// The same client with another level for its reads; the session is shared.
    #[must_use]
    pub fn with_consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// The store's address.
    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The newest log index that a reply has shown.
    pub fn session_index(&self) -> u64 {
        self.session.load(Ordering::Relaxed)
    }

    /// An idempotency key that nobody else makes: 128 random bits.
    pub fn new_key() -> String {
        format!("{:032x}", rand::random::<u128>())
    }

    // Items.

    /// A page of items.
    ///
    /// ```no_run
    /// # async fn example(store: pygmy::client::Client) -> Result<(), pygmy::client::ClientError> {
    /// use pygmy::client::ItemQuery;
    /// let query = ItemQuery { topic: Some("Misc".into()), ..ItemQuery::default() };
    /// for item in store.items(&query).await?.items {
    ///     println!("{} {} ({} left)", item.id, item.title, item.available);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn items(&self, query: &ItemQuery) -> Result<ItemPage, ClientError> {
        let mut url = self.path(&["v1", "items"]);
        add_query(&mut url, "topic", query.topic.as_deref());
        add_query(&mut url, "limit", query.limit);
        add_query(&mut url, "cursor", query.cursor.as_deref());
        self.read(url).await
    }

    /// One item.
    pub async fn item(&self, id: u64) -> Result<Item, ClientError> {
        self.read(self.path(&["v1", "items", &id.to_string()])).await
    }

    /// Creates or replaces an item.
    pub async fn put_item(
        &self,
        id: u64,
        item: &PutItem,
        condition: Precondition,
    ) -> Result<Item, ClientError> {
        self.put_item_with_key(id, item, condition, &Self::new_key()).await
    }

    /// [`Client::put_item`] with the caller's own idempotency key.
    pub async fn put_item_with_key(
        &self,
        id: u64,
        item: &PutItem,
        condition: Precondition,
        key: &str,
    ) -> Result<Item, ClientError> {
        let url = self.path(&["v1", "items", &id.to_string()]);
        self.write(Method::PUT, url, item, condition, key).await
    }

    /// Changes an item's stock.
    pub async fn change_stock(
        &self,
        id: u64,
        change: &ChangeStock,
        condition: Precondition,
    ) -> Result<Item, ClientError> {
        self.change_stock_with_key(id, change, condition, &Self::new_key()).await
    }

    /// [`Client::change_stock`] with the caller's own idempotency key.
    pub async fn change_stock_with_key(
        &self,
        id: u64,
        change: &ChangeStock,
        condition: Precondition,
        key: &str,
    ) -> Result<Item, ClientError> {
        let url = self.path(&["v1", "items", &id.to_string(), "stock"]);
        self.write(Method::POST, url, change, condition, key).await
    }

    // Orders.

    /// Places an order, with a key of its own for all its tries.
    pub async fn place_order(&self, order: &NewOrder) -> Result<Order, ClientError> {
        self.place_order_with_key(order, &Self::new_key()).await
    }

    /// Places an order with the caller's key: the same key never places a second one.
    pub async fn place_order_with_key(
        &self,
        order: &NewOrder,
        key: &str,
    ) -> Result<Order, ClientError> {
        self.write(Method::POST, self.path(&["v1", "orders"]), order, Precondition::None, key).await
    }

    /// Places many orders at once, with a key for all tries; orders that have keys of their own are
    /// placed under those. What came of each order stands in its result: success says that there is
    /// an answer for each, not that all were placed.
    pub async fn place_orders(&self, batch: &NewOrderBatch) -> Result<OrderBatch, ClientError> {
        self.place_orders_with_key(batch, &Self::new_key()).await
    }

    /// [`Client::place_orders`] with the caller's key for the whole batch. Where the orders have keys
    /// of their own, those make the retry safe and this one does not count.
    pub async fn place_orders_with_key(
        &self,
        batch: &NewOrderBatch,
        key: &str,
    ) -> Result<OrderBatch, ClientError> {
        let mut headers = HeaderMap::new();
        if batch.orders.iter().any(|order| order.idempotency_key.is_some()) {
            headers.insert(header::KEY_MADE, HeaderValue::from_static("true"));
        }
        let url = self.path(&["v1", "orders", "batch"]);
        self.send_write(Method::POST, url, batch, headers, key).await
    }

    /// One order.
    pub async fn order(&self, id: u64) -> Result<Order, ClientError> {
        self.read(self.path(&["v1", "orders", &id.to_string()])).await
    }

    /// A page of orders.
    pub async fn orders(&self, query: &OrderQuery) -> Result<OrderPage, ClientError> {
        let mut url = self.path(&["v1", "orders"]);
        add_query(&mut url, "limit", query.limit);
        add_query(&mut url, "cursor", query.cursor.as_deref());
        self.read(url).await
    }

    // The original's endpoints. They choose their own consistency; the session index goes along.

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
        let reply: seed::BuyReply = decode(&url, &self.send(call).await?, Some(&key))?;
        match reply.result.as_deref() {
            Some("0") => Ok(Purchase::OutOfStock),
            Some("1") => lookup_from(url, reply.rest)
                .map(|item| item.map_or(Purchase::NoSuchItem, Purchase::Bought)),
            _ => Ok(Purchase::NoSuchItem),
        }
    }

    // Cluster.

    /// Who takes part, as the answering node sees it.
    pub async fn cluster(&self) -> Result<Cluster, ClientError> {
        self.read_seed(self.path(&["v1", "cluster"])).await
    }

    /// Who is up, in the original's form: 1 or 0 for each name.
    pub async fn heartbeat(&self) -> Result<BTreeMap<String, u8>, ClientError> {
        self.read_seed(self.path(&["heartbeat", ""])).await
    }

    /// The answering replica's own full check.
    pub async fn verify(&self) -> Result<Verification, ClientError> {
        self.read_seed(self.path(&["v1", "verify"])).await
    }

    /// Whether this node can work. One try.
    pub async fn ready(&self) -> Result<Readiness, ClientError> {
        self.probe("readyz").await
    }

    /// Whether the cluster has a leader and answers linearizable reads. One try.
    pub async fn cluster_ready(&self) -> Result<Readiness, ClientError> {
        self.probe("clusterz").await
    }

    fn path(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("an http URL has a path, and new() takes no other")
            .pop_if_empty()
            .extend(segments);
        url
    }

    async fn read<T: DeserializeOwned>(&self, url: Url) -> Result<T, ClientError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONSISTENCY, HeaderValue::from_static(self.consistency.as_str()));
        if self.consistency == Consistency::Session {
            headers.insert(header::MIN_INDEX, self.session_index().into());
        }
        let call = Call { method: Method::GET, url: url.clone(), headers, body: None, key: None };
        decode(&url, &self.send(call).await?, None)
    }

    async fn read_seed<T: DeserializeOwned>(&self, url: Url) -> Result<T, ClientError> {
        let mut headers = HeaderMap::new();
        if self.session_index() > 0 {
            headers.insert(header::MIN_INDEX, self.session_index().into());
        }
        let call = Call { method: Method::GET, url: url.clone(), headers, body: None, key: None };
        decode(&url, &self.send(call).await?, None)
    }

    async fn write<T: DeserializeOwned>(
        &self,
        method: Method,
        url: Url,
        body: &impl Serialize,
        condition: Precondition,
        key: &str,
    ) -> Result<T, ClientError> {
        let mut headers = HeaderMap::new();
        match condition {
            Precondition::None => {}
            Precondition::Absent => {
                headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
            }
            Precondition::Version(version) => {
                let etag = HeaderValue::try_from(format!("\"{version}\""))
                    .expect("digits in quotes are a header value");
                headers.insert(IF_MATCH, etag);
            }
        }
        self.send_write(method, url, body, headers, key).await
    }

    async fn send_write<T: DeserializeOwned>(
        &self,
        method: Method,
        url: Url,
        body: &impl Serialize,
        headers: HeaderMap,
        key: &str,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).expect("the interface's types are JSON objects");
        let call =
            Call { method, url: url.clone(), headers, body: Some(body), key: Some(key.into()) };
        decode(&url, &self.send(call).await?, Some(key))
    }

    async fn probe(&self, name: &str) -> Result<Readiness, ClientError> {
        let url = self.path(&[name]);
        let transport = |error: reqwest::Error| ClientError::Unavailable {
            url: self.url().to_owned(),
            attempts: 1,
            waited_ms: 0,
            last: Failure::Transport(error),
        };
        let limit = self.timeouts.attempt.min(self.timeouts.total);
        let response = self.http.get(url.clone()).timeout(limit).send().await.map_err(transport)?;
        let status = response.status();
        self.remember(response.headers());
        let text = response.text().await.map_err(transport)?;
        let detail = match serde_json::from_str::<crate::api::Problem>(&text) {
            Ok(problem) => problem.detail,
            Err(_) => text.chars().take(500).collect::<String>().trim().to_owned(),
        };
        match status.as_u16() {
            200 => Ok(Readiness { ready: true, detail }),
            503 => Ok(Readiness { ready: false, detail }),
            status => Err(ClientError::Unexpected {
                url: url.into(),
                last: Failure::Status { status, body: detail },
            }),
        }
    }

    async fn send(&self, call: Call) -> Result<Reply, ClientError> {
        if call.key.as_deref().is_some_and(|key| !is_key(key)) {
            return Err(ClientError::Key);
        }
        send::send(&self.http, &self.timeouts, call, |headers| self.remember(headers)).await
    }

    fn remember(&self, headers: &HeaderMap) {
        let index = headers.get(header::INDEX).and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(index) = index {
            self.session.fetch_max(index, Ordering::Relaxed);
        }
    }
}

/// Whether a text can be an idempotency key.
pub(crate) fn is_key(text: &str) -> bool {
    (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn add_query(url: &mut Url, name: &str, value: Option<impl ToString>) {
    if let Some(value) = value {
        url.query_pairs_mut().append_pair(name, &value.to_string());
    }
}

/// Reads a reply of success. A write whose reply cannot be understood may well have been applied.
fn decode<T: DeserializeOwned>(
    url: &Url,
    reply: &Reply,
    key: Option<&str>,
) -> Result<T, ClientError> {
    serde_json::from_slice(&reply.body).map_err(|error| {
        let last = Failure::Body(format!(
            "status {} with a reply that cannot be read: {error}",
            reply.status.as_u16()
        ));
        match key {
            None => ClientError::Unexpected { url: url.to_string(), last },
            Some(key) => ClientError::OutcomeUnknown {
                url: url.origin().ascii_serialization(),
                key: key.into(),
                attempts: 1,
                waited_ms: 0,
                last,
            },
        }
    })
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

#[cfg(test)]
pub(crate) mod mock;
#[cfg(test)]
mod tests;

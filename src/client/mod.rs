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
mod events;
mod files;
mod follow;
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
    CancelOrder, ChangePage, ChangeStock, Cluster, Consistency, IDEMPOTENCY_KEY_BYTES_MAX, Item,
    ItemPage, LedgerPage, Maintenance, NewItem, NewOrder, NewOrderBatch, NewReservation, Order,
    OrderBatch, OrderPage, PatchItem, Policy, Prices, PutItem, Reservation, Topics, Verification,
    header,
};

pub use error::{ClientError, Failure};
pub use files::{Exported, FileFormat, ImportOptions};
pub use follow::Follow;
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
    /// Only titles and topics with words that begin with all of these, in any order.
    pub q: Option<String>,
    /// Only what can be bought now, or only what cannot.
    pub in_stock: Option<bool>,
    /// `id`, `title`, `price` or `updated`, or one of them after a `-` for the reverse.
    pub sort: Option<String>,
    /// Rows of the page, 1 to 1000; 100 when not given.
    pub limit: Option<usize>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// Which orders [`Client::orders`] lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderQuery {
    /// Only orders with a line of this item.
    pub item: Option<u64>,
    /// Only this customer's.
    pub customer: Option<String>,
    /// Only those that stand so.
    pub status: Option<String>,
    /// Only those placed at this time or after: RFC 3339.
    pub from: Option<String>,
    /// Only those placed before this time: RFC 3339.
    pub to: Option<String>,
    /// Rows of the page, 1 to 1000; 100 when not given.
    pub limit: Option<usize>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// Which page [`Client::ledger`] gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerQuery {
    /// Rows of the page, 1 to 1000; 100 when not given.
    pub limit: Option<usize>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// What must hold for a change of an item or of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    None,
    /// The item must not exist.
    Absent,
    /// The item must have this version.
    Version(u64),
}

/// The replicated settings, with their version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyInForce {
    /// The log index at which they were set.
    pub version: u64,
    /// The settings.
    pub policy: Policy,
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
        add_query(&mut url, "q", query.q.as_deref());
        add_query(&mut url, "in_stock", query.in_stock);
        add_query(&mut url, "sort", query.sort.as_deref());
        add_query(&mut url, "limit", query.limit);
        add_query(&mut url, "cursor", query.cursor.as_deref());
        self.read(url).await
    }

    /// One item.
    pub async fn item(&self, id: u64) -> Result<Item, ClientError> {
        self.read(self.path(&["v1", "items", &id.to_string()])).await
    }

    /// All topics.
    pub async fn topics(&self) -> Result<Topics, ClientError> {
        self.read(self.path(&["v1", "topics"])).await
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

    /// A page of what changed an item's stock, sales among it, newest first. As with orders it may be
    /// short and still name a next one.
    pub async fn ledger(&self, id: u64, query: &LedgerQuery) -> Result<LedgerPage, ClientError> {
        let mut url = self.path(&["v1", "items", &id.to_string(), "ledger"]);
        add_query(&mut url, "limit", query.limit);
        add_query(&mut url, "cursor", query.cursor.as_deref());
        self.read(url).await
    }

    /// Creates an item under a number that the store gives.
    ///
    /// ```no_run
    /// # async fn example(store: pygmy::client::Client) -> Result<(), pygmy::client::ClientError> {
    /// use pygmy::api::NewItem;
    /// let (title, topic) = ("Raft in Rhymes".into(), "Misc".into());
    /// let item = store.create_item(&NewItem { title, topic, price_cents: 1250, stock: 40 }).await?;
    /// println!("item {} has version {}", item.id, item.version);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn create_item(&self, item: &NewItem) -> Result<Item, ClientError> {
        self.create_item_with_key(item, &Self::new_key()).await
    }

    /// [`Client::create_item`] with the caller's own idempotency key.
    pub async fn create_item_with_key(
        &self,
        item: &NewItem,
        key: &str,
    ) -> Result<Item, ClientError> {
        self.write(Method::POST, self.path(&["v1", "items"]), item, Precondition::None, key).await
    }

    /// Changes some of what an item says of itself; what is `None` stays as it is.
    ///
    /// ```no_run
    /// # async fn example(store: pygmy::client::Client) -> Result<(), pygmy::client::ClientError> {
    /// use pygmy::api::PatchItem;
    /// use pygmy::client::Precondition;
    /// let item = store.item(5).await?;
    /// let cheaper = PatchItem { price_cents: Some(item.price_cents / 2), ..PatchItem::default() };
    /// // Refused if somebody else has changed the item in the meantime.
    /// store.patch_item(5, &cheaper, Precondition::Version(item.version)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn patch_item(
        &self,
        id: u64,
        patch: &PatchItem,
        condition: Precondition,
    ) -> Result<Item, ClientError> {
        self.patch_item_with_key(id, patch, condition, &Self::new_key()).await
    }

    /// [`Client::patch_item`] with the caller's own idempotency key.
    pub async fn patch_item_with_key(
        &self,
        id: u64,
        patch: &PatchItem,
        condition: Precondition,
        key: &str,
    ) -> Result<Item, ClientError> {
        let url = self.path(&["v1", "items", &id.to_string()]);
        self.write(Method::PATCH, url, patch, condition, key).await
    }

    /// Takes an item out of the catalog. Refused while reservations hold pieces of it; orders keep
    /// their copy.
    ///
    /// ```no_run
    /// # async fn example(store: pygmy::client::Client) -> Result<(), pygmy::client::ClientError> {
    /// use pygmy::client::Precondition;
    /// store.delete_item(5, Precondition::None).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete_item(&self, id: u64, condition: Precondition) -> Result<(), ClientError> {
        self.delete_item_with_key(id, condition, &Self::new_key()).await
    }

    /// [`Client::delete_item`] with the caller's own idempotency key.
    pub async fn delete_item_with_key(
        &self,
        id: u64,
        condition: Precondition,
        key: &str,
    ) -> Result<(), ClientError> {
        let call = Call {
            method: Method::DELETE,
            url: self.path(&["v1", "items", &id.to_string()]),
            headers: condition_headers(condition),
            body: None,
            key: Some(key.into()),
        };
        self.send(call).await.map(drop)
    }

    /// What an item cost when, and its lowest price of the last 30 days.
    ///
    /// ```no_run
    /// # async fn example(store: pygmy::client::Client) -> Result<(), pygmy::client::ClientError> {
    /// for price in store.prices(5).await?.prices {
    ///     println!("{} cents from {}", price.price_cents, price.from);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn prices(&self, id: u64) -> Result<Prices, ClientError> {
        self.read(self.path(&["v1", "items", &id.to_string(), "prices"])).await
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

    /// Takes an order back: its pieces return.
    pub async fn cancel_order(&self, id: u64, cancel: &CancelOrder) -> Result<Order, ClientError> {
        self.cancel_order_with_key(id, cancel, &Self::new_key()).await
    }

    /// [`Client::cancel_order`] with the caller's own idempotency key.
    pub async fn cancel_order_with_key(
        &self,
        id: u64,
        cancel: &CancelOrder,
        key: &str,
    ) -> Result<Order, ClientError> {
        let url = self.path(&["v1", "orders", &id.to_string(), "cancel"]);
        self.write(Method::POST, url, cancel, Precondition::None, key).await
    }

    /// One order.
    pub async fn order(&self, id: u64) -> Result<Order, ClientError> {
        self.read(self.path(&["v1", "orders", &id.to_string()])).await
    }

    /// A page of orders. It may be short, or empty, and still name a next one: the store looks at a
    /// bounded part of its history for each.
    pub async fn orders(&self, query: &OrderQuery) -> Result<OrderPage, ClientError> {
        let mut url = self.path(&["v1", "orders"]);
        add_query(&mut url, "item", query.item);
        add_query(&mut url, "customer", query.customer.as_deref());
        add_query(&mut url, "status", query.status.as_deref());
        add_query(&mut url, "from", query.from.as_deref());
        add_query(&mut url, "to", query.to.as_deref());
        add_query(&mut url, "limit", query.limit);
        add_query(&mut url, "cursor", query.cursor.as_deref());
        self.read(url).await
    }

    // Reservations.

    /// Holds pieces for a time.
    ///
    /// ```no_run
    /// # async fn example(store: pygmy::client::Client) -> Result<(), pygmy::client::ClientError> {
    /// use pygmy::api::{NewOrderLine, NewReservation};
    /// let cart = NewReservation {
    ///     lines: vec![NewOrderLine { item: 5, quantity: 1, expected_price_cents: None }],
    ///     ttl_seconds: 600,
    ///     customer: Some("ada".into()),
    ///     reference: None,
    /// };
    /// let held = store.reserve(&cart).await?;
    /// // Paid within ten minutes: sold at the price of the reservation.
    /// let order = store.confirm(held.id).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn reserve(&self, wanted: &NewReservation) -> Result<Reservation, ClientError> {
        self.reserve_with_key(wanted, &Self::new_key()).await
    }

    /// [`Client::reserve`] with the caller's own idempotency key.
    pub async fn reserve_with_key(
        &self,
        wanted: &NewReservation,
        key: &str,
    ) -> Result<Reservation, ClientError> {
        let url = self.path(&["v1", "reservations"]);
        self.write(Method::POST, url, wanted, Precondition::None, key).await
    }

    /// Sells what a reservation holds.
    pub async fn confirm(&self, id: u64) -> Result<Order, ClientError> {
        self.confirm_with_key(id, &Self::new_key()).await
    }

    /// [`Client::confirm`] with the caller's own idempotency key.
    pub async fn confirm_with_key(&self, id: u64, key: &str) -> Result<Order, ClientError> {
        let url = self.path(&["v1", "reservations", &id.to_string(), "confirm"]);
        self.write_bare(Method::POST, url, key).await
    }

    /// Gives back what a reservation holds.
    pub async fn release(&self, id: u64) -> Result<Reservation, ClientError> {
        self.release_with_key(id, &Self::new_key()).await
    }

    /// [`Client::release`] with the caller's own idempotency key.
    pub async fn release_with_key(&self, id: u64, key: &str) -> Result<Reservation, ClientError> {
        let url = self.path(&["v1", "reservations", &id.to_string()]);
        self.write_bare(Method::DELETE, url, key).await
    }

    /// One reservation.
    pub async fn reservation(&self, id: u64) -> Result<Reservation, ClientError> {
        self.read(self.path(&["v1", "reservations", &id.to_string()])).await
    }

    // Changes.

    /// A page of what happened after a log index: of these kinds, or of all where none is named.
    /// Without an index, it is empty and says where the log is now.
    pub async fn changes(
        &self,
        after: Option<u64>,
        kinds: &[&str],
    ) -> Result<ChangePage, ClientError> {
        let mut url = self.path(&["v1", "changes"]);
        add_query(&mut url, "after", after);
        add_query(&mut url, "kinds", (!kinds.is_empty()).then(|| kinds.join(",")));
        self.read_seed(url).await
    }

    /// What happens after a log index, or from now on, as it happens: of these kinds, or of all where
    /// none is named. When the connection is lost, another one goes on behind the last change, so that
    /// none is missed and none comes twice; when the store cannot be reached for as long as a call may
    /// take, there is an error, and the end.
    ///
    /// ```no_run
    /// # async fn example(store: pygmy::client::Client) -> Result<(), pygmy::client::ClientError> {
    /// use futures_util::StreamExt;
    /// let mut changes = store.follow(None, &["order"]);
    /// while let Some(change) = changes.next().await {
    ///     let change = change?;
    ///     println!("order {} at index {}", change.id, change.index);
    ///     // Whoever keeps this can go on from here after a restart.
    ///     let _after = changes.position();
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn follow(&self, after: Option<u64>, kinds: &[&str]) -> Follow {
        Follow::new(self.clone(), after, kinds)
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

    /// The replicated settings, with their version.
    pub async fn policy(&self) -> Result<PolicyInForce, ClientError> {
        let url = self.path(&["v1", "policy"]);
        let headers = self.read_headers();
        let call = Call { method: Method::GET, url: url.clone(), headers, body: None, key: None };
        policy_from(&url, &self.send(call).await?, None)
    }

    /// Replaces the replicated settings, all of them; with [`Precondition::Version`] only if nobody
    /// else has in the meantime.
    ///
    /// ```no_run
    /// # async fn example(store: pygmy::client::Client) -> Result<(), pygmy::client::ClientError> {
    /// use pygmy::client::Precondition;
    /// let mut now = store.policy().await?;
    /// now.policy.restock_interval_s = Some(30);
    /// store.set_policy(&now.policy, Precondition::Version(now.version)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_policy(
        &self,
        policy: &Policy,
        condition: Precondition,
    ) -> Result<PolicyInForce, ClientError> {
        self.set_policy_with_key(policy, condition, &Self::new_key()).await
    }

    /// [`Client::set_policy`] with the caller's own idempotency key.
    pub async fn set_policy_with_key(
        &self,
        policy: &Policy,
        condition: Precondition,
        key: &str,
    ) -> Result<PolicyInForce, ClientError> {
        let url = self.path(&["v1", "policy"]);
        let body = serde_json::to_vec(policy).expect("the interface's types are JSON objects");
        let call = Call {
            method: Method::PUT,
            url: url.clone(),
            headers: condition_headers(condition),
            body: Some(body),
            key: Some(key.into()),
        };
        policy_from(&url, &self.send(call).await?, Some(key))
    }

    /// Switches maintenance on or off for the whole cluster: while it is on, writes are refused and
    /// reads go on.
    ///
    /// ```no_run
    /// # async fn example(store: pygmy::client::Client) -> Result<(), pygmy::client::ClientError> {
    /// assert!(store.set_maintenance(true).await?.on);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_maintenance(&self, on: bool) -> Result<Maintenance, ClientError> {
        self.set_maintenance_with_key(on, &Self::new_key()).await
    }

    /// [`Client::set_maintenance`] with the caller's own idempotency key.
    pub async fn set_maintenance_with_key(
        &self,
        on: bool,
        key: &str,
    ) -> Result<Maintenance, ClientError> {
        let url = self.path(&["v1", "cluster", "maintenance"]);
        self.write(Method::POST, url, &Maintenance { on }, Precondition::None, key).await
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

    /// How fresh a read must be.
    fn read_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONSISTENCY, HeaderValue::from_static(self.consistency.as_str()));
        if self.consistency == Consistency::Session {
            headers.insert(header::MIN_INDEX, self.session_index().into());
        }
        headers
    }

    async fn read<T: DeserializeOwned>(&self, url: Url) -> Result<T, ClientError> {
        let headers = self.read_headers();
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
        self.send_write(method, url, body, condition_headers(condition), key).await
    }

    /// A write that says all in its path.
    async fn write_bare<T: DeserializeOwned>(
        &self,
        method: Method,
        url: Url,
        key: &str,
    ) -> Result<T, ClientError> {
        let headers = HeaderMap::new();
        let call = Call { method, url: url.clone(), headers, body: None, key: Some(key.into()) };
        decode(&url, &self.send(call).await?, Some(key))
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

fn condition_headers(condition: Precondition) -> HeaderMap {
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
    headers
}

/// A policy with the version of its ETag. One that cannot be read is 0, which no policy that was
/// set has: a write with it is refused, not done blindly.
fn policy_from(url: &Url, reply: &Reply, key: Option<&str>) -> Result<PolicyInForce, ClientError> {
    let policy = decode(url, reply, key)?;
    Ok(PolicyInForce { version: reply.etag.unwrap_or(0), policy })
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

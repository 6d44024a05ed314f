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

mod addresses;
mod cluster;
mod error;
mod events;
mod files;
mod follow;
mod items;
mod orders;
mod reservations;
mod seed;
mod send;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{Consistency, IDEMPOTENCY_KEY_BYTES_MAX, header};

pub use cluster::{PolicyInForce, Readiness};
pub use error::{ClientError, Failure};
pub use files::{Exported, FileFormat, ImportOptions};
pub use follow::{ChangeQuery, Follow};
pub use items::{ItemQuery, LedgerQuery};
pub use orders::OrderQuery;
pub use reservations::ReservationQuery;
pub use seed::{Lookup, Purchase, SearchReply};
pub use send::Timeouts;

use addresses::Addresses;
use send::{Call, Reply};

/// How long it may take to learn who leads.
const LOOK_TIMEOUT: Duration = Duration::from_millis(500);

/// Idle connections kept to one store.
const IDLE_CONNECTIONS_MAX: usize = 64;
/// How long an idle connection is kept; shorter than a server keeps its side.
const IDLE_CONNECTION: Duration = Duration::from_secs(20);

/// A store's client. Cheap to clone; clones share connections and the session.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    addresses: Arc<Addresses>,
    timeouts: Timeouts,
    consistency: Consistency,
    /// The newest log index that a reply has shown.
    session: Arc<AtomicU64>,
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

impl Client {
    /// A client with the usual timeouts. `url` may leave out `http://`, and may be several addresses of
    /// one store with commas between them: then the client goes to another one when one does not answer,
    /// and sends writes to the one that leads.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        Self::with_timeouts(url, Timeouts::default())
    }

    /// A client with timeouts of its own.
    pub fn with_timeouts(url: &str, timeouts: Timeouts) -> Result<Self, ClientError> {
        let refuse = |reason: String| ClientError::Address { url: url.into(), reason };
        let addresses = Arc::new(Addresses::parse(url)?);
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
            addresses,
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

    /// The store's address, the first of several.
    pub fn url(&self) -> &str {
        self.addresses.text()
    }

    /// The newest log index that a reply has shown.
    pub fn session_index(&self) -> u64 {
        self.session.load(Ordering::Relaxed)
    }

    /// An idempotency key that nobody else makes: 128 random bits.
    pub fn new_key() -> String {
        format!("{:032x}", rand::random::<u128>())
    }

    fn path(&self, segments: &[&str]) -> Url {
        let mut url = self.addresses.url(self.addresses.place(false)).clone();
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

    async fn send(&self, call: Call) -> Result<Reply, ClientError> {
        if call.key.as_deref().is_some_and(|key| !is_key(key)) {
            return Err(ClientError::Key);
        }
        if call.key.is_some() && self.addresses.wants_look() {
            self.look_for_leader().await;
        }
        let seen = |headers: &HeaderMap| self.remember(headers);
        send::send(&self.http, &self.timeouts, &self.addresses, call, seen).await
    }

    /// Asks who leads, where that answers soon. Who does not lead passes writes on.
    async fn look_for_leader(&self) {
        let url = self.path(&["v1", "cluster"]);
        let place = self.addresses.place(false);
        let asked = self.http.get(url).timeout(LOOK_TIMEOUT).send();
        let told = match asked.await {
            Ok(response) => response.bytes().await,
            Err(error) => Err(error),
        };
        match told.map(|body| serde_json::from_slice(&body)) {
            Ok(Ok(cluster)) => self.addresses.learn(&cluster),
            // What is no store is found out by the call itself.
            Ok(Err(_)) => {}
            Err(_) => self.addresses.move_on(place),
        }
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

#[cfg(test)]
pub(crate) mod mock;
#[cfg(test)]
mod tests;

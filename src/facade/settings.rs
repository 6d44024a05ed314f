//! What an operator can set on a facade.

use std::time::Duration;

use crate::http::rate_limit::RateLimit;

/// The settings of a facade. The defaults suit a cluster on a local network.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name in `Pygmy-Node` on replies that no member gave.
    pub name: String,
    /// Addresses (`host:port`) of the REST interface of any members. Only a beginning: the others are
    /// learned from the cluster, and these may be gone by then.
    pub seeds: Vec<String>,
    /// How long a request may take in all, elections and retries included.
    pub deadline: Duration,
    /// How long a write may take on one member before it is tried again, with the same key.
    pub attempt_timeout: Duration,
    /// How long a read may take on one replica before the next one is asked.
    pub read_attempt_timeout: Duration,
    /// How long a connection to a member may take.
    pub connect_timeout: Duration,
    /// How long the seed's reads wait for a replica that has this facade's newest write, before they
    /// make do with an older answer.
    pub session_wait: Duration,
    /// How often the members are asked for the membership. Shorter by itself while nobody leads.
    pub poll_interval: Duration,
    /// The pause before a replica that failed is tried again, and the longest that it grows to.
    pub probe_min: Duration,
    /// See `probe_min`.
    pub probe_max: Duration,
    /// How old a reply from the cache may be.
    pub cache_ttl: Duration,
    /// The most replies in the cache; 0 switches it off.
    pub cache_entries: usize,
    /// The most bytes in the cache.
    pub cache_bytes: u64,
    /// The most requests at the same time. Writes may take three quarters of it, so that those that
    /// wait out an election leave room for reads.
    pub max_in_flight: usize,
    /// The most live feeds of changes at the same time; they do not count as requests.
    pub max_feeds: usize,
    /// The longest request body, in bytes.
    pub body_limit: usize,
    /// The most bytes of request bodies held at the same time.
    pub body_budget: usize,
    /// Whether `GET /buy/{n}` sells.
    pub legacy_get_buy: bool,
    /// How many requests each client may send. The listener must tell where they come from
    /// ([`tell_peer`](crate::http::serve::Limits::tell_peer)).
    pub rate_limit: Option<RateLimit>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "facade".to_owned(),
            seeds: Vec::new(),
            deadline: Duration::from_secs(8),
            attempt_timeout: Duration::from_secs(2),
            read_attempt_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_millis(500),
            session_wait: Duration::from_millis(500),
            poll_interval: Duration::from_millis(300),
            probe_min: Duration::from_millis(100),
            probe_max: Duration::from_secs(3),
            cache_ttl: Duration::from_secs(100),
            cache_entries: 10_000,
            cache_bytes: 64 * 1024 * 1024,
            max_in_flight: 2048,
            max_feeds: 2000,
            body_limit: 256 * 1024,
            body_budget: 64 * 1024 * 1024,
            legacy_get_buy: true,
            rate_limit: None,
        }
    }
}

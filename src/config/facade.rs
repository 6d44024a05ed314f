//! What one facade is told: `pygmy facade`.

use std::net::SocketAddr;

use super::document::Document;
use super::reader::Reader;
use super::{ConfigError, LogSection, Sources};
use crate::http::rate_limit;

/// The most seed addresses; one that answers is enough.
const SEEDS_MAX: usize = 64;

const SECTIONS: [&str; 2] = ["facade", "log"];

/// A facade's whole configuration, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FacadeConfig {
    /// The facade itself.
    pub facade: FacadeSection,
    /// Logging.
    pub log: LogSection,
}

/// `[facade]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FacadeSection {
    /// Its name, shown in logs and replies.
    pub name: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Whether `listen` may be reachable from other machines.
    pub insecure: bool,
    /// API addresses of some members, `host:port`; the others are learned from them.
    pub seeds: Vec<String>,
    /// How long a request may take with all its retries.
    pub deadline_ms: u64,
    /// How long one attempt at one node may take; at most `deadline_ms`.
    pub attempt_timeout_ms: u64,
    /// How long a cached reply may be used.
    pub cache_ttl_s: u64,
    /// The most cached replies; 0 switches the cache off.
    pub cache_entries: usize,
    /// Requests in work at the same time; more are answered with 503 `overloaded`.
    pub max_in_flight: usize,
    /// Open connections; more wait in the kernel's queue.
    pub max_connections: usize,
    /// How long a client may take to send a request's headers.
    pub header_timeout_ms: u64,
    /// The largest request body.
    pub body_limit_bytes: usize,
    /// Whether the original's `GET /buy/{n}/` is served.
    pub legacy_get_buy: bool,
    /// How many requests each client may send; none where it is switched off.
    pub rate_limit: Option<rate_limit::Settings>,
    /// Live feeds of changes at the same time; more are answered with 503 `overloaded`.
    pub max_feeds: usize,
    /// As in a node's section.
    pub batch_scheduling: bool,
}

impl FacadeConfig {
    /// Reads and checks a facade's configuration.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut document = Document::load(sources, &SECTIONS)?;
        let facade = FacadeSection::read(document.section("facade"));
        let log = LogSection::read(document.section("log"));
        document.finish()?;
        Ok(Self { facade, log })
    }
}

impl FacadeSection {
    fn read(mut reader: Reader<'_>) -> Self {
        let insecure = reader.switch("insecure", false).value;
        let name = reader.name("name", Some("facade")).value;
        let listen = reader.listen("listen", Some("127.0.0.1:8080"), insecure).value;
        let seeds = reader.addresses("seeds", SEEDS_MAX);
        let deadline = reader.number("deadline_ms", 10_000, 1..=600_000);
        let attempt = reader.number("attempt_timeout_ms", 2000.min(deadline.value), 1..=600_000);
        if attempt.value > deadline.value {
            let what = format!(
                "{} must not be more than facade.deadline_ms ({}), which bounds all attempts \
                together",
                attempt.value, deadline.value
            );
            reader.refuse(attempt.blame(&deadline), "attempt_timeout_ms", what);
        }
        let cache_ttl_s = reader.number("cache_ttl_s", 100, 1..=86_400).value;
        let mut size = |key, default, range| {
            usize::try_from(reader.number(key, default, range).value)
                .expect("the ranges of sizes end far below 32 bits")
        };
        let cache_entries = size("cache_entries", 10_000, 0..=10_000_000);
        let max_in_flight = size("max_in_flight", 2048, 1..=1_000_000);
        let max_connections = size("max_connections", 4096, 1..=1_000_000);
        let body_limit_bytes = size("body_limit_bytes", 262_144, 1..=67_108_864);
        let header_timeout_ms = reader.number("header_timeout_ms", 5000, 1..=600_000).value;
        let legacy_get_buy = reader.switch("legacy_get_buy", true).value;
        let rate_limit = reader.rate_limit();
        let max_feeds = usize::try_from(reader.number("max_feeds", 2000, 0..=1_000_000).value)
            .expect("the ranges of sizes end far below 32 bits");
        let batch_scheduling = reader.switch("batch_scheduling", true).value;
        reader.finish();
        Self {
            name,
            listen,
            insecure,
            seeds,
            deadline_ms: deadline.value,
            attempt_timeout_ms: attempt.value,
            cache_ttl_s,
            cache_entries,
            max_in_flight,
            max_connections,
            header_timeout_ms,
            body_limit_bytes,
            legacy_get_buy,
            rate_limit,
            max_feeds,
            batch_scheduling,
        }
    }
}

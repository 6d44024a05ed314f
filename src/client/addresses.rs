//! Where a store can be reached: one address, or several of its nodes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Url;

use super::error::ClientError;
use crate::api::Cluster;

/// How often it is asked who leads while that is known.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How often while it is not.
const SEARCH_INTERVAL: Duration = Duration::from_millis(500);
/// No address.
const NONE: usize = usize::MAX;

/// The addresses of a store, at least one; which of them answers; which of them leads.
#[derive(Debug)]
pub(super) struct Addresses {
    all: Vec<Url>,
    /// Where calls go.
    at: AtomicUsize,
    /// Where writes go, if that is known.
    leader: AtomicUsize,
    /// When it was asked last who leads.
    looked: Mutex<Option<Instant>>,
}

impl Addresses {
    /// Reads addresses with commas between them. Each may leave out `http://`.
    pub(super) fn parse(text: &str) -> Result<Self, ClientError> {
        let all = text.split(',').map(|one| parse_one(one.trim())).collect::<Result<_, _>>()?;
        let (at, leader) = (AtomicUsize::new(0), AtomicUsize::new(NONE));
        Ok(Self { all, at, leader, looked: Mutex::default() })
    }

    /// The first of them, as text.
    pub(super) fn text(&self) -> &str {
        self.all.first().map_or("", |url| url.as_str().trim_end_matches('/'))
    }

    /// Where the next call goes.
    pub(super) fn place(&self, is_write: bool) -> usize {
        let leader = self.leader.load(Ordering::Relaxed);
        if is_write && leader != NONE { leader } else { self.at.load(Ordering::Relaxed) }
    }

    /// An address by its place.
    pub(super) fn url(&self, place: usize) -> &Url {
        // Places come from here.
        &self.all[place % self.all.len()]
    }

    /// Aims a request that was made for one address at another.
    pub(super) fn aim(&self, place: usize, url: &mut Url) {
        let to = self.url(place);
        // Neither can fail: both are http:// addresses with a host.
        let _ = url.set_host(to.host_str());
        let _ = url.set_port(to.port());
    }

    /// One did not answer, or cannot work: from now on another one is asked.
    pub(super) fn move_on(&self, from: usize) {
        let next = (from + 1) % self.all.len();
        let _ = self.at.compare_exchange(from, next, Ordering::Relaxed, Ordering::Relaxed);
        let _ = self.leader.compare_exchange(from, NONE, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether it is time to ask who leads. Where there is one address, everything goes there.
    pub(super) fn wants_look(&self) -> bool {
        if self.all.len() == 1 {
            return false;
        }
        let known = self.leader.load(Ordering::Relaxed) != NONE;
        let interval = if known { LOOK_INTERVAL } else { SEARCH_INTERVAL };
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = looked.is_none_or(|at| at.elapsed() >= interval);
        if is_time {
            *looked = Some(Instant::now());
        }
        is_time
    }

    /// Takes note of who leads. A leader that is not among the addresses is nobody to write to.
    pub(super) fn learn(&self, cluster: &Cluster) {
        let leader = cluster.leader.as_ref();
        let api = leader.and_then(|name| cluster.members.iter().find(|m| m.name == *name));
        let place = api.and_then(|member| {
            let leader = parse_one(&member.api).ok()?;
            self.all.iter().position(|url| url.origin() == leader.origin())
        });
        self.leader.store(place.unwrap_or(NONE), Ordering::Relaxed);
    }
}

fn parse_one(text: &str) -> Result<Url, ClientError> {
    let refuse = |reason: String| ClientError::Address { url: text.into(), reason };
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&full).map_err(|error| refuse(error.to_string()))?;
    if url.scheme() != "http" || !url.has_host() {
        return Err(refuse("the store speaks http://".into()));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::api::{NewOrder, NewOrderLine};
    use crate::client::mock::{Mock, Say, item, order};
    use crate::client::{Client, Timeouts};

    /// An address at which nobody listens.
    async fn nobody() -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        listener.local_addr().expect("has one").to_string()
    }

    fn one() -> NewOrder {
        let lines = vec![NewOrderLine { item: 5, quantity: 1, expected_price_cents: None }];
        NewOrder { lines, customer: None, reference: None }
    }

    fn client(addresses: &[&str]) -> Client {
        let timeouts = Timeouts::within(Duration::from_secs(20));
        Client::with_timeouts(&addresses.join(","), timeouts).expect("addresses")
    }

    #[test]
    fn addresses_are_read_one_by_one() {
        let parsed = Addresses::parse("a:1, http://b:2").expect("two");
        assert_eq!(parsed.text(), "http://a:1");
        assert_eq!((parsed.url(1).host_str(), parsed.url(1).port()), (Some("b"), Some(2)));
        for wrong in ["", "a:1,", "a:1,https://b:2"] {
            assert!(Addresses::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn another_address_is_asked_when_one_does_not_answer() {
        let mock = Mock::start(|seen| match seen.line.as_str() {
            "GET /v1/items/5" => Say::json(200, item(5, "T", 4)),
            "POST /v1/orders" => Say::json(201, order(1, 5)),
            "GET /v1/cluster" => Say::problem(503, "no_leader", None, true),
            other => panic!("{other}"),
        })
        .await;
        let (dead, gone) = (nobody().await, nobody().await);
        let store = client(&[&dead, &gone, &mock.url]);
        assert_eq!(store.item(5).await.expect("an item").id, 5);
        // It stays there.
        assert_eq!(store.item(5).await.expect("an item").id, 5);
        let store = client(&[&dead, &mock.url]);
        assert_eq!(store.place_order(&one()).await.expect("an order").id, 1);
    }

    #[tokio::test]
    async fn writes_follow_the_leader_with_one_key_and_reads_stay() {
        let leads = Arc::new(Mutex::new(String::new()));
        let told = leads.clone();
        let apis = Arc::new(Mutex::new(Vec::<String>::new()));
        let known = apis.clone();
        let cluster = move || {
            let rows: Vec<_> = known.lock().expect("free").iter().enumerate().map(|(at, api)| {
                json!({
                    "name": format!("node{at}"), "id": at, "roles": ["catalog"], "kind": "voter",
                    "api": api, "peer": "p:1", "up": true, "last_heard_ms": 1,
                    "applied_index": 1, "lag": 0, "version": null,
                })
            }).collect();
            let leader = told.lock().expect("free").clone();
            json!({"cluster_id": "c", "leader": leader, "term": 1, "maintenance": false,
                "members": rows})
        };
        let answer = move |seen: &crate::client::mock::Seen| match seen.line.as_str() {
            "GET /v1/cluster" => Say::json(200, cluster()),
            "GET /v1/items/5" => Say::json(200, item(5, "T", 4)),
            "POST /v1/orders" => Say::json(201, order(1, 5)),
            other => panic!("{other}"),
        };
        let first = Mock::start(answer.clone()).await;
        let second = Mock::start(answer).await;
        // The third of the cluster leads at first, and dies.
        let dead = nobody().await;
        let of = |mock: &Mock| mock.url.trim_start_matches("http://").to_owned();
        *apis.lock().expect("free") = vec![of(&first), of(&second), dead.clone()];
        *leads.lock().expect("free") = "node2".to_owned();
        let store = client(&[&first.url, &second.url, &dead]);
        store.place_order_with_key(&one(), "k-1").await.expect("an order");
        let seen = |mock: &Mock, line: &str| {
            mock.seen().into_iter().filter(|seen| seen.line == line).collect::<Vec<_>>()
        };
        let bought = seen(&first, "POST /v1/orders");
        assert_eq!(bought.len(), 1, "the dead one was left");
        assert_eq!(bought[0].headers["idempotency-key"], "k-1");
        *leads.lock().expect("free") = "node1".to_owned();
        // Who leads now is asked again soon.
        while seen(&second, "POST /v1/orders").is_empty() {
            store.place_order(&one()).await.expect("an order");
        }
        store.item(5).await.expect("an item");
        assert_eq!(seen(&first, "GET /v1/items/5").len(), 1);
        assert!(seen(&second, "GET /v1/items/5").is_empty());
    }
}

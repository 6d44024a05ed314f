//! A rate limit around the node's handlers: at it, below it and above it.

use std::{num::NonZeroU32, time::Duration};

use governor::clock::{Clock, FakeRelativeClock};

use super::store::{Ask, Reply, Store, ask, buy, get, put, settings};
use crate::{
    api::{WriteOutcome, header},
    http::{
        problem::Code,
        rate_limit::{self, RateLimit},
    },
};

const NOT_APPLIED: Option<WriteOutcome> = Some(WriteOutcome::NotApplied);
const CLIENT: &str = "192.0.2.1";
const FACADE: &str = "10.0.0.7";

/// A store that gives each client three requests at once and two a second, behind a facade; by a clock
/// that stands until it is moved.
async fn limited() -> (Store, Store, FakeRelativeClock) {
    let clock = FakeRelativeClock::default();
    let told = clock.clone();
    let limit = rate_limit::Settings {
        per_second: NonZeroU32::new(2).unwrap(),
        burst: NonZeroU32::new(3).unwrap(),
        trusted_proxies: vec![FACADE.parse::<std::net::IpAddr>().unwrap().into()],
    };
    let mut settings = settings();
    settings.rate_limit = Some(RateLimit::with_clock(limit, move || told.now().into()));
    let open = Store::start().await;
    (open.again(settings), open, clock)
}

fn from(client: &str, ask: Ask) -> Ask {
    ask.from(client.parse().unwrap())
}

fn left(reply: &Reply) -> &str {
    assert_eq!(reply.header(header::RATE_LIMIT_POLICY), "\"address\";q=3;w=2");
    reply.header(header::RATE_LIMIT)
}

#[tokio::test]
async fn one_request_too_many_is_refused_and_does_nothing() {
    let (store, open, clock) = limited().await;
    for (n, ask) in [buy(1, 1), get("/v1/items/1"), get("/v1/nowhere")].into_iter().enumerate() {
        let reply = store.send(from(CLIENT, ask)).await;
        assert_eq!(left(&reply), format!("\"address\";r={}", 2 - n));
    }
    let before = open.mark();
    let item = serde_json::json!({ "title": "T", "topic": "A", "price_cents": 1 });
    for ask in [buy(1, 1), get("/buy/1/"), put("/v1/items/9", &item), ask("POST", "/restock/")] {
        let reply = store.send(from(CLIENT, ask)).await;
        reply.problem(Code::RateLimited, NOT_APPLIED);
        assert_eq!((left(&reply), reply.header("retry-after")), ("\"address\";r=0", "1"));
    }
    for path in ["/v1/items/1", "/v1/nowhere", "/heartbeat/", "/"] {
        store.send(from(CLIENT, get(path))).await.problem(Code::RateLimited, None);
    }
    assert_eq!(open.mark(), before);
    clock.advance(Duration::from_millis(499));
    store.send(from(CLIENT, buy(1, 1))).await.problem(Code::RateLimited, NOT_APPLIED);
    clock.advance(Duration::from_millis(1));
    assert_eq!(store.send(from(CLIENT, buy(1, 1))).await.status, 201);
    assert_eq!(open.item(1).await["stock"], 8);
}

#[tokio::test]
async fn nobody_pays_for_somebody_else_and_health_is_free() {
    let (store, ..) = limited().await;
    for _ in 0..3 {
        assert_eq!(store.send(from(CLIENT, get("/v1/items"))).await.status, 200);
    }
    store.send(from(CLIENT, get("/v1/items"))).await.problem(Code::RateLimited, None);
    assert_eq!(store.send(from("192.0.2.2", get("/v1/items"))).await.status, 200);
    for path in ["/livez", "/readyz", "/clusterz"] {
        let reply = store.send(from(CLIENT, get(path))).await;
        assert_eq!((reply.status.as_u16(), reply.header(header::RATE_LIMIT)), (200, ""), "{path}");
    }
}

#[tokio::test]
async fn a_facade_is_not_counted_and_a_proxy_speaks_for_its_clients() {
    let (store, ..) = limited().await;
    for _ in 0..10 {
        let reply = store.send(from(FACADE, get("/v1/items"))).await;
        assert_eq!((reply.status.as_u16(), reply.header(header::RATE_LIMIT)), (200, ""));
    }
    let behind = |client: &str| from(FACADE, get("/v1/items")).header("x-forwarded-for", client);
    for n in (0..3).rev() {
        assert_eq!(left(&store.send(behind(CLIENT)).await), format!("\"address\";r={n}"));
    }
    store.send(behind(CLIENT)).await.problem(Code::RateLimited, None);
    assert_eq!(store.send(behind("192.0.2.2")).await.status, 200);
    // It is the same client when it comes by itself, whatever it says of itself.
    let alone = from(CLIENT, get("/v1/items")).header("x-forwarded-for", "192.0.2.3");
    store.send(alone).await.problem(Code::RateLimited, None);
}

#[tokio::test]
async fn without_a_limit_nothing_is_said_of_one() {
    let store = Store::start().await;
    for _ in 0..10 {
        let reply = store.send(from(CLIENT, get("/v1/items"))).await;
        assert_eq!(reply.header(header::RATE_LIMIT), "");
        assert_eq!(reply.header(header::RATE_LIMIT_POLICY), "");
    }
}

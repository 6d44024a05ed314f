//! A facade's rate limit: by the client's address, and never paid for by the members.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use governor::clock::{Clock, FakeRelativeClock};
use pygmy::api::{WriteOutcome, header};
use pygmy::http::rate_limit::{RateLimit, Settings};

use crate::mock::{Got, Shop, Store, settings};

const CLIENT: &str = "192.0.2.1";
const PROXY: &str = "10.0.0.7";

/// A facade that gives each client two requests at once and one a second.
fn limited(store: &Store) -> (Shop, FakeRelativeClock) {
    let clock = FakeRelativeClock::default();
    let told = clock.clone();
    let limit = Settings {
        per_second: NonZeroU32::MIN,
        burst: NonZeroU32::new(2).unwrap(),
        trusted_proxies: vec![PROXY.parse::<IpAddr>().unwrap().into()],
    };
    let mut settings = settings(vec![store.nodes[0].address.to_string()]);
    settings.rate_limit = Some(RateLimit::with_clock(limit, move || told.now().into()));
    (Shop::start(settings), clock)
}

async fn send(shop: &Shop, method: &str, target: &str, from: &str, forwarded: Option<&str>) -> Got {
    let body = match method {
        "POST" => Body::from(r#"{"lines":[{"item":5,"quantity":1}]}"#),
        _ => Body::empty(),
    };
    let mut request = Request::builder().method(method).uri(target).body(body).unwrap();
    let address: IpAddr = from.parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(SocketAddr::new(address, 4711)));
    if let Some(forwarded) = forwarded {
        request.headers_mut().insert("x-forwarded-for", forwarded.parse().unwrap());
    }
    shop.send(request).await
}

#[tokio::test]
async fn one_request_too_many_is_refused_by_the_facade_and_no_member_sees_it() {
    let store = Store::of_three().await;
    let (shop, clock) = limited(&store);
    let get = async |path| send(&shop, "GET", path, CLIENT, None).await;
    let order = async || send(&shop, "POST", "/v1/orders", CLIENT, None).await;
    let (first, second) = (order().await, get("/v1/items/5").await);
    assert_eq!((first.status, first.header(header::RATE_LIMIT)), (201, Some("\"address\";r=1")));
    assert_eq!((second.status, second.header(header::RATE_LIMIT)), (200, Some("\"address\";r=0")));
    let asked = store.counts("/");
    for (method, path, outcome) in [
        ("POST", "/v1/orders", Some(WriteOutcome::NotApplied)),
        ("GET", "/buy/5/", Some(WriteOutcome::NotApplied)),
        ("DELETE", "/invalidate/5/", Some(WriteOutcome::NotApplied)),
        ("GET", "/v1/items/5", None),
        ("GET", "/heartbeat/", None),
        ("GET", "/sync/", None),
    ] {
        let got = send(&shop, method, path, CLIENT, None).await;
        let problem = got.problem();
        assert_eq!((got.status, problem.code.as_str()), (429, "rate_limited"), "{method} {path}");
        assert_eq!((problem.outcome, problem.retryable), (outcome, true), "{method} {path}");
        assert_eq!(got.header("retry-after"), Some("1"));
        assert_eq!(got.header(header::RATE_LIMIT), Some("\"address\";r=0"));
        assert_eq!(got.header(header::RATE_LIMIT_POLICY), Some("\"address\";q=2;w=2"));
        assert_eq!(got.node(), "facade");
    }
    assert_eq!(store.counts("/"), asked);
    assert_eq!(store.truth().sales, [5]);
    assert_eq!(get("/livez").await.status, 200);
    assert_eq!(get("/readyz").await.header(header::RATE_LIMIT), None);
    assert_eq!(send(&shop, "GET", "/v1/items/5", "192.0.2.2", None).await.status, 200);
    clock.advance(Duration::from_millis(999));
    assert_eq!(order().await.status, 429);
    clock.advance(Duration::from_millis(1));
    assert_eq!(order().await.status, 201);
    assert_eq!(store.truth().sales, [5, 5]);
}

#[tokio::test]
async fn a_trusted_proxy_speaks_for_its_clients_and_the_members_hear_nothing_of_it() {
    let store = Store::of_three().await;
    let (shop, _) = limited(&store);
    let get = async |from, forwarded| send(&shop, "GET", "/v1/items/5", from, forwarded).await;
    for status in [200, 200, 429] {
        assert_eq!(get(PROXY, Some("1.1.1.1, 192.0.2.1")).await.status, status);
    }
    assert_eq!(get(CLIENT, Some("192.0.2.9")).await.status, 429, "the same client, alone");
    assert_eq!(get("192.0.2.3", Some("198.51.100.1")).await.status, 200);
    for _ in 0..5 {
        assert_eq!(get(PROXY, None).await.status, 200, "its own requests are not counted");
    }
    // A member that trusts this facade would take the header for a client to count.
    for seen in store.nodes.iter().flat_map(|node| node.seen_of("/v1/items/5")) {
        assert!(!seen.headers.contains_key("x-forwarded-for"), "{seen:?}");
    }
}

//! Reads through the facade: balancing, roles, failing replicas, levels, limits.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use pygmy::api::header;
use pygmy::http::problem::Code;

use crate::mock::{Behaviour, Shop, Store, settings, until};

#[tokio::test]
async fn reads_are_spread_in_turn() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    for _ in 0..30 {
        assert_eq!(shop.get("/lookup/5/").await.status, 200);
    }
    assert_eq!(store.counts("/lookup"), [10, 10, 10]);
}

#[tokio::test]
async fn reads_go_to_the_role_and_to_others_when_nobody_of_it_is_left() {
    let store = Store::start(&[
        ("catalog1", &["catalog"]),
        ("catalog2", &["catalog"]),
        ("order1", &["order"]),
    ])
    .await;
    let shop = store.facade(|_| {}).await;
    for _ in 0..4 {
        shop.get("/lookup/5").await;
        shop.get("/v1/orders?limit=3").await;
    }
    assert_eq!(store.counts("/lookup"), [2, 2, 0]);
    assert_eq!(store.counts("/v1/orders"), [0, 0, 4]);
    store.nodes[0].kill().await;
    store.nodes[1].kill().await;
    assert_eq!(shop.get("/lookup/5").await.node(), "order1");
}

#[tokio::test]
async fn a_dead_replica_costs_no_request_and_comes_back() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    store.nodes[1].kill().await;
    for _ in 0..10 {
        assert_eq!(shop.get("/lookup/5").await.status, 200);
    }
    until("the flag falls", async || shop.flags().await["n2"] == 0).await;
    assert_eq!(shop.flags().await["n1"], 1);
    store.nodes[1].restart().await;
    until("the flag rises", async || shop.flags().await["n2"] == 1).await;
    let before = store.counts("/lookup")[1];
    for _ in 0..3 {
        shop.get("/lookup/5").await;
    }
    assert_eq!(store.counts("/lookup")[1], before + 1);
}

#[tokio::test]
async fn a_replica_that_is_not_ready_stays_out() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    let recovering = Behaviour {
        fail: Some(("/lookup", Code::Recovering, None)),
        not_ready: true,
        ..Behaviour::default()
    };
    store.nodes[0].behave(recovering);
    for _ in 0..9 {
        assert_eq!(shop.get("/lookup/5").await.status, 200);
    }
    assert_eq!(store.counts("/lookup")[0], 1);
    assert_eq!(shop.flags().await["n1"], 0);
    store.nodes[0].behave(Behaviour::default());
    until("it is used again", async || {
        shop.get("/lookup/5").await;
        store.counts("/lookup")[0] > 1
    })
    .await;
}

#[tokio::test]
async fn a_member_that_the_cluster_calls_down_is_passed_over() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    store.truth().members.get_mut("n2").unwrap().up = false;
    until("the flag falls", async || shop.flags().await["n2"] == 0).await;
    for _ in 0..6 {
        shop.get("/lookup/5").await;
    }
    assert_eq!(store.counts("/lookup"), [3, 0, 3]);
}

#[tokio::test]
async fn a_slow_replica_is_left_for_the_next_one() {
    let store = Store::of_three().await;
    let shop =
        store.facade(|settings| settings.read_attempt_timeout = Duration::from_millis(50)).await;
    store.nodes[0].behave(Behaviour { hold: Some("/lookup"), mute: true, ..Behaviour::default() });
    for _ in 0..6 {
        let got = shop.get("/lookup/5").await;
        assert!(got.status == 200 && got.node() != "n1", "{got:?}");
    }
    until("it is found to hang", async || shop.flags().await["n1"] == 0).await;
}

#[tokio::test]
async fn a_busy_replica_gets_fewer_reads() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    store.nodes[0].behave(Behaviour { hold: Some("/lookup"), ..Behaviour::default() });
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(shop.spawn_get("/lookup/5"));
    }
    until("one read is held", async || store.counts("/lookup") == [1, 1, 1]).await;
    for _ in 0..6 {
        shop.get("/lookup/5").await;
    }
    assert_eq!(store.counts("/lookup"), [1, 4, 4]);
    store.nodes[0].behave(Behaviour::default());
    for read in held {
        assert_eq!(read.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_reply_that_breaks_off_is_asked_for_again() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    store.nodes[0].behave(Behaviour { break_off: Some("/lookup"), ..Behaviour::default() });
    for _ in 0..3 {
        assert_eq!(shop.get("/lookup/5").await.json()["item"], 5);
    }
}

#[tokio::test]
async fn errors_of_the_client_are_passed_back_and_not_repeated() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    for node in &store.nodes {
        node.behave(Behaviour {
            fail: Some(("/v1/items", Code::NotFound, None)),
            ..Behaviour::default()
        });
    }
    let got = shop.get("/v1/items/77").await;
    assert_eq!((got.status, got.problem().code.as_str()), (404, "not_found"));
    assert_eq!(store.counts("/v1/items").iter().sum::<usize>(), 1);
}

#[tokio::test]
async fn a_refusal_by_all_is_passed_back() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    for node in &store.nodes {
        node.behave(Behaviour {
            fail: Some(("/v1/items", Code::Overloaded, None)),
            ..Behaviour::default()
        });
    }
    let got = shop.get("/v1/items").await;
    assert_eq!((got.status, got.problem().code.as_str()), (503, "overloaded"));
    assert_eq!(got.header("retry-after"), Some("1"));
    assert_eq!(store.counts("/v1/items"), [1, 1, 1]);
    assert_eq!(shop.flags().await.values().sum::<u8>(), 3, "a busy replica is not a failed one");
}

#[tokio::test]
async fn linearizable_reads_wait_out_an_election() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    store.elect(None);
    let read = shop.spawn_get("/v1/items/5");
    until("all were asked", async || store.counts("/v1/items").iter().all(|n| *n > 0)).await;
    store.elect(Some(1));
    assert_eq!(read.await.unwrap().status, 200);
}

#[tokio::test]
async fn linearizable_reads_say_so_when_nobody_leads_until_the_deadline() {
    let store = Store::of_three().await;
    let shop = store.facade(|settings| settings.deadline = Duration::from_millis(500)).await;
    store.elect(None);
    let got = shop.get("/v1/items/5").await;
    assert_eq!((got.status, got.problem().code.as_str()), (503, "no_leader"));
    assert_eq!(shop.get("/v1/items/5?consistency=x").await.status, 503);
}

#[tokio::test]
async fn lookups_show_the_buyers_own_purchase() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    store.nodes[0].behave(Behaviour { stuck_at: Some(10), ..Behaviour::default() });
    assert_eq!(shop.get("/buy/5/").await.status, 200);
    for _ in 0..6 {
        let got = shop.get("/lookup/5/").await;
        assert_eq!(got.json()["level"], "session");
        assert_eq!(got.json()["stock"], 99);
        assert_ne!(got.node(), "n1");
    }
}

#[tokio::test]
async fn lookups_go_on_when_nobody_can_show_the_newest_write() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    assert_eq!(shop.get("/buy/5").await.status, 200);
    for node in &store.nodes {
        node.behave(Behaviour { stuck_at: Some(10), ..Behaviour::default() });
    }
    store.elect(None);
    let got = shop.get("/lookup/5").await;
    assert_eq!(got.status, 200);
    assert_eq!(got.json()["level"], "stale");
    assert_eq!(got.header(header::INDEX), Some("10"), "the reply says how old it is");
    // Whoever asks for a level in so many words gets that or an error.
    let strict = Request::get("/lookup/5")
        .header(header::CONSISTENCY, "session")
        .header(header::MIN_INDEX, "11")
        .body(Body::empty())
        .unwrap();
    assert_eq!(shop.send(strict).await.problem().code, "too_stale");
}

#[tokio::test]
async fn the_facade_goes_on_when_its_seeds_are_gone() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    store.nodes[0].kill().await;
    store.elect(Some(1));
    store.truth().members.remove("n1");
    until("the seed is forgotten", async || shop.flags().await.len() == 2).await;
    assert_eq!(shop.get("/lookup/5").await.status, 200);
    assert_eq!(shop.order(5).await.status, 201);
    assert_eq!(shop.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn without_any_member_reads_and_readiness_say_so() {
    let shop = Shop::start(settings(vec!["127.0.0.1:1".into()]));
    let got = shop.get("/readyz").await;
    assert_eq!((got.status, got.problem().code.as_str()), (503, "no_leader"));
    assert_eq!(shop.get("/livez").await.status, 200);
    assert_eq!(shop.get("/heartbeat").await.json(), serde_json::json!({}));
    let mut quick = settings(vec!["127.0.0.1:1".into()]);
    quick.deadline = Duration::from_millis(50);
    quick.session_wait = Duration::from_millis(10);
    let shop = Shop::start(quick);
    for target in ["/lookup/5", "/v1/items"] {
        let got = shop.get(target).await;
        assert!(matches!(got.status, 503 | 504), "{got:?}");
        got.problem();
    }
}

#[tokio::test]
async fn requests_pass_through_as_they_are() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    let request = Request::post("/v1/items?x=%20y&z")
        .header(header::REQUEST_ID, "abc")
        .header(header::IDEMPOTENCY_KEY, "mine")
        .header("x-other", "1")
        .header("host", "shop")
        .header("connection", "x-private")
        .header("x-private", "1")
        .body(Body::from("any \u{0} bytes"))
        .unwrap();
    let got = shop.send(request).await;
    assert_eq!(got.status, 200);
    assert_eq!(got.header(header::REQUEST_ID), Some("abc"));
    let seen = &store.nodes[0].seen_of("/v1/items")[0];
    assert_eq!(seen.target, "/v1/items?x=%20y&z");
    assert_eq!(seen.body, "any \u{0} bytes".as_bytes());
    assert_eq!(seen.headers[header::REQUEST_ID], "abc");
    assert_eq!(seen.headers[header::IDEMPOTENCY_KEY], "mine");
    assert_eq!(seen.headers["x-other"], "1");
    assert!(!seen.headers.contains_key("x-private"));
    assert!(!seen.headers.contains_key("host"), "the name is that of another");
}

#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    let length = shop.get("/lookup/5").await.body.len();
    let got = shop.send(Request::head("/lookup/5").body(Body::empty()).unwrap()).await;
    assert_eq!(got.status, 200);
    assert!(got.body.is_empty());
    assert_eq!(got.header("content-length"), Some(length.to_string().as_str()));
}

#[tokio::test]
async fn overload_is_refused_at_once_and_writes_leave_room_for_reads() {
    let store = Store::of_three().await;
    let shop = store.facade(|settings| settings.max_in_flight = 4).await;
    for node in &store.nodes {
        node.behave(Behaviour { hold: Some("/"), ..Behaviour::default() });
    }
    let writes: Vec<_> = (0..3).map(|_| shop.spawn_get("/buy/5")).collect();
    until("three writes wait", async || store.counts("/buy").iter().sum::<usize>() == 3).await;
    let refused = shop.order(5).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    let problem = refused.problem();
    assert_eq!(problem.code, "overloaded");
    assert_eq!(problem.outcome, Some(pygmy::api::WriteOutcome::NotApplied));
    let bought = shop.get("/buy/5").await;
    assert_eq!((bought.status, &bought.body[..]), (503, &br#"{"Result": "0"}"#[..]));
    let read = shop.spawn_get("/lookup/5");
    until("a read has room", async || store.counts("/lookup").iter().sum::<usize>() == 1).await;
    assert_eq!(shop.get("/lookup/5").await.problem().code, "overloaded");
    assert_eq!(shop.get("/livez").await.status, 200, "what costs nothing is always answered");
    for node in &store.nodes {
        node.behave(Behaviour::default());
    }
    for held in writes.into_iter().chain([read]) {
        assert_eq!(held.await.unwrap().status, 200);
    }
    assert_eq!(shop.get("/lookup/5").await.status, 200);
}

#[tokio::test]
async fn what_the_facade_refuses_by_itself() {
    let store = Store::of_three().await;
    let shop = store.facade(|settings| settings.body_limit = 100).await;
    let send = async |method: &str, target: &str, body: Vec<u8>| {
        let request = Request::builder().method(method).uri(target).body(Body::from(body));
        let got = shop.send(request.unwrap()).await;
        assert_eq!(got.node(), "facade", "{got:?}");
        (got.status, got.problem().code)
    };
    let expect = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(send("GET", "/sync/", vec![]).await, expect(410, "replaced"));
    assert_eq!(send("PUT", "/heartbeat/", vec![]).await, expect(410, "replaced"));
    assert_eq!(send("POST", "/update/5:buy/", vec![]).await, expect(410, "replaced"));
    assert_eq!(send("POST", "/buy/5", vec![]).await, expect(405, "method_not_allowed"));
    assert_eq!(send("BREW", "/", vec![]).await, expect(405, "method_not_allowed"));
    assert_eq!(send("BREW", "/nowhere", vec![]).await, expect(404, "not_found"));
    assert_eq!(send("GET", "/search/../buy/5", vec![]).await, expect(400, "malformed"));
    assert_eq!(send("POST", "/v1/orders", vec![b'x'; 101]).await, expect(413, "too_large"));
    assert!(store.counts("/").iter().all(|count| *count == 0));
}

#[tokio::test]
async fn a_facade_that_is_its_own_seed_does_not_run_in_circles() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut own = settings(vec![address.to_string()]);
    own.deadline = Duration::from_secs(1);
    let shop = Shop::start(own);
    let app = shop.facade.app();
    let served = pygmy::http::serve::serve(
        listener,
        app,
        pygmy::http::serve::Limits::default(),
        std::future::pending(),
        Duration::ZERO,
    );
    let serving = tokio::spawn(served);
    let got = shop.get("/v1/items").await;
    assert_eq!(got.problem().code, "internal");
    serving.abort();
}

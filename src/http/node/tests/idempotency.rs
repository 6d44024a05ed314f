//! The same key: the same reply, once more, and nothing else.

use serde_json::json;

use super::store::{Ask, Store, ask, buy, get, post, put};
use crate::{api::WriteOutcome, http::problem::Code};

const NOT_APPLIED: Option<WriteOutcome> = Some(WriteOutcome::NotApplied);

/// The same request, as often as wanted.
type Again = fn() -> Ask;

#[tokio::test]
async fn the_first_reply_is_given_again_and_nothing_happens_twice() {
    let store = Store::start().await;
    let requests: [(&str, Again); 5] = [
        ("order", || buy(1, 2)),
        ("create", || {
            let item = json!({ "title": "T", "topic": "A", "price_cents": 1, "stock": 5 });
            put("/v1/items/9", &item).header("if-none-match", "*")
        }),
        ("stock", || post("/v1/items/1/stock", &json!({ "delta": 5, "reason": "received" }))),
        ("restock", || ask("POST", "/restock/")),
        ("buy", || get("/buy/1/")),
    ];
    for (key, request) in requests {
        let first = store.send(request().key(key)).await;
        assert!(first.status.is_success() && !first.replayed(), "{key}: {first:?}");
        // Something else happens in between.
        assert_eq!(store.send(buy(1, 1)).await.status, 201);
        let before = store.contents().await;
        for _ in 0..2 {
            let again = store.send(request().key(key)).await;
            assert!(again.replayed(), "{key}: {again:?}");
            assert_eq!(again.status, first.status, "{key}");
            assert_eq!(again.index(), first.index(), "{key}: the index of the first time");
            for name in ["location", "etag"] {
                assert_eq!(again.header(name), first.header(name), "{key}");
            }
            // A purchase by the original's form shows the stock as it is now.
            if key != "buy" {
                assert_eq!(again.json(), first.json(), "{key}");
            } else {
                assert_eq!(again.json()["Result"], "1");
            }
            assert_eq!(store.contents().await, before, "{key}");
        }
    }
}

#[tokio::test]
async fn a_refusal_is_given_again_even_when_it_would_be_granted_by_now() {
    let store = Store::start().await;
    let refused: [(&str, Code, Again); 4] = [
        ("sold out", Code::OutOfStock, || buy(3, 1)),
        ("unknown", Code::NotFound, || buy(50, 1)),
        ("exists", Code::VersionMismatch, || {
            let item = json!({ "title": "T", "topic": "A", "price_cents": 1 });
            put("/v1/items/60", &item).header("if-match", "*")
        }),
        ("price", Code::WrongState, || {
            let line = json!({ "item": 1, "quantity": 1, "expected_price_cents": 7 });
            post("/v1/orders", &json!({ "lines": [line] }))
        }),
    ];
    let key = |name: &str| name.replace(' ', "-");
    let mut first = Vec::new();
    for (name, code, request) in &refused {
        let reply = store.send(request().key(&key(name))).await;
        let problem = reply.problem(*code, NOT_APPLIED);
        assert!(!reply.replayed());
        first.push((problem, reply.index()));
    }
    // What was missing comes, and the price becomes what was expected.
    assert_eq!(store.send(ask("POST", "/restock/")).await.json(), json!({ "Restocked": true }));
    for id in [1, 50, 60] {
        let item = json!({ "title": "T", "topic": "A", "price_cents": 7, "stock": 5 });
        assert!(store.send(put(&format!("/v1/items/{id}"), &item)).await.status.is_success());
    }
    let before = store.contents().await;
    for ((name, code, request), (problem, index)) in refused.iter().zip(first) {
        let again = store.send(request().key(&key(name))).await;
        assert!(again.replayed(), "{name}: {again:?}");
        assert_eq!(again.index(), index, "{name}");
        let mut told = again.problem(*code, NOT_APPLIED);
        // Each request has an id of its own.
        told.instance.clone_from(&problem.instance);
        assert_eq!(told, problem, "{name}");
    }
    assert_eq!(store.contents().await, before);
    // With a key of its own the same request is granted.
    assert_eq!(store.send(buy(3, 1).key("another")).await.status, 201);
}

#[tokio::test]
async fn a_key_is_for_one_request_only() {
    let store = Store::start().await;
    assert_eq!(store.send(buy(1, 1).key("k")).await.status, 201);
    let before = store.contents().await;
    let item = json!({ "title": "T", "topic": "A", "price_cents": 1 });
    let customer = json!({ "lines": [{ "item": 1, "quantity": 1 }], "customer": "ada" });
    for other in [
        buy(1, 2),
        buy(2, 1),
        post("/v1/orders", &customer),
        put("/v1/items/9", &item),
        post("/v1/items/1/stock", &json!({ "delta": 1, "reason": "received" })),
        ask("POST", "/restock/"),
    ] {
        let reply = store.send(other.key("k")).await;
        reply.problem(Code::IdempotencyKeyReused, NOT_APPLIED);
        assert!(!reply.replayed());
        assert_eq!(store.contents().await, before);
    }
    // A purchase in the original's form is a problem document too: it must not look like one.
    let reply = store.send(get("/buy/2/").key("k")).await;
    reply.problem(Code::IdempotencyKeyReused, NOT_APPLIED);
    // The key still means what it meant.
    assert!(store.send(buy(1, 1).key("k")).await.replayed());
    // The same words in another order of fields are the same request.
    let same = r#" { "lines" : [ {"quantity":1, "item":1} ] } "#;
    assert!(store.send(ask("POST", "/v1/orders").json(same).key("k")).await.replayed());
}

#[tokio::test]
async fn what_never_reached_the_log_leaves_its_key_free() {
    let store = Store::start().await;
    let bad = post("/v1/orders", &json!({ "lines": [] })).key("k");
    store.send(bad).await.problem(Code::Invalid, NOT_APPLIED);
    let good = store.send(buy(1, 1).key("k")).await;
    assert_eq!((good.status.as_u16(), good.replayed()), (201, false));
}

#[tokio::test]
async fn requests_with_one_key_at_the_same_time_are_one() {
    let store = Store::start().await;
    let replies = futures_util::future::join_all((0..20).map(|_| store.send(buy(1, 1).key("k"))));
    let replies = replies.await;
    assert!(replies.iter().all(|reply| reply.status == 201));
    assert!(replies.iter().all(|reply| reply.json() == replies[0].json()));
    assert_eq!(replies.iter().filter(|reply| !reply.replayed()).count(), 1);
    assert_eq!(store.item(1).await["stock"], 9);
}

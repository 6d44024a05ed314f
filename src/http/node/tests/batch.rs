//! `/v1/orders/batch`: all together, each for itself, keys, and what is refused of it.

use serde_json::{Value, json};

use super::store::{Ask, Reply, Store, ask, buy, post, put, settings};
use crate::{
    api::{Problem, WriteOutcome, header},
    http::problem::Code,
};

const NOT_APPLIED: Option<WriteOutcome> = Some(WriteOutcome::NotApplied);

fn batch(atomic: bool, orders: &[Value]) -> Ask {
    post("/v1/orders/batch", &json!({ "atomic": atomic, "orders": orders }))
}

fn order(item: u64, quantity: u64) -> Value {
    json!({ "lines": [{ "item": item, "quantity": quantity }] })
}

fn keyed(key: &str, item: u64, quantity: u64) -> Value {
    json!({ "lines": [{ "item": item, "quantity": quantity }], "idempotency_key": key })
}

/// The results of a reply in short: the order's number, the code it was refused with, or nothing.
fn results(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{reply:?}");
    let body = reply.json();
    let short = |result: &Value| match result["status"].as_str().unwrap() {
        "placed" => result["order"]["id"].to_string(),
        "refused" => result["problem"]["code"].as_str().unwrap().to_owned(),
        other => other.to_owned(),
    };
    body["results"].as_array().unwrap().iter().map(short).collect()
}

#[tokio::test]
async fn an_atomic_batch_is_placed_in_one_entry() {
    let store = Store::start().await;
    let before = store.mark().0;
    let two = json!({
        "lines": [{ "item": 2, "quantity": 1, "expected_price_cents": 200 },
            { "item": 1, "quantity": 1 }],
        "customer": "ada", "reference": "4711",
    });
    let reply = store.send(batch(true, &[order(1, 4), two, order(1, 5)])).await;
    assert_eq!(results(&reply), ["1", "2", "3"]);
    assert_eq!((reply.index(), store.mark().0), (before + 1, before + 1));
    let body = reply.json();
    for (position, id) in [(0, 1), (1, 2), (2, 3)] {
        let read = store.get(&format!("/v1/orders/{id}")).await.json();
        assert_eq!(body["results"][position]["order"], read);
        assert_eq!(
            (&read["index"], &body["results"][position]["replayed"]),
            (&json!(before + 1), &json!(false))
        );
    }
    assert_eq!(body["results"][1]["order"]["customer"], "ada");
    assert_eq!(store.item(1).await["stock"], 0);

    // A change for each order and each item, all at one index, on one page.
    let changes = store.get(&format!("/v1/changes?after={before}&limit=1")).await.json();
    let seen: Vec<_> = changes["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            assert_eq!(change["index"], before + 1);
            (change["kind"].as_str().unwrap(), change["id"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(seen, [("item", 1), ("item", 2), ("order", 1), ("order", 2), ("order", 3)]);
    assert_eq!(changes["next_after"], before + 1);
}

#[tokio::test]
async fn an_atomic_batch_that_is_refused_leaves_nothing_and_says_why() {
    let store = Store::start().await;
    let before = store.contents().await;
    let orders = [order(1, 6), order(1, 5), order(2, 1), order(50, 1)];
    let reply = store.send(batch(true, &orders)).await;
    assert_eq!(results(&reply), ["not_applied", "out_of_stock", "not_applied", "not_found"]);
    assert_eq!(store.contents().await, before);
    let problem = reply.json()["results"][1]["problem"].clone();
    let problem: Problem = serde_json::from_value(problem).unwrap();
    assert_eq!((problem.line, problem.item, problem.outcome), (Some(0), Some(1), NOT_APPLIED));
    assert_eq!((problem.requested, problem.available), (Some(5), Some(4)), "after the others");
    // It is the problem that the order alone would have.
    let alone = store.send(buy(50, 1)).await.problem(Code::NotFound, NOT_APPLIED);
    let told: Problem =
        serde_json::from_value(reply.json()["results"][3]["problem"].clone()).unwrap();
    assert_eq!(Problem { instance: None, ..told }, Problem { instance: None, ..alone });
}

#[tokio::test]
async fn orders_that_stand_for_themselves_are_placed_as_far_as_they_can_be() {
    let store = Store::start().await;
    let before = store.mark().0;
    let orders = [order(1, 6), order(1, 5), order(2, 1), order(50, 1), order(1, 4)];
    let reply = store.send(batch(false, &orders)).await;
    assert_eq!(results(&reply), ["1", "out_of_stock", "2", "not_found", "3"]);
    assert_eq!(reply.index(), before + 5, "the index of the last of them");
    assert_eq!(store.item(1).await["stock"], 0);
    // A thousand at once.
    let orders: Vec<_> = (0..1000).map(|_| order(3, 1)).collect();
    let stock = json!({ "delta": 700, "reason": "received" });
    assert_eq!(store.send(post("/v1/items/3/stock", &stock)).await.status, 200);
    let reply = store.send(batch(false, &orders)).await;
    let told = results(&reply);
    let expected = (4..704).map(|id| id.to_string());
    assert!(told[..700].iter().cloned().eq(expected), "{told:?}");
    assert!(told[700..].iter().all(|result| result == "out_of_stock"));
}

#[tokio::test]
async fn the_key_of_a_batch_replays_it_whole() {
    let store = Store::start().await;
    for (atomic, key) in [(true, "together"), (false, "separately")] {
        let orders = [order(1, 1), order(1, 2), order(3, 1)];
        let orders = if atomic { &orders[..2] } else { &orders[..] };
        let first = store.send(batch(atomic, orders).key(key)).await;
        assert!(!first.replayed());
        let before = store.contents().await;
        let again = store.send(batch(atomic, orders).key(key)).await;
        assert!(again.replayed());
        assert_eq!((results(&again), again.index()), (results(&first), first.index()));
        assert_eq!(store.contents().await, before);
        // Any other request with it is refused, whichever it is.
        let more: Vec<_> = orders.iter().cloned().chain([order(1, 1)]).collect();
        for other in [
            batch(!atomic, orders),
            batch(atomic, &orders[..1]),
            batch(atomic, &more),
            batch(!atomic, &more),
            buy(1, 1),
        ] {
            let reply = store.send(other.key(key)).await;
            reply.problem(Code::IdempotencyKeyReused, NOT_APPLIED);
            assert_eq!(store.contents().await, before);
        }
    }
    // Nor does a batch take the key of a single order.
    assert_eq!(store.send(buy(1, 1).key("single")).await.status, 201);
    for atomic in [true, false] {
        let reply = store.send(batch(atomic, &[order(1, 1), order(1, 1)]).key("single")).await;
        reply.problem(Code::IdempotencyKeyReused, NOT_APPLIED);
    }
    // A refusal is remembered with the batch.
    let refused = [order(1, 1), order(3, 1)];
    let first = store.send(batch(true, &refused).key("refused")).await;
    assert_eq!(results(&first), ["not_applied", "out_of_stock"]);
    assert_eq!(store.send(ask("POST", "/restock/")).await.status, 200);
    let again = store.send(batch(true, &refused).key("refused")).await;
    assert!(again.replayed());
    assert_eq!(results(&again), results(&first));
}

#[tokio::test]
async fn every_order_with_a_key_of_its_own_is_placed_once_alone_or_in_any_batch() {
    for atomic in [true, false] {
        let store = Store::start().await;
        let alone = store.send(buy(1, 1).key("b")).await.json();
        let orders = [keyed("a", 1, 2), keyed("b", 1, 1), keyed("c", 1, 3)];
        let reply = store.send(batch(atomic, &orders)).await;
        assert_eq!(results(&reply), ["2", "1", "3"]);
        assert!(!reply.replayed());
        let told = reply.json();
        assert_eq!(
            (&told["results"][1]["order"], &told["results"][1]["replayed"]),
            (&alone, &json!(true))
        );
        let before = store.contents().await;
        let again = store.send(batch(!atomic, &orders)).await;
        assert!(again.replayed());
        assert_eq!(results(&again), ["2", "1", "3"]);
        // Another order under one of the keys.
        let other = [keyed("new", 1, 1), keyed("a", 1, 1)];
        let reply = store.send(batch(true, &other)).await;
        assert_eq!(results(&reply), ["not_applied", "idempotency_key_reused"]);
        assert_eq!(store.contents().await, before);
        // A key that somebody on the way made for the request does not get between them.
        let made = batch(atomic, &orders).key("made").header(header::KEY_MADE, "true");
        assert_eq!(results(&store.send(made).await), ["2", "1", "3"]);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_batch_is_told_with_its_place_and_reaches_no_log() {
    let store = Store::start().await;
    let mark = store.mark();
    let good = order(1, 1);
    let many = vec![good.clone(); 1001];
    let lines = vec![json!({ "lines": vec![json!({ "item": 1, "quantity": 1 }); 100] }); 101];
    let mut deep = vec![good.clone(); 20];
    deep[17] = order(1, 0);
    let named = json!({ "lines": [{ "item": 1, "quantity": 1 }], "customer": "" });
    let odd = json!({ "lines": [{ "item": 1, "quantity": 1, "colour": 1 }] });
    let mut settings = settings();
    settings.body_limit_bytes = 8 << 20;
    let roomy = store.again(settings);
    for (orders, code, pointer) in [
        (&[][..], Code::Invalid, "/orders"),
        (&many[..], Code::Invalid, "/orders"),
        (&lines[..], Code::Invalid, "/orders"),
        (&deep[..], Code::Invalid, "/orders/17/lines/0/quantity"),
        (&[good.clone(), json!({ "lines": [] })], Code::Invalid, "/orders/1/lines"),
        (&[named], Code::Invalid, "/orders/0/customer"),
        (&[good.clone(), odd], Code::Malformed, "/orders/1/lines/0/colour"),
        (&[json!([[]])], Code::Malformed, "/orders/0"),
        (&[keyed("a", 1, 1), good.clone()], Code::Malformed, "/orders/1/idempotency_key"),
        (&[keyed("a", 1, 1), keyed("a", 1, 2)], Code::Malformed, "/orders/1/idempotency_key"),
        (&[keyed("a b", 1, 1)], Code::Malformed, "/orders/0/idempotency_key"),
    ] {
        for atomic in [true, false] {
            let problem = roomy.send(batch(atomic, orders)).await.problem(code, NOT_APPLIED);
            assert_eq!(problem.errors[0].pointer, pointer, "{problem:?}");
        }
    }
    let both = batch(true, &[keyed("a", 1, 1)]).key("k");
    let problem = store.send(both).await.problem(Code::Malformed, NOT_APPLIED);
    assert_eq!(problem.errors[0].pointer, "/orders/0/idempotency_key");
    let bad = batch(true, std::slice::from_ref(&good)).key("a b");
    store.send(bad).await.problem(Code::Malformed, NOT_APPLIED);
    let orders = json!({ "orders": [good] });
    let problem = store.send(post("/v1/orders/batch", &orders)).await;
    problem.problem(Code::Malformed, NOT_APPLIED);
    let wrong = vec![order(1, 0); 1000];
    let problem = store.send(batch(true, &wrong)).await.problem(Code::Invalid, NOT_APPLIED);
    assert_eq!(problem.errors.len(), 100, "enough is enough");
    for other in [ask("GET", "/v1/orders/batch"), put("/v1/orders/batch", &json!({}))] {
        assert_eq!(store.send(other).await.status, 405);
    }
    assert_eq!(store.mark(), mark);
}

#[tokio::test]
async fn how_many_orders_a_batch_may_have_is_a_setting() {
    let store = Store::start().await;
    let mut settings = settings();
    settings.max_batch_orders = 2;
    let store = store.again(settings);
    assert_eq!(results(&store.send(batch(false, &[order(1, 1), order(1, 1)])).await), ["1", "2"]);
    let three = store.send(batch(true, &[order(1, 1), order(1, 1), order(1, 1)])).await;
    let problem = three.problem(Code::Invalid, NOT_APPLIED);
    assert!(problem.errors[0].detail.contains("1 to 2 orders, and are 3"), "{problem:?}");
}

#[tokio::test]
async fn a_store_that_cannot_answer_fails_the_request_and_no_order() {
    let store = Store::unformed(
        std::sync::Arc::new(pygmy_storage::volume::MemoryVolume::new()),
        settings(),
    )
    .await;
    for atomic in [true, false] {
        let hurried = batch(atomic, &[order(1, 1), order(1, 1)]).header(header::TIMEOUT_MS, "50");
        store.send(hurried).await.problem(Code::NoLeader, NOT_APPLIED);
    }
}

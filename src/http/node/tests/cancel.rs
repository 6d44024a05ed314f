//! `POST /v1/orders/{id}/cancel`, and how orders show that they were taken back.

use serde_json::{Value, json};

use super::store::{Ask, Store, ask, buy, post};
use crate::{api::WriteOutcome, http::problem::Code};

const NOT_APPLIED: Option<WriteOutcome> = Some(WriteOutcome::NotApplied);

fn cancel(id: u64) -> Ask {
    ask("POST", &format!("/v1/orders/{id}/cancel"))
}

async fn listed(store: &Store, query: &str) -> Vec<u64> {
    let page = store.get(&format!("/v1/orders?{query}")).await.json();
    page["orders"].as_array().unwrap().iter().map(|o| o["id"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn the_pieces_return_and_the_order_says_when_and_why() {
    let store = Store::start().await;
    let lines = json!([{ "item": 1, "quantity": 4 }, { "item": 2, "quantity": 1 }]);
    let placed = store.send(post("/v1/orders", &json!({ "lines": lines }))).await.json();
    let reason = post("/v1/orders/1/cancel", &json!({ "reason": "sent back" }));
    let reply = store.send(reason).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let cancelled = reply.json();
    let mut expected = placed.clone();
    expected["status"] = json!("cancelled");
    expected["cancel_reason"] = json!("sent back");
    expected["cancelled_at"] = cancelled["cancelled_at"].clone();
    assert_eq!(cancelled, expected);
    let at = |order: &Value, name: &str| {
        order[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
    };
    assert!(at(&cancelled, "cancelled_at") >= at(&cancelled, "placed_at"));
    assert_eq!(store.get("/v1/orders/1").await.json(), cancelled);
    assert_eq!(store.get("/v1/orders").await.json()["orders"], json!([cancelled]));
    assert_eq!(
        (store.item(1).await["stock"].clone(), store.item(2).await["stock"].clone()),
        (json!(10), json!(1))
    );
    let ledger = store.get("/v1/items/1/ledger").await.json();
    let newest = &ledger["rows"][0];
    assert_eq!(
        (&newest["delta"], &newest["reason"], &newest["order"]),
        (&json!(4), &json!("cancelled"), &json!(1))
    );
    assert_eq!(newest["index"], reply.index());
}

#[tokio::test]
async fn an_order_is_taken_back_once() {
    let store = Store::start().await;
    for _ in 0..3 {
        assert_eq!(store.send(buy(1, 1)).await.status, 201);
    }
    // Without a body, with an empty one, and with a key.
    let bare = store.send(cancel(1)).await;
    assert_eq!(bare.status, 200);
    assert!(bare.json().get("cancel_reason").is_none(), "{bare:?}");
    assert_eq!(store.send(cancel(2).json("{}")).await.status, 200);
    let first = store.send(cancel(3).key("k")).await;
    assert_eq!((first.status.as_u16(), first.replayed()), (200, false));
    let before = store.contents().await;
    let again = store.send(cancel(3).key("k")).await;
    assert!(again.replayed());
    assert_eq!((again.json(), again.index()), (first.json(), first.index()));
    for other in [cancel(3), cancel(3).key("l")] {
        let problem = store.send(other).await.problem(Code::WrongState, NOT_APPLIED);
        assert_eq!(problem.state.as_deref(), Some("cancelled"));
    }
    // The key is for this order and this reason.
    for other in [cancel(1).key("k"), cancel(3).json(r#"{"reason":"r"}"#).key("k")] {
        store.send(other).await.problem(Code::IdempotencyKeyReused, NOT_APPLIED);
    }
    assert_eq!(store.contents().await, before);
    assert_eq!(store.item(1).await["stock"], 10);
}

#[tokio::test]
async fn what_cannot_be_cancelled_leaves_no_entry() {
    let store = Store::start().await;
    assert_eq!(store.send(buy(1, 1)).await.status, 201);
    let mark = store.mark();
    let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(201));
    for (ask, code) in [
        (cancel(2), Code::NotFound),
        (cancel(0), Code::NotFound),
        (ask("POST", "/v1/orders/one/cancel"), Code::NotFound),
        (cancel(1).json(r#"{"reason":""}"#), Code::Invalid),
        (cancel(1).json(&long), Code::Invalid),
        (cancel(1).json(r#"{"why":"x"}"#), Code::Malformed),
        (cancel(1).body("{}"), Code::UnsupportedMediaType),
        (cancel(1).header("pygmy-timeout-ms", "soon"), Code::Malformed),
        (cancel(1).header("idempotency-key", "a b"), Code::Malformed),
        (ask("POST", "/v1/orders/1/cancel?why=x"), Code::Malformed),
    ] {
        store.send(ask).await.problem(code, NOT_APPLIED);
        assert_eq!(store.mark(), mark, "{code:?}");
    }
    let longest = format!(r#"{{"reason":"{}"}}"#, "x".repeat(200));
    assert_eq!(store.send(cancel(1).json(&longest)).await.status, 200);
}

#[tokio::test]
async fn orders_are_listed_by_how_they_stand() {
    let store = Store::start().await;
    for _ in 0..5 {
        assert_eq!(store.send(buy(1, 1)).await.status, 201);
    }
    for id in [4, 2] {
        assert_eq!(store.send(cancel(id)).await.status, 200);
    }
    assert_eq!(listed(&store, "status=cancelled").await, [2, 4]);
    assert_eq!(listed(&store, "status=placed").await, [1, 3, 5]);
    assert_eq!(listed(&store, "").await, [1, 2, 3, 4, 5]);
    assert_eq!(listed(&store, "status=cancelled&limit=1").await, [2]);
    store.get("/v1/orders?status=lost").await.problem(Code::Malformed, None);
}

#[tokio::test]
async fn a_repeated_creation_shows_the_order_as_it_was_placed() {
    let store = Store::start().await;
    let placed = store.send(buy(1, 1).key("k")).await;
    assert_eq!(store.send(cancel(1)).await.status, 200);
    let again = store.send(buy(1, 1).key("k")).await;
    assert!(again.replayed());
    assert_eq!(again.json(), placed.json());
    assert_eq!(store.get("/v1/orders/1").await.json()["status"], "cancelled");
}

#[tokio::test]
async fn of_many_who_cancel_at_once_one_does() {
    let store = Store::start().await;
    assert_eq!(store.send(buy(1, 3)).await.status, 201);
    let replies = futures_util::future::join_all((0..20).map(|_| store.send(cancel(1)))).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 1);
    for refused in replies.iter().filter(|reply| reply.status != 200) {
        refused.problem(Code::WrongState, NOT_APPLIED);
    }
    assert_eq!(store.item(1).await["stock"], 10);
}

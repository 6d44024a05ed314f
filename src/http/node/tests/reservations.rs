//! `/v1/reservations`.

use http::header::LOCATION;
use serde_json::{Value, json};

use super::store::{Ask, PATIENCE, Store, ask, buy, post, put};
use crate::{
    api::{RESERVATION_TTL_SECONDS_DEFAULT, WriteOutcome},
    http::problem::Code,
};

const NOT_APPLIED: Option<WriteOutcome> = Some(WriteOutcome::NotApplied);

fn reserve(item: u64, quantity: u64) -> Ask {
    post("/v1/reservations", &json!({ "lines": [{ "item": item, "quantity": quantity }] }))
}

fn confirm(id: u64) -> Ask {
    ask("POST", &format!("/v1/reservations/{id}/confirm"))
}

fn release(id: u64) -> Ask {
    ask("DELETE", &format!("/v1/reservations/{id}"))
}

/// Stock, reserved and available of an item.
async fn pieces(store: &Store, item: u64) -> [u64; 3] {
    let item = store.item(item).await;
    ["stock", "reserved", "available"].map(|name| item[name].as_u64().unwrap())
}

fn millis(reservation: &Value, name: &str) -> i64 {
    reservation[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

#[tokio::test]
async fn what_is_held_is_nobody_elses_and_is_sold_at_the_price_of_then() {
    let store = Store::start().await;
    let body = json!({
        "lines": [{ "item": 1, "quantity": 4 }, { "item": 2, "quantity": 1 }],
        "ttl_seconds": 60, "customer": "ada", "reference": "cart-1",
    });
    let reply = store.send(post("/v1/reservations", &body)).await;
    let location = reply.header(LOCATION.as_str());
    assert_eq!((reply.status.as_u16(), location), (201, "/v1/reservations/1"), "{reply:?}");
    let held = reply.json();
    let lines = json!([
        { "item": 1, "title": "Title 1", "quantity": 4, "unit_price_cents": 100 },
        { "item": 2, "title": "Title 2", "quantity": 1, "unit_price_cents": 200 },
    ]);
    assert_eq!(
        held,
        json!({
            "id": 1, "lines": lines, "total_cents": 600, "status": "held", "customer": "ada",
            "reference": "cart-1", "created_at": held["created_at"],
            "expires_at": held["expires_at"], "index": reply.index(),
        })
    );
    assert_eq!(millis(&held, "expires_at") - millis(&held, "created_at"), 60_000);
    assert_eq!(store.get("/v1/reservations/1").await.json(), held);
    assert_eq!(pieces(&store, 1).await, [10, 4, 6]);
    assert_eq!(pieces(&store, 2).await, [1, 1, 0]);
    let short = store.send(buy(1, 7)).await.problem(Code::OutOfStock, NOT_APPLIED);
    assert_eq!(short.available, Some(6));

    let dearer = json!({ "title": "Other", "topic": "A", "price_cents": 999 });
    assert_eq!(store.send(put("/v1/items/1", &dearer)).await.status, 200);
    let sold = store.send(confirm(1).key("k")).await;
    assert_eq!((sold.status.as_u16(), sold.header(LOCATION.as_str())), (201, "/v1/orders/1"));
    let order = sold.json();
    assert_eq!(
        order,
        json!({
            "id": 1, "lines": lines, "total_cents": 600, "status": "placed", "customer": "ada",
            "reference": "cart-1", "reservation": 1, "placed_at": order["placed_at"],
            "index": sold.index(),
        })
    );
    assert_eq!(store.get("/v1/orders/1").await.json(), order);
    assert_eq!(pieces(&store, 1).await, [6, 0, 6]);
    let ended = store.get("/v1/reservations/1").await.json();
    assert_eq!((&ended["status"], &ended["order"]), (&json!("confirmed"), &json!(1)));
    assert_eq!(ended["ended_at"], order["placed_at"]);
    let again = store.send(confirm(1).key("k")).await;
    assert!(again.replayed());
    assert_eq!((again.json(), again.header(LOCATION.as_str())), (order, "/v1/orders/1"));
    assert_eq!(store.get("/v1/orders").await.json()["orders"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_released_is_there_again() {
    let store = Store::start().await;
    let held = store.send(reserve(1, 10).key("r")).await;
    let ttl = millis(&held.json(), "expires_at") - millis(&held.json(), "created_at");
    assert_eq!(ttl, 1000 * i64::try_from(RESERVATION_TTL_SECONDS_DEFAULT).unwrap());
    store.send(reserve(1, 1)).await.problem(Code::OutOfStock, NOT_APPLIED);
    assert_eq!(store.send(release(1).key("k")).await.json()["status"], "released");
    assert_eq!(pieces(&store, 1).await, [10, 0, 10]);
    assert!(store.send(release(1).key("k")).await.replayed());
    // A repeated creation shows what was made, and makes nothing.
    let again = store.send(reserve(1, 10).key("r")).await;
    assert!(again.replayed());
    assert_eq!(again.json(), held.json());
    assert_eq!(pieces(&store, 1).await, [10, 0, 10]);
    for other in [release(1), confirm(1)] {
        let problem = store.send(other).await.problem(Code::WrongState, NOT_APPLIED);
        assert_eq!(problem.state.as_deref(), Some("released"));
    }
    for unknown in [release(2), confirm(2), release(0)] {
        store.send(unknown).await.problem(Code::NotFound, NOT_APPLIED);
    }
    store.get("/v1/reservations/2").await.problem(Code::NotFound, None);
}

#[tokio::test]
async fn the_time_is_up_although_nobody_writes() {
    let store = Store::start().await;
    let short = json!({ "lines": [{ "item": 1, "quantity": 10 }], "ttl_seconds": 1 });
    let held = store.send(post("/v1/reservations", &short)).await;
    assert_eq!(held.status, 201);
    let over = async {
        while store.node.view().state.next_expiry_ms().is_some() {
            let index = store.node.view().index();
            store.node.published().changes.beyond(index).await;
        }
    };
    tokio::time::timeout(PATIENCE, over).await.unwrap();
    let ended = store.get("/v1/reservations/1").await.json();
    assert_eq!(ended["status"], "expired");
    assert!(millis(&ended, "ended_at") >= millis(&held.json(), "expires_at"));
    assert_eq!(pieces(&store, 1).await, [10, 0, 10]);
    let problem = store.send(confirm(1)).await.problem(Code::WrongState, NOT_APPLIED);
    assert_eq!(problem.state.as_deref(), Some("expired"));
}

#[tokio::test]
async fn what_cannot_be_held_is_refused_with_its_place() {
    let store = Store::start().await;
    let mark = store.mark();
    let line = json!([{ "item": 1, "quantity": 1 }]);
    for (body, code, place) in [
        (json!({}), Code::Malformed, ""),
        (json!({ "lines": [] }), Code::Invalid, "/lines"),
        (json!({ "lines": [{ "item": 1, "quantity": 0 }] }), Code::Invalid, "/lines/0/quantity"),
        (json!({ "lines": line, "ttl_seconds": 0 }), Code::Invalid, "/ttl_seconds"),
        (json!({ "lines": line, "ttl_seconds": -1 }), Code::Malformed, "/ttl_seconds"),
        (json!({ "lines": line, "customer": "" }), Code::Invalid, "/customer"),
        (json!({ "lines": line, "reference": "x".repeat(201) }), Code::Invalid, "/reference"),
    ] {
        let reply = store.send(post("/v1/reservations", &body)).await;
        let problem = reply.problem(code, NOT_APPLIED);
        assert_eq!(problem.errors[0].pointer, place, "{body}");
        assert_eq!(store.mark(), mark);
    }
    // What the policy does not allow is decided by the state.
    for ttl in [86_401, u64::MAX] {
        let body = json!({ "lines": line, "ttl_seconds": ttl });
        let reply = store.send(post("/v1/reservations", &body)).await;
        let problem = reply.problem(Code::Invalid, NOT_APPLIED);
        assert!(problem.detail.contains("86400000 ms at most"), "{}", problem.detail);
    }
    let whole = json!({ "lines": [{ "item": 1, "quantity": 1 }, { "item": 3, "quantity": 1 }] });
    let reply = store.send(post("/v1/reservations", &whole)).await;
    assert_eq!(reply.problem(Code::OutOfStock, NOT_APPLIED).line, Some(1));
    store.send(reserve(99, 1)).await.problem(Code::NotFound, NOT_APPLIED);
    assert_eq!(pieces(&store, 1).await, [10, 0, 10]);
}

#[tokio::test]
async fn reservations_are_listed_by_number_and_by_how_they_stand() {
    let store = Store::start().await;
    for _ in 0..5 {
        assert_eq!(store.send(reserve(1, 1)).await.status, 201);
    }
    assert_eq!(store.send(confirm(2)).await.status, 201);
    assert_eq!(store.send(release(4)).await.status, 200);
    let page = async |query: &str| {
        let page = store.get(&format!("/v1/reservations?{query}")).await.json();
        let rows = page["reservations"].as_array().unwrap();
        let ids: Vec<u64> = rows.iter().map(|row| row["id"].as_u64().unwrap()).collect();
        (ids, page["next_cursor"].as_str().map(str::to_owned))
    };
    assert_eq!(page("").await, (vec![1, 2, 3, 4, 5], None));
    assert_eq!(page("status=confirmed").await.0, [2]);
    assert_eq!(page("status=released").await.0, [4]);
    assert_eq!(page("status=expired").await.0, [0u64; 0]);
    let (first, cursor) = page("status=held&limit=2").await;
    assert_eq!(first, [1, 3]);
    let rest = page(&format!("status=held&limit=2&cursor={}", cursor.unwrap())).await;
    assert_eq!(rest, (vec![5], None));
    store.get("/v1/reservations?status=lost").await.problem(Code::Malformed, None);
    store.get("/v1/reservations?cursor=o1").await.problem(Code::Malformed, None);
}

//! Items that are created, patched and deleted, and their prices.

use http::header::{CONTENT_TYPE, ETAG, LOCATION};
use pygmy_storage::command::{Command, PlaceOrderLine, Reserve};
use serde_json::{Value, json};

use super::store::{Ask, PATIENCE, Store, ask, buy, get, post, put};
use crate::{api::WriteOutcome, http::problem::Code};

const NOT_APPLIED: Option<WriteOutcome> = Some(WriteOutcome::NotApplied);

fn patch(path: &str, body: &Value) -> Ask {
    ask("PATCH", path)
        .header(CONTENT_TYPE.as_str(), "application/merge-patch+json")
        .body(body.to_string())
}

fn new(title: &str) -> Value {
    json!({ "title": title, "topic": "C", "price_cents": 250, "stock": 4 })
}

#[tokio::test]
async fn the_store_gives_a_new_item_its_number_and_never_gives_it_again() {
    let store = Store::start().await;
    let reply = store.send(post("/v1/items", &new("T")).key("k")).await;
    assert_eq!((reply.status.as_u16(), reply.header(LOCATION.as_str())), (201, "/v1/items/4"));
    assert_eq!(reply.header(ETAG.as_str()), format!("\"{}\"", reply.index()));
    let created = reply.json();
    assert_eq!((&created["id"], &created["stock"]), (&json!(4), &json!(4)));
    assert_eq!(store.item(4).await, created);
    let ledger = store.get("/v1/items/4/ledger").await.json();
    assert_eq!(ledger["rows"][0]["reason"], "received");

    let again = store.send(post("/v1/items", &new("T")).key("k")).await;
    assert!(again.replayed() && again.status == 201, "{again:?}");
    assert_eq!((again.json(), again.header(LOCATION.as_str())), (created, "/v1/items/4"));
    let other = store.send(post("/v1/items", &new("U")).key("k")).await;
    other.problem(Code::IdempotencyKeyReused, NOT_APPLIED);

    assert_eq!(store.send(ask("DELETE", "/v1/items/4")).await.status, 204);
    let no_stock = json!({ "title": "U", "topic": "C", "price_cents": 0 });
    let reply = store.send(post("/v1/items", &no_stock)).await.json();
    assert_eq!((&reply["id"], &reply["stock"]), (&json!(5), &json!(0)), "4 was somebody's");
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_nothing_else() {
    let store = Store::start().await;
    let before = store.item(1).await;
    let reply = store.send(patch("/v1/items/1", &json!({ "price_cents": 120 }))).await;
    let mut expected = before.clone();
    expected["price_cents"] = json!(120);
    expected["version"] = json!(reply.index());
    expected["updated_at"] = reply.json()["updated_at"].clone();
    assert_eq!((reply.status.as_u16(), reply.json()), (200, expected.clone()));
    assert_eq!(reply.header(ETAG.as_str()), format!("\"{}\"", reply.index()));
    assert_eq!(store.item(1).await, expected);

    // Nothing new: the version stays, and of an item as it was created nobody says that it is new.
    for (id, body) in [(1, json!({ "price_cents": 120 })), (2, json!({}))] {
        let before = store.item(id).await;
        let reply = store.send(patch(&format!("/v1/items/{id}"), &body)).await;
        assert_eq!((reply.status.as_u16(), reply.header(LOCATION.as_str())), (200, ""));
        assert_eq!(reply.json(), before);
        assert_eq!(reply.header(ETAG.as_str()), format!("\"{}\"", before["version"]));
    }
    // Plain JSON is taken as a patch too.
    let body = json!({ "title": "New", "topic": "Z" });
    let reply = store.send(ask("PATCH", "/v1/items/1").json(&body.to_string())).await;
    assert_eq!((&reply.json()["title"], &reply.json()["topic"]), (&json!("New"), &json!("Z")));
    let found = store.get("/v1/items?topic=Z").await.json();
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_item_can_be_deleted_and_its_orders_keep_their_copy() {
    let store = Store::start().await;
    assert_eq!(store.send(buy(1, 2)).await.status, 201);
    let order = store.get("/v1/orders/1").await.json();
    let reply = store.send(ask("DELETE", "/v1/items/1").key("gone")).await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (204, 0));
    let index = reply.index();
    store.get("/v1/items/1").await.problem(Code::NotFound, None);
    assert_eq!(store.get("/v1/orders/1").await.json(), order);
    // What was left of it went as a movement of its own.
    let rows = store.get("/v1/items/1/ledger").await.json();
    assert_eq!(
        (&rows["rows"][0]["delta"], &rows["rows"][0]["reason"]),
        (&json!(-8), &json!("deleted"))
    );
    let again = store.send(ask("DELETE", "/v1/items/1").key("gone")).await;
    assert!(again.replayed() && again.status == 204 && again.index() == index, "{again:?}");
    let problem =
        store.send(ask("DELETE", "/v1/items/1")).await.problem(Code::NotFound, NOT_APPLIED);
    assert_eq!(problem.item, Some(1));
    let patched = store.send(patch("/v1/items/1", &json!({}))).await;
    patched.problem(Code::NotFound, NOT_APPLIED);
}

#[tokio::test]
async fn what_a_reservation_holds_cannot_be_deleted() {
    let store = Store::start().await;
    let reserve = Command::Reserve(Reserve {
        lines: vec![PlaceOrderLine { item: 1, quantity: 1, expected_price_cents: None }],
        ttl_ms: 3_600_000,
        customer: None,
        reference: None,
    });
    store.node.write(None, reserve, PATIENCE).await.unwrap();
    let reply = store.send(ask("DELETE", "/v1/items/1")).await;
    assert_eq!(reply.problem(Code::WrongState, NOT_APPLIED).item, Some(1));
    assert_eq!(store.item(1).await["reserved"], 1);
    let release = Command::ReleaseReservation { id: 1 };
    store.node.write(None, release, PATIENCE).await.unwrap();
    assert_eq!(store.send(ask("DELETE", "/v1/items/1")).await.status, 204);
}

#[tokio::test]
async fn a_version_that_no_longer_holds_stops_a_patch_and_a_deletion() {
    let store = Store::start().await;
    let version = store.item(1).await["version"].as_u64().unwrap();
    let ways: [fn() -> Ask; 2] =
        [|| patch("/v1/items/1", &json!({ "title": "N" })), || ask("DELETE", "/v1/items/1")];
    for way in ways {
        let before = store.contents().await;
        let reply = store.send(way().header("if-match", format!("\"{}\"", version - 1))).await;
        let problem = reply.problem(Code::VersionMismatch, NOT_APPLIED);
        assert_eq!(problem.current_version, Some(version));
        let creating = store.send(way().header("if-none-match", "*")).await;
        creating.problem(Code::Malformed, NOT_APPLIED);
        assert_eq!(store.contents().await, before);
    }
    let reply = store.send(ways[0]().header("if-match", format!("\"{version}\""))).await;
    let tag = reply.header(ETAG.as_str()).to_owned();
    assert_eq!(reply.status, 200);
    assert_eq!(store.send(ways[1]().header("if-match", tag)).await.status, 204);
}

#[tokio::test]
async fn a_wrong_new_item_or_patch_is_refused_with_its_places() {
    let store = Store::start().await;
    let long = "x".repeat(1001);
    let most = 1_000_000_000_000_u64;
    let before = store.mark();
    for (way, body, code, at) in [
        ("POST", json!({ "topic": "A", "price_cents": 1 }), Code::Malformed, &[""][..]),
        ("POST", json!({ "id": 7 }), Code::Malformed, &["/id"]),
        (
            "POST",
            json!({ "title": "", "topic": "", "price_cents": most + 1, "stock": most + 1 }),
            Code::Invalid,
            &["/title", "/topic", "/price_cents", "/stock"],
        ),
        ("PATCH", json!([]), Code::Malformed, &[""]),
        ("PATCH", json!({ "title": null }), Code::Malformed, &["/title"]),
        ("PATCH", json!({ "topic": null }), Code::Malformed, &["/topic"]),
        ("PATCH", json!({ "price_cents": null }), Code::Malformed, &["/price_cents"]),
        ("PATCH", json!({ "price_cents": -1 }), Code::Malformed, &["/price_cents"]),
        ("PATCH", json!({ "stock": 5 }), Code::Malformed, &["/stock"]),
        ("PATCH", json!({ "title": long, "topic": "a\tb" }), Code::Invalid, &["/title", "/topic"]),
        ("PATCH", json!({ "price_cents": most + 1 }), Code::Invalid, &["/price_cents"]),
    ] {
        let ask = match way {
            "POST" => post("/v1/items", &body),
            _ => patch("/v1/items/1", &body),
        };
        let problem = store.send(ask).await.problem(code, NOT_APPLIED);
        let places: Vec<_> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(places, at, "{way} {body}");
    }
    for (ask, kind) in [
        (ask("PATCH", "/v1/items/1"), "application/json-patch+json"),
        (ask("POST", "/v1/items"), "application/merge-patch+json"),
    ] {
        let ask = ask.header(CONTENT_TYPE.as_str(), kind).body("{}");
        store.send(ask).await.problem(Code::UnsupportedMediaType, NOT_APPLIED);
    }
    assert_eq!(store.mark(), before, "nothing reached the log");
    let largest = json!({
        "title": "x".repeat(1000), "topic": "x".repeat(200), "price_cents": most, "stock": most,
    });
    assert_eq!(store.send(post("/v1/items", &largest)).await.status, 201);
}

#[tokio::test]
async fn prices_say_what_an_item_cost_when() {
    let store = Store::start().await;
    let created = store.item(1).await["created_at"].clone();
    let alone = store.get("/v1/items/1/prices").await;
    let price = json!({ "price_cents": 100, "from": created, "to": null });
    assert_eq!(alone.json(), json!({ "prices": [price], "lowest_30_days_cents": 100 }));

    let cheaper = store.send(patch("/v1/items/1", &json!({ "price_cents": 80 }))).await.json();
    let item = json!({ "title": "T", "topic": "A", "price_cents": 130 });
    let dearer = store.send(put("/v1/items/1", &item)).await.json();
    let (second, third) = (&cheaper["updated_at"], &dearer["updated_at"]);
    let reply = store.get("/v1/items/1/prices?consistency=stale").await;
    assert_eq!(
        reply.json(),
        json!({
            "prices": [
                { "price_cents": 100, "from": created, "to": second },
                { "price_cents": 80, "from": second, "to": third },
                { "price_cents": 130, "from": third, "to": null },
            ],
            "lowest_30_days_cents": 80,
        })
    );
    let missing = store.get("/v1/items/99/prices").await.problem(Code::NotFound, None);
    assert_eq!(missing.item, Some(99));
    store.send(get("/v1/items/1/prices?limit=1")).await.problem(Code::Malformed, None);
}

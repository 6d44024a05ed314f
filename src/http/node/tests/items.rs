//! `/v1/items` and `/v1/topics` where all is well, and what the state refuses of them.

use http::header::{ETAG, LOCATION};
use serde_json::json;

use super::store::{Store, ask, buy, get, post, put};
use crate::{
    api::{WriteOutcome, header},
    http::problem::Code,
};

#[tokio::test]
async fn an_item_is_created_replaced_and_read() {
    let store = Store::start().await;
    let item = json!({ "title": "T", "topic": "C", "price_cents": 250, "stock": 4 });
    let reply = store.send(put("/v1/items/9", &item)).await;
    assert_eq!((reply.status.as_u16(), reply.header(LOCATION.as_str())), (201, "/v1/items/9"));
    let version = reply.index();
    assert_eq!(reply.header(ETAG.as_str()), format!("\"{version}\""));
    let created = reply.json();
    let at = created["created_at"].as_str().unwrap().to_owned();
    assert_eq!(
        created,
        json!({
            "id": 9, "title": "T", "topic": "C", "price_cents": 250, "stock": 4, "reserved": 0,
            "available": 4, "version": version, "created_at": at, "updated_at": at,
        })
    );
    let parsed: jiff::Timestamp = at.parse().unwrap();
    assert!(at.ends_with('Z') && (jiff::Timestamp::now() - parsed).get_hours() == 0, "{at}");

    let read = store.get("/v1/items/9").await;
    assert_eq!((read.status.as_u16(), read.json()), (200, created.clone()));
    assert_eq!(read.header(ETAG.as_str()), format!("\"{version}\""));
    assert_eq!(read.header("content-type"), "application/json");
    assert_eq!(read.index(), version);

    // Replaced, and the stock that was not named stays.
    let item = json!({ "title": "U", "topic": "D", "price_cents": 0 });
    let reply = store.send(put("/v1/items/9", &item)).await;
    assert_eq!((reply.status.as_u16(), reply.header(LOCATION.as_str())), (200, ""));
    let replaced = reply.json();
    assert_eq!((&replaced["title"], &replaced["stock"]), (&json!("U"), &json!(4)));
    assert_eq!(replaced["version"], reply.index());
    assert_eq!(replaced["created_at"], created["created_at"]);
    assert_eq!(store.item(9).await, replaced);
    let topics = store.get("/v1/topics").await.json();
    let expected = json!({ "topics": [
        { "topic": "A", "items": 2 }, { "topic": "B", "items": 1 }, { "topic": "D", "items": 1 },
    ]});
    assert_eq!(topics, expected, "nothing is left of topic C");
}

#[tokio::test]
async fn an_item_is_named_by_its_number_however_that_is_written() {
    let store = Store::start().await;
    let plain = store.item(1).await;
    for path in ["/v1/items/1?consistency=linearizable", "/v1/items/%31", "/v1/items/01"] {
        let read = store.get(path).await;
        assert_eq!((read.status.as_u16(), read.json()), (200, plain.clone()), "{path}");
    }
    let item = json!({ "title": "T", "topic": "C", "price_cents": 250 });
    for name in ["+1", "1x", "x", "-1", "1.0", "99999999999999999999"] {
        let path = format!("/v1/items/{name}");
        for request in [get(&path), put(&path, &item)] {
            let refused = store.send(request).await;
            let detail = refused.json()["detail"].to_string();
            assert_eq!(refused.status.as_u16(), 404, "{path}: {detail}");
            assert!(detail.contains(name) && detail.contains("is no number"), "{detail}");
        }
    }
}

#[tokio::test]
async fn a_precondition_decides_whether_a_write_happens() {
    let store = Store::start().await;
    let version = store.item(1).await["version"].as_u64().unwrap();
    let item = json!({ "title": "New", "topic": "A", "price_cents": 1 });
    let stock = json!({ "delta": 1, "reason": "received" });
    let stale = format!("\"{}\"", version - 1);
    let absent = || put("/v1/items/50", &item);
    let present = || put("/v1/items/1", &item);
    let change = || post("/v1/items/1/stock", &stock);
    for (ask, current) in [
        (present().header("if-match", stale.clone()), Some(version)),
        (present().header("if-match", "\"nonsense\""), Some(version)),
        (present().header("if-none-match", "*"), Some(version)),
        (change().header("if-match", stale), Some(version)),
        (absent().header("if-match", "*"), None),
        (absent().header("if-match", format!("\"{version}\"")), None),
    ] {
        let before = store.contents().await;
        let reply = store.send(ask).await;
        let problem = reply.problem(Code::VersionMismatch, Some(WriteOutcome::NotApplied));
        assert_eq!(problem.current_version, current, "{problem:?}");
        assert!(reply.index() > version, "it was decided at an index");
        assert_eq!(store.contents().await, before);
    }
    assert_eq!(store.send(absent().header("if-none-match", "*")).await.status, 201);
    assert_eq!(store.send(present().header("if-match", "*")).await.status, 200);
    for _ in 0..2 {
        // Each reply's tag is good for exactly one more write.
        let tag = store.get("/v1/items/1").await.header(ETAG.as_str()).to_owned();
        assert_eq!(store.send(change().header("if-match", &tag)).await.status, 200);
        store
            .send(change().header("if-match", &tag))
            .await
            .problem(Code::VersionMismatch, Some(WriteOutcome::NotApplied));
    }
    assert_eq!(store.item(1).await["stock"], 12);
}

#[tokio::test]
async fn a_read_can_ask_whether_anything_changed() {
    let store = Store::start().await;
    let tag = store.get("/v1/items/1").await.header(ETAG.as_str()).to_owned();
    let if_none = |value: String| get("/v1/items/1").header("if-none-match", value);
    for value in [tag.clone(), format!("W/{tag}"), format!("\"1\", {tag}"), "*".to_owned()] {
        let reply = store.send(if_none(value.clone())).await;
        assert_eq!(reply.status, 304, "{value}: {reply:?}");
        assert!(reply.body.is_empty());
        assert_eq!(reply.header(ETAG.as_str()), tag);
        assert!(reply.index() > 0);
    }
    for value in ["\"1\"".to_owned(), tag.trim_matches('"').to_owned(), String::new()] {
        assert_eq!(store.send(if_none(value)).await.status, 200);
    }
    assert_eq!(store.send(buy(1, 1)).await.status, 201);
    assert_eq!(store.send(if_none(tag)).await.status, 200, "a sale is a change");
    let missing = store.send(get("/v1/items/99").header("if-none-match", "*")).await;
    missing.problem(Code::NotFound, None);
}

#[tokio::test]
async fn stock_is_changed_for_each_reason_and_never_below_zero() {
    let store = Store::start().await;
    for (body, stock) in [
        (json!({ "delta": 5, "reason": "received" }), 15),
        (json!({ "delta": -3, "reason": "damaged" }), 12),
        (json!({ "delta": 1, "reason": "returned", "reference": "order 7" }), 13),
        (json!({ "delta": -1, "reason": "correction" }), 12),
        (json!({ "delta": 2, "reason": "count" }), 14),
        (json!({ "set": 40, "reason": "count" }), 40),
        (json!({ "set": 0, "reason": "correction" }), 0),
        (json!({ "set": 3, "reason": "correction" }), 3),
        (json!({ "delta": -3, "reason": "damaged" }), 0),
    ] {
        let reply = store.send(post("/v1/items/1/stock", &body)).await;
        assert_eq!(reply.status, 200, "{body}: {reply:?}");
        assert_eq!(reply.json()["stock"], stock, "{body}");
        assert_eq!(reply.header(ETAG.as_str()), format!("\"{}\"", reply.index()));
        assert_eq!(store.item(1).await, reply.json());
    }
    let before = store.contents().await;
    let body = json!({ "delta": -2, "reason": "damaged" });
    let reply = store.send(post("/v1/items/2/stock", &body)).await;
    let problem = reply.problem(Code::OutOfStock, Some(WriteOutcome::NotApplied));
    let fields = (problem.item, problem.requested, problem.available);
    assert_eq!(fields, (Some(2), Some(2), Some(1)));
    let reply = store.send(post("/v1/items/99/stock", &body)).await;
    let problem = reply.problem(Code::NotFound, Some(WriteOutcome::NotApplied));
    assert_eq!(problem.item, Some(99));
    assert_eq!(store.contents().await, before);
}

#[tokio::test]
async fn a_listing_goes_through_all_items_while_they_change() {
    let store = Store::start().await;
    for id in 10..30 {
        let item = json!({ "title": "T", "topic": "Even", "price_cents": 1, "stock": 1 });
        assert_eq!(store.send(put(&format!("/v1/items/{}", id * 2), &item)).await.status, 201);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/items?topic=Even&limit=3".to_owned();
    let mut last_index = 0;
    for page_number in 0.. {
        let reply = store.get(&path).await;
        assert!(reply.index() >= last_index);
        last_index = reply.index();
        let page = reply.json();
        for item in page["items"].as_array().unwrap() {
            seen.push(item["id"].as_u64().unwrap());
        }
        // Between two pages: one sold, one restocked, one new before, one new behind the cursor,
        // and the item that the cursor names leaves the topic.
        let last = *seen.last().unwrap();
        assert_eq!(
            store.send(buy(58, 1)).await.status.as_u16(),
            if page_number == 0 { 201 } else { 409 }
        );
        assert_eq!(store.send(ask("POST", "/restock/")).await.status, 200);
        let new = json!({ "title": "N", "topic": "Even", "price_cents": 1, "stock": 1 });
        let added = store.send(put(&format!("/v1/items/{}", last - 9), &new)).await;
        assert!(added.status.is_success(), "{added:?}");
        let moved = json!({ "title": "M", "topic": "Moved", "price_cents": 1 });
        assert_eq!(store.send(put(&format!("/v1/items/{last}"), &moved)).await.status, 200);
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/items?topic=Even&limit=3&cursor={cursor}"),
            None => break,
        }
        // The stock of 58 was put back by the restock; sell it all again.
        let empty = json!({ "set": 0, "reason": "count" });
        assert_eq!(store.send(post("/v1/items/58/stock", &empty)).await.status, 200);
    }
    let expected: Vec<u64> = (10..30).map(|id| id * 2).collect();
    assert_eq!(seen, expected, "each item once, none twice, in order");
}

#[tokio::test]
async fn a_listing_can_be_narrowed_to_a_topic() {
    let store = Store::start().await;
    let ids = async |path: &str| -> Vec<u64> {
        let page = store.get(path).await.json();
        page["items"].as_array().unwrap().iter().map(|i| i["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids("/v1/items").await, [1, 2, 3]);
    assert_eq!(ids("/v1/items?topic=A").await, [1, 2]);
    assert_eq!(ids("/v1/items?topic=B").await, [3]);
    assert_eq!(ids("/v1/items?topic=a").await, [0; 0]);
    assert_eq!(ids("/v1/items?topic=").await, [0; 0]);
    let spaced = json!({ "title": "T", "topic": "R & D / ü", "price_cents": 1 });
    assert_eq!(store.send(put("/v1/items/7", &spaced)).await.status, 201);
    assert_eq!(ids("/v1/items?topic=R+%26+D%20/%20%C3%BC").await, [7]);
    assert_eq!(store.get("/v1/items").await.header(header::STALENESS_MS), "");
}

#[tokio::test]
async fn the_ledger_of_an_item_tells_every_movement_newest_first() {
    let store = Store::start().await;
    let order = json!({
        "lines": [{ "item": 1, "quantity": 2 }, { "item": 2, "quantity": 1 }], "reference": "o-1",
    });
    assert_eq!(store.send(post("/v1/orders", &order)).await.status, 201);
    let change = json!({ "delta": 5, "reason": "received", "reference": "d-1" });
    let changed = store.send(post("/v1/items/1/stock", &change)).await;
    let sold = store.send(buy(1, 3)).await;
    let at = sold.json()["placed_at"].clone();

    let reply = store.get("/v1/items/1/ledger").await;
    assert_eq!(reply.index(), sold.index());
    let page = reply.json();
    let rows = page["rows"].as_array().unwrap();
    assert_eq!(page["next_cursor"], json!(null));
    assert_eq!(
        rows[0],
        json!({ "delta": -3, "reason": "sold", "order": 2, "index": sold.index(), "at": at })
    );
    assert_eq!(
        (&rows[1]["index"], &rows[1]["reference"]),
        (&json!(changed.index()), &json!("d-1"))
    );
    let told: Vec<_> = rows.iter().map(|row| (&row["delta"], &row["reason"])).collect();
    assert_eq!(json!(told), json!([[-3, "sold"], [5, "received"], [-2, "sold"], [10, "received"]]));
    let sum: i64 = rows.iter().map(|row| row["delta"].as_i64().unwrap()).sum();
    assert_eq!(store.item(1).await["stock"], sum, "every piece is told of");

    // Page by page the same, while more is sold.
    let mut paged = Vec::new();
    let mut path = "/v1/items/1/ledger?limit=1".to_owned();
    loop {
        let page = store.get(&path).await.json();
        paged.extend(page["rows"].as_array().unwrap().clone());
        assert_eq!(store.send(buy(1, 1)).await.status, 201);
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/items/1/ledger?limit=1&cursor={cursor}");
    }
    assert_eq!(paged, *rows);

    // An item that never had a piece has no movements; one that never was has no ledger.
    let none = json!({ "rows": [], "next_cursor": null });
    assert_eq!(store.get("/v1/items/3/ledger").await.json(), none);
    let problem = store.get("/v1/items/99/ledger").await.problem(Code::NotFound, None);
    assert_eq!(problem.item, Some(99));
}

//! `/v1/policy` and maintenance.

use http::header::ETAG;
use serde_json::{Value, json};

use super::store::{Ask, Store, ask, buy, get, post, put};
use crate::{
    api::{Cluster, WriteOutcome},
    http::problem::Code,
};

const NOT_APPLIED: Option<WriteOutcome> = Some(WriteOutcome::NotApplied);

async fn policy(store: &Store) -> (String, Value) {
    let reply = store.get("/v1/policy").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    (reply.header(ETAG.as_str()).to_owned(), reply.json())
}

fn switch(on: bool) -> Ask {
    post("/v1/cluster/maintenance", &json!({ "on": on }))
}

#[tokio::test]
async fn the_policy_is_shown_and_replaced_as_a_whole() {
    let store = Store::start().await;
    let (tag, mut settings) = policy(&store).await;
    assert_eq!(
        settings,
        json!({
            "key_retention_hours": 24, "key_limit": 1_000_000, "restock_quantity": 50,
            "restock_interval_s": null, "change_history": 1_000_000, "price_history": 100,
            "reservation_limit": 100_000, "reservation_history": 100_000,
            "reservation_ttl_max_s": 86_400,
        })
    );
    let same = store.send(get("/v1/policy").header("if-none-match", &tag)).await;
    assert_eq!((same.status.as_u16(), same.body.len()), (304, 0));

    settings["restock_quantity"] = json!(7);
    settings["price_history"] = json!(10_000);
    settings["reservation_history"] = json!(0);
    let reply = store.send(put("/v1/policy", &settings).header("if-match", &tag).key("k")).await;
    let new_tag = format!("\"{}\"", reply.index());
    assert_eq!((reply.status.as_u16(), reply.header(ETAG.as_str())), (200, &*new_tag));
    assert_eq!(reply.json(), settings);
    assert_eq!(policy(&store).await, (new_tag.clone(), settings.clone()));
    assert_eq!(store.send(ask("POST", "/restock/")).await.json(), json!({ "Restocked": true }));
    assert_eq!(store.item(3).await["stock"], 7, "it is in force");

    // The first reply again, though its precondition holds no more.
    let again = store.send(put("/v1/policy", &settings).header("if-match", &tag).key("k")).await;
    assert!(again.replayed() && again.header(ETAG.as_str()) == new_tag, "{again:?}");
    let late = store.send(put("/v1/policy", &settings).header("if-match", &tag)).await;
    let problem = late.problem(Code::VersionMismatch, NOT_APPLIED);
    assert_eq!(format!("\"{}\"", problem.current_version.unwrap()), new_tag);
    assert_eq!(policy(&store).await.0, new_tag);
    for condition in [None, Some("*")] {
        let ask = put("/v1/policy", &settings);
        let ask = condition.into_iter().fold(ask, |ask, value| ask.header("if-match", value));
        assert_eq!(store.send(ask).await.status, 200, "{condition:?}");
    }
}

#[tokio::test]
async fn a_policy_out_of_its_ranges_or_with_other_fields_is_refused() {
    let store = Store::start().await;
    let (_, settings) = policy(&store).await;
    let before = store.mark();
    let most = 1_000_000_000_000_u64;
    for (name, least, most) in [
        ("key_retention_hours", 1_u64, 8760),
        ("key_limit", 1, 100_000_000),
        ("restock_quantity", 1, most),
        ("restock_interval_s", 1, 86_400),
        ("change_history", 1, 100_000_000),
        ("price_history", 1, 10_000),
        ("reservation_limit", 1, 10_000_000),
        ("reservation_history", 0, 10_000_000),
        ("reservation_ttl_max_s", 1, 31_536_000),
    ] {
        for wrong in [least.checked_sub(1), Some(most + 1)].into_iter().flatten() {
            let mut settings = settings.clone();
            settings[name] = json!(wrong);
            let reply = store.send(put("/v1/policy", &settings)).await;
            let problem = reply.problem(Code::Invalid, NOT_APPLIED);
            assert_eq!(problem.errors[0].pointer, format!("/{name}"), "{wrong}");
        }
        let mut settings = settings.clone();
        settings.as_object_mut().unwrap().remove(name);
        if name != "restock_interval_s" {
            let reply = store.send(put("/v1/policy", &settings)).await;
            reply.problem(Code::Malformed, NOT_APPLIED);
        }
    }
    let mut other = settings.clone();
    other["colour"] = json!("red");
    let problem = store.send(put("/v1/policy", &other)).await.problem(Code::Malformed, NOT_APPLIED);
    assert_eq!(problem.errors[0].pointer, "/colour");
    assert_eq!(store.mark(), before, "nothing reached the log");
}

/// A write, of this item and this order.
type Asking = fn(&Value, &Value) -> Ask;

#[tokio::test]
async fn in_maintenance_writes_are_refused_and_reads_go_on() {
    let store = Store::start().await;
    let maintenance = async || {
        let reply = store.get("/v1/cluster").await;
        serde_json::from_slice::<Cluster>(&reply.body).unwrap().maintenance
    };
    let first = store.send(buy(1, 1).key("before")).await;
    assert!(!maintenance().await);
    for _ in 0..2 {
        let reply = store.send(switch(true)).await;
        assert_eq!((reply.status.as_u16(), reply.json()), (200, json!({ "on": true })));
    }
    assert!(maintenance().await);

    let item = json!({ "title": "T", "topic": "A", "price_cents": 1 });
    let order = json!({ "lines": [{ "item": 1, "quantity": 1 }] });
    let refused: [(&str, Asking); 7] = [
        ("put", |item, _| put("/v1/items/9", item)),
        ("create", |item, _| post("/v1/items", item)),
        ("delete", |_, _| ask("DELETE", "/v1/items/1")),
        ("order", |_, order| post("/v1/orders", order)),
        ("restock", |_, _| ask("POST", "/restock/")),
        ("atomic", |_, order| {
            post("/v1/orders/batch", &json!({ "atomic": true, "orders": [order] }))
        }),
        ("each", |_, order| {
            post("/v1/orders/batch", &json!({ "atomic": false, "orders": [order] }))
        }),
    ];
    for (name, request) in refused {
        let before = store.mark();
        let reply = store.send(request(&item, &order)).await;
        reply.problem(Code::Maintenance, NOT_APPLIED);
        assert_eq!(store.mark(), before, "{name} did not reach the log");
    }
    let sold = store.item(1).await;
    let keyed = store.send(buy(1, 1).key("during")).await;
    keyed.problem(Code::Maintenance, NOT_APPLIED);
    let again = store.send(buy(1, 1).key("before")).await;
    assert!(again.replayed() && again.json() == first.json(), "{again:?}");
    assert_eq!(store.item(1).await, sold, "reads go on and nothing was sold");
    let (tag, settings) = policy(&store).await;
    let ask = put("/v1/policy", &settings).header("if-match", tag);
    assert_eq!(store.send(ask).await.status, 200, "an operator may still do this");

    assert_eq!(store.send(switch(false)).await.json(), json!({ "on": false }));
    assert!(!maintenance().await);
    let reply = store.send(buy(1, 1).key("during")).await;
    assert!(reply.status == 201 && !reply.replayed(), "{reply:?}");
    for body in [json!({}), json!({ "on": 1 }), json!({ "on": true, "for": "ever" })] {
        let reply = store.send(post("/v1/cluster/maintenance", &body)).await;
        reply.problem(Code::Malformed, NOT_APPLIED);
    }
}

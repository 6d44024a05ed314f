//! What each write outdates in the cache of the facade that it comes through: what it changed, whether or
//! not anybody tells of it, and nothing else.

use axum::body::Body;
use axum::extract::Request;
use http::{Method, StatusCode};
use pygmy::api::header;
use serde_json::{Value, json};

use crate::mock::{Script, Shop, Store, until};

/// What a write outdates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outdated {
    /// Items 5 and 6.
    Both,
    /// Item 5.
    One,
    /// Every reply.
    All,
    Nothing,
}

/// A reply that depends on one item, in the original's form and in ours, for each item that is looked at.
const ITEMS: [(u64, [&str; 2]); 3] = [
    (5, ["/lookup/5", "/v1/items/5?consistency=stale"]),
    (6, ["/lookup/6", "/v1/items/6?consistency=stale"]),
    (9, ["/lookup/9", "/v1/items/9?consistency=stale"]),
];
/// Replies that depend on all items.
const LISTS: [&str; 3] =
    ["/search/Misc", "/v1/items?consistency=stale", "/v1/topics?consistency=stale"];

fn lines(items: &[u64]) -> Value {
    items.iter().map(|item| json!({ "item": item, "quantity": 1 })).collect()
}

/// A reply that shows lines, as an order or a reservation does.
fn with_lines(items: &[u64]) -> Value {
    json!({ "id": 1, "lines": lines(items), "total_cents": 1, "status": "placed" })
}

/// Method, path, status and body of the reply, and what the write outdates.
fn writes() -> Vec<(Method, &'static str, u16, Value, Outdated)> {
    let item = || json!({ "id": 5, "title": "T", "topic": "Misc", "stock": 1, "version": 99 });
    let (post, put, patch, delete) = (Method::POST, Method::PUT, Method::PATCH, Method::DELETE);
    vec![
        (post.clone(), "/v1/items", 201, item(), Outdated::One),
        (put.clone(), "/v1/items/5", 200, item(), Outdated::One),
        (patch, "/v1/items/5", 200, item(), Outdated::One),
        (delete.clone(), "/v1/items/5", 204, Value::Null, Outdated::One),
        (post.clone(), "/v1/items/5/stock", 200, item(), Outdated::One),
        (post.clone(), "/v1/orders/1/cancel", 200, with_lines(&[5, 6]), Outdated::Both),
        (post.clone(), "/v1/reservations", 201, with_lines(&[5]), Outdated::One),
        (post.clone(), "/v1/reservations/1/confirm", 201, with_lines(&[6, 5]), Outdated::Both),
        (delete, "/v1/reservations/1", 200, with_lines(&[5]), Outdated::One),
        (
            post.clone(),
            "/v1/orders/batch",
            200,
            json!({ "results": [
                { "status": "placed", "replayed": false, "order": with_lines(&[5]) },
                { "status": "refused", "replayed": false, "problem": { "code": "out_of_stock" } },
                { "status": "placed", "replayed": true, "order": with_lines(&[6, 5]) },
            ] }),
            Outdated::Both,
        ),
        // Which items it filled, or took from a file, the reply does not say.
        (post.clone(), "/restock", 200, json!({ "restocked": 2 }), Outdated::All),
        (post.clone(), "/v1/import", 200, json!({ "rows": 2, "created": 2 }), Outdated::All),
        // What cannot be understood may have changed anything.
        (post.clone(), "/v1/items", 201, json!({ "made": 5 }), Outdated::All),
        (post.clone(), "/v1/orders/1/cancel", 200, json!({ "cancelled": 1 }), Outdated::All),
        (put, "/v1/policy", 200, json!({ "key_limit": 7 }), Outdated::Nothing),
        (post, "/v1/cluster/maintenance", 200, json!({ "on": true }), Outdated::Nothing),
    ]
}

async fn is_hit(shop: &Shop, target: &str) -> bool {
    shop.get(target).await.header(header::X_CACHE) == Some("HIT")
}

/// Has every reply in the cache.
async fn warm(shop: &Shop) {
    for target in ITEMS.iter().flat_map(|(_, targets)| targets).chain(&LISTS) {
        until(&format!("{target} is served again"), async || is_hit(shop, target).await).await;
    }
}

/// Whether the next reply is new, and what stock it shows.
async fn next(shop: &Shop, target: &str) -> (bool, u64) {
    let got = shop.get(target).await;
    (got.header(header::X_CACHE).is_none(), got.json()["stock"].as_u64().unwrap_or(0))
}

#[tokio::test]
async fn every_write_outdates_what_it_changes_and_nothing_else() {
    let store = Store::of_three().await;
    let shop = store.facade(|settings| settings.cache_entries = 100).await;
    for (stock, (method, path, status, body, outdated)) in (1_000..).zip(writes()) {
        let what = format!("{method} {path}");
        let changed: &[u64] = match outdated {
            Outdated::Both => &[5, 6],
            Outdated::One => &[5],
            Outdated::All => &[5, 6, 9],
            Outdated::Nothing => &[],
        };
        warm(&shop).await;
        let script = Script {
            status: StatusCode::from_u16(status).unwrap(),
            body: if body.is_null() { String::new() } else { body.to_string() },
            sets: changed.iter().map(|item| (*item, stock)).collect(),
        };
        store.truth().scripts.insert((method.clone(), path.to_owned()), script);
        let request = Request::builder().method(method).uri(path);
        let request = request.header("content-type", "text/csv").body(Body::from("id\n1\n"));
        let got = shop.send(request.unwrap()).await;
        assert_eq!(got.status, status, "{what}: {got:?}");

        for (item, targets) in ITEMS {
            let is_changed = changed.contains(&item);
            for target in targets {
                let (is_new, shown) = next(&shop, target).await;
                assert_eq!(is_new, is_changed, "{what}: {target}");
                assert_eq!(shown, store.truth().stock[&item], "{what}: {target}");
            }
        }
        for target in LISTS {
            let (is_new, _) = next(&shop, target).await;
            assert_eq!(is_new, !changed.is_empty(), "{what}: {target}");
        }
    }
}

#[tokio::test]
async fn a_write_that_is_refused_outdates_nothing_but_an_import_may_have_got_halfway() {
    let store = Store::of_three().await;
    let shop = store.facade(|settings| settings.cache_entries = 100).await;
    for (method, path, ..) in writes() {
        warm(&shop).await;
        let body = json!({ "code": "wrong_state", "status": 409, "outcome": "not_applied" });
        let script =
            Script { status: StatusCode::CONFLICT, body: body.to_string(), sets: Vec::new() };
        store.truth().scripts.insert((method.clone(), path.to_owned()), script);
        let request = Request::builder().method(&method).uri(path);
        let request = request.header("content-type", "text/csv").body(Body::from("id\n1\n"));
        let got = shop.send(request.unwrap()).await;
        assert_eq!(got.status, 409, "{method} {path}: {got:?}");
        for target in ITEMS.iter().flat_map(|(_, targets)| targets).chain(&LISTS) {
            let is_kept = path != "/v1/import";
            assert_eq!(is_hit(&shop, target).await, is_kept, "{method} {path}: {target}");
        }
    }
}

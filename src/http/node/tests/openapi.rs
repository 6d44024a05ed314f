//! The document against the router, the checks' limits and what is really answered.

use std::collections::BTreeSet;

use http::header::{ALLOW, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use serde_json::{Value, json};

use super::{
    super::{methods_of, openapi::DOCUMENT, routes},
    store::{Store, ask},
};
use crate::{
    api::{
        AMOUNT_MAX, BATCH_ORDERS_MAX, CANCEL_REASON_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX,
        ORDER_LINES_MAX, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX, QUANTITY_MAX, REFERENCE_BYTES_MAX,
        RESERVATION_TTL_SECONDS_DEFAULT, TITLE_BYTES_MAX, TOPIC_BYTES_MAX, policy_range as range,
    },
    http::problem::Code,
};

const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// The operations of the document, as method and path.
fn documented() -> BTreeSet<String> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        let methods = METHODS.into_iter().filter(|method| item.get(method).is_some());
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    operations.collect()
}

/// The path with numbers for what it leaves open.
fn filled(path: &str) -> String {
    path.split('/')
        .map(|part| if part.starts_with('{') { "1" } else { part })
        .collect::<Vec<_>>()
        .join("/")
}

#[tokio::test]
async fn the_document_has_every_route_and_nothing_else() {
    let store = Store::start().await;
    let mut routed = BTreeSet::new();
    for path in routes().paths {
        // A method that nobody takes is told what the path does take.
        let reply = store.send(ask("BREW", &filled(&path))).await;
        reply.problem(Code::MethodNotAllowed, Some(crate::api::WriteOutcome::NotApplied));
        let allow: Vec<_> = reply.header(ALLOW.as_str()).split(',').map(str::trim).collect();
        // The original's paths are documented once, with their slash.
        let slashed = format!("{path}/");
        let path = if routes().paths.contains(&slashed) { slashed } else { path };
        let methods = allow.iter().filter(|method| **method != "HEAD");
        routed.extend(methods.map(|method| format!("{method} {path}")));
    }
    assert_eq!(documented(), routed);
}

#[test]
fn the_methods_of_a_path_are_told_without_a_node() {
    for (path, methods) in [
        ("/v1/orders/batch", Some("POST")),
        ("/v1/orders/5", Some("GET, HEAD")),
        ("/v1/items/5", Some("DELETE, GET, PATCH, PUT, HEAD")),
        ("/buy/5", Some("GET")),
        ("/buy/5/", Some("GET")),
        ("/", Some("GET, HEAD")),
        ("/v1/items/5/", None),
        ("/v1/items/", None),
        ("/nowhere", None),
    ] {
        assert_eq!(methods_of(path).as_deref(), methods, "{path}");
    }
}

#[test]
fn the_limits_are_those_that_are_checked() {
    let field = |shape: &str, field: &str, limit: &str| {
        DOCUMENT["components"]["schemas"][shape]["properties"][field][limit].clone()
    };
    for (shape, name, limit, checked) in [
        ("PutItem", "title", "maxLength", TITLE_BYTES_MAX as u64),
        ("PutItem", "topic", "maxLength", TOPIC_BYTES_MAX as u64),
        ("PutItem", "price_cents", "maximum", AMOUNT_MAX),
        ("PutItem", "stock", "maximum", AMOUNT_MAX),
        ("NewItem", "title", "maxLength", TITLE_BYTES_MAX as u64),
        ("NewItem", "topic", "maxLength", TOPIC_BYTES_MAX as u64),
        ("NewItem", "price_cents", "maximum", AMOUNT_MAX),
        ("NewItem", "stock", "maximum", AMOUNT_MAX),
        ("PatchItem", "title", "maxLength", TITLE_BYTES_MAX as u64),
        ("PatchItem", "topic", "maxLength", TOPIC_BYTES_MAX as u64),
        ("PatchItem", "price_cents", "maximum", AMOUNT_MAX),
        ("ChangeStock", "delta", "maximum", AMOUNT_MAX),
        ("ChangeStock", "set", "maximum", AMOUNT_MAX),
        ("ChangeStock", "reference", "maxLength", REFERENCE_BYTES_MAX as u64),
        ("NewOrder", "lines", "maxItems", ORDER_LINES_MAX as u64),
        ("NewOrder", "customer", "maxLength", REFERENCE_BYTES_MAX as u64),
        ("NewOrder", "reference", "maxLength", REFERENCE_BYTES_MAX as u64),
        ("NewOrderLine", "quantity", "minimum", 1),
        ("NewOrderLine", "quantity", "maximum", QUANTITY_MAX),
        ("NewOrderLine", "expected_price_cents", "maximum", AMOUNT_MAX),
        ("CancelOrder", "reason", "maxLength", CANCEL_REASON_BYTES_MAX as u64),
        ("NewReservation", "lines", "maxItems", ORDER_LINES_MAX as u64),
        ("NewReservation", "ttl_seconds", "minimum", 1),
        ("NewReservation", "ttl_seconds", "default", RESERVATION_TTL_SECONDS_DEFAULT),
        ("NewReservation", "customer", "maxLength", REFERENCE_BYTES_MAX as u64),
        ("NewReservation", "reference", "maxLength", REFERENCE_BYTES_MAX as u64),
        ("NewOrderBatch", "orders", "maxItems", BATCH_ORDERS_MAX as u64),
        ("NewBatchOrder", "lines", "maxItems", ORDER_LINES_MAX as u64),
        ("NewBatchOrder", "customer", "maxLength", REFERENCE_BYTES_MAX as u64),
        ("NewBatchOrder", "reference", "maxLength", REFERENCE_BYTES_MAX as u64),
        ("NewBatchOrder", "idempotency_key", "maxLength", IDEMPOTENCY_KEY_BYTES_MAX as u64),
    ] {
        assert_eq!(field(shape, name, limit), json!(checked), "{shape}.{name}: {limit}");
    }
    for (name, range) in [
        ("key_retention_hours", range::KEY_RETENTION_HOURS),
        ("key_limit", range::KEY_LIMIT),
        ("restock_quantity", range::RESTOCK_QUANTITY),
        ("restock_interval_s", range::RESTOCK_INTERVAL_S),
        ("change_history", range::CHANGE_HISTORY),
        ("price_history", range::PRICE_HISTORY),
        ("reservation_limit", range::RESERVATION_LIMIT),
        ("reservation_history", range::RESERVATION_HISTORY),
        ("reservation_ttl_max_s", range::RESERVATION_TTL_MAX_S),
    ] {
        assert_eq!(field("Policy", name, "minimum"), json!(range.start()), "{name}");
        assert_eq!(field("Policy", name, "maximum"), json!(range.end()), "{name}");
    }
    let least = -i64::try_from(AMOUNT_MAX).unwrap();
    assert_eq!(field("ChangeStock", "delta", "minimum"), json!(least));
    let limit = &parameter("/v1/items", "get", "limit")["schema"];
    assert_eq!(limit["maximum"], json!(PAGE_LIMIT_MAX));
    assert_eq!(limit["default"], json!(PAGE_LIMIT_DEFAULT));
    assert_eq!(parameter("/v1/items/{id}", "put", "id")["schema"]["maximum"], json!(u64::MAX));
}

fn parameter(path: &str, method: &str, name: &str) -> Value {
    let parameters = DOCUMENT["paths"][path][method]["parameters"].as_array().unwrap();
    parameters.iter().find(|parameter| parameter["name"] == name).unwrap().clone()
}

/// What a client sends is read strictly, and the document says so.
#[test]
fn bodies_take_no_other_fields() {
    let mut seen = 0;
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        for method in METHODS {
            let body = &item[method]["requestBody"]["content"]["application/json"]["schema"];
            let Some(name) = body["$ref"].as_str() else { continue };
            let shape = DOCUMENT.pointer(name.trim_start_matches('#')).unwrap();
            assert_eq!(shape["additionalProperties"], json!(false), "{method} {path}");
            seen += 1;
        }
    }
    assert!(seen >= 4, "found only {seen} bodies");
}

#[tokio::test]
async fn the_document_is_served() {
    let store = Store::start().await;
    let reply = store.get("/openapi.json").await;
    assert_eq!(
        (reply.status.as_u16(), reply.header(CONTENT_TYPE.as_str())),
        (200, "application/json")
    );
    let document = reply.json();
    assert_eq!(document, *DOCUMENT);
    assert_eq!(document["openapi"], "3.1.0");
}

/// What stands between quotes after `name=`.
fn named<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!("{name}=\"");
    page.split(&start).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[tokio::test]
async fn the_page_has_all_that_it_needs_and_nothing_from_elsewhere() {
    let store = Store::start().await;
    let page = store.get("/docs").await;
    assert_eq!(page.header(CONTENT_TYPE.as_str()), "text/html; charset=utf-8");
    let mut parts = named(page.text(), "src");
    parts.extend(named(page.text(), "href"));
    assert!(parts.len() >= 4, "{parts:?}");
    for part in parts {
        let reply = store.get(part).await;
        assert_eq!(reply.status, 200, "{part}");
        let kind = reply.header(CONTENT_TYPE.as_str()).split(';').next().unwrap();
        let expected = match part.rsplit('.').next().unwrap() {
            "js" => "text/javascript",
            "css" => "text/css",
            "png" => "image/png",
            other => panic!("{other}"),
        };
        assert_eq!(kind, expected, "{part}");
        let policy = reply.header(CONTENT_SECURITY_POLICY.as_str());
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        let compressed = reply.body.starts_with(&[0x1f, 0x8b]);
        assert_eq!(reply.headers.contains_key(CONTENT_ENCODING), compressed, "{part}");
    }
    assert!(!page.text().contains("://"), "{}", page.text());
    let start = store.get("/docs/start.js").await;
    assert!(start.text().contains("\"/openapi.json\"") && !start.text().contains("://"));
    for missing in ["/docs/oauth2-redirect.html", "/docs/none", "/docs/%ff"] {
        store.get(missing).await.problem(Code::NotFound, None);
    }
}

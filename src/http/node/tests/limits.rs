//! Every limit of the interface, at it, below it and above it.

use serde_json::{Value, json};

use super::store::{Ask, Store, ask, buy, get, post, put, settings};
use crate::{
    api::{
        AMOUNT_MAX, IDEMPOTENCY_KEY_BYTES_MAX, ORDER_LINES_MAX, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX,
        QUANTITY_MAX, REFERENCE_BYTES_MAX, TITLE_BYTES_MAX, TOPIC_BYTES_MAX, WriteOutcome,
    },
    http::problem::Code,
};

/// Sends what must be taken, or what must be refused at one place without a trace.
async fn expect(store: &Store, ask: Ask, refused_at: Option<&str>) {
    let before = store.mark();
    let reply = store.send(ask).await;
    match refused_at {
        None => assert!(reply.status.is_success(), "{reply:?}"),
        Some(place) => {
            let problem = reply.problem(Code::Invalid, Some(WriteOutcome::NotApplied));
            assert_eq!(problem.errors.len(), 1, "{problem:?}");
            assert_eq!(problem.errors[0].pointer, place);
            assert_eq!(store.mark(), before);
        }
    }
}

fn item_with(field: &str, value: impl Into<Value>) -> Ask {
    let mut item = json!({ "title": "T", "topic": "A", "price_cents": 1, "stock": 1 });
    item[field] = value.into();
    put("/v1/items/9", &item)
}

fn order_with(field: &str, value: impl Into<Value>) -> Ask {
    let mut order = json!({ "lines": [{ "item": 1, "quantity": 1 }] });
    order[field] = value.into();
    post("/v1/orders", &order)
}

#[tokio::test]
async fn texts() {
    let store = Store::start().await;
    let stock_with = |reference: String| {
        let body = json!({ "delta": 1, "reason": "received", "reference": reference });
        post("/v1/items/1/stock", &body)
    };
    for (bytes_max, place, ask) in [
        (TITLE_BYTES_MAX, "/title", &(|text| item_with("title", text)) as &dyn Fn(String) -> Ask),
        (TOPIC_BYTES_MAX, "/topic", &|text| item_with("topic", text)),
        (REFERENCE_BYTES_MAX, "/customer", &|text| order_with("customer", text)),
        (REFERENCE_BYTES_MAX, "/reference", &|text| order_with("reference", text)),
        (REFERENCE_BYTES_MAX, "/reference", &stock_with),
    ] {
        for bytes in [1, bytes_max - 1, bytes_max] {
            expect(&store, ask("x".repeat(bytes)), None).await;
        }
        for bytes in [0, bytes_max + 1] {
            expect(&store, ask("x".repeat(bytes)), Some(place)).await;
        }
        // The limit counts bytes, not characters.
        expect(&store, ask("ü".repeat(bytes_max / 2)), None).await;
        expect(&store, ask("ü".repeat(bytes_max / 2 + 1)), Some(place)).await;
        for control in ["a\u{0}b", "a\u{7f}b", "a\u{85}b", "\n"] {
            expect(&store, ask(control.to_owned()), Some(place)).await;
        }
    }
    let title = "日本語 – “Ünïcödé” 📚";
    expect(&store, item_with("title", title), None).await;
    assert_eq!(store.item(9).await["title"], title);
}

#[tokio::test]
async fn amounts() {
    let store = Store::start().await;
    for field in ["price_cents", "stock"] {
        let place = format!("/{field}");
        for amount in [0, AMOUNT_MAX - 1, AMOUNT_MAX] {
            expect(&store, item_with(field, amount), None).await;
            assert_eq!(store.item(9).await[field], amount);
        }
        for amount in [AMOUNT_MAX + 1, u64::MAX] {
            expect(&store, item_with(field, amount), Some(&place)).await;
        }
    }
    let change = |body: Value| post("/v1/items/9/stock", &body);
    expect(&store, change(json!({ "set": 0, "reason": "count" })), None).await;
    let most = i64::try_from(AMOUNT_MAX).unwrap();
    let delta = |delta: i64| change(json!({ "delta": delta, "reason": "correction" }));
    for fits in [most, -most, 1, -1, most - 1, 1 - most] {
        expect(&store, delta(fits), None).await;
    }
    for too_much in [most + 1, -most - 1, i64::MIN, i64::MAX] {
        expect(&store, delta(too_much), Some("/delta")).await;
    }
    let set = |set: u64| change(json!({ "set": set, "reason": "count" }));
    for fits in [AMOUNT_MAX, AMOUNT_MAX - 1, 0] {
        expect(&store, set(fits), None).await;
    }
    expect(&store, set(AMOUNT_MAX + 1), Some("/set")).await;
}

#[tokio::test]
async fn quantities_prices_and_lines() {
    let store = Store::start().await;
    expect(&store, item_with("stock", AMOUNT_MAX), None).await;
    for quantity in [1, QUANTITY_MAX - 1, QUANTITY_MAX] {
        expect(&store, buy(9, quantity), None).await;
    }
    for quantity in [0, QUANTITY_MAX + 1, u64::MAX] {
        expect(&store, buy(9, quantity), Some("/lines/0/quantity")).await;
    }
    let line = |price: u64| json!([{ "item": 9, "quantity": 1, "expected_price_cents": price }]);
    expect(&store, order_with("lines", line(1)), None).await;
    let place = "/lines/0/expected_price_cents";
    expect(&store, order_with("lines", line(AMOUNT_MAX + 1)), Some(place)).await;
    let reply = store.send(order_with("lines", line(AMOUNT_MAX))).await;
    reply.problem(Code::WrongState, Some(WriteOutcome::NotApplied));

    let lines = |count| vec![json!({ "item": 9, "quantity": 1 }); count];
    for count in [1, ORDER_LINES_MAX - 1, ORDER_LINES_MAX] {
        expect(&store, order_with("lines", lines(count)), None).await;
    }
    for count in [0, ORDER_LINES_MAX + 1, 5 * ORDER_LINES_MAX] {
        expect(&store, order_with("lines", lines(count)), Some("/lines")).await;
    }
}

#[tokio::test]
async fn an_order_that_costs_more_than_can_be_counted_is_refused_whole() {
    let store = Store::start().await;
    for id in 100..125 {
        let item =
            json!({ "title": "T", "topic": "A", "price_cents": AMOUNT_MAX, "stock": AMOUNT_MAX });
        expect(&store, put(&format!("/v1/items/{id}"), &item), None).await;
    }
    let lines = |count: u64| -> Vec<Value> {
        (100..100 + count).map(|id| json!({ "item": id, "quantity": QUANTITY_MAX })).collect()
    };
    let before = store.contents().await;
    let reply = store.send(order_with("lines", lines(25))).await;
    reply.problem(Code::Invalid, Some(WriteOutcome::NotApplied));
    assert_eq!(store.contents().await, before);
    let reply = store.send(order_with("lines", lines(18))).await;
    assert_eq!(reply.status, 201);
    assert_eq!(reply.json()["total_cents"], 18 * AMOUNT_MAX * QUANTITY_MAX);
}

#[tokio::test]
async fn item_numbers() {
    let store = Store::start().await;
    let item = json!({ "title": "T", "topic": "A", "price_cents": 1, "stock": 1 });
    for id in [0, u64::MAX] {
        expect(&store, put(&format!("/v1/items/{id}"), &item), None).await;
        assert_eq!(store.item(id).await["id"], id);
        expect(&store, buy(id, 1), None).await;
    }
    let page = store.get("/v1/items?limit=1000").await.json();
    let ids: Vec<_> = page["items"].as_array().unwrap().iter().map(|i| i["id"].clone()).collect();
    assert_eq!(ids, [json!(0), json!(1), json!(2), json!(3), json!(u64::MAX)]);
    let end = format!("/v1/items?cursor=i{:x}", u64::MAX);
    assert_eq!(store.get(&end).await.json(), json!({ "items": [], "next_cursor": null }));
}

#[tokio::test]
async fn keys() {
    let store = Store::start().await;
    let every_visible: String = (0x21..=0x7e_u8).map(char::from).collect();
    let keys = ["k".to_owned(), "k".repeat(IDEMPOTENCY_KEY_BYTES_MAX - 1), every_visible];
    for key in keys.into_iter().chain(["k".repeat(IDEMPOTENCY_KEY_BYTES_MAX)]) {
        let reply = store.send(buy(1, 1).key(&key)).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        assert!(!reply.replayed());
        assert!(store.send(buy(1, 1).key(&key)).await.replayed());
    }
    assert_eq!(store.item(1).await["stock"], 6);
}

#[tokio::test]
async fn pages() {
    let store = Store::start().await;
    for id in 10..10 + PAGE_LIMIT_MAX {
        let item = json!({ "title": "T", "topic": "Many", "price_cents": 1 });
        expect(&store, put(&format!("/v1/items/{id}"), &item), None).await;
    }
    let rows = async |path: &str| {
        let page = store.get(path).await.json();
        (page["items"].as_array().unwrap().len(), page["next_cursor"].is_string())
    };
    assert_eq!(rows("/v1/items").await, (PAGE_LIMIT_DEFAULT, true));
    for limit in [1, PAGE_LIMIT_MAX - 1, PAGE_LIMIT_MAX] {
        assert_eq!(rows(&format!("/v1/items?limit={limit}")).await, (limit, true));
    }
    // A page that is full and the last has no next one.
    assert_eq!(rows("/v1/items?topic=Many&limit=1000").await, (PAGE_LIMIT_MAX, false));
    assert_eq!(rows("/v1/items?topic=Many&limit=999").await, (PAGE_LIMIT_MAX - 1, true));
    for limit in [0, PAGE_LIMIT_MAX + 1] {
        store.get(&format!("/v1/items?limit={limit}")).await.problem(Code::Malformed, None);
    }
}

#[tokio::test]
async fn bodies() {
    let mut settings = settings();
    settings.body_limit_bytes = 500;
    let store = Store::with(settings).await;
    let order = |bytes: usize| {
        let order = json!({ "lines": [{ "item": 1, "quantity": 1 }] }).to_string();
        order.clone() + &" ".repeat(bytes - order.len())
    };
    for bytes in [499, 500] {
        expect(&store, ask("POST", "/v1/orders").json(&order(bytes)), None).await;
    }
    for bytes in [501, 100_000] {
        let before = store.mark();
        // Known in advance, and only when it arrives.
        let chunks = order(bytes).into_bytes().chunks(100).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let stream = futures_util::stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>));
        let streamed = ask("POST", "/v1/orders")
            .header("content-type", "application/json")
            .body(axum::body::Body::from_stream(stream));
        for ask in [ask("POST", "/v1/orders").json(&order(bytes)), streamed] {
            let reply = store.send(ask).await;
            reply.problem(Code::TooLarge, Some(WriteOutcome::NotApplied));
        }
        assert_eq!(store.mark(), before);
    }
    // A body that nobody reads harms nobody.
    let reply = store.send(get("/v1/items/1").body("x".repeat(100_000))).await;
    assert_eq!(reply.status, 200);
}

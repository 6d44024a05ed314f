//! `/v1/orders` where all is well, and what the state refuses of them.

use http::header::LOCATION;
use serde_json::{Value, json};

use super::store::{Store, buy, post, put};
use crate::{api::WriteOutcome, http::problem::Code};

const NOT_APPLIED: Option<WriteOutcome> = Some(WriteOutcome::NotApplied);

fn order(lines: Value) -> super::store::Ask {
    post("/v1/orders", &json!({ "lines": lines }))
}

#[tokio::test]
async fn an_order_takes_the_stock_and_can_be_read_again() {
    let store = Store::start().await;
    let body = json!({
        "lines": [
            { "item": 1, "quantity": 2, "expected_price_cents": 100 },
            { "item": 2, "quantity": 1 },
            { "item": 1, "quantity": 3 },
        ],
        "customer": "ada", "reference": "4711",
    });
    let reply = store.send(post("/v1/orders", &body)).await;
    assert_eq!((reply.status.as_u16(), reply.header(LOCATION.as_str())), (201, "/v1/orders/1"));
    let placed = reply.json();
    let at = placed["placed_at"].as_str().unwrap();
    assert_eq!(
        placed,
        json!({
            "id": 1, "total_cents": 700, "status": "placed", "customer": "ada",
            "reference": "4711", "placed_at": at, "index": reply.index(),
            "lines": [
                { "item": 1, "title": "Title 1", "quantity": 5, "unit_price_cents": 100 },
                { "item": 2, "title": "Title 2", "quantity": 1, "unit_price_cents": 200 },
            ],
        })
    );
    let read = store.get("/v1/orders/1").await;
    assert_eq!((read.json(), read.index()), (placed, reply.index()));
    assert_eq!(
        (&store.item(1).await["stock"], &store.item(2).await["stock"]),
        (&json!(5), &json!(0))
    );

    // Without a customer there is none, rather than an empty one.
    let second = store.send(buy(1, 1)).await.json();
    assert_eq!(second["id"], 2);
    assert!(second.get("customer").is_none() && second.get("reference").is_none(), "{second}");
    // An order keeps the title and the price of its day.
    let renamed = json!({ "title": "Other", "topic": "A", "price_cents": 1 });
    assert_eq!(store.send(put("/v1/items/1", &renamed)).await.status, 200);
    assert_eq!(store.get("/v1/orders/2").await.json(), second);
}

#[tokio::test]
async fn what_cannot_be_sold_whole_is_not_sold_at_all() {
    let store = Store::start().await;
    let before = store.contents().await;
    for (lines, code, line, item, requested, available) in [
        (json!([{ "item": 3, "quantity": 1 }]), Code::OutOfStock, 0, 3, Some(1), Some(0)),
        (json!([{ "item": 1, "quantity": 11 }]), Code::OutOfStock, 0, 1, Some(11), Some(10)),
        (
            json!([{ "item": 1, "quantity": 1 }, { "item": 2, "quantity": 2 }]),
            Code::OutOfStock,
            1,
            2,
            Some(2),
            Some(1),
        ),
        // Lines of the same item count together, and the first of them is named.
        (
            json!([
                { "item": 2, "quantity": 1 }, { "item": 1, "quantity": 6 },
                { "item": 1, "quantity": 5 },
            ]),
            Code::OutOfStock,
            1,
            1,
            Some(11),
            Some(10),
        ),
        (
            json!([{ "item": 1, "quantity": 1 }, { "item": 99, "quantity": 1 }]),
            Code::NotFound,
            1,
            99,
            None,
            None,
        ),
        (
            json!([{ "item": 1, "quantity": 1 },
                { "item": 2, "quantity": 1, "expected_price_cents": 199 }]),
            Code::WrongState,
            1,
            2,
            None,
            None,
        ),
    ] {
        let reply = store.send(order(lines.clone())).await;
        let problem = reply.problem(code, NOT_APPLIED);
        assert_eq!((problem.line, problem.item), (Some(line), Some(item)), "{lines}");
        assert_eq!((problem.requested, problem.available), (requested, available), "{lines}");
        assert!(reply.index() > 0, "it was decided at an index");
        assert_eq!(reply.header(LOCATION.as_str()), "");
        assert_eq!(store.contents().await, before, "{lines}");
    }
    // The last piece is sold once.
    assert_eq!(store.send(buy(2, 1)).await.status, 201);
    store.send(buy(2, 1)).await.problem(Code::OutOfStock, NOT_APPLIED);
}

#[tokio::test]
async fn stock_is_sold_once_however_many_want_it_at_once() {
    let store = Store::start().await;
    let asked = (0..40).map(|_| store.send(buy(1, 1)));
    let replies = futures_util::future::join_all(asked).await;
    let sold: Vec<_> = replies.iter().filter(|reply| reply.status == 201).collect();
    let mut ids: Vec<_> = sold.iter().map(|reply| reply.json()["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=10).collect::<Vec<_>>());
    for refused in replies.iter().filter(|reply| reply.status != 201) {
        let problem = refused.problem(Code::OutOfStock, NOT_APPLIED);
        assert_eq!(problem.available, Some(0), "refused only once all was sold");
    }
    assert_eq!(store.item(1).await["available"], 0);
}

#[tokio::test]
async fn orders_are_listed_by_number_page_by_page_while_more_are_placed() {
    let store = Store::start().await;
    for _ in 0..7 {
        assert_eq!(store.send(buy(1, 1)).await.status, 201);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/orders?limit=3".to_owned();
    loop {
        let page = store.get(&path).await.json();
        seen.extend(page["orders"].as_array().unwrap().iter().map(|o| o["id"].as_u64().unwrap()));
        if seen.len() == 3 {
            assert_eq!(store.send(buy(1, 1)).await.status, 201);
        }
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/orders?limit=3&cursor={cursor}");
    }
    assert_eq!(seen, (1..=8).collect::<Vec<_>>());
    let first = store.get("/v1/orders?limit=1").await.json();
    assert_eq!(first["orders"][0], store.get("/v1/orders/1").await.json());
    let whole = store.get("/v1/orders?limit=8").await.json();
    assert_eq!(whole["next_cursor"], Value::Null);
}

#[tokio::test]
async fn orders_are_found_by_item_customer_status_and_time() {
    let store = Store::start().await;
    let mut placed = Vec::new();
    for (items, customer) in
        [(&[1][..], Some("ada")), (&[1, 2], Some("A & B")), (&[1], None), (&[1], Some("ada"))]
    {
        let lines: Vec<_> =
            items.iter().map(|item| json!({ "item": item, "quantity": 1 })).collect();
        let body = json!({ "lines": lines, "customer": customer });
        placed.push(store.send(post("/v1/orders", &body)).await.json());
    }
    let found = async |query: &str| -> Vec<u64> {
        let page = store.get(&format!("/v1/orders?{query}")).await.json();
        page["orders"].as_array().unwrap().iter().map(|o| o["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(found("item=2").await, [2]);
    assert_eq!(found("item=1").await, [1, 2, 3, 4]);
    assert_eq!(found("item=99").await, [0u64; 0]);
    assert_eq!(found("customer=ada").await, [1, 4]);
    assert_eq!(found("customer=A+%26+B&item=1").await, [2]);
    assert_eq!(found("customer=ada&item=2").await, [0u64; 0]);
    assert_eq!(found("status=placed&customer=ada&limit=1").await, [1]);
    let page = store.get("/v1/orders?customer=ada&limit=1").await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(found(&format!("customer=ada&limit=1&cursor={cursor}")).await, [4]);

    // From a time on, itself included, and before a time, itself not.
    let at = |n: usize| placed[n]["placed_at"].as_str().unwrap();
    let ids = |holds: &dyn Fn(&str) -> bool| -> Vec<u64> {
        let held = placed.iter().filter(|o| holds(o["placed_at"].as_str().unwrap()));
        held.map(|order| order["id"].as_u64().unwrap()).collect()
    };
    for n in 0..4 {
        let parsed = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
        let time = parsed(at(n));
        let same_or_later = ids(&|other| parsed(other) >= time);
        assert_eq!(found(&format!("from={}", at(n))).await, same_or_later);
        assert_eq!(found(&format!("to={}", at(n))).await, ids(&|other| parsed(other) < time));
        // A time between two milliseconds.
        let between = time.checked_add(jiff::SignedDuration::from_micros(1)).unwrap();
        assert_eq!(found(&format!("from={between}")).await, ids(&|o| parsed(o) > time));
        assert_eq!(found(&format!("to={between}")).await, ids(&|o| parsed(o) <= time));
    }
    assert_eq!(found("from=1960-01-01T00:00:00Z&to=1970-01-01T00:00:00Z").await, [0u64; 0]);
}

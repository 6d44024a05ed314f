//! The original's endpoints, byte for byte, with and without the trailing slash.

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::json;

use super::store::{Store, ask, buy, get, put, settings};
use crate::{
    api::{WriteOutcome, header},
    http::problem::Code,
};

/// The body with the time of day, which is in it as an HTTP date, cut out and checked.
fn without_time(body: &str) -> String {
    let Some((before, rest)) = body.split_once(r#""Time":""#) else { return body.to_owned() };
    let (time, after) = rest.split_once('"').unwrap();
    let time = httpdate::parse_http_date(time).unwrap();
    assert!(time.elapsed().unwrap().as_secs() < 60, "{time:?}");
    format!("{before}\"Time\":\"now\"{after}")
}

#[tokio::test]
async fn the_bytes_are_those_that_the_originals_clients_read() {
    let store = Store::start().await;
    let item = json!({ "title": "Zwölf \"gute\" Gründe", "topic": "GraduateSchool",
        "price_cents": 1999, "stock": 1 });
    assert_eq!(store.send(put("/v1/items/7", &item)).await.status, 201);
    let lookup = |stock: u64| {
        format!(
            "\"Cost\":\"19.99\",\"ItemNumber\":\"7\",\"Stock\":\"{stock}\",\"Time\":\"now\",\
             \"Title\":\"Zwölf \\\"gute\\\" Gründe\",\"Topic\":\"GraduateSchool\""
        )
    };
    let mut stock = 1;
    for slash in ["/", ""] {
        let cases = [
            ("GET", "/search/A", r#"{"items":{"Title 1":"1","Title 2":"2"}}"#.to_owned()),
            (
                "GET",
                "/search/GraduateSchool",
                r#"{"items":{"Zwölf \"gute\" Gründe":"7"}}"#.to_owned(),
            ),
            ("GET", "/search/Nothing", r#"{"items":{}}"#.to_owned()),
            ("GET", "/search/a", r#"{"items":{}}"#.to_owned()),
            ("GET", "/lookup/7", format!("{{{}}}", lookup(stock))),
            ("GET", "/lookup/99", "{}".to_owned()),
            ("GET", "/lookup/seven", "{}".to_owned()),
            ("GET", "/lookup/-7", "{}".to_owned()),
            ("GET", "/buy/99", "{}".to_owned()),
            ("GET", "/buy/seven", "{}".to_owned()),
            ("GET", "/buy/3", r#"{"Result":"0"}"#.to_owned()),
            ("DELETE", "/invalidate/7", r#"{"invalidated":true}"#.to_owned()),
            ("DELETE", "/invalidate/99", r#"{"invalidated":true}"#.to_owned()),
            ("GET", "/heartbeat", r#"{"alone":1}"#.to_owned()),
        ];
        for (method, path, expected) in cases {
            let reply = store.send(ask(method, &format!("{path}{slash}"))).await;
            assert_eq!(reply.status, 200, "{path}{slash}: {reply:?}");
            assert_eq!(reply.header(CONTENT_TYPE.as_str()), "application/json", "{path}{slash}");
            assert_eq!(without_time(reply.text()), expected, "{path}{slash}");
        }
        let path = format!("/buy/7{slash}");
        let bought = store.send(get(&path)).await;
        stock = 0;
        let fields = lookup(stock);
        // The fields in the order of their names, as in all replies.
        let (cost_and_number, rest) = fields.split_once("\"Stock\"").unwrap();
        let expected = format!("{{{cost_and_number}\"Result\":\"1\",\"Stock\"{rest}}}");
        assert_eq!((bought.status.as_u16(), without_time(bought.text())), (200, expected));
        assert_eq!(bought.header(CACHE_CONTROL.as_str()), "no-store");
        assert!(bought.index() > 0);
        let sold_out = store.get(&path).await;
        assert_eq!((sold_out.status.as_u16(), sold_out.text()), (200, r#"{"Result":"0"}"#));
        assert_eq!(sold_out.header(CACHE_CONTROL.as_str()), "no-store");

        let restock = format!("/restock{slash}");
        let restocked = store.send(ask("POST", &restock)).await;
        assert_eq!((restocked.status.as_u16(), restocked.text()), (200, r#"{"Restocked":true}"#));
        let nothing = store.send(ask("POST", &restock)).await;
        assert_eq!((nothing.status.as_u16(), nothing.text()), (200, r#"{"Restocked":false}"#));
        assert_eq!(
            (&store.item(7).await["stock"], &store.item(3).await["stock"]),
            (&json!(50), &json!(50))
        );
        // As it was, for the other form of the path.
        for id in [3, 7] {
            let none = json!({ "set": u64::from(id == 7), "reason": "count" });
            let ask = super::store::post(&format!("/v1/items/{id}/stock"), &none);
            assert_eq!(store.send(ask).await.status, 200);
        }
        stock = 1;
    }
}

#[tokio::test]
async fn the_welcome_is_plain_text() {
    let store = Store::start().await;
    let reply = store.get("/").await;
    assert_eq!(reply.text(), "Welcome to Pygmy.com, the world's smallest book store!");
    assert_eq!(reply.header(CONTENT_TYPE.as_str()), "text/plain; charset=utf-8");
}

#[tokio::test]
async fn a_cost_has_cents_only_where_there_are_some() {
    let store = Store::start().await;
    for (cents, cost) in [(0, "0"), (5, "0.05"), (50, "0.50"), (100, "1"), (1205, "12.05")] {
        let item = json!({ "title": "T", "topic": "A", "price_cents": cents });
        assert!(store.send(put("/v1/items/9", &item)).await.status.is_success());
        assert_eq!(store.get("/lookup/9/").await.json()["Cost"], cost);
    }
}

#[tokio::test]
async fn a_purchase_is_an_order_like_any_other() {
    let store = Store::start().await;
    let bought = store.get("/buy/1").await;
    assert_eq!(bought.json()["Stock"], "9");
    let order = store.get("/v1/orders/1").await.json();
    assert_eq!((&order["lines"][0]["item"], &order["total_cents"]), (&json!(1), &json!(100)));
    assert_eq!(order["index"], bought.index());
    assert_eq!(store.send(buy(1, 9)).await.status, 201);
    assert_eq!(store.get("/buy/1/").await.json(), json!({ "Result": "0" }));
}

#[tokio::test]
async fn a_topic_may_hold_anything_that_an_address_can_carry() {
    let store = Store::start().await;
    let item = json!({ "title": "T", "topic": "R & D/ü?", "price_cents": 1 });
    assert_eq!(store.send(put("/v1/items/9", &item)).await.status, 201);
    for path in ["/search/R%20%26%20D%2F%C3%BC%3F/", "/search/R%20&%20D%2F%C3%BC%3F"] {
        assert_eq!(store.get(path).await.json(), json!({ "items": { "T": "9" } }), "{path}");
    }
}

#[tokio::test]
async fn a_store_that_cannot_sell_says_so_in_the_originals_words() {
    let store = Store::start().await;
    let mut full = settings();
    full.max_in_flight = 0;
    let full = store.again(full);
    for path in ["/buy/1/", "/buy/1"] {
        let before = store.mark();
        let reply = full.get(path).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (503, r#"{"Result": "0"}"#));
        assert_eq!(reply.header(header::CODE), Code::Overloaded.as_str());
        assert_eq!(reply.header(header::OUTCOME), "not_applied");
        assert_eq!(reply.header("retry-after"), "1");
        assert_eq!(reply.header(CACHE_CONTROL.as_str()), "no-store");
        assert_eq!(store.mark(), before);
    }
    full.get("/lookup/1/").await.problem(Code::Overloaded, None);
    let restock = full.send(ask("POST", "/restock/")).await;
    restock.problem(Code::Overloaded, Some(WriteOutcome::NotApplied));
}

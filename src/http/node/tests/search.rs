//! `GET /v1/items` with words, filters and orders.

use serde_json::json;

use super::store::{PATIENCE, Store, buy, put};
use crate::http::problem::Code;

/// Titles, topics, prices and stocks of items 11 and up.
const ITEMS: [(&str, &str, u64, u64); 6] = [
    ("Straße nach Oberhausen", "Reisen", 300, 2),
    ("oberhalb der Strände", "Reisen", 100, 0),
    ("Zen and the Art", "Études", 200, 5),
    ("The Art of Łódź", "Études", 200, 1),
    ("art", "Misc", 50, 1),
    ("東京大学", "Misc", 900, 9),
];

async fn store() -> Store {
    let store = Store::start().await;
    for (id, (title, topic, price_cents, stock)) in (11..).zip(ITEMS) {
        let item = json!({
            "title": title, "topic": topic, "price_cents": price_cents, "stock": stock,
        });
        assert_eq!(store.send(put(&format!("/v1/items/{id}"), &item)).await.status, 201);
    }
    store
}

async fn ids(store: &Store, query: &str) -> Vec<u64> {
    let reply = store.get(&format!("/v1/items?{query}")).await;
    assert_eq!(reply.status, 200, "{query}: {reply:?}");
    let page = reply.json();
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_u64().unwrap()).collect()
}

/// Lets the node keep its index, and waits for the first.
async fn indexed(store: &Store) {
    drop(tokio::spawn(store.node.keep_index()));
    let built = async {
        while store.node.published().index().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, built).await.unwrap();
}

#[tokio::test]
async fn words_filters_and_orders_say_what_is_listed() {
    let store = store().await;
    for is_indexed in [false, true] {
        if is_indexed {
            indexed(&store).await;
        }
        for (query, expected) in [
            ("q=ober+stra", &[11, 12][..]),
            ("q=STRASSE", &[11]),
            ("q=reisen+ob", &[11, 12]),
            ("q=art", &[13, 14, 15]),
            ("q=art+the", &[13, 14]),
            ("q=lodz", &[14]),
            ("q=etudes&sort=-id", &[14, 13]),
            ("q=%E5%A4%A7%E5%AD%A6", &[16]),
            ("q=art&in_stock=false", &[]),
            ("q=ober&in_stock=true", &[11]),
            ("in_stock=false", &[3, 12]),
            ("q=art&topic=Misc", &[15]),
            ("q=art&topic=misc", &[]),
            ("q=art&sort=title", &[15, 14, 13]),
            ("q=art&sort=price", &[15, 13, 14]),
            ("q=art&sort=-price", &[14, 13, 15]),
            ("q=nothing", &[]),
            ("topic=Reisen&sort=title", &[12, 11]),
        ] {
            assert_eq!(ids(&store, query).await, expected, "{query}, indexed: {is_indexed}");
        }
    }
    // What is newer than the index is found as well, and what is not so any more is not.
    assert_eq!(store.send(buy(14, 1)).await.status, 201);
    assert_eq!(ids(&store, "q=art&in_stock=true").await, [13, 15]);
    let item = json!({ "title": "Neu", "topic": "Misc", "price_cents": 1, "stock": 1 });
    assert_eq!(store.send(put("/v1/items/15", &item)).await.status, 200);
    assert_eq!(ids(&store, "q=art").await, [13, 14]);
    assert_eq!(ids(&store, "q=neu+misc").await, [15]);
    assert_eq!(ids(&store, "sort=-updated&limit=2").await, [15, 14]);
}

#[tokio::test]
async fn a_cursor_goes_through_its_own_listing_only() {
    let store = store().await;
    indexed(&store).await;
    for (query, expected) in [
        ("sort=title", &[15, 12, 11, 14, 1, 2, 3, 13, 16][..]),
        ("sort=-price", &[16, 11, 3, 14, 13, 2, 12, 1, 15]),
        ("sort=-id&in_stock=true", &[16, 15, 14, 13, 11, 2, 1]),
        ("q=art&sort=price", &[15, 13, 14]),
    ] {
        let (mut seen, mut path) = (Vec::new(), format!("/v1/items?limit=1&{query}"));
        loop {
            let page = store.get(&path).await.json();
            seen.extend(
                page["items"].as_array().unwrap().iter().map(|i| i["id"].as_u64().unwrap()),
            );
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            for other in ["sort=-title", "q=ar&sort=price", "topic=Misc", "sort=-id"] {
                let reply = store.get(&format!("/v1/items?{other}&cursor={cursor}")).await;
                let problem = reply.problem(Code::Malformed, None);
                assert_eq!(problem.errors[0].pointer, "cursor", "{other}");
            }
            // The words may be written in another way.
            path = format!("/v1/items?limit=1&{}&cursor={cursor}", query.replace("art", "ART"));
        }
        assert_eq!(seen, expected, "{query}");
    }
}

#[tokio::test]
async fn a_search_may_have_so_many_words_and_bytes() {
    let store = store().await;
    assert_eq!(ids(&store, "q=a+b+c+d+e+f+g+h+i+j").await, [0; 0]);
    assert_eq!(ids(&store, &format!("q={}", "a".repeat(200))).await, [0; 0]);
    for query in ["a+b+c+d+e+f+g+h+i+j+k", &"a".repeat(201), "%C3%A4".repeat(101).as_str()] {
        let reply = store.get(&format!("/v1/items?q={query}")).await;
        assert_eq!(reply.problem(Code::Malformed, None).errors[0].pointer, "q", "{query}");
    }
}

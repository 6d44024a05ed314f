//! Consistency levels, and the headers of every reply.

use serde_json::json;

use super::store::{Store, ask, buy, get, settings};
use crate::{api::header, http::problem::Code};
use std::time::Duration;

#[tokio::test]
async fn every_level_answers_and_says_what_it_answered_from() {
    let store = Store::start().await;
    let written = store.send(buy(1, 1)).await.index();
    for path in [
        "/v1/items",
        "/v1/items/1",
        "/v1/topics",
        "/v1/orders",
        "/v1/orders/1",
        "/v1/items/1/ledger",
    ] {
        for (query, stale) in [
            ("", false),
            ("?consistency=linearizable", false),
            ("?consistency=session", false),
            (&format!("?consistency=session&min_index={written}"), false),
            ("?consistency=stale", true),
            ("?consistency=stale&max_staleness_ms=1000", true),
        ] {
            let reply = store.get(&format!("{path}{query}")).await;
            assert_eq!(reply.status, 200, "{path}{query}: {reply:?}");
            assert_eq!(reply.index(), written, "{path}{query}");
            let staleness = reply.header(header::STALENESS_MS);
            assert_eq!(!staleness.is_empty(), stale, "{path}{query}: {reply:?}");
            if stale {
                // A leader that is a cluster of its own is never behind itself.
                assert_eq!(staleness, "0");
            }
        }
    }
    // What is not found was not found somewhere, too.
    assert_eq!(store.get("/v1/items/99").await.index(), written);
    assert_eq!(store.get("/v1/orders/99").await.index(), written);
}

#[tokio::test]
async fn the_headers_mean_what_the_parameters_mean() {
    let store = Store::start().await;
    let stale = get("/v1/items/1")
        .header(header::CONSISTENCY, "stale")
        .header(header::MAX_STALENESS_MS, "5000");
    assert_eq!(store.send(stale).await.header(header::STALENESS_MS), "0");
    // What the address says goes before what a library may add.
    let both = get("/v1/items/1?consistency=linearizable").header(header::CONSISTENCY, "stale");
    assert_eq!(store.send(both).await.header(header::STALENESS_MS), "");
    let (index, _) = store.mark();
    let session = get("/lookup/1/")
        .header(header::CONSISTENCY, "session")
        .header(header::MIN_INDEX, index.to_string());
    let reply = store.send(session).await;
    assert_eq!((reply.status.as_u16(), reply.index()), (200, index));
}

#[tokio::test]
async fn a_session_waits_for_its_index_and_not_for_ever() {
    let store = Store::start().await;
    let (index, _) = store.mark();
    let path = format!("/v1/items/1?consistency=session&min_index={}", index + 1);
    let (read, sold) = tokio::join!(store.get(&path), store.send(buy(1, 1)));
    assert_eq!((read.status.as_u16(), sold.status.as_u16()), (200, 201));
    assert_eq!(read.json()["stock"], 9, "it waited for the sale");

    let mut hurried = settings();
    hurried.request_timeout = Duration::from_millis(30);
    let hurried = store.again(hurried);
    for min_index in [index + 1_000, u64::MAX] {
        let path = format!("/v1/items/1?consistency=session&min_index={min_index}");
        hurried.get(&path).await.problem(Code::TooStale, None);
    }
}

#[tokio::test]
async fn a_request_keeps_its_id() {
    let store = Store::start().await;
    for path in ["/v1/items", "/nowhere", "/", "/livez", "/lookup/1/"] {
        let reply = store.send(get(path).header(header::REQUEST_ID, "abc-1")).await;
        assert_eq!(reply.header(header::REQUEST_ID), "abc-1", "{path}");
    }
    let made: Vec<_> = [store.get("/livez").await, store.get("/livez").await]
        .map(|reply| reply.header(header::REQUEST_ID).to_owned())
        .into();
    assert_ne!(made[0], made[1]);
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let store = Store::start().await;
    for path in ["/v1/items/1", "/v1/items/99", "/v1/orders", "/lookup/1/", "/livez", "/readyz"] {
        let (got, head) = (store.get(path).await, store.send(ask("HEAD", path)).await);
        assert_eq!(head.status, got.status, "{path}");
        assert!(head.body.is_empty(), "{path}");
        for name in ["content-type", "etag", header::INDEX] {
            assert_eq!(head.header(name), got.header(name), "{path}");
        }
    }
}

#[tokio::test]
async fn a_reader_sees_every_write_that_was_confirmed() {
    let store = Store::start().await;
    for left in (0..10).rev() {
        assert_eq!(store.send(buy(1, 1)).await.status, 201);
        assert_eq!(store.item(1).await["stock"], left);
        let page = store.get("/v1/items?topic=A").await.json();
        assert_eq!(page["items"][0]["stock"], left);
    }
    assert_eq!(store.get("/v1/orders").await.json()["orders"].as_array().unwrap().len(), 10);
    assert_eq!(
        store.get("/v1/topics").await.json()["topics"][0],
        json!({"topic": "A", "items": 2})
    );
}

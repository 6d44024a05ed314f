//! What goes to a member by frames, what by HTTP, and what becomes of it when the member ends.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::Request;
use http::Method;
use serde_json::json;

use crate::mock::{Behaviour, LONG, Script, Shop, Store, until};

/// The ways that requests with this path came to the first member: whether by frames.
fn ways(store: &Store, path: &str) -> Vec<bool> {
    store.nodes[0].seen_of(path).iter().map(|seen| seen.by_frames()).collect()
}

async fn one_member() -> (Store, Shop) {
    let store = Store::start(&[("n1", &["catalog", "order"])]).await;
    let shop = store.facade(|settings| settings.body_limit = 1 << 20).await;
    (store, shop)
}

#[tokio::test]
async fn reads_and_writes_go_by_frames() {
    let (store, shop) = one_member().await;
    assert_eq!(shop.get("/v1/items/5").await.status, 200);
    assert_eq!(shop.order(5).await.status, 201);
    assert_eq!((ways(&store, "/v1/items"), ways(&store, "/v1/orders")), (vec![true], vec![true]));
}

#[tokio::test]
async fn a_member_that_takes_no_frames_is_spoken_to_by_http() {
    let (store, shop) = one_member().await;
    let node = &store.nodes[0];
    node.kill().await;
    node.takes_frames.store(false, Ordering::Relaxed);
    node.restart().await;
    until("it is used again", async || shop.get("/v1/items/5").await.status == 200).await;
    assert_eq!(shop.order(5).await.status, 201);
    assert_eq!(ways(&store, "/v1/orders"), [false]);
}

#[tokio::test]
async fn what_is_long_goes_by_http() {
    let (store, shop) = one_member().await;
    let note = "x".repeat(300 << 10);
    let body = json!({ "lines": [{ "item": 5, "quantity": 1 }], "reference": note }).to_string();
    let order = Request::post("/v1/orders").body(Body::from(body)).unwrap();
    assert_eq!(shop.send(order).await.status, 201);
    assert_eq!(ways(&store, "/v1/orders"), [false]);

    // How long a reply is shows when it is there; a read can be asked for again.
    let title = "y".repeat(2 << 20);
    store.truth().scripts.insert(
        (Method::GET, "/v1/items/7/prices".to_owned()),
        Script { status: http::StatusCode::OK, body: title.clone(), sets: Vec::new() },
    );
    let got = shop.get("/v1/items/7/prices").await;
    assert_eq!((got.status, got.body.len()), (200, title.len()));
    assert_eq!(ways(&store, "/v1/items/7/prices"), [true, false]);
}

#[tokio::test]
async fn a_member_that_ends_answers_what_it_has_and_gets_nothing_more() {
    let store = Store::of_three().await;
    let shop = store.facade(|settings| settings.deadline = LONG).await;
    let node = &store.nodes[0];
    node.behave(Behaviour { hold: Some("/v1/orders/7"), ..Behaviour::default() });
    // Until one of them is with the first member.
    let mut held = Vec::new();
    until("the first member has one", async || {
        held.push(shop.spawn_get("/v1/orders/7"));
        !node.seen_of("/v1/orders/7").is_empty()
    })
    .await;
    let ending = tokio::spawn({
        let node = std::sync::Arc::clone(node);
        async move { node.end().await }
    });
    until("it takes nothing more", async || {
        let before = node.seen_of("/v1/items").len();
        for _ in 0..6 {
            assert_eq!(shop.get("/v1/items/5").await.status, 200);
        }
        node.seen_of("/v1/items").len() == before
    })
    .await;
    assert!(!ending.is_finished(), "it still has something to answer");
    node.behave(Behaviour::default());
    ending.await.unwrap();
    for one in held {
        assert_eq!(one.await.unwrap().status, 200);
    }
    assert_eq!(node.seen_of("/v1/orders/7").len(), 1, "nothing was asked twice");
}

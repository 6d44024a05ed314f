//! What goes to a member by frames, what by HTTP, and what becomes of it when the member ends.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use http::Method;
use pygmy::api::header;
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

/// However short the time for other requests is: one that takes long by its nature is waited for, and goes
/// to one member only.
#[tokio::test]
async fn a_backup_passes_through_as_it_comes() {
    let store = Store::of_three().await;
    let shop = store
        .facade(|settings| {
            settings.read_attempt_timeout = Duration::from_millis(1);
            settings.deadline = Duration::from_millis(1);
        })
        .await;
    let backup = "z".repeat(3 << 20);
    store.truth().scripts.insert(
        (Method::GET, "/v1/backup".to_owned()),
        Script { status: http::StatusCode::OK, body: backup.clone(), sets: Vec::new() },
    );
    for node in &store.nodes {
        node.behave(Behaviour { hold: Some("/v1/backup"), ..Behaviour::default() });
    }
    let asked = shop.spawn_get("/v1/backup");
    let seen = async || store.counts("/v1/backup").into_iter().sum::<usize>();
    until("a member is asked", async || seen().await > 0).await;
    // Long enough for another request to be given up.
    let other = shop.spawn_get("/v1/backup");
    until("another one, too", async || seen().await > 1).await;
    for node in &store.nodes {
        node.behave(Behaviour::default());
    }
    for asked in [asked, other] {
        let got = asked.await.unwrap();
        assert_eq!((got.status, got.body.len()), (200, backup.len()));
        assert!(got.header(header::INDEX).is_some() && got.header(header::NODE).is_some());
    }
    assert_eq!(seen().await, 2, "nobody was asked in vain");
    let by_http = |node: &std::sync::Arc<crate::mock::Node>| {
        node.seen_of("/v1/backup").iter().all(|seen| !seen.by_frames())
    };
    assert!(store.nodes.iter().all(by_http));
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

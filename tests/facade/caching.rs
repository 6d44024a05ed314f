//! The cache: what it serves, and above all what it does not.

use axum::body::Body;
use axum::extract::Request;
use pygmy::api::header;

use crate::mock::{Behaviour, Shop, Store, until};

async fn start(store: &Store) -> Shop {
    let shop = store.facade(|settings| settings.cache_entries = 100).await;
    until("the cache serves", async || is_hit(&shop, "/lookup/9").await).await;
    shop
}

async fn is_hit(shop: &Shop, target: &str) -> bool {
    shop.get(target).await.header(header::X_CACHE) == Some("HIT")
}

async fn stock(shop: &Shop, target: &str) -> u64 {
    shop.get(target).await.json()["stock"].as_u64().unwrap()
}

#[tokio::test]
async fn lookups_searches_and_stale_reads_are_served_again() {
    let store = Store::of_three().await;
    let shop = start(&store).await;
    for target in ["/lookup/5", "/search/Misc", "/v1/items/5?consistency=stale"] {
        let first = shop.get(target).await;
        assert_eq!(first.header(header::X_CACHE), None);
        let second = shop.get(target).await;
        assert_eq!(second.header(header::X_CACHE), Some("HIT"), "{target}");
        assert!(second.header("age").is_some());
        assert_eq!(second.header(header::INDEX), first.header(header::INDEX));
        assert_eq!(second.body, first.body);
        assert_ne!(second.header(header::REQUEST_ID), first.header(header::REQUEST_ID));
    }
    assert!(is_hit(&shop, "/lookup/5/").await, "the slash makes no difference");
}

#[tokio::test]
async fn nothing_else_comes_from_the_cache() {
    let store = Store::of_three().await;
    let shop = start(&store).await;
    for target in [
        "/v1/items/5",
        "/v1/items/5?consistency=linearizable",
        "/lookup/5?consistency=session&min_index=0",
        "/lookup/5?consistency=stale&max_staleness_ms=5",
        "/v1/orders/5?consistency=stale",
        "/v1/items/5/ledger?consistency=stale",
    ] {
        shop.get(target).await;
        assert!(!is_hit(&shop, target).await, "{target}");
    }
    shop.get("/lookup/5").await;
    for (name, value) in
        [("authorization", "Bearer x"), ("if-none-match", "\"5\""), ("accept", "text/csv")]
    {
        let request = Request::get("/lookup/5").header(name, value).body(Body::empty()).unwrap();
        assert_eq!(shop.send(request).await.header(header::X_CACHE), None, "{name}");
    }
}

#[tokio::test]
async fn a_buyer_sees_the_own_purchase_at_once() {
    let store = Store::of_three().await;
    let shop = start(&store).await;
    for round in 0..10 {
        assert_eq!(stock(&shop, "/lookup/5").await, 100 - 2 * round);
        assert!(
            is_hit(&shop, "/lookup/5").await && is_hit(&shop, "/search/Misc").await || round == 0
        );
        shop.get("/buy/5").await;
        assert_eq!(stock(&shop, "/lookup/5").await, 99 - 2 * round);
        shop.order(5).await;
        assert!(!is_hit(&shop, "/search/Misc").await);
        assert_eq!(stock(&shop, "/lookup/5").await, 98 - 2 * round);
        shop.get("/search/Misc").await;
    }
    assert!(is_hit(&shop, "/lookup/9").await, "other items stay");
}

#[tokio::test]
async fn a_change_from_elsewhere_outdates_the_reply() {
    let store = Store::of_three().await;
    let shop = start(&store).await;
    assert_eq!(stock(&shop, "/lookup/5").await, 100);
    store.sell_elsewhere(5);
    until("the change is heard", async || stock(&shop, "/lookup/5").await == 99).await;
    assert!(is_hit(&shop, "/lookup/9").await);
}

#[tokio::test]
async fn a_reply_that_was_on_its_way_during_a_purchase_is_not_kept() {
    let store = Store::of_three().await;
    let shop = start(&store).await;
    for node in &store.nodes {
        node.behave(Behaviour { hold_answer: Some("/lookup/5"), ..Behaviour::default() });
    }
    let slow = shop.spawn_get("/lookup/5");
    until("the reply is made", async || store.counts("/lookup/5").iter().sum::<usize>() == 1).await;
    assert_eq!(shop.get("/buy/5").await.status, 200);
    for node in &store.nodes {
        node.behave(Behaviour::default());
    }
    assert_eq!(slow.await.unwrap().json()["stock"], 100, "it was asked for before the purchase");
    let after = shop.get("/lookup/5").await;
    assert_eq!(after.header(header::X_CACHE), None);
    assert_eq!(after.json()["stock"], 99);
}

#[tokio::test]
async fn invalidation_by_hand_forgets_the_item() {
    let store = Store::of_three().await;
    let shop = start(&store).await;
    shop.get("/lookup/5").await;
    assert!(is_hit(&shop, "/lookup/5").await);
    let got = shop.send(Request::delete("/invalidate/5/").body(Body::empty()).unwrap()).await;
    assert_eq!((got.status, got.json()), (200, serde_json::json!({ "invalidated": true })));
    assert!(!is_hit(&shop, "/lookup/5").await);
}

#[tokio::test]
async fn history_that_is_gone_outdates_everything() {
    let store = Store::of_three().await;
    let shop = start(&store).await;
    shop.get("/lookup/5").await;
    // The sale and its row go together: the facade can only learn that it missed something.
    {
        let mut truth = store.truth();
        truth.index += 100;
        truth.gone_up_to = truth.index;
        *truth.stock.get_mut(&5).unwrap() = 7;
    }
    store.sell_elsewhere(6);
    until("the loss is noticed", async || stock(&shop, "/lookup/5").await == 7).await;
    until("the cache serves again", async || is_hit(&shop, "/lookup/5").await).await;
}

#[tokio::test]
async fn the_feed_moves_on_when_its_replica_dies() {
    let store = Store::of_three().await;
    let shop = start(&store).await;
    for dead in [1, 2] {
        store.nodes[dead].kill().await;
        shop.get("/lookup/5").await;
        let before = store.truth().stock[&5];
        store.sell_elsewhere(5);
        until("the change is heard", async || stock(&shop, "/lookup/5").await < before).await;
        until("the cache serves", async || is_hit(&shop, "/lookup/5").await).await;
    }
}

#[tokio::test]
async fn another_cluster_under_the_same_addresses_starts_with_an_empty_cache() {
    let store = Store::of_three().await;
    let shop = start(&store).await;
    shop.get("/buy/5").await;
    shop.get("/lookup/5").await;
    {
        let mut truth = store.truth();
        truth.cluster_id = "restored".into();
        truth.index = 3;
        truth.changes.clear();
        truth.stock.insert(5, 42);
    }
    until("the new stock shows", async || stock(&shop, "/lookup/5").await == 42).await;
    until("the cache serves", async || is_hit(&shop, "/lookup/5").await).await;
    let got = shop.get("/buy/5").await;
    assert_eq!(got.json()["Stock"], "41");
    assert_eq!(stock(&shop, "/lookup/5").await, 41);
}

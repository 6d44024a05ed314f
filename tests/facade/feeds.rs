//! Live feeds of changes through the facade.

use axum::body::Body;
use axum::extract::Request;

use crate::mock::{Shop, Store};

async fn refused(shop: &Shop, last_seen: u64) -> String {
    let request = Request::get("/v1/changes")
        .header("accept", "text/event-stream")
        .header("last-event-id", last_seen);
    shop.send(request.body(Body::empty()).unwrap()).await.problem().code
}

#[tokio::test]
async fn a_feed_is_passed_through_and_resumes_on_another_replica_when_its_own_dies() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    let start = store.truth().index;
    let (mut at, mut served) = (start, Vec::new());
    for _ in 0..2 {
        let (name, mut feed) = shop.follow(at).await;
        for _ in 0..3 {
            store.sell_elsewhere(5);
            at += 1;
            assert_eq!(feed.next().await, Some(at));
        }
        let node = store.nodes.iter().find(|node| node.name == name).unwrap();
        node.kill().await;
        assert_eq!(feed.next().await, None, "a feed is not continued behind the client's back");
        // What happens while nobody listens is not lost.
        store.sell_elsewhere(5);
        served.push(name);
        let (_, mut again) = shop.follow(at).await;
        at += 1;
        assert_eq!(again.next().await, Some(at));
    }
    assert_ne!(served[0], served[1]);
}

#[tokio::test]
async fn feeds_have_places_of_their_own() {
    let store = Store::of_three().await;
    let shop = store
        .facade(|settings| {
            settings.max_in_flight = 1;
            settings.max_feeds = 2;
        })
        .await;
    let start = store.truth().index;
    let (_, first) = shop.follow(start).await;
    let (_, mut second) = shop.follow(start).await;
    assert_eq!(refused(&shop, start).await, "overloaded");
    assert_eq!(shop.get("/lookup/5").await.status, 200, "they take no place of a request");
    drop(first);
    let (_, _third) = shop.follow(start).await;
    store.sell_elsewhere(5);
    assert_eq!(second.next().await, Some(start + 1));
}

#[tokio::test]
async fn a_facade_that_is_about_to_end_ends_its_feeds() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    let start = store.truth().index;
    let (_, mut feed) = shop.follow(start).await;
    store.sell_elsewhere(5);
    assert_eq!(feed.next().await, Some(start + 1));
    shop.facade.begin_shutdown();
    assert_eq!(feed.next().await, None);
}

#[tokio::test]
async fn a_replica_that_the_cluster_has_lost_is_not_followed_any_longer() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    let start = store.truth().index;
    let (name, mut feed) = shop.follow(start).await;
    store.truth().members.get_mut(&name).unwrap().up = false;
    assert_eq!(feed.next().await, None);
}

#[tokio::test]
async fn history_that_is_gone_is_told_at_once() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    store.truth().gone_up_to = 5;
    assert_eq!(refused(&shop, 4).await, "history_gone");
}

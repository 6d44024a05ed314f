//! Graceful ends: nobody notices.

use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::json;
use tokio::task::LocalSet;

use crate::harness::{
    cluster::{Cluster, Spec},
    load::Buyers,
};

#[tokio::test]
async fn a_leader_that_is_told_to_stop_hands_over_and_no_request_fails() {
    let test = async {
        let mut cluster = Cluster::start(Spec::three()).await;
        let change = json!({ "delta": 1_000_000, "reason": "received" });
        let url = cluster.facade("/v1/items/1/stock");
        assert_eq!(cluster.http.post(&url, &change, None).await.status, 200);
        let buyers = Buyers::start(6, &[cluster.facade("")], &[1]);
        buyers.await_confirmed(50).await;
        for _ in 0..3 {
            let leader = cluster.leader().await;
            let from = cluster.log(&leader).len();
            let ended = cluster.stop(&leader).await;
            assert!(ended.success(), "{ended}");
            let log = cluster.log(&leader)[from..].to_owned();
            assert!(log.contains("leadership is handed over"), "{log}");
            let next = cluster.leader().await;
            assert_ne!(next, leader);
            buyers.await_confirmed(50).await;
            cluster.start_node(&leader);
            cluster.await_node(&leader).await;
            buyers.await_confirmed(20).await;
        }
        // The followers' ends are nobody's loss either.
        let leader = cluster.leader().await;
        for name in cluster.names().iter().filter(|name| **name != leader) {
            assert!(cluster.stop(name).await.success());
            buyers.await_confirmed(20).await;
            cluster.start_node(name);
            cluster.await_node(name).await;
        }
        let told = buyers.stop().await;
        assert!(told.refused.borrow().is_empty(), "{:?}", told.refused);
        assert!(told.open.borrow().is_empty(), "{:?}", told.open);
        told.check(&cluster.http, &cluster.facade("")).await;
        cluster.verify().await;
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn what_is_under_way_at_the_end_of_a_facade_is_finished() {
    let spec = Spec::three().with_facade_settings("max_in_flight = 2");
    let mut cluster = Cluster::start(spec).await;
    for name in cluster.names() {
        cluster.process(&name).pause();
    }
    // Nobody answers the facade, so two purchases are under way in it as soon as others are one too
    // many.
    let (url, order) =
        (cluster.facade("/v1/orders"), json!({ "lines": [{ "item": 1, "quantity": 1 }] }));
    let http = cluster.http.clone();
    let mut buying: FuturesUnordered<_> = (0..6).map(|_| http.post(&url, &order, None)).collect();
    for _ in 0..4 {
        let refused = buying.next().await.unwrap();
        assert_eq!(refused.json()["code"], "overloaded", "{refused:?}");
    }
    cluster.process("facade").terminate();
    for name in cluster.names() {
        cluster.process(&name).resume();
    }
    for _ in 0..2 {
        let bought = buying.next().await.unwrap();
        assert_eq!(bought.status, 201, "{bought:?}");
    }
    assert!(cluster.await_end("facade").await.success());
    cluster.start_facade();
    cluster.await_serving().await;
    let stock = cluster.http.get(&cluster.facade("/v1/items/1")).await.json()["stock"].clone();
    assert_eq!(stock, 998);
}

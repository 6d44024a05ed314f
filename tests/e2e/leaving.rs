//! Graceful ends: nobody notices.

use serde_json::json;
use tokio::task::LocalSet;

use crate::harness::{
    cluster::{Cluster, Spec},
    load::Buyers,
    until,
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
    let test = async {
        let mut cluster = Cluster::start(Spec::three()).await;
        let buyers = Buyers::start(6, &[cluster.facade("")], &[1]);
        buyers.await_confirmed(30).await;
        assert!(cluster.stop("facade").await.success());
        let told = buyers.stop().await;
        // Refused connections, but no request that was taken and left without an answer.
        for error in told.open.borrow().values() {
            assert!(error.contains("ConnectionRefused") || error.contains("Connect"), "{error}");
        }
        cluster.start_facade();
        cluster.await_serving().await;
        told.check(&cluster.http, &cluster.facade("")).await;
        until("the facade serves the flags again", async || {
            let flags = cluster.http.get(&cluster.facade("/heartbeat/")).await;
            (flags.json() == json!({ "node1": 1, "node2": 1, "node3": 1 })).then_some(())
        })
        .await;
    };
    LocalSet::new().run_until(test).await;
}

//! All at once: a full stop, a crash of everything, and what `verify` says of who is missing.

use serde_json::{Value, json};
use tokio::task::LocalSet;

use crate::harness::{
    cluster::{Cluster, SMALL_STORAGE, Spec},
    load::Buyers,
    process::pygmy,
    until,
};

/// Enough pieces for any load here.
async fn stock_up(cluster: &Cluster, items: &[u64]) {
    for item in items {
        let change = json!({ "delta": 1_000_000, "reason": "received" });
        let url = cluster.facade(&format!("/v1/items/{item}/stock"));
        assert_eq!(cluster.http.post(&url, &change, None).await.status, 200);
    }
}

async fn contents(cluster: &Cluster) -> (Value, Value) {
    let items = cluster.http.get(&cluster.facade("/v1/items")).await.json();
    let orders = cluster.http.get(&cluster.facade("/v1/orders?limit=1000")).await.json();
    (items, orders)
}

#[tokio::test]
async fn a_cluster_that_was_stopped_comes_back_with_everything() {
    let mut cluster = Cluster::start(Spec::three()).await;
    let order = json!({ "lines": [{ "item": 5, "quantity": 2 }], "customer": "ada" });
    let url = cluster.facade("/v1/orders");
    let first = cluster.http.post(&url, &order, Some("my order")).await;
    assert_eq!(first.status, 400, "a key has no spaces");
    let first = cluster.http.post(&url, &order, Some("my-order")).await;
    assert_eq!(first.status, 201);
    let before = contents(&cluster).await;
    let id = cluster.members().await.cluster_id;
    for _ in 0..2 {
        cluster.stop_all().await;
        cluster.start_all();
        cluster.await_serving().await;
        assert_eq!(contents(&cluster).await, before);
        assert_eq!(cluster.members().await.cluster_id, id);
        let again = cluster.http.post(&url, &order, Some("my-order")).await;
        assert_eq!((again.status, again.header("idempotent-replayed")), (201, "true"));
        assert_eq!(again.json(), first.json());
    }
    cluster.verify().await;
}

#[tokio::test]
async fn a_cluster_that_was_killed_has_every_confirmed_order() {
    let test = async {
        let mut cluster = Cluster::start(Spec::three().with_node_sections(SMALL_STORAGE)).await;
        stock_up(&cluster, &[1, 2]).await;
        for round in 0..3 {
            let stores: Vec<_> = cluster.names().iter().map(|n| cluster.node(n, "")).collect();
            let buyers = Buyers::start(8, &stores, &[1, 2]);
            // Another amount each time, so that it ends at other moments of checkpoints and purges.
            buyers.await_confirmed(150 + 70 * round).await;
            cluster.kill_all();
            let told = buyers.stop().await;
            cluster.start_all();
            cluster.await_serving().await;
            told.check(&cluster.http, &cluster.facade("")).await;
        }
        cluster.verify().await;
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn verify_fails_when_a_member_is_missing_and_passes_when_it_is_back() {
    let mut cluster = Cluster::start(Spec::three()).await;
    let url = cluster.facade("");
    let all = pygmy(&["verify", "--url", &url]).await;
    assert_eq!(all.status.code(), Some(0), "{all:?}");
    cluster.kill("node2");
    let missing = pygmy(&["verify", "--url", &url, "--member-timeout", "5"]).await;
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
    let said = String::from_utf8(missing.stdout).unwrap();
    assert!(said.contains("node2"), "{said}");
    let as_json = pygmy(&["verify", "--json", "--url", &url, "--member-timeout", "5"]).await;
    assert_eq!(as_json.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&as_json.stdout).unwrap();
    assert_eq!(report["ok"], false);
    cluster.start_node("node2");
    cluster.await_serving().await;
    until("verify passes again", async || {
        let again = pygmy(&["verify", "--url", &url]).await;
        (again.status.code() == Some(0)).then_some(())
    })
    .await;
}

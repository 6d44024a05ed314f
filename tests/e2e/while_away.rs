//! A follower that was away for longer than the others keep their log.

use serde_json::json;
use tokio::task::LocalSet;

use crate::harness::{
    cluster::{Cluster, SMALL_STORAGE, Spec},
    load::Buyers,
    until,
};

#[tokio::test]
async fn a_follower_comes_back_by_snapshot_when_the_log_no_longer_has_what_it_missed() {
    let test = async {
        let mut cluster = Cluster::start(Spec::three().with_node_sections(SMALL_STORAGE)).await;
        let change = json!({ "delta": 1_000_000, "reason": "received" });
        let url = cluster.facade("/v1/items/1/stock");
        assert_eq!(cluster.http.post(&url, &change, None).await.status, 200);
        let leader = cluster.leader().await;
        let away = cluster.names().into_iter().find(|name| *name != leader).unwrap();
        let last = cluster.verbose(&away).await["last_log_index"].as_u64().unwrap();
        cluster.kill(&away);

        let buyers = Buyers::start(8, &[cluster.node(&leader, "")], &[1]);
        let purged = until("the others have purged what it misses", async || {
            let purged = cluster.verbose(&leader).await["purged_index"].as_u64()?;
            (purged > last + 200).then_some(purged)
        })
        .await;
        buyers.await_confirmed(50).await;
        let told = buyers.stop().await;

        let from = cluster.log(&away).len();
        cluster.start_node(&away);
        cluster.await_node(&away).await;
        let log = cluster.log(&away)[from..].to_owned();
        assert!(log.contains("a snapshot arrives"), "{log}");
        let verbose = cluster.verbose(&away).await;
        assert!(verbose["snapshot_index"].as_u64().unwrap() >= purged, "{verbose}");
        // It has all of it, answers for it by itself, and keeps it over a restart.
        told.check(&cluster.http, &cluster.node(&away, "")).await;
        cluster.verify().await;
        cluster.kill(&away);
        cluster.start_node(&away);
        cluster.await_node(&away).await;
        told.check(&cluster.http, &cluster.node(&away, "")).await;
        cluster.verify().await;
    };
    LocalSet::new().run_until(test).await;
}

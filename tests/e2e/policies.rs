//! Members whose files say different things: what comes of a command is decided by the replicated policy,
//! whoever leads.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    cluster::{Cluster, Spec},
    until,
};

/// What the files say about outcomes, and about how the work is done; no two settings are the same.
const SECTIONS: [&str; 2] = [
    "[policy]\nkey_limit = 1000\nkey_retention_hours = 10\nrestock = false\nrestock_quantity = 11\n\
     change_history = 500\nprice_history = 3\nreservation_limit = 3\nreservation_history = 1\n\
     reservation_ttl_max_s = 1000\n\n\
     [storage]\ncheckpoint_interval_ms = 100\ncheckpoint_entries = 10\nsnapshot_entries = 20\n\
     keep_log_entries = 5\n",
    "[policy]\nkey_limit = 4\nkey_retention_hours = 20\nrestock = true\nrestock_quantity = 22\n\
     restock_interval_s = 1\nchange_history = 50000\nprice_history = 5\nreservation_limit = 5\n\
     reservation_history = 200\nreservation_ttl_max_s = 2000\n",
];

async fn policy(cluster: &Cluster, name: &str) -> Value {
    cluster.http.get(&cluster.node(name, "/v1/policy")).await.json()
}

/// A node's state hash and the index that it is of.
async fn hash(cluster: &Cluster, name: &str) -> (Value, Value) {
    let said = cluster.http.get(&cluster.node(name, "/v1/verify")).await.json();
    assert_eq!(said["ok"], true, "{said}");
    (said["index"].clone(), said["state_hash"].clone())
}

/// Both have the same state hash at the same index, when nobody writes.
async fn expect_same_hash(cluster: &Cluster) {
    until("both check themselves at the same index", async || {
        let (one, other) = (hash(cluster, "node1").await, hash(cluster, "node2").await);
        (one.0 == other.0).then(|| assert_eq!(one, other))
    })
    .await;
}

/// Commands whose outcomes hang on the policy, each through the given node: what came of them.
async fn outcomes(cluster: &Cluster, node: &str, round: usize) -> Vec<(u16, Value)> {
    let mut told = Vec::new();
    let mut send = async |method, path: &str, body: Value| {
        let key = format!("{round}-{}", told.len());
        let url = cluster.node(node, path);
        let reply = cluster.http.send(method, &url, Some(&body), Some(&key)).await.unwrap();
        told.push((reply.status, reply.json()["code"].clone()));
        reply.json()
    };
    // How long a reservation may hold, and how many hold.
    for ttl_seconds in [500, 1_500, 2_500] {
        let body = json!({ "lines": [{ "item": 5, "quantity": 1 }], "ttl_seconds": ttl_seconds });
        send(Method::POST, "/v1/reservations", body).await;
    }
    let mut held = Vec::new();
    for _ in 0..6 {
        let body = json!({ "lines": [{ "item": 5, "quantity": 1 }], "ttl_seconds": 400 });
        held.push(send(Method::POST, "/v1/reservations", body).await["id"].clone());
    }
    // How many ended ones are kept: each ends, and the first is looked for by its end.
    let page = cluster.http.get(&cluster.node(node, "/v1/reservations?status=held")).await.json();
    for reservation in page["reservations"].as_array().unwrap() {
        let path = format!("/v1/reservations/{}", reservation["id"]);
        send(Method::DELETE, &path, json!({})).await;
    }
    for id in held.iter().filter(|id| id.is_u64()) {
        send(Method::POST, &format!("/v1/reservations/{id}/confirm"), json!({})).await;
    }
    // How many prices are kept.
    for price_cents in 0..10 {
        let body = json!({ "price_cents": 100 + price_cents });
        send(Method::PATCH, "/v1/items/7", body).await;
    }
    let prices = cluster.http.get(&cluster.node(node, "/v1/items/7/prices")).await.json();
    told.push((200, json!(prices["prices"].as_array().unwrap().len())));
    told
}

#[tokio::test]
async fn files_that_differ_make_no_difference_once_the_policy_is_replicated() {
    let mut spec = Spec::three();
    spec.members.pop();
    let mut cluster = Cluster::prepare(spec);
    for (name, sections) in cluster.names().iter().zip(SECTIONS) {
        let file = cluster.config(name);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text + sections).unwrap();
    }
    cluster.start_all();
    cluster.await_serving().await;
    let item = json!({ "title": "T", "topic": "Misc", "price_cents": 99, "stock": 1_000 });
    for id in [5, 7] {
        let url = cluster.node("node1", &format!("/v1/items/{id}"));
        let reply = cluster.http.send(Method::PUT, &url, Some(&item), None).await.unwrap();
        assert_eq!(reply.status, 201, "{reply:?}");
    }

    // One of the two files is the seed, for both.
    let seeded = until("one file's policy is everybody's", async || {
        let seeded = policy(&cluster, "node1").await;
        [11, 22].map(Value::from).contains(&seeded["restock_quantity"]).then_some(seeded)
    })
    .await;
    assert_eq!(policy(&cluster, "node2").await, seeded);

    let mut rounds = Vec::new();
    for round in 0..2 {
        let leader = cluster.leader().await;
        let follower = cluster.names().into_iter().find(|name| *name != leader).unwrap();
        for (way, node) in [&leader, &follower].into_iter().enumerate() {
            rounds.push(outcomes(&cluster, node, 2 * round + way).await);
        }
        expect_same_hash(&cluster).await;
        // The other one leads, and nothing but the replicated policy can have told it.
        assert!(cluster.stop(&leader).await.success());
        cluster.start_node(&leader);
        cluster.await_serving().await;
        assert_eq!(policy(&cluster, &follower).await, seeded);
    }
    for later in &rounds[1..] {
        assert_eq!(later, &rounds[0]);
    }
    cluster.verify().await;
}

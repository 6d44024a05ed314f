//! Batches of orders through a follower, through the facade and from the command line, across a
//! leader that is killed.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{
    cluster::{Cluster, Spec},
    http::Reply,
    process::pygmy,
};

fn order(item: u64, quantity: u64) -> Value {
    json!({ "lines": [{ "item": item, "quantity": quantity }] })
}

/// Sends a batch and gives the reply.
async fn send(
    cluster: &Cluster,
    to: &str,
    atomic: bool,
    orders: &[Value],
    key: Option<&str>,
) -> Reply {
    let body = json!({ "atomic": atomic, "orders": orders });
    cluster.http.post(&format!("{to}/v1/orders/batch"), &body, key).await
}

/// The results in short: an order's number, or the code or status that stands instead.
fn results(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{reply:?}");
    let short = |result: &Value| match result["status"].as_str().unwrap() {
        "placed" => result["order"]["id"].to_string(),
        "refused" => result["problem"]["code"].as_str().unwrap().to_owned(),
        other => other.to_owned(),
    };
    reply.json()["results"].as_array().unwrap().iter().map(short).collect()
}

async fn stock(cluster: &Cluster, item: u64) -> u64 {
    let url = cluster.facade(&format!("/v1/items/{item}"));
    cluster.http.get(&url).await.json()["stock"].as_u64().unwrap()
}

#[tokio::test]
async fn batches_are_placed_whole_or_each_for_itself_and_replayed_by_everybody() {
    let mut cluster = Cluster::start(Spec::three()).await;
    let leader = cluster.leader().await;
    let follower = cluster.names().into_iter().find(|name| *name != leader).unwrap();
    let ways = [cluster.node(&leader, ""), cluster.node(&follower, ""), cluster.facade("")];
    let before = (stock(&cluster, 5).await, stock(&cluster, 7).await);
    let mut placed = 0;
    for (round, to) in ways.iter().enumerate() {
        // All together.
        let orders = [order(5, 2), order(7, 1), order(5, 1)];
        let key = format!("together-{round}");
        let first = send(&cluster, to, true, &orders, Some(&key)).await;
        let numbers: Vec<String> = (placed + 1..=placed + 3).map(|id| id.to_string()).collect();
        assert_eq!(results(&first), numbers, "{to}");
        placed += 3;
        // Together they want more than there is: none of them.
        let left = stock(&cluster, 7).await;
        let orders = [order(5, 1), order(7, left), order(7, 1)];
        let refused = send(&cluster, to, true, &orders, None).await;
        assert_eq!(results(&refused), ["not_applied", "not_applied", "out_of_stock"], "{to}");
        assert_eq!(stock(&cluster, 7).await, left);
        // Each for itself, in one burst.
        let mut orders: Vec<Value> = (0..20).map(|_| order(5, 1)).collect();
        orders.insert(10, order(99, 1));
        let key = format!("separately-{round}");
        let mixed = send(&cluster, to, false, &orders, Some(&key)).await;
        let told = results(&mixed);
        assert_eq!((told.len(), told[10].as_str()), (21, "not_found"), "{to}");
        placed += 20;
        assert_eq!(told[20], placed.to_string());
        // Whoever is asked again says the same.
        for other in &ways {
            let again = send(&cluster, other, false, &orders, Some(&key)).await;
            assert_eq!(results(&again), told, "{other}");
            assert_eq!(again.header("idempotent-replayed"), "true");
        }
        // Orders with keys of their own, also through a facade that makes one for the request.
        let own: Vec<Value> = (0..2)
            .map(|n| {
                let lines = json!([{ "item": 5, "quantity": 1 }]);
                json!({ "lines": lines, "idempotency_key": format!("own-{round}-{n}") })
            })
            .collect();
        let first = send(&cluster, to, true, &own, None).await;
        placed += 2;
        for (atomic, other) in [(true, &ways[2]), (false, &ways[0]), (false, &ways[2])] {
            let again = send(&cluster, other, atomic, &own, None).await;
            assert_eq!(results(&again), results(&first), "{other}");
        }
    }
    assert_eq!(stock(&cluster, 5).await, before.0 - 3 * (3 + 20 + 2));
    assert_eq!(stock(&cluster, 7).await, before.1 - 3);

    // A new leader knows them too, and the facade carries a batch over the election.
    let orders = [order(5, 1), order(5, 1)];
    cluster.kill(&leader);
    let after = send(&cluster, &ways[2], true, &orders, Some("after")).await;
    assert_eq!(results(&after), [placed + 1, placed + 2].map(|id| id.to_string()));
    let orders = [order(5, 2), order(7, 1), order(5, 1)];
    let again = send(&cluster, &ways[2], true, &orders, Some("together-0")).await;
    assert_eq!(results(&again), ["1", "2", "3"]);
    cluster.start_all();
    cluster.await_serving().await;
    cluster.verify().await;
}

#[tokio::test]
async fn a_file_of_orders_is_placed_from_the_command_line() {
    let cluster = Cluster::start(Spec::three()).await;
    let (url, file) = (cluster.facade(""), cluster.directory().join("orders.jsonl"));
    let lines = [order(5, 1), order(7, 1_000), order(2, 1)].map(|order| order.to_string());
    fs::write(&file, lines.join("\n")).unwrap();
    let file = file.to_str().unwrap();
    let atomic = pygmy(&["order-batch", file, "--atomic", "--url", &url]).await;
    assert_eq!(atomic.status.code(), Some(1), "{atomic:?}");
    assert!(String::from_utf8(atomic.stdout).unwrap().contains("1000 wanted"));
    let line = ["order-batch", file, "--key", "mine", "--json", "--url", &url];
    let each = pygmy(&line).await;
    assert_eq!(each.status.code(), Some(1), "{each:?}");
    let told: Value = serde_json::from_slice(&each.stdout).unwrap();
    assert_eq!(
        (&told["results"][0]["order"]["id"], &told["results"][2]["order"]["id"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(told["results"][1]["problem"]["code"], "out_of_stock");
    let again: Value = serde_json::from_slice(&pygmy(&line).await.stdout).unwrap();
    assert_eq!(again["results"][2]["order"], told["results"][2]["order"]);
    assert_eq!(again["results"][2]["replayed"], true);
}

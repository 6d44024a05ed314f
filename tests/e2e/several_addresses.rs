//! A client that knows all nodes and no facade.

use std::time::Duration;

use pygmy::{
    api::{NewOrder, NewOrderLine},
    client::{Client, Timeouts},
};

use crate::harness::cluster::{Cluster, Spec};

#[tokio::test]
async fn a_client_of_all_nodes_goes_on_when_any_of_them_dies() {
    let mut cluster = Cluster::start(Spec::three()).await;
    let addresses: Vec<_> = cluster.names().iter().map(|name| cluster.node(name, "")).collect();
    let timeouts = Timeouts::within(Duration::from_secs(60));
    let store = Client::with_timeouts(&addresses.join(","), timeouts).unwrap();
    let lines = vec![NewOrderLine { item: 1, quantity: 1, expected_price_cents: None }];
    let order = NewOrder { lines, customer: None, reference: None };
    let mut placed = vec![store.place_order(&order).await.unwrap().id];
    for _ in 0..2 {
        // Whoever leads, and afterwards the node at the first address.
        let leader = cluster.leader().await;
        cluster.kill(&leader);
        placed.push(store.place_order(&order).await.unwrap().id);
        cluster.start_node(&leader);
        cluster.await_node(&leader).await;
    }
    let first = cluster.names()[0].clone();
    cluster.kill(&first);
    placed.push(store.place_order(&order).await.unwrap().id);
    assert_eq!(placed, [1, 2, 3, 4], "each once");
    assert_eq!(store.order(4).await.unwrap().id, 4);
}

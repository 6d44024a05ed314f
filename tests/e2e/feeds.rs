//! The live feed of changes, through whatever happens to the processes behind it.

use std::{cell::RefCell, rc::Rc};

use futures_util::StreamExt;
use pygmy::{
    api::Change,
    client::{ChangeQuery, Client},
};
use serde_json::json;
use tokio::task::LocalSet;

use crate::harness::{
    cluster::{Cluster, Spec},
    load::Buyers,
    until,
};

#[tokio::test]
async fn who_follows_through_a_facade_hears_of_every_order_once_and_in_order() {
    let test = async {
        let mut cluster = Cluster::start(Spec::three()).await;
        let stock = json!({ "delta": 1_000_000, "reason": "received" });
        let reply = cluster.http.post(&cluster.facade("/v1/items/1/stock"), &stock, None).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let start = Client::new(&cluster.facade(""))
            .unwrap()
            .changes(&ChangeQuery::default())
            .await
            .unwrap();

        let heard: Rc<RefCell<Vec<Change>>> = Rc::default();
        let following = {
            let (heard, client) = (heard.clone(), Client::new(&cluster.facade("")).unwrap());
            tokio::task::spawn_local(async move {
                let mut changes = client.follow(Some(start.next_after), &["order"]);
                while let Some(change) = changes.next().await {
                    heard.borrow_mut().push(change.expect("it goes on"));
                }
            })
        };
        let go_on = async || {
            let wanted = heard.borrow().len() + 50;
            until("the follower hears of 50 more orders", async || {
                assert!(!following.is_finished(), "the feed ended");
                (heard.borrow().len() >= wanted).then_some(())
            })
            .await;
        };
        let buyers = Buyers::start(4, &[cluster.facade("")], &[1]);
        go_on().await;
        // The leader dies.
        let leader = cluster.leader().await;
        cluster.kill(&leader);
        go_on().await;
        cluster.start_node(&leader);
        cluster.await_node(&leader).await;
        go_on().await;
        // Each other one is restarted in good order: one of them has the feed, and ends it.
        for name in cluster.names().into_iter().filter(|name| *name != leader) {
            assert!(cluster.stop(&name).await.success());
            go_on().await;
            cluster.start_node(&name);
            cluster.await_node(&name).await;
            go_on().await;
        }
        let told = buyers.stop().await;
        let last = told.confirmed.borrow().values().map(|order| order["id"].as_u64()).max();
        let last = last.flatten().expect("orders were confirmed");
        until("the follower has heard of the last order", async || {
            heard.borrow().iter().any(|change| change.id >= last).then_some(())
        })
        .await;
        following.abort();
        let heard = heard.take();
        let ids: Vec<u64> = heard.iter().map(|change| change.id).collect();
        let all: Vec<u64> = (ids[0]..).take(ids.len()).collect();
        assert_eq!(ids, all, "each once, none left out, in order");
        assert_eq!(ids[0], 1, "from the first one on");
        assert!(heard.is_sorted_by_key(|change| change.index));
        told.check(&cluster.http, &cluster.facade("")).await;
    };
    LocalSet::new().run_until(test).await;
}

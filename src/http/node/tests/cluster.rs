//! `/v1/cluster`, `/v1/changes`, `/v1/verify`, and how the node says that it is.

use serde_json::{Value, json};

use super::store::{Store, ask, buy, put};
use crate::{
    api::{Change, ChangePage, Cluster, Verification},
    http::problem::Code,
};

#[tokio::test]
async fn the_cluster_is_shown_as_its_leader_sees_it() {
    let store = Store::start().await;
    let reply = store.get("/v1/cluster").await;
    let cluster: Cluster = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(cluster.cluster_id.len(), 32, "{cluster:?}");
    assert_eq!((cluster.leader.as_deref(), cluster.members.len()), (Some("alone"), 1));
    assert!(cluster.term > 0);
    let member = &cluster.members[0];
    assert_eq!((member.id, member.kind.as_str(), member.up), (1, "voter", true));
    assert_eq!(member.roles, ["catalog", "order"]);
    assert_eq!((member.api.as_str(), member.peer.as_str()), ("127.0.0.1:1", "127.0.0.1:2"));
    assert_eq!((member.last_heard_ms, member.lag), (Some(0), Some(0)));
    assert_eq!(member.applied_index, Some(store.mark().0));
    assert_eq!(member.version.as_deref(), Some("0.0.0-test"));
    let heartbeat = store.get("/heartbeat/").await;
    assert_eq!(heartbeat.json(), json!({ "alone": 1 }));
    assert_eq!(heartbeat.header("cache-control"), "no-store");
}

#[tokio::test]
async fn a_node_tells_how_it_is() {
    let store = Store::start().await;
    for path in ["/livez", "/readyz", "/clusterz", "/readyz?exclude=recovered,not_draining"] {
        let reply = store.get(path).await;
        assert_eq!(
            (reply.status.as_u16(), reply.json()),
            (200, json!({ "status": "ok" })),
            "{path}"
        );
    }
    let verbose = store.get("/readyz?verbose").await.json();
    assert_eq!(verbose["checks"], json!({ "not_draining": true, "recovered": true }));
    assert_eq!(verbose["state"], "Leader");
    assert_eq!(verbose["applied_index"], store.mark().0);
    assert_eq!(
        (&verbose["snapshot_index"], &verbose["purged_index"]),
        (&Value::Null, &Value::Null)
    );
    assert!(verbose["log"]["syncs"].as_u64().unwrap() > 0, "{verbose}");
}

async fn changes(store: &Store, query: &str) -> ChangePage {
    let reply = store.get(&format!("/v1/changes{query}")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let page: ChangePage = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(reply.index(), page.next_after);
    page
}

#[tokio::test]
async fn changes_are_told_in_order_and_pages_join() {
    let store = Store::start().await;
    let (start, _) = store.mark();
    assert_eq!(changes(&store, "").await, ChangePage { changes: Vec::new(), next_after: start });
    let sold = store.send(buy(1, 1)).await.index();
    // A refusal changes nothing.
    store.send(buy(3, 1)).await;
    let restocked = store.send(ask("POST", "/restock/")).await.index();
    let change = |index, kind: &str, id, what: &str| {
        let (kind, what) = (kind.to_owned(), what.to_owned());
        Change { index, kind, id, what }
    };
    let all = changes(&store, &format!("?after={start}")).await;
    let expected = [
        change(sold, "item", 1, "changed"),
        change(sold, "order", 1, "created"),
        change(restocked, "item", 3, "changed"),
    ];
    assert_eq!((&all.changes[..], all.next_after), (&expected[..], restocked));
    let orders = changes(&store, &format!("?after={start}&kinds=order")).await;
    assert_eq!(orders.changes, [change(sold, "order", 1, "created")]);
    let both = changes(&store, &format!("?after={start}&kinds=order,item")).await;
    assert_eq!(both, all);
    // An index is never split: both changes of the sale come, though only one was asked for.
    let first = changes(&store, &format!("?after={start}&limit=1")).await;
    assert_eq!((first.changes.len(), first.next_after), (2, sold));
    let rest = changes(&store, &format!("?after={}", first.next_after)).await;
    assert_eq!(rest.changes, expected[2..]);
    let nothing = changes(&store, &format!("?after={restocked}")).await;
    assert_eq!((nothing.changes.len(), nothing.next_after), (0, restocked));
}

#[tokio::test]
async fn who_waits_for_a_change_gets_it_and_who_waits_in_vain_is_told() {
    let store = Store::start().await;
    let (start, _) = store.mark();
    let query = format!("?after={start}&wait_ms=10000");
    let (page, sold) = tokio::join!(changes(&store, &query), store.send(buy(1, 1)));
    assert_eq!(page.changes[0].index, sold.index());
    let (now, _) = store.mark();
    let page = changes(&store, &format!("?after={now}&wait_ms=20")).await;
    assert_eq!((page.changes.len(), page.next_after), (0, now));
}

#[tokio::test]
async fn what_is_not_kept_of_the_past_is_gone_and_what_is_to_come_is_awaited() {
    let store = Store::start().await;
    let (index, _) = store.mark();
    let item = json!({ "title": "T", "topic": "A", "price_cents": 1 });
    assert_eq!(store.send(put("/v1/items/9", &item)).await.status, 201);
    assert_eq!(changes(&store, &format!("?after={index}")).await.changes.len(), 1);
    let beyond = changes(&store, &format!("?after={}", u64::MAX)).await;
    assert_eq!((beyond.changes.len(), beyond.next_after), (0, u64::MAX));
}

#[tokio::test]
async fn a_replica_checks_itself() {
    let store = Store::start().await;
    assert_eq!(store.send(buy(1, 3)).await.status, 201);
    let reply = store.get("/v1/verify?consistency=linearizable").await;
    let found: Verification = serde_json::from_slice(&reply.body).unwrap();
    assert!(found.ok && found.checks.iter().all(|check| check.ok), "{found:?}");
    assert!(found.checks.len() >= 3, "{found:?}");
    let (index, hash) = store.mark();
    assert_eq!((found.index, found.state_hash), (index, format!("{hash:032x}")));
    assert_eq!(found.node, "alone");
    assert_eq!(reply.index(), index);
    let (first, second) = tokio::join!(store.get("/v1/verify"), store.get("/v1/verify"));
    // One at a time: it reads everything. Which of the two is refused is left open.
    for reply in [first, second].iter().filter(|reply| reply.status != 200) {
        reply.problem(Code::Overloaded, None);
    }
}

//! Cut links and missing majorities: the majority goes on, the minority is honest about itself.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use pygmy_raft::node::{Freshness, ReadError, WriteError};
use pygmy_storage::command::Outcome;
use tokio::net::TcpListener;

use crate::harness::{Cluster, DEADLINE, Load, SHORT, eventually, orders_by_reference, refused};

#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_leader_refuses_and_the_majority_goes_on() {
    let cluster = Cluster::started(3, 100).await;
    let deposed = cluster.leader().await;
    let majority = cluster.others(deposed);
    cluster.isolate(deposed);

    // It may believe for a moment that it still leads; that must not be enough for anything.
    let read = refused(cluster.read(deposed, Freshness::Linearizable, SHORT).await);
    assert_eq!(read, ReadError::NoLeader);
    let fate = refused(cluster.buy(deposed, "cut off", SHORT).await);
    let bounded = Freshness::Stale(Some(Duration::from_millis(300)));
    let stale = refused(cluster.read(deposed, bounded, SHORT).await);
    assert!(matches!(stale, ReadError::TooStale { staleness_ms: Some(_) }), "{stale:?}");
    cluster.read(deposed, Freshness::Stale(None), SHORT).await.expect("lookups go on");

    let leader = cluster.leader_among(&majority).await;
    assert_ne!(leader, deposed);
    let mut bought = BTreeMap::new();
    for number in 0..20 {
        let name = format!("majority-{number}");
        let applied = cluster.buy(majority[number % 2], &name, DEADLINE).await.unwrap();
        let Outcome::Ordered(order) = applied.outcome else { panic!("{applied:?}") };
        bought.insert(name, order);
    }
    let seen = cluster.read(deposed, Freshness::Stale(None), SHORT).await.unwrap();
    assert!(!orders_by_reference(&seen).contains_key("majority-19"));

    cluster.heal();
    cluster.all_serve().await;
    let view = cluster.assert_equal().await;
    let there = orders_by_reference(&view).contains_key("cut off");
    assert!(!(there && fate.not_applied()), "{fate} said that nothing would happen");
    // Asked again with its key, it is found out, and happens once.
    let order = cluster.buy_surely("cut off").await;
    bought.insert("cut off".to_owned(), order);
    cluster.assert_bought(&bought).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_nobody_hears_is_replaced() {
    let cluster = Cluster::started(3, 100).await;
    let silent = cluster.leader().await;
    for other in cluster.others(silent) {
        cluster.cut_one_way(silent, other);
    }
    let majority = cluster.others(silent);
    let leader = cluster.leader_among(&majority).await;
    assert_ne!(leader, silent);
    let bought = {
        let order = cluster.buy(majority[0], "by the majority", DEADLINE).await.unwrap();
        let Outcome::Ordered(order) = order.outcome else { panic!("{order:?}") };
        BTreeMap::from([("by the majority".to_owned(), order)])
    };
    cluster.heal();
    cluster.all_serve().await;
    cluster.assert_bought(&bought).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_reaches_the_leader_no_more_does_not_disturb_the_others() {
    let cluster = Arc::new(Cluster::started(3, 100_000).await);
    let leader = cluster.leader().await;
    let term = cluster.node(leader).status().term;
    let away = cluster.others(leader)[0];
    let load = Load::start(&cluster, 2);
    cluster.isolate(away);
    load.goes_on(30).await;
    eventually("the node that is away notices", || async {
        let bounded = Freshness::Stale(Some(Duration::from_millis(300)));
        cluster.read(away, bounded, SHORT).await.is_err()
    })
    .await;
    cluster.heal();
    load.goes_on(30).await;
    let bought = load.finish().await;
    cluster.all_serve().await;
    // It asked before it stood for election, and was told that there is a leader.
    assert_eq!(cluster.node(leader).status().term, term);
    cluster.assert_bought(&bought).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_fails_honestly() {
    let cluster = Cluster::started(3, 100).await;
    let mut bought = cluster.buy_many("before", 3).await;
    let left = 1;
    for other in cluster.others(left) {
        cluster.crash(other).await;
    }
    let mut fates = Vec::new();
    for number in 0..3 {
        let name = format!("alone-{number}");
        fates.push((refused(cluster.buy(left, &name, SHORT).await), name));
    }
    let read = refused(cluster.read(left, Freshness::Linearizable, SHORT).await);
    assert_eq!(read, ReadError::NoLeader);
    let view = cluster.read(left, Freshness::Stale(None), SHORT).await.unwrap();
    assert_eq!(view.state.order_count(), 3, "nothing of it shows");

    for other in cluster.others(left) {
        cluster.start(other).await;
    }
    cluster.all_serve().await;
    let view = cluster.assert_equal().await;
    for (fate, name) in fates {
        let there = orders_by_reference(&view).contains_key(&name);
        assert!(!(there && fate.not_applied()), "{name}: {fate} said that nothing would happen");
        let order = cluster.buy_surely(&name).await;
        bought.insert(name, order);
    }
    cluster.assert_bought(&bought).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_partitions_come_and_go_everything_ends_equal() {
    let cluster = Arc::new(Cluster::started(3, 100_000).await);
    let load = Load::start(&cluster, 4);
    for round in 0..4usize {
        load.goes_on(20).await;
        let leader = cluster.leader().await;
        let other = cluster.others(leader)[round % 2];
        match round {
            0 => cluster.isolate(leader),
            1 => cluster.cut(leader, other),
            2 => cluster.cut_one_way(other, leader),
            _ => cluster.isolate(other),
        }
        load.goes_on(20).await;
        cluster.heal();
    }
    load.goes_on(20).await;
    let bought = load.finish().await;
    cluster.all_serve().await;
    cluster.assert_bought(&bought).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_never_left_the_node_is_not_in_doubt() {
    let cluster = Cluster::started(3, 100).await;
    let leader = cluster.leader().await;
    let others = cluster.others(leader);
    // Its election is lost before it begins, and it goes on to believe in the leader that is gone.
    cluster.crash(leader).await;
    cluster.crash(others[0]).await;
    // What takes connections there says nothing on them.
    let deaf = TcpListener::bind(cluster.peer(leader)).await.unwrap();
    let asked = Arc::new(AtomicBool::new(false));
    let held = tokio::spawn({
        let asked = asked.clone();
        async move {
            let mut held = Vec::new();
            loop {
                held.push(deaf.accept().await.unwrap());
                asked.store(true, Ordering::Relaxed);
            }
        }
    });
    let fate = refused(cluster.buy(others[1], "never sent", SHORT).await);
    assert!(asked.load(Ordering::Relaxed), "nobody was asked");
    assert_eq!(fate, WriteError::NoLeader);
    held.abort();
}

//! Nodes that go and come back: with their log, from a snapshot, all at once, after a power cut.

use std::sync::Arc;

use pygmy_raft::changes::{ChangeKind, Changes};

use crate::harness::{Cluster, DEADLINE, Disk, Load, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_away_past_a_purge_comes_back_by_snapshot() {
    let cluster = Cluster::started(3, 10_000).await;
    let early = cluster.buy_many("early", 5).await;
    let leader = cluster.leader().await;
    let [away, other] = cluster.others(leader)[..] else { panic!("three nodes") };
    let had = cluster.node(away).status().last_log_index.unwrap();
    cluster.crash(away).await;

    let mut bought = cluster.buy_many("while away", 150).await;
    bought.extend(early);
    eventually("the leader has purged what the follower lacks", || async {
        cluster.node(leader).status().purged_index.is_some_and(|purged| purged > had + 1)
    })
    .await;
    cluster.start(away).await;
    cluster.all_serve().await;
    cluster.assert_bought(&bought).await;
    let status = cluster.node(away).status();
    assert!(
        status.purged_index.is_some_and(|purged| purged > had + 1),
        "its log must begin after a snapshot: {status:?}, it had {had}"
    );

    // What changed while it was away is known from the snapshot, without a gap.
    let changes = |id| cluster.node(id).published().changes.page(0, usize::MAX).unwrap();
    let Changes::Page(page) = changes(away) else { panic!("it has no changes from the start") };
    let orders = page.changes.iter().filter(|change| change.kind == ChangeKind::Order);
    assert!(orders.map(|change| change.id).eq(1..=bought.len() as u64));
    assert_eq!(changes(away), changes(leader));

    // It leads now, and remembers the requests of a time that it knows from the snapshot only.
    cluster.crash(other).await;
    eventually("the one that was away leads", || async {
        if !cluster.node(away).is_leader() {
            cluster.ask(leader, |node| async move { node.hand_over().await }).await;
        }
        cluster.node(away).is_leader()
    })
    .await;
    for (name, order) in &bought {
        let again = cluster.buy(away, name, DEADLINE).await.unwrap();
        assert!(again.replayed, "{name}");
        assert_eq!(again.outcome, pygmy_storage::command::Outcome::Ordered(*order), "{name}");
    }
    cluster.start(other).await;
    cluster.all_serve().await;
    cluster.assert_bought(&bought).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_stopped_and_started_again_keeps_everything() {
    let cluster = Cluster::started(3, 1000).await;
    let mut bought = cluster.buy_many("first", 30).await;
    for id in cluster.ids() {
        cluster.stop(id).await;
    }
    cluster.start_all().await;
    cluster.assert_bought(&bought).await;
    bought.extend(cluster.buy_many("second", 30).await);
    for id in cluster.ids() {
        cluster.crash(id).await;
    }
    cluster.start_all().await;
    cluster.assert_bought(&bought).await;
    cluster.buy_surely("third").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_of_everybody_under_load_loses_no_confirmed_order() {
    let cluster = Arc::new(Cluster::started(3, 100_000).await);
    let load = Load::start(&cluster, 4);
    for round in 0..3usize {
        load.goes_on(40).await;
        for id in cluster.ids() {
            cluster.crash(id).await;
        }
        for (number, id) in cluster.ids().into_iter().enumerate() {
            // Of what was not synced, a disk may have written nothing, all, or some.
            cluster.memory(id).power_cut(|unsynced| match (round + number) % 3 {
                0 => 0,
                1 => unsynced,
                _ => unsynced / 2,
            });
        }
        cluster.start_all().await;
    }
    load.goes_on(20).await;
    let bought = load.finish().await;
    cluster.all_serve().await;
    cluster.assert_bought(&bought).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_killed_in_turn_under_load_keep_everything() {
    let cluster = Arc::new(Cluster::started(3, 100_000).await);
    let load = Load::start(&cluster, 4);
    for id in cluster.ids() {
        load.goes_on(30).await;
        cluster.crash(id).await;
        cluster.memory(id).power_cut(|_| 0);
        load.goes_on(30).await;
        cluster.start(id).await;
    }
    load.goes_on(30).await;
    let bought = load.finish().await;
    cluster.all_serve().await;
    cluster.assert_bought(&bought).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_real_disks_everything_is_there_after_crashes_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::seats(3).await;
    for id in cluster.ids() {
        cluster.set_disk(id, Disk::Dir(dir.path().join(id.to_string())));
    }
    let cluster = Arc::new(cluster);
    cluster.start_all().await;
    cluster.put_item(100_000).await;
    let load = Load::start(&cluster, 4);
    load.goes_on(60).await;
    let leader = cluster.leader().await;
    cluster.crash(leader).await;
    load.goes_on(30).await;
    cluster.start(leader).await;
    load.goes_on(30).await;
    let bought = load.finish().await;
    cluster.all_serve().await;
    cluster.assert_bought(&bought).await;
    for id in cluster.ids() {
        cluster.stop(id).await;
    }
    cluster.start_all().await;
    cluster.assert_bought(&bought).await;
}

//! Disks that are lost or damaged: repaired, rebuilt, or refused with the reason.

use pygmy_raft::node::StartError;
use pygmy_storage::{
    engine::Engine,
    key::Key,
    volume::{MemoryVolume, Volume},
};

use crate::harness::{Cluster, Disk, eventually, refused};

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_disk_is_refused_unless_the_node_joins_anew() {
    let cluster = Cluster::started(3, 1000).await;
    let bought = cluster.buy_many("before", 80).await;
    let lost = 3;
    cluster.crash(lost).await;
    cluster.set_disk(lost, Disk::Memory(MemoryVolume::new()));

    let error = refused(cluster.try_start(lost).await);
    assert!(matches!(error, StartError::DataGone { .. }), "{error}");
    assert!(error.to_string().contains("--join"), "{error}");

    cluster.set_disk(lost, Disk::Memory(MemoryVolume::new()));
    cluster.adjust(lost, |settings| settings.join = true);
    cluster.start(lost).await;
    eventually("it votes under a new id, and the old id is gone", || async {
        let new = cluster.node(lost).id();
        let expected = [(1, true), (2, true), (new, true)];
        new > 3
            && [1, 2, lost].iter().all(|seat| {
                let members = cluster.node(*seat).members();
                members.iter().map(|(id, _, voter)| (*id, *voter)).eq(expected)
            })
    })
    .await;
    cluster.all_serve().await;
    cluster.assert_bought(&bought).await;

    // It counts: with one of the old ones gone, the two are a majority.
    cluster.crash(1).await;
    cluster.buy_surely("with the new one").await;
    // And it is the same member after a restart, join or not.
    let id = cluster.node(lost).id();
    cluster.start(1).await;
    cluster.crash(lost).await;
    cluster.start(lost).await;
    assert_eq!(cluster.node(lost).id(), id);
    cluster.all_serve().await;
    cluster.assert_bought(&bought).await;
}

/// Flips a bit of the newest record of a family, behind the engine's back.
fn damage(volume: &MemoryVolume, engine: &str, family: Key) {
    let engine = volume.engine(engine).unwrap();
    let (key, mut value) = engine.scan(&family.family()).next_back().unwrap().unwrap();
    let middle = value.len() / 2;
    value[middle] ^= 4;
    engine.corrupt(&key, value);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_refuses_to_start_and_says_how_to_come_back() {
    let cluster = Cluster::started(3, 1000).await;
    let mut bought = cluster.buy_many("before", 10).await;
    cluster.crash(2).await;
    damage(&cluster.memory(2), "log", Key::LogEntries(0));
    let error = refused(cluster.try_start(2).await);
    assert!(matches!(error, StartError::LogDamaged { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("--join") && text.contains("log"), "{text}");
    // The others go on meanwhile, and it comes back as the message says.
    bought.extend(cluster.buy_many("meanwhile", 10).await);
    cluster.set_disk(2, Disk::Memory(MemoryVolume::new()));
    cluster.adjust(2, |settings| settings.join = true);
    cluster.start(2).await;
    cluster.all_serve().await;
    cluster.assert_bought(&bought).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_vote_refuses_to_start() {
    let cluster = Cluster::started(3, 10).await;
    cluster.crash(2).await;
    damage(&cluster.memory(2), "log", Key::LogVote);
    let error = refused(cluster.try_start(2).await);
    assert!(matches!(error, StartError::LogDamaged { .. }), "{error}");
}

fn state_engine(volume: &MemoryVolume) -> String {
    let engines = volume.engines().unwrap();
    engines.into_iter().find(|name| name.starts_with("state-")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_is_rebuilt() {
    let cluster = Cluster::started(3, 1000).await;
    let bought = cluster.buy_many("before", 120).await;
    cluster.assert_bought(&bought).await;
    for (id, family) in [(1, Key::Meta), (2, Key::ItemPage(0)), (3, Key::Orders(0))] {
        eventually("it has a checkpoint to damage", || async {
            cluster.node(id).published().checkpointed() > 20
        })
        .await;
        cluster.crash(id).await;
        let volume = cluster.memory(id);
        damage(&volume, &state_engine(&volume), family);
        cluster.start(id).await;
        cluster.all_serve().await;
        cluster.assert_bought(&bought).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_lost_with_its_snapshot_is_refused_when_the_log_was_purged() {
    let cluster = Cluster::started(3, 1000).await;
    let bought = cluster.buy_many("before", 120).await;
    eventually("the log is purged", || async { cluster.node(2).status().purged_index > Some(0) })
        .await;
    cluster.crash(2).await;
    let volume = cluster.memory(2);
    damage(&volume, &state_engine(&volume), Key::Meta);
    for name in volume.files().unwrap() {
        if name.starts_with("snapshot-") {
            volume.corrupt_file(&name, b"nothing of a snapshot".to_vec());
        }
    }
    let error = refused(cluster.try_start(2).await);
    assert!(matches!(error, StartError::StateLost { .. }), "{error}");
    assert!(error.to_string().contains("--join"), "{error}");
    cluster.assert_bought(&bought).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_of_another_member_is_refused() {
    let cluster = Cluster::started(3, 10).await;
    cluster.crash(1).await;
    cluster.crash(2).await;
    cluster.set_disk(2, Disk::Memory(cluster.memory(1)));
    let error = refused(cluster.try_start(2).await);
    assert!(matches!(error, StartError::OtherNode { .. }), "{error}");
}

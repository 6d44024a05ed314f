//! Files that are not what they were: repaired, rebuilt, or refused with a reason.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::task::LocalSet;

use crate::harness::{
    cluster::{Cluster, SMALL_STORAGE, Spec},
    load::Buyers,
    until,
};

/// Overwrites a file with what it certainly never held.
fn ruin(path: &Path) {
    let bytes = fs::metadata(path).unwrap().len();
    assert!(bytes > 0, "{} is empty", path.display());
    let mut noise = vec![0; usize::try_from(bytes).unwrap()];
    StdRng::seed_from_u64(bytes).fill(&mut noise[..]);
    fs::write(path, noise).unwrap();
}

/// The entries of a directory whose names begin so.
fn entries(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix)).collect()
}

/// The state databases of a node, of which there must be some.
fn ruin_state(data: &Path) {
    let states = entries(&data.join("db"), "state-");
    assert!(!states.is_empty());
    for state in states {
        ruin(&state.join("db"));
    }
}

fn ruin_snapshots(data: &Path) {
    let snapshots = entries(&data.join("files"), "snapshot-");
    assert!(!snapshots.is_empty());
    snapshots.iter().for_each(|path| ruin(path));
}

/// A cluster with some orders, one node of which is down: its name.
async fn with_one_down(spec: Spec) -> (Cluster, String) {
    let mut cluster = Cluster::start(spec).await;
    for _ in 0..20 {
        assert_eq!(cluster.http.get(&cluster.facade("/buy/1/")).await.json()["Result"], "1");
    }
    let leader = cluster.leader().await;
    let down = cluster.names().into_iter().find(|name| *name != leader).unwrap();
    assert!(cluster.stop(&down).await.success());
    (cluster, down)
}

/// The node is back: it has what the others have, by its own word.
async fn expect_back(cluster: &mut Cluster, name: &str) {
    cluster.await_node(name).await;
    let bought = cluster.http.get(&cluster.facade("/buy/1/")).await;
    assert_eq!(bought.json()["Result"], "1");
    let index = bought.header("pygmy-index").parse().unwrap();
    cluster.await_applied(name, index).await;
    cluster.verify().await;
}

#[tokio::test]
async fn a_damaged_state_is_rebuilt_from_the_log() {
    let (mut cluster, down) = with_one_down(Spec::three()).await;
    ruin_state(&cluster.data(&down));
    cluster.start_node(&down);
    expect_back(&mut cluster, &down).await;
    // Once more over it: what was rebuilt is kept.
    assert!(cluster.stop(&down).await.success());
    cluster.start_node(&down);
    expect_back(&mut cluster, &down).await;
}

/// A cluster that has purged its log, one node of which is down.
async fn purged_with_one_down() -> (Cluster, String) {
    let spec = Spec::three().with_node_sections(SMALL_STORAGE);
    let (mut cluster, down) = with_one_down(spec).await;
    cluster.start_node(&down);
    cluster.await_node(&down).await;
    let change = json!({ "delta": 1_000_000, "reason": "received" });
    let url = cluster.facade("/v1/items/1/stock");
    assert_eq!(cluster.http.post(&url, &change, None).await.status, 200);
    let buyers = Buyers::start(8, &[cluster.facade("")], &[1]);
    until("the log is purged", async || {
        let verbose = cluster.verbose(&down).await;
        (verbose["purged_index"].as_u64()? > 50).then_some(())
    })
    .await;
    buyers.stop().await;
    assert!(cluster.stop(&down).await.success());
    (cluster, down)
}

#[tokio::test]
async fn a_damaged_state_is_rebuilt_from_the_snapshot_where_the_log_is_purged() {
    let test = async {
        let (mut cluster, down) = purged_with_one_down().await;
        ruin_state(&cluster.data(&down));
        let from = cluster.log(&down).len();
        cluster.start_node(&down);
        expect_back(&mut cluster, &down).await;
        cluster.await_log(&down, from, "the state was rebuilt from the newest snapshot").await;
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_damaged_snapshot_alone_is_no_loss() {
    let test = async {
        let (mut cluster, down) = purged_with_one_down().await;
        ruin_snapshots(&cluster.data(&down));
        cluster.start_node(&down);
        expect_back(&mut cluster, &down).await;
    };
    LocalSet::new().run_until(test).await;
}

/// A node that cannot start says why and what to do, and comes back by doing that.
async fn expect_refused_then_joined(mut cluster: Cluster, down: &str, words: &[&str]) {
    let from = cluster.log(down).len();
    cluster.start_node(down);
    let status = cluster.await_end(down).await;
    assert_eq!(status.code(), Some(1), "{status}");
    let said = cluster.log(down)[from..].to_owned();
    for word in words.iter().chain(&["--join", cluster.data(down).to_str().unwrap()]) {
        assert!(said.contains(word), "it says {word:?}: {said}");
    }
    // An empty directory alone is refused too: the others may count on what was in it.
    fs::rename(cluster.data(down), cluster.directory().join("damaged")).unwrap();
    let from = cluster.log(down).len();
    cluster.start_node(down);
    let status = cluster.await_end(down).await;
    assert_eq!(status.code(), Some(1), "{status}");
    let said = cluster.log(down)[from..].to_owned();
    assert!(said.contains("its directory is empty") && said.contains("--join"), "{said}");

    fs::remove_dir_all(cluster.data(down)).unwrap();
    cluster.start_node_with(down, &["--join"]);
    expect_back(&mut cluster, down).await;
    let old = cluster.seat(down).id;
    let member = until("it votes, under a new id", async || {
        let members = cluster.members().await.members;
        let mut same: Vec<_> = members.into_iter().filter(|member| member.name == down).collect();
        let member = same.pop()?;
        (same.is_empty() && member.kind == "voter").then_some(member)
    })
    .await;
    assert!(member.id > old, "{member:?}");
    // It is a member like any other from now on.
    assert!(cluster.stop(down).await.success());
    cluster.start_node(down);
    expect_back(&mut cluster, down).await;
    // And its vote counts: with another one gone, the two that are left go on.
    let leader = cluster.leader().await;
    let third = cluster.names().into_iter().find(|name| *name != leader && name != down).unwrap();
    cluster.kill(&third);
    assert_eq!(cluster.http.get(&cluster.facade("/buy/1/")).await.json()["Result"], "1");
}

#[tokio::test]
async fn a_damaged_log_stops_the_node_and_joining_anew_brings_it_back() {
    let (cluster, down) = with_one_down(Spec::three()).await;
    let segments = entries(&cluster.data(&down).join("db/log"), "0");
    assert!(!segments.is_empty());
    segments.iter().for_each(|segment| ruin(segment));
    expect_refused_then_joined(cluster, &down, &["the log of this node is damaged"]).await;
}

#[tokio::test]
async fn a_node_that_has_lost_state_snapshot_and_log_start_says_so_and_joins_anew() {
    let test = async {
        let (cluster, down) = purged_with_one_down().await;
        ruin_state(&cluster.data(&down));
        ruin_snapshots(&cluster.data(&down));
        expect_refused_then_joined(cluster, &down, &["every snapshot", "are lost"]).await;
    };
    LocalSet::new().run_until(test).await;
}

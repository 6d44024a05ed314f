//! Who does not belong: a second process on the same data, a node of another cluster, another secret.

use std::fs;

use crate::harness::{
    cluster::{Cluster, Spec},
    ports::free_port,
    process::pygmy,
    until,
};

#[tokio::test]
async fn a_second_process_on_the_same_data_is_refused_and_harms_nothing() {
    let cluster = Cluster::start(Spec::three()).await;
    let config = cluster.config("node1");
    let (api, peer) = (free_port(), free_port());
    let second = pygmy(&[
        "serve",
        "--config",
        config.to_str().unwrap(),
        "--set",
        &format!("api.listen=127.0.0.1:{api}"),
        "--set",
        &format!("peer.listen=127.0.0.1:{peer}"),
    ])
    .await;
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    let said = String::from_utf8(second.stderr).unwrap();
    let last = said.lines().last().unwrap();
    assert!(last.contains(cluster.data("node1").to_str().unwrap()), "{said}");
    assert!(last.contains("another process"), "it says why: {last}");
    // The first one goes on, as do its ports: the same configuration unchanged is refused as well.
    let same = pygmy(&["serve", "--config", config.to_str().unwrap()]).await;
    assert_eq!(same.status.code(), Some(1), "{same:?}");
    assert!(
        String::from_utf8(same.stderr).unwrap().contains("cannot listen on"),
        "{:?}",
        same.stdout
    );
    cluster.verify().await;
}

/// Rewrites a node's configuration.
fn edit(cluster: &Cluster, name: &str, from: &str, to: &str) {
    let path = cluster.config(name);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

/// A node that comes back with something else in its configuration is refused, and both say so.
async fn expect_refused(from: &str, to: &str, words: &str) {
    let mut cluster = Cluster::start(Spec::three()).await;
    let leader = cluster.leader().await;
    let stranger = cluster.names().into_iter().find(|name| *name != leader).unwrap();
    assert!(cluster.stop(&stranger).await.success());
    edit(&cluster, &stranger, from, to);
    let marks = [cluster.log(&leader).len(), cluster.log(&stranger).len()];
    cluster.start_node(&stranger);
    cluster.await_log(&leader, marks[0], words).await;
    cluster.await_log(&stranger, marks[1], words).await;
    // It is none of them, as far as they can tell, and its own data is as it was.
    let url = cluster.facade("/heartbeat/");
    until("the stranger counts as down", async || {
        (cluster.http.get(&url).await.json()[&stranger] == 0).then_some(())
    })
    .await;
    assert_eq!(cluster.http.get(&cluster.facade("/buy/1/")).await.json()["Result"], "1");
    cluster.kill(&stranger);
    edit(&cluster, &stranger, to, from);
    cluster.start_node(&stranger);
    cluster.await_node(&stranger).await;
    cluster.verify().await;
}

#[tokio::test]
async fn a_node_with_another_secret_is_refused_and_both_say_so() {
    let (ours, theirs) = ("only for tests on loopback", "whatever comes to somebody's mind");
    expect_refused(ours, theirs, "refused").await;
}

#[tokio::test]
async fn a_node_that_names_another_cluster_is_refused_and_both_say_so() {
    expect_refused("name = \"e2e\"", "name = \"another\"", "refused").await;
}

#[tokio::test]
async fn a_node_of_another_cluster_under_the_same_name_is_refused_and_both_say_so() {
    let mut cluster = Cluster::start(Spec::three()).await;
    let mut other = Cluster::start(Spec::three()).await;
    let leader = cluster.leader().await;
    let stranger = cluster.names().into_iter().find(|name| *name != leader).unwrap();
    // A node is put among others with the data of its old cluster.
    assert!(cluster.stop(&stranger).await.success());
    assert!(other.stop(&stranger).await.success());
    let kept = cluster.directory().join("kept");
    fs::rename(cluster.data(&stranger), &kept).unwrap();
    fs::rename(other.data(&stranger), cluster.data(&stranger)).unwrap();
    let marks = [cluster.log(&leader).len(), cluster.log(&stranger).len()];
    cluster.start_node(&stranger);
    for (name, from) in [(&leader, marks[0]), (&stranger, marks[1])] {
        cluster.await_log(name, from, &other.members().await.cluster_id).await;
        cluster.await_log(name, from, &cluster.members().await.cluster_id).await;
    }
    assert_eq!(cluster.http.get(&cluster.facade("/buy/1/")).await.json()["Result"], "1");
    cluster.kill(&stranger);
    fs::remove_dir_all(cluster.data(&stranger)).unwrap();
    fs::rename(&kept, cluster.data(&stranger)).unwrap();
    cluster.start_node(&stranger);
    cluster.await_node(&stranger).await;
    cluster.verify().await;
}

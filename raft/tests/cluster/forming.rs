//! Who belongs together, and who is kept out.

use std::time::Duration;

use pygmy_raft::{
    network::{CallError, CallHeader, Refusal, SecretProof, Transport, http::HttpTransport},
    types::ClusterId,
};

use crate::harness::{Cluster, DEADLINE, refused};

async fn cluster_id(cluster: &Cluster) -> ClusterId {
    let id = cluster.ids()[0];
    let status = cluster.ask(id, |node| async move { node.cluster_status().await }).await;
    status.cluster.unwrap()
}

fn proof(cluster: &Cluster) -> SecretProof {
    SecretProof::new(&cluster.name, "a secret of these tests")
}

async fn call(to: &Cluster, header: CallHeader) -> CallError {
    let transport = HttpTransport::new().unwrap();
    let body = b"this decodes as nothing".to_vec();
    refused(transport.call(&to.seats[0].member.peer, header, body, DEADLINE).await)
}

fn refusal(error: CallError) -> Refusal {
    match error {
        CallError::Refused { refusal, .. } => refusal,
        other => panic!("not refused but {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_before_their_words_are_decoded() {
    let cluster = Cluster::started(3, 1).await;
    let id = cluster_id(&cluster).await;
    let member = CallHeader { cluster: Some(id), from: 2, target: 1, proof: proof(&cluster) };

    let stranger = SecretProof::new(&cluster.name, "another secret of sixteen bytes");
    let answer = refusal(call(&cluster, CallHeader { proof: stranger, ..member.clone() }).await);
    assert_eq!(answer, Refusal::WrongSecret);
    let other_name = SecretProof::new("another name", "a secret of these tests");
    let answer = refusal(call(&cluster, CallHeader { proof: other_name, ..member.clone() }).await);
    assert_eq!(answer, Refusal::WrongSecret);
    let answer = refusal(call(&cluster, CallHeader { target: 2, ..member.clone() }).await);
    assert_eq!(answer, Refusal::WrongTarget { target: 2, there: 1 });
    // Only a member's words are looked at.
    let answer = refusal(call(&cluster, member).await);
    assert!(matches!(answer, Refusal::Malformed(_)), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_another_cluster_are_refused_on_both_sides() {
    // The same name and the same secret: only the clusters' ids differ.
    let (one, other) = (Cluster::started(3, 1).await, Cluster::started(3, 1).await);
    let ids = (cluster_id(&one).await, cluster_id(&other).await);
    assert_ne!(ids.0, ids.1);
    for (to, theirs, ours) in [(&one, ids.0, ids.1), (&other, ids.1, ids.0)] {
        let header = CallHeader { cluster: Some(ours), from: 2, target: 1, proof: proof(to) };
        let expected = Refusal::WrongCluster { ours: ours.to_string(), theirs: theirs.to_string() };
        assert_eq!(refusal(call(to, header).await), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_secret_stays_out_and_the_others_wait_for_it() {
    let cluster = Cluster::seats(3).await;
    cluster.adjust(3, |settings| settings.secret = "another secret of sixteen bytes".to_owned());
    for id in cluster.ids() {
        // With one that cannot be agreed with, there is no cluster to be established in.
        let start = tokio::time::timeout(Duration::from_secs(2), cluster.try_start(id)).await;
        assert!(!matches!(start, Ok(Err(_))), "node {id} gave up: {start:?}");
    }
    assert!(cluster.ids().iter().all(|id| cluster.node(*id).leader().is_none()));
    // Mended, it is let in.
    cluster.crash(3).await;
    cluster.adjust(3, |_| {});
    cluster.start(3).await;
    cluster.all_serve().await;
}

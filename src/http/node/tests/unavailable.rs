//! When the node cannot answer: full, slow, without a leader, on its way out, broken.

use std::{sync::Arc, time::Duration};

use pygmy_storage::volume::MemoryVolume;

use super::{
    disk::HeldVolume,
    store::{PATIENCE, Store, ask, buy, get, settings},
};
use crate::{
    api::{WriteOutcome, header},
    http::problem::Code,
};

const NOT_APPLIED: Option<WriteOutcome> = Some(WriteOutcome::NotApplied);
const UNKNOWN: Option<WriteOutcome> = Some(WriteOutcome::Unknown);

/// Long enough for a request that can be answered, short for one that cannot.
const HURRY: Duration = Duration::from_millis(250);

#[tokio::test]
async fn a_node_that_takes_no_requests_says_so_and_how_it_is() {
    let store = Store::start().await;
    let mut full = settings();
    full.max_in_flight = 0;
    let full = store.again(full);
    let before = store.mark();
    for path in ["/v1/items", "/v1/orders/1", "/v1/cluster", "/search/A/", "/heartbeat/", "/"] {
        full.get(path).await.problem(Code::Overloaded, None);
    }
    full.send(buy(1, 1)).await.problem(Code::Overloaded, NOT_APPLIED);
    for path in ["/livez", "/readyz", "/clusterz"] {
        assert_eq!(full.get(path).await.status, 200, "{path}");
    }
    assert_eq!(store.mark(), before);
}

#[tokio::test]
async fn one_request_too_many_is_refused_at_once_and_the_next_one_is_not() {
    let volume = HeldVolume::default();
    let store = Store::on(Arc::new(volume.clone()), settings()).await;
    store.fill().await;
    let mut one = settings();
    one.max_in_flight = 1;
    let one = store.again(one);
    volume.hold();
    let second = async {
        // The first has got in once its key is in the log's hands; until then this one may.
        loop {
            let reply = one.get("/v1/cluster").await;
            if reply.status == 503 {
                break reply;
            }
            tokio::task::yield_now().await;
        }
    };
    let first = one.send(buy(1, 1));
    let (first, second) = tokio::join!(first, async {
        let second = second.await;
        let also = one.send(buy(1, 1)).await;
        also.problem(Code::Overloaded, NOT_APPLIED);
        assert_eq!(one.get("/livez").await.status, 200);
        volume.release();
        second
    });
    second.problem(Code::Overloaded, None);
    assert_eq!(first.status, 201);
    assert_eq!(one.send(buy(1, 1)).await.status, 201, "there is room again");
    assert_eq!(store.item(1).await["stock"], 8);
}

#[tokio::test]
async fn a_write_without_an_outcome_in_time_is_found_out_by_its_key() {
    let volume = HeldVolume::default();
    let store = Store::on(Arc::new(volume.clone()), settings()).await;
    store.fill().await;
    let mut hurried = settings();
    hurried.request_timeout = HURRY;
    let hurried = store.again(hurried);
    volume.hold();
    hurried.send(buy(1, 1).key("k")).await.problem(Code::Timeout, UNKNOWN);
    // The original's form cannot say "perhaps": a problem document must.
    hurried.send(get("/buy/1/").key("l")).await.problem(Code::Timeout, UNKNOWN);
    volume.release();
    let again = store.send(buy(1, 1).key("k")).await;
    assert_eq!((again.status.as_u16(), again.replayed()), (201, true));
    assert_eq!(store.get("/buy/1/").await.status, 200);
    let bought = store.send(get("/buy/1/").key("l")).await;
    assert!(bought.replayed(), "{bought:?}");
    assert_eq!(store.item(1).await["stock"], 7);
}

#[tokio::test]
async fn a_node_without_a_cluster_refuses_both_and_lives() {
    let mut hurried = settings();
    hurried.request_timeout = HURRY;
    let store = Store::unformed(Arc::new(MemoryVolume::new()), hurried).await;
    store.send(buy(1, 1)).await.problem(Code::NoLeader, NOT_APPLIED);
    let bought = store.get("/buy/1/").await;
    assert_eq!((bought.status.as_u16(), bought.text()), (503, r#"{"Result": "0"}"#));
    assert_eq!(bought.header(header::CODE), "no_leader");
    for path in ["/v1/items/1", "/v1/orders", "/clusterz"] {
        let reply = store.get(path).await;
        assert_eq!(reply.status, 503, "{path}: {reply:?}");
        let code = reply.json()["code"].as_str().and_then(Code::parse).unwrap();
        assert!(matches!(code, Code::NoLeader | Code::Recovering), "{path}: {reply:?}");
        reply.problem(code, None);
    }
    let stale = "/v1/items/1?consistency=stale&max_staleness_ms=60000";
    assert_eq!(store.get(stale).await.status, 503, "it never heard from a leader");
    assert_eq!(store.get("/livez").await.status, 200);
    let cluster = store.get("/v1/cluster").await.json();
    assert_eq!(
        (&cluster["leader"], &cluster["cluster_id"]),
        (&serde_json::Value::Null, &"".into())
    );

    store.node.establish().await.unwrap();
    let formed = store.again(settings());
    assert_eq!(formed.get("/clusterz").await.status, 200);
    assert_eq!(store.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_caller_who_says_how_long_he_waits_is_answered_by_then() {
    // The node's own time is far longer than the test has.
    let store = Store::unformed(Arc::new(MemoryVolume::new()), settings()).await;
    let hurried = |ask: super::store::Ask| ask.header(header::TIMEOUT_MS, "50");
    store.send(hurried(buy(1, 1))).await.problem(Code::NoLeader, NOT_APPLIED);
    let bought = store.send(hurried(get("/buy/1/"))).await;
    assert_eq!((bought.status.as_u16(), bought.text()), (503, r#"{"Result": "0"}"#));
    let bad = buy(1, 1).header(header::TIMEOUT_MS, "soon");
    let problem = store.send(bad).await.problem(Code::Malformed, NOT_APPLIED);
    assert_eq!(problem.errors[0].pointer, "Pygmy-Timeout-Ms");
}

#[tokio::test]
async fn a_node_that_is_about_to_end_refuses_and_is_not_ready() {
    let store = Store::start().await;
    assert_eq!(store.get("/readyz").await.status, 200);
    store.node.stop().await;
    store.send(buy(1, 1)).await.problem(Code::ShuttingDown, NOT_APPLIED);
    store.get("/v1/items/1").await.problem(Code::ShuttingDown, None);
    store.get("/readyz").await.problem(Code::ShuttingDown, None);
    assert_eq!(store.get("/readyz?exclude=not_draining").await.status, 200);
    assert_eq!(store.get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_disk_that_fails_confirms_nothing() {
    let volume = MemoryVolume::new();
    let store = Store::on(Arc::new(volume.clone()), settings()).await;
    store.fill().await;
    volume.engine("log").unwrap().fail_next_syncs(1);
    let reply = store.send(buy(1, 1).key("k")).await;
    reply.problem(Code::LeadershipLost, UNKNOWN);
    // The process is about to end with a failure; until then nothing is confirmed.
    let reason = tokio::time::timeout(PATIENCE, store.node.stopped()).await.unwrap();
    assert!(reason.contains("injected I/O error"), "{reason}");
    let again = store.send(buy(1, 1)).await;
    assert_eq!(again.status, 503, "{again:?}");
    let read = store.again({
        let mut hurried = settings();
        hurried.request_timeout = HURRY;
        hurried
    });
    assert_eq!(read.get("/v1/items/1").await.status, 503);
    assert_eq!(read.send(ask("GET", "/livez")).await.status, 200);
}

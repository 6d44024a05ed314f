//! Whole chaos runs with real processes and real faults, against a store that the test keeps in memory:
//! a correct one passes, and each deliberate mistake is found.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fake_store;

use std::{path::PathBuf, time::Duration};

use fake_store::{FakeStore, Mistake};
use pygmy_chaos::{
    bench::{BenchSpec, Operation, bench},
    cluster::{Cluster, ClusterSpec, Condition, Storage},
    failover::failover,
    faults::FaultKind,
    load::LoadSpec,
    protocol::Kind,
    report,
    run::{Outcome, RunSpec, run},
};

/// Cargo builds the examples with the tests, beside them.
fn fake_node() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let node = test.ancestors().nth(2).unwrap().join("examples/fake_node");
    assert!(node.exists(), "run `cargo build -p pygmy-chaos --examples` first: no {node:?}");
    node
}

fn cluster_spec(store: &FakeStore) -> ClusterSpec {
    ClusterSpec {
        program: fake_node(),
        nodes: 3,
        parent: None,
        storage: Storage::Small,
        environment: vec![("FAKE_STORE".into(), store.addresses().into())],
    }
}

async fn chaos(store: &FakeStore, seconds: u64, faults: &[FaultKind]) -> Outcome {
    let spec = RunSpec {
        cluster: cluster_spec(store),
        load: LoadSpec { buyers: 16, readers: 8, operations_max: 1_000_000, seed: 7 },
        items: 8,
        stock: 50,
        length: Duration::from_secs(seconds),
        seed: 7,
        faults: faults.to_vec(),
    };
    run(&spec).await.unwrap()
}

#[track_caller]
fn expect_found(outcome: &Outcome, name: &str) {
    let found: Vec<_> = outcome.checks.iter().filter(|check| check.violations > 0).collect();
    assert!(found.iter().any(|check| check.name == name), "{}", report::tables(outcome, ""));
    std::fs::remove_dir_all(outcome.kept.as_ref().expect("kept on a violation")).unwrap();
}

#[tokio::test]
async fn correct_store_passes_with_every_kind_of_fault() {
    let store = FakeStore::start(Mistake::None).await;
    let mut kinds = FaultKind::DEFAULT.to_vec();
    kinds.push(FaultKind::RestartAll);
    let outcome = chaos(&store, 20, &kinds).await;
    let report = report::tables(&outcome, "");
    println!("{report}");
    assert_eq!(outcome.violations(), 0, "{report}");
    // How much traffic there is depends on the machine; the faults must have happened on any.
    for kind in kinds {
        assert!(outcome.faults.iter().any(|fault| fault.kind == kind), "{kind}: {report}");
    }
    for outcomes in ["sold", "refused", "no reply", "not sent", "sold (replayed)"] {
        assert!(outcome.counts.contains_key(&(Kind::Buy, outcomes)), "{outcomes}: {report}");
    }
    for kind in [Kind::Cancel, Kind::Confirm, Kind::Release] {
        for outcomes in ["done", "done (replayed)", "refused"] {
            assert!(outcome.counts.contains_key(&(kind, outcomes)), "{outcomes}: {report}");
        }
    }
    // A slow machine's run has too little traffic to prove anything; all else must be there.
    let slow = outcome.voids.iter().all(|void| void.starts_with("too little traffic"));
    assert!(slow, "{:?}", outcome.voids);
    assert_eq!(outcome.kept.is_some(), !outcome.voids.is_empty());
    if let Some(kept) = &outcome.kept {
        std::fs::remove_dir_all(kept).unwrap();
    }
}

#[tokio::test]
async fn lost_orders_are_found() {
    let store = FakeStore::start(Mistake::LosesOrders).await;
    let outcome = chaos(&store, 6, &[FaultKind::Kill]).await;
    expect_found(&outcome, "every confirmed order exists");
}

#[tokio::test]
async fn forgotten_keys_are_found() {
    let store = FakeStore::start(Mistake::ForgetsKeys).await;
    let outcome = chaos(&store, 6, &[FaultKind::Kill]).await;
    expect_found(&outcome, "one key, one answer, however often it is sent");
}

#[tokio::test]
async fn stale_linearizable_reads_are_found() {
    let store = FakeStore::start(Mistake::ReadsFromThePast).await;
    let outcome = chaos(&store, 6, &[FaultKind::Kill]).await;
    expect_found(&outcome, "linearizable: no reply is older than what was known before");
}

#[tokio::test]
async fn oversold_stock_is_found() {
    let store = FakeStore::start(Mistake::Oversells).await;
    let outcome = chaos(&store, 6, &[FaultKind::Kill]).await;
    expect_found(&outcome, "stock and what is available are never below zero, at any index");
}

#[tokio::test]
async fn lost_cancellations_are_found() {
    let store = FakeStore::start(Mistake::LosesCancellations).await;
    let outcome = chaos(&store, 6, &[FaultKind::Kill]).await;
    expect_found(&outcome, "an order is cancelled once, and only when somebody asked for it");
}

#[tokio::test]
async fn pieces_that_return_twice_are_found() {
    let store = FakeStore::start(Mistake::ReturnsTwice).await;
    let outcome = chaos(&store, 6, &[FaultKind::Kill]).await;
    expect_found(&outcome, "the ledgers tell every sale, return and change of stock once");
}

#[tokio::test]
async fn pieces_that_stay_reserved_are_found() {
    let store = FakeStore::start(Mistake::KeepsPieces).await;
    let outcome = chaos(&store, 6, &[FaultKind::Kill]).await;
    expect_found(&outcome, "per item: received = available + reserved + sold + written off");
}

#[tokio::test]
async fn breaches_of_the_interface_are_found() {
    let store = FakeStore::start(Mistake::AnswersWithoutOutcome).await;
    let outcome = chaos(&store, 6, &[FaultKind::Kill]).await;
    expect_found(&outcome, "every reply keeps the interface's rules");
}

#[tokio::test]
async fn run_without_traffic_is_void() {
    let store = FakeStore::start(Mistake::IsSlow).await;
    let outcome = chaos(&store, 6, &[FaultKind::Kill]).await;
    assert!(outcome.voids.iter().any(|void| void.contains("too little traffic")), "{outcome:?}");
    std::fs::remove_dir_all(outcome.kept.unwrap()).unwrap();
}

#[tokio::test]
async fn failover_measures_the_gap() {
    let store = FakeStore::start(Mistake::None).await;
    let gaps = failover(&cluster_spec(&store), 4, 2).await.unwrap();
    assert_eq!(gaps.len(), 2);
    // The store never pauses: only the killed process' clients do, for as long as a reconnect takes.
    assert!(gaps.iter().all(|gap| *gap > 0.0 && *gap < 2_000.0), "{gaps:?}");
}

#[tokio::test]
async fn bench_measures_every_operation() {
    let store = FakeStore::start(Mistake::None).await;
    for operation in [Operation::Buy, Operation::Put, Operation::GetLinearizable] {
        let spec = BenchSpec { operation, clients: 4, length: Duration::from_secs(1), items: 50 };
        let figures = bench(&cluster_spec(&store), spec).await.unwrap();
        assert!(figures.rate > 0.0 && figures.errors == 0, "{figures}");
        assert!(figures.memory_bytes.0 > 0, "{figures}");
    }
}

#[tokio::test]
async fn processes_end_with_the_cluster_and_unexpected_ends_are_noticed() {
    let store = FakeStore::start(Mistake::None).await;
    let cluster = Cluster::start(&cluster_spec(&store)).await.unwrap();
    let pids: Vec<u32> = cluster.nodes().iter().map(|node| node.pid().unwrap()).collect();
    assert!(cluster.node(0).unexpected_exit().is_none());

    // Killed behind the cluster's back.
    let killed = rustix::process::Pid::from_raw(pids[0].cast_signed()).unwrap();
    rustix::process::kill_process(killed, rustix::process::Signal::KILL).unwrap();
    let exit = async {
        loop {
            if let Some(status) = cluster.node(0).unexpected_exit() {
                break status;
            }
            tokio::task::yield_now().await;
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(5), exit).await.unwrap();
    assert!(!status.success());
    assert_eq!(cluster.node(0).condition(), Condition::Down);

    cluster.node(1).pause();
    let directory = cluster.directory().to_owned();
    cluster.stop().await.unwrap();
    for pid in pids {
        assert!(!PathBuf::from(format!("/proc/{pid}")).exists(), "{pid} still runs");
    }
    assert!(!directory.exists());
}

#[tokio::test]
async fn program_that_does_not_start_is_an_error_that_shows_its_log() {
    let store = FakeStore::start(Mistake::None).await;
    let mut spec = cluster_spec(&store);
    spec.environment.clear();
    let error = format!("{:#}", Cluster::start(&spec).await.unwrap_err());
    assert!(error.contains("node1 ended by itself"), "{error}");
    assert!(error.contains("NotPresent"), "{error}");
    let kept = error.rsplit("logs and data: ").next().unwrap();
    std::fs::remove_dir_all(kept).unwrap();
}

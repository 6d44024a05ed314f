//! `pygmy bench` against a cluster.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    cluster::{Cluster, Spec},
    ports::free_port,
    process::{pygmy, pygmy_ok},
};

const SHORT: [&str; 8] =
    ["--json", "--seconds", "1", "--warmup", "0", "--items", "50", "--clients"];

/// Runs it and gives its lines.
async fn bench(url: &str, more: &[&str]) -> Vec<Value> {
    let line = [&["bench", "--url", url], &SHORT[..], &["8"], more].concat();
    let said = pygmy_ok(&line).await;
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The last line, which must be of a run without a fault.
fn sound(lines: &[Value]) -> &Value {
    let (last, seconds) = lines.split_last().unwrap();
    assert_eq!((last["type"].as_str(), last["end"].as_str()), (Some("result"), Some("complete")));
    assert_eq!((seconds.len(), seconds[0]["type"].as_str()), (1, Some("second")), "{lines:?}");
    assert_eq!(last["errors"], 0, "{last}");
    assert!(last["operations"].as_u64().unwrap() > 0, "{last}");
    assert!(last["generator"]["processor_us_per_operation"].as_f64().unwrap() > 0.0, "{last}");
    let latency = |name: &str| last["latency_us"][name].as_u64().unwrap();
    assert!(latency("p50") <= latency("p99") && latency("p99") <= latency("max"), "{last}");
    last
}

#[tokio::test]
async fn it_measures_a_cluster_and_leaves_the_catalog_alone() {
    let mut cluster = Cluster::start(Spec::three()).await;
    let facade = cluster.facade("");
    let before = pygmy_ok(&["items", "--topic", "Misc", "--json", "--url", &facade]).await;

    let bought = bench(&facade, &[]).await;
    let bought = sound(&bought);
    assert_eq!((bought["mix"].as_str(), bought["loop"].as_str()), (Some("buy"), Some("closed")));
    assert!(bought["orders_per_second"].as_f64().unwrap() > 0.0, "{bought}");

    let node = cluster.node("node2", "");
    for mix in ["hot", "put", "get", "get-stale", "get-session", "shop"] {
        let lines = bench(&node, &["--direct", "--no-prepare", "--mix", mix]).await;
        let last = sound(&lines);
        assert_eq!((last["mix"].as_str(), last["nodes"].as_u64()), (Some(mix), Some(3)));
        let kinds = last["by_kind"].as_object().unwrap().len();
        assert_eq!(kinds, if mix == "shop" { 4 } else { 1 }, "{last}");
    }

    let open = ["--no-prepare", "--mix", "get-stale", "--rate", "50"];
    let lines = bench(&facade, &open).await;
    let last = sound(&lines);
    assert_eq!(last["open_loop"]["due"], 50, "{last}");
    assert_eq!(last["open_loop"]["kept"], true, "{last}");

    // Far more than any store can: it is said, and the exit code says it too.
    let args = ["bench", "--url", &facade, "--no-prepare", "--rate", "1000000"];
    let output = pygmy(&[&args[..], &SHORT[..], &["8"]].concat()).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the rate was not kept") && said.contains("of 1000000"), "{said}");

    let after = pygmy_ok(&["items", "--topic", "Misc", "--json", "--url", &facade]).await;
    assert_eq!(before, after, "no item of the catalog was touched");
    pygmy_ok(&["verify", "--url", &facade]).await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_store_that_goes_away_is_said_and_what_was_measured_is_shown() {
    let mut cluster = Cluster::start(Spec::three()).await;
    let node = cluster.node("node1", "");
    let args = ["bench", "--direct", "--url", &node, "--items", "10", "--seconds", "30"];
    let bench = pygmy(&args);
    let kill = async {
        // Until it measures; when exactly does not matter.
        tokio::time::sleep(Duration::from_secs(3)).await;
        cluster.kill_all();
    };
    let (output, ()) = tokio::join!(bench, kill);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let (figures, said) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("the store went away"), "{said}");
    assert!(figures.contains("per second") && figures.contains("no connection"), "{figures}");
}

#[tokio::test]
async fn what_cannot_be_measured_is_refused_in_words() {
    let nobody = format!("http://127.0.0.1:{}", free_port());
    for more in [&[][..], &["--direct"]] {
        let output = pygmy(&[&["bench", "--url", &nobody], more].concat()).await;
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("Connection refused") && said.contains("--url"), "{said}");
        assert!(output.stdout.is_empty());
    }
    for wrong in [
        ["--rate", "0"],
        ["--clients", "0"],
        ["--seconds", "0"],
        ["--items", "0"],
        ["--batch", "1001"],
        ["--mix", "steal"],
        ["--url", "https://127.0.0.1:1"],
    ] {
        let mut line = vec!["bench"];
        line.extend(wrong);
        let output = pygmy(&line).await;
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {output:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{wrong:?}");
    }
}

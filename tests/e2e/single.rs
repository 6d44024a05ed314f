//! One process, no files to edit.

use serde_json::Value;

use crate::harness::{
    cluster::CATALOG,
    ports::free_port,
    process::{Process, pygmy, pygmy_ok},
};

#[tokio::test]
async fn a_single_node_is_a_whole_store() {
    let directory = tempfile::tempdir().unwrap();
    let (data, log) = (directory.path().join("data"), directory.path().join("log"));
    let listen = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{listen}");
    let args = ["serve", "--single", "--data", data.to_str().unwrap(), "--listen", &listen];
    let process = Process::start(args, &log);
    pygmy_ok(&["wait", "--url", &url, "--timeout", "60"]).await;
    let url = ["--url", &url];
    let ask = async |line: &[&str]| pygmy_ok(&[line, &url].concat()).await;

    ask(&["load", CATALOG]).await;
    let found = ask(&["search", "DistributedSystems"]).await;
    assert!(found.contains("RPCs for Dummies") && found.contains('2'), "{found}");
    let bought = ask(&["buy", "5", "--quantity", "2", "--json", "--key", "mine"]).await;
    let order: Value = serde_json::from_str(&bought).unwrap();
    assert_eq!(order["id"], 1, "{bought}");
    let again = ask(&["buy", "5", "--quantity", "2", "--json", "--key", "mine"]).await;
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap()["id"], 1);
    assert!(ask(&["lookup", "5"]).await.contains("98"));
    let refused = pygmy(&["buy", "7", "--quantity", "6", url[0], url[1]]).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(ask(&["cluster", "status"]).await.contains("leader"));
    ask(&["verify"]).await;

    // It stops well and starts again with all of it; loading once more changes nothing.
    let ended = process.stop().await;
    assert!(ended.success(), "{ended}");
    let process = Process::start(args, &log);
    pygmy_ok(&["wait", url[0], url[1], "--timeout", "60"]).await;
    ask(&["load", CATALOG]).await;
    assert!(ask(&["lookup", "5"]).await.contains("98"));
    assert_eq!(
        serde_json::from_str::<Value>(&ask(&["order", "1", "--json"]).await).unwrap(),
        order
    );
    ask(&["verify"]).await;
    process.kill();
    let gone = pygmy(&["lookup", "5", url[0], url[1], "--timeout", "1"]).await;
    assert_eq!(gone.status.code(), Some(3), "{gone:?}");
}

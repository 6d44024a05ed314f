//! A backup under load, and a cluster that goes on from it.

use std::fs;

use serde_json::{Value, json};
use tokio::task::LocalSet;

use crate::harness::{
    cluster::{CATALOG, Cluster, SMALL_STORAGE, Spec},
    load::Buyers,
    ports::free_port,
    process::{Process, pygmy, pygmy_ok},
    until,
};

/// What was given and held before the backup, to be found again.
struct Before {
    order: Value,
    key: &'static str,
    first: Value,
    reservation: u64,
}

async fn stock_up_and_leave_marks(cluster: &Cluster) -> Before {
    for item in [1, 2] {
        let change = json!({ "delta": 1_000_000, "reason": "received" });
        let url = cluster.facade(&format!("/v1/items/{item}/stock"));
        assert_eq!(cluster.http.post(&url, &change, None).await.status, 200);
    }
    let order = json!({ "lines": [{ "item": 5, "quantity": 2 }], "customer": "ada" });
    let key = "before-the-backup";
    let placed = cluster.http.post(&cluster.facade("/v1/orders"), &order, Some(key)).await;
    assert_eq!(placed.status, 201, "{placed:?}");
    let hold = json!({ "lines": [{ "item": 7, "quantity": 3 }], "ttl_seconds": 3600 });
    let held = cluster.http.post(&cluster.facade("/v1/reservations"), &hold, None).await;
    assert_eq!(held.status, 201, "{held:?}");
    let reservation = held.json()["id"].as_u64().unwrap();
    Before { order, key, first: placed.json(), reservation }
}

/// A key from before replays its order, and what was held is still held.
async fn expect_marks(cluster: &Cluster, before: &Before) {
    let url = cluster.facade("/v1/orders");
    let again = cluster.http.post(&url, &before.order, Some(before.key)).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, "true"), "{again:?}");
    assert_eq!(again.json(), before.first);
    let url = cluster.facade(&format!("/v1/reservations/{}", before.reservation));
    assert_eq!(cluster.http.get(&url).await.json()["status"], "held");
}

#[tokio::test]
async fn a_cluster_goes_on_from_a_backup_that_was_taken_under_load() {
    let test = async {
        let mut cluster = Cluster::start(Spec::three().with_node_sections(SMALL_STORAGE)).await;
        let before = stock_up_and_leave_marks(&cluster).await;
        let old_id = cluster.members().await.cluster_id;
        let stores: Vec<_> = cluster.names().iter().map(|name| cluster.node(name, "")).collect();
        let buyers = Buyers::start(8, &stores, &[1, 2]);
        // Snapshots and purges have been there as well.
        buyers.await_confirmed(600).await;
        let file = cluster.directory().join("store.backup");
        let path = file.to_str().unwrap();
        let said = pygmy_ok(&["backup", path, "--json", "--url", &cluster.facade("")]).await;
        let said: Value = serde_json::from_str(&said).unwrap();
        let index = said["index"].as_u64().unwrap();
        let orders = said["orders"].as_u64().unwrap();
        assert!(orders > 600, "{said}");
        assert_eq!(said["bytes"], fs::metadata(&file).unwrap().len());
        buyers.await_confirmed(100).await;
        cluster.kill_all();
        let told = buyers.stop().await;
        // What was confirmed later is what a backup does not have.
        let in_backup = |order: &Value| order["index"].as_u64().unwrap() <= index;
        let confirmed = told.confirmed.borrow().len();
        told.confirmed.borrow_mut().retain(|_, order| in_backup(order));
        let kept = told.confirmed.borrow().len();
        assert!((600..=confirmed - 100).contains(&kept), "{kept} of {confirmed}");
        for name in cluster.names() {
            fs::rename(cluster.data(&name), cluster.directory().join(format!("old-{name}")))
                .unwrap();
        }

        // Not the one that led, nor the first of the configuration.
        let config = cluster.config("node2");
        let restore = ["restore", "--config", config.to_str().unwrap(), path, "--json"];
        let report: Value = serde_json::from_str(&pygmy_ok(&restore).await).unwrap();
        assert_eq!((&report["index"], &report["orders"]), (&said["index"], &said["orders"]));
        let again = pygmy(&restore).await;
        assert_eq!(again.status.code(), Some(1), "{again:?}");
        let error = String::from_utf8(again.stderr).unwrap();
        assert!(error.contains("is not empty"), "{error}");
        cluster.start_node("node2");
        cluster.start_facade();
        cluster.await_serving().await;
        told.check(&cluster.http, &cluster.node("node2", "")).await;
        expect_marks(&cluster, &before).await;
        let members = cluster.members().await;
        assert_eq!(Value::from(members.cluster_id.clone()), report["cluster_id"]);
        assert_ne!(members.cluster_id, old_id);
        assert_eq!(members.members.len(), 1);

        let names = ["node1", "node3"];
        for name in names {
            cluster.start_node_with(name, &["--join"]);
        }
        cluster.await_serving().await;
        until("all three vote", async || {
            let members = cluster.members().await.members;
            let votes = members.iter().filter(|member| member.kind == "voter").count();
            (members.len() == 3 && votes == 3).then_some(())
        })
        .await;
        for name in names {
            assert!(cluster.log(name).contains("a snapshot arrives"), "{name} got it by snapshot");
            told.check(&cluster.http, &cluster.node(name, "")).await;
        }
        expect_marks(&cluster, &before).await;

        // New orders go on from there, with numbers and indexes that are not in the backup.
        let order = json!({ "lines": [{ "item": 1, "quantity": 1 }] });
        let new = cluster.http.post(&cluster.facade("/v1/orders"), &order, None).await;
        assert_eq!(new.status, 201, "{new:?}");
        assert_eq!(new.json()["id"].as_u64(), Some(orders + 1));
        assert!(new.json()["index"].as_u64().unwrap() > index, "{new:?}");
        let buyers = Buyers::start(4, &stores, &[1, 2]);
        buyers.await_confirmed(100).await;
        let more = buyers.stop().await;
        told.confirmed.borrow_mut().append(&mut more.confirmed.borrow_mut());
        cluster.verify().await;

        // The same as ever after a crash of everybody.
        cluster.kill_all();
        cluster.start_all();
        cluster.await_serving().await;
        told.check(&cluster.http, &cluster.facade("")).await;
        expect_marks(&cluster, &before).await;
        let confirm = format!("/v1/reservations/{}/confirm", before.reservation);
        let sold = cluster.http.post(&cluster.facade(&confirm), &json!({}), None).await;
        assert!([200, 201].contains(&sold.status), "{sold:?}");
        cluster.verify().await;
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_node_on_its_own_is_backed_up_and_restored() {
    let directory = tempfile::tempdir().unwrap();
    let (data, new) = (directory.path().join("data"), directory.path().join("new"));
    let port = free_port();
    let (listen, url) = (format!("127.0.0.1:{port}"), format!("http://127.0.0.1:{port}"));
    let serve = |data: &std::path::Path| {
        let args = ["serve", "--single", "--listen", &listen, "--data", data.to_str().unwrap()];
        Process::start(args, &directory.path().join("log"))
    };
    let process = serve(&data);
    pygmy_ok(&["wait", "--url", &url, "--timeout", "60"]).await;
    pygmy_ok(&["load", CATALOG, "--url", &url]).await;
    pygmy_ok(&["buy", "5", "--key", "mine", "--url", &url]).await;
    let file = directory.path().join("store.backup");
    let file = file.to_str().unwrap();
    pygmy_ok(&["backup", file, "--url", &url]).await;
    assert!(process.stop().await.success());
    let checked = pygmy_ok(&["backup", "--check", file]).await;
    assert!(checked.contains("1 orders"), "{checked}");

    // A backup, and then a restore that is cut off where it hurts most: at the very end.
    let said = pygmy_ok(&["restore", "--single", "--data", new.to_str().unwrap(), file]).await;
    assert!(said.contains("pygmy serve --single"), "{said}");
    fs::write(new.join("files/restoring"), "").unwrap();
    let mut refused = serve(&new);
    assert_eq!(refused.ended().await.code(), Some(1));
    let log = fs::read_to_string(directory.path().join("log")).unwrap();
    assert!(log.contains("it was cut off there. Run it again"), "{log}");
    pygmy_ok(&["restore", "--single", "--data", new.to_str().unwrap(), file]).await;
    let process = serve(&new);
    pygmy_ok(&["wait", "--url", &url, "--timeout", "60"]).await;
    let again = pygmy_ok(&["buy", "5", "--key", "mine", "--json", "--url", &url]).await;
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["id"], 1, "{again}");
    assert!(process.stop().await.success());
}

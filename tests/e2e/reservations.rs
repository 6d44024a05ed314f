//! Reservations, cancellations and replayed keys: over the leader's death, over a restart of everybody,
//! and over a snapshot.

use pygmy::api::header;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::LocalSet;

use crate::harness::{
    cluster::{Cluster, SMALL_STORAGE, Spec},
    http::Reply,
    load::Buyers,
    until,
};

/// Far longer than a test.
const LONG_S: u64 = 3_600;

/// A write, as it was made and answered.
struct Told {
    method: Method,
    path: String,
    body: Option<Value>,
    key: String,
    reply: Reply,
}

impl Told {
    async fn send(&self, cluster: &Cluster, node: &str) -> Reply {
        let (url, body) = (cluster.node(node, &self.path), self.body.as_ref());
        cluster.http.send(self.method.clone(), &url, body, Some(&self.key)).await.unwrap()
    }

    /// What stays the same whenever it is answered: all but which request it was.
    fn said(reply: &Reply) -> (u16, Value) {
        let mut body = reply.json();
        body.as_object_mut().unwrap().remove("instance");
        (reply.status, body)
    }

    /// Asked again, a node says the same, and that it repeats it.
    async fn expect_again(&self, cluster: &Cluster, node: &str) {
        let again = self.send(cluster, node).await;
        assert_eq!(Self::said(&again), Self::said(&self.reply), "{} at {node}", self.key);
        assert_eq!(again.header(header::IDEMPOTENT_REPLAYED), "true", "{again:?}");
        assert_eq!(again.header(header::INDEX), self.reply.header(header::INDEX), "{again:?}");
    }
}

async fn write(
    cluster: &Cluster,
    node: &str,
    method: Method,
    path: &str,
    body: Option<Value>,
    key: &str,
) -> Told {
    let (path, key) = (path.to_owned(), key.to_owned());
    let url = cluster.node(node, &path);
    let reply = cluster.http.send(method.clone(), &url, body.as_ref(), Some(&key)).await.unwrap();
    Told { method, path, body, key, reply }
}

fn lines(item: u64, quantity: u64) -> Value {
    json!([{ "item": item, "quantity": quantity }])
}

async fn reserve(cluster: &Cluster, node: &str, item: u64, ttl_s: u64, key: &str) -> Told {
    let body = json!({ "lines": lines(item, 2), "ttl_seconds": ttl_s });
    let told = write(cluster, node, Method::POST, "/v1/reservations", Some(body), key).await;
    assert_eq!(told.reply.status, 201, "{:?}", told.reply);
    told
}

async fn confirm(cluster: &Cluster, node: &str, reservation: &Told, key: &str) -> Told {
    let path = format!("{}/confirm", path_of(reservation));
    write(cluster, node, Method::POST, &path, None, key).await
}

/// The path of what a write made.
fn path_of(told: &Told) -> &str {
    told.reply.header("location")
}

async fn shown(cluster: &Cluster, node: &str, path: &str) -> Value {
    let reply = cluster.http.get(&cluster.node(node, path)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

/// Stock and reserved pieces of an item.
async fn pieces(cluster: &Cluster, node: &str, item: u64) -> (u64, u64) {
    let item = shown(cluster, node, &format!("/v1/items/{item}")).await;
    (item["stock"].as_u64().unwrap(), item["reserved"].as_u64().unwrap())
}

/// Waits until a reservation has run out, and gives it.
async fn await_expired(cluster: &Cluster, node: &str, path: &str) -> Value {
    until(&format!("{path} runs out"), async || {
        let reply = cluster.http.try_get(&cluster.node(node, path)).await?;
        let is_over = reply.status == 200 && reply.json()["status"] == "expired";
        is_over.then(|| reply.json())
    })
    .await
}

#[tokio::test]
async fn a_reservation_outlives_the_leader_and_ends_as_it_would_have() {
    let mut cluster = Cluster::start(Spec::three()).await;
    let leader = cluster.leader().await;
    let before = (pieces(&cluster, &leader, 5).await.0, pieces(&cluster, &leader, 7).await.0);
    let kept = reserve(&cluster, &leader, 5, LONG_S, "kept").await;
    let brief = reserve(&cluster, &leader, 7, 5, "brief").await;
    assert_eq!(pieces(&cluster, &leader, 5).await, (before.0, 2));
    cluster.kill(&leader);

    let next = cluster.leader().await;
    let other = cluster.names().into_iter().find(|name| ![&leader, &next].contains(&name)).unwrap();
    cluster.await_node(&next).await;
    cluster.await_node(&other).await;
    // The same reservation, with the same end.
    assert_eq!(shown(&cluster, &next, path_of(&kept)).await, kept.reply.json());
    assert_eq!(pieces(&cluster, &next, 5).await, (before.0, 2));
    kept.expect_again(&cluster, &other).await;

    // It is sold once, whoever asks, and under whichever key.
    let sold = confirm(&cluster, &next, &kept, "sell").await;
    let order = sold.reply.json();
    assert_eq!((sold.reply.status, &order["reservation"]), (201, &kept.reply.json()["id"]));
    for node in [&next, &other] {
        sold.expect_again(&cluster, node).await;
        let twice = confirm(&cluster, node, &kept, &format!("sell-at-{node}")).await;
        let problem = twice.reply.json();
        assert_eq!((twice.reply.status, &problem["state"]), (409, &json!("confirmed")));
    }
    let orders = shown(&cluster, &next, "/v1/orders").await;
    assert_eq!(orders["orders"], json!([order]));
    assert_eq!(pieces(&cluster, &next, 5).await, (before.0 - 2, 0));

    // The other one runs out under the new leader, when it was said it would and not before.
    let over = await_expired(&cluster, &next, path_of(&brief)).await;
    let time = |field: &str| over[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(over["expires_at"], brief.reply.json()["expires_at"]);
    assert!(time("ended_at") >= time("expires_at"), "{over}");
    assert_eq!(pieces(&cluster, &next, 7).await, (before.1, 0));
    let late = confirm(&cluster, &other, &brief, "late").await;
    assert_eq!((late.reply.status, &late.reply.json()["state"]), (409, &json!("expired")));
    late.expect_again(&cluster, &next).await;
    assert_eq!(pieces(&cluster, &next, 7).await, (before.1, 0));

    cluster.start_all();
    cluster.await_serving().await;
    assert_eq!(shown(&cluster, &leader, path_of(&brief)).await, over);
    cluster.verify().await;
}

/// One of each: an order that is cancelled, and reservations that hold, are sold, and are given back; and
/// two that came too late.
async fn one_of_each(cluster: &Cluster, node: &str) -> Vec<Told> {
    let body = Some(json!({ "lines": lines(5, 1), "reference": "one of each" }));
    let order = write(cluster, node, Method::POST, "/v1/orders", body, "order").await;
    assert_eq!(order.reply.status, 201, "{:?}", order.reply);
    let path = format!("{}/cancel", path_of(&order));
    let why = Some(json!({ "reason": "too late" }));
    let cancel = write(cluster, node, Method::POST, &path, why, "cancel").await;
    assert_eq!(cancel.reply.status, 200, "{:?}", cancel.reply);
    let again = write(cluster, node, Method::POST, &path, None, "cancel-again").await;
    assert_eq!(again.reply.status, 409, "{:?}", again.reply);
    let held = reserve(cluster, node, 5, LONG_S, "held").await;
    let to_sell = reserve(cluster, node, 5, LONG_S, "to-sell").await;
    let sold = confirm(cluster, node, &to_sell, "sold").await;
    assert_eq!(sold.reply.status, 201, "{:?}", sold.reply);
    let given = reserve(cluster, node, 5, LONG_S, "to-give-back").await;
    let back = write(cluster, node, Method::DELETE, path_of(&given), None, "given-back").await;
    assert_eq!(back.reply.status, 200, "{:?}", back.reply);
    let late = confirm(cluster, node, &given, "too-late").await;
    assert_eq!(late.reply.status, 409, "{:?}", late.reply);
    vec![order, cancel, again, held, to_sell, sold, given, back, late]
}

/// All that a node shows of orders, reservations and what there is.
async fn all_shown(cluster: &Cluster, node: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let paths = ["/v1/orders/1", "/v1/reservations?limit=1000", "/v1/items?limit=1000"];
    for path in paths.iter().chain(&["/v1/items/5/ledger?limit=1000"]) {
        all.push(shown(cluster, node, path).await);
    }
    all
}

#[tokio::test]
async fn all_of_it_survives_a_restart_of_everybody() {
    let mut cluster = Cluster::start(Spec::three()).await;
    let leader = cluster.leader().await;
    let told = one_of_each(&cluster, &leader).await;
    let before = all_shown(&cluster, &leader).await;
    assert_eq!(before[0]["status"], "cancelled");
    assert_eq!(before[0]["cancel_reason"], "too late");

    cluster.kill_all();
    cluster.start_all();
    cluster.await_serving().await;
    for name in cluster.names() {
        assert_eq!(all_shown(&cluster, &name).await, before, "{name}");
        for told in &told {
            told.expect_again(&cluster, &name).await;
        }
    }
    // Nothing of it happened again.
    assert_eq!(all_shown(&cluster, &leader).await, before);
    cluster.verify().await;
}

#[tokio::test]
async fn all_of_it_comes_with_a_snapshot() {
    let test = async {
        let mut cluster = Cluster::start(Spec::three().with_node_sections(SMALL_STORAGE)).await;
        let stock = json!({ "delta": 1_000_000, "reason": "received" });
        let reply = cluster.http.post(&cluster.facade("/v1/items/1/stock"), &stock, None).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let leader = cluster.leader().await;
        let away = cluster.names().into_iter().find(|name| *name != leader).unwrap();
        let brief = reserve(&cluster, &leader, 7, 2, "brief").await;
        let last = cluster.verbose(&away).await["last_log_index"].as_u64().unwrap();
        cluster.kill(&away);

        let told = one_of_each(&cluster, &leader).await;
        await_expired(&cluster, &leader, path_of(&brief)).await;
        let buyers = Buyers::start(8, &[cluster.node(&leader, "")], &[1]);
        until("the others have purged what it misses", async || {
            let purged = cluster.verbose(&leader).await["purged_index"].as_u64()?;
            (purged > last + 200).then_some(())
        })
        .await;
        buyers.stop().await;

        let from = cluster.log(&away).len();
        cluster.start_node(&away);
        cluster.await_node(&away).await;
        let log = cluster.log(&away)[from..].to_owned();
        assert!(log.contains("a snapshot arrives"), "{log}");
        let (here, there) = (all_shown(&cluster, &away).await, all_shown(&cluster, &leader).await);
        assert_eq!(here, there);
        for told in &told {
            told.expect_again(&cluster, &away).await;
        }
        // What holds can still be sold, once, and what ran out cannot.
        let held = told.iter().find(|told| told.key == "held").unwrap();
        let sold = confirm(&cluster, &away, held, "sold-at-last").await;
        assert_eq!(sold.reply.status, 201, "{:?}", sold.reply);
        sold.expect_again(&cluster, &leader).await;
        let late = confirm(&cluster, &away, &brief, "late").await;
        assert_eq!(late.reply.json()["state"], "expired", "{:?}", late.reply);
        cluster.verify().await;
    };
    LocalSet::new().run_until(test).await;
}

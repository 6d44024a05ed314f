//! The seed's four scenarios, in both profiles, and the requests of its clients.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{
    cluster::{Cluster, Spec},
    until,
};

/// Every reply from a replica, so that it shows who answers.
const NO_CACHE: &str = "cache_entries = 0";

fn flags(cluster: &Cluster, down: &[&str]) -> BTreeMap<String, u8> {
    let names = cluster.names().into_iter();
    names.map(|name| (name.clone(), u8::from(!down.contains(&name.as_str())))).collect()
}

/// Waits until the facade and every node that runs show these as down, and only these.
async fn await_flags_everywhere(cluster: &Cluster, down: &[&str]) {
    let expected = flags(cluster, down);
    cluster.await_flags(&cluster.facade("/heartbeat/"), &expected).await;
    for name in cluster.names().iter().filter(|name| !down.contains(&name.as_str())) {
        cluster.await_flags(&cluster.node(name, "/heartbeat/"), &expected).await;
    }
}

/// Who answers so many requests in a row through the facade.
async fn spread(cluster: &Cluster, path: &str, requests: usize) -> BTreeMap<String, usize> {
    let mut answered: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..requests {
        let reply = cluster.http.get(&cluster.facade(path)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        *answered.entry(reply.node().to_owned()).or_default() += 1;
    }
    answered
}

fn serving(cluster: &Cluster, role: &str, down: &[&str]) -> BTreeSet<String> {
    let seats = cluster.seats.iter().filter(|seat| seat.roles.contains(&role));
    let up = seats.filter(|seat| !down.contains(&seat.name.as_str()));
    up.map(|seat| seat.name.clone()).collect()
}

/// Lookups and orders are answered by all replicas of their role that are up, in turn.
async fn expect_round_robin(cluster: &Cluster, down: &[&str]) {
    for (path, role) in [("/lookup/2/", "catalog"), ("/v1/orders/1?consistency=stale", "order")] {
        let expected = serving(cluster, role, down);
        // A replica that was slow for once is passed over for a moment.
        until(&format!("{path} is answered in turn by {expected:?}"), async || {
            let answered = spread(cluster, path, 10 * expected.len()).await;
            let all = answered.keys().cloned().collect::<BTreeSet<_>>() == expected;
            (all && answered.values().all(|count| *count >= 7)).then_some(())
        })
        .await;
    }
}

/// Buys through the facade; each must succeed, and be seen by the buyer's next lookup.
async fn buy(cluster: &Cluster, item: u64, pieces: u64) {
    for _ in 0..pieces {
        let stock = |reply: Value| reply["Stock"].as_str().unwrap().parse::<u64>().unwrap();
        let before =
            stock(cluster.http.get(&cluster.facade(&format!("/lookup/{item}/"))).await.json());
        let bought = cluster.http.get(&cluster.facade(&format!("/buy/{item}/"))).await;
        assert_eq!((bought.status, &bought.json()["Result"]), (200, &json!("1")), "{bought:?}");
        assert_eq!(stock(bought.json()), before - 1);
        let after = cluster.http.get(&cluster.facade(&format!("/lookup/{item}/"))).await;
        assert_eq!(stock(after.json()), before - 1, "a buyer sees his own purchase");
    }
}

/// The stock and the newest order are the same at every node that runs.
async fn expect_everywhere(cluster: &Cluster, item: u64, down: &[&str]) {
    let page = cluster.http.get(&cluster.facade("/v1/orders?limit=1000")).await.json();
    let newest = page["orders"].as_array().unwrap().last().unwrap().clone();
    let stock =
        cluster.http.get(&cluster.facade(&format!("/v1/items/{item}"))).await.json()["stock"]
            .to_string();
    for name in cluster.names().iter().filter(|name| !down.contains(&name.as_str())) {
        let id = &newest["id"];
        let order = cluster.node(name, &format!("/v1/orders/{id}?consistency=stale"));
        let lookup = cluster.node(name, &format!("/lookup/{item}/"));
        until(&format!("{name} has order {id}"), async || {
            let order = cluster.http.get(&order).await;
            let lookup = cluster.http.get(&lookup).await;
            (order.status == 200 && order.json() == newest && lookup.json()["Stock"] == *stock)
                .then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_four_scenarios_on_the_originals_five() {
    let mut cluster = Cluster::start(Spec::seed().with_facade_settings(NO_CACHE)).await;

    // 1. All servers up.
    await_flags_everywhere(&cluster, &[]).await;
    buy(&cluster, 1, 5).await;
    expect_everywhere(&cluster, 1, &[]).await;
    expect_round_robin(&cluster, &[]).await;

    // 2. Order server 2 goes down.
    cluster.kill("order2");
    buy(&cluster, 1, 5).await;
    await_flags_everywhere(&cluster, &["order2"]).await;
    buy(&cluster, 1, 5).await;
    expect_round_robin(&cluster, &["order2"]).await;

    // 3. Catalog server 1 goes down too.
    cluster.kill("catalog1");
    buy(&cluster, 1, 5).await;
    await_flags_everywhere(&cluster, &["catalog1", "order2"]).await;
    buy(&cluster, 1, 5).await;
    expect_everywhere(&cluster, 1, &["catalog1", "order2"]).await;
    expect_round_robin(&cluster, &["catalog1", "order2"]).await;

    // 4. Both come back.
    let from = [cluster.log("catalog1").len(), cluster.log("order2").len()];
    cluster.start_all();
    for (name, from) in ["catalog1", "order2"].into_iter().zip(from) {
        cluster.await_node(name).await;
        cluster.await_log(name, from, "caught up").await;
    }
    await_flags_everywhere(&cluster, &[]).await;
    expect_everywhere(&cluster, 1, &[]).await;
    buy(&cluster, 1, 5).await;
    expect_round_robin(&cluster, &[]).await;
    let orders = cluster.http.get(&cluster.facade("/v1/orders?limit=1000")).await.json();
    assert_eq!(orders["orders"].as_array().unwrap().len(), 30);
    cluster.verify().await;
}

#[tokio::test]
async fn the_four_scenarios_on_three() {
    let mut cluster = Cluster::start(Spec::three().with_facade_settings(NO_CACHE)).await;

    // 1. All servers up.
    await_flags_everywhere(&cluster, &[]).await;
    buy(&cluster, 1, 5).await;
    expect_everywhere(&cluster, 1, &[]).await;
    expect_round_robin(&cluster, &[]).await;

    // 2. One goes down, and it is the leader.
    let first = cluster.leader().await;
    cluster.kill(&first);
    buy(&cluster, 1, 5).await;
    await_flags_everywhere(&cluster, &[&first]).await;
    expect_everywhere(&cluster, 1, &[&first]).await;
    expect_round_robin(&cluster, &[&first]).await;

    // 3. Another one goes down too: two of three are no majority any more. Lookups go on, from what
    // is left; a purchase cannot be made, is not made, and says so.
    let second = cluster.leader().await;
    let stock = cluster.http.get(&cluster.facade("/lookup/1/")).await.json()["Stock"].clone();
    cluster.kill(&second);
    until("lookups go on", async || {
        let reply = cluster.http.get(&cluster.facade("/lookup/1/")).await;
        (reply.status == 200).then_some(())
    })
    .await;
    for _ in 0..10 {
        let reply = cluster.http.get(&cluster.facade("/lookup/1/")).await;
        assert_eq!((reply.status, &reply.json()["Stock"]), (200, &stock), "{reply:?}");
    }
    // The node that is left finds nobody to pass a purchase on to, so that nothing is in doubt.
    let refused = cluster.http.get(&cluster.facade("/buy/1/")).await;
    assert_eq!((refused.status, refused.body.as_str()), (503, r#"{"Result": "0"}"#));
    let down: BTreeMap<_, _> = flags(&cluster, &[&first, &second]);
    cluster.await_flags(&cluster.facade("/heartbeat/"), &down).await;

    // 4. Both come back.
    let from = [cluster.log(&first).len(), cluster.log(&second).len()];
    cluster.start_all();
    for (name, from) in [&first, &second].into_iter().zip(from) {
        cluster.await_node(name).await;
        cluster.await_log(name, from, "caught up").await;
    }
    await_flags_everywhere(&cluster, &[]).await;
    let now = cluster.http.get(&cluster.facade("/lookup/1/")).await.json();
    assert_eq!(now["Stock"], stock, "what was refused did not happen later");
    buy(&cluster, 1, 5).await;
    expect_everywhere(&cluster, 1, &[]).await;
    expect_round_robin(&cluster, &[]).await;
    cluster.verify().await;
}

/// A request as an old client's library writes it, and the whole reply.
async fn raw(address: &str, method: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: python-requests/2.21.0\r\n\
         Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn an_old_client_works_unchanged_at_the_facade_and_at_every_node() {
    let cluster = Cluster::start(Spec::three()).await;
    let mut addresses = vec![cluster.facade("").trim_start_matches("http://").to_owned()];
    addresses.extend(cluster.seats.iter().map(|seat| seat.api.clone()));
    let mut stock = 5;
    for address in &addresses {
        for slash in ["/", ""] {
            let ask = async |method: &str, path: &str| {
                let (head, body) = raw(address, method, &format!("{path}{slash}")).await;
                assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{path}{slash}: {head}");
                assert!(head.contains("content-type: application/json"), "{path}{slash}: {head}");
                serde_json::from_str::<Value>(&body).unwrap_or_else(|e| panic!("{e}: {body}"))
            };
            // After a purchase elsewhere, a node may be a moment behind.
            let expected = stock.to_string();
            until("the stock is seen", async || {
                (ask("GET", "/lookup/7").await["Stock"] == *expected).then_some(())
            })
            .await;
            assert_eq!(
                ask("GET", "/search/GraduateSchool").await,
                json!({ "items": {
                    "Xen and the Art of Surviving Graduate School": "3",
                    "Cooking for the Impatient Graduate Student": "4",
                }})
            );
            assert_eq!(ask("GET", "/search/Cookery").await, json!({ "items": {} }));
            assert_eq!(ask("GET", "/lookup/99").await, json!({}));
            assert_eq!(ask("GET", "/buy/99").await, json!({}));
            let mut bought = ask("GET", "/buy/7").await;
            match stock {
                0 => assert_eq!(bought, json!({ "Result": "0" })),
                _ => {
                    stock -= 1;
                    let time = bought.as_object_mut().unwrap().remove("Time").unwrap();
                    httpdate::parse_http_date(time.as_str().unwrap()).unwrap();
                    assert_eq!(
                        bought,
                        json!({
                            "ItemNumber": "7", "Title": "Spring in the Pioneer Valley",
                            "Topic": "Misc", "Cost": "12.80", "Stock": stock.to_string(),
                            "Result": "1",
                        })
                    );
                }
            }
            assert_eq!(ask("DELETE", "/invalidate/7").await, json!({ "invalidated": true }));
            // A facade that has just started probes again whom it could not reach at first.
            until("every node is up", async || {
                let flags = ask("GET", "/heartbeat").await;
                (flags == json!({ "node1": 1, "node2": 1, "node3": 1 })).then_some(())
            })
            .await;
        }
        let (head, body) = raw(address, "GET", "/").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(body, "Welcome to Pygmy.com, the world's smallest book store!");
        for (method, path) in
            [("GET", "/sync/"), ("POST", "/update_order/"), ("PUT", "/heartbeat/")]
        {
            let (head, body) = raw(address, method, path).await;
            assert!(head.starts_with("HTTP/1.1 410 Gone\r\n"), "{path}: {head}");
            assert!(body.contains("\"code\":\"replaced\""), "{body}");
        }
    }
    assert_eq!(stock, 0, "five were sold, and then no more");
    let facade = &addresses[0];
    let (_, restocked) = raw(facade, "POST", "/restock/").await;
    assert_eq!(restocked, r#"{"Restocked":true}"#);
    let (_, lookup) = raw(facade, "GET", "/lookup/7/").await;
    assert!(lookup.contains(r#""Stock":"50""#), "{lookup}");
}

#[tokio::test]
async fn what_is_sold_out_comes_back_by_itself_where_the_policy_says_so() {
    let policy = "[policy]\nrestock = true\nrestock_quantity = 50\nrestock_interval_s = 1\n";
    let cluster = Cluster::start(Spec::seed().with_node_sections(policy)).await;
    for _ in 0..3 {
        // Item 7 has five pieces in the catalog, and fifty later on: buy them all at once.
        let left = cluster.http.get(&cluster.facade("/v1/items/7")).await.json()["stock"].clone();
        let all = json!({ "lines": [{ "item": 7, "quantity": left }] });
        let bought = cluster.http.post(&cluster.facade("/v1/orders"), &all, None).await;
        assert_eq!(bought.status, 201, "{bought:?}");
        until("item 7 is back", async || {
            // Through the facade's cache, too: it must hear of what the leader did by itself.
            let lookup = cluster.http.get(&cluster.facade("/lookup/7/")).await.json();
            (lookup["Stock"] == "50").then_some(())
        })
        .await;
    }
    let other = cluster.http.get(&cluster.facade("/v1/items/1")).await.json();
    assert_eq!(other["stock"], 1000, "what is there is left alone");
    cluster.verify().await;
}

//! What an operator types.

use super::*;

fn members(up: bool, leader: Option<&str>, apis: &[&str]) -> Value {
    let rows: Vec<_> = apis
        .iter()
        .enumerate()
        .map(|(place, api)| {
            json!({
                "name": format!("node{}", place + 1), "id": place + 1, "roles": ["catalog", "order"],
                "kind": "voter", "api": api, "peer": "127.0.0.1:9", "up": up || place == 0,
                "last_heard_ms": 12, "applied_index": 99, "lag": null, "version": null,
            })
        })
        .collect();
    json!({"cluster_id": "c-1", "leader": leader, "term": 3, "members": rows})
}

#[tokio::test]
async fn a_cluster_without_a_leader_is_no_success() {
    let mock = Mock::start(|_| Say::json(200, members(true, Some("node2"), &["h:1", "h:2"]))).await;
    let ran = pygmy(&mock.url, &["cluster", "status"]).await;
    assert_eq!(ran.exit, Exit::Ok);
    assert!(ran.out.contains("leader") && ran.out.ends_with("cluster c-1, term 3"), "{}", ran.out);

    let mock = Mock::start(|_| Say::json(200, members(false, None, &["h:1", "h:2", "h:3"]))).await;
    let ran = pygmy(&mock.url, &["cluster", "status"]).await;
    assert_eq!(ran.exit, Exit::Unavailable);
    assert!(ran.out.contains("DOWN"), "{}", ran.out);
    assert!(ran.error.contains("2 of 3 members are down"), "{}", ran.error);
    let ran = pygmy(&mock.url, &["cluster", "status", "--json"]).await;
    assert_eq!((ran.exit, ran.error.as_str()), (Exit::Unavailable, ""));
}

#[tokio::test]
async fn verify_asks_every_member_at_its_own_address() {
    let replica = |name: &'static str, hash: &'static str| {
        Mock::start(move |seen| {
            assert_eq!(seen.line, "GET /v1/verify");
            Say::json(
                200,
                json!({"node": name, "index": 9, "ok": true, "state_hash": hash, "hash_ring": [],
                       "checks": [{"name": "ledger", "ok": true, "detail": "7 items"}]}),
            )
        })
    };
    let address = |mock: &Mock| mock.url.trim_start_matches("http://").to_owned();
    let (a, b, c) =
        (replica("node1", "aa").await, replica("node2", "aa").await, replica("node2", "bb").await);
    let status = |apis: Vec<String>| {
        let body =
            members(true, Some("node1"), &apis.iter().map(String::as_str).collect::<Vec<_>>());
        Mock::start(move |_| Say::json(200, body.clone()))
    };

    let front = status(vec![address(&a), address(&b)]).await;
    let ran = pygmy(&front.url, &["verify"]).await;
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.out);
    assert!(ran.out.ends_with("All 2 replicas are sound and equal at index 9."), "{}", ran.out);

    // Who has joined anew stands there twice for a while, and is one replica all the same.
    let mut twice = members(true, Some("node1"), &[&address(&a), &address(&b)]);
    let mut learner = twice["members"][1].clone();
    learner["id"] = json!(4);
    twice["members"].as_array_mut().expect("a list").push(learner);
    let front = Mock::start(move |_| Say::json(200, twice.clone())).await;
    let ran = pygmy(&front.url, &["verify"]).await;
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.out);

    let front = status(vec![address(&a), address(&c)]).await;
    let ran = pygmy(&front.url, &["verify"]).await;
    assert_eq!(ran.exit, Exit::No);
    assert!(
        ran.out.contains("the replicas differ at index 9: aa on node1; bb on node2"),
        "{}",
        ran.out
    );

    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("binds")
        .local_addr()
        .expect("an address");
    let front = status(vec![address(&a), nobody.to_string()]).await;
    let ran = pygmy(&front.url, &["verify", "--json", "--member-timeout", "1"]).await;
    assert_eq!(ran.exit, Exit::No);
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(report["ok"], false);
    assert!(
        report["members"][1]["error"].as_str().expect("an error").contains("refused"),
        "{report}"
    );
}

#[tokio::test]
async fn wait_ends_with_the_first_linearizable_read_or_with_the_reason() {
    let mock = Mock::script(vec![
        Say::problem(503, "no_leader", None, true),
        Say::json(200, json!({"items": [], "next_cursor": null})),
    ])
    .await;
    let ran = pygmy(&mock.url, &["wait", "--quiet"]).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Ok, ""), "{}", ran.error);
    assert_eq!(mock.seen()[0].headers["pygmy-consistency"], "linearizable");

    let mock = Mock::start(|_| Say::problem(503, "recovering", None, true)).await;
    for line in [
        &["wait", "--timeout", "1", "--quiet"][..],
        &["wait", "--ready", "--timeout", "1", "--quiet"],
    ] {
        let ran = pygmy(&mock.url, line).await;
        assert_eq!(ran.exit, Exit::Unavailable);
        assert!(
            ran.error.contains("did not answer within 1 s: this is recovering"),
            "{}",
            ran.error
        );
    }
}

#[tokio::test]
async fn a_configuration_is_checked_without_starting_anything() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/cluster");
    let run = async |line: Vec<String>| {
        let words = ["pygmy".to_owned()].into_iter().chain(line);
        act(Cli::try_parse_from(words).expect("parses").command).await
    };
    let file = |name: &str| root.join(name).to_str().expect("text").to_owned();
    let flags = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let line = |start: &str, path: String, end: &str| {
        let mut line = flags(start);
        line.push(path);
        line.extend(flags(end));
        line
    };
    let answer = run(line("serve --config", file("node1.toml"), "--check --data /tmp/x"))
        .await
        .expect("fine");
    assert_eq!(answer.text, "the configuration of node node1 is fine");
    let answer = run(line("facade --config", file("facade.toml"), "--check")).await.expect("fine");
    assert_eq!(answer.text, "the configuration of facade facade is fine");
    assert!(run(flags("serve --single --check")).await.is_ok());
    let stop = run(line("serve --config", file("node1.toml"), "--check --set raft.heartbeat_ms=0"))
        .await
        .expect_err("refused");
    assert_eq!(stop.exit, Exit::Usage);
    assert_eq!(
        stop.message,
        "flag --set raft.heartbeat_ms: raft.heartbeat_ms: 0 must be a whole number from 1 to \
        60000 (default 50)"
    );
}

#[tokio::test]
async fn the_policy_is_changed_by_name_and_only_the_one_that_was_seen() {
    let policy = json!({
        "key_retention_hours": 24, "key_limit": 1000, "restock_quantity": 50,
        "restock_interval_s": 30, "change_history": 1000, "price_history": 100,
        "reservation_limit": 100, "reservation_history": 100, "reservation_ttl_max_s": 60,
    });
    let shown = policy.clone();
    let mock = Mock::start(move |seen| match seen.line.as_str() {
        "GET /v1/policy" => Say::json(200, shown.clone()).with("etag", "\"41\""),
        "PUT /v1/policy" => Say::json(200, seen.body.clone()).with("etag", "\"42\""),
        "POST /v1/cluster/maintenance" => Say::json(200, seen.body.clone()),
        other => panic!("{other}"),
    })
    .await;
    let ran = pygmy(&mock.url, &["policy", "show"]).await;
    assert!(ran.out.contains("price_history") && ran.out.ends_with("version 41"), "{}", ran.out);
    let line = ["policy", "set", "price_history=7", "restock_interval_s=never", "--json"];
    let ran = pygmy(&mock.url, &line).await;
    let mut expected = policy;
    expected["price_history"] = json!(7);
    expected["restock_interval_s"] = json!(null);
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), expected);
    let sent = &mock.seen()[2];
    assert_eq!((&sent.body, sent.headers["if-match"].as_str()), (&expected, "\"41\""));
    for wrong in ["colour=1", "key_limit=never"] {
        assert_eq!(pygmy(&mock.url, &["policy", "set", wrong]).await.exit, Exit::Usage, "{wrong}");
    }
    for (word, on) in [("on", true), ("off", false)] {
        let ran = pygmy(&mock.url, &["maintenance", word, "--json"]).await;
        assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), json!({"on": on}));
    }
}

#[tokio::test]
async fn a_measurement_of_nodes_that_are_not_there_is_refused() {
    let nobody = json!({"cluster_id": "", "leader": null, "term": 0, "members": []});
    let mock = Mock::start(move |_| Say::json(200, nobody.clone())).await;
    let ran = pygmy(&mock.url, &["bench", "--direct", "--seconds", "1"]).await;
    assert_eq!(ran.exit, Exit::Unavailable);
    assert!(ran.error.contains("no member that is up"), "{}", ran.error);
}

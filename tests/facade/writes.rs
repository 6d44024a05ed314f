//! Writes through the facade: leader changes, ambiguity, what is retried and what is not.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use http::StatusCode;
use pygmy::api::{WriteOutcome, header};
use pygmy::http::problem::Code;

use crate::mock::{Behaviour, Shop, Store, settings, until};

#[tokio::test]
async fn writes_go_to_the_leader_with_a_key() {
    let store = Store::of_three().await;
    store.elect(Some(2));
    let shop = store.facade(|_| {}).await;
    for _ in 0..3 {
        assert_eq!(shop.order(5).await.status, 201);
        assert_eq!(shop.get("/buy/5/").await.status, 200);
    }
    assert_eq!(store.counts("/"), [0, 0, 6]);
    assert_eq!(store.truth().sales.len(), 6);
    assert_eq!(store.truth().keys.len(), 6, "each has a key of its own");
    // And it says that nobody asked for this key.
    let seen = store.nodes[2].seen_of("/v1/orders");
    assert!(seen.iter().all(|seen| seen.headers[header::KEY_MADE] == "true"));
}

#[tokio::test]
async fn a_write_waits_out_an_election_and_keeps_its_key() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    store.nodes[0].kill().await;
    let bought = shop.spawn_get("/buy/5");
    until("the leader is missed", async || shop.flags().await["n1"] == 0).await;
    store.elect(None);
    until("the others were asked", async || store.counts("/buy")[1..].iter().sum::<usize>() > 0)
        .await;
    store.elect(Some(1));
    assert_eq!(bought.await.unwrap().json()["Result"], "1");
    assert_eq!(store.truth().sales, [5]);
    let mut keys: Vec<_> = store
        .nodes
        .iter()
        .flat_map(|node| node.seen_of("/buy"))
        .map(|seen| seen.headers[header::IDEMPOTENCY_KEY].clone())
        .collect();
    keys.dedup();
    assert_eq!(keys.len(), 1);
}

#[tokio::test]
async fn a_leader_that_applied_and_fell_silent_costs_no_second_sale() {
    let store = Store::of_three().await;
    // No timeout helps here: only the news of another leader ends the first try.
    let shop = store.facade(|_| {}).await;
    store.nodes[0].behave(Behaviour { hold_answer: Some("/buy"), ..Behaviour::default() });
    let bought = shop.spawn_get("/buy/5");
    until("it is sold", async || store.truth().sales.len() == 1).await;
    store.elect(Some(1));
    let got = bought.await.unwrap();
    assert_eq!((got.status, got.node()), (200, "n2"));
    assert_eq!(store.truth().sales, [5]);
}

#[tokio::test]
async fn an_answer_that_is_late_is_asked_for_again_with_the_same_key() {
    let store = Store::of_three().await;
    let shop = store.facade(|settings| settings.attempt_timeout = Duration::from_millis(50)).await;
    store.nodes[0].behave(Behaviour { hold_answer: Some("/v1/orders"), ..Behaviour::default() });
    let ordered = async {
        let got = shop.order(5).await;
        assert_eq!(got.status, 201);
    };
    ordered.await;
    assert_eq!(store.truth().sales, [5]);
}

#[tokio::test]
async fn a_write_finds_its_way_around_a_leader_that_only_we_cannot_reach() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    store.nodes[0].kill().await;
    let got = shop.order(5).await;
    assert_eq!(got.status, 201, "a follower passes it on");
    assert_ne!(got.node(), "n1");
}

#[tokio::test]
async fn at_the_deadline_the_client_is_told_what_is_known() {
    let store = Store::of_three().await;
    let quick = |settings: &mut pygmy::facade::Settings| {
        settings.deadline = Duration::from_secs(1);
        settings.attempt_timeout = Duration::from_millis(300);
    };
    let shop = store.facade(quick).await;
    store.elect(None);
    let got = shop.order(5).await;
    assert_eq!(got.status, 503);
    assert_eq!(got.problem().code, "no_leader");
    assert_eq!(got.problem().outcome, Some(WriteOutcome::NotApplied));
    assert!(got.header("retry-after").is_some());
    let got = shop.get("/buy/5/").await;
    assert_eq!((got.status, &got.body[..]), (503, &br#"{"Result": "0"}"#[..]));
    assert_eq!(got.header(header::OUTCOME), Some("not_applied"));
    assert!(store.truth().sales.is_empty());

    store.elect(Some(0));
    for node in &store.nodes {
        node.behave(Behaviour { hold_answer: Some("/"), ..Behaviour::default() });
    }
    let got = shop.order(5).await;
    assert_eq!((got.status, got.problem().code.as_str()), (504, "timeout"));
    assert_eq!(got.problem().outcome, Some(WriteOutcome::Unknown));
    let key = got.header(header::IDEMPOTENCY_KEY).unwrap().to_owned();
    assert!(store.truth().keys.contains_key(&key), "the client can find out with this key");
    // "Result": "0" would be a lie here.
    let got = shop.get("/buy/5/").await;
    assert_eq!(got.problem().outcome, Some(WriteOutcome::Unknown));
    assert_eq!(store.truth().sales, [5, 5]);
}

#[tokio::test]
async fn answers_of_the_store_are_never_asked_for_again() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    for (n, code) in [Code::OutOfStock, Code::Invalid, Code::RateLimited, Code::VersionMismatch]
        .into_iter()
        .enumerate()
    {
        store.nodes[0]
            .behave(Behaviour { fail: Some(("/v1/orders", code, None)), ..Behaviour::default() });
        assert_eq!(shop.order(5).await.problem().code, code.as_str());
        assert_eq!(store.counts("/v1/orders"), [n + 1, 0, 0]);
    }
}

#[tokio::test]
async fn passing_troubles_are_retried() {
    let not_applied = Some(WriteOutcome::NotApplied);
    for (code, outcome) in [
        (Code::NoLeader, not_applied),
        (Code::LeadershipLost, Some(WriteOutcome::Unknown)),
        (Code::ShuttingDown, not_applied),
        (Code::Recovering, not_applied),
        (Code::Overloaded, not_applied),
        (Code::Timeout, Some(WriteOutcome::Unknown)),
        (Code::Internal, None),
    ] {
        let store = Store::of_three().await;
        let shop = store.facade(|_| {}).await;
        let fail = Some(("/v1/orders", code, outcome));
        store.nodes[0].behave(Behaviour { fail, fail_times: Some(1), ..Behaviour::default() });
        assert_eq!(shop.order(5).await.status, 201, "{code:?}");
        assert_eq!(store.truth().sales, [5]);
    }
}

#[tokio::test]
async fn an_error_that_goes_on_is_passed_back_as_unknown() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    for node in &store.nodes {
        let fail = Some(("/", Code::Internal, None));
        node.behave(Behaviour { fail, ..Behaviour::default() });
    }
    let got = shop.order(5).await;
    assert_eq!((got.status, got.problem().outcome), (500, Some(WriteOutcome::Unknown)));
    assert_eq!(store.counts("/v1/orders").iter().sum::<usize>(), 3);
    assert_eq!(shop.get("/v1/items").await.problem().code, "internal");
    assert_eq!(store.counts("/v1/items"), [1, 1, 1]);
    assert_eq!(shop.flags().await.values().sum::<u8>(), 3, "they are well, the request is not");
}

#[tokio::test]
async fn overload_that_goes_on_is_passed_back() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    let fail = Some(("/v1/orders", Code::Overloaded, Some(WriteOutcome::NotApplied)));
    store.nodes[0].behave(Behaviour { fail, ..Behaviour::default() });
    let got = shop.order(5).await;
    assert_eq!(got.problem().outcome, Some(WriteOutcome::NotApplied));
    assert_eq!(store.counts("/v1/orders"), [2, 0, 0]);
}

#[tokio::test]
async fn maintenance_is_passed_back_at_once_and_doubt_is_admitted() {
    let store = Store::of_three().await;
    let shop = store.facade(|_| {}).await;
    let fail = Some(("/v1/orders", Code::Maintenance, Some(WriteOutcome::NotApplied)));
    for node in &store.nodes {
        node.behave(Behaviour { fail, ..Behaviour::default() });
    }
    assert_eq!(shop.order(5).await.problem().outcome, Some(WriteOutcome::NotApplied));
    assert_eq!(store.counts("/v1/orders"), [1, 0, 0]);
    // The first try may have been done: the refusal of the second does not undo it.
    let shop = store.facade(|settings| settings.attempt_timeout = Duration::from_millis(50)).await;
    store.nodes[0].behave(Behaviour { hold: Some("/v1/orders"), ..Behaviour::default() });
    let got = shop.order(5).await;
    assert_eq!((got.status, got.problem().code.as_str()), (503, "maintenance"));
    assert_eq!(got.problem().outcome, Some(WriteOutcome::Unknown));
}

#[tokio::test]
async fn writes_that_no_key_protects_are_tried_once() {
    let store = Store::of_three().await;
    let shop = store.facade(|settings| settings.deadline = Duration::from_millis(300)).await;
    store.nodes[0].behave(Behaviour { hold_answer: Some("/v1/cluster/"), ..Behaviour::default() });
    let request = Request::post("/v1/cluster/members").body(Body::empty()).unwrap();
    let got = shop.send(request).await;
    assert_eq!((got.status, got.problem().outcome), (504, Some(WriteOutcome::Unknown)));
    assert_eq!(got.header(header::IDEMPOTENCY_KEY), None);
    assert_eq!(store.counts("/v1/cluster/members"), [1, 0, 0]);
}

#[tokio::test]
async fn buying_by_get_can_be_switched_off() {
    let store = Store::of_three().await;
    let shop = store.facade(|settings| settings.legacy_get_buy = false).await;
    let got = shop.get("/buy/5").await;
    assert_eq!((got.status, got.problem().code.as_str()), (410, "replaced"));
    assert!(store.truth().sales.is_empty());
}

#[tokio::test]
async fn a_node_that_answers_as_the_seed_did_is_understood() {
    // A node of the original's kind has nothing to say but this.
    let app = axum::Router::new().route(
        "/buy/{item}",
        axum::routing::get(|| async { (StatusCode::SERVICE_UNAVAILABLE, r#"{"Result": "0"}"#) }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut lone = settings(vec![listener.local_addr().unwrap().to_string()]);
    lone.deadline = Duration::from_secs(1);
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let got = Shop::start(lone).get("/buy/5").await;
    assert_eq!((got.status, &got.body[..]), (503, &br#"{"Result": "0"}"#[..]));
    serving.abort();
}

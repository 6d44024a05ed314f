//! The client against stores that misbehave on purpose.

use std::time::Instant;

use futures_util::StreamExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::mock::{Mock, Say, item, order};
use super::*;
use crate::api::{
    ChangeStock, NewBatchOrder, NewOrder, NewOrderBatch, NewOrderLine, OrderResultStatus, PutItem,
};

fn quick() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(1),
        attempt: Duration::from_secs(2),
        total: Duration::from_millis(300),
        nobody_there: Duration::from_millis(100),
    }
}

fn patient() -> Timeouts {
    Timeouts::within(Duration::from_secs(20))
}

fn one(item: u64) -> NewOrder {
    NewOrder {
        lines: vec![NewOrderLine { item, quantity: 1, expected_price_cents: None }],
        customer: None,
        reference: None,
    }
}

async fn client(mock: &Mock, timeouts: Timeouts) -> Client {
    Client::with_timeouts(&mock.url, timeouts).expect("a valid address")
}

#[tokio::test]
async fn one_key_is_kept_over_all_tries_of_a_write() {
    let mock = Mock::script(vec![
        Say::problem(503, "no_leader", Some("not_applied"), true).with("retry-after", 0),
        Say::problem(504, "timeout", Some("unknown"), true),
        Say::problem(503, "leadership_lost", Some("unknown"), true),
        Say::json(201, order(7, 2)),
    ])
    .await;
    let placed =
        client(&mock, patient()).await.place_order(&one(2)).await.expect("placed in the end");
    assert_eq!(placed.id, 7);
    let seen = mock.seen();
    assert_eq!(seen.len(), 4);
    let keys: Vec<_> =
        seen.iter().map(|request| request.headers["idempotency-key"].clone()).collect();
    assert!(keys.iter().all(|key| *key == keys[0] && key.len() == 32), "{keys:?}");
    assert_eq!(seen[3].line, "POST /v1/orders");
    assert_eq!(seen[3].body, json!({"lines": [{"item": 2, "quantity": 1}]}));

    let again = client(&mock, patient()).await.place_order(&one(2)).await.expect("placed");
    assert_eq!(again.id, 7);
    assert_ne!(mock.seen()[4].headers["idempotency-key"], keys[0], "another call has another key");
}

#[tokio::test]
async fn a_batch_is_one_call_and_its_orders_own_keys_count_before_the_calls() {
    let placed = json!({"status": "placed", "replayed": false, "order": order(1, 2)});
    let refused = Say::problem(409, "out_of_stock", Some("not_applied"), false);
    let mock = Mock::script(vec![
        Say::problem(504, "timeout", Some("unknown"), true),
        Say::json(200, json!({"results": [placed, {"status": "not_applied", "replayed": false}]})),
        refused,
    ])
    .await;
    let plain = |key: Option<&str>| NewBatchOrder {
        lines: one(2).lines,
        customer: None,
        reference: None,
        idempotency_key: key.map(str::to_owned),
    };
    let store = client(&mock, patient()).await;
    let batch = NewOrderBatch { atomic: true, orders: vec![plain(None), plain(None)] };
    let results = store.place_orders(&batch).await.expect("answered").results;
    assert_eq!(results[0].order.as_ref().map(|order| order.id), Some(1));
    assert_eq!(results[1].status, OrderResultStatus::NotApplied);
    let seen = mock.seen();
    assert_eq!(seen[1].line, "POST /v1/orders/batch");
    let lines = json!([{"item": 2, "quantity": 1}]);
    assert_eq!(
        seen[1].body,
        json!({"atomic": true, "orders": [{"lines": lines}, {"lines": lines}]})
    );
    assert_eq!(seen[0].headers["idempotency-key"], seen[1].headers["idempotency-key"]);
    assert!(!seen[1].headers.contains_key(header::KEY_MADE));

    let batch = NewOrderBatch { atomic: false, orders: vec![plain(Some("a")), plain(Some("b"))] };
    let error = store.place_orders_with_key(&batch, "mine").await.expect_err("refused");
    assert!(matches!(error, ClientError::Refused(_)), "{error:?}");
    let seen = mock.seen().pop().expect("it was sent");
    assert_eq!(seen.headers[header::KEY_MADE], "true");
    assert_eq!(seen.body["orders"][1]["idempotency_key"], "b");
}

#[tokio::test]
async fn a_refusal_is_final_and_keeps_its_problem() {
    let more = json!({"item": 2, "requested": 1, "available": 0});
    let mock = Mock::script(vec![Say::problem_with(
        409,
        "out_of_stock",
        Some("not_applied"),
        false,
        more,
    )])
    .await;
    let error = client(&mock, patient()).await.place_order(&one(2)).await.expect_err("refused");
    let ClientError::Refused(problem) = &error else { panic!("{error:?}") };
    assert_eq!((problem.code.as_str(), problem.available), ("out_of_stock", Some(0)));
    assert_eq!(error.to_string(), "this is out_of_stock");
    assert_eq!(mock.seen().len(), 1);
}

#[tokio::test]
async fn a_write_that_was_never_applied_is_unavailable_and_not_unknown() {
    let mock = Mock::script(vec![Say::problem(503, "no_leader", Some("not_applied"), true)]).await;
    let error = client(&mock, quick()).await.place_order(&one(2)).await.expect_err("gives up");
    assert!(matches!(error, ClientError::Unavailable { attempts: 2.., .. }), "{error:?}");
    assert_eq!(error.problem().map(|problem| problem.code.as_str()), Some("no_leader"));
}

#[tokio::test]
async fn one_ambiguous_try_makes_the_outcome_unknown_until_the_log_answers() {
    for end in [
        Say::problem(503, "no_leader", Some("not_applied"), true),
        Say::problem(400, "malformed", Some("not_applied"), false),
        Say::problem(500, "internal", None, false),
        Say::text(404, "nothing here"),
        Say::text(200, "<html>"),
    ] {
        let mock =
            Mock::script(vec![Say::problem(504, "timeout", Some("unknown"), true), end.clone()])
                .await;
        let error = client(&mock, quick()).await.place_order(&one(2)).await.expect_err("gives up");
        let ClientError::OutcomeUnknown { key, .. } = &error else { panic!("{end:?}: {error:?}") };
        assert_eq!(*key, mock.seen()[0].headers["idempotency-key"]);
        assert!(error.to_string().contains(key.as_str()), "{error}");
    }
    let mock = Mock::script(vec![
        Say::problem(504, "timeout", Some("unknown"), true),
        Say::problem(409, "out_of_stock", Some("not_applied"), false),
    ])
    .await;
    let error = client(&mock, patient()).await.place_order(&one(2)).await.expect_err("refused");
    assert!(
        matches!(error, ClientError::Refused(_)),
        "the log answered under the same key: {error:?}"
    );
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_reply_is_ambiguous_and_tried_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let url = listener.local_addr().expect("has an address").to_string();
    let server = tokio::spawn(async move {
        let mut requests = Vec::new();
        for reply in [None, Some(order(9, 2).to_string())] {
            let (mut socket, _) = listener.accept().await.expect("accepts");
            let mut bytes = vec![0; 4096];
            let mut request = String::new();
            while !request.ends_with('}') {
                let count = socket.read(&mut bytes).await.expect("reads");
                assert_ne!(count, 0, "the request ended early: {request:?}");
                request.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
            requests.push(request);
            if let Some(body) = reply {
                let head =
                    format!("HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n", body.len());
                socket.write_all((head + &body).as_bytes()).await.expect("writes");
            }
        }
        requests
    });
    let store = Client::with_timeouts(&url, patient()).expect("an address without http:// is fine");
    assert_eq!(store.place_order(&one(2)).await.expect("placed").id, 9);
    let requests = server.await.expect("the server ends");
    let key = |request: &str| {
        request
            .lines()
            .find(|line| line.starts_with("idempotency-key"))
            .map(str::to_owned)
            .expect("has a key")
    };
    assert_eq!(key(&requests[0]), key(&requests[1]));
}

#[tokio::test]
async fn nobody_at_the_address_is_said_soon() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("binds")
        .local_addr()
        .expect("an address");
    let timeouts = Timeouts { total: Duration::from_secs(60), ..quick() };
    let store = Client::with_timeouts(&free.to_string(), timeouts).expect("valid");
    let begun = Instant::now();
    let error = store.place_order(&one(1)).await.expect_err("nobody is there");
    assert!(matches!(error, ClientError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("onnection refused"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30), "took {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_session_reads_at_least_what_it_has_seen() {
    let mock = Mock::start(|seen| match seen.line.as_str() {
        "POST /v1/orders" => Say::json(201, order(1, 2)).with("pygmy-index", 77),
        "GET /v1/orders/1" => Say::json(200, order(1, 2)).with("pygmy-index", 70),
        "GET /search/Misc/" => Say::json(200, json!({"items": {"RPCs for Dummies": "2"}})),
        other => panic!("{other}"),
    })
    .await;
    let store = client(&mock, patient()).await.with_consistency(Consistency::Session);
    store.place_order(&one(2)).await.expect("placed");
    store.order(1).await.expect("found");
    store.search("Misc").await.expect("found");
    assert_eq!(store.session_index(), 77, "an older reply does not turn the session back");
    let seen = mock.seen();
    assert_eq!(seen[1].headers["pygmy-consistency"], "session");
    assert_eq!(seen[1].headers["pygmy-min-index"], "77");
    assert_eq!(seen[2].headers["pygmy-min-index"], "77");
}

#[tokio::test]
async fn queries_paths_and_preconditions_are_written_as_the_interface_wants() {
    let mock = Mock::start(|seen| match seen.line.split(['?', ' ']).nth(1) {
        Some("/v1/items") => {
            Say::json(200, json!({"items": [item(1, "A", 3)], "next_cursor": "c"}))
        }
        Some("/v1/orders") => Say::json(200, json!({"orders": [], "next_cursor": null})),
        Some("/v1/items/4/ledger") => {
            let row = json!({"delta": -2, "reason": "sold", "order": 7, "index": 9, "at": "now"});
            Say::json(200, json!({"rows": [row], "next_cursor": "l1-2"}))
        }
        _ => Say::json(200, item(4, "A", 3)),
    })
    .await;
    let store = client(&mock, patient()).await;
    let query = ItemQuery {
        topic: Some("R & D".into()),
        q: Some("a+ é".into()),
        in_stock: Some(true),
        sort: Some("-price".into()),
        limit: Some(2),
        cursor: Some("a/b".into()),
    };
    assert_eq!(store.items(&query).await.expect("lists").next_cursor.as_deref(), Some("c"));
    store.orders(&OrderQuery { limit: Some(5), ..OrderQuery::default() }).await.expect("lists");
    let put = PutItem { title: "A".into(), topic: "T".into(), price_cents: 1, stock: None };
    store.put_item(4, &put, Precondition::Absent).await.expect("creates");
    let change =
        ChangeStock { delta: Some(-2), set: None, reason: "damaged".into(), reference: None };
    store.change_stock(4, &change, Precondition::Version(9)).await.expect("changes");
    let seen = mock.seen();
    assert_eq!(
        seen[0].line,
        "GET /v1/items?topic=R+%26+D&q=a%2B+%C3%A9&in_stock=true&sort=-price&limit=2&cursor=a%2Fb"
    );
    assert_eq!(seen[1].line, "GET /v1/orders?limit=5");
    assert_eq!(
        (seen[2].line.as_str(), seen[2].headers["if-none-match"].as_str()),
        ("PUT /v1/items/4", "*")
    );
    assert_eq!(seen[2].body, json!({"title": "A", "topic": "T", "price_cents": 1}));
    assert_eq!(
        (seen[3].line.as_str(), seen[3].headers["if-match"].as_str()),
        ("POST /v1/items/4/stock", "\"9\"")
    );
    assert_eq!(seen[3].body, json!({"delta": -2, "reason": "damaged"}));

    let query = OrderQuery {
        item: Some(5),
        customer: Some("Ada & Co".into()),
        status: Some("placed".into()),
        from: Some("2025-01-01T00:00:00Z".into()),
        to: Some("2025-02-01T00:00:00+01:00".into()),
        ..OrderQuery::default()
    };
    store.orders(&query).await.expect("lists");
    let query = LedgerQuery { limit: Some(3), cursor: Some("l5-6".into()) };
    let page = store.ledger(4, &query).await.expect("lists");
    assert_eq!((page.rows[0].delta, page.rows[0].order), (-2, Some(7)));
    assert_eq!(page.next_cursor.as_deref(), Some("l1-2"));
    let seen = mock.seen();
    assert_eq!(
        seen[4].line,
        "GET /v1/orders?item=5&customer=Ada+%26+Co&status=placed&from=2025-01-01T00%3A00%3A00Z\
        &to=2025-02-01T00%3A00%3A00%2B01%3A00"
    );
    assert_eq!(seen[5].line, "GET /v1/items/4/ledger?limit=3&cursor=l5-6");
}

#[tokio::test]
async fn the_originals_endpoints_are_understood() {
    let fields = json!({
        "ItemNumber": "5", "Title": "How to finish Project 3 on \
        time", "Topic": "DistributedSystems",
        "Cost": "9.99", "Stock": "4", "Time": "Wed, 24 Apr 2019 22:43:09 GMT",
    });
    let mut bought = fields.clone();
    bought["Result"] = "1".into();
    let mock = Mock::start(move |seen| match seen.line.as_str() {
        "GET /lookup/5/" => Say::json(200, fields.clone()),
        "GET /buy/5/" => Say::json(200, bought.clone()),
        "GET /buy/6/" => Say::json(200, json!({"Result": "0"})),
        "GET /search/R%20&%20D%2F/" => Say::json(200, json!({"items": {}})),
        "GET /heartbeat/" => Say::json(200, json!({"catalog1": 1, "order2": 0})),
        _ => Say::json(200, json!({})),
    })
    .await;
    let store = client(&mock, patient()).await;
    assert_eq!(store.lookup(5).await.expect("answers").expect("is there").stock, "4");
    assert_eq!(store.lookup(8).await.expect("answers"), None);
    assert!(matches!(store.buy(5).await, Ok(Purchase::Bought(item)) if item.item_number == "5"));
    assert_eq!(store.buy(6).await.expect("answers"), Purchase::OutOfStock);
    assert_eq!(store.buy(8).await.expect("answers"), Purchase::NoSuchItem);
    assert!(store.search("R & D/").await.expect("answers").is_empty());
    assert_eq!(store.heartbeat().await.expect("answers")["order2"], 0);
}

#[tokio::test]
async fn an_original_purchase_tells_not_bought_from_not_known() {
    let away = || Say::json(503, json!({"Result": "0"}));
    let mock = Mock::script(vec![away().with("pygmy-outcome", "not_applied")]).await;
    let error = client(&mock, quick()).await.buy(5).await.expect_err("gives up");
    assert!(matches!(error, ClientError::Unavailable { attempts: 2.., .. }), "{error:?}");
    let mock = Mock::script(vec![away()]).await;
    let error = client(&mock, quick()).await.buy(5).await.expect_err("gives up");
    assert!(matches!(error, ClientError::OutcomeUnknown { .. }), "{error:?}");
    let keys: Vec<_> =
        mock.seen().iter().map(|seen| seen.headers["idempotency-key"].clone()).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test]
async fn a_read_waits_out_an_election_and_a_stranger_is_recognized() {
    let mock = Mock::script(vec![
        Say::problem(503, "no_leader", None, true),
        Say::text(502, "bad gateway"),
        Say::json(200, item(1, "A", 1)),
    ])
    .await;
    assert_eq!(client(&mock, patient()).await.item(1).await.expect("found").id, 1);

    for say in [Say::text(200, "<html>"), Say::text(404, "no such page"), Say::text(302, "")] {
        let mock = Mock::script(vec![say]).await;
        let error = client(&mock, patient()).await.item(1).await.expect_err("no store");
        assert!(matches!(error, ClientError::Unexpected { .. }), "{error:?}");
        assert_eq!(mock.seen().len(), 1);
        assert!(error.to_string().contains("check the address"), "{error}");
    }
}

#[tokio::test]
async fn probes_tell_ready_from_not_ready() {
    let mock = Mock::start(|seen| match seen.line.as_str() {
        "GET /readyz" => Say::json(200, json!({"ok": true})),
        _ => Say::problem(503, "no_leader", None, true),
    })
    .await;
    let store = client(&mock, patient()).await;
    assert!(store.ready().await.expect("answers").ready);
    let cluster = store.cluster_ready().await.expect("answers");
    assert_eq!((cluster.ready, cluster.detail.as_str()), (false, "this is no_leader"));
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_at_once() {
    for (url, what) in [
        ("https://x", "speaks http"),
        ("ftp://x", "speaks http"),
        ("http://", "empty host"),
        ("", ""),
    ] {
        let error = Client::new(url).expect_err("refused");
        assert!(error.to_string().contains(what), "{url:?}: {error}");
    }
    let store = Client::new("http://127.0.0.1:1/").expect("valid");
    assert_eq!(store.url(), "http://127.0.0.1:1");
    for key in ["", "a b", "ä", &"x".repeat(256)] {
        let error = store.place_order_with_key(&one(1), key).await.expect_err("refused");
        assert!(matches!(error, ClientError::Key), "{key:?}: {error:?}");
    }
}

fn feed(text: &str) -> Say {
    Say::text(200, text).with("content-type", "text/event-stream")
}

#[tokio::test]
async fn a_feed_goes_on_behind_the_last_whole_event() {
    let change = |index: u64, kind: &str, id: u64| json!({"index": index, "kind": kind, "id": id, "what": "changed"});
    let sale = json!([change(7, "item", 2), change(7, "order", 1)]);
    let next = json!([change(8, "item", 2)]);
    let mock = Mock::script(vec![
        // It breaks off within an event.
        feed(&format!(":\nid: 5\n\nid: 7\ndata: {sale}\n\nid: 8\ndata: {next}\n")),
        Say::problem(503, "shutting_down", None, true),
        feed(&format!(":\nid: 7\n\nid: 8\ndata: {next}\n\n:\nid: 9\n\n")),
        Say::problem(410, "history_gone", None, false),
    ])
    .await;
    let store = client(&mock, patient()).await;
    let mut changes = store.follow(None, &["item", "order"]);
    let mut heard = Vec::new();
    let mut positions = Vec::new();
    let refused = loop {
        match changes.next().await.expect("not the end") {
            Ok(change) => {
                heard.push((change.index, change.kind));
                positions.push(changes.position());
            }
            Err(error) => break error,
        }
    };
    let heard: Vec<_> = heard.iter().map(|(index, kind)| (*index, kind.as_str())).collect();
    assert_eq!(heard, [(7, "item"), (7, "order"), (8, "item")]);
    // Between the changes of one index nobody can go on later.
    assert_eq!(positions, [Some(5), Some(7), Some(8)]);
    assert_eq!(changes.position(), Some(9));
    assert!(
        matches!(&refused, ClientError::Refused(problem) if problem.status == 410),
        "{refused:?}"
    );
    assert!(changes.next().await.is_none());
    assert_eq!(store.session_index(), 9, "a read after a change sees it");
    let seen = mock.seen();
    assert!(seen.iter().all(|seen| seen.line == "GET /v1/changes?kinds=item%2Corder"), "{seen:?}");
    assert!(seen.iter().all(|seen| seen.headers["accept"] == "text/event-stream"), "{seen:?}");
    assert!(seen.iter().all(|seen| seen.headers["accept-encoding"] == "gzip"), "{seen:?}");
    let from: Vec<_> =
        seen.iter().map(|seen| seen.headers.get("last-event-id").map(String::as_str)).collect();
    assert_eq!(from, [None, Some("7"), Some("7"), Some("9")]);
}

#[tokio::test]
async fn a_feed_ends_with_what_the_store_says_or_when_there_is_none() {
    let gone = json!({
        "type": "about:blank#history_gone", "title": "History gone", "status": 410,
        "detail": "gone", "code": "history_gone", "retryable": false, "oldest_after": 40,
    });
    let mock = Mock::script(vec![feed(&format!("event: error\ndata: {gone}\n\n"))]).await;
    let mut changes = client(&mock, patient()).await.follow(Some(3), &[]);
    let error = changes.next().await.expect("an error").expect_err("an error");
    assert_eq!(error.problem().and_then(|problem| problem.oldest_after), Some(40), "{error:?}");
    assert!(changes.next().await.is_none());
    assert_eq!(changes.position(), Some(3));

    let mock = Mock::script(vec![Say::json(200, json!({"changes": [], "next_after": 1}))]).await;
    let mut changes = client(&mock, patient()).await.follow(None, &[]);
    let error = changes.next().await.expect("an error").expect_err("an error");
    assert!(matches!(error, ClientError::Unexpected { .. }), "{error:?}");

    let nobody = Client::with_timeouts("127.0.0.1:1", quick()).expect("a valid address");
    let mut changes = nobody.follow(None, &[]);
    let error = changes.next().await.expect("an error").expect_err("an error");
    assert!(matches!(error, ClientError::Unavailable { .. }), "{error:?}");
    assert!(changes.next().await.is_none());
}

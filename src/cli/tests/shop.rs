//! What a shop types.

use super::*;

#[tokio::test]
async fn reading_commands_print_tables_or_one_line_of_json() {
    let mock = Mock::start(|seen| match seen.line.as_str() {
        "GET /search/Misc/" => Say::json(200, json!({"items": {"Spring": "10", "Theory": "6"}})),
        "GET /lookup/5/" => Say::json(
            200,
            json!({"ItemNumber": "5", "Title": "T", "Topic": "Misc", "Cost": "9.99", "Stock": "4", "Time": "now"}),
        ),
        "GET /v1/items?topic=Misc&limit=1" => Say::json(200, json!({"items": [item(6, "Theory", 9)], "next_cursor": "abc"})),
        "GET /v1/items?q=the+ory&in_stock=true&sort=-price&limit=100" => Say::json(200, json!({"items": [item(6, "Theory", 9)], "next_cursor": null})),
        "GET /v1/orders?limit=100" => Say::json(200, json!({"orders": [order(1, 2)], "next_cursor": null})),
        "GET /v1/orders/1" => Say::json(200, order(1, 2)),
        "GET /v1/orders?item=2&customer=ada&status=placed&from=2025-01-31T09%3A30%3A00Z&to=2025-02-01T00%3A00%3A00Z&limit=100" => {
            Say::json(200, json!({"orders": [order(1, 2)], "next_cursor": "o1"}))
        }
        "GET /v1/items/2/ledger?limit=2&cursor=l1-2" => Say::json(200, json!({"rows": [
            {"delta": -3, "reason": "sold", "order": 71, "index": 9, "at": "2025-01-31T09:30:00Z"},
            {"delta": 5, "reason": "received", "reference": "d-1", "index": 8, "at": "2025-01-31T09:29:00Z"},
        ], "next_cursor": "l0-1"})),
        "GET /v1/items/6" => Say::json(200, item(6, "Theory", 9)),
        "GET /v1/topics" => Say::json(200, json!({"topics": [{"topic": "Misc", "items": 12}]})),
        other => panic!("{other}"),
    })
    .await;
    let url = &mock.url;

    let filtered = [
        "orders",
        "--item",
        "2",
        "--customer",
        "ada",
        "--status",
        "placed",
        "--from",
        "2025-01-31T10:30:00+01:00",
        "--to",
        "2025-02-01T00:00:00Z",
    ];
    let ran = pygmy(url, &filtered).await;
    assert!(ran.out.contains("RPCs for Dummies"), "{}", ran.out);
    assert_eq!(ran.error, "There are more: go on with --cursor o1");

    let line = ["ledger", "2", "--limit", "2", "--cursor", "l1-2"];
    let ran = pygmy(url, &line).await;
    assert_eq!(ran.exit, Exit::Ok);
    for told in ["-3", "sold", "71", "+5", "received", "d-1", "2025-01-31T09:30:00Z"] {
        assert!(ran.out.contains(told), "{told} in {}", ran.out);
    }
    assert_eq!(ran.error, "There are more: go on with --cursor l0-1");
    let ran = pygmy(url, &[&line[..], &["--json"]].concat()).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).expect("JSON")["rows"][1]["delta"], 5);

    let ran = pygmy(url, &["search", "Misc"]).await;
    assert_eq!(ran.exit, Exit::Ok);
    assert!(ran.out.find("Theory") < ran.out.find("Spring"), "by number: {}", ran.out);
    let ran = pygmy(url, &["search", "Misc", "--json"]).await;
    assert_eq!(ran.out, r#"{"items":{"Spring":"10","Theory":"6"}}"#);

    let ran = pygmy(url, &["lookup", "5"]).await;
    assert!(ran.out.contains("9.99"), "{}", ran.out);
    let ran = pygmy(url, &["lookup", "5", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).expect("JSON")["Stock"], "4");

    let ran = pygmy(url, &["items", "--topic", "Misc", "--limit", "1"]).await;
    assert!(ran.out.contains("Theory") && ran.out.contains("19.99"), "{}", ran.out);
    assert_eq!(ran.error, "There are more: go on with --cursor abc");
    let ran = pygmy(url, &["items", "--topic", "Misc", "--limit", "1", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).expect("JSON")["next_cursor"], "abc");

    let ran = pygmy(url, &["item", "6"]).await;
    for word in ["Theory", "19.99", "46", "2025-01-02T03:04:05Z"] {
        assert!(ran.out.contains(word), "{word}: {}", ran.out);
    }
    let ran = pygmy(url, &["item", "6", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).expect("JSON"), item(6, "Theory", 9));
    let ran = pygmy(url, &["topics"]).await;
    assert!(ran.out.contains("Misc") && ran.out.contains("12"), "{}", ran.out);
    let ran = pygmy(url, &["topics", "--json"]).await;
    assert_eq!(ran.out, r#"{"topics":[{"topic":"Misc","items":12}]}"#);
    let search = ["items", "--q", "the ory", "--in-stock", "--sort", "-price"];
    let ran = pygmy(url, &search).await;
    assert!(ran.out.contains("Theory") && ran.error.is_empty(), "{} {}", ran.out, ran.error);

    for line in [&["orders"][..], &["order", "1"]] {
        let ran = pygmy(url, line).await;
        assert!(ran.out.contains("RPCs for Dummies") && ran.out.contains("placed"), "{}", ran.out);
        assert_eq!((ran.exit, ran.out.contains('\u{1b}')), (Exit::Ok, false));
    }
}

#[tokio::test]
async fn writing_commands_send_what_was_typed() {
    let mock = Mock::start(|seen| match seen.line.as_str() {
        "POST /v1/orders" => Say::json(201, order(12, 5)),
        _ => Say::json(200, item(8, "T", 40)),
    })
    .await;
    let url = &mock.url;
    let buy =
        ["buy", "5", "--quantity", "2", "--customer", "ada", "--reference", "r", "--key", "k-1"];
    assert_eq!(pygmy(url, &buy).await.exit, Exit::Ok);
    let ran = pygmy(url, &["buy", "5", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).expect("JSON")["id"], 12);
    let put = [
        "put-item",
        "8",
        "--title",
        "T",
        "--topic",
        "Misc",
        "--price",
        "12.5",
        "--if-version",
        "97",
    ];
    assert_eq!(pygmy(url, &put).await.exit, Exit::Ok);
    assert_eq!(
        pygmy(url, &["stock", "8", "--delta", "-3", "--reason", "damaged"]).await.exit,
        Exit::Ok
    );
    let seen = mock.seen();
    assert_eq!(seen[0].headers["idempotency-key"], "k-1");
    assert_eq!(
        seen[0].body,
        json!({"lines": [{"item": 5, "quantity": 2}], "customer": "ada", "reference": "r"})
    );
    assert_eq!(seen[2].headers["if-match"], "\"97\"");
    assert_eq!(seen[2].body, json!({"title": "T", "topic": "Misc", "price_cents": 1250}));
    assert_eq!(seen[3].body, json!({"delta": -3, "reason": "damaged"}));
}

#[tokio::test]
async fn a_batch_is_read_from_a_file_and_every_order_is_told() {
    let mock = Mock::start(|seen| {
        assert_eq!(seen.line, "POST /v1/orders/batch");
        let placed = json!({"status": "placed", "replayed": false, "order": order(1, 2)});
        let problem = json!({
            "type": "about:blank#out_of_stock", "title": "Out of stock", "status": 409,
            "detail": "item 2: 1 wanted, 0 there.", "code": "out_of_stock", "retryable": false,
        });
        let refused = json!({"status": "refused", "replayed": false, "problem": problem});
        let other = json!({"status": "not_applied", "replayed": false});
        match seen.body["atomic"].as_bool() {
            Some(true) => Say::json(200, json!({"results": [other, refused]})),
            _ if seen.body["orders"].as_array().map(Vec::len) == Some(1) => {
                Say::json(200, json!({"results": [placed]}))
            }
            _ => Say::json(200, json!({"results": [placed, refused]})),
        }
    })
    .await;
    let line = r#"{"lines":[{"item":2,"quantity":1}]}"#;
    let mut two = tempfile::NamedTempFile::new().expect("a file");
    writeln!(two, "{line}\n{line}").expect("is written");
    let mut one = tempfile::NamedTempFile::new().expect("a file");
    writeln!(one, "[{line}]").expect("is written");
    let (two, one) = (two.path().to_str().expect("text"), one.path().to_str().expect("text"));

    let ran = pygmy(&mock.url, &["order-batch", one]).await;
    assert_eq!((ran.exit, ran.error.as_str()), (Exit::Ok, ""));
    assert!(ran.out.contains("placed") && ran.out.contains("19.99"), "{}", ran.out);
    let ran = pygmy(&mock.url, &["order-batch", two]).await;
    assert_eq!((ran.exit, ran.error.as_str()), (Exit::No, "1 of 2 orders were placed."));
    assert!(ran.out.contains("item 2: 1 wanted, 0 there."), "{}", ran.out);
    let ran = pygmy(&mock.url, &["order-batch", two, "--atomic"]).await;
    assert!(ran.error.starts_with("Nothing new was placed"), "{}", ran.error);
    assert!(ran.out.contains("not applied"), "{}", ran.out);
    let ran = pygmy(&mock.url, &["order-batch", two, "--json"]).await;
    assert_eq!(ran.exit, Exit::No);
    let told: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(told["results"][1]["problem"]["code"], "out_of_stock");
    let ran = pygmy(&mock.url, &["order-batch", "no such file"]).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.error.contains("no such file: cannot be read"), "{}", ran.error);
}

#[tokio::test]
async fn items_are_created_patched_and_deleted() {
    let mock = Mock::start(|seen| match seen.line.as_str() {
        "POST /v1/items" => Say::json(201, item(7, "Rhymes", 4)),
        "PATCH /v1/items/7" => Say::json(200, item(7, "Rhyme", 4)),
        "DELETE /v1/items/7" => Say::text(204, ""),
        "DELETE /v1/items/8" => Say::problem(409, "wrong_state", Some("not_applied"), false),
        "GET /v1/items/7/prices" => Say::json(
            200,
            json!({"prices": [{"price_cents": 999, "from": "then", "to": null}], "lowest_30_days_cents": 999}),
        ),
        other => panic!("{other}"),
    })
    .await;
    let create = ["create-item", "--title", "Rhymes", "--topic", "Misc", "--price", "9.99"];
    let ran = pygmy(&mock.url, &create).await;
    assert!(ran.exit == Exit::Ok && ran.out.contains("Rhymes"), "{}", ran.out);
    let body = json!({"title": "Rhymes", "topic": "Misc", "price_cents": 999, "stock": 0});
    assert_eq!(mock.seen()[0].body, body);
    let patch = ["patch-item", "7", "--title", "Rhyme", "--if-version", "9"];
    assert_eq!(pygmy(&mock.url, &patch).await.exit, Exit::Ok);
    assert_eq!(mock.seen()[1].body, json!({"title": "Rhyme"}));
    assert_eq!(mock.seen()[1].headers["if-match"], "\"9\"");
    let ran = pygmy(&mock.url, &["delete-item", "7"]).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Ok, "Item 7 is deleted."));
    assert_eq!(pygmy(&mock.url, &["delete-item", "8"]).await.exit, Exit::No);
    let ran = pygmy(&mock.url, &["prices", "7"]).await;
    assert!(ran.out.ends_with("lowest price of the last 30 days: 9.99"), "{}", ran.out);
}

#[tokio::test]
async fn changes_are_a_page_or_go_on_until_the_store_says_no() {
    let sale = json!([
        {"index": 7, "kind": "item", "id": 2, "what": "changed"},
        {"index": 7, "kind": "order", "id": 1, "what": "created"},
    ]);
    let page = json!({"changes": sale, "next_after": 9});
    let mock = Mock::script(vec![
        Say::json(200, &page),
        Say::json(200, &page),
        Say::text(200, &format!("id: 7\ndata: {sale}\n\n:\nid: 9\n\n"))
            .with("content-type", "text/event-stream"),
        Say::problem(410, "history_gone", None, false),
    ])
    .await;
    let shown = pygmy(&mock.url, &["changes", "--after", "5", "--kinds", "item,order"]).await;
    assert_eq!(shown.exit, Exit::Ok);
    assert!(shown.out.contains("order") && shown.out.lines().count() > 2, "{}", shown.out);
    assert!(shown.error.contains("--after 9"), "{}", shown.error);
    let line = pygmy(&mock.url, &["changes", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&line.out).expect("JSON"), page);
    let followed = pygmy(&mock.url, &["changes", "--follow", "--after", "6", "--json"]).await;
    assert_eq!(followed.exit, Exit::No);
    assert!(followed.error.contains("--after 9"), "{}", followed.error);
    let seen = mock.seen();
    assert_eq!(seen[0].line, "GET /v1/changes?after=5&kinds=item%2Corder&limit=100");
    let from: Vec<_> = seen[2..].iter().map(|seen| seen.headers["last-event-id"].clone()).collect();
    assert_eq!(from, ["6", "9"]);
}

#[tokio::test]
async fn orders_are_cancelled_once() {
    let mock = Mock::start(|seen| match seen.line.as_str() {
        "POST /v1/orders/1/cancel" => {
            let mut cancelled = order(1, 5);
            cancelled["status"] = json!("cancelled");
            Say::json(200, cancelled)
        }
        "POST /v1/orders/2/cancel" => Say::problem(409, "wrong_state", Some("not_applied"), false),
        other => panic!("{other}"),
    })
    .await;
    let cancel = ["cancel", "1", "--reason", "sent back", "--key", "c-1"];
    let ran = pygmy(&mock.url, &cancel).await;
    assert!(ran.exit == Exit::Ok && ran.out.contains("cancelled"), "{}", ran.out);
    assert_eq!(mock.seen()[0].headers["idempotency-key"], "c-1");
    assert_eq!(mock.seen()[0].body, json!({"reason": "sent back"}));
    assert_eq!(pygmy(&mock.url, &["cancel", "2"]).await.exit, Exit::No);
}

#[tokio::test]
async fn reservations_are_held_confirmed_released_and_listed() {
    let reservation = |id: u64, status: &str| {
        json!({
            "id": id, "lines": order(1, 5)["lines"], "total_cents": 1999, "status": status,
            "expires_at": "2025-01-02T03:19:05Z", "created_at": "2025-01-02T03:04:05Z", "index": 77,
        })
    };
    let mock = Mock::start(move |seen| match seen.line.as_str() {
        "POST /v1/reservations" => Say::json(201, reservation(3, "held")),
        "POST /v1/reservations/3/confirm" => Say::json(201, order(12, 5)),
        "DELETE /v1/reservations/4" => Say::json(200, reservation(4, "released")),
        "POST /v1/reservations/4/confirm" => {
            Say::problem(409, "wrong_state", Some("not_applied"), false)
        }
        "GET /v1/reservations/3" => Say::json(200, reservation(3, "confirmed")),
        "GET /v1/reservations?status=held&limit=2&cursor=r7" => {
            Say::json(200, json!({"reservations": [reservation(8, "held")], "next_cursor": "r8"}))
        }
        other => panic!("{other}"),
    })
    .await;
    let reserve = ["reserve", "5:2", "7", "--ttl", "600", "--customer", "ada"];
    let ran = pygmy(&mock.url, &reserve).await;
    assert!(ran.exit == Exit::Ok && ran.out.contains("held"), "{}", ran.out);
    let lines = json!([{"item": 5, "quantity": 2}, {"item": 7, "quantity": 1}]);
    let wanted = json!({"lines": lines, "ttl_seconds": 600, "customer": "ada"});
    assert_eq!(mock.seen()[0].body, wanted);
    let ran = pygmy(&mock.url, &["confirm", "3", "--key", "k-3"]).await;
    assert!(ran.exit == Exit::Ok && ran.out.contains("RPCs for Dummies"), "{}", ran.out);
    assert_eq!(mock.seen()[1].headers["idempotency-key"], "k-3");
    let ran = pygmy(&mock.url, &["release", "4"]).await;
    assert!(ran.exit == Exit::Ok && ran.out.contains("released"), "{}", ran.out);
    assert_eq!(pygmy(&mock.url, &["confirm", "4"]).await.exit, Exit::No);
    let ran = pygmy(&mock.url, &["reservation", "3", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).expect("JSON")["status"], "confirmed");
    let list = ["reservations", "--status", "held", "--limit", "2", "--cursor", "r7"];
    let ran = pygmy(&mock.url, &list).await;
    assert!(ran.out.contains("RPCs for Dummies"), "{}", ran.out);
    assert_eq!(ran.error, "There are more: go on with --cursor r8");
}

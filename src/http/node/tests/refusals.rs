//! What is refused before the log: each with its place, and nothing is written of it.

use http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use serde_json::json;

use super::store::{Ask, Store, ask, get, post, put, settings};
use crate::{
    api::{WriteOutcome, header},
    http::problem::Code,
};

const NOT_APPLIED: Option<WriteOutcome> = Some(WriteOutcome::NotApplied);

/// Sends a request that must be refused so, with faults at these places, leaving no trace.
async fn expect(store: &Store, ask: Ask, code: Code, outcome: Option<WriteOutcome>, at: &[&str]) {
    let before = store.mark();
    let reply = store.send(ask).await;
    let problem = reply.problem(code, outcome);
    let pointers: Vec<_> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
    assert_eq!(pointers, at, "{problem:?}");
    assert!(problem.errors.iter().all(|error| !error.detail.is_empty()), "{problem:?}");
    assert_eq!(store.mark(), before, "nothing reached the log: {problem:?}");
}

#[tokio::test]
async fn a_malformed_body_is_refused_with_the_place_of_its_fault() {
    let store = Store::start().await;
    let orders: &[(&str, &str)] = &[
        ("", ""),
        ("{", ""),
        ("nonsense", ""),
        ("[]", ""),
        ("null", ""),
        // Fields in their order are no object, though a struct could be read from them.
        ("[[[1, 1]]]", ""),
        (r#"{"lines": [[1, 1]]}"#, "/lines/0"),
        ("{}", ""),
        (r#"{"lines": 5}"#, "/lines"),
        (r#"{"lines": [5]}"#, "/lines/0"),
        (r#"{"lines": [{"item": 1}]}"#, "/lines/0"),
        (r#"{"lines": [{"item": "1", "quantity": 1}]}"#, "/lines/0/item"),
        (r#"{"lines": [{"item": -1, "quantity": 1}]}"#, "/lines/0/item"),
        (r#"{"lines": [{"item": 1, "quantity": 1.5}]}"#, "/lines/0/quantity"),
        (r#"{"lines": [{"item": 1, "quantity": 1e2}]}"#, "/lines/0/quantity"),
        (r#"{"lines": [{"item": 1, "quantity": -1}]}"#, "/lines/0/quantity"),
        (r#"{"lines": [{"item": 1, "quantity": null}]}"#, "/lines/0/quantity"),
        (r#"{"lines": [{"item": 18446744073709551616, "quantity": 1}]}"#, "/lines/0/item"),
        (r#"{"lines": [{"item": 1, "quantity": 1, "price": 1}]}"#, "/lines/0/price"),
        (r#"{"lines": [{"item": 1, "item": 1, "quantity": 1}]}"#, "/lines/0"),
        (
            r#"{"lines": [{"item": 1, "quantity": 1}, {"item": true, "quantity": 1}]}"#,
            "/lines/1/item",
        ),
        (r#"{"lines": [], "customer": 7}"#, "/customer"),
        (r#"{"lines": [], "a/b~c": 7}"#, "/a~1b~0c"),
        (r#"{"lines": [{"item": 1, "quantity": 1}]} x"#, ""),
        (r#"{"lines": [{"item": 1, "quantity": 1}]}{}"#, ""),
    ];
    for (body, place) in orders {
        expect(
            &store,
            ask("POST", "/v1/orders").json(body),
            Code::Malformed,
            NOT_APPLIED,
            &[place],
        )
        .await;
    }
    let not_text = ask("POST", "/v1/orders")
        .header(CONTENT_TYPE.as_str(), "application/json")
        .body(b"{\"lines\": \"\xff\"}".to_vec());
    expect(&store, not_text, Code::Malformed, NOT_APPLIED, &["/lines"]).await;
    let deep = "[".repeat(100_000);
    let deep = format!("{{\"lines\": {deep}");
    expect(
        &store,
        ask("POST", "/v1/orders").json(&deep),
        Code::Malformed,
        NOT_APPLIED,
        &["/lines/0"],
    )
    .await;

    let items: &[(&str, &str, &str, &str)] = &[
        ("PUT", "/v1/items/9", r#"{"topic": "A", "price_cents": 1}"#, ""),
        ("PUT", "/v1/items/9", r#"{"title": 1, "topic": "A", "price_cents": 1}"#, "/title"),
        (
            "PUT",
            "/v1/items/9",
            r#"{"title": "T", "topic": "A", "price_cents": "1"}"#,
            "/price_cents",
        ),
        ("PUT", "/v1/items/9", r#"{"title": "T", "topic": "A", "price_cents": 1, "id": 9}"#, "/id"),
        ("POST", "/v1/items/1/stock", r#"{"delta": 1}"#, ""),
        ("POST", "/v1/items/1/stock", r#"{"delta": "1", "reason": "received"}"#, "/delta"),
        (
            "POST",
            "/v1/items/1/stock",
            r#"{"delta": 9223372036854775808, "reason": "received"}"#,
            "/delta",
        ),
        ("POST", "/v1/items/1/stock", r#"{"set": -1, "reason": "count"}"#, "/set"),
        ("POST", "/v1/items/1/stock", r#"{"delta": 1, "reason": "received", "x": 1}"#, "/x"),
    ];
    for (method, path, body, place) in items {
        expect(&store, ask(method, path).json(body), Code::Malformed, NOT_APPLIED, &[place]).await;
    }
}

#[tokio::test]
async fn a_value_out_of_range_is_refused_with_every_place_at_once() {
    let store = Store::start().await;
    let bad_order = json!({
        "lines": [
            { "item": 1, "quantity": 0 },
            { "item": 1, "quantity": 1 },
            { "item": 1, "quantity": 1_000_001, "expected_price_cents": 1_000_000_000_001_u64 },
        ],
        "customer": "",
        "reference": "tab\there",
    });
    expect(
        &store,
        post("/v1/orders", &bad_order),
        Code::Invalid,
        NOT_APPLIED,
        &[
            "/lines/0/quantity",
            "/lines/2/quantity",
            "/lines/2/expected_price_cents",
            "/customer",
            "/reference",
        ],
    )
    .await;
    let no_lines = post("/v1/orders", &json!({ "lines": [] }));
    expect(&store, no_lines, Code::Invalid, NOT_APPLIED, &["/lines"]).await;
    let bad_item = json!({
        "title": "", "topic": "new\nline", "price_cents": 1_000_000_000_001_u64,
        "stock": 1_000_000_000_001_u64,
    });
    expect(
        &store,
        put("/v1/items/9", &bad_item),
        Code::Invalid,
        NOT_APPLIED,
        &["/title", "/topic", "/price_cents", "/stock"],
    )
    .await;

    for (body, places) in [
        (json!({ "reason": "received" }), &[""][..]),
        (json!({ "delta": 1, "set": 1, "reason": "received" }), &[""]),
        (json!({ "delta": 0, "reason": "correction" }), &["/delta"]),
        (json!({ "delta": 1, "reason": "theft" }), &["/reason"]),
        // The store's own reason is nobody else's.
        (json!({ "delta": 1, "reason": "restock" }), &["/reason"]),
        (json!({ "delta": 1, "reason": "damaged" }), &["/delta"]),
        (json!({ "delta": -1, "reason": "received" }), &["/delta"]),
        (json!({ "delta": -1, "reason": "returned" }), &["/delta"]),
        (json!({ "set": 1, "reason": "received" }), &["/reason"]),
        (json!({ "delta": 1, "reason": "received", "reference": "" }), &["/reference"]),
        (
            json!({ "delta": 0, "reason": "no", "reference": "" }),
            &["/reason", "/reference", "/delta"],
        ),
    ] {
        let ask = post("/v1/items/1/stock", &body);
        expect(&store, ask, Code::Invalid, NOT_APPLIED, places).await;
    }
}

#[tokio::test]
async fn a_bad_parameter_is_refused_by_its_name() {
    let store = Store::start().await;
    for (path, names) in [
        ("/v1/items?limit=0", &["limit"][..]),
        ("/v1/items?limit=1001", &["limit"]),
        ("/v1/items?limit=-1", &["limit"]),
        ("/v1/items?limit=", &["limit"]),
        ("/v1/items?limit=many", &["limit"]),
        ("/v1/items?cursor=", &["cursor"]),
        ("/v1/items?cursor=o1", &["cursor"]),
        ("/v1/items?cursor=i", &["cursor"]),
        ("/v1/items?cursor=ixyz", &["cursor"]),
        ("/v1/items?q=", &["q"]),
        ("/v1/items?q=%20-%20", &["q"]),
        ("/v1/items?q=a+b+c+d+e+f+g+h+i+j+k", &["q"]),
        ("/v1/items?sort=stock", &["sort"]),
        ("/v1/items?sort=", &["sort"]),
        ("/v1/items?in_stock=yes", &["in_stock"]),
        ("/v1/items?q=a&sort=x&in_stock=", &["in_stock", "sort"]),
        ("/v1/items?consistency=strong", &["consistency"]),
        ("/v1/items?consistency=session&min_index=x", &["min_index"]),
        ("/v1/items?consistency=stale&max_staleness_ms=-1", &["max_staleness_ms"]),
        ("/v1/items?limit=1&limit=2", &["limit"]),
        ("/v1/items?colour=red", &["colour"]),
        ("/v1/items?limit=0&cursor=x&colour=red", &["limit", "cursor", "colour"]),
        ("/v1/items/1?limit=1", &["limit"]),
        ("/v1/topics?limit=1", &["limit"]),
        ("/v1/orders?limit=0", &["limit"]),
        ("/v1/orders?cursor=i1", &["cursor"]),
        ("/v1/orders?item=x", &["item"]),
        ("/v1/orders?status=lost", &["status"]),
        ("/v1/orders?from=yesterday", &["from"]),
        ("/v1/orders?to=2025-01-31", &["to"]),
        ("/v1/orders?from=2025-01-31T09:30:00+01:00", &["from"]),
        ("/v1/items/1/ledger?cursor=i1", &["cursor"]),
        ("/v1/items/1/ledger?cursor=l1", &["cursor"]),
        ("/v1/items/1/ledger?cursor=l1-x", &["cursor"]),
        ("/v1/items/1/ledger?limit=0", &["limit"]),
        ("/v1/items/1/ledger?item=1", &["item"]),
        ("/v1/orders/1?x=1", &["x"]),
        ("/v1/changes?after=x", &["after"]),
        ("/v1/changes?kinds=item,book", &["kinds"]),
        ("/v1/changes?wait_ms=10001", &["wait_ms"]),
        ("/v1/changes?limit=0", &["limit"]),
        ("/v1/cluster?x=1", &["x"]),
        ("/v1/verify?x=1", &["x"]),
        ("/readyz?x=1", &["x"]),
        ("/search/A/?x=1", &["x"]),
        ("/lookup/1/?consistency=strong", &["consistency"]),
    ] {
        expect(&store, get(path), Code::Malformed, None, names).await;
    }
    let header = get("/v1/items/1").header(header::CONSISTENCY, "strong");
    expect(&store, header, Code::Malformed, None, &["consistency"]).await;
    let header = get("/v1/items/1")
        .header(header::CONSISTENCY, "session")
        .header(header::MIN_INDEX, "newest");
    expect(&store, header, Code::Malformed, None, &["min_index"]).await;
    // The form that does not count must be right as well.
    let both = get("/v1/items/1?consistency=stale&min_index=1")
        .header(header::CONSISTENCY, "strong")
        .header(header::MIN_INDEX, "newest");
    expect(&store, both, Code::Malformed, None, &["consistency", "min_index"]).await;
    let order = json!({ "lines": [{ "item": 1, "quantity": 1 }] });
    let dry = post("/v1/orders?dry_run=true", &order);
    expect(&store, dry, Code::Malformed, NOT_APPLIED, &["dry_run"]).await;
    for (method, path) in [("GET", "/buy/1/?n=2"), ("POST", "/restock/?n=2")] {
        expect(&store, ask(method, path), Code::Malformed, NOT_APPLIED, &["n"]).await;
    }
    for (name, value) in [("Idempotency-Key", "a b"), ("Pygmy-Timeout-Ms", "soon")] {
        let buy = ask("GET", "/buy/none/").header(name, value);
        expect(&store, buy, Code::Malformed, NOT_APPLIED, &[name]).await;
    }
    for path in ["/search/%ff/", "/lookup/%ff"] {
        expect(&store, get(path), Code::Malformed, None, &[]).await;
    }
    for (method, path) in [("GET", "/buy/%ff/"), ("DELETE", "/invalidate/%ff/")] {
        expect(&store, ask(method, path), Code::Malformed, NOT_APPLIED, &[]).await;
    }
}

#[tokio::test]
async fn a_bad_precondition_or_key_is_refused_by_its_name() {
    let store = Store::start().await;
    let item = json!({ "title": "T", "topic": "A", "price_cents": 1 });
    for (header, value, place) in [
        ("if-match", "5", "If-Match"),
        ("if-match", "\"5", "If-Match"),
        ("if-match", "\"\"", "If-Match"),
        ("if-match", "\"5\", \"6\"", "If-Match"),
        ("if-none-match", "\"5\"", "If-None-Match"),
        ("if-none-match", "", "If-None-Match"),
    ] {
        let ask = put("/v1/items/1", &item).header(header, value);
        expect(&store, ask, Code::Malformed, NOT_APPLIED, &[place]).await;
    }
    let both = put("/v1/items/1", &item).header("if-match", "*").header("if-none-match", "*");
    expect(&store, both, Code::Malformed, NOT_APPLIED, &["If-Match"]).await;
    // A change of stock creates nothing.
    let stock = json!({ "delta": 1, "reason": "received" });
    let creating = post("/v1/items/1/stock", &stock).header("if-none-match", "*");
    expect(&store, creating, Code::Malformed, NOT_APPLIED, &["If-None-Match"]).await;

    let order = json!({ "lines": [{ "item": 1, "quantity": 1 }] });
    for key in ["", "two words", "ümlaut", "tab\tbed", &"k".repeat(256)] {
        for ask in [
            post("/v1/orders", &order),
            put("/v1/items/1", &item),
            post("/v1/items/1/stock", &stock),
            ask("POST", "/restock/"),
            get("/buy/1/"),
        ] {
            let ask = ask.key(key);
            expect(&store, ask, Code::Malformed, NOT_APPLIED, &["Idempotency-Key"]).await;
        }
    }
    let two = post("/v1/orders", &order).key("one").key("two");
    expect(&store, two, Code::Malformed, NOT_APPLIED, &["Idempotency-Key"]).await;
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let store = Store::start().await;
    for path in [
        "/nowhere",
        "/v1",
        "/v1/",
        "/v2/items",
        "/v1/items/",
        "/v1/items/99",
        "/v1/items/0",
        "/v1/items/one",
        "/v1/items/-1",
        "/v1/items/+1",
        "/v1/items/18446744073709551616",
        "/v1/items/1/pages",
        "/v1/orders/0",
        "/v1/orders/1",
        "/v1/orders/18446744073709551615",
        "/v1/orders/x",
        "/search",
        "/lookup/",
        "/lookup/1/2",
    ] {
        expect(&store, get(path), Code::NotFound, None, &[]).await;
    }
    let change = json!({ "delta": 1, "reason": "received" });
    let ask_write = post("/v1/items/x/stock", &change);
    expect(&store, ask_write, Code::NotFound, NOT_APPLIED, &[]).await;
    expect(&store, ask("POST", "/v1/nowhere"), Code::NotFound, NOT_APPLIED, &[]).await;
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_refused_with_those_that_it_takes() {
    let store = Store::start().await;
    for (path, takes, refused) in [
        ("/v1/items", "GET,HEAD,POST", &["PUT", "DELETE", "PATCH"][..]),
        ("/v1/items/1", "DELETE,GET,HEAD,PATCH,PUT", &["POST"]),
        ("/v1/items/1/prices", "GET,HEAD", &["POST", "DELETE"]),
        ("/v1/policy", "GET,HEAD,PUT", &["POST", "PATCH"]),
        ("/v1/cluster/maintenance", "POST", &["GET", "DELETE"]),
        ("/v1/items/1/stock", "POST", &["GET", "PUT", "DELETE"]),
        ("/v1/topics", "GET,HEAD", &["POST"]),
        ("/v1/orders", "GET,HEAD,POST", &["PUT", "DELETE"]),
        ("/v1/orders/1", "GET,HEAD", &["POST", "PUT"]),
        ("/v1/changes", "GET,HEAD", &["POST"]),
        ("/v1/cluster", "GET,HEAD", &["POST", "PUT"]),
        ("/v1/verify", "GET,HEAD", &["POST"]),
        ("/livez", "GET,HEAD", &["POST"]),
        ("/readyz", "GET,HEAD", &["POST"]),
        ("/clusterz", "GET,HEAD", &["POST"]),
        ("/", "GET,HEAD", &["POST"]),
        ("/search/A/", "GET,HEAD", &["POST"]),
        ("/lookup/1", "GET,HEAD", &["PUT"]),
        // A sale must be asked for in so many words.
        ("/buy/1/", "GET", &["HEAD", "POST", "PUT", "DELETE"]),
        ("/buy/1", "GET", &["HEAD", "POST"]),
        ("/invalidate/1/", "DELETE", &["GET", "POST"]),
        ("/restock/", "POST", &["GET", "HEAD"]),
        ("/heartbeat/", "GET,HEAD", &["POST"]),
    ] {
        for method in refused {
            let before = store.mark();
            let reply = store.send(ask(method, path)).await;
            assert_eq!(reply.status, 405, "{method} {path}: {reply:?}");
            let mut allowed: Vec<_> =
                reply.header(ALLOW.as_str()).split(',').map(str::trim).collect();
            allowed.sort_unstable();
            assert_eq!(allowed.join(","), takes, "{method} {path}");
            if *method != "HEAD" {
                let write = *method != "GET";
                reply.problem(Code::MethodNotAllowed, NOT_APPLIED.filter(|_| write));
            }
            assert_eq!(store.mark(), before, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn who_takes_no_json_and_who_sends_none_is_told_so() {
    let store = Store::start().await;
    let order = json!({ "lines": [{ "item": 1, "quantity": 1 }] }).to_string();
    for accept in ["text/html", "image/*", "text/plain, text/html;q=0.9", "application/jsonp"] {
        let ask_read = get("/v1/items").header(ACCEPT.as_str(), accept);
        expect(&store, ask_read, Code::NotAcceptable, None, &[]).await;
        let ask_write = ask("POST", "/v1/orders").json(&order).header(ACCEPT.as_str(), accept);
        expect(&store, ask_write, Code::NotAcceptable, NOT_APPLIED, &[]).await;
    }
    for accept in [
        "application/json",
        "*/*",
        "application/*",
        "text/html, application/json;q=0.1",
        "application/problem+json",
        "Application/JSON",
        "",
    ] {
        let reply = store.send(get("/v1/items").header(ACCEPT.as_str(), accept)).await;
        assert_eq!(reply.status, 200, "{accept}: {reply:?}");
    }
    // An old client sends what its library sends.
    let reply = store.send(get("/lookup/1/").header(ACCEPT.as_str(), "text/html")).await;
    assert_eq!(reply.status, 200);

    for content_type in ["text/plain", "application/x-www-form-urlencoded", "text/json", ""] {
        let ask_write = ask("POST", "/v1/orders")
            .header(CONTENT_TYPE.as_str(), content_type)
            .body(order.clone());
        expect(&store, ask_write, Code::UnsupportedMediaType, NOT_APPLIED, &[]).await;
    }
    let without = ask("POST", "/v1/orders").body(order.clone());
    expect(&store, without, Code::UnsupportedMediaType, NOT_APPLIED, &[]).await;
    for content_type in ["application/json; charset=utf-8", "Application/JSON"] {
        let ask_write = ask("POST", "/v1/orders")
            .header(CONTENT_TYPE.as_str(), content_type)
            .body(order.clone());
        assert_eq!(store.send(ask_write).await.status, 201, "{content_type}");
    }
}

#[tokio::test]
async fn the_servers_own_endpoints_of_the_original_are_gone_and_say_what_replaces_them() {
    let store = Store::start().await;
    for (method, path) in [
        ("GET", "/update/5:buy/"),
        ("GET", "/update/5:buy"),
        ("PUT", "/update/5:buy/"),
        ("POST", "/update_order/"),
        ("POST", "/update_order"),
        ("GET", "/sync/"),
        ("POST", "/sync"),
        ("PUT", "/heartbeat/"),
        ("PUT", "/heartbeat"),
    ] {
        let write = method != "GET";
        let ask = ask(method, path).body(r#"{"catalog1": 1}"#);
        expect(&store, ask, Code::Replaced, NOT_APPLIED.filter(|_| write), &[]).await;
    }
}

#[tokio::test]
async fn buying_by_get_can_be_switched_off() {
    let mut settings = settings();
    settings.legacy_get_buy = false;
    let store = Store::with(settings).await;
    for path in ["/buy/1/", "/buy/1", "/buy/99/"] {
        expect(&store, get(path), Code::Replaced, NOT_APPLIED, &[]).await;
    }
    assert_eq!(store.item(1).await["stock"], 10);
    assert_eq!(store.get("/lookup/1/").await.status, 200);
}

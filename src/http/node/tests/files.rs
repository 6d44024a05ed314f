//! Import and export.

use std::fmt::Write;

use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

use super::{
    super::routes,
    store::{Ask, PATIENCE, Reply, Store, ask, buy, put, settings},
};
use crate::{
    api::{IMPORT_PROBLEMS_MAX, IMPORT_ROW_BYTES_MAX, WriteOutcome, header},
    http::problem::Code,
};

const HEADER: &str = "id,title,topic,price_cents,stock\n";

fn import(query: &str, kind: &str, body: impl Into<axum::body::Body>) -> Ask {
    ask("POST", &format!("/v1/import{query}")).header("content-type", kind).body(body)
}

fn csv(body: impl Into<axum::body::Body>) -> Ask {
    import("", "text/csv", body)
}

fn ndjson(body: impl Into<axum::body::Body>) -> Ask {
    import("", "application/x-ndjson", body)
}

/// rows, created, replaced, unchanged, refused
fn counts(reply: &Reply) -> [u64; 5] {
    assert_eq!(reply.status, 200, "{reply:?}");
    let said = reply.json();
    ["rows", "created", "replaced", "unchanged", "refused"].map(|name| said[name].as_u64().unwrap())
}

/// A catalog of so many rows, and none of them among the items of every store.
fn catalog(rows: u64) -> String {
    let mut text = HEADER.to_owned();
    for id in 100..100 + rows {
        writeln!(text, "{id},\"Title, {id}\",T{},{},7", id % 10, id * 3).unwrap();
    }
    text
}

#[test]
fn both_are_routed() {
    let paths = routes().paths;
    assert!(["/v1/import", "/v1/export"].iter().all(|path| paths.iter().any(|p| p == path)));
}

#[tokio::test]
async fn every_way_to_write_a_file_gives_the_same_items() {
    let row = r#"{"id":7,"title":"A \"b\", c","topic":"Ü","price_cents":1250,"stock":3}"#;
    for (ask, what) in [
        (csv("id,title,topic,price_cents,stock\n7,\"A \"\"b\"\", c\",Ü,1250,3\n"), "plain"),
        (
            csv(
                "\u{feff}stock,topic,id,price_cents,title\r\n3,Ü,7,1250,\"A \"\"b\"\", c\"\r\n\r\n",
            ),
            "BOM, CRLF",
        ),
        (
            csv("ItemNumber,Title,Topic,Cost,Stock\n7,\"A \"\"b\"\", c\",Ü,12.50,3"),
            "load's columns",
        ),
        (
            import(
                "",
                "Text/CSV; charset=utf-8",
                "id,title,topic,price_cents,stock\n\n7,\"A \"\"b\"\", c\",Ü,1250,3\n\n\n",
            ),
            "empty lines",
        ),
        (ndjson(format!("{row}\n")), "NDJSON"),
        (ndjson(format!("\n{row}\r\n\n")), "NDJSON with empty lines"),
        (ndjson(row), "NDJSON without the last break"),
    ] {
        let store = Store::start().await;
        let reply = store.send(ask).await;
        assert_eq!(counts(&reply), [1, 1, 0, 0, 0], "{what}: {reply:?}");
        assert_eq!(reply.index(), store.mark().0, "{what}");
        let item = store.item(7).await;
        assert_eq!(
            (&item["title"], &item["topic"], &item["price_cents"], &item["stock"]),
            (&json!("A \"b\", c"), &json!("Ü"), &json!(1250), &json!(3)),
            "{what}"
        );
    }
    let store = Store::start().await;
    assert_eq!(counts(&store.send(ndjson("")).await), [0; 5]);
    assert_eq!(counts(&store.send(csv(HEADER)).await), [0; 5]);
    assert_eq!(counts(&store.send(csv("id,title,topic,price_cents\n8,a,b,1\n")).await)[1], 1);
    assert_eq!(store.item(8).await["stock"], 0);
}

#[tokio::test]
async fn the_same_file_again_changes_nothing_even_after_a_sale() {
    let store = Store::start().await;
    let file = catalog(3);
    assert_eq!(counts(&store.send(csv(file.clone())).await), [3, 3, 0, 0, 0]);
    assert_eq!(store.send(buy(101, 2)).await.status, 201);
    let before = store.item(101).await;
    assert_eq!(counts(&store.send(csv(file.clone())).await), [3, 0, 0, 3, 0]);
    assert_eq!(store.item(101).await, before);
    let set = || import("?stock=set", "text/csv", file.clone());
    assert_eq!(counts(&store.send(set()).await), [3, 0, 1, 2, 0]);
    assert_eq!(store.item(101).await["stock"], 7);
    // Of two rows with one number the later one counts, however far apart they are.
    let mut twice = catalog(5000);
    twice.push_str("100,Last,T,1,1\n");
    assert_eq!(counts(&store.send(csv(twice)).await), [5001, 4997, 1, 3, 0]);
    assert_eq!(store.item(100).await["title"], "Last");
    assert_eq!(store.item(5099).await["title"], "Title, 5099");
}

#[tokio::test]
async fn a_bad_row_is_told_with_its_line_and_the_others_are_in() {
    let store = Store::start().await;
    let file = "id,title,topic,price_cents,stock\n\
        10,\"two\nlines\",T,1,1\n\
        11,Good,T,1,1\n\
        x,Bad,T,1,1\n\
        13,Bad,T,-1,1\n\
        14,,T,1,1\n\
        15,Bad,T,1\n\
        16,Bad,T,1,9000000000000\n\
        17,Good,T,1,\n\
        18,\"open,T,1,1\n";
    let reply = store.send(csv(file)).await;
    assert_eq!(counts(&reply), [9, 2, 0, 0, 7], "{reply:?}");
    let said = reply.json();
    let problems: Vec<(u64, String)> =
        said["problems"].as_array().unwrap().iter().map(place).collect();
    let expected = [
        (2, "title"),
        (5, "id"),
        (6, "price_cents"),
        (7, "title"),
        (8, ""),
        (9, "stock"),
        (11, ""),
    ];
    assert_eq!(problems, expected.map(|(line, name)| (line, name.to_owned())), "{said}");
    assert_eq!(store.item(11).await["title"], "Good");
    assert_eq!(store.item(17).await["stock"], 0);

    let mut wrong = b"id,title,topic,price_cents\n20,\xff,T,1\n21,Good,T,1\n".to_vec();
    assert_eq!(counts(&store.send(csv(wrong.clone())).await), [2, 1, 0, 0, 1]);
    wrong = b"{\"id\":22,\"title\":\"\xff\",\"topic\":\"T\",\"price_cents\":1}\n\
        {\"id\":23,\"title\":\"a\",\"topic\":\"T\",\"price_cents\":1,\"color\":1}\n\
        {\"id\":24,\"title\":\"a\",\"topic\":\"T\",\"price_cents\":\"1\"}\n\
        [25]\n{\"id\":26,\"title\":\"a\",\"topic\":\"T\",\"price_cents\":1}"
        .to_vec();
    let reply = store.send(ndjson(wrong)).await;
    assert_eq!(counts(&reply), [5, 1, 0, 0, 4], "{reply:?}");
    let said = reply.json();
    let lines: Vec<u64> = said["problems"].as_array().unwrap().iter().map(|p| place(p).0).collect();
    assert_eq!(lines, [1, 2, 3, 4]);
    assert_eq!(place(&said["problems"][2]).1, "/price_cents", "{said}");

    let many = format!("{HEADER}{}", "x,a,b,1,1\n".repeat(250));
    let said = store.send(csv(many)).await.json();
    assert_eq!((&said["refused"], &said["problems_left_out"]), (&json!(250), &json!(150)));
    assert_eq!(said["problems"].as_array().unwrap().len(), IMPORT_PROBLEMS_MAX);
}

/// The items that changed last, with their versions: the same as long as no item changes.
async fn newest(store: &Store) -> Value {
    store.get("/v1/items?sort=-updated&limit=1000").await.json()
}

fn place(problem: &Value) -> (u64, String) {
    (problem["line"].as_u64().unwrap(), problem["pointer"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn what_is_no_such_file_is_refused_as_a_whole() {
    let store = Store::start().await;
    let mark = store.mark();
    let not_applied = Some(WriteOutcome::NotApplied);
    for (body, word) in [
        ("", "empty"),
        ("id;title;topic;price_cents\n1;a;b;2\n", "commas"),
        ("id\ttitle\ttopic\tprice_cents\n", "commas"),
        ("id,title,topic,price_cents,color\n", "color"),
        ("id,title,topic\n", "price_cents"),
        ("id,title,topic,price_cents,Cost\n", "the same"),
        ("1,a,b,2\n", "unknown"),
    ] {
        let problem = store.send(csv(body)).await.problem(Code::Malformed, not_applied);
        assert!(problem.detail.contains(word), "{body}: {problem:?}");
    }
    let reply = store.send(import("", "application/json", "[]")).await;
    reply.problem(Code::UnsupportedMediaType, not_applied);
    for query in ["?dry_run=yes", "?stock=old", "?color=red"] {
        store.send(import(query, "text/csv", HEADER)).await.problem(Code::Malformed, not_applied);
    }
    let long = format!("{HEADER}1,{},b,2,1\n", "a".repeat(IMPORT_ROW_BYTES_MAX));
    let problem = store.send(csv(long)).await.problem(Code::TooLarge, not_applied);
    assert!(problem.detail.contains("line 2"), "{problem:?}");
    assert_eq!(store.mark(), mark, "nothing of it reached the log");
}

#[tokio::test]
async fn the_limits_hold_and_what_is_in_is_told() {
    let store = Store::start().await;
    let large = catalog(60_000);
    assert!(large.len() > 1 << 20);
    let mark = store.mark();
    let told = csv(large.clone()).header("content-length", large.len().to_string());
    store.send(told).await.problem(Code::TooLarge, Some(WriteOutcome::NotApplied));
    assert_eq!(store.mark(), mark);
    // Where the length is not told, what came before the limit is in.
    let pieces: Vec<_> = large
        .as_bytes()
        .chunks(10_000)
        .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
        .collect();
    let body = axum::body::Body::from_stream(stream::iter(pieces));
    let reply = store.send(csv(body)).await;
    let problem = reply.problem(Code::TooLarge, Some(WriteOutcome::Unknown));
    let line: u64 = problem
        .detail
        .split("up to line ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{problem:?}"));
    // Line 2 has item 100.
    assert_eq!(store.item(98 + line).await["stock"], 7);
    assert_eq!(store.get(&format!("/v1/items/{}", 99 + line)).await.status, 404);
    // A body that breaks off, too.
    let broken = stream::iter([
        Ok(Bytes::from(catalog(2100))),
        Err(std::io::Error::other("the client is gone")),
    ]);
    let reply = store.send(csv(axum::body::Body::from_stream(broken))).await;
    reply.problem(Code::Malformed, Some(WriteOutcome::Unknown));

    let mut settings = settings();
    settings.max_imports = 1;
    let store = Store::with(settings).await;
    let (feed, body) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = stream::unfold(body, async |mut body| Some((body.recv().await?, body)));
    let first = store.send(csv(axum::body::Body::from_stream(body)));
    let second = async {
        // The first is under way once its body is read.
        feed.send(Ok(Bytes::from_static(HEADER.as_bytes()))).await.unwrap();
        feed.send(Ok(Bytes::from_static(b"50,a,b,1,1\n"))).await.unwrap();
        let reply = store.send(csv(HEADER)).await;
        drop(feed);
        reply
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(counts(&first), [1, 1, 0, 0, 0]);
    second.problem(Code::Overloaded, Some(WriteOutcome::NotApplied));
    assert_eq!(counts(&store.send(csv(HEADER)).await), [0; 5], "there is room again");
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen_and_changes_nothing() {
    let store = Store::start().await;
    let file = format!("{HEADER}1,Title 1,A,100,99\n2,New,A,200,1\n50,a,b,1,1\nx,a,b,1,1\n");
    for stock in ["new", "set"] {
        let mark = store.mark();
        let dry = import(&format!("?dry_run=true&stock={stock}"), "text/csv", file.clone());
        let foreseen = store.send(dry).await;
        assert_eq!(store.mark(), mark);
        assert_eq!(foreseen.json()["dry_run"], true);
        let real = import(&format!("?stock={stock}"), "text/csv", file.clone());
        let real = store.send(real).await;
        assert_eq!(counts(&foreseen), counts(&real), "stock={stock}");
        assert_eq!(foreseen.json()["problems"], real.json()["problems"]);
    }
    assert_eq!(store.item(1).await["stock"], 99);
}

#[tokio::test]
async fn an_import_under_a_key_is_done_once() {
    let store = Store::start().await;
    let file = catalog(1200);
    let first = store.send(csv(file.clone()).key("k")).await;
    assert_eq!((counts(&first)[1], first.replayed()), (1200, false));
    let item = json!({ "title": "Mine", "topic": "T", "price_cents": 1, "stock": 1 });
    assert_eq!(store.send(put("/v1/items/100", &item)).await.status, 200);
    let before = newest(&store).await;
    // However the body is cut, the entries are the same.
    let pieces: Vec<_> = file
        .as_bytes()
        .chunks(777)
        .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
        .collect();
    let again = csv(axum::body::Body::from_stream(stream::iter(pieces))).key("k");
    let again = store.send(again).await;
    assert_eq!((counts(&again), again.replayed()), (counts(&first), true));
    assert_eq!(newest(&store).await, before, "a repetition does nothing");
    assert_eq!(store.item(100).await["title"], "Mine");
    let other = store.send(csv(catalog(3)).key("k")).await;
    other.problem(Code::IdempotencyKeyReused, Some(WriteOutcome::NotApplied));
}

#[tokio::test]
async fn what_is_exported_can_be_imported_and_changes_nothing() {
    let store = Store::start().await;
    store.send(csv(catalog(2500))).await;
    let odd = json!({ "title": " a \"b\",;é ", "topic": "'=1+1", "price_cents": 0, "stock": 0 });
    assert_eq!(store.send(put("/v1/items/9", &odd)).await.status, 201);
    for (format, kind) in [("csv", "text/csv"), ("ndjson", "application/x-ndjson")] {
        let path = format!("/v1/export?what=items&format={format}");
        let export = store.send(ask("GET", &path).header("accept", kind)).await;
        assert_eq!(export.status, 200, "{export:?}");
        assert!(export.header("content-type").starts_with(kind));
        assert_eq!(export.index(), store.mark().0);
        let before = newest(&store).await;
        for query in ["", "?stock=set"] {
            let reply = store.send(import(query, kind, export.body.clone())).await;
            assert_eq!(counts(&reply), [2504, 0, 0, 2504, 0], "{format} {query}");
        }
        assert_eq!(newest(&store).await, before, "{format}: nothing has changed");
        // Into an empty store it brings all.
        let empty =
            Store::on(std::sync::Arc::new(pygmy_storage::volume::MemoryVolume::new()), settings());
        let empty = empty.await;
        assert_eq!(counts(&empty.send(import("", kind, export.body.clone())).await)[1], 2504);
        assert_eq!(empty.get(&path).await.body, export.body, "{format}");
    }
}

#[tokio::test]
async fn orders_are_exported_line_by_line() {
    let store = Store::start().await;
    let lines = json!({
        "lines": [{ "item": 1, "quantity": 2 }, { "item": 2, "quantity": 1 }],
        "customer": "ada, b", "reference": "r",
    });
    assert_eq!(store.send(super::store::post("/v1/orders", &lines)).await.status, 201);
    for _ in 0..3 {
        assert_eq!(store.send(buy(1, 1)).await.status, 201);
    }
    let csv = store.get("/v1/export?what=orders").await;
    let mut reader = csv::Reader::from_reader(&csv.body[..]);
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 5);
    let first: Vec<_> = [0, 1, 3, 4, 5, 6, 8, 9, 10].map(|n| rows[0][n].to_owned()).into();
    assert_eq!(first, ["1", "placed", "ada, b", "r", "1", "1", "2", "100", "400"]);
    assert_eq!((&rows[1][0], &rows[1][5], &rows[1][6]), ("1", "2", "2"));
    let ndjson = store.get("/v1/export?what=orders&format=ndjson").await;
    let orders: Vec<Value> =
        ndjson.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json!({ "orders": orders, "next_cursor": null }), store.contents().await.1);
    store.get("/v1/export?what=all").await.problem(Code::Malformed, None);
    store.get("/v1/export?format=xml").await.problem(Code::Malformed, None);
}

/// The view is that of the beginning, however slowly it is read.
#[tokio::test]
async fn an_export_is_of_one_index() {
    use http_body_util::BodyExt;
    let store = Store::start().await;
    store.send(csv(catalog(5000))).await;
    let whole = store.get("/v1/export").await;
    let request = http::Request::get("/v1/export").body(axum::body::Body::empty()).unwrap();
    let reply = store.app.answer(request).await;
    assert_eq!(reply.headers()[header::INDEX], whole.header(header::INDEX));
    let mut body = reply.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.len() < whole.body.len(), "it comes in pieces");
    let changed = import("?stock=set", "text/csv", catalog(5000).replace(",7\n", ",8\n"));
    assert_eq!(counts(&store.send(changed).await)[2], 5000);
    let rest = tokio::time::timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes();
    assert_eq!([first, rest].concat(), whole.body);
}

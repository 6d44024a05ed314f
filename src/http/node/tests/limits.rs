//! Every limit of the interface, at it, below it and above it.

use std::{num::NonZeroU32, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    disk::HeldVolume,
    store::{Ask, PATIENCE, Store, ask, buy, get, post, put, settings},
};
use crate::{
    api::{
        AMOUNT_MAX, BATCH_LINES_MAX, BATCH_ORDERS_MAX, IDEMPOTENCY_KEY_BYTES_MAX, ORDER_LINES_MAX,
        PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX, Problem, QUANTITY_MAX, REFERENCE_BYTES_MAX,
        TITLE_BYTES_MAX, TOPIC_BYTES_MAX, WriteOutcome,
    },
    http::{
        problem::Code,
        rate_limit::{self, RateLimit},
        serve::{Limits, serve},
    },
};

/// Sends what must be taken, or what must be refused at one place without a trace.
async fn expect(store: &Store, ask: Ask, refused_at: Option<&str>) {
    let before = store.mark();
    let reply = store.send(ask).await;
    match refused_at {
        None => assert!(reply.status.is_success(), "{reply:?}"),
        Some(place) => {
            let problem = reply.problem(Code::Invalid, Some(WriteOutcome::NotApplied));
            assert_eq!(problem.errors.len(), 1, "{problem:?}");
            assert_eq!(problem.errors[0].pointer, place);
            assert_eq!(store.mark(), before);
        }
    }
}

fn item_with(field: &str, value: impl Into<Value>) -> Ask {
    let mut item = json!({ "title": "T", "topic": "A", "price_cents": 1, "stock": 1 });
    item[field] = value.into();
    put("/v1/items/9", &item)
}

fn order_with(field: &str, value: impl Into<Value>) -> Ask {
    let mut order = json!({ "lines": [{ "item": 1, "quantity": 1 }] });
    order[field] = value.into();
    post("/v1/orders", &order)
}

#[tokio::test]
async fn texts() {
    let store = Store::start().await;
    let stock_with = |reference: String| {
        let body = json!({ "delta": 1, "reason": "received", "reference": reference });
        post("/v1/items/1/stock", &body)
    };
    for (bytes_max, place, ask) in [
        (TITLE_BYTES_MAX, "/title", &(|text| item_with("title", text)) as &dyn Fn(String) -> Ask),
        (TOPIC_BYTES_MAX, "/topic", &|text| item_with("topic", text)),
        (REFERENCE_BYTES_MAX, "/customer", &|text| order_with("customer", text)),
        (REFERENCE_BYTES_MAX, "/reference", &|text| order_with("reference", text)),
        (REFERENCE_BYTES_MAX, "/reference", &stock_with),
    ] {
        for bytes in [1, bytes_max - 1, bytes_max] {
            expect(&store, ask("x".repeat(bytes)), None).await;
        }
        for bytes in [0, bytes_max + 1] {
            expect(&store, ask("x".repeat(bytes)), Some(place)).await;
        }
        // The limit counts bytes, not characters.
        expect(&store, ask("ü".repeat(bytes_max / 2)), None).await;
        expect(&store, ask("ü".repeat(bytes_max / 2 + 1)), Some(place)).await;
        for control in ["a\u{0}b", "a\u{7f}b", "a\u{85}b", "\n"] {
            expect(&store, ask(control.to_owned()), Some(place)).await;
        }
    }
    let title = "日本語 – “Ünïcödé” 📚";
    expect(&store, item_with("title", title), None).await;
    assert_eq!(store.item(9).await["title"], title);
}

#[tokio::test]
async fn amounts() {
    let store = Store::start().await;
    for field in ["price_cents", "stock"] {
        let place = format!("/{field}");
        for amount in [0, AMOUNT_MAX - 1, AMOUNT_MAX] {
            expect(&store, item_with(field, amount), None).await;
            assert_eq!(store.item(9).await[field], amount);
        }
        for amount in [AMOUNT_MAX + 1, u64::MAX] {
            expect(&store, item_with(field, amount), Some(&place)).await;
        }
    }
    let change = |body: Value| post("/v1/items/9/stock", &body);
    expect(&store, change(json!({ "set": 0, "reason": "count" })), None).await;
    let most = i64::try_from(AMOUNT_MAX).unwrap();
    let delta = |delta: i64| change(json!({ "delta": delta, "reason": "correction" }));
    for fits in [most, -most, 1, -1, most - 1, 1 - most] {
        expect(&store, delta(fits), None).await;
    }
    for too_much in [most + 1, -most - 1, i64::MIN, i64::MAX] {
        expect(&store, delta(too_much), Some("/delta")).await;
    }
    let set = |set: u64| change(json!({ "set": set, "reason": "count" }));
    for fits in [AMOUNT_MAX, AMOUNT_MAX - 1, 0] {
        expect(&store, set(fits), None).await;
    }
    expect(&store, set(AMOUNT_MAX + 1), Some("/set")).await;
}

#[tokio::test]
async fn quantities_prices_and_lines() {
    let store = Store::start().await;
    expect(&store, item_with("stock", AMOUNT_MAX), None).await;
    for quantity in [1, QUANTITY_MAX - 1, QUANTITY_MAX] {
        expect(&store, buy(9, quantity), None).await;
    }
    for quantity in [0, QUANTITY_MAX + 1, u64::MAX] {
        expect(&store, buy(9, quantity), Some("/lines/0/quantity")).await;
    }
    let line = |price: u64| json!([{ "item": 9, "quantity": 1, "expected_price_cents": price }]);
    expect(&store, order_with("lines", line(1)), None).await;
    let place = "/lines/0/expected_price_cents";
    expect(&store, order_with("lines", line(AMOUNT_MAX + 1)), Some(place)).await;
    let reply = store.send(order_with("lines", line(AMOUNT_MAX))).await;
    reply.problem(Code::WrongState, Some(WriteOutcome::NotApplied));

    let lines = |count| vec![json!({ "item": 9, "quantity": 1 }); count];
    for count in [1, ORDER_LINES_MAX - 1, ORDER_LINES_MAX] {
        expect(&store, order_with("lines", lines(count)), None).await;
    }
    for count in [0, ORDER_LINES_MAX + 1, 5 * ORDER_LINES_MAX] {
        expect(&store, order_with("lines", lines(count)), Some("/lines")).await;
    }
}

#[tokio::test]
async fn an_order_that_costs_more_than_can_be_counted_is_refused_whole() {
    let store = Store::start().await;
    for id in 100..125 {
        let item =
            json!({ "title": "T", "topic": "A", "price_cents": AMOUNT_MAX, "stock": AMOUNT_MAX });
        expect(&store, put(&format!("/v1/items/{id}"), &item), None).await;
    }
    let lines = |count: u64| -> Vec<Value> {
        (100..100 + count).map(|id| json!({ "item": id, "quantity": QUANTITY_MAX })).collect()
    };
    let before = store.contents().await;
    let reply = store.send(order_with("lines", lines(25))).await;
    reply.problem(Code::Invalid, Some(WriteOutcome::NotApplied));
    assert_eq!(store.contents().await, before);
    let reply = store.send(order_with("lines", lines(18))).await;
    assert_eq!(reply.status, 201);
    assert_eq!(reply.json()["total_cents"], 18 * AMOUNT_MAX * QUANTITY_MAX);
}

#[tokio::test]
async fn item_numbers() {
    let store = Store::start().await;
    let item = json!({ "title": "T", "topic": "A", "price_cents": 1, "stock": 1 });
    for id in [0, u64::MAX] {
        expect(&store, put(&format!("/v1/items/{id}"), &item), None).await;
        assert_eq!(store.item(id).await["id"], id);
        expect(&store, buy(id, 1), None).await;
    }
    let page = store.get("/v1/items?limit=1000").await.json();
    let ids: Vec<_> = page["items"].as_array().unwrap().iter().map(|i| i["id"].clone()).collect();
    assert_eq!(ids, [json!(0), json!(1), json!(2), json!(3), json!(u64::MAX)]);
    // A cursor can stand on either end of the numbers.
    for (sort, last) in [("-id", 0), ("id", u64::MAX)] {
        let (mut path, mut seen) = (format!("/v1/items?sort={sort}&limit=1"), Vec::new());
        loop {
            let page = store.get(&path).await.json();
            seen.push(page["items"][0]["id"].clone());
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            path = format!("/v1/items?sort={sort}&limit=1&cursor={cursor}");
        }
        assert_eq!((seen.len(), seen.last()), (5, Some(&json!(last))), "{sort}");
    }
}

#[tokio::test]
async fn keys() {
    let store = Store::start().await;
    let every_visible: String = (0x21..=0x7e_u8).map(char::from).collect();
    let keys = ["k".to_owned(), "k".repeat(IDEMPOTENCY_KEY_BYTES_MAX - 1), every_visible];
    for key in keys.into_iter().chain(["k".repeat(IDEMPOTENCY_KEY_BYTES_MAX)]) {
        let reply = store.send(buy(1, 1).key(&key)).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        assert!(!reply.replayed());
        assert!(store.send(buy(1, 1).key(&key)).await.replayed());
    }
    let before = store.mark();
    for key in [String::new(), "k".repeat(IDEMPOTENCY_KEY_BYTES_MAX + 1)] {
        let reply = store.send(buy(1, 1).key(&key)).await;
        reply.problem(Code::Malformed, Some(WriteOutcome::NotApplied));
    }
    assert_eq!(store.mark(), before);
    assert_eq!(store.item(1).await["stock"], 6);
}

#[tokio::test]
async fn pages() {
    let store = Store::start().await;
    for id in 10..10 + PAGE_LIMIT_MAX {
        let item = json!({ "title": "T", "topic": "Many", "price_cents": 1 });
        expect(&store, put(&format!("/v1/items/{id}"), &item), None).await;
    }
    let rows = async |path: &str| {
        let page = store.get(path).await.json();
        (page["items"].as_array().unwrap().len(), page["next_cursor"].is_string())
    };
    assert_eq!(rows("/v1/items").await, (PAGE_LIMIT_DEFAULT, true));
    for limit in [1, PAGE_LIMIT_MAX - 1, PAGE_LIMIT_MAX] {
        assert_eq!(rows(&format!("/v1/items?limit={limit}")).await, (limit, true));
    }
    // A page that is full and the last has no next one.
    assert_eq!(rows("/v1/items?topic=Many&limit=1000").await, (PAGE_LIMIT_MAX, false));
    assert_eq!(rows("/v1/items?topic=Many&limit=999").await, (PAGE_LIMIT_MAX - 1, true));
    for limit in [0, PAGE_LIMIT_MAX + 1] {
        store.get(&format!("/v1/items?limit={limit}")).await.problem(Code::Malformed, None);
    }
    for path in ["/v1/orders?", "/v1/changes?after=0&"] {
        for limit in [1, PAGE_LIMIT_MAX - 1, PAGE_LIMIT_MAX] {
            assert_eq!(store.get(&format!("{path}limit={limit}")).await.status, 200, "{path}");
        }
        for limit in [0, PAGE_LIMIT_MAX + 1] {
            let reply = store.get(&format!("{path}limit={limit}")).await;
            reply.problem(Code::Malformed, None);
        }
    }
}

#[tokio::test]
async fn batches() {
    let mut settings = settings();
    settings.body_limit_bytes = 8 << 20;
    let store = Store::with(settings).await;
    expect(&store, item_with("stock", AMOUNT_MAX), None).await;
    let order = |lines: usize| json!({ "lines": vec![json!({ "item": 9, "quantity": 1 }); lines] });
    let batch = |atomic: bool, orders: &[Value]| {
        post("/v1/orders/batch", &json!({ "atomic": atomic, "orders": orders }))
    };
    let placed = async |ask: Ask| {
        let reply = store.send(ask).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let results = reply.json()["results"].as_array().unwrap().clone();
        assert!(results.iter().all(|result| result["status"] == "placed"), "{results:?}");
        results.len()
    };
    for atomic in [true, false] {
        for count in [1, BATCH_ORDERS_MAX - 1, BATCH_ORDERS_MAX] {
            assert_eq!(placed(batch(atomic, &vec![order(1); count])).await, count);
        }
        for count in [0, BATCH_ORDERS_MAX + 1] {
            let ask = batch(atomic, &vec![order(1); count]);
            expect(&store, ask, Some("/orders")).await;
        }
        let full = vec![order(ORDER_LINES_MAX); BATCH_LINES_MAX / ORDER_LINES_MAX];
        assert_eq!(placed(batch(atomic, &full)).await, full.len());
        let mut less = full.clone();
        less[0] = order(ORDER_LINES_MAX - 1);
        assert_eq!(placed(batch(atomic, &less)).await, full.len());
        let more = [&full[..], &[order(1)]].concat();
        expect(&store, batch(atomic, &more), Some("/orders")).await;

        for field in ["customer", "reference"] {
            let order = |bytes: usize| {
                let mut order = order(1);
                order[field] = "x".repeat(bytes).into();
                [order]
            };
            for bytes in [1, REFERENCE_BYTES_MAX - 1, REFERENCE_BYTES_MAX] {
                assert_eq!(placed(batch(atomic, &order(bytes))).await, 1);
            }
            for bytes in [0, REFERENCE_BYTES_MAX + 1] {
                let place = format!("/orders/0/{field}");
                expect(&store, batch(atomic, &order(bytes)), Some(&place)).await;
            }
        }
        let keyed = |bytes: usize| {
            let mut order = order(1);
            let letter = if atomic { "a" } else { "b" };
            order["idempotency_key"] = letter.repeat(bytes).into();
            [order]
        };
        for bytes in [1, IDEMPOTENCY_KEY_BYTES_MAX - 1, IDEMPOTENCY_KEY_BYTES_MAX] {
            assert_eq!(placed(batch(atomic, &keyed(bytes))).await, 1);
        }
        for bytes in [0, IDEMPOTENCY_KEY_BYTES_MAX + 1] {
            let before = store.mark();
            let reply = store.send(batch(atomic, &keyed(bytes))).await;
            reply.problem(Code::Malformed, Some(WriteOutcome::NotApplied));
            assert_eq!(store.mark(), before);
        }
    }
}

#[tokio::test]
async fn orders_in_a_batch_as_configured_and_how_long_changes_may_be_waited_for() {
    let mut settings = settings();
    settings.max_batch_orders = 3;
    let store = Store::with(settings).await;
    let order = json!({ "lines": [{ "item": 1, "quantity": 1 }] });
    let batch =
        |count| post("/v1/orders/batch", &json!({ "atomic": true, "orders": vec![&order; count] }));
    for count in [2, 3] {
        expect(&store, batch(count), None).await;
    }
    expect(&store, batch(4), Some("/orders")).await;
    // There are changes since 0: nobody waits.
    for wait_ms in [0, 9_999, 10_000] {
        let path = format!("/v1/changes?after=0&wait_ms={wait_ms}");
        assert_eq!(store.get(&path).await.status, 200);
    }
    store.get("/v1/changes?after=0&wait_ms=10001").await.problem(Code::Malformed, None);
}

#[tokio::test]
async fn bodies() {
    let mut settings = settings();
    settings.body_limit_bytes = 500;
    let store = Store::with(settings).await;
    let order = |bytes: usize| {
        let order = json!({ "lines": [{ "item": 1, "quantity": 1 }] }).to_string();
        order.clone() + &" ".repeat(bytes - order.len())
    };
    for bytes in [499, 500] {
        expect(&store, ask("POST", "/v1/orders").json(&order(bytes)), None).await;
    }
    for bytes in [501, 100_000] {
        let before = store.mark();
        // Known in advance, and only when it arrives.
        let chunks = order(bytes).into_bytes().chunks(100).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let stream = futures_util::stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>));
        let streamed = ask("POST", "/v1/orders")
            .header("content-type", "application/json")
            .body(axum::body::Body::from_stream(stream));
        for ask in [ask("POST", "/v1/orders").json(&order(bytes)), streamed] {
            let reply = store.send(ask).await;
            reply.problem(Code::TooLarge, Some(WriteOutcome::NotApplied));
        }
        assert_eq!(store.mark(), before);
    }
    // A body that nobody reads harms nobody.
    let reply = store.send(get("/v1/items/1").body("x".repeat(100_000))).await;
    assert_eq!(reply.status, 200);
}

/// The node behind a real listener with these limits.
struct Listening {
    address: std::net::SocketAddr,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Listening {
    async fn start(store: &Store, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let never = std::future::pending();
        let served = tokio::spawn(serve(listener, store.app.clone(), limits, never, PATIENCE));
        Self { address, served }
    }

    /// The status of a reply and its problem document, if it is one.
    async fn send(&self, head: &str, body: &str) -> (u16, Option<Problem>) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.unwrap();
        read_reply(&mut stream).await
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.served.abort();
    }
}

async fn read_reply(stream: &mut TcpStream) -> (u16, Option<Problem>) {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    read.expect("the server answers and closes").unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let is_problem = head.contains("content-type: application/problem+json");
    (status, is_problem.then(|| serde_json::from_str(body).unwrap()))
}

const ORDER: &str = r#"{"lines":[{"item":1,"quantity":1}]}"#;

/// The head of an order, with this target and these lines more.
fn order_head(target: &str, more: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n{more}",
        ORDER.len()
    )
}

fn expect_headers_too_large((status, problem): (u16, Option<Problem>)) {
    let problem = problem.expect("a problem document");
    assert_eq!((status, problem.code.as_str()), (431, "headers_too_large"));
    assert_eq!(problem.outcome, Some(WriteOutcome::NotApplied), "it was a write");
}

#[tokio::test]
async fn headers_and_targets() {
    const BYTES_MAX: usize = 8192;
    let store = Store::start().await;
    let limits = Limits { header_bytes_max: BYTES_MAX, header_count_max: 20, ..Limits::default() };
    let listening = Listening::start(&store, limits).await;

    // As the listener counts: the target, and of each header name, value and four bytes.
    let fixed: usize = order_head("", "").lines().skip(1).map(|line| line.len() + 2).sum();
    let padded = |bytes: usize| {
        let rest = bytes - fixed - "/v1/orders".len() - "a: \r\n".len();
        order_head("/v1/orders", &format!("a: {}\r\n", "x".repeat(rest)))
    };
    for bytes in [BYTES_MAX - 1, BYTES_MAX] {
        assert_eq!(listening.send(&padded(bytes), ORDER).await.0, 201, "{bytes}");
    }
    let before = store.mark();
    // A little more is counted by us, much more by hyper.
    for bytes in [BYTES_MAX + 1, 2 * BYTES_MAX, 10 * BYTES_MAX] {
        expect_headers_too_large(listening.send(&padded(bytes), ORDER).await);
    }
    assert_eq!(store.mark(), before);

    let counted = |count: usize| {
        let more = (4..count).map(|n| format!("h{n}: x\r\n")).collect::<String>();
        order_head("/v1/orders", &more)
    };
    for count in [19, 20] {
        assert_eq!(listening.send(&counted(count), ORDER).await.0, 201, "{count}");
    }
    let before = store.mark();
    for count in [21, 100, 101, 1000] {
        expect_headers_too_large(listening.send(&counted(count), ORDER).await);
    }
    assert_eq!(store.mark(), before);

    let target = |bytes: usize| {
        let rest = bytes - fixed - "/v1/orders?x=".len();
        order_head(&format!("/v1/orders?x={}", "y".repeat(rest)), "")
    };
    for bytes in [BYTES_MAX - 1, BYTES_MAX] {
        let (status, problem) = listening.send(&target(bytes), ORDER).await;
        let problem = problem.expect("the handler knows no such parameter");
        assert_eq!((status, problem.code.as_str()), (400, "malformed"));
    }
    // The last is longer than hyper's own limit on a target, which answers 414 then.
    for bytes in [BYTES_MAX + 1, 10 * BYTES_MAX] {
        expect_headers_too_large(listening.send(&target(bytes), ORDER).await);
    }
    assert_eq!(store.mark(), before);
}

#[tokio::test]
async fn a_body_of_a_length_that_is_too_much_is_refused_on_the_wire() {
    let mut settings = settings();
    settings.body_limit_bytes = ORDER.len();
    let store = Store::with(super::store::settings()).await;
    let listening = Listening::start(&store.again(settings), Limits::default()).await;
    assert_eq!(listening.send(&order_head("/v1/orders", ""), ORDER).await.0, 201);
    let before = store.mark();
    let head = order_head("/v1/orders", "");
    let length = |length: usize| format!("content-length: {length}\r\n");
    let longer = head.replace(&length(ORDER.len()), &length(ORDER.len() + 1));
    let (status, problem) = listening.send(&longer, &format!("{ORDER} ")).await;
    let problem = problem.expect("a problem document");
    assert_eq!((status, problem.code.as_str()), (413, "too_large"));
    assert_eq!(problem.outcome, Some(WriteOutcome::NotApplied));
    assert_eq!(store.mark(), before);
}

#[tokio::test]
async fn connections() {
    let store = Store::start().await;
    let listening =
        Listening::start(&store, Limits { max_connections: 2, ..Limits::default() }).await;
    // One below the bound, and one at it; both stay open.
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(listening.address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        open.push(stream);
    }
    let before = store.mark();
    let (status, problem) = listening.send(&order_head("/v1/orders", ""), ORDER).await;
    let problem = problem.expect("a problem document");
    assert_eq!((status, problem.code.as_str()), (503, "overloaded"));
    assert_eq!(problem.outcome, Some(WriteOutcome::NotApplied), "nobody has read it");
    assert_eq!(store.mark(), before);
}

#[tokio::test]
async fn requests_of_one_address() {
    let store = Store::start().await;
    let limit = rate_limit::Settings {
        per_second: NonZeroU32::MIN,
        burst: NonZeroU32::new(2).unwrap(),
        trusted_proxies: Vec::new(),
    };
    let mut settings = settings();
    settings.rate_limit = Some(RateLimit::with_clock(limit, || Duration::ZERO));
    let limited = store.again(settings);
    let limits = Limits { tell_peer: true, ..Limits::default() };
    let listening = Listening::start(&limited, limits).await;
    for _ in 0..2 {
        assert_eq!(listening.send(&order_head("/v1/orders", ""), ORDER).await.0, 201);
    }
    let before = store.mark();
    let (status, problem) = listening.send(&order_head("/v1/orders", ""), ORDER).await;
    assert_eq!((status, problem.unwrap().code.as_str()), (429, "rate_limited"));
    assert_eq!(store.mark(), before);
    // Its address was told: who comes without one has a bucket of his own.
    assert_eq!(limited.get("/v1/topics").await.status, 200);
}

#[tokio::test]
async fn requests_at_once() {
    const MOST: usize = 3;
    let volume = HeldVolume::default();
    let store = Store::on(std::sync::Arc::new(volume.clone()), settings()).await;
    store.fill().await;
    let mut few = settings();
    few.max_in_flight = MOST;
    let few = store.again(few);
    volume.hold();
    let held = futures_util::future::join_all((0..MOST).map(|_| few.send(buy(1, 1))));
    let one_more = async {
        // All are in hand once a read finds no room.
        while few.get("/v1/cluster").await.status != 503 {
            tokio::task::yield_now().await;
        }
        let refused = few.send(buy(1, 1)).await;
        volume.release();
        refused
    };
    let (held, refused) = tokio::join!(held, one_more);
    refused.problem(Code::Overloaded, Some(WriteOutcome::NotApplied));
    assert!(held.iter().all(|reply| reply.status == 201), "{held:?}");
    assert_eq!(store.item(1).await["stock"], 10 - MOST);
}

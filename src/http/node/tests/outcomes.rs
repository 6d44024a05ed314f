//! What an error says of a write is true: every code that a write can be answered with, through the real
//! handlers, and the state afterwards.

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc, time::Duration};

use pygmy_storage::volume::MemoryVolume;
use serde_json::{Value, json};

use super::{
    disk::HeldVolume,
    store::{Ask, Reply, Store, ask, get, post, put, settings},
};
use crate::{
    api::{Problem, WriteOutcome, header},
    http::{
        problem::Code,
        rate_limit::{self, RateLimit},
    },
};

const NOT_APPLIED: WriteOutcome = WriteOutcome::NotApplied;
const UNKNOWN: WriteOutcome = WriteOutcome::Unknown;

/// Codes that are seen elsewhere, or by no write.
const NOT_HERE: [(Code, &str); 9] = [
    (Code::Unauthenticated, "there are no tokens yet"),
    (Code::Forbidden, "there are no tokens yet"),
    (Code::HeadersTooLarge, "the listener's: see limits"),
    (Code::HistoryGone, "of reads only"),
    (Code::TooStale, "of reads only"),
    (Code::Recovering, "of reads only"),
    (Code::DiskFull, "given by nobody here"),
    (Code::Internal, "a fault of ours"),
    (Code::Replaced, "see refusals"),
];

/// Every way to change something. Each succeeds on the items of [`Store::fill`], and changes them.
const WRITES: [fn() -> Ask; 7] = [
    || post("/v1/orders", &order(1)),
    || post("/v1/orders/batch", &json!({ "atomic": true, "orders": [order(1), order(1)] })),
    || post("/v1/orders/batch", &json!({ "atomic": false, "orders": [order(1), order(1)] })),
    || put("/v1/items/1", &json!({ "title": "New", "topic": "A", "price_cents": 7 })),
    || post("/v1/items/1/stock", &json!({ "delta": 5, "reason": "received" })),
    || ask("POST", "/restock/"),
    || get("/buy/1/"),
];

fn order(quantity: u64) -> Value {
    json!({ "lines": [{ "item": 1, "quantity": quantity }] })
}

/// The code and the outcome of an error, which the original's form has in its headers.
fn told(reply: &Reply) -> (Code, WriteOutcome) {
    assert!(!reply.status.is_success(), "{reply:?}");
    if reply.header(header::CODE).is_empty() {
        let problem: Problem = serde_json::from_slice(&reply.body).unwrap();
        let code = Code::parse(&problem.code).unwrap();
        reply.problem(code, problem.outcome);
        return (code, problem.outcome.expect("a write says what became of it"));
    }
    assert_eq!(reply.text(), r#"{"Result": "0"}"#);
    assert_eq!(reply.header(header::OUTCOME), "not_applied");
    (Code::parse(reply.header(header::CODE)).unwrap(), NOT_APPLIED)
}

/// Sends what must fail so, and looks whether it is true that nothing happened.
async fn expect_nothing(sent_to: &Store, open: &Store, ask: Ask, code: Code) -> Code {
    let before = open.contents().await;
    let reply = sent_to.send(ask).await;
    assert_eq!(told(&reply), (code, NOT_APPLIED), "{reply:?}");
    assert_eq!(open.contents().await, before, "{code:?}");
    code
}

fn once_a_day() -> RateLimit {
    let (per_second, burst) = (NonZeroU32::MIN, NonZeroU32::MIN);
    let limit = rate_limit::Settings { per_second, burst, trusted_proxies: Vec::new() };
    // Its clock stands: after the first request nobody gets another one.
    RateLimit::with_clock(limit, || Duration::ZERO)
}

/// A node that takes no more: full, or of this client.
async fn refused_at_the_door() -> Vec<Code> {
    let open = Store::start().await;
    let (mut full, mut limited) = (settings(), settings());
    full.max_in_flight = 0;
    limited.rate_limit = Some(once_a_day());
    let (full, limited) = (open.again(full), open.again(limited));
    assert_eq!(limited.get("/v1/topics").await.status, 200);
    let mut seen = Vec::new();
    for write in WRITES {
        seen.push(expect_nothing(&full, &open, write(), Code::Overloaded).await);
        seen.push(expect_nothing(&limited, &open, write(), Code::RateLimited).await);
    }
    seen
}

/// A request that is wrong as such.
async fn refused_before_the_log() -> Vec<Code> {
    let open = Store::start().await;
    let mut small = settings();
    small.body_limit_bytes = 10;
    let small = open.again(small);
    let mut seen = Vec::new();
    for write in WRITES {
        let bad_key = write().key("two words");
        seen.push(expect_nothing(&open, &open, bad_key, Code::Malformed).await);
        let (path, has_body) = (write().path().to_owned(), write().has_body());
        let wrong_method = if path == "/v1/items/1" { "POST" } else { "DELETE" };
        let wrong_method = ask(wrong_method, &path);
        seen.push(expect_nothing(&open, &open, wrong_method, Code::MethodNotAllowed).await);
        if has_body {
            seen.push(expect_nothing(&small, &open, write(), Code::TooLarge).await);
            let text = write().without("content-type").header("content-type", "text/plain");
            seen.push(expect_nothing(&open, &open, text, Code::UnsupportedMediaType).await);
            let html = write().header("accept", "text/html");
            seen.push(expect_nothing(&open, &open, html, Code::NotAcceptable).await);
            let broken = write().body("{");
            seen.push(expect_nothing(&open, &open, broken, Code::Malformed).await);
        }
    }
    seen
}

/// An answer of the store that is no.
async fn refused_by_the_log() -> Vec<Code> {
    let open = Store::start().await;
    let first = post("/v1/orders", &order(1)).key("used");
    assert_eq!(open.send(first).await.status, 201);
    let item = json!({ "title": "T", "topic": "A", "price_cents": 1 });
    let other_price = json!({ "lines": [{ "item": 1, "quantity": 1, "expected_price_cents": 1 }] });
    let less = json!({ "delta": -100, "reason": "damaged" });
    let nowhere = json!({ "lines": [{ "item": 1, "quantity": 1 }, { "item": 50, "quantity": 1 }] });
    let mut seen = Vec::new();
    for (ask, code) in [
        (post("/v1/orders", &order(100)), Code::OutOfStock),
        (post("/v1/items/1/stock", &less), Code::OutOfStock),
        (post("/v1/orders", &other_price), Code::WrongState),
        (post("/v1/orders", &nowhere), Code::NotFound),
        (post("/v1/items/50/stock", &json!({ "set": 1, "reason": "count" })), Code::NotFound),
        (put("/v1/items/1", &item).header("if-match", "\"1\""), Code::VersionMismatch),
        (put("/v1/items/1", &item).header("if-none-match", "*"), Code::VersionMismatch),
        (post("/v1/orders", &order(2)).key("used"), Code::IdempotencyKeyReused),
        (put("/v1/items/1", &item).key("used"), Code::IdempotencyKeyReused),
        (post("/v1/orders", &order(0)), Code::Invalid),
    ] {
        seen.push(expect_nothing(&open, &open, ask, code).await);
    }
    seen
}

/// The operator has switched writes off: with a key, which the log judges, and without.
async fn maintenance() -> Vec<Code> {
    let open = Store::start().await;
    let on = post("/v1/cluster/maintenance", &json!({ "on": true }));
    assert_eq!(open.send(on).await.status, 200);
    let mut seen = Vec::new();
    for (n, write) in WRITES.into_iter().enumerate() {
        seen.push(expect_nothing(&open, &open, write(), Code::Maintenance).await);
        let keyed = write().key(&format!("key-{n}"));
        seen.push(expect_nothing(&open, &open, keyed, Code::Maintenance).await);
    }
    seen
}

/// Nobody leads, and later somebody does: what was refused does not come back.
async fn no_leader() -> Vec<Code> {
    let store = Store::unformed(Arc::new(MemoryVolume::new()), settings()).await;
    let mut seen = Vec::new();
    for write in WRITES {
        let reply = store.send(write().header(header::TIMEOUT_MS, "20")).await;
        assert_eq!(told(&reply), (Code::NoLeader, NOT_APPLIED), "{reply:?}");
        seen.push(Code::NoLeader);
    }
    store.node.establish().await.unwrap();
    store.fill().await;
    let (items, orders) = store.contents().await;
    assert_eq!(orders["orders"], json!([]));
    assert_eq!(
        (&items["items"][0]["stock"], &items["items"][0]["title"]),
        (&json!(10), &json!("Title 1"))
    );
    seen
}

/// A node that is about to end.
async fn shutting_down() -> Vec<Code> {
    let store = Store::start().await;
    store.node.stop().await;
    let before = store.mark();
    let mut seen = Vec::new();
    for write in WRITES {
        let reply = store.send(write()).await;
        assert_eq!(told(&reply), (Code::ShuttingDown, NOT_APPLIED), "{reply:?}");
        seen.push(Code::ShuttingDown);
    }
    assert_eq!(store.mark(), before);
    seen
}

/// No outcome in time: it may have happened, and here it has. The key finds out and does it only once.
async fn timeout() -> Vec<Code> {
    let volume = HeldVolume::default();
    let store = Store::on(Arc::new(volume.clone()), settings()).await;
    store.fill().await;
    let mut seen = Vec::new();
    for (n, write) in WRITES.into_iter().enumerate() {
        let key = format!("key {n}").replace(' ', "-");
        let before = store.contents().await;
        volume.hold();
        let reply = store.send(write().key(&key).header(header::TIMEOUT_MS, "20")).await;
        assert_eq!(told(&reply), (Code::Timeout, UNKNOWN), "{reply:?}");
        volume.release();
        let again = store.send(write().key(&key)).await;
        assert!(again.status.is_success() && again.replayed(), "{again:?}");
        let after = store.contents().await;
        assert_ne!(after, before, "write {n} has happened");
        assert!(store.send(write().key(&key)).await.replayed());
        assert_eq!(store.contents().await, after, "write {n} has happened once");
        seen.push(Code::Timeout);
    }
    seen
}

/// The disk fails under the leader: whether the entry is in the log shows after a restart only.
async fn leadership_lost() -> Vec<Code> {
    let mut seen = Vec::new();
    for write in WRITES {
        let volume = MemoryVolume::new();
        let store = Store::on(Arc::new(volume.clone()), settings()).await;
        store.fill().await;
        let before = store.mark();
        volume.engine("log").unwrap().fail_next_syncs(1);
        let reply = store.send(write().key("k")).await;
        assert_eq!(told(&reply), (Code::LeadershipLost, UNKNOWN), "{reply:?}");
        assert_eq!(store.mark(), before, "nobody has been shown what is not confirmed");
        seen.push(Code::LeadershipLost);
    }
    seen
}

#[tokio::test]
async fn what_a_write_is_told_of_itself_is_true_for_every_code() {
    let seen = [
        refused_at_the_door().await,
        refused_before_the_log().await,
        refused_by_the_log().await,
        maintenance().await,
        no_leader().await,
        shutting_down().await,
        timeout().await,
        leadership_lost().await,
    ];
    let seen: BTreeSet<_> = seen.iter().flatten().map(|code| code.as_str()).collect();
    let elsewhere: BTreeSet<_> = NOT_HERE.iter().map(|(code, _)| code.as_str()).collect();
    assert!(seen.is_disjoint(&elsewhere));
    let all: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let missing: Vec<_> =
        all.iter().filter(|c| !seen.contains(*c) && !elsewhere.contains(*c)).collect();
    assert!(missing.is_empty(), "no write was answered with {missing:?}");
}

//! Live feeds of changes.

use std::{io::Write, time::Duration};

use axum::body::{Body, BodyDataStream};
use futures_util::{StreamExt, future::join_all};
use http::Request;
use pygmy_storage::command::Command;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
};

use super::store::{Ask, PATIENCE, Store, ask, buy, get, post, settings};
use crate::{
    api::{Change, header},
    http::{
        problem::Code,
        serve::{Limits, serve},
    },
};

/// One who follows.
struct Feed {
    chunks: BodyDataStream,
    text: String,
}

/// A block of a feed: its id and its data, and the event's name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Block {
    id: Option<u64>,
    name: Option<String>,
    data: Option<String>,
}

impl Feed {
    async fn open(store: &Store, query: &str, last_seen: Option<u64>) -> Self {
        let mut request =
            Request::get(format!("/v1/changes{query}")).header("accept", "text/event-stream");
        if let Some(last_seen) = last_seen {
            request = request.header("last-event-id", last_seen);
        }
        let request = request.body(Body::empty()).unwrap();
        let reply = store.app.answer(request).await;
        assert_eq!(reply.status(), 200, "{reply:?}");
        assert_eq!(reply.headers()["content-type"], "text/event-stream");
        assert_eq!(reply.headers()["cache-control"], "no-store");
        for name in [header::NODE, header::REQUEST_ID, header::INDEX] {
            assert!(reply.headers().contains_key(name), "{name}: {reply:?}");
        }
        Self { chunks: reply.into_body().into_data_stream(), text: String::new() }
    }

    /// The next block; none at the end.
    async fn block(&mut self) -> Option<Block> {
        while !self.text.contains("\n\n") {
            let chunk = tokio::time::timeout(PATIENCE, self.chunks.next());
            match chunk.await.expect("something comes, or it ends") {
                Some(bytes) => self.text += std::str::from_utf8(&bytes.unwrap()).unwrap(),
                None if self.text.is_empty() => return None,
                None => panic!("it ended within {:?}", self.text),
            }
        }
        let (block, rest) = self.text.split_once("\n\n").unwrap();
        let mut found = Block::default();
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("id", id)) => found.id = Some(id.parse().unwrap()),
                Some(("event", name)) => found.name = Some(name.to_owned()),
                Some(("data", data)) => found.data = Some(data.to_owned()),
                _ => assert_eq!(line, ":"),
            }
        }
        self.text = rest.to_owned();
        Some(found)
    }

    /// The next event: its id, and its changes.
    async fn event(&mut self) -> (u64, Vec<Change>) {
        loop {
            let block = self.block().await.expect("the feed goes on");
            if let Some(data) = block.data {
                return (block.id.unwrap(), serde_json::from_str(&data).unwrap());
            }
        }
    }
}

/// What the pages say happened after an index.
async fn pages(store: &Store, after: u64, more: &str) -> Vec<Change> {
    let (mut after, mut found) = (after, Vec::new());
    loop {
        let page = store.get(&format!("/v1/changes?after={after}{more}")).await.json();
        let changes: Vec<Change> = serde_json::from_value(page["changes"].clone()).unwrap();
        let next = page["next_after"].as_u64().unwrap();
        if next == after {
            return found;
        }
        found.extend(changes);
        after = next;
    }
}

#[tokio::test]
async fn a_feed_tells_what_happens_and_an_index_is_one_event() {
    let store = Store::start().await;
    let (start, _) = store.mark();
    let mut all = Feed::open(&store, "", None).await;
    let mut orders = Feed::open(&store, "?kinds=order", None).await;
    for feed in [&mut all, &mut orders] {
        // Who is cut off before the first change knows where to go on.
        let opening = Block { id: Some(start), ..Block::default() };
        assert_eq!(feed.block().await, Some(opening));
    }
    let restocked = store.send(ask("POST", "/restock/")).await.index();
    let sold = store.send(buy(1, 1)).await.index();
    let change = |index, kind: &str, id, what: &str| {
        let (kind, what) = (kind.to_owned(), what.to_owned());
        Change { index, kind, id, what }
    };
    assert_eq!(all.event().await, (restocked, vec![change(restocked, "item", 3, "changed")]));
    let sale = vec![change(sold, "item", 1, "changed"), change(sold, "order", 1, "created")];
    assert_eq!(all.event().await, (sold, sale));
    assert_eq!(orders.event().await, (sold, vec![change(sold, "order", 1, "created")]));
}

#[tokio::test]
async fn whoever_resumes_misses_nothing_and_hears_nothing_twice() {
    let store = Store::start().await;
    let (start, _) = store.mark();
    let selling = async {
        for _ in 0..200 {
            store.send(ask("POST", "/restock/")).await;
            assert_eq!(store.send(buy(2, 1)).await.status, 201);
        }
    };
    // It takes three events of each connection: out of the past, out of the window, and live.
    let following = async {
        let (mut at, mut heard, mut orders) = (start, Vec::new(), 0);
        while orders < 200 {
            // The header counts, and not where the client once began.
            let mut feed = Feed::open(&store, &format!("?after={start}"), Some(at)).await;
            for _ in 0..3 {
                if orders == 200 {
                    break;
                }
                let (index, changes) = feed.event().await;
                assert!(index > at && changes.iter().all(|change| change.index == index));
                at = index;
                orders += changes.iter().filter(|change| change.kind == "order").count();
                heard.extend(changes);
            }
        }
        heard
    };
    let ((), heard) = tokio::join!(selling, following);
    assert_eq!(heard, pages(&store, start, "").await);
    // A page moves on when everything in it was of other kinds.
    let items = store.get(&format!("/v1/changes?after={start}&kinds=order&limit=1")).await.json();
    assert_eq!(items["changes"], Value::Array(Vec::new()), "the first change is a restock");
    assert_eq!(items["next_after"], start + 1);
    assert_eq!(pages(&store, start, "&kinds=order&limit=1").await.len(), 200);
}

#[tokio::test]
async fn a_compressed_feed_says_the_same() {
    let store = Store::start().await;
    let (start, _) = store.mark();
    let open = async |after: u64| {
        let request = Request::get(format!("/v1/changes?after={after}"))
            .header("accept", "text/event-stream")
            .header("accept-encoding", "gzip");
        let request = request.body(Body::empty()).unwrap();
        let reply = store.app.answer(request).await;
        assert_eq!(reply.headers()["content-encoding"], "gzip");
        reply.into_body().into_data_stream()
    };
    // One is there from the start, others come in the middle of what it gets in one piece.
    let mut packed = vec![(start, open(start).await)];
    for _ in 0..4 {
        for _ in 0..10 {
            store.send(ask("POST", "/restock/")).await;
            assert_eq!(store.send(buy(2, 1)).await.status, 201);
        }
        let (now, _) = store.mark();
        packed.push((now - 5, open(now - 5).await));
    }
    let mut plain = Feed::open(&store, &format!("?after={start}"), None).await;
    let (last, _) = store.mark();
    let mut all = vec![plain.event().await];
    while all.last().unwrap().0 < last {
        all.push(plain.event().await);
    }
    let said = |after: u64| {
        let events = all.iter().filter(|(index, _)| *index > after);
        let text = events.map(|(index, changes)| {
            format!("id: {index}\ndata: {}\n\n", serde_json::to_string(changes).unwrap())
        });
        format!(":\nid: {after}\n\n{}", text.collect::<String>())
    };
    let mut unfinished = Vec::new();
    for (after, mut chunks) in packed {
        let mut unpacked = flate2::write::GzDecoder::new(Vec::new());
        while unpacked.get_ref().len() < said(after).len() {
            let chunk = tokio::time::timeout(PATIENCE, chunks.next()).await.expect("more comes");
            unpacked.write_all(&chunk.expect("no end yet").unwrap()).unwrap();
            unpacked.flush().unwrap();
        }
        assert_eq!(std::str::from_utf8(unpacked.get_ref()).unwrap(), said(after));
        unfinished.push((chunks, unpacked));
    }
    store.drain.send_replace(true);
    for (mut chunks, mut unpacked) in unfinished {
        while let Some(chunk) = chunks.next().await {
            unpacked.write_all(&chunk.unwrap()).unwrap();
        }
        unpacked.finish().expect("the end fits to what was said");
    }
}

#[tokio::test]
async fn many_followers_hear_the_same() {
    let mut many = settings();
    many.max_feeds = 50;
    let store = Store::with(many).await;
    let (start, _) = store.mark();
    let kinds = ["", "&kinds=order", "&kinds=item"];
    let mut feeds = Vec::new();
    for n in 0..48 {
        let query = format!("?after={start}{}", kinds[n % 3]);
        feeds.push(Feed::open(&store, &query, None).await);
    }
    let selling = async {
        for _ in 0..8 {
            assert_eq!(store.send(buy(1, 1)).await.status, 201);
        }
    };
    let following = join_all(feeds.iter_mut().map(async |feed| {
        let mut heard = Vec::new();
        for _ in 0..8 {
            heard.extend(feed.event().await.1);
        }
        heard
    }));
    let ((), heard) = tokio::join!(selling, following);
    for (n, heard) in heard.into_iter().enumerate() {
        assert_eq!(heard, pages(&store, start, kinds[n % 3]).await);
    }
}

#[tokio::test]
async fn silence_is_broken_by_comments_that_move_the_place_to_resume_from() {
    let mut often = settings();
    often.feed_comment_interval = Duration::from_millis(20);
    let store = Store::with(often).await;
    let mut feed = Feed::open(&store, "?kinds=order", None).await;
    for _ in 0..3 {
        let block = feed.block().await.unwrap();
        assert_eq!((block.id, block.data), (Some(store.mark().0), None));
    }
    let restocked = store.send(ask("POST", "/restock/")).await.index();
    while feed.block().await.unwrap().id != Some(restocked) {}
}

#[tokio::test]
async fn what_is_gone_is_told_before_the_feed_begins() {
    let store = Store::start().await;
    // More than is kept: so many orders, and the item each time.
    let order = json!({ "lines": [{ "item": 1, "quantity": 1 }] });
    let batch = json!({ "atomic": true, "orders": vec![order; 1000] });
    let stock = json!({ "set": 1_000_000, "reason": "count" });
    assert_eq!(store.send(post("/v1/items/1/stock", &stock)).await.status, 200);
    let mut policy = store.node.view().state.policy().clone();
    policy.change_history = 1;
    store.node.write(None, Command::SetPolicy(policy), PATIENCE).await.unwrap();
    while store.node.published().changes.oldest() == 0 {
        assert_eq!(store.send(post("/v1/orders/batch", &batch)).await.status, 200);
    }
    let oldest = store.node.published().changes.oldest();
    let feed = |after: u64| get(&format!("/v1/changes?after={after}"));
    let accept = |ask: Ask| ask.header("accept", "text/event-stream");
    for ask in [feed(oldest - 1), accept(feed(oldest - 1))] {
        let reply = store.send(ask).await;
        let problem = reply.problem(Code::HistoryGone, None);
        assert_eq!(problem.oldest_after, Some(oldest));
        assert_eq!(reply.index(), store.mark().0);
    }
    let sold = store.send(buy(1, 1)).await.index();
    let mut kept = Feed::open(&store, &format!("?after={oldest}"), None).await;
    while kept.event().await.0 != sold {}
    for (query, place) in [
        ("?after=x", "after"),
        ("?kinds=item,book", "kinds"),
        ("?kinds=", "kinds"),
        ("?limit=5", "limit"),
        ("?wait_ms=5", "wait_ms"),
    ] {
        let reply = store.send(accept(get(&format!("/v1/changes{query}")))).await;
        assert_eq!(reply.problem(Code::Malformed, None).errors[0].pointer, place);
    }
    let reply = store.send(accept(feed(0)).header("last-event-id", "x")).await;
    assert_eq!(reply.problem(Code::Malformed, None).errors[0].pointer, "Last-Event-ID");
}

#[tokio::test]
async fn feeds_have_a_bound_of_their_own_and_one_that_ends_makes_room() {
    let mut few = settings();
    few.max_feeds = 2;
    few.max_in_flight = 0;
    let store = Store::start().await.again(few);
    let first = Feed::open(&store, "", None).await;
    let _second = Feed::open(&store, "?kinds=item", None).await;
    let third = || get("/v1/changes").header("accept", "text/event-stream");
    store.send(third()).await.problem(Code::Overloaded, None);
    drop(first);
    Feed::open(&store, "", None).await;
}

#[tokio::test]
async fn a_node_that_drains_ends_its_feeds() {
    let store = Store::start().await;
    let (start, _) = store.mark();
    let mut feeds = Vec::new();
    for query in ["", "?kinds=item"] {
        let mut feed = Feed::open(&store, query, None).await;
        feed.block().await.expect("it has begun");
        feeds.push(feed);
    }
    store.drain.send_replace(true);
    for mut feed in feeds {
        assert_eq!(feed.block().await, None);
    }
    let reply = store.send(get("/v1/changes").header("accept", "text/event-stream")).await;
    reply.problem(Code::ShuttingDown, None);
    // Pages, and everything else, go on.
    assert!(pages(&store, start, "").await.is_empty());
}

#[tokio::test]
async fn who_does_not_read_is_cut_off_and_others_go_on() {
    let mut many = settings();
    many.max_feeds = 2;
    let store = Store::with(many).await;
    let (start, _) = store.mark();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits { write_timeout: Duration::from_millis(200), ..Limits::default() };
    let serving = serve(listener, store.app.clone(), limits, std::future::pending(), PATIENCE);
    let serving = tokio::spawn(serving);

    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut idle = socket.connect(address).await.unwrap();
    let request = format!(
        "GET /v1/changes?after={start} HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n"
    );
    idle.write_all(request.as_bytes()).await.unwrap();
    let mut reading = Feed::open(&store, &format!("?after={start}&kinds=order"), None).await;

    // One sale of so many orders is one event of tens of kilobytes.
    let order = json!({ "lines": [{ "item": 1, "quantity": 1 }] });
    let batch = json!({ "atomic": true, "orders": vec![order; 1000] });
    let stock = json!({ "set": 1_000_000, "reason": "count" });
    assert_eq!(store.send(post("/v1/items/1/stock", &stock)).await.status, 200);
    let mut heard = 0;
    let mut cut = false;
    while !cut {
        let sold = store.send(post("/v1/orders/batch", &batch)).await;
        assert_eq!(sold.status, 200, "{sold:?}");
        assert_eq!(reading.event().await.1.len(), 1000, "the other one hears everything");
        heard += 1;
        assert!(heard < 500, "the one who does not read should have been cut off");
        // His place is free once he is gone.
        let third = get("/v1/changes").header("accept", "text/event-stream");
        let reply = tokio::time::timeout(Duration::from_millis(50), store.send(third)).await;
        cut = match reply {
            Ok(refused) => {
                refused.problem(Code::Overloaded, None);
                false
            }
            // A feed that has begun has no end.
            Err(_) => true,
        };
    }
    let mut rest = Vec::new();
    // Reset or closed: either is an end.
    let _ = tokio::time::timeout(PATIENCE, idle.read_to_end(&mut rest)).await.expect("it ends");
    serving.abort();
}

//! A store in memory that answers as the interface says, or with one deliberate mistake.
//!
//! One state stands for all nodes; each node has a listener of its own, so that it knows its name.

mod follow_ups;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, StatusCode},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use pygmy::api::{
    Change, ChangeStock, Cluster, HashAt, Item, ItemPage, LedgerRow, Member, NewOrder,
    NewOrderLine, Order, OrderLine, OrderPage, Problem, PutItem, Reservation, Verification,
    WriteOutcome,
};
use tokio::net::TcpListener;

/// What the store does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    None,
    /// Every 50th confirmed order never comes to be.
    LosesOrders,
    /// A repeated buy is a new buy.
    ForgetsKeys,
    /// Linearizable reads now and then show the state of 50 writes ago.
    ReadsFromThePast,
    /// One piece too many may be sold.
    Oversells,
    /// A cancellation is confirmed, and every 5th does nothing.
    LosesCancellations,
    /// The pieces of a cancelled order come back twice.
    ReturnsTwice,
    /// The pieces of a reservation whose time is up stay reserved.
    KeepsPieces,
    /// Every 100th buy fails without saying what became of it.
    AnswersWithoutOutcome,
    /// Each request takes a while.
    IsSlow,
}

const NODES: usize = 3;
const NOW: &str = "2019-04-01T00:00:00Z";

/// The store; it stops answering with its runtime.
pub(crate) struct FakeStore {
    addresses: Vec<SocketAddr>,
}

impl FakeStore {
    pub(crate) async fn start(mistake: Mistake) -> Self {
        let inner = Arc::new(Mutex::new(Inner::default()));
        let mut addresses = Vec::new();
        for node in 1..=NODES {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            let node = Node { name: format!("node{node}"), mistake, inner: Arc::clone(&inner) };
            tokio::spawn(async { axum::serve(listener, router(node)).await.unwrap() });
        }
        Self { addresses }
    }

    /// One address per node, separated by commas.
    pub(crate) fn addresses(&self) -> String {
        self.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

#[derive(Clone)]
struct Node {
    name: String,
    mistake: Mistake,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    index: u64,
    counts: Counts,
    prices: BTreeMap<u64, u64>,
    orders: Vec<Order>,
    reservations: Vec<Reservation>,
    /// Rows of the ledgers, with their items, oldest first.
    ledger: Vec<(u64, LedgerRow)>,
    changes: Vec<Change>,
    keys: HashMap<String, (String, Reply)>,
    buys: u64,
    cancellations: u64,
    reads: u64,
    /// For [`Mistake::ReadsFromThePast`]: what there was at earlier indexes.
    past: Vec<(u64, Counts)>,
}

/// How much there is of each item, and since when.
#[derive(Clone, Default)]
struct Counts {
    stock: BTreeMap<u64, i64>,
    reserved: BTreeMap<u64, i64>,
    versions: BTreeMap<u64, u64>,
}

impl Counts {
    fn available(&self, id: u64) -> i64 {
        self.stock[&id] - self.reserved.get(&id).copied().unwrap_or(0)
    }
}

/// What a write answered, to be answered again.
#[derive(Clone)]
struct Reply {
    status: StatusCode,
    index: u64,
    body: String,
}

fn router(node: Node) -> Router {
    Router::new()
        .route("/livez", get(|| async {}))
        .route("/readyz", get(|| async {}))
        .route("/clusterz", get(|| async {}))
        .route("/v1/cluster", get(cluster))
        .route("/v1/verify", get(verify))
        .route("/v1/items", get(items))
        .route("/v1/items/{id}", get(item).put(put_item))
        .route("/v1/items/{id}/stock", post(stock))
        .route("/v1/orders", get(orders).post(buy))
        .route("/v1/orders/{id}", get(order))
        .merge(follow_ups::router())
        .layer(from_fn_with_state(node.clone(), slow))
        .with_state(node)
}

/// Takes long for every write.
async fn slow(State(node): State<Node>, request: Request, next: Next) -> Response {
    if node.mistake == Mistake::IsSlow && !request.method().is_safe() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    next.run(request).await
}

impl Inner {
    fn item(&self, id: u64, counts: &Counts) -> Item {
        let stock = counts.stock[&id].max(0) as u64;
        let reserved = stock.saturating_sub(counts.available(id).max(0) as u64);
        Item {
            id,
            title: format!("Item {id}"),
            topic: "Misc".into(),
            price_cents: self.prices[&id],
            stock,
            reserved,
            available: stock - reserved,
            version: counts.versions[&id],
            created_at: NOW.into(),
            updated_at: NOW.into(),
        }
    }

    fn current(&self, id: u64) -> Item {
        self.item(id, &self.counts)
    }

    /// Changes an item's stock, and tells its ledger.
    fn change(&mut self, id: u64, delta: i64, reason: &str, order: Option<u64>) {
        *self.counts.stock.entry(id).or_default() += delta;
        self.counts.versions.insert(id, self.index);
        let row = LedgerRow {
            delta,
            reason: reason.into(),
            reference: None,
            order,
            reservation: None,
            index: self.index,
            at: NOW.into(),
        };
        self.ledger.push((id, row));
    }

    fn remember(&mut self, mistake: Mistake) {
        if mistake == Mistake::ReadsFromThePast {
            self.past.push((self.index, self.counts.clone()));
        }
    }

    /// Carries a write out once per key.
    fn once(
        &mut self,
        node: &Node,
        headers: &HeaderMap,
        request: String,
        write: impl FnOnce(&mut Self) -> (StatusCode, String),
    ) -> Response {
        self.expire(node.mistake);
        let key = headers["idempotency-key"].to_str().unwrap().to_owned();
        if let Some((before, reply)) = self.keys.get(&key) {
            if *before != request {
                let problem = problem(422, "idempotency_key_reused");
                return reply_with(node, StatusCode::UNPROCESSABLE_ENTITY, self.index, &problem);
            }
            let mut response = answer(node, reply.clone());
            response.headers_mut().insert("idempotent-replayed", "true".parse().unwrap());
            return response;
        }
        self.index += 1;
        let (status, body) = write(self);
        let reply = Reply { status, index: self.index, body };
        if node.mistake != Mistake::ForgetsKeys {
            self.keys.insert(key, (request, reply.clone()));
        }
        self.remember(node.mistake);
        answer(node, reply)
    }

    fn sell(&mut self, node: &Node, wanted: &NewOrder) -> (StatusCode, String) {
        self.buys += 1;
        if let Err(refusal) = self.shortage(node.mistake, &wanted.lines) {
            return refusal;
        }
        let order = self.order(self.lines(&wanted.lines), wanted.reference.clone());
        let body = serde_json::to_string(&order).unwrap();
        if node.mistake == Mistake::LosesOrders && self.buys.is_multiple_of(50) {
            return (StatusCode::CREATED, body);
        }
        self.book(order);
        (StatusCode::CREATED, body)
    }

    /// The refusal, if there are fewer pieces than are wanted.
    fn shortage(
        &self,
        mistake: Mistake,
        wanted: &[NewOrderLine],
    ) -> Result<(), (StatusCode, String)> {
        let spare = i64::from(mistake == Mistake::Oversells);
        for (place, line) in wanted.iter().enumerate() {
            let there = self.counts.available(line.item);
            if there + spare < line.quantity as i64 {
                let refusal = Problem {
                    item: Some(line.item),
                    line: Some(place),
                    requested: Some(line.quantity),
                    available: Some(there.max(0) as u64),
                    ..problem(409, "out_of_stock")
                };
                return Err((StatusCode::CONFLICT, serde_json::to_string(&refusal).unwrap()));
            }
        }
        Ok(())
    }

    fn lines(&self, wanted: &[NewOrderLine]) -> Vec<OrderLine> {
        let lines = wanted.iter().map(|line| OrderLine {
            item: line.item,
            title: format!("Item {}", line.item),
            quantity: line.quantity,
            unit_price_cents: self.prices[&line.item],
        });
        lines.collect()
    }

    /// The next order.
    fn order(&self, lines: Vec<OrderLine>, reference: Option<String>) -> Order {
        Order {
            id: self.orders.len() as u64 + 1,
            total_cents: total_cents(&lines),
            lines,
            status: "placed".into(),
            customer: None,
            reference,
            placed_at: NOW.into(),
            index: self.index,
            reservation: None,
            cancelled_at: None,
            cancel_reason: None,
        }
    }

    /// Places an order.
    fn book(&mut self, order: Order) {
        for line in &order.lines {
            self.change(line.item, -(line.quantity as i64), "sold", Some(order.id));
        }
        self.orders.push(order);
    }
}

fn total_cents(lines: &[OrderLine]) -> u64 {
    lines.iter().map(|line| line.quantity * line.unit_price_cents).sum()
}

fn problem(status: u16, code: &str) -> Problem {
    Problem {
        kind: format!("about:blank#{code}"),
        title: code.into(),
        status,
        detail: code.into(),
        instance: None,
        code: code.into(),
        outcome: Some(WriteOutcome::NotApplied),
        retryable: false,
        item: None,
        line: None,
        requested: None,
        available: None,
        current_version: None,
        state: None,
        oldest_after: None,
        errors: Vec::new(),
    }
}

fn answer(node: &Node, reply: Reply) -> Response {
    let kind =
        if reply.status.is_success() { "application/json" } else { "application/problem+json" };
    let headers = [
        ("content-type", kind.to_owned()),
        ("pygmy-index", reply.index.to_string()),
        ("pygmy-node", node.name.clone()),
        ("pygmy-staleness-ms", "0".to_owned()),
        ("x-request-id", "r".to_owned()),
    ];
    (reply.status, headers, reply.body).into_response()
}

fn reply_with(
    node: &Node,
    status: StatusCode,
    index: u64,
    body: &impl serde::Serialize,
) -> Response {
    answer(node, Reply { status, index, body: serde_json::to_string(body).unwrap() })
}

async fn buy(State(node): State<Node>, headers: HeaderMap, body: String) -> Response {
    let wanted: NewOrder = serde_json::from_str(&body).unwrap();
    let mut inner = node.inner.lock().unwrap();
    if node.mistake == Mistake::AnswersWithoutOutcome {
        inner.buys += 1;
        if inner.buys.is_multiple_of(100) {
            let problem = Problem { outcome: None, ..problem(504, "timeout") };
            return reply_with(&node, StatusCode::GATEWAY_TIMEOUT, inner.index, &problem);
        }
    }
    inner.once(&node, &headers, body, |inner| inner.sell(&node, &wanted))
}

async fn put_item(
    State(node): State<Node>,
    Path(id): Path<u64>,
    headers: HeaderMap,
    Json(put): Json<PutItem>,
) -> Response {
    let mut inner = node.inner.lock().unwrap();
    inner.once(&node, &headers, format!("{put:?}"), |inner| {
        inner.prices.insert(id, put.price_cents);
        inner.change(id, put.stock.unwrap_or(0) as i64, "received", None);
        (StatusCode::CREATED, serde_json::to_string(&inner.current(id)).unwrap())
    })
}

async fn stock(
    State(node): State<Node>,
    Path(id): Path<u64>,
    headers: HeaderMap,
    Json(change): Json<ChangeStock>,
) -> Response {
    let delta = change.delta.unwrap();
    let mut inner = node.inner.lock().unwrap();
    inner.once(&node, &headers, format!("{id} {change:?}"), |inner| {
        if inner.counts.available(id) + delta < 0 {
            let refusal = serde_json::to_string(&problem(409, "out_of_stock")).unwrap();
            return (StatusCode::CONFLICT, refusal);
        }
        inner.change(id, delta, &change.reason, None);
        (StatusCode::OK, serde_json::to_string(&inner.current(id)).unwrap())
    })
}

async fn item(
    State(node): State<Node>,
    Path(id): Path<u64>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let mut inner = node.inner.lock().unwrap();
    inner.expire(node.mistake);
    inner.reads += 1;
    let linearizable = query.get("consistency").is_none_or(|level| level == "linearizable");
    let back = inner.past.len().checked_sub(50);
    if linearizable
        && inner.reads.is_multiple_of(20)
        && let Some((index, counts)) = back.map(|place| inner.past[place].clone())
        // Before that the item was not there yet: a store that is only stale would not have it.
        && counts.stock.contains_key(&id)
    {
        let item = inner.item(id, &counts);
        return reply_with(&node, StatusCode::OK, index, &item);
    }
    reply_with(&node, StatusCode::OK, inner.index, &inner.current(id))
}

async fn items(State(node): State<Node>) -> Response {
    let mut inner = node.inner.lock().unwrap();
    inner.expire(node.mistake);
    let items = inner.counts.stock.keys().map(|id| inner.current(*id)).collect();
    reply_with(&node, StatusCode::OK, inner.index, &ItemPage { items, next_cursor: None })
}

async fn order(State(node): State<Node>, Path(id): Path<u64>) -> Response {
    let inner = node.inner.lock().unwrap();
    match inner.orders.iter().find(|order| order.id == id) {
        Some(order) => reply_with(&node, StatusCode::OK, inner.index, order),
        None => {
            let problem = problem(404, "not_found");
            reply_with(&node, StatusCode::NOT_FOUND, inner.index, &problem)
        }
    }
}

async fn orders(
    State(node): State<Node>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let limit: usize = query["limit"].parse().unwrap();
    // With a character that a query must escape.
    let from = query.get("cursor").map_or(0, |cursor| cursor[2..].parse::<usize>().unwrap());
    let inner = node.inner.lock().unwrap();
    let orders: Vec<Order> = inner.orders.iter().skip(from).take(limit).cloned().collect();
    let until = from + orders.len();
    let next_cursor = (until < inner.orders.len()).then(|| format!("&={until}"));
    reply_with(&node, StatusCode::OK, inner.index, &OrderPage { orders, next_cursor })
}

async fn cluster(State(node): State<Node>) -> Response {
    let index = node.inner.lock().unwrap().index;
    let member = |id: usize| Member {
        name: format!("node{id}"),
        id: id as u64,
        roles: Vec::new(),
        kind: "voter".into(),
        api: String::new(),
        peer: String::new(),
        up: true,
        last_heard_ms: None,
        applied_index: Some(index),
        lag: None,
        version: None,
    };
    let cluster = Cluster {
        cluster_id: "fake".into(),
        leader: Some("node1".into()),
        term: 1,
        maintenance: false,
        members: (1..=NODES).map(member).collect(),
    };
    reply_with(&node, StatusCode::OK, index, &cluster)
}

async fn verify(State(node): State<Node>) -> Response {
    let index = node.inner.lock().unwrap().index;
    let verification = Verification {
        node: node.name.clone(),
        index,
        ok: true,
        state_hash: "0".into(),
        hash_ring: vec![HashAt { index: 1, hash: "1".into() }],
        checks: Vec::new(),
    };
    reply_with(&node, StatusCode::OK, index, &verification)
}

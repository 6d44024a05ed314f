//! A store in memory, and nodes that serve it and can be told to fail.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::header::HOST;
use http::{HeaderMap, Method, StatusCode};
use pygmy::api::{Change, ChangePage, Cluster, Member, Problem, WriteOutcome, header};
use pygmy::facade::{Facade, Settings};
use pygmy::http::app::App;
use pygmy::http::frames::{Frames, with_frames};
use pygmy::http::problem::{ApiError, Code};
use pygmy::http::serve::{Limits, serve};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Far longer than anything here takes: reaching it means that it never happens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// For the limits that a test is not about.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("it never came to this: {what}"));
}

/// What all nodes share: the truth.
#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) cluster_id: String,
    pub(crate) term: u64,
    pub(crate) leader: Option<String>,
    pub(crate) members: BTreeMap<String, Member>,
    pub(crate) index: u64,
    pub(crate) stock: BTreeMap<u64, u64>,
    /// What each key was answered with.
    pub(crate) keys: HashMap<String, (StatusCode, String, u64)>,
    pub(crate) sales: Vec<u64>,
    pub(crate) changes: Vec<Change>,
    /// Changes up to here are no longer kept.
    pub(crate) gone_up_to: u64,
    /// What requests with this method and path do, where it is not to sell.
    pub(crate) scripts: HashMap<(Method, String), Script>,
}

/// A reply that a test makes up. No change tells of it, so that only whoever passes it on can know.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
    /// Items whose stock is another afterwards.
    pub(crate) sets: Vec<(u64, u64)>,
}

/// How a node behaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Behaviour {
    /// Requests that begin with this path are taken, and their answer waits until this is lifted.
    pub(crate) hold: Option<&'static str>,
    /// Requests that begin with this path are done, and their answer waits until this is lifted.
    pub(crate) hold_answer: Option<&'static str>,
    /// Requests that begin with this path fail with this code.
    pub(crate) fail: Option<(&'static str, Code, Option<WriteOutcome>)>,
    /// How many of them do.
    pub(crate) fail_times: Option<usize>,
    /// Replies to requests that begin with this path break off in the middle.
    pub(crate) break_off: Option<&'static str>,
    /// This node applies nothing beyond this index.
    pub(crate) stuck_at: Option<u64>,
    pub(crate) not_ready: bool,
    /// This node is asked for the membership and does not answer.
    pub(crate) mute: bool,
}

/// A request as a node saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    /// Whether it came by frames: only HTTP/1.1 has to say which host is meant.
    pub(crate) fn by_frames(&self) -> bool {
        !self.headers.contains_key(HOST)
    }
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) behaviour: watch::Sender<Behaviour>,
    pub(crate) seen: Mutex<Vec<Seen>>,
    truth: watch::Sender<()>,
    shared: Arc<Mutex<Truth>>,
    serving: Mutex<Option<JoinHandle<()>>>,
    /// Whether it takes requests by frames, from its next start on.
    pub(crate) takes_frames: AtomicBool,
    frames: Mutex<Option<Frames>>,
}

pub(crate) struct Store {
    pub(crate) nodes: Vec<Arc<Node>>,
    shared: Arc<Mutex<Truth>>,
    changed: watch::Sender<()>,
}

impl Store {
    /// A cluster of members with these names and roles; the first leads.
    pub(crate) async fn start(members: &[(&str, &[&str])]) -> Self {
        let shared = Arc::new(Mutex::new(Truth {
            cluster_id: "mock".into(),
            term: 1,
            leader: members.first().map(|(name, _)| (*name).to_owned()),
            index: 10,
            stock: (1..=9).map(|item| (item, 100)).collect(),
            ..Truth::default()
        }));
        let changed = watch::Sender::new(());
        let mut nodes = Vec::new();
        for (n, (name, roles)) in members.iter().enumerate() {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let node = Arc::new(Node {
                name: (*name).to_owned(),
                address,
                behaviour: watch::Sender::new(Behaviour::default()),
                seen: Mutex::default(),
                truth: changed.clone(),
                shared: Arc::clone(&shared),
                serving: Mutex::default(),
                takes_frames: AtomicBool::new(true),
                frames: Mutex::default(),
            });
            node.serve(listener);
            let member = Member {
                name: (*name).to_owned(),
                id: n as u64 + 1,
                roles: roles.iter().map(|role| (*role).to_owned()).collect(),
                kind: "voter".into(),
                api: address.to_string(),
                peer: "127.0.0.1:1".into(),
                up: true,
                last_heard_ms: Some(1),
                applied_index: None,
                lag: None,
                version: None,
            };
            shared.lock().unwrap().members.insert((*name).to_owned(), member);
            nodes.push(node);
        }
        Self { nodes, shared, changed }
    }

    /// Three members that serve everything.
    pub(crate) async fn of_three() -> Self {
        let both: &[&str] = &["catalog", "order"];
        Self::start(&[("n1", both), ("n2", both), ("n3", both)]).await
    }

    pub(crate) fn truth(&self) -> MutexGuard<'_, Truth> {
        self.shared.lock().unwrap()
    }

    /// Says who leads from now on.
    pub(crate) fn elect(&self, leader: Option<usize>) {
        let mut truth = self.truth();
        truth.term += 1;
        truth.leader = leader.map(|n| self.nodes[n].name.clone());
    }

    /// A sale that does not come through the facade.
    pub(crate) fn sell_elsewhere(&self, item: u64) {
        self.truth().sell(item);
        self.changed.send_replace(());
    }

    /// A facade that knows the first member only, and has learned of the others.
    pub(crate) async fn facade(&self, change: impl FnOnce(&mut Settings)) -> Shop {
        let mut settings = settings(vec![self.nodes[0].address.to_string()]);
        change(&mut settings);
        let shop = Shop::start(settings);
        let names = self.truth().members.len();
        until("the facade knows all members", async || shop.flags().await.len() == names).await;
        shop
    }

    /// How many requests each node got whose target begins so.
    pub(crate) fn counts(&self, path: &str) -> Vec<usize> {
        self.nodes.iter().map(|node| node.seen_of(path).len()).collect()
    }
}

/// Settings with which nothing happens by the clock, unless a test says so.
pub(crate) fn settings(seeds: Vec<String>) -> Settings {
    Settings {
        seeds,
        deadline: LONG,
        attempt_timeout: LONG,
        read_attempt_timeout: LONG,
        session_wait: LONG,
        poll_interval: Duration::from_millis(20),
        probe_min: Duration::from_millis(10),
        probe_max: Duration::from_millis(50),
        cache_entries: 0,
        ..Settings::default()
    }
}

impl Truth {
    fn sell(&mut self, item: u64) -> Option<u64> {
        let stock = self.stock.get_mut(&item)?;
        *stock -= 1;
        let left = *stock;
        self.index += 1;
        self.sales.push(item);
        self.changes.push(Change {
            index: self.index,
            kind: "item".into(),
            id: item,
            what: "changed".into(),
        });
        Some(left)
    }
}

impl Node {
    fn serve(self: &Arc<Self>, listener: TcpListener) {
        let mut app = App::from(Router::new().fallback(handle).with_state(Arc::clone(self)));
        if self.takes_frames.load(Ordering::Relaxed) {
            let (with, frames) = with_frames(app);
            app = with;
            *self.frames.lock().unwrap() = Some(frames);
        }
        let serving = tokio::spawn(async move {
            let never = std::future::pending();
            serve(listener, app, Limits::default(), never, LONG).await.unwrap();
        });
        *self.serving.lock().unwrap() = Some(serving);
    }

    /// Cuts all connections and refuses new ones.
    pub(crate) async fn kill(&self) {
        let serving = self.serving.lock().unwrap().take().expect("it runs");
        serving.abort();
        let _ = serving.await;
        drop(self.frames.lock().unwrap().take());
    }

    /// Refuses new connections, and answers what has come by frames before it ends.
    pub(crate) async fn end(&self) {
        let serving = self.serving.lock().unwrap().take().expect("it runs");
        let frames = self.frames.lock().unwrap().take().expect("it takes frames");
        serving.abort();
        let _ = serving.await;
        frames.end(LONG).await;
    }

    /// Comes back under its address.
    pub(crate) async fn restart(self: &Arc<Self>) {
        let mut listener = None;
        until("the address is free", async || {
            listener = TcpListener::bind(self.address).await.ok();
            listener.is_some()
        })
        .await;
        self.serve(listener.unwrap());
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.behaviour.send_replace(behaviour);
    }

    pub(crate) fn seen_of(&self, path: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.target.starts_with(path)).cloned().collect()
    }

    fn truth(&self) -> MutexGuard<'_, Truth> {
        self.shared.lock().unwrap()
    }

    /// The index up to which this node has applied.
    fn index(&self) -> u64 {
        let stuck_at = self.behaviour.borrow().stuck_at.unwrap_or(u64::MAX);
        self.truth().index.min(stuck_at)
    }

    fn cluster(&self) -> Cluster {
        let truth = self.truth();
        Cluster {
            cluster_id: truth.cluster_id.clone(),
            leader: truth.leader.clone(),
            term: truth.term,
            maintenance: false,
            members: truth.members.values().cloned().collect(),
        }
    }

    /// Fails if this request is one of those that shall.
    fn planned_failure(&self, path: &str) -> Option<Response> {
        let mut failure = None;
        self.behaviour.send_if_modified(|behaviour| {
            if let Some((prefix, code, outcome)) = behaviour.fail
                && path.starts_with(prefix)
                && behaviour.fail_times != Some(0)
            {
                behaviour.fail_times = behaviour.fail_times.map(|times| times - 1);
                let error = ApiError::new(code, "as planned");
                failure = Some(match outcome {
                    Some(outcome) => error.outcome(outcome),
                    None => error,
                });
            }
            false
        });
        failure.map(IntoResponse::into_response)
    }

    fn write(&self, path: &str, seen: &Seen) -> Response {
        let mut truth = self.truth();
        if truth.leader.is_none() {
            return ApiError::new(Code::NoLeader, "none")
                .outcome(WriteOutcome::NotApplied)
                .into_response();
        }
        let key = seen.headers[header::IDEMPOTENCY_KEY].to_str().unwrap().to_owned();
        if let Some((status, body, index)) = truth.keys.get(&key).cloned() {
            return reply(&self.name, index, status, body);
        }
        let (item, status) = match path.strip_prefix("/buy/") {
            Some(item) => (item.trim_end_matches('/').parse().unwrap(), StatusCode::OK),
            None => {
                let order: pygmy::api::NewOrder = serde_json::from_slice(&seen.body).unwrap();
                (order.lines[0].item, StatusCode::CREATED)
            }
        };
        let (status, body) = match truth.sell(item) {
            Some(left) => {
                let body = serde_json::json!({ "Result": "1", "Stock": left.to_string(),
                    "lines": [{ "item": item }] });
                (status, body.to_string())
            }
            None => (StatusCode::NOT_FOUND, "{}".to_owned()),
        };
        let index = truth.index;
        truth.keys.insert(key, (status, body.clone(), index));
        drop(truth);
        self.truth.send_replace(());
        reply(&self.name, index, status, body)
    }

    fn scripted(&self, path: &str, seen: &Seen) -> Option<Response> {
        let mut truth = self.truth();
        let Script { status, body, sets } =
            truth.scripts.get(&(seen.method.clone(), path.to_owned()))?.clone();
        truth.index += 1;
        truth.stock.extend(sets);
        Some(reply(&self.name, truth.index, status, body))
    }

    fn read(&self, path: &str, seen: &Seen) -> Response {
        let text = |name: &str| seen.headers.get(name).map(|value| value.to_str().unwrap());
        let level = text(header::CONSISTENCY).unwrap_or("linearizable");
        let index = self.index();
        let min_index: u64 = text(header::MIN_INDEX).map_or(0, |text| text.parse().unwrap());
        if level == "session" && min_index > index {
            return ApiError::new(Code::TooStale, "behind").into_response();
        }
        if level == "linearizable" && self.truth().leader.is_none() {
            return ApiError::new(Code::NoLeader, "none").into_response();
        }
        let item: u64 = path.trim_matches('/').rsplit('/').next().unwrap().parse().unwrap_or(0);
        let stock = self.truth().stock.get(&item).copied();
        let body = serde_json::json!({ "item": item, "stock": stock, "level": level });
        reply(&self.name, index, StatusCode::OK, body.to_string())
    }

    async fn changes(&self, target: &str) -> Response {
        let uri: http::Uri = target.parse().unwrap();
        let value = |name: &str| {
            let pairs = uri.query().unwrap().split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|pair| pair.0 == name).map(|pair| pair.1.parse().unwrap()).next()
        };
        let after: u64 = value("after").unwrap();
        let mut changed = self.truth.subscribe();
        let page = || {
            let truth = self.truth();
            let stuck_at = self.behaviour.borrow().stuck_at.unwrap_or(u64::MAX);
            let changes: Vec<Change> = truth
                .changes
                .iter()
                .filter(|change| change.index > after && change.index <= stuck_at)
                .cloned()
                .collect();
            let next_after = truth.index.min(stuck_at).max(after);
            ChangePage { changes, next_after }
        };
        let held = Duration::from_millis(value("wait_ms").unwrap_or(0));
        let _ = tokio::time::timeout(held, async {
            while page().changes.is_empty() && after >= self.truth().gone_up_to {
                changed.changed().await.unwrap();
            }
        })
        .await;
        if after < self.truth().gone_up_to {
            let index = self.index();
            let mut gone = ApiError::new(Code::HistoryGone, "gone").into_response();
            gone.headers_mut().insert(header::INDEX, index.into());
            return gone;
        }
        let body = serde_json::to_string(&page()).unwrap();
        reply(&self.name, self.index(), StatusCode::OK, body)
    }
}

impl Node {
    /// A live feed, an event for each change.
    fn feed(self: &Arc<Self>, seen: &Seen) -> Response {
        let last_seen = seen.headers.get("last-event-id");
        let after = last_seen.map_or(0, |index| index.to_str().unwrap().parse().unwrap());
        if after < self.truth().gone_up_to {
            return ApiError::new(Code::HistoryGone, "gone").into_response();
        }
        let state = (Arc::clone(self), self.truth.subscribe(), after);
        let events = futures_util::stream::unfold(state, |(node, mut changed, after)| async move {
            loop {
                let next = node.truth().changes.iter().find(|change| change.index > after).cloned();
                if let Some(change) = next {
                    let data = serde_json::to_string(&[&change]).unwrap();
                    let event = format!("id: {}\ndata: {data}\n\n", change.index);
                    return Some((Ok::<_, std::io::Error>(event), (node, changed, change.index)));
                }
                changed.changed().await.unwrap();
            }
        });
        let mut response = reply(&self.name, after, StatusCode::OK, String::new());
        *response.body_mut() = Body::from_stream(events);
        response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
        response.headers_mut().remove("content-length");
        response
    }
}

async fn handle(State(node): State<Arc<Node>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().unwrap().as_str().to_owned();
    let path = parts.uri.path().to_owned();
    let mut behaviour = node.behaviour.subscribe();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let seen = Seen { method: parts.method, target, headers: parts.headers, body };
    let mute = behaviour.borrow().mute;
    match path.as_str() {
        "/v1/cluster" if mute => std::future::pending().await,
        "/v1/cluster" => {
            let body = serde_json::to_string(&node.cluster()).unwrap();
            return reply(&node.name, node.index(), StatusCode::OK, body);
        }
        "/readyz" => {
            let ready = !behaviour.borrow().not_ready && !mute;
            return match ready {
                true => StatusCode::OK.into_response(),
                false => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            };
        }
        "/v1/changes" if seen.headers.get("accept").is_some_and(|a| a == "text/event-stream") => {
            return node.feed(&seen);
        }
        "/v1/changes" => return node.changes(&seen.target).await,
        _ => {}
    }
    node.seen.lock().unwrap().push(seen.clone());
    let begins = |prefix: Option<&str>| prefix.is_some_and(|prefix| path.starts_with(prefix));
    if begins(behaviour.borrow().break_off) {
        let broken = futures_util::stream::iter([
            Ok(Bytes::from_static(b"{")),
            Err(std::io::Error::other("as planned")),
        ]);
        return Response::builder()
            .header("content-length", 100)
            .body(Body::from_stream(broken))
            .unwrap();
    }
    behaviour.wait_for(|behaviour| !begins(behaviour.hold)).await.unwrap();
    if let Some(failure) = node.planned_failure(&path) {
        return failure;
    }
    let response = match (&seen.method, path.as_str()) {
        (&Method::GET, path) if path.starts_with("/buy/") => node.write(path, &seen),
        (&Method::POST, "/v1/orders") => node.write(&path, &seen),
        (&Method::GET | &Method::HEAD, _) => {
            node.scripted(&path, &seen).unwrap_or_else(|| node.read(&path, &seen))
        }
        _ => node
            .scripted(&path, &seen)
            .unwrap_or_else(|| reply(&node.name, node.index(), StatusCode::OK, "{}".to_owned())),
    };
    behaviour.wait_for(|behaviour| !begins(behaviour.hold_answer)).await.unwrap();
    response
}

fn reply(node: &str, index: u64, status: StatusCode, body: String) -> Response {
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::NODE, node.parse().unwrap());
    headers.insert(header::INDEX, index.into());
    headers.insert("content-type", "application/json".parse().unwrap());
    response
}

/// A facade, and what a client does with it.
pub(crate) struct Shop {
    pub(crate) facade: Arc<Facade>,
    app: App,
}

/// A live feed as a client sees it.
pub(crate) struct Feed {
    chunks: BodyDataStream,
    text: String,
}

impl Feed {
    /// The index of the next event; none at the end.
    pub(crate) async fn next(&mut self) -> Option<u64> {
        while !self.text.contains("\n\n") {
            let chunk = tokio::time::timeout(PATIENCE, self.chunks.next()).await;
            let chunk = chunk.expect("something comes, or it ends")?;
            self.text += std::str::from_utf8(&chunk.unwrap()).unwrap();
        }
        let (event, rest) = self.text.split_once("\n\n").unwrap();
        let id = event.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().parse().unwrap();
        self.text = rest.to_owned();
        Some(id)
    }
}

/// A reply as a client sees it.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Shop {
    pub(crate) fn start(settings: Settings) -> Self {
        let facade = Facade::start(settings);
        Self { app: facade.app(), facade }
    }

    /// A live feed of changes, resumed after an index: who serves it, and what it says.
    pub(crate) async fn follow(&self, last_seen: u64) -> (String, Feed) {
        let request = Request::get("/v1/changes")
            .header("accept", "text/event-stream")
            .header("last-event-id", last_seen);
        let response = self.app.answer(request.body(Body::empty()).unwrap());
        let response = tokio::time::timeout(PATIENCE, response).await.expect("an answer");
        assert_eq!(response.status(), 200, "{response:?}");
        let node = response.headers()[header::NODE].to_str().unwrap().to_owned();
        (node, Feed { chunks: response.into_body().into_data_stream(), text: String::new() })
    }

    pub(crate) async fn send(&self, request: Request) -> Got {
        let response = self.app.answer(request);
        let answered = async {
            let (parts, body) = response.await.into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            Got { status: parts.status.as_u16(), headers: parts.headers, body }
        };
        tokio::time::timeout(PATIENCE, answered).await.expect("an answer")
    }

    pub(crate) async fn get(&self, target: &str) -> Got {
        self.send(Request::get(target).body(Body::empty()).unwrap()).await
    }

    /// The same, while the test goes on.
    pub(crate) fn spawn_get(&self, target: &'static str) -> JoinHandle<Got> {
        let shop = Self { facade: Arc::clone(&self.facade), app: self.app.clone() };
        tokio::spawn(async move { shop.get(target).await })
    }

    pub(crate) async fn order(&self, item: u64) -> Got {
        let body = serde_json::json!({ "lines": [{ "item": item, "quantity": 1 }] }).to_string();
        self.send(Request::post("/v1/orders").body(Body::from(body)).unwrap()).await
    }

    pub(crate) async fn flags(&self) -> BTreeMap<String, u8> {
        serde_json::from_slice(&self.get("/heartbeat/").await.body).unwrap()
    }
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn node(&self) -> &str {
        self.header(header::NODE).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn problem(&self) -> Problem {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        serde_json::from_slice(&self.body).unwrap()
    }
}

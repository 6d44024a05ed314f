//! A Pygmy store as a [`Target`]: through a facade, or straight to the nodes.
//!
//! On hyper's connection level, because the generator shares the machine with the store. Each client
//! has its own connections and drives them itself: no pool, no task of its own for a connection, and
//! nothing is sent twice behind anybody's back.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::mix::{Kind, Operation};
use super::prepare::STOCK;
use super::target::{Fault, Session, Target};
use crate::api;
use crate::client::{Client, ClientError, Failure};

/// How often the nodes are asked who leads.
const LEADER_POLL: Duration = Duration::from_secs(1);
/// The most of a reply that is kept; the rest is read and thrown away.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// A store.
#[derive(Debug)]
pub struct Store {
    members: Rc<Members>,
    timeout: Duration,
    /// Whether writes go to any node, as reads do.
    spread_writes: bool,
    /// Begins the idempotency keys of this run.
    run: u64,
    /// Sessions so far.
    sessions: Cell<u64>,
    /// Follows the leader.
    watch: RefCell<JoinSet<()>>,
}

/// Where to send.
#[derive(Debug)]
struct Members {
    names: Vec<String>,
    addresses: Vec<SocketAddr>,
    /// Which of them leads, where that is known and matters.
    leader: Cell<Option<usize>>,
}

impl Store {
    /// Everything through one address.
    pub async fn at(url: &str, timeout: Duration) -> Result<Self, ClientError> {
        let client = Client::new(url)?;
        // Whether anybody is there, and is a store.
        client.cluster().await?;
        let host = client.url().trim_start_matches("http://");
        let host = host.split('/').next().unwrap_or(host).to_owned();
        let with_port = if host.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok()) {
            host
        } else {
            format!("{host}:80")
        };
        Self::new(&[(String::new(), with_port)], None, timeout).await
    }

    /// Straight to the nodes that are up: writes to the leader, reads to all in turn, those of the first
    /// client to the leader. `url` is any of them, or a facade. Inside a `LocalSet`.
    ///
    /// Errors: as of [`Client::cluster`], and [`ClientError::Unavailable`] where no node is up.
    pub async fn direct(url: &str, timeout: Duration) -> Result<Self, ClientError> {
        let client = Client::new(url)?;
        let asked = Instant::now();
        let cluster = client.cluster().await?;
        let up = cluster.members.iter().filter(|member| member.up);
        let members: Vec<_> = up.map(|member| (member.name.clone(), member.api.clone())).collect();
        if members.is_empty() {
            return Err(ClientError::Unavailable {
                url: client.url().to_owned(),
                attempts: 1,
                waited_ms: asked.elapsed().as_millis(),
                last: Failure::Body(
                    "it has no member that is up yet; look at the nodes' logs, or wait for them \
                     with `pygmy wait`"
                        .to_owned(),
                ),
            });
        }
        let store = Self::new(&members, cluster.leader.as_deref(), timeout).await?;
        let members = Rc::clone(&store.members);
        store.watch.borrow_mut().spawn_local(follow_leader(members));
        Ok(store)
    }

    /// Sends writes to all nodes in turn too. All but the leader pass them on.
    #[must_use]
    pub fn spread_writes(mut self) -> Self {
        self.spread_writes = true;
        self
    }

    async fn new(
        members: &[(String, String)],
        leader: Option<&str>,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let (mut names, mut addresses) = (Vec::new(), Vec::new());
        for (name, address) in members {
            let refuse = |reason: String| ClientError::Address { url: address.clone(), reason };
            let found = tokio::net::lookup_host(address).await;
            let mut found = found.map_err(|error| refuse(error.to_string()))?;
            addresses.push(found.next().ok_or_else(|| refuse("has no address".into()))?);
            names.push(name.clone());
        }
        let leader = names.iter().position(|name| Some(name.as_str()) == leader);
        let members = Rc::new(Members { names, addresses, leader: Cell::new(leader) });
        Ok(Self::of(members, timeout))
    }

    /// An address at which any HTTP server is, to see what the generator itself can do.
    pub fn unchecked(address: SocketAddr, timeout: Duration) -> Self {
        let (names, leader) = (vec![String::new()], Cell::new(None));
        Self::of(Rc::new(Members { names, addresses: vec![address], leader }), timeout)
    }

    fn of(members: Rc<Members>, timeout: Duration) -> Self {
        let (run, sessions, watch) = (rand::random(), Cell::new(0), RefCell::default());
        Self { members, timeout, spread_writes: false, run, sessions, watch }
    }

    /// How many addresses it sends to.
    pub fn node_count(&self) -> usize {
        self.members.addresses.len()
    }
}

/// Asks one node after the other who leads.
async fn follow_leader(members: Rc<Members>) {
    let mut links: Vec<Link> = members.addresses.iter().map(|_| Link::default()).collect();
    let uri = Uri::from_static("/v1/cluster");
    for node in (0..members.addresses.len()).cycle() {
        tokio::time::sleep(LEADER_POLL).await;
        let request = request(Method::GET, uri.clone(), None, Bytes::new());
        let asked = links[node].exchange(members.addresses[node], request, true);
        let Ok(Ok(reply)) = tokio::time::timeout(LEADER_POLL, asked).await else { continue };
        let Ok(told) = serde_json::from_slice::<api::Cluster>(&reply.body) else { continue };
        if let Some(name) = told.leader {
            members.leader.set(members.names.iter().position(|known| *known == name));
        }
    }
}

impl Target for Store {
    type Session = StoreSession;

    fn session(&self, client: u32) -> StoreSession {
        self.sessions.set(self.sessions.get() + 1);
        StoreSession {
            members: Rc::clone(&self.members),
            links: self.members.addresses.iter().map(|_| Link::default()).collect(),
            timeout: self.timeout,
            spread_writes: self.spread_writes,
            run: self.run,
            session: self.sessions.get(),
            client,
            seen: 0,
            text: String::new(),
        }
    }
}

/// One client of a [`Store`].
#[derive(Debug)]
pub struct StoreSession {
    members: Rc<Members>,
    links: Vec<Link>,
    timeout: Duration,
    spread_writes: bool,
    run: u64,
    /// Its number among all of the run; with this its keys are nobody else's.
    session: u64,
    /// Chooses its node.
    client: u32,
    /// The newest log index that a reply has shown.
    seen: u64,
    /// What is being written; kept for its memory.
    text: String,
}

impl StoreSession {
    fn request(&mut self, operation: &Operation<'_>) -> Request<Full<Bytes>> {
        let item = operation.item();
        match operation.kind {
            Kind::Buy => {
                let key = self.key(operation.number, 0);
                let body = self.text(|text, _| write_order(text, item));
                request(Method::POST, Uri::from_static("/v1/orders"), Some(key), body)
            }
            Kind::Batch => {
                let body = self.text(|text, session| {
                    text.push_str("{\"atomic\":true,\"orders\":[");
                    for (place, item) in operation.items.iter().enumerate() {
                        text.push_str(if place == 0 { "" } else { "," });
                        write_order(text, *item);
                        // Inside the order's object.
                        text.pop();
                        text.push_str(",\"idempotency_key\":\"");
                        session.write_key(text, operation.number, place);
                        text.push_str("\"}");
                    }
                    text.push_str("]}");
                });
                request(Method::POST, Uri::from_static("/v1/orders/batch"), None, body)
            }
            Kind::Put => {
                let uri = self.uri(item, "");
                let cents = operation.number % 10_000;
                let body = self.text(|text, _| {
                    write(
                        text,
                        format_args!(
                            "{{\"title\":\"Benchmark item {item}\",\"topic\":\"Benchmark\",\
                         \"price_cents\":{cents},\"stock\":{STOCK}}}"
                        ),
                    );
                });
                request(Method::PUT, uri, None, body)
            }
            Kind::Get => request(Method::GET, self.uri(item, ""), None, Bytes::new()),
            Kind::GetStale => {
                request(Method::GET, self.uri(item, "?consistency=stale"), None, Bytes::new())
            }
            Kind::GetSession => {
                let query = format!("?consistency=session&min_index={}", self.seen);
                request(Method::GET, self.uri(item, &query), None, Bytes::new())
            }
        }
    }

    fn uri(&mut self, item: u64, query: &str) -> Uri {
        let text = self.text(|text, _| write(text, format_args!("/v1/items/{item}{query}")));
        Uri::from(PathAndQuery::from_maybe_shared(text).expect("a path made here is a path"))
    }

    fn key(&mut self, number: u64, place: usize) -> HeaderValue {
        let text = self.text(|text, session| session.write_key(text, number, place));
        HeaderValue::from_maybe_shared(text).expect("a key made here is visible ASCII")
    }

    fn write_key(&self, text: &mut String, number: u64, place: usize) {
        let Self { run, session, .. } = self;
        write(text, format_args!("bench-{run:016x}-{session}-{number}-{place}"));
    }

    /// What is written into a buffer that is used again.
    fn text(&mut self, fill: impl FnOnce(&mut String, &Self)) -> Bytes {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        fill(&mut text, self);
        let made = Bytes::copy_from_slice(text.as_bytes());
        self.text = text;
        made
    }
}

impl Session for StoreSession {
    async fn perform(&mut self, operation: &Operation<'_>) -> Result<(), Fault> {
        let request = self.request(operation);
        let leader = self.members.leader.get();
        let node = match leader {
            Some(leader) if operation.kind.is_write() && !self.spread_writes => leader,
            _ => (leader.unwrap_or(0) + self.client as usize) % self.links.len(),
        };
        let keep = operation.kind == Kind::Batch;
        let asked = self.links[node].exchange(self.members.addresses[node], request, keep);
        let Ok(reply) = tokio::time::timeout(self.timeout, asked).await else {
            // A reply that comes later must not be taken for the next one's.
            self.links[node].cut();
            let detail = format!("no reply within {} s", self.timeout.as_secs_f64());
            return Err(Fault::outage("timeout", detail));
        };
        let reply = reply?;
        self.seen = self.seen.max(reply.index);
        if reply.status.is_success() {
            if operation.kind == Kind::Batch {
                return reply.all_placed(operation.items.len());
            }
            return Ok(());
        }
        Err(reply.fault())
    }
}

fn write_order(text: &mut String, item: u64) {
    write(text, format_args!("{{\"lines\":[{{\"item\":{item},\"quantity\":1}}]}}"));
}

fn write(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("writing to a string cannot fail");
}

fn request(
    method: Method,
    uri: Uri,
    key: Option<HeaderValue>,
    body: Bytes,
) -> Request<Full<Bytes>> {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(header::HOST, HeaderValue::from_static("pygmy"));
    if !body.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Some(key) = key {
        headers.insert(HeaderName::from_static(api::header::IDEMPOTENCY_KEY), key);
    }
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    request
}

/// A reply, as far as somebody here looks at it.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    /// `Pygmy-Index`, or 0.
    index: u64,
    /// Of a failure, or where it was asked for.
    body: Vec<u8>,
}

/// What a reply to a batch tells of each order, as far as it is looked at.
#[derive(Deserialize)]
struct BatchReply {
    results: Vec<BatchResult>,
}

#[derive(Deserialize)]
struct BatchResult {
    status: String,
    #[serde(default)]
    problem: Option<api::Problem>,
}

impl Reply {
    fn fault(&self) -> Fault {
        let status = self.status.as_u16();
        let Ok(problem) = serde_json::from_slice::<api::Problem>(&self.body) else {
            let detail = format!("status {status} without a problem document");
            return Fault { code: status.to_string().into(), detail, is_outage: status >= 500 };
        };
        Fault {
            code: format!("{status} {}", problem.code).into(),
            detail: problem.detail,
            is_outage: status >= 500,
        }
    }

    /// Whether a batch was placed as a whole.
    fn all_placed(&self, orders: usize) -> Result<(), Fault> {
        let reply = serde_json::from_slice::<BatchReply>(&self.body).map_err(|error| {
            Fault::refusal("batch reply", format!("the reply to a batch cannot be read: {error}"))
        })?;
        if reply.results.len() != orders {
            let found = reply.results.len();
            let detail = format!("a batch of {orders} orders has {found} results");
            return Err(Fault::refusal("batch reply", detail));
        }
        // The one with a problem says why the others were not placed either.
        let mut failed = None;
        for BatchResult { status, problem } in reply.results {
            if status != "placed" && (failed.is_none() || problem.is_some()) {
                failed = Some(problem.map_or(status, |problem| problem.code));
            }
        }
        if let Some(code) = failed {
            let detail = format!("a batch was not placed as a whole: {code}");
            return Err(Fault::refusal(format!("batch {code}"), detail));
        }
        Ok(())
    }
}

type Sender = http1::SendRequest<Full<Bytes>>;
type Driver = Pin<Box<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>>;

/// A connection that is made when it is needed, and again when it was closed.
#[derive(Debug, Default)]
struct Link {
    open: Option<(Sender, Driver)>,
}

impl Link {
    fn cut(&mut self) {
        self.open = None;
    }

    /// Sends a request and reads its reply. Whoever drops this half-way must cut the link.
    async fn exchange(
        &mut self,
        address: SocketAddr,
        request: Request<Full<Bytes>>,
        keep: bool,
    ) -> Result<Reply, Fault> {
        if let Some((_, driver)) = &mut self.open {
            // Nobody has driven it since the last reply; the other side may have closed it.
            let ended = poll_fn(|context| Poll::Ready(driver.as_mut().poll(context).is_ready()));
            if ended.await {
                self.open = None;
            }
        }
        if self.open.is_none() {
            self.open = Some(connect(address).await?);
        }
        let Some((sender, driver)) = &mut self.open else {
            return Err(no_connection("it was closed at once"));
        };
        let mut ended = false;
        let reply = {
            let mut reply = pin!(converse(sender, request, keep));
            poll_fn(|context| {
                if let Poll::Ready(reply) = reply.as_mut().poll(context) {
                    return Poll::Ready(reply);
                }
                if !ended {
                    // Its error is the request's error too.
                    ended = driver.as_mut().poll(context).is_ready();
                }
                reply.as_mut().poll(context)
            })
            .await
        };
        if ended || reply.is_err() {
            self.open = None;
        }
        reply.map_err(|error| Fault::outage("connection lost", innermost(&error)))
    }
}

async fn connect(address: SocketAddr) -> Result<(Sender, Driver), Fault> {
    let stream =
        TcpStream::connect(address).await.map_err(|error| no_connection(error.to_string()))?;
    // Only a matter of speed: a socket that cannot be told is used as it is.
    let _ = stream.set_nodelay(true);
    let made = http1::handshake(TokioIo::new(stream)).await;
    let (sender, driver) = made.map_err(|error| no_connection(innermost(&error)))?;
    Ok((sender, Box::pin(driver)))
}

fn no_connection(why: impl Into<String>) -> Fault {
    Fault::outage("no connection", why)
}

/// The innermost error is the one that says something.
fn innermost(error: &hyper::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

async fn converse(
    sender: &mut Sender,
    request: Request<Full<Bytes>>,
    keep: bool,
) -> Result<Reply, hyper::Error> {
    sender.ready().await?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let index = head
        .headers
        .get(api::header::INDEX)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(0);
    let keep = keep || !head.status.is_success();
    Ok(Reply { status: head.status, index, body: read(body, keep).await? })
}

/// Reads a body to its end and keeps it if it is wanted.
async fn read(mut body: Incoming, keep: bool) -> Result<Vec<u8>, hyper::Error> {
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        if let (true, Some(data)) = (keep, frame.data_ref()) {
            let room = KEPT_BYTES_MAX - kept.len();
            kept.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(body: &str, orders: usize) -> Result<(), Fault> {
        let (status, index) = (StatusCode::OK, 0);
        Reply { status, index, body: body.into() }.all_placed(orders)
    }

    #[test]
    fn a_batch_counts_only_if_all_of_it_was_placed() {
        let placed = r#"{"status":"placed","replayed":false,"order":{"id":1}}"#;
        let skipped = r#"{"status":"not_applied","replayed":false}"#;
        let refused = r#"{"status":"refused","replayed":false,"problem":{"type":"t","title":"t",
            "status":409,"detail":"d","code":"out_of_stock","retryable":false}}"#;
        let of = |results: &[&str]| format!("{{\"results\":[{}]}}", results.join(","));
        assert_eq!(batch(&of(&[placed, placed]), 2), Ok(()));
        let fault = batch(&of(&[skipped, refused, skipped]), 3).expect_err("is not placed");
        assert_eq!((fault.code.as_ref(), fault.is_outage), ("batch out_of_stock", false));
        assert_eq!(batch(&of(&[placed]), 2).expect_err("is too short").code, "batch reply");
        assert_eq!(batch("{}", 2).expect_err("is no reply").code, "batch reply");
    }

    #[test]
    fn failures_are_told_apart_by_status_and_code() {
        let fault = |status, body: &str| {
            let status = StatusCode::from_u16(status).expect("a status");
            Reply { status, index: 0, body: body.into() }.fault()
        };
        let problem = r#"{"type":"t","title":"t","status":409,"detail":"none left",
            "code":"out_of_stock","retryable":false}"#;
        let refused = fault(409, problem);
        assert_eq!((refused.code.as_ref(), refused.is_outage), ("409 out_of_stock", false));
        assert_eq!(refused.detail, "none left");
        let broken = fault(502, "<html>");
        assert_eq!((broken.code.as_ref(), broken.is_outage), ("502", true));
    }

    /// What a request says on the wire is what the interface's own types read.
    #[tokio::test]
    async fn requests_are_what_the_interface_expects() {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let store = Store::unchecked(address, Duration::from_secs(1));
        let (mut one, mut other) = (store.session(0), store.session(0));
        let operation = |kind| Operation { kind, items: &[7, 8], number: 3 };
        let key = |request: &Request<Full<Bytes>>| {
            request.headers()[api::header::IDEMPOTENCY_KEY].to_str().expect("text").to_owned()
        };
        let bought = one.request(&operation(Kind::Buy));
        assert_eq!((bought.method(), bought.uri().path()), (&Method::POST, "/v1/orders"));
        assert!(crate::client::is_key(&key(&bought)));
        let again = other.request(&operation(Kind::Buy));
        assert_ne!(key(&bought), key(&again), "another session's keys are others");
        let body = body_of(bought).await;
        let order: api::NewOrder = serde_json::from_slice(&body).expect("an order");
        assert_eq!((order.lines[0].item, order.lines[0].quantity), (7, 1));

        let put = one.request(&operation(Kind::Put));
        assert_eq!((put.method(), put.uri().path()), (&Method::PUT, "/v1/items/7"));
        let item: api::PutItem = serde_json::from_slice(&body_of(put).await).expect("an item");
        assert_eq!(item.stock, Some(STOCK));

        let batch = body_of(one.request(&operation(Kind::Batch))).await;
        let batch: serde_json::Value = serde_json::from_slice(&batch).expect("a batch");
        assert_eq!(batch["orders"][1]["lines"][0]["item"], 8);
        assert_ne!(batch["orders"][0]["idempotency_key"], batch["orders"][1]["idempotency_key"]);

        one.seen = 42;
        let read = one.request(&operation(Kind::GetSession));
        assert_eq!(read.uri(), "/v1/items/7?consistency=session&min_index=42");
    }

    async fn body_of(request: Request<Full<Bytes>>) -> Bytes {
        request.into_body().collect().await.expect("a body in memory").to_bytes()
    }
}

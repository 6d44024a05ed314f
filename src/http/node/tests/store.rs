//! A node with its interface, and how the tests ask it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{body::Body, extract::ConnectInfo};
use http::{HeaderMap, Method, Request, StatusCode, header::CONTENT_TYPE};
use pygmy_raft::{
    network::http::HttpTransport,
    node::{Freshness, Settings as NodeSettings, Timing},
    state_machine::CheckpointPolicy,
    types::{Member, Role},
};
use pygmy_storage::{
    command::Policy,
    volume::{MemoryVolume, Volume},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::{Node, Settings, app};
use crate::{
    api::{Problem, WriteOutcome, header},
    http::{
        app::App,
        problem::{CONTENT_TYPE_PROBLEM, Code},
    },
};

/// Far longer than anything here takes: reaching it means that it never happens.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
const NAME: &str = "alone";

/// What the interface is told unless a test is about it.
pub(super) fn settings() -> Settings {
    Settings {
        request_timeout: PATIENCE,
        body_limit_bytes: 256 * 1024,
        max_in_flight: 64,
        max_batch_orders: 1000,
        legacy_get_buy: true,
        rate_limit: None,
        max_feeds: 8,
        feed_comment_interval: PATIENCE,
        import_limit_bytes: 1 << 20,
        max_imports: 2,
    }
}

/// A node and its interface.
pub(super) struct Store {
    pub(super) node: Arc<Node>,
    pub(super) app: App,
    pub(super) drain: watch::Sender<bool>,
}

impl Store {
    /// A node that serves, with the items of [`Store::fill`].
    pub(super) async fn start() -> Self {
        Self::with(settings()).await
    }

    pub(super) async fn with(settings: Settings) -> Self {
        let store = Self::on(Arc::new(MemoryVolume::new()), settings).await;
        store.fill().await;
        store
    }

    /// A node that serves, and has nothing.
    pub(super) async fn on(volume: Arc<dyn Volume>, settings: Settings) -> Self {
        let store = Self::unformed(volume, settings).await;
        store.node.establish().await.unwrap();
        store.node.read(Freshness::Linearizable, PATIENCE).await.unwrap();
        // Once the policy is seeded, the node writes nothing by itself any more.
        let seeded = async {
            while !store.node.view().state.policy_is_set() {
                let index = store.node.view().index();
                store.node.published().changes.beyond(index).await;
            }
        };
        tokio::time::timeout(PATIENCE, seeded).await.unwrap();
        store
    }

    /// A node that has no cluster yet.
    pub(super) async fn unformed(volume: Arc<dyn Volume>, settings: Settings) -> Self {
        let transport = HttpTransport::new().unwrap();
        let node = Node::start(volume, node_settings(), transport).await.unwrap();
        Self::serving(node, settings)
    }

    fn serving(node: Arc<Node>, settings: Settings) -> Self {
        let (drain, draining) = watch::channel(false);
        Self { app: app(node.clone(), settings, draining), node, drain }
    }

    /// The same node with other settings of its interface.
    pub(super) fn again(&self, settings: Settings) -> Self {
        Self::serving(self.node.clone(), settings)
    }

    /// Items 1 and 2 of topic `A` with 10 pieces and 1, and item 3 of topic `B` with none.
    pub(super) async fn fill(&self) {
        for (id, topic, stock) in [(1, "A", 10), (2, "A", 1), (3, "B", 0)] {
            let item = json!({
                "title": format!("Title {id}"), "topic": topic, "price_cents": 100 * id,
                "stock": stock,
            });
            let reply = self.send(put(&format!("/v1/items/{id}"), &item)).await;
            assert_eq!(reply.status, 201, "{reply:?}");
        }
    }

    pub(super) async fn send(&self, ask: Ask) -> Reply {
        let mut request = Request::builder().method(ask.method.clone()).uri(&ask.path);
        for (name, value) in &ask.headers {
            request = request.header(*name, value.as_bytes());
        }
        let mut request = request.body(ask.body).unwrap();
        if let Some(address) = ask.from {
            request.extensions_mut().insert(ConnectInfo(SocketAddr::new(address, 4711)));
        }
        let reply = self.app.answer(request);
        let reply = tokio::time::timeout(PATIENCE, reply).await.expect("it is answered");
        let (parts, body) = reply.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let reply = Reply { status: parts.status, headers: parts.headers, body: body.into() };
        // What every reply has, whatever it says.
        assert_eq!(reply.header(header::NODE), NAME, "{} {}: {reply:?}", ask.method, ask.path);
        assert!(!reply.header(header::REQUEST_ID).is_empty(), "{reply:?}");
        reply
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.send(get(path)).await
    }

    /// An item as the interface shows it.
    pub(super) async fn item(&self, id: u64) -> Value {
        let reply = self.get(&format!("/v1/items/{id}")).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }

    /// All that clients can see.
    pub(super) async fn contents(&self) -> (Value, Value) {
        (self.get("/v1/items").await.json(), self.get("/v1/orders").await.json())
    }

    /// Where the log is and what it has made: the same before and after means that nothing was
    /// written at all.
    pub(super) fn mark(&self) -> (u64, u128) {
        let view = self.node.view();
        (view.index(), view.state.state_hash())
    }
}

fn node_settings() -> NodeSettings {
    let member = Member {
        name: NAME.to_owned(),
        api: "127.0.0.1:1".to_owned(),
        peer: "127.0.0.1:2".to_owned(),
        roles: BTreeSet::from([Role::Catalog, Role::Order]),
    };
    NodeSettings {
        bootstrap: vec![(1, member.clone())],
        member,
        join: false,
        cluster_name: "test".to_owned(),
        secret: "0123456789abcdef".to_owned(),
        timing: Timing {
            heartbeat: Duration::from_millis(20),
            election_min: Duration::from_millis(60),
            election_max: Duration::from_millis(120),
        },
        checkpoint: CheckpointPolicy { entries: 1_000_000, interval: PATIENCE },
        snapshot_entries: 1_000_000,
        keep_log_entries: 1_000,
        log_cache_bytes: 1 << 20,
        policy: Policy::default(),
        failure_window: Duration::from_secs(1),
        waiting_max: 1024,
        version: "0.0.0-test".to_owned(),
    }
}

/// A request.
pub(super) struct Ask {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    from: Option<IpAddr>,
    body: Body,
}

pub(super) fn ask(method: &str, path: &str) -> Ask {
    Ask {
        method: method.parse().unwrap(),
        path: path.to_owned(),
        headers: Vec::new(),
        from: None,
        body: Body::empty(),
    }
}

pub(super) fn get(path: &str) -> Ask {
    ask("GET", path)
}

pub(super) fn put(path: &str, body: &Value) -> Ask {
    ask("PUT", path).json(&body.to_string())
}

pub(super) fn post(path: &str, body: &Value) -> Ask {
    ask("POST", path).json(&body.to_string())
}

/// An order of one line.
pub(super) fn buy(item: u64, quantity: u64) -> Ask {
    post("/v1/orders", &json!({ "lines": [{ "item": item, "quantity": quantity }] }))
}

impl Ask {
    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Whether it has a body that says what it is.
    pub(super) fn has_body(&self) -> bool {
        self.headers.iter().any(|(name, _)| *name == CONTENT_TYPE.as_str())
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(given, _)| *given != name);
        self
    }

    /// The address that it comes from.
    pub(super) fn from(mut self, address: IpAddr) -> Self {
        self.from = Some(address);
        self
    }

    pub(super) fn key(self, key: &str) -> Self {
        self.header(header::IDEMPOTENCY_KEY, key)
    }

    /// A body that says of itself that it is JSON.
    pub(super) fn json(self, body: &str) -> Self {
        self.header(CONTENT_TYPE.as_str(), "application/json").body(body.to_owned())
    }

    pub(super) fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }
}

/// A reply, whole.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Reply {
    /// A header's text; empty where it is not there.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn index(&self) -> u64 {
        self.header(header::INDEX).parse().unwrap_or_else(|_| panic!("no index: {self:?}"))
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub(super) fn replayed(&self) -> bool {
        self.header(header::IDEMPOTENT_REPLAYED) == "true"
    }

    /// The problem document that this is, which must be one of this kind and whole.
    pub(super) fn problem(&self, code: Code, outcome: Option<WriteOutcome>) -> Problem {
        assert_eq!(self.status, code.status(), "{self:?}");
        assert_eq!(self.header(CONTENT_TYPE.as_str()), CONTENT_TYPE_PROBLEM, "{self:?}");
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.code, code.as_str(), "{problem:?}");
        assert_eq!(problem.status, code.status().as_u16(), "{problem:?}");
        assert_eq!(problem.kind, format!("about:blank#{}", code.as_str()), "{problem:?}");
        assert_eq!((problem.title.as_str(), problem.retryable), (code.title(), code.retryable()));
        assert_eq!(problem.outcome, outcome, "{problem:?}");
        assert!(problem.detail.len() > 10, "it says what to do: {problem:?}");
        assert_eq!(problem.instance.as_deref(), Some(self.header(header::REQUEST_ID)));
        let retry_after = self.header("retry-after");
        let wanted = matches!(self.status.as_u16(), 429 | 503);
        assert_eq!(!retry_after.is_empty(), wanted, "{self:?}");
        problem
    }
}

//! A store that says what a test tells it to, on a port of its own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use serde_json::{Value, json};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// `GET /v1/items?limit=1`
    pub(crate) line: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
}

/// A reply to give.
#[derive(Debug, Clone)]
pub(crate) struct Say {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Say {
    pub(crate) fn json(status: u16, body: impl serde::Serialize) -> Self {
        Self { status, headers: Vec::new(), body: serde_json::to_vec(&body).expect("serializes") }
    }

    pub(crate) fn text(status: u16, body: &str) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn bytes(status: u16, body: Vec<u8>) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    /// A problem document with what every problem has.
    pub(crate) fn problem(status: u16, code: &str, outcome: Option<&str>, retryable: bool) -> Self {
        Self::problem_with(status, code, outcome, retryable, json!({}))
    }

    pub(crate) fn problem_with(
        status: u16,
        code: &str,
        outcome: Option<&str>,
        retryable: bool,
        more: Value,
    ) -> Self {
        let mut body = json!({
            "type": format!("about:blank#{code}"), "title": code, "status": status,
            "detail": format!("this is {code}"), "code": code, "retryable": retryable,
        });
        let fields = body.as_object_mut().expect("an object");
        fields.extend(outcome.map(|outcome| ("outcome".to_owned(), outcome.into())));
        fields.extend(more.as_object().expect("an object").clone());
        Self::json(status, body)
    }

    pub(crate) fn with(mut self, header: &'static str, value: impl ToString) -> Self {
        self.headers.push((header, value.to_string()));
        self
    }
}

/// A running mock; it ends with the test's runtime.
pub(crate) struct Mock {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Mock {
    /// Answers each request with what `answer` says.
    pub(crate) async fn start(answer: impl Fn(&Seen) -> Say + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let url = format!("http://{}", listener.local_addr().expect("has an address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let answer = Arc::new(answer);
        let router = Router::new().fallback(move |request: Request| {
            let (log, answer) = (log.clone(), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, 1 << 20).await.expect("a small body");
                let seen = Seen {
                    line: format!("{} {}", parts.method, parts.uri),
                    headers: parts
                        .headers
                        .iter()
                        .map(|(name, value)| {
                            (name.to_string(), value.to_str().expect("ASCII").to_owned())
                        })
                        .collect(),
                    body: serde_json::from_slice(&body).unwrap_or(Value::Null),
                };
                let say = answer(&seen);
                log.lock().expect("not poisoned").push(seen);
                let reply = say
                    .headers
                    .iter()
                    .fold(Response::builder().status(say.status), |reply, (name, value)| {
                        reply.header(*name, value)
                    });
                reply.body(Body::from(say.body)).expect("a response")
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, seen }
    }

    /// Answers with these in turn, the last one again and again.
    pub(crate) async fn script(replies: Vec<Say>) -> Self {
        let replies = Mutex::new(VecDeque::from(replies));
        Self::start(move |_| {
            let mut replies = replies.lock().expect("not poisoned");
            match replies.len() {
                1 => replies[0].clone(),
                _ => replies.pop_front().expect("a script is not empty"),
            }
        })
        .await
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("not poisoned").clone()
    }
}

/// An item as the store shows it.
pub(crate) fn item(id: u64, title: &str, stock: u64) -> Value {
    json!({
        "id": id, "title": title, "topic": "Misc", "price_cents": 1999, "stock": stock, "reserved": 0,
        "available": stock, "version": 40 + id,
        "created_at": "2025-01-02T03:04:05Z", "updated_at": "2025-01-02T03:04:05Z",
    })
}

/// An order of one line as the store shows it.
pub(crate) fn order(id: u64, item: u64) -> Value {
    json!({
        "id": id, "lines": [{"item": item, "title": "RPCs for \
        Dummies", "quantity": 1, "unit_price_cents": 1999}],
        "total_cents": 1999, "status": "placed", "placed_at": "2025-01-02T03:04:05Z", "index": 77,
    })
}

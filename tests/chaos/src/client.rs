//! Keep-alive HTTP/1.1 connections to the nodes, one per node and client, on hyper's connection level.
//!
//! What a pool hides is exactly what matters here: whether a request can have reached the node. So a
//! failure says whether the request was [`Failure::NotSent`] or is [`Failure::Unknown`], nothing is ever
//! sent twice behind the caller's back, and a connection on which anything went wrong is thrown away.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pygmy::api::header as names;
use serde::de::DeserializeOwned;
use tokio::{net::TcpStream, task::AbortHandle};

use crate::history::LogIndex;

/// No reply is longer: the longest is a page of 1,000 orders.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Why there is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be made: the node has not seen the request.
    NotSent,
    /// Anything else: the node may or may not have seen it.
    Unknown,
}

/// A reply, with the headers that somebody here looks at.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// `Pygmy-Index`.
    pub index: Option<LogIndex>,
    /// Whether there was a `Pygmy-Node`.
    pub names_node: bool,
    /// Whether there was an `X-Request-Id`.
    pub names_request: bool,
    /// Whether `Idempotent-Replayed` is `true`.
    pub replayed: bool,
    /// `Pygmy-Staleness-Ms`.
    pub staleness_ms: Option<u64>,
    /// Whether there was a `Retry-After`.
    pub retry_after: bool,
    /// Whether the content type is `application/problem+json`.
    pub is_problem: bool,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }

    fn new(status: u16, headers: &HeaderMap, body: Bytes) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            status,
            index: text(names::INDEX).and_then(|value| value.parse().ok()),
            names_node: headers.contains_key(names::NODE),
            names_request: headers.contains_key(names::REQUEST_ID),
            replayed: text(names::IDEMPOTENT_REPLAYED) == Some("true"),
            staleness_ms: text(names::STALENESS_MS).and_then(|value| value.parse().ok()),
            retry_after: headers.contains_key(header::RETRY_AFTER),
            is_problem: text("content-type")
                .is_some_and(|value| value.starts_with("application/problem+json")),
            body,
        }
    }
}

/// One client's connections, at most one to each node. One request runs at a time.
#[derive(Debug)]
pub struct Client {
    nodes: Arc<[SocketAddr]>,
    connections: Vec<Option<Connection>>,
    /// For a whole request, from the connect to the last byte.
    timeout: Duration,
}

#[derive(Debug)]
struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Closes the socket at once, also when the peer is stopped and will never answer.
        self.driver.abort();
    }
}

impl Client {
    /// A client of these nodes, not yet connected to any.
    pub fn new(nodes: Arc<[SocketAddr]>, timeout: Duration) -> Self {
        let connections = nodes.iter().map(|_| None).collect();
        Self { nodes, connections, timeout }
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Sets the bound on a whole request.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// `GET` of a path, from one node.
    pub async fn get(&mut self, node: usize, path: &str) -> Result<Reply, Failure> {
        self.send(node, Method::GET, path, None, Bytes::new()).await
    }

    /// `POST` of a JSON body, to one node.
    pub async fn post(
        &mut self,
        node: usize,
        path: &str,
        key: &str,
        body: impl Into<Bytes>,
    ) -> Result<Reply, Failure> {
        self.send(node, Method::POST, path, Some(key), body.into()).await
    }

    /// `PUT` of a JSON body, to one node.
    pub async fn put(
        &mut self,
        node: usize,
        path: &str,
        key: &str,
        body: impl Into<Bytes>,
    ) -> Result<Reply, Failure> {
        self.send(node, Method::PUT, path, Some(key), body.into()).await
    }

    /// `DELETE` of a path, from one node.
    pub async fn delete(&mut self, node: usize, path: &str, key: &str) -> Result<Reply, Failure> {
        self.send(node, Method::DELETE, path, Some(key), Bytes::new()).await
    }

    async fn send(
        &mut self,
        node: usize,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Bytes,
    ) -> Result<Reply, Failure> {
        let address = self.nodes[node];
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .body(Full::new(body))
            .expect("a path made here is a valid target");
        let headers = request.headers_mut();
        headers.insert(header::HOST, HeaderValue::from_static("pygmy"));
        if let Some(key) = key {
            let key = HeaderValue::from_str(key).expect("a key made here is visible ASCII");
            headers.insert(HeaderName::from_static(names::IDEMPOTENCY_KEY), key);
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }

        let slot = &mut self.connections[node];
        // Taken out, so that whatever ends this request early also ends the connection.
        let held = slot.take();
        let mut sent = false;
        let exchange = async {
            let mut connection = match held {
                Some(connection) if !connection.sender.is_closed() => connection,
                _ => connect(address).await?,
            };
            connection.sender.ready().await.map_err(|_| Failure::NotSent)?;
            sent = true;
            let reply = connection.sender.send_request(request).await;
            let (head, body) = reply.map_err(|_| Failure::Unknown)?.into_parts();
            let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
            let body = body.map_err(|_| Failure::Unknown)?.to_bytes();
            Ok((connection, Reply::new(head.status.as_u16(), &head.headers, body)))
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(Ok((connection, reply))) => {
                *slot = Some(connection);
                Ok(reply)
            }
            Ok(Err(failure)) => Err(failure),
            Err(_) if sent => Err(Failure::Unknown),
            Err(_) => Err(Failure::NotSent),
        }
    }
}

async fn connect(address: SocketAddr) -> Result<Connection, Failure> {
    let stream = TcpStream::connect(address).await.map_err(|_| Failure::NotSent)?;
    // Only a matter of speed: a socket that cannot be told is used as it is.
    let _ = stream.set_nodelay(true);
    let (sender, driver) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|_| Failure::NotSent)?;
    let driver = tokio::spawn(async move {
        // Its error is the request's error, which the sender reports.
        let _ = driver.await;
    });
    Ok(Connection { sender, driver: driver.abort_handle() })
}

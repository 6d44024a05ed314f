//! Requests and replies as frames: how a facade passes on what is small, which is nearly everything.
//!
//! A request of HTTP for each of them costs both sides several calls of the system, and headers to write
//! and to parse again; frames of many clients share those. The connection begins as an upgrade of HTTP
//! (RFC 9110, section 7.8) at [`PATH`]; a request then takes the same way through the same app as any other. What is long, or of unknown length, goes by HTTP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{CONNECTION, HeaderName, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use pygmy_raft::network::link::{self, Limits, Writes};
use pygmy_storage::codec;
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::app::{Answer, App};
use super::is_write;
use super::problem::{ApiError, Code};

/// Where a connection for frames begins.
pub const PATH: &str = "/frames";

/// What the connection becomes.
pub const PROTOCOL: &str = "pygmy-frames/1";

/// Requests with a longer body go by HTTP: others would wait behind it.
pub const REQUEST_BODY_MAX: usize = 256 << 10;

/// So do reads with a longer reply.
pub const REPLY_BODY_MAX: u64 = 1 << 20;

/// The longest frame of a request: its body, its headers, its target.
const REQUEST_BYTES_MAX: usize = 2 * REQUEST_BODY_MAX;

/// The longest frame of a reply. Replies to writes are far shorter, whatever was written.
pub const REPLY_BYTES_MAX: usize = 8 << 20;

/// Headers of a request or reply, and their bytes: more than a listener lets in, and a facade adds a few.
const HEADERS_MAX: usize = 128;
const HEADER_BYTES_MAX: usize = 32 << 10;

/// Requests of one connection in work at once. A node takes on fewer and refuses more, which is better
/// than to let them wait.
const REQUESTS_MAX: usize = 1 << 16;

/// Connections for frames at once; a facade has one to each node, and speaks HTTP where it gets none.
const CONNECTIONS_MAX: usize = 256;

/// The connections for frames of one listener. They are cut when this and the app are gone.
pub struct Frames(Arc<Shared>);

struct Shared {
    app: App,
    ending: watch::Sender<bool>,
    connections: Mutex<JoinSet<()>>,
}

/// Takes requests by frames, too.
pub fn with_frames(app: App) -> (App, Frames) {
    let connections = Mutex::default();
    let ending = watch::Sender::new(false);
    let shared = Arc::new(Shared { app, ending, connections });
    (App::new(Entrance(Arc::clone(&shared))), Frames(shared))
}

/// Where connections for frames begin, and everything else goes on.
struct Entrance(Arc<Shared>);

impl Answer for Entrance {
    fn answer(&self, request: Request) -> BoxFuture<'static, Response> {
        match request.uri().path() == PATH {
            true => open(Arc::clone(&self.0), request).boxed(),
            false => self.0.app.answer(request),
        }
    }
}

impl Frames {
    /// Tells those who send requests to go elsewhere, and waits until what they sent is answered; cuts
    /// what is left after this time. To be called when nothing new can connect.
    pub async fn end(self, within: Duration) {
        self.0.ending.send_replace(true);
        let mut connections = std::mem::take(&mut *self.0.connections());
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(within, ended).await.is_err() {
            tracing::warn!(left = connections.len(), "cutting facades that did not finish in time");
        }
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, JoinSet<()>> {
        // No code panics while it holds the lock.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn open(frames: Arc<Shared>, mut request: Request) -> Response {
    let asked = request.headers().get(UPGRADE).is_some_and(|protocol| protocol == PROTOCOL);
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let Some(upgrade) = upgrade.filter(|_| asked) else {
        return frames.app.answer(request).await;
    };
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().copied();
    let mut connections = frames.connections();
    while connections.try_join_next().is_some() {}
    if connections.len() >= CONNECTIONS_MAX {
        let detail = "This node has as many connections for frames as it takes on: use HTTP.";
        return ApiError::new(Code::Overloaded, detail).into_response();
    }
    let (app, mut ending) = (frames.app.clone(), frames.ending.subscribe());
    connections.spawn(async move {
        let stream = match upgrade.await {
            Ok(stream) => TokioIo::new(stream),
            Err(error) => return tracing::debug!(%error, "a connection could not be taken over"),
        };
        let answer = |frame: Bytes| Some(answer(app.clone(), frame, peer).boxed());
        let limits = Limits {
            calls_max: REQUESTS_MAX,
            call_bytes_max: REQUEST_BYTES_MAX,
            answer_bytes_max: REPLY_BYTES_MAX,
            writes: Writes::Gathered,
        };
        // A sender that is gone means that the node is.
        let ended = async { drop(ending.wait_for(|ending| *ending).await) };
        link::serve(stream, limits, ended, answer).await;
    });
    drop(connections);
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    response
}

/// Errors: why this is not for frames. A read can be sent again, by HTTP.
async fn answer(
    app: App,
    frame: Bytes,
    peer: Option<ConnectInfo<SocketAddr>>,
) -> Result<Vec<u8>, Vec<u8>> {
    let mut request = decode_request(&frame).ok_or_else(|| b"this is no request".to_vec())?;
    let is_read = !is_write(request.method(), request.uri().path());
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    let (head, body) = app.answer(request).await.into_parts();
    if is_read && body.size_hint().exact().is_none_or(|length| length > REPLY_BODY_MAX) {
        return Err(b"the reply is too long".to_vec());
    }
    let body = Limited::new(body, REPLY_BYTES_MAX / 2).collect().await;
    let body = body.map_err(|error| error.to_string().into_bytes())?.to_bytes();
    let headers = Lines { headers: &head.headers, last: None };
    Ok(codec::encode(&ReplyOut { status: head.status.as_u16(), headers, body: Octets(&body) }))
}

#[derive(Serialize)]
struct RequestOut<'a> {
    method: &'a str,
    target: &'a str,
    headers: Lines<'a>,
    body: Octets<'a>,
}

#[derive(Deserialize)]
struct RequestIn<'a> {
    method: &'a str,
    target: &'a str,
    #[serde(borrow)]
    headers: Vec<(&'a str, Octets<'a>)>,
    #[serde(borrow)]
    body: Octets<'a>,
}

#[derive(Serialize)]
struct ReplyOut<'a> {
    status: u16,
    headers: Lines<'a>,
    body: Octets<'a>,
}

#[derive(Deserialize)]
struct ReplyIn<'a> {
    status: u16,
    #[serde(borrow)]
    headers: Vec<(&'a str, Octets<'a>)>,
    #[serde(borrow)]
    body: Octets<'a>,
}

/// Bytes that are not written one by one.
struct Octets<'a>(&'a [u8]);

impl Serialize for Octets<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'a, 'de: 'a> Deserialize<'de> for Octets<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Self)
    }
}

/// Headers, and one that takes the place of all of its name.
struct Lines<'a> {
    headers: &'a HeaderMap,
    last: Option<(&'a HeaderName, &'a HeaderValue)>,
}

impl Serialize for Lines<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let replaced = self.last.map(|(name, _)| name);
        let kept = || self.headers.iter().filter(|(name, _)| Some(*name) != replaced);
        let mut lines = serializer.serialize_seq(Some(kept().count() + self.last.iter().len()))?;
        for (name, value) in kept().chain(self.last) {
            lines.serialize_element(&(name.as_str(), Octets(value.as_bytes())))?;
        }
        lines.end()
    }
}

/// The frame of a request, with a header in the place of all of its name.
pub fn encode_request(
    method: &http::Method,
    target: &str,
    headers: &HeaderMap,
    last: (&HeaderName, &HeaderValue),
    body: &[u8],
) -> Vec<u8> {
    let headers = Lines { headers, last: Some(last) };
    codec::encode(&RequestOut { method: method.as_str(), target, headers, body: Octets(body) })
}

fn decode_request(frame: &Bytes) -> Option<Request> {
    let request: RequestIn<'_> = codec::decode(frame, "a request").ok()?;
    let body = frame.slice_ref(request.body.0);
    let mut decoded = Request::new(match body.is_empty() {
        true => Body::empty(),
        false => Body::from(body),
    });
    *decoded.method_mut() = request.method.parse().ok()?;
    *decoded.uri_mut() = request.target.parse().ok()?;
    *decoded.headers_mut() = decode_headers(&request.headers)?;
    Some(decoded)
}

/// A reply of a frame; `None` if it is none.
pub fn decode_reply(frame: &Bytes) -> Option<(StatusCode, HeaderMap, Bytes)> {
    let reply: ReplyIn<'_> = codec::decode(frame, "a reply").ok()?;
    let status = StatusCode::from_u16(reply.status).ok()?;
    Some((status, decode_headers(&reply.headers)?, frame.slice_ref(reply.body.0)))
}

fn decode_headers(lines: &[(&str, Octets<'_>)]) -> Option<HeaderMap> {
    let bytes: usize = lines.iter().map(|(name, value)| name.len() + value.0.len()).sum();
    if lines.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
        return None;
    }
    let mut headers = HeaderMap::with_capacity(lines.len());
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(value.0).ok()?);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_comes_out_as_it_went_in_but_for_the_header_that_is_replaced() {
        let mut headers = HeaderMap::new();
        headers.append("x-many", HeaderValue::from_static("one"));
        headers.append("x-many", HeaderValue::from_bytes(b"tw\xff").unwrap());
        headers.append("x-replaced", HeaderValue::from_static("old"));
        headers.append("x-replaced", HeaderValue::from_static("older"));
        let last = (HeaderName::from_static("x-replaced"), HeaderValue::from_static("new"));
        let target = "/v1/orders?pretty";
        let method = http::Method::POST;
        let frame = encode_request(&method, target, &headers, (&last.0, &last.1), b"{}");
        let request = decode_request(&frame.into()).unwrap();
        assert_eq!((request.method(), request.uri().to_string()), (&method, target.to_owned()));
        headers.insert(last.0, last.1);
        assert_eq!(request.headers(), &headers);
        assert_eq!(request.into_body().size_hint().exact(), Some(2));
    }

    #[test]
    fn what_is_no_frame_of_ours_is_refused() {
        let last = (HeaderName::from_static("x"), HeaderValue::from_static("y"));
        let whole = encode_request(
            &http::Method::GET,
            "/v1/items/5",
            &HeaderMap::new(),
            (&last.0, &last.1),
            b"",
        );
        for cut in 0..whole.len() {
            assert!(decode_request(&Bytes::copy_from_slice(&whole[..cut])).is_none(), "{cut}");
        }
        assert!(decode_reply(&Bytes::from_static(b"\xff\xff\xff")).is_none());
    }

    #[test]
    fn headers_are_bounded_in_number_and_bytes() {
        let decoded = |count: usize, bytes: usize| {
            let value = HeaderValue::from_str(&"v".repeat(bytes)).unwrap();
            let name = HeaderName::from_static("x");
            let headers = (1..count).map(|_| (name.clone(), value.clone())).collect();
            let last = (HeaderName::from_static("y"), HeaderValue::from_static(""));
            let method = http::Method::GET;
            let frame = encode_request(&method, "/", &headers, (&last.0, &last.1), b"");
            decode_request(&frame.into()).map(|request| request.headers().len())
        };
        assert_eq!(decoded(HEADERS_MAX, 0), Some(HEADERS_MAX));
        assert_eq!(decoded(HEADERS_MAX + 1, 0), None);
        // Far beyond what a map of headers can hold.
        assert_eq!(decoded(30_000, 0), None);
        // Both names have one byte.
        assert_eq!(decoded(2, HEADER_BYTES_MAX - 2), Some(2));
        assert_eq!(decoded(2, HEADER_BYTES_MAX - 1), None);
    }
}
